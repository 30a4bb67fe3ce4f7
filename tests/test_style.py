"""What is promised of the whole tree: errors drawn, names documented, tests introduced, docs readable."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vod
from vod import errors
from vod.errors import VodError

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "plugins" / "vod"
MARKDOWN = [path for folder in (ROOT, ROOT / "docs", ROOT / "samples") for path in folder.glob("*.md")]


def drawn() -> list[tuple[int, str]]:
    """Depth and name of each class of the tree in the docstring of :mod:`vod.errors`."""
    lines = re.findall(r"^    ((?:  )*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    return [(len(indent) // 2, name) for indent, name in lines]


def test_the_drawn_errors_are_all_there_are() -> None:
    for module in pkgutil.walk_packages(vod.__path__, "vod."):
        if not module.name.startswith(("vod.__main__", "vod.ui")):
            importlib.import_module(module.name)

    def walk(kind: type[VodError], depth: int = 0) -> Iterator[tuple[str, str]]:
        for below in kind.__subclasses__():
            if below.__module__.startswith("vod."):
                yield kind.__name__, below.__name__
                yield from walk(below)

    parents: list[str] = []
    edges = []
    for depth, name in drawn():
        parents[depth:] = [name]
        if depth:
            edges.append((parents[depth - 1], name))
    assert sorted(edges) == sorted(set(walk(VodError)))


def public_names(path: Path) -> Iterator[tuple[str, bool]]:
    """The module, its public classes and functions, their public methods; and whether each is documented."""
    tree = ast.parse(path.read_text())
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    yield name, ast.get_docstring(tree) is not None

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if child.name.startswith("_"):
                    continue
                yield f"{prefix}.{child.name}", ast.get_docstring(child) is not None
                if isinstance(child, ast.ClassDef):
                    yield from walk(child, f"{prefix}.{child.name}")

    yield from walk(tree, name)


def test_most_public_names_are_documented() -> None:
    names = [entry for path in sorted(PACKAGE.rglob("*.py")) for entry in public_names(path)]
    missing = [name for name, documented in names if not documented]
    assert len(missing) <= 0.15 * len(names), missing


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_a_test_module_says_in_its_first_line_what_it_proves(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_are_wrapped_at_110_columns(path: Path) -> None:
    code = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code ^= line.startswith("```")
        if code or line.startswith(("|", "![")) or re.fullmatch(r"\S+", line):
            continue
        assert len(line) <= 110, f"line {number}"


def test_every_room_and_module_is_in_the_table_of_contributing() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text()
    names = {
        path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    for name in sorted(names - {"__init__.py"}):
        assert f"`{name}`" in table or f"`{name}/`" in table, name


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    site = (ROOT / "zensical.toml").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index, path.name
        assert f'"{path.name}"' in site, path.name


def test_the_chinese_readme_has_the_code_links_and_sections_of_the_english_one() -> None:
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh.md"))
    for pattern in (r"(?s)```.*?```", r"\]\((?!README)([^)]+)\)", r"(?m)^#+ "):
        assert re.findall(pattern, chinese) == re.findall(pattern, english)
    paragraphs = [len(re.sub(r"(?s)```.*?```", "", text).split("\n\n")) for text in (english, chinese)]
    assert paragraphs[0] == paragraphs[1]


def test_the_sentences_of_troubleshooting_are_said_somewhere() -> None:
    sources = " ".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    sources = re.sub(r'(?s)""".*?"""', "", sources)
    said = re.sub(r'"\s+f?"', "", sources)  # sentences go on on the next line
    rows = re.findall(r"(?m)^\| `([^`]+)`.*?\|", (ROOT / "docs" / "troubleshooting.md").read_text())
    assert len(rows) > 8
    assert [row for row in rows if row not in said] == []
