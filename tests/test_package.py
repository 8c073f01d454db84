"""The package as a whole: light to import, its names and examples true, its files and functions short."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import tomllib
from pathlib import Path

import pytest

import btoks
from items import python

ROOT = Path(btoks.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FOUND = [module.name for module in pkgutil.walk_packages([str(ROOT)], "btoks.")]
MODULES = sorted(name for name in FOUND if not name.endswith("__main__"))


def test_importing_it_is_light() -> None:
    heavy = ("torch", "transformers", "sentence_transformers", "numpy", "PIL", "av", "pypdfium2")
    ran = python(f"import sys, btoks; print(btoks.__version__, [name for name in {heavy} if name in sys.modules])")
    assert ran.stdout.strip() == f"{btoks.__version__} []", ran.stderr


def test_public_names_are_there() -> None:
    for name in btoks.__all__:
        assert getattr(btoks, name) is not None
        assert name == "__version__" or getattr(btoks, name).__doc__
    assert set(btoks._HOME) | {"__version__"} == set(btoks.__all__)
    with pytest.raises(AttributeError, match="no attribute 'atach'"):
        btoks.atach  # noqa: B018
    pyproject = ROOT.parents[1] / "pyproject.toml"
    if pyproject.is_file():
        assert tomllib.loads(pyproject.read_text())["project"]["version"] == btoks.__version__


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "what it is, and why"
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= 40, node.name
