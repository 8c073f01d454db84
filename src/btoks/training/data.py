"""A mixture of data sets on its way into the model: rows are opened in the loader's workers and come out as features.

Place ──Mixture──▶ items of one row ──Collator──▶ features of a batch
        opens media; a broken row is             cuts texts to the budget, model.preprocess,
        replaced by the next, and told           a content hash for each document
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from btoks.errors import BtoksError
from btoks.inputs import fit
from btoks.media import Decoder, Limits, Source, kind
from btoks.media import load as load_media
from btoks.training.rows import Reader, Row, Rows, decoded, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from btoks.training.sampler import Place

COLUMNS = ("query", "positive")


@dataclass(frozen=True)
class Set:
    """A named data set of a mixture: where its rows come from, how often it is drawn, what is told of it.

    `side` is the text that the loss generates. Instructions stand before the texts of queries and documents. Clips are
    taken at `frames` frames; pictures and frames are scaled down to `pixels`. `shuffle` draws rows in a new order on
    each pass; otherwise they come as they lie.

    >>> Set("flags", Records("flags", meta_task="image_ret"), side="query")  # doctest: +SKIP
    """

    name: str
    read: Reader
    weight: float = 1.0
    side: str = "positive"
    instruction: str | None = None
    document_instruction: str | None = None
    frames: int = 8
    pixels: int | None = None
    shuffle: bool = False


class Mixture(Dataset[dict[str, Any]]):
    """The rows of several data sets by `Place`, with their media opened."""

    def __init__(self, sets: tuple[Set, ...], data: Path | None) -> None:
        self.sets = sets
        self.rows: list[Rows] = [each.read.open(data) for each in sets]
        self._limits = [Limits(frames=each.frames) for each in sets]
        self._decoders: dict[int, Decoder] = {}

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows in each data set."""
        return tuple(len(rows) for rows in self.rows)

    def __getitem__(self, place: Place) -> dict[str, Any]:
        """A row's items, hashes and name, and what was wrong with those rows that stood in its place before."""
        broken: list[str] = []
        total = len(self.rows[place.dataset])
        for offset in range(total):
            number = (place.number + offset) % total
            try:
                row = self.rows[place.dataset].row(number, place.passed)
                return {**self.opened(place.dataset, row), "broken": broken}
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                broken.append(f"row {number}: {reason}")
        name = self.sets[place.dataset].name
        raise BtoksError(f"data set {name}", f"none of its {total} rows can be opened ({broken[0]})", "mend it")

    def opened(self, dataset: int, row: Row) -> dict[str, Any]:
        """The items of a row and the hashes of its documents."""
        sides = {"query": row.query, "positive": row.positive}
        sides |= {f"negative_{place}": side for place, side in enumerate(row.negatives)}
        items = {name: decoded(side, self._load(dataset), self.sets[dataset].pixels) for name, side in sides.items()}
        hashes = [fingerprint(side) for name, side in sides.items() if name != "query"]
        return {"items": items, "hashes": hashes, "id": row.id, "dataset": dataset}

    def _load(self, dataset: int) -> Any:
        """Pictures are decoded here, films and PDFs in a process of their own: those decoders can crash or hang."""

        def load(source: Source) -> Mapping[str, Any]:
            limits = self._limits[dataset]
            if isinstance(source.uri, list) or kind(source, limits) == "image":
                return load_media(source, limits)
            if dataset not in self._decoders:
                self._decoders[dataset] = Decoder(limits)
            return self._decoders[dataset].load(source)

        return load


@dataclass
class Collator:
    """Opened rows of one data set to what sentence-transformers' trainer takes."""

    model: SentenceTransformer
    sets: tuple[Set, ...]

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Features by column, with the names and hashes of the rows and what was broken."""
        chosen = self.sets[samples[0]["dataset"]]
        broken = [f"{chosen.name} {each}" for sample in samples for each in sample["broken"]]
        try:
            batch = self._features(samples, chosen)
        except Exception:
            samples = self._without_odd(samples, chosen, broken)
            batch = self._features(samples, chosen)
        return {
            **batch,
            "dataset_name": chosen.name,
            "label": torch.tensor([sample["hashes"] for sample in samples], dtype=torch.int64),
            "rows": [sample["id"] for sample in samples],
            "broken": broken,
        }

    def _features(self, samples: list[dict[str, Any]], chosen: Set) -> dict[str, Any]:
        batch: dict[str, Any] = {}
        for column in samples[0]["items"]:
            items = [fit(self.model, sample["items"][column]) for sample in samples]
            prompt = chosen.instruction if column == "query" else chosen.document_instruction
            features = self.model.preprocess(items, prompt=prompt)
            batch |= {f"{column}_{key}": value for key, value in features.items()}
        return batch

    def _without_odd(self, samples: list[dict[str, Any]], chosen: Set, broken: list[str]) -> list[dict[str, Any]]:
        """The samples, each that the processor refuses replaced by the one after it."""
        good = []
        for sample in samples:
            try:
                self._features([sample], chosen)
                good.append(True)
            except Exception as error:
                broken.append(f"{chosen.name} {sample['id']}: the processor refuses it ({error})".replace("\n", " "))
                good.append(False)
        if not any(good):
            raise BtoksError(f"data set {chosen.name}", f"a whole batch is unusable ({broken[-1]})", "mend it")
        size = len(samples)
        return [
            samples[next(at % size for at in range(place, place + size) if good[at % size])] for place in range(size)
        ]


def calm(_: int) -> None:
    """A worker's start: Ctrl-C is for the parent, which ends its workers in its own time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
