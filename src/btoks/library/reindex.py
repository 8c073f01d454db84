"""Another model or other codes for a library: built beside what is there, and put in its place in one step.

    library.json ──▶ items, queries.npy                  what readers see, until the last step
    next.json    ──▶ items-1, queries-1.npy, codebooks-1  what is being built; renamed to library.json when it is whole
A killed run leaves the old library as it was; the next one goes on with what the old one has embedded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError
from btoks.library import quantized, settings, upkeep
from btoks.library import store as stores
from btoks.library.disk import indexing, remove, swap_file
from btoks.library.memories import require
from btoks.library.objects import names
from btoks.library.quantized import Codec
from btoks.library.schema import pa
from btoks.library.tables import connected
from btoks.library.walk import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

    from btoks.library.disk import Syncer
    from btoks.library.objects import Home
    from btoks.library.settings import Settings
    from btoks.library.store import LanceStore
    from btoks.library.view import View

    Vectors = NDArray[np.float32]

NEXT = "next.json"
_ROWS, _LONG = 8_192, 3_600.0
_NUMBERED = re.compile(r"(?:items|memories|queries|codebooks)(?:-(\d+))?(?:\.lance|\.npy|\.safetensors)")


@dataclass
class Report:
    """What became of a library's rows: how many there are, how many were embedded anew, and what is wrong with some."""

    rows: int = 0
    done: int = 0
    embedded: int = 0
    errors: list[BtoksError] = field(default_factory=list)


def wanted(
    view: View, model: str | Path | None, quantize: Any, rescore: Any
) -> tuple[Settings, SentenceTransformer | None]:
    """The settings asked for, and the model to embed with; None where float vectors are there."""
    noted, opened, _ = view.noted, None, view.lance
    if model is None and quantize is None:
        raise BtoksError("reindex", "nothing is to be changed", "give a model, or a method to quantize with")
    if noted.model is None and (model is not None or noted.codebooks is not None):
        raise BtoksError(str(view.folder), "its vectors came without a model", "add others to a new library")
    if model is not None or noted.codebooks is not None:
        from btoks.folder import load

        settings.refuse_other_parts(view.folder, noted)
        opened = view.asker().model if model is None else load(model, device=view.device)
        if noted.keep_memory:
            require(opened)
        name = noted.model if model is None else settings.name_of(model)
        noted = replace(noted, model=name, **settings.of_model(opened))
    if quantize is not None or rescore is not None:
        noted = replace(noted, **quantized.checked(quantize, rescore, noted.dim))
    quantized.checked(noted.quantize, noted.rescore, noted.dim, noted.states)
    return replace(noted, codebooks=None), opened


def run(
    view: View, want: Settings, model: SentenceTransformer | None, syncer: Syncer, progress: Callable[[Report], Any]
) -> Report:
    """Bring a library to other settings; `model` is the one that they name, if vectors must be made.

    The caller holds the library's lock.
    """
    folder, noted = view.folder, view.noted
    report = Report(view.lance.count())
    if model is not None:
        from btoks.library.embedding import embed

        made = embed(view, _begun(view, want, model), model, report, progress)
    elif noted.codebooks is None and not quantized.scanned(want.quantize):
        made = replace(noted, quantize=want.quantize, rescore=None)
        settings.write(folder / NEXT, made)
        if view.lance.table is not None:
            with indexing(folder, wait=_LONG):
                upkeep.index(view.lance.table, stores.EXACT_BELOW, want.quantize, anew=True)
    elif view.lance.table is None:
        made = replace(noted, quantize=want.quantize, rescore=want.rescore)
        settings.write(folder / NEXT, made)
    else:
        made = recoded(view.lance, folder, replace(want, queries=noted.queries, memories=noted.memories), spread=True)
    report.done = report.rows
    progress(report)
    finish(folder, made, syncer)
    return report


def settle(view: View, syncer: Syncer) -> None:
    """Fit and apply the method that a library was made with, once there are vectors enough."""
    noted = view.noted
    if noted.codebooks is not None or not quantized.scanned(noted.quantize):
        return
    store = view.lance
    if store.table is None:
        return
    count = store.count()
    if count < min(quantized.FIT, quantized.FEWEST * (store.dim or 1)):
        return
    try:
        made = recoded(store, view.folder, noted, spread=False)
    except BtoksError:
        if count >= quantized.FIT:
            raise
        return  # the method asks for more vectors than there are yet
    finish(view.folder, made, syncer)


def recoded(store: LanceStore, folder: Home, want: Settings, *, spread: bool) -> Settings:
    """Another table with codes in the place of the vectors, and what `library.json` will say of it."""
    count = store.count()
    if count > quantized.MOST:
        raise BtoksError(
            str(folder), f"a search goes through at most {quantized.MOST:,} codes", "choose ivf_rq or ivf_sq"
        )
    codec = Codec.fit(_some(store, min(count, quantized.FIT), spread=spread), want.quantize, want.rescore)
    number = fresh(folder)
    made = replace(want, dim=codec.dim, table=f"items-{number}", codebooks=f"codebooks-{number}.safetensors")
    codec.save(folder / str(made.codebooks))
    settings.write(folder / NEXT, made)
    kept = [each for each in store.table.schema if each.name != "vector"]
    schema = pa.schema([*kept, *codec.fields()])
    reader = pa.RecordBatchReader.from_batches(schema, _batches(store, codec, schema))
    table = connected(folder).create_table(made.table, data=reader)
    upkeep.prepare(table)
    return made


def _some(store: LanceStore, count: int, *, spread: bool) -> Vectors:
    """Vectors to fit on: the first, or evenly spread."""
    places = np.unique(np.linspace(0, store.count() - 1, count).astype(int)) if spread else np.arange(count)
    pieces = [
        store.table.take_offsets(places[start : start + _ROWS].tolist()).select(["vector"]).to_arrow()
        for start in range(0, len(places), _ROWS)
    ]
    flat = [each["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False) for each in pieces]
    return np.concatenate(flat).reshape(len(places), -1)


def _batches(store: LanceStore, codec: Codec, schema: Any) -> Iterator[Any]:
    found = store.table.search().select(store.table.schema.names).limit(max(store.count(), 1)).to_batches(_ROWS)
    for batch in found:
        vectors = batch.column("vector")
        encoded = codec.encoded(vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1))
        columns = {
            name: pa.FixedSizeBinaryArray.from_buffers(
                schema.field(name).type, len(data_NB), [None, pa.py_buffer(np.ascontiguousarray(data_NB))]
            )
            for name, data_NB in encoded.items()
        }
        yield pa.record_batch(
            [columns[each.name] if each.name in columns else batch.column(each.name) for each in schema], schema=schema
        )


def finish(folder: Home, made: Settings, syncer: Syncer) -> None:
    """Put what was built in the place of what is there: synced, then named, then the old removed."""
    syncer.sync()
    swap_file(folder, NEXT, MARK)
    sweep(folder, made)


def sweep(folder: Home, *kept: Settings) -> None:
    """Remove what settings other than these have left: tables, queries, codebooks."""
    named = {name for each in kept for name in files(each)}
    for name in names(folder) or ():
        if _NUMBERED.fullmatch(name) and name not in named:
            remove(folder / name)


def files(noted: Settings) -> set[str]:
    """The names in a library's folder that settings point to."""
    memories = "memories" + noted.memories.removeprefix(settings.TABLE)
    return {f"{noted.table}.lance", f"{memories}.lance", noted.queries, *filter(None, [noted.codebooks])}


def fresh(folder: Home) -> int:
    """A number that no table or file of the library has."""
    found = map(_NUMBERED.fullmatch, names(folder) or ())
    return 1 + max((int(each[1] or 0) for each in found if each), default=0)


def abandon(view: View) -> None:
    """Remove what an unfinished run has built."""
    remove(view.folder / NEXT)
    sweep(view.folder, view.noted)


def _begun(view: View, want: Settings, model: SentenceTransformer) -> Settings:
    """What an earlier run to the same end has built, or a new beginning."""
    folder = view.folder
    begun = _pending(folder, want, model)
    if begun is not None:
        sweep(folder, view.noted, begun)
        return begun
    abandon(view)
    number = fresh(folder)
    begun = replace(
        want, table=f"items-{number}", memories=f"items-{number}", queries=f"queries-{number}.npy", codebooks=None
    )
    settings.note_queries(folder / begun.queries, model)
    settings.write(folder / NEXT, begun)
    return begun


def _pending(folder: Home, want: Settings, model: SentenceTransformer) -> Settings | None:
    """The settings of an unfinished run, if it was for the same end, with the very same model."""
    try:
        begun = settings.read(folder, NEXT)
        names: dict[str, Any] = {"table": begun.table, "memories": begun.memories, "queries": begun.queries}
        if begun != replace(want, **names, codebooks=begun.codebooks):
            return None
        settings.verify(folder, begun, model)
    except (BtoksError, OSError, ValueError, TypeError):
        return None
    return begun
