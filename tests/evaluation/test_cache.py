"""Embeddings are kept by content: nothing is computed twice, nothing stale is read, a killed run goes on."""

from __future__ import annotations

import multiprocessing
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import btoks
from btoks.evaluation import Entry, Task, encoding, evaluate
from btoks.evaluation.fingerprint import folder_key, media_key, model_key
from items import attached, clip, features, fresh, picture

WORDS = ["a red bus", "the garden", "two people read a book", "a lazy dog"]


def task(*, text: str = "a red bus", image: Any = None) -> Task:
    queries = [Entry(f"q{place}", text=word) for place, word in enumerate([text, *WORDS[1:]])]
    corpus = [Entry(f"d{place}", text=word, image=image) for place, word in enumerate(WORDS)]
    return Task("Some/Words", queries, corpus, {f"q{place}": {f"d{place}": 1.0} for place in range(4)}, metric="hit@1")


class Counted:
    """How many items were embedded, and how many came from the cache."""

    def __init__(self) -> None:
        self.fresh = self.cached = 0

    def __call__(self, count: int, cached: bool) -> None:
        if cached:
            self.cached += count
        else:
            self.fresh += count


def ran(model: Any, given: Task, cache: Path) -> tuple[Counted, Any]:
    counted = Counted()
    report = evaluate(model, [given], cache=cache, step=counted)
    return counted, report[given.name]


def test_a_second_run_embeds_nothing_and_finds_the_same(tmp_path: Path) -> None:
    model = attached("qwen3_vl")
    given = task(image=picture(1, 40, 60))
    first, before = ran(model, given, tmp_path)
    second, after = ran(model, given, tmp_path)
    assert (first.fresh, first.cached, second.fresh, second.cached) == (8, 0, 0, 8)
    assert after.predictions == before.predictions
    assert {path.parent.name for path in tmp_path.rglob("*.npz")} == {"Some_Words"}
    uncached = evaluate(model, [given])[given.name]
    assert uncached.predictions == before.predictions


def test_a_used_model_and_the_same_model_again_share_their_cache(tmp_path: Path) -> None:
    """How a tokenizer padded its last batch is no part of what a model is; where it lies is none either."""
    model = fresh("qwen3_vl")
    key = model_key(model)
    features(model, {"text": "short"}, {"text": "a much longer text than the other"})
    assert model_key(model) == key
    btoks.save(model, tmp_path / "model")
    assert model_key(model) == key
    assert model_key(btoks.load(tmp_path / "model", device="cpu")) == key


def weight(model: Any) -> None:
    model[0].model.get_input_embeddings().weight.data[0, 0] += 1e-3


def record(model: Any) -> None:
    model[0].config.btoks["max_tokens"] = 64


def template(model: Any) -> None:
    model[0].processor.chat_template = model[0].processor.chat_template.replace("\\n", "\\n\\n")


def pixels(model: Any) -> None:
    model[0].processor.image_processor.size = {"shortest_edge": 4096, "longest_edge": 4096}


def truncated(model: Any) -> None:
    model.truncate_dim = 32


def rope(model: Any) -> None:
    model[0].model.config.text_config.rope_parameters["rope_theta"] = 5000.0


@pytest.mark.parametrize("change", [weight, record, template, pixels, truncated, rope], ids=lambda each: each.__name__)
def test_a_changed_model_never_reads_what_the_other_left(change: Any, tmp_path: Path) -> None:
    model = fresh("qwen3_vl")
    ran(model, task(), tmp_path)
    change(model)
    counted, _ = ran(model, task(), tmp_path)
    assert (counted.fresh, counted.cached) == (8, 0)


def test_changed_inputs_are_embedded_anew_and_only_they(tmp_path: Path) -> None:
    model, file = attached("qwen3_vl"), tmp_path / "page.png"
    picture(1, 40, 60).save(file)
    ran(model, task(image=file), tmp_path / "cache")
    counted, _ = ran(model, task(text="another", image=file), tmp_path / "cache")
    assert (counted.fresh, counted.cached) == (4, 4)
    picture(2, 40, 60).save(file)
    counted, _ = ran(model, task(image=file), tmp_path / "cache")
    assert (counted.fresh, counted.cached) == (4, 4)
    asked = replace(task(image=file), queries=[replace(entry, instruction="Find:") for entry in task().queries])
    counted, _ = ran(model, asked, tmp_path / "cache")
    assert (counted.fresh, counted.cached) == (4, 4)


def test_a_file_that_comes_later_is_read(tmp_path: Path) -> None:
    given = task()
    corpus = [*given.corpus, Entry("late", image=tmp_path / "late.png")]
    given = replace(given, corpus=corpus)
    _, result = ran(attached("qwen3_vl"), given, tmp_path / "cache")
    assert list(result.missing_candidates) == ["late"]
    again, result = ran(attached("qwen3_vl"), given, tmp_path / "cache")
    assert again.fresh == 0
    assert list(result.missing_candidates) == ["late"]
    picture(1, 40, 60).save(tmp_path / "late.png")
    counted, result = ran(attached("qwen3_vl"), given, tmp_path / "cache")
    assert not result.missing_candidates
    assert counted.fresh == 5


def test_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    _, before = ran(attached("qwen3"), task(), tmp_path)
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:-40])
    counted, after = ran(attached("qwen3"), task(), tmp_path)
    assert counted.fresh == 8
    assert after.predictions == before.predictions
    assert ran(attached("qwen3"), task(), tmp_path)[0].fresh == 0


def test_a_model_with_something_installed_is_not_cached(tmp_path: Path) -> None:
    """What a hook does is not in the model's content."""
    model = attached("qwen3")
    ran(model, task(), tmp_path)
    handle = model[0].model.norm.register_forward_hook(lambda module, args, out: out.flip(-1) * 2 + 1)
    try:
        counted, _ = ran(model, task(), tmp_path)
    finally:
        handle.remove()
    assert counted.cached == 0
    assert ran(model, task(), tmp_path)[0].fresh == 0


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = attached("qwen3")
    whole = evaluate(model, [task()])["Some/Words"]
    monkeypatch.setattr(encoding, "CHUNK", 3)
    counted, parts = ran(model, task(), tmp_path)
    assert (counted.fresh, len(list(tmp_path.rglob("*.npz")))) == (8, 4)
    for one, other in zip(whole.predictions, parts.predictions, strict=True):
        assert one.ranking == other.ranking
        assert np.allclose(one.scores, other.scores, atol=1e-5)


_CHUNK = 4


def long() -> Task:
    entries = [Entry(f"e{place}", text=f"a text with the number {place}") for place in range(40)]
    return Task("Long", entries, entries, {entry.id: {entry.id: 1.0} for entry in entries}, metric="hit@1")


def slowly(cache: Path, told: Any) -> None:
    encoding.CHUNK = _CHUNK

    def step(count: int, cached: bool) -> None:
        told.send(count)
        time.sleep(0.3)

    evaluate(attached("qwen3"), [long()], cache=cache, step=step)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CHUNK", _CHUNK)
    new = multiprocessing.get_context("spawn")  # a fork would inherit locks that other threads hold
    heard, told = new.Pipe(duplex=False)
    child = new.Process(target=slowly, args=(tmp_path / "cache", told))
    child.start()
    kept = len([heard.recv() for _ in range(4)])
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    counted, have = ran(attached("qwen3"), long(), tmp_path / "cache")
    assert counted.cached >= _CHUNK * kept
    assert counted.fresh == 80 - counted.cached > 0
    assert have.predictions == ran(attached("qwen3"), long(), tmp_path / "other")[1].predictions
    assert not list((tmp_path / "cache").rglob(".*"))


@pytest.mark.parametrize(
    "value", [b"bytes", "https://example.org/a.png", picture(1), clip(1), [b"1", b"2"], btoks.Source(b"x", page=2)]
)
def test_media_are_named_by_their_content(value: Any) -> None:
    assert media_key(value) == media_key(value)
    others = [b"other", picture(2), clip(2), [b"1", b"3"], btoks.Source(b"x", page=3)]
    assert media_key(value) not in {media_key(other) for other in others}


def test_a_folder_is_named_by_every_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("one")
    before = folder_key(tmp_path)
    (tmp_path / "a" / "b").rename(tmp_path / "a" / "c")
    renamed = folder_key(tmp_path)
    (tmp_path / "a" / "c").write_text("two")
    assert len({before, renamed, folder_key(tmp_path)}) == 3
