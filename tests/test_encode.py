"""The stream from items to embeddings: order, budget, laziness, bad items, threads, prompts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import btoks
from btoks import encode
from btoks.errors import BtoksError
from items import KINDS, WORDS, attached, clip, fresh, near, picture, streamed, threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

TEXTS = [{"text": " ".join(WORDS[: 1 + place * 7 % 15])} for place in range(12)]
MIXED = [*KINDS.values(), *TEXTS, {"image": picture(9, 80, 80)}]


def watched(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and padded length of every batch the model is given."""
    shapes: list[tuple[int, int]] = []
    forward = model.forward

    def noted(features: dict[str, Any], **options: Any) -> Any:
        shapes.append(tuple(features["attention_mask"].shape))
        return forward(features, **options)

    monkeypatch.setattr(model, "forward", noted)
    return shapes


@pytest.mark.parametrize("budget", [1, 30, 100, 1000, 16_384])
@pytest.mark.parametrize("name", ["qwen3_vl", "gemma3", "llava_onevision"])
def test_the_results_are_those_of_encode_whatever_the_budget(name: str, budget: int, small_windows: int) -> None:
    model = attached(name)
    expected = np.concatenate([model.encode([btoks.fit(model, item)]) for item in MIXED])
    found = list(btoks.encode_stream(model, MIXED, max_batch_tokens=budget))
    assert [out.index for out in found] == list(range(len(MIXED)))
    assert all(out.error is None for out in found)
    near(np.stack([out.embedding for out in found]), expected)
    assert found[0].embedding.dtype == np.float32


@pytest.mark.parametrize("name", ["qwen3_vl", "llava_onevision", "qwen3"])
def test_no_batch_is_larger_than_the_budget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted with the padding; an item that is longer by itself has a batch by itself."""
    model = attached(name)
    items = [item for item in MIXED if name != "qwen3" or set(item) == {"text"}]
    shapes = watched(model, monkeypatch)
    for budget in (40, 160, 640):
        shapes.clear()
        streamed(model, items, max_batch_tokens=budget)
        assert sum(rows for rows, _ in shapes) == len(items)
        assert all(rows * length <= budget or rows == 1 for rows, length in shapes)
        assert budget == 40 or max(rows for rows, _ in shapes) > 2


def test_what_comes_longer_than_thought_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate may be off; the budget still holds."""
    model = attached("qwen3")
    monkeypatch.setattr(encode, "cost", lambda *_: 1)
    shapes = watched(model, monkeypatch)
    items = [{"text": " ".join(WORDS)} for _ in range(9)]
    near(streamed(model, items, max_batch_tokens=80), model.encode(items))
    assert all(rows * length <= 80 for rows, length in shapes[:-1])


def test_items_are_pulled_as_they_are_needed(small_windows: int) -> None:
    """An endless stream works; at most two windows are read ahead of what has come out."""
    model, pulled = attached("qwen3"), itertools.count()
    seen = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal seen
        for seen in pulled:
            yield {"text": WORDS[seen % len(WORDS)]}

    stream = btoks.encode_stream(model, endless())
    for out in itertools.islice(stream, 50):
        assert seen < out.index + 1 + 3 * small_windows
    stream.close()
    far = seen
    assert far < 50 + 3 * small_windows


def test_big_items_fill_a_window_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays flat however large the pictures are: a window also ends by its bytes."""
    monkeypatch.setattr(encode, "_WINDOW_BYTES", 100_000)
    model, seen = attached("qwen3_vl"), [0]

    def pictures() -> Iterator[dict[str, Any]]:
        for seed in range(40):
            seen[0] += 1
            yield {"image": picture(seed, 100, 150)} if seed % 2 else {"video": clip(seed)}

    stream = btoks.encode_stream(model, pictures())
    next(stream)
    assert seen[0] <= 12
    stream.close()


def test_whoever_stops_early_leaves_nothing_running(small_windows: int) -> None:
    model, closed = attached("qwen3"), []

    def items() -> Iterator[str]:
        try:
            yield from itertools.cycle(WORDS)
        finally:
            closed.append(True)

    stream = btoks.encode_stream(model, items())
    assert threads() == [], "nothing runs before the first result is asked for"
    next(stream)
    assert threads() == ["btoks-reader"]
    stream.close()
    assert threads() == []
    for out in btoks.encode_stream(model, items()):
        if out.index == 3:
            break
    del out
    assert len(closed) >= 1


def test_nothing_in_nothing_out() -> None:
    assert list(btoks.encode_stream(attached("qwen3"), [])) == []


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "find: ", "document": "know: "},
        {"query": "find: ", "document": ""},
        {"query": "find: ", "passage": "know: "},
        {"query": "find: ", "corpus": "know: "},
        {"document": "know: "},
        {},
    ],
)
@pytest.mark.parametrize("default", [None, "query"])
def test_tasks_have_the_prompts_of_sentence_transformers(prompts: dict[str, str], default: str | None) -> None:
    model = fresh("qwen3_vl")
    model.prompts, model.default_prompt_name = prompts, default if default in prompts else None
    items = [KINDS["text"], KINDS["image + text"], KINDS["image"]]
    near(streamed(model, items, task="query"), model.encode_query(items))
    near(streamed(model, items, task="document"), model.encode_document(items))
    near(streamed(model, items), model.encode(items))
    near(streamed(model, items, prompt="else: ", task="query"), model.encode(items, prompt="else: "))
    near(streamed(model, items, prompt="", task="query"), model.encode(items, prompt=""))


def test_mistyped_options_are_told() -> None:
    for options in ({"max_batch_tokens": 0}, {"on_error": "ignore"}, {"task": "qeury"}):
        with pytest.raises(BtoksError):
            list(btoks.encode_stream(attached("qwen3"), ["fox"], **options))
    plain = fresh("qwen3")
    del plain[0].config.btoks
    with pytest.raises(BtoksError, match=r"btoks\.attach"):
        list(btoks.encode_stream(plain, ["fox"]))
