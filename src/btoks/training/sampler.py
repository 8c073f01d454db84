"""Which rows make up which batch: blocks of one data set, drawn by weight, the same for the same seed.

    block (512 rows of one data set)  │ block of another …
    batch │ batch │ batch │ batch     │ batch │ …            a batch is spread over all devices

Every batch is full: a data set that ends begins again. Where a killed run stopped is a number of batches to skip.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Place(NamedTuple):
    """A row: its data set, its number there, and how often the data set was passed before."""

    dataset: int
    number: int
    passed: int


@dataclass(frozen=True)
class Plan:
    """The order of a whole run. `shuffled` data sets are read in a new order each time, the others as they lie.

    It ends after `steps` batches; without `steps`, when every data set was seen once (`stop="all"`) or when the next
    batch would begin one again (`stop="first"`).
    """

    lengths: tuple[int, ...]
    weights: tuple[float, ...]
    shuffled: tuple[bool, ...]
    batch: int
    block: int = 512
    steps: int | None = None
    stop: str = "all"
    seed: int = 0

    def batches(self) -> Iterator[list[Place]]:
        """The batches from the beginning.

        >>> plan = Plan(lengths=(4,), weights=(1.0,), shuffled=(False,), batch=2, block=2)
        >>> [[place.number for place in batch] for batch in plan.batches()]
        [[0, 1], [2, 3]]
        """
        return islice(self._endless(), self.steps)

    def count(self) -> int:
        """How many batches there are."""
        if self.steps is not None and self.stop == "all":
            return self.steps
        return sum(1 for _ in self.batches())

    def _endless(self) -> Iterator[list[Place]]:
        """Endless where the number of steps decides, else as long as `stop` says."""
        randomness = np.random.default_rng(self.seed)
        odds = np.asarray(self.weights) / sum(self.weights)
        given = [0] * len(self.lengths)
        order = _Order(self)
        while True:
            dataset = int(randomness.choice(len(self.lengths), p=odds))
            for _ in range(-(-self.block // self.batch)):
                if self._ends(given, dataset):
                    return
                yield [order.place(dataset, given[dataset] + offset) for offset in range(self.batch)]
                given[dataset] += self.batch

    def _ends(self, given: list[int], dataset: int) -> bool:
        if self.stop == "first":
            return given[dataset] + self.batch > self.lengths[dataset]
        seen = all(count >= length for count, length in zip(given, self.lengths, strict=True))
        return self.steps is None and seen


class _Order:
    """Row numbers by how many rows of a data set were given before."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kept: dict[int, tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]]] = {}

    def place(self, dataset: int, given: int) -> Place:
        passed, number = divmod(given, self.plan.lengths[dataset])
        if self.plan.shuffled[dataset]:
            if self.kept.get(dataset, (-1,))[0] != passed:
                randomness = np.random.default_rng([self.plan.seed, dataset, passed])
                self.kept[dataset] = passed, randomness.permutation(self.plan.lengths[dataset])
            number = int(self.kept[dataset][1][number])
        return Place(dataset, number, passed)


class Share:
    """One device's part of every batch, as torch's data loader takes it."""

    def __init__(self, plan: Plan, rank: int = 0, devices: int = 1) -> None:
        if plan.batch % devices:
            raise BtoksError(f"batch={plan.batch}", f"it cannot be shared by {devices} devices", "pass a multiple")
        self.plan, self.rank, self.size = plan, rank, plan.batch // devices
        self._count = plan.count()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[Place]]:
        first = self.rank * self.size
        for batch in self.plan.batches():
            yield batch[first : first + self.size]
