"""Rules of the house that a reader should never have to check by eye."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted(path for top in ("agent", "hal") for path in (ROOT / top).rglob("*.py"))
ALL = CODE + sorted((ROOT / "tests").rglob("*.py"))
TOP_LEVEL = {"agent", "hal", "kernels", "tests", "udev", "image", "sdk", "docs"}


def test_the_top_level_holds_only_the_rooms_of_the_house() -> None:
    folders = {
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "build", "dist"))
    }
    assert {name for name in folders if not name.endswith(".egg-info")} <= TOP_LEVEL


def test_kernels_can_never_be_imported() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_a_drawer_for_everything(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "manager", "stuff"}
    assert len(path.read_text().splitlines()) <= 400, "split it along a seam"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_production_code_does_not_know_its_tests(path: Path) -> None:
    assert not re.search(r"PYTEST|TESTING|from tests?\b|import tests?\b|unittest", path.read_text())


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    reads = "os.environ" in path.read_text() or "getenv" in path.read_text()
    assert not reads or path.relative_to(ROOT).as_posix() in {"agent/config.py", "agent/quiet.py"}


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_public_class_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not any(isinstance(base, ast.Name) and base.id.endswith("Error") for base in node.bases)
        and not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    ]
    assert not silent, f"no docstring: {silent}"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_broad_excepts_stand_only_at_the_top_of_a_loop_and_say_so(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if re.search(r"except\s*(BaseException|Exception)?\s*(as \w+)?:\s*", line) and re.search(
            r"except\s*:|except (Base)?Exception\b", line
        ):
            assert "noqa: BLE001" in line, f"line {number}: name the exceptions, or say why none can be named"
