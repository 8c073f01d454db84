"""Files of codes and of fitted methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.methods import quantize


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    """A write that fails leaves the file as it was, and nothing beside it."""
    path = tmp_path / "codes.safetensors"
    codes = quantize.Codes(np.arange(6, dtype=np.uint8).reshape(2, 3), dim=3)
    codes.save(path)
    with pytest.raises(TypeError):
        quantize.Codes(codes.data_NB, dim=object()).save(path)  # type: ignore[arg-type]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert np.array_equal(quantize.Codes.load(path).data_NB, codes.data_NB)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_of_something_else_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    if content is not None:
        path.write_bytes(content)
    for load in (quantize.load, quantize.Codes.load):
        with pytest.raises(BtoksError, match=r"file\.safetensors"):
            load(path)
