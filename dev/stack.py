"""How Airflow and the stand-in are set up on this machine, for the demo, `make up` and the system tests."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

from dev.processes import Processes
from vod.cloud.client import VodClient
from vod.cloud.settings import ServiceSettings
from vod.cloud.signing import Credentials
from vod.errors import InvalidInputError
from vod.standin import StandinSettings

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "samples"
CONNECTION = "vod_default"


def sample_videos() -> list[Path]:
    """The videos of the samples folder."""
    return [SAMPLES / sample["file"] for sample in json.loads((SAMPLES / "samples.json").read_text())]


def python(*arguments: str) -> list[str]:
    """A command of the interpreter that runs this."""
    return [sys.executable, *arguments]


def connection(endpoint: str, destination: Path | str, **extra: object) -> str:
    """The Airflow connection to the stand-in, as the JSON of an environment variable.

    :param extra: Further fields of its extra.
    """
    standin = StandinSettings(data=Path())
    return json.dumps(
        {
            "conn_type": "vod",
            "host": endpoint,
            "login": standin.access_key,
            "password": standin.secret_key,
            "extra": {
                "region": standin.region,
                "project_id": standin.project_id,
                "destination": str(destination),
                **extra,
            },
        }
    )


def airflow_environment(
    home: Path, *, endpoint: str, destination: Path | str, allowed: Iterable[Path] = ()
) -> dict[str, str]:
    """The environment of every Airflow process: this project's DAGs, nobody else's configuration.

    :param allowed: Folders that may be read and written besides the samples and the destination.
    """
    mine = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # The package is installed; a plugins folder besides would register it twice.
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        f"AIRFLOW_CONN_{CONNECTION.upper()}": connection(endpoint, destination),
        "AIRFLOW__VOD__ALLOWED_LOCATIONS": "\n".join(map(str, (SAMPLES, destination, *allowed))),
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return {**others, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **mine}


def start_standin(processes: Processes, data: Path, log: Path, port: int = 0, *options: str) -> str:
    """Start the stand-in on the loopback, by default on a free port.

    :param options: More of its options, for example ``--virtual``.
    :returns: its URL, once it answers.
    """
    ready = threading.Event()
    url = ""

    def on_line(line: str) -> None:
        nonlocal url
        if line.startswith("VOD stand-in ready: "):
            url = line.split(": ", 1)[1]
            ready.set()

    process = processes.start(
        "stand-in",
        python("-m", "vod", "standin", "--port", str(port), "--data", str(data), *options),
        environment=os.environ,
        log=log,
        on_line=on_line,
    )
    while not ready.wait(0.1):
        if process.poll() is not None:
            raise SystemExit(f"The stand-in did not start; see {log}.")
    return url


def client(endpoint: str) -> VodClient:
    """A client with the stand-in's demo keys."""
    standin = StandinSettings(data=Path())
    keys = Credentials(ak=standin.access_key, sk=standin.secret_key)
    return VodClient(ServiceSettings(endpoint=endpoint, project_id=standin.project_id, credentials=keys))


def upload(
    endpoint: str, videos: list[Path], tell: Callable[[str], None]
) -> dict[Path, str | InvalidInputError]:
    """Upload videos to the stand-in through its own API.

    :returns: for each video its asset id, or why VOD takes no such file.
    """
    vod = client(endpoint)
    assets: dict[Path, str | InvalidInputError] = {}
    for number, video in enumerate(videos, 1):
        try:
            assets[video] = vod.upload(video)
        except InvalidInputError as error:
            assets[video] = error
        tell(f"uploaded {number}/{len(videos)}: {video.name}")
    vod.close()
    return assets


def migrate(environment: dict[str, str], log: Path) -> None:
    """Bring the metadata database to the version of this Airflow, once for each home and version."""
    done = Path(environment["AIRFLOW_HOME"], "migrated")
    wanted = (
        f"{version('apache-airflow-core')} {environment.get('AIRFLOW__DATABASE__SQL_ALCHEMY_CONN', 'sqlite')}"
    )
    if done.exists() and done.read_text() == wanted:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        subprocess.run(
            python("-m", "airflow", "db", "migrate"),
            env=environment,
            stdout=output,
            stderr=output,
            check=True,
        )
    done.write_text(wanted)


def loopback() -> str:
    """Airflow's ``hostname_callable``: other processes of this machine find the logs there."""
    return "127.0.0.1"


def fernet_key(path: Path) -> str:
    """The key that encrypts connections in the database; the same from one start to the next."""
    return base64.urlsafe_b64encode(hashlib.sha256(secret(path).encode()).digest()).decode()


def secret(path: Path) -> str:
    """A random secret that stays the same from one start to the next, in a file that only its owner reads."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, secrets.token_urlsafe(32))
    return path.read_text()


def password(path: Path) -> str:
    """As :func:`secret`, in syllables that a person can type: 50 bits, for a login on the loopback."""
    if not path.exists():
        syllables = [secrets.choice("bdfghjklmnprstvz") + secrets.choice("aeiou") for _ in range(8)]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, "-".join("".join(syllables[at : at + 2]) for at in range(0, 8, 2)))
    return path.read_text()


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner reads. One that is there, maybe open to all, is replaced."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
