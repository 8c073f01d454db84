"""A model is written whole or not at all, also when the process is killed while it writes."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import btoks
from btoks import bottleneck, card, doctor, folder
from btoks.errors import BtoksError
from items import attached, fresh, names, python, vectors

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="module")
def two() -> tuple[SentenceTransformer, SentenceTransformer]:
    return attached("qwen3"), fresh("qwen3", init="random")


def test_a_save_that_breaks_off_leaves_the_old_folder(
    two: tuple[SentenceTransformer, SentenceTransformer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two
    path = tmp_path / "model"
    for step in ("write_probes", None):
        with monkeypatch.context() as patch:
            patch.setattr(doctor if step else card, step or "write", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                btoks.save(new, path)
        assert names(tmp_path) == []
    assert new[0].model is bottleneck.generator(new).base_model
    btoks.save(old, path)
    for broken in ("card.write", "Path.rename"):
        with monkeypatch.context() as patch:
            if broken == "card.write":
                patch.setattr(card, "write", lambda *_: 1 / 0)
            else:
                patch.setattr(folder, "_exchanged", lambda *_: False)
                patch.setattr(Path, "rename", _rename_that_fails_to(path))
            with pytest.raises((ZeroDivisionError, OSError)):
                btoks.save(new, path)
        assert names(tmp_path) == ["model"]
        assert np.array_equal(vectors(btoks.load(path), "qwen3"), vectors(old, "qwen3"))
    btoks.save(new, path)
    assert np.array_equal(vectors(btoks.load(path), "qwen3"), vectors(new, "qwen3"))
    assert names(tmp_path) == ["model"]


def _rename_that_fails_to(path: Path) -> Any:
    """The disk is full at the worst moment: the old folder is out of the way, the new one does not come in."""
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        if target == path and ".part-" in self.name:
            raise OSError("no space left")
        return rename(self, target)

    return renamed


@pytest.mark.parametrize("swap", [True, False])
def test_without_a_swap_the_old_folder_comes_back(swap: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk cannot swap two folders there is a moment without either; who comes next mends a kill then."""
    if not swap:
        monkeypatch.setattr(folder, "_exchanged", lambda *_: False)
    path = tmp_path / "a*b"
    for text in ("one", "two"):
        with folder.replacing(path) as part:
            (part / "file").write_text(text)
        assert (path / "file").read_text() == text
        assert names(tmp_path) == ["a*b"]
    dead = _dead_process()
    path.rename(tmp_path / f".a*b.old-{dead}")
    (tmp_path / f".a*b.part-{dead}").mkdir()
    (tmp_path / f".a*b.part-{os.getppid()}").mkdir()
    with pytest.raises(BtoksError, match="model"):
        btoks.load(path)
    assert names(tmp_path) == [f".a*b.part-{os.getppid()}", "a*b"]
    assert (path / "file").read_text() == "two"


def _dead_process() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def _replace_for_ever(path: Path) -> None:
    try:
        for place in itertools.count():
            with folder.replacing(path) as part:
                for name in "abc":
                    (part / name).write_text(str(place))
    finally:
        os._exit(1)


def test_killed_while_folders_are_exchanged(tmp_path: Path) -> None:
    """A child replaces a folder as fast as it can and is killed: the folder is always there, and of one piece."""
    path = tmp_path / "model"
    for delay in range(25):
        child = os.fork()
        if child == 0:
            _replace_for_ever(path)
        while not path.exists():
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            time.sleep(0.001)
        time.sleep(0.002 + delay / 2000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert len({(path / name).read_text() for name in "abc"}) == 1
    with folder.replacing(path) as part:
        (part / "file").touch()
    assert names(tmp_path) == ["model"]


SAVING = """
import os, shutil, signal, sys, time
import torch
torch.set_num_threads(1)
import btoks
one, two, place, copies = sys.argv[1:]
for delay in (0.02, 0.05, 0.09, 0.14, 0.2, 0.3):
    shutil.rmtree(place, ignore_errors=True)
    child = os.fork()
    if child == 0:
        try:
            models = [btoks.load(one), btoks.load(two)]
            while True:
                for model in models:
                    btoks.save(model, place)
        finally:
            os._exit(1)
    while not os.path.exists(place):
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    shutil.copytree(place, f"{copies}/{delay}")
"""


def test_killed_while_saving(two: tuple[SentenceTransformer, SentenceTransformer], tmp_path: Path) -> None:
    """A killed process leaves the old model or the new one, never half of either."""
    for model, name in zip(two, ("one", "two"), strict=True):
        btoks.save(model, tmp_path / name)
    place = tmp_path / "saved" / "model"
    ran = python(SAVING, tmp_path / "one", tmp_path / "two", place, tmp_path / "copies")
    assert ran.returncode == 0, ran.stderr
    expected = [vectors(model, "qwen3") for model in two]
    copies = list((tmp_path / "copies").iterdir())
    assert len(copies) == 6
    for copy in copies:
        assert names(copy) == names(tmp_path / "one")
        found = vectors(btoks.load(copy), "qwen3")
        assert any(np.array_equal(found, each) for each in expected)
    btoks.save(two[0], place)
    assert names(place.parent) == ["model"]


def test_only_models_are_replaced(tmp_path: Path) -> None:
    """A slip of the pen must not empty somebody's home."""
    (tmp_path / "home" / "photos").mkdir(parents=True)
    (tmp_path / "file").touch()
    for place in ("home", "file"):
        with pytest.raises(BtoksError, match="not a btoks model"):
            btoks.save(attached("qwen3"), tmp_path / place)
    assert names(tmp_path) == ["file", "home"]
    (tmp_path / "home" / "photos").rmdir()
    btoks.save(attached("qwen3"), tmp_path / "home")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    btoks.save(attached("qwen3"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
