"""Rules of this repository that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_functions_fit_on_a_screen() -> None:
    """No function of the package has more than 50 lines; a migration is a list of tables and may be long."""
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        if "migrations" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (node.end_lineno or 0) - node.lineno >= 50
    ]
    assert SOURCES
    assert long == []


def test_files_can_be_read_in_one_go() -> None:
    """No module of the package has more than 400 lines."""
    assert [str(p.relative_to(ROOT)) for p in SOURCES if len(p.read_text().splitlines()) > 400] == []


def test_calls_can_be_read() -> None:
    """No function of the package takes more than six arguments by position, or nine in all."""
    wide = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                positional = [a for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")]
                if len(positional) > 6 or len(positional) + len(node.args.kwonlyargs) > 9:
                    wide.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert wide == []


def test_no_module_is_a_drawer() -> None:
    """Nothing is called utils, helpers or common: a module is named for what it does."""
    assert [p for p in SOURCES if p.stem in ("utils", "helpers", "common")] == []


def test_every_package_has_a_charter() -> None:
    """The docstring of a package says what it is for; folders of migrations and samples are not packages of ours."""
    inits = [p for p in (ROOT / "src/gpufn").glob("*/__init__.py") if p.parent.name != "samples"]
    assert inits
    assert [str(p) for p in inits if not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_every_test_says_what_behaviour_it_checks() -> None:
    """Each test has a docstring."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_resolve(page: Path) -> None:
    """Every relative link of a page leads to a file."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    own = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in own if not (page.parent / link).exists()] == []
