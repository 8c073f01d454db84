"""Embeddings of one side of a task: whole, cached by content, shared out over processes, and never lost.

    entries ──chunks of 256──▶ prompt groups ──encode_stream──▶ one file a chunk ──▶ vectors (N, D)

A chunk's file is named by the content of the model, of the inputs and of the settings, and is there whole or not at
all: a killed run goes on where it stopped, and what has changed is computed anew. Chunks do not depend on the number
of processes, so the numbers do not either.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from btoks.encode import encode_stream
from btoks.errors import BtoksError
from btoks.evaluation import processes
from btoks.evaluation.files import file_name, whole
from btoks.evaluation.fingerprint import hooked, inputs_key, model_key, versions
from btoks.evaluation.layouts import Side, layout_of, prompted, rendered
from btoks.media import Decoder, Limits, MediaError, Source
from btoks.similarity import states_of

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

    from btoks.evaluation.task import Entry

CHUNK = 256
Step = Callable[[int, bool], None]
"""Hears how many items are done, and whether they came from the cache."""


@dataclass(frozen=True)
class Embedded:
    """The vectors of a side, zero where there is none, with the reason why, and one prompt as the model got it.

    Each may be `states` vectors side by side, which are compared by MaxSim.
    """

    vectors: NDArray[np.float32]
    missing: Mapping[int, str]
    prompt: str
    states: int = 1


class Embeds(Protocol):
    """What turns the sides of a task into vectors: an `Encoder`, or anything that is to be compared with one."""

    def side(self, task: str, side: Side, entries: Sequence[Entry]) -> Embedded:
        """The vectors of all entries of a side."""
        ...


@dataclass(frozen=True)
class _Part:
    """A chunk's outcome: vectors of the rows that have one, reasons for the others."""

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    missing: dict[int, str]


class Encoder:
    """One model with one cache and one decoding process, for any number of tasks."""

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        cache: Path | None = None,
        limits: Limits | None = None,
        max_batch_tokens: int = 16_384,
        step: Step | None = None,
    ) -> None:
        self.model, self._step = model, step
        # What hooks do to a model is not in its content: nothing is kept of it, so that nothing stale is ever read.
        self.cache = None if hooked(model) else cache
        # A benchmark's frames are chosen already: all that an entry names are used.
        self.limits = limits or Limits(frames=1 << 16)
        self.max_batch_tokens = max_batch_tokens
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._decoder = self._stack.enter_context(Decoder(self.limits))
        self._stack.callback(self.model.train, self.model.training)
        self.model.eval()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @cached_property
    def key(self) -> str:
        """The content of the model and of what else decides an embedding."""
        return f"{model_key(self.model)} {json.dumps(versions())} {self.limits}"

    def side(self, task: str, side: Side, entries: Sequence[Entry]) -> Embedded:
        """Embed all entries of a side."""
        starts = range(0, len(entries), CHUNK)
        mine = {start: self._chunk(task, side, start, entries) for start in processes.share(starts)}
        parts = processes.gathered(mine)
        missing = {start + row: why for start, part in parts.items() for row, why in part.missing.items()}
        if len(missing) == len(entries):
            raise BtoksError(task, f"no {side} can be embedded ({missing[0]})", "check the model and the data")
        dim = next(part.vectors.shape[1] for part in parts.values() if len(part.rows))
        vectors_ND = np.zeros((len(entries), dim), np.float32)
        for start, part in parts.items():
            vectors_ND[start + part.rows] = part.vectors[:, :dim] if len(part.rows) else 0
        shown = next(index for index in range(len(entries)) if index not in missing)
        return Embedded(vectors_ND, missing, self.rendered(entries[shown], side), states_of(self.model))

    def rendered(self, entry: Entry, side: Side) -> str:
        """The prompt of an entry as the model gets it."""
        prompt, item = prompted(entry, layout_of(self.model), side)
        return rendered(self.model, prompt, self._opened(item))

    def _chunk(self, task: str, side: Side, start: int, entries: Sequence[Entry]) -> _Part:
        chunk = [entries[index] for index in range(start, min(start + CHUNK, len(entries)))]
        layout = layout_of(self.model)
        asked = [prompted(entry, layout, side) for entry in chunk]
        broken = {row: entry.broken for row, entry in enumerate(chunk) if entry.broken}
        if self.cache is None:
            part = self._encoded(asked, broken)
        else:
            key = inputs_key([(self.key, {"text": json.dumps(broken)}), *asked])
            file = self.cache / file_name(task) / f"{side}-{start:07d}-{key}.npz"
            found = _read(file)
            if found is not None:
                self._done(len(chunk), cached=True)
                return found
            part = self._encoded(asked, broken)
            _write(file, part)
        self._done(len(chunk), cached=False)
        return part

    def _done(self, count: int, *, cached: bool) -> None:
        if self._step is not None:
            self._step(count, cached)

    def _encoded(self, asked: Sequence[tuple[str, dict[str, Any]]], broken: Mapping[int, str]) -> _Part:
        groups: dict[str, list[int]] = {}
        for row, (prompt, _) in enumerate(asked):
            if row not in broken:
                groups.setdefault(prompt, []).append(row)
        missing = dict(broken)
        found: dict[int, NDArray[np.float32]] = {}
        for prompt, rows in groups.items():
            read: list[int] = []
            items = self._readable(asked, rows, read, missing)
            options: dict[str, Any] = {"max_batch_tokens": self.max_batch_tokens, "limits": self.limits}
            for out in encode_stream(self.model, items, prompt=prompt, on_error="skip", **options):
                if out.embedding is None:
                    missing[read[out.index]] = str(out.error)
                else:
                    found[read[out.index]] = out.embedding
        rows = sorted(found)
        vectors_ND = np.stack([found[row] for row in rows]) if rows else np.zeros((0, 0), np.float32)
        return _Part(np.array(rows, np.int64), vectors_ND, missing)

    def _readable(
        self, asked: Sequence[tuple[str, dict[str, Any]]], rows: Sequence[int], read: list[int], missing: dict[int, str]
    ) -> Iterator[dict[str, Any]]:
        """The items that can be opened; the rows of the others are noted as missing."""
        for row in rows:
            try:
                item = self._opened(asked[row][1])
            except BtoksError as error:
                missing[row] = str(error)
                continue
            read.append(row)
            yield item

    def _opened(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {kind: value if kind == "text" else self._media(kind, value) for kind, value in item.items()}

    def _media(self, kind: str, value: Any) -> Any:
        if not isinstance(value, str | Path | bytes | Source | list):
            return value
        source = value if isinstance(value, Source) else Source(value)
        found: dict[str, Any] = dict(self._decoder.load(source))
        if kind not in found:
            raise MediaError(source.name, f"it holds no {kind} (found {', '.join(found)})", "check the data")
        return found[kind]


def _read(file: Path) -> _Part | None:
    """A chunk that is there and whole."""
    try:
        with np.load(file, allow_pickle=False) as held:
            missing = {int(row): why for row, why in json.loads(str(held["missing"])).items()}
            return _Part(held["rows"], held["vectors"], missing)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(file: Path, part: _Part) -> None:
    with whole(file) as rest, rest.open("wb") as out:
        np.savez(out, rows=part.rows, vectors=part.vectors, missing=np.array(json.dumps(part.missing)))
