"""What a library is made with, in `library.json`: its model, the prompts, how files are cut, where its rows are.

Whoever replaces this file puts another table in the place of the one before, in one step.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError
from btoks.library.calibration import PHRASES
from btoks.library.disk import make_folder, replace_file
from btoks.library.interface import LANCE
from btoks.library.objects import Address, Home, names
from btoks.library.parts import SETTINGS
from btoks.library.walk import MARK
from btoks.similarity import states_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

TABLE, GONE = "items", (0, 0)
_FORMAT, _QUERIES, _SAME = 1, "queries.npy", 0.99


@dataclass(frozen=True)
class Settings:
    """The contents of `library.json`; without a model the vectors are brought along."""

    model: str | None
    dim: int | None = None
    states: int = 1
    """How many vectors an item has, side by side in `dim`; several are compared by MaxSim."""
    prompts: dict[str, str] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=lambda: dict(SETTINGS))
    keep_memory: bool = False
    format: int = _FORMAT
    quantize: Any = None
    """How vectors are to be compressed: a spec, None for float32."""
    rescore: Any = None
    table: str = TABLE
    queries: str = _QUERIES
    memories: str = TABLE
    """The table for whose rows the memories were made; one that only holds other codes has the same."""
    codebooks: str | None = None
    """The file of the fitted methods; without one the vectors are still float32."""
    store: str = LANCE
    """What keeps the rows; `url` is where, if that is a server."""
    url: str | None = None


def create(
    folder: Home,
    name: str | None,
    model: SentenceTransformer | None,
    *,
    keep_memory: bool = False,
    quantize: Any = None,
    rescore: Any = None,
    **kept: Any,
) -> Settings:
    """Begin a library in a new or empty folder; `kept` says where its rows are."""
    # What a killed creation has left is no obstacle.
    leftover, there = {_QUERIES, f".{_QUERIES}.part", f".{MARK}.part"}, names(folder)
    if (there or set()) - leftover or (there is None and isinstance(folder, Path) and folder.exists()):
        raise BtoksError(str(folder), "it exists and is not empty", "open it, or choose another folder")
    settings = Settings(name, quantize=quantize, rescore=rescore, **kept)
    try:
        make_folder(folder)
        if model is not None:
            settings = replace(settings, **of_model(model), keep_memory=keep_memory)
            note_queries(folder / _QUERIES, model)
        write(folder / MARK, settings)
    except OSError as error:
        raise BtoksError(str(folder), f"it cannot be written ({error.strerror})", "choose another folder") from error
    return settings


def name_of(model: str | Path) -> str:
    """A model as a library notes it: a folder from the root, a hub id as it is."""
    return os.path.abspath(model) if Path(model).exists() else str(model)  # noqa: PTH100


def of_model(model: SentenceTransformer) -> dict[str, Any]:
    """What is noted of a model."""
    prompts = {key: value or "" for key, value in model.prompts.items()}
    return {"dim": int(model.get_embedding_dimension() or 0), "states": states_of(model), "prompts": prompts}


def note_queries(path: Home, model: SentenceTransformer) -> None:
    """Keep how a model embeds the phrases that scores are calibrated with."""
    data = io.BytesIO()
    np.save(data, embedded(model))
    replace_file(path, data.getvalue())


def write(path: Home, settings: Settings) -> None:
    """Write settings whole."""
    replace_file(path, json.dumps(asdict(settings), indent=1).encode())


def stamp(folder: Home) -> tuple[int, int]:
    """Another one whenever the settings of the library in a folder have been replaced."""
    if isinstance(folder, Address):
        tag = (folder / MARK).tag()
        return GONE if tag is None else (zlib.crc32(tag.encode()), len(tag))
    try:
        status = (folder / MARK).stat()
    except OSError:
        return GONE
    return status.st_ino, status.st_mtime_ns


def read(folder: Home, name: str = MARK) -> Settings:
    """The settings of the library in a folder."""
    try:
        given: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BtoksError(str(folder), "there is no library", "make one with `btoks index`") from error
    except (OSError, ValueError) as error:
        raise BtoksError(str(folder), f"its {name} cannot be read", "restore that file") from error
    if given.get("format") != _FORMAT:
        raise BtoksError(str(folder), f"it is of format {given.get('format')}", "open it with the btoks that made it")
    return Settings(**given)


def queries(folder: Home, settings: Settings) -> NDArray[np.float32]:
    """How the library's model has embedded the phrases that scores are calibrated with."""
    data = (folder / settings.queries).read_bytes()
    out: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    return out


def embedded(model: SentenceTransformer) -> NDArray[np.float32]:
    """The phrases by a model."""
    from btoks.encode import encode_stream

    return np.stack([out.embedding for out in encode_stream(model, PHRASES, task="query") if out.embedding is not None])


def verify(folder: Home, settings: Settings, model: SentenceTransformer) -> None:
    """Refuse a model that is not the one the library was made with, whatever its name says."""
    from btoks.encode import encode_stream

    dim = int(model.get_embedding_dimension() or 0)
    noted_D = queries(folder, settings)[0]
    now_D = next(iter(encode_stream(model, [PHRASES[0]], task="query"))).embedding
    if dim != settings.dim or now_D is None or float(noted_D @ now_D) < _SAME:
        reason = f"the model {settings.model} is not the one it was made with"
        raise BtoksError(str(folder), reason, "bring that one back, or index into a new library")


def refuse_other_parts(folder: Home, settings: Settings) -> None:
    """Refuse to add files cut by other rules than those that are there."""
    if settings.parts != SETTINGS:
        raise BtoksError(str(folder), "its files were cut by other rules", "index into a new library")
