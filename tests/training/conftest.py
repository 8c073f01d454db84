"""The data that the runs of the tests are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from training import records

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.write(tmp_path_factory.mktemp("data"))
