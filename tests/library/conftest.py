"""A tiny model on disk, folders of files, and libraries made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import btoks
from items import attached

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained model, saved."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    btoks.save(attached("qwen3_vl"), folder)
    return folder
