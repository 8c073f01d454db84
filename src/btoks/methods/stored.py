"""Fitted methods in safetensors files: settings as a note, what was learnt as arrays; never a pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btoks.errors import BtoksError
from btoks.methods import card, create, settings


def save(method: Any, path: str | Path) -> None:
    """Write a fitted method, settings and state: whole or not at all."""
    write(Path(path), method.state, {"family": card(method).family, "method": settings(method)})


def load(path: str | Path, family: str) -> Any:
    """Open a method of this family that `save` wrote."""
    arrays, about = read(Path(path), f"a {family} method", set(), {"family", "method"})
    if about["family"] != family:
        raise BtoksError(str(path), f"holds a {about['family']} method", f"pass the file of a {family} method")
    return dataclasses.replace(create(family, about["method"]), state=arrays)


def write(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Arrays and notes (anything JSON takes) in one file, whole or not at all."""
    from safetensors.numpy import save_file

    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    try:
        save_file(whole, part, metadata={key: json.dumps(value) for key, value in about.items()})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read(path: Path, what: str, keys: set[str], notes: set[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and notes of a file that holds at least these."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BtoksError(str(path), "no such file", f"pass a file that holds {what}")
    try:
        with safe_open(path, "np") as stored:
            arrays = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a mapping
            about = {key: json.loads(value) for key, value in (stored.metadata() or {}).items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise BtoksError(str(path), f"cannot be read ({error})", "write it again") from error
    if not (keys <= set(arrays) and notes <= set(about)):
        raise BtoksError(str(path), f"does not hold {what}", "pass the file that holds it")
    return arrays, about
