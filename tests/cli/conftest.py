"""A cached model, and a folder with media of every kind."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from btoks.bundled import sample
from command import cached_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_model(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _bundled(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTOKS_CACHE", str(cache))
    monkeypatch.delenv("BTOKS_DEBUG", raising=False)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Files of each kind under names that do not tell, some in folders of their own, and a hidden one."""
    home = tmp_path / "media"
    (home / "deep" / "er").mkdir(parents=True)
    clip = next((sample() / "videos").rglob("*.mp4"))
    shutil.copy(sample() / "flags" / "brazil.png", home / "picture.dat")
    shutil.copy(sample() / "documents" / "recipe-shakshouka.pdf", home / "recipe")
    shutil.copy(clip, home / "deep" / "clip.txt")
    (home / "deep" / "er" / "note.md").write_text("a note about a fox", encoding="utf-8")
    (home / ".hidden").write_bytes(b"\0\1\2")
    return home
