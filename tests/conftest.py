"""What holds for every test: no network, one thread, a cache of the run's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch

from items import threads

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Converted and trained models never come from, nor reach, the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BTOKS_CACHE", str(tmp_path_factory.mktemp("btoks-cache")))
        yield


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever a test starts, it ends."""
    yield
    assert threads() == []


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> int:
    """A stream that sorts 8 items at a time."""
    from btoks import encode

    monkeypatch.setattr(encode, "_WINDOW_ITEMS", 8)
    return 8
