"""A retrieval task as data: what is asked, among what, and what is right; and the checks it must pass.

Instruction, text and media stand apart: where an instruction goes is the model's own matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from btoks.errors import BtoksError


class DataError(BtoksError):
    """A task that cannot be scored as it is: names the task, what is wrong with it and the way out."""


@dataclass(frozen=True)
class Entry:
    """A query or a candidate.

    `image` and `video` are what `media.load` opens (path, URL, bytes, picture; a list of frames), or decoded already.
    `spacing` is the white space that a benchmark's own prompt has after the visual and at its end, for models trained
    on exactly that prompt. `broken` says why there is nothing to embed, where that is known before.
    """

    id: str
    text: str = ""
    instruction: str = ""
    image: Any = None
    video: Any = None
    spacing: tuple[str, str] | None = None
    broken: str = ""


@dataclass(frozen=True)
class Task:
    """Queries, the candidates of all, and per query what is relevant with its gain.

    With `candidates` a query is compared with its own list only, in that order, duplicates kept. `about` travels into
    the result as it is.

    >>> Task("one", [Entry("q", text="a dog")], [Entry("a", text="dog")], {"q": {"a": 1.0}}).metric
    'ndcg_linear@10'
    """

    name: str
    queries: Sequence[Entry]
    corpus: Sequence[Entry]
    relevant: Mapping[str, Mapping[str, float]]
    candidates: Mapping[str, Sequence[str]] | None = None
    metric: str = "ndcg_linear@10"
    about: Mapping[str, Any] = field(default_factory=dict)


def ids_of(entries: Sequence[Entry]) -> list[str]:
    """The ids of a side; a lazy sequence that knows them without opening its entries gives them itself."""
    known = getattr(entries, "ids", None)
    return list(known) if known is not None else [entry.id for entry in entries]


def check(task: Task) -> tuple[list[str], list[str]]:
    """The ids of queries and corpus of a task that can be scored; DataError for any other."""
    queries, corpus = ids_of(task.queries), ids_of(task.corpus)
    for what, ids in (("queries", queries), ("candidates", corpus)):
        if not ids:
            raise DataError(task.name, f"it has no {what}", "check its data")
        twice = [each for each, count in Counter(ids).items() if count > 1]
        if twice:
            raise DataError(task.name, f"{what} {twice[0]!r} stands twice", "give every one its own id")
    known = set(corpus)
    for query in queries:
        relevant = task.relevant.get(query)
        if not relevant:
            raise DataError(task.name, f"query {query!r} has nothing relevant", "label it, or leave it out")
        among = known if task.candidates is None else set(task.candidates.get(query, ()))
        lost = [each for each in relevant if each not in among]
        if lost:
            raise DataError(task.name, f"{lost[0]!r}, relevant to query {query!r}, is no candidate", "check its data")
        strange = [each for each in among if each not in known] if task.candidates is not None else []
        if strange:
            raise DataError(
                task.name, f"candidate {strange[0]!r} of query {query!r} is not in the corpus", "check its data"
            )
    return queries, corpus
