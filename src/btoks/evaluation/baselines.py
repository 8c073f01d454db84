"""What a model must beat: words counted and colours measured, without any learning, and a linear map that learnt.

    text     ──▶ hashed words, log counts × rarity in the task's corpus ┐
    picture  ──▶ colours (4×4×4) and edge directions on a 4×4 grid      ├─▶ one vector a side, compared as any embedding
    clip     ──▶ the mean over its frames                               ┘

Sides that share no kind are told apart by nothing: a faint noise orders what is equal, so that such a task comes out at
chance instead of at zero.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btoks.evaluation.encoding import Embedded
from btoks.evaluation.task import Entry, Task
from btoks.inputs import frames

if TYPE_CHECKING:
    from btoks.evaluation.layouts import Side

Floats = NDArray[np.float32]
_WORDS, _COLOURS, _EDGES, _NOISE = 4096, 64, 128, 64
_PICTURE = _COLOURS + _EDGES
_FAINT = 1e-3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class WordsAndColours:
    """Compares texts with texts and pictures with pictures; `rarity_W` weighs the words."""

    rarity_W: Floats

    @classmethod
    def of(cls, task: Task) -> WordsAndColours:
        """Count in how many candidates each word stands."""
        found_W = np.zeros(_WORDS, np.float32)
        for entry in task.corpus:
            found_W[list({_bucket(word) for word in _words(entry.text)})] += 1
        return cls(np.log((1 + len(task.corpus)) / (1 + found_W)).astype(np.float32) + 1)

    def side(self, task: str, side: Side, entries: Sequence[Entry]) -> Embedded:
        """The vectors of a side."""
        missing = {place: entry.broken for place, entry in enumerate(entries) if entry.broken}
        vectors_ND = np.stack([np.concatenate([self.features(entry), _noise(side, entry.id)]) for entry in entries])
        return Embedded(vectors_ND, missing, "")

    def features(self, entry: Entry) -> Floats:
        """Words and picture of an entry, each of length 1 or nothing."""
        return np.concatenate([self.words(entry.text), picture(entry)])

    def words(self, text: str) -> Floats:
        """Hashed words by the logarithm of their count and their rarity."""
        found_W = np.zeros(_WORDS, np.float32)
        for word, count in Counter(_words(text)).items():
            found_W[_bucket(word)] += 1 + math.log(count)
        return _unit(found_W * self.rarity_W)


@dataclass(frozen=True)
class LinearMap:
    """Compares what a query's features are mapped to with those of candidates: ridge regression on a training task."""

    plain: WordsAndColours
    weights_FF: Floats

    @classmethod
    def fitted(cls, task: Task, train: Task, ridge: float = 1.0) -> LinearMap:
        """Learn from the training queries and the first right answer of each."""
        plain = WordsAndColours.of(task)
        asked = {entry.id: entry for entry in train.queries}
        held = {entry.id: entry for entry in train.corpus}
        pairs = [(asked[query], held[next(iter(right))]) for query, right in train.relevant.items()]
        from_NF = np.stack([plain.features(query) for query, _ in pairs])
        to_NF = np.stack([plain.features(right) for _, right in pairs])
        # In terms of the queries: they are fewer than the features.
        kernel_NN = from_NF @ from_NF.T + ridge * np.eye(len(pairs), dtype=np.float32)
        return cls(plain, from_NF.T @ np.linalg.solve(kernel_NN, to_NF))

    def side(self, task: str, side: Side, entries: Sequence[Entry]) -> Embedded:
        """The vectors of a side, those of queries mapped."""
        found = self.plain.side(task, side, entries)
        if side == "document":
            return found
        features_NF = found.vectors[:, :-_NOISE]
        mapped_NF = features_NF @ self.weights_FF
        lengths_N1 = np.maximum(np.linalg.norm(mapped_NF, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return Embedded(np.concatenate([mapped_NF / lengths_N1, found.vectors[:, -_NOISE:]], axis=1), found.missing, "")


def picture(entry: Entry) -> Floats:
    """Colours and edges of an entry's picture, or of its frames on average; nothing without any.

    >>> bool(picture(Entry("1", text="no picture")).any())
    False
    """
    if entry.image is None and entry.video is None:
        return np.zeros(_PICTURE, np.float32)
    shown = frames(entry.video) if entry.image is None else [entry.image]
    return _unit(np.mean([_look(each) for each in shown], axis=0))


def _look(image: Any) -> Floats:
    """Root shares of colours and of edge directions, each of length 1 / √2."""
    small_HWC = np.asarray(image.convert("RGB").resize((64, 64)), np.int64)
    levels_HWC = small_HWC // 64
    codes_HW = levels_HWC @ np.array([16, 4, 1])
    colours = np.bincount(codes_HW.ravel(), minlength=_COLOURS)
    down_HW, across_HW = np.gradient(small_HWC.mean(axis=2))
    turns_HW = np.floor((np.arctan2(down_HW, across_HW) + math.pi) / (2 * math.pi) * 8).astype(np.int64) % 8
    rows_HW, columns_HW = np.indices((64, 64)) // 16
    places_HW = (rows_HW * 4 + columns_HW) * 8 + turns_HW
    edges = np.bincount(places_HW.ravel(), weights=np.hypot(down_HW, across_HW).ravel(), minlength=_EDGES)
    return np.concatenate([_unit(np.sqrt(colours)), _unit(np.sqrt(edges))])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _bucket(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big") % _WORDS


def _noise(side: str, name: str) -> Floats:
    """The same for the same entry, whatever stands beside it."""
    seed = int.from_bytes(hashlib.blake2b(f"{side} {name}".encode(), digest_size=8).digest(), "big")
    return _FAINT * np.random.default_rng(seed).standard_normal(_NOISE, np.float32)


def _unit(values: NDArray[Any]) -> Floats:
    length = float(np.linalg.norm(values))
    return (values / length if length else values).astype(np.float32)
