"""Retrieval from long texts: a fact in a haystack, to be found by a question about it (after LongEmbed, 2404.12096).

    passkey   "The pass key of Ada Brook is 48213." in sentences that say next to nothing
    needle    "Ada Brook keeps a blue heron in Lisbon." in prose that comes along

For each length there are as many candidates as are asked for, each with one fact about a person of its own at a depth
of its own, and questions about the first of them. What is read beyond the window is read by a policy, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks import methods
from btoks.bottleneck import generator, record
from btoks.bundled import sample
from btoks.encode import encode_stream
from btoks.errors import BtoksError, did_you_mean
from btoks.methods.pooling.chain import led

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

TASKS = ("passkey", "needle")
CUT, PLAIN = "cut", "plain"
LENGTHS = (256, 512, 1024)
_SLACK = 128  # tokens that the prompt and its bottleneck tokens may take beside a text of the stated length
_FIRST = "Ada Ben Cleo Dan Eva Finn Gus Hana Ida Jon Kay Leo Mia Ned Ora Pia Quin Ray Sue Tom"
_LAST = "Brook Cole Dale Elm Ford Grove Hill Iver Jett Kerr Lake Marsh North Oaks Pond Reed Shaw Thorn Vale West"
_COLOURS, _ANIMALS = "red blue green white black brown grey golden", "heron fox otter hare owl lynx goat swan"
_CITIES = "Lisbon Oslo Cairo Lima Hanoi Perth Quito Bergen"
_DULL = (
    "The road goes on past the house.",
    "Rain falls and then it stops again.",
    "A door stands open at the end of the hall.",
    "Nothing much has changed since the morning.",
    "The clock in the kitchen says what it always says.",
)


@dataclass(frozen=True)
class Hay:
    """Candidates of one length, the questions about the first of them, and the token at which each fact begins."""

    texts: list[str]
    questions: list[str]
    begins: list[int]


@dataclass(frozen=True)
class Line:
    """How often the right candidate came first: over all questions, and over those whose fact lies past the window."""

    task: str
    length: int
    policy: str
    accuracy: float
    beyond: float | None
    seconds: float


def policies() -> tuple[str, ...]:
    """What there is to compare: the text cut to the window, the model as it is, and every position policy."""
    from btoks.methods.pooling.longembed import POLICIES

    return (CUT, PLAIN, *POLICIES)


def measure(
    model: SentenceTransformer,
    *,
    tasks: Sequence[str] = TASKS,
    lengths: Sequence[int] = LENGTHS,
    window: int | None = None,
    chosen: Sequence[str] | None = None,
    queries: int = 50,
    candidates: int = 100,
    seed: int = 0,
    done: Callable[[Line], None] = lambda _: None,
) -> list[Line]:
    """Accuracy at 1 of every task, length and policy; `window` is by default what the configuration names.

    >>> measure(btoks.load("btoks-mini"), lengths=[256], window=64)  # doctest: +SKIP
    """
    chosen = policies() if chosen is None else tuple(chosen)
    for name, known in [*((task, TASKS) for task in tasks), *((policy, policies()) for policy in chosen)]:
        if name not in known:
            raise BtoksError(repr(name), "there is none", did_you_mean(name, known))
    if not 1 <= queries <= candidates <= len(people()):
        raise BtoksError(
            f"{queries} queries, {candidates} candidates", "no such benchmark", "pass 1 ≤ queries ≤ candidates ≤ 400"
        )
    window = window or int(generator(model).get_decoder().config.max_position_embeddings)
    lines = []
    for task in tasks:
        for length in lengths:
            made = hay(task, length, model.tokenizer, candidates=candidates, queries=queries, seed=seed)
            for policy in chosen:
                lines.append(_scored(model, task, length, made, policy, window))
                done(lines[-1])
    return lines


def hay(task: str, length: int, tokenizer: Any, *, candidates: int = 100, queries: int = 50, seed: int = 0) -> Hay:
    """The texts and questions of one length, about `length` tokens each and never more."""
    rng = np.random.default_rng([seed, length, TASKS.index(task)])
    straw = _straw(task, tokenizer)
    made = Hay([], [], [])
    for name in rng.permutation(people())[:candidates]:
        fact, question = _fact(task, name, rng)
        room = length - _count(tokenizer, f" {fact} ")
        if room < 0:
            raise BtoksError(f"length {length}", "a fact alone takes more tokens", "pass larger ones")
        before, after = _around(straw, room, rng)
        made.texts.append(" ".join([*before, fact, *after]))
        made.questions.append(question)
        made.begins.append(_count(tokenizer, " ".join([*before, ""])))
    return Hay(made.texts, made.questions[:queries], made.begins)


def people() -> list[str]:
    """Whom the facts are about: 400 names.

    >>> people()[0]
    'Ada Brook'
    """
    return [f"{first} {last}" for first in _FIRST.split() for last in _LAST.split()]


def _fact(task: str, name: str, rng: np.random.Generator) -> tuple[str, str]:
    if task == "passkey":
        return f"The pass key of {name} is {rng.integers(10_000, 100_000)}.", f"What is the pass key of {name}?"
    colour, animal, city = (str(rng.choice(words.split())) for words in (_COLOURS, _ANIMALS, _CITIES))
    return f"{name} keeps a {colour} {animal} in {city}.", f"What does {name} keep, and where?"


def _straw(task: str, tokenizer: Any) -> list[tuple[str, int]]:
    """The sentences that hide facts, with their tokens."""
    found = list(_DULL)
    if task == "needle":
        texts = (file.read_text(encoding="utf-8") for file in sorted((sample() / "notes").glob("*.txt")))
        found = [line.strip() for text in texts for line in text.replace(". ", ".\n").splitlines() if line.strip()]
    return [(line, _count(tokenizer, f" {line}")) for line in found]


def _around(straw: list[tuple[str, int]], room: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Sentences for the room there is, and which of them stand before the fact."""
    lines: list[str] = []
    at = int(rng.integers(len(straw)))
    while (room := room - straw[at % len(straw)][1]) >= 0:
        lines.append(straw[at % len(straw)][0])
        at += 1
    cut = int(rng.integers(len(lines) + 1))
    return lines[:cut], lines[cut:]


def _count(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False).input_ids)


def _scored(model: SentenceTransformer, task: str, length: int, made: Hay, policy: str, window: int) -> Line:
    start = time.perf_counter()
    with _reading(model, policy, window, length):
        asked_QD = _embedded(model, made.questions, "query")
        held_ND = _embedded(model, made.texts, "document")
    from btoks.evaluation.ranking import rank_all

    relevant = [np.array([place]) for place in range(len(asked_QD))]
    places_QK, _ = rank_all(asked_QD, held_ND, 1, relevant=relevant)
    right_Q = places_QK[:, 0] == np.arange(len(asked_QD))
    past_Q = np.array(made.begins[: len(asked_QD)]) >= window
    beyond = float(right_Q[past_Q].mean()) if past_Q.any() else None
    return Line(task, length, policy, float(right_Q.mean()), beyond, time.perf_counter() - start)


def _embedded(model: SentenceTransformer, texts: list[str], task: Any) -> NDArray[np.float32]:
    found = [out.embedding for out in encode_stream(model, [{"text": text} for text in texts], task=task)]
    return np.stack([vector for vector in found if vector is not None])


@contextmanager
def _reading(model: SentenceTransformer, policy: str, window: int, length: int) -> Iterator[None]:
    """Let the model read texts of this length by a policy."""
    notes = record(model)
    before = notes["max_tokens"]
    notes["max_tokens"] = window if policy == CUT else max(length, window) + _SLACK
    try:
        if policy in (CUT, PLAIN):
            yield
            return
        extended = methods.create("pooling", {"name": "longembed", "policy": policy, "window": window})
        with methods.apply(model, led(notes["pooling"], extended)):
            yield
    finally:
        notes["max_tokens"] = before
