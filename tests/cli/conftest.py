"""A tiny model in place of the bundled one, a cache of its own for every test, and media of every kind."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import btoks
from btoks import bundled
from btoks.bundled import sample
from items import attached

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundled") / "btoks-mini"
    btoks.save(attached("qwen3_vl"), folder)
    return folder


@pytest.fixture(autouse=True)
def _defaults(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "model", lambda: small)
    monkeypatch.setenv("BTOKS_CACHE", str(tmp_path / "cache"))
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
