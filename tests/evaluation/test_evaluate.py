"""One way from tasks to a report: what is scored, what is refused, what is counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from btoks.errors import BtoksError
from btoks.evaluation import DataError, Entry, Task, evaluate, metrics
from btoks.evaluation.run import Unloaded
from items import attached, fresh, picture, streamed

WORDS = ["a red bus", "the garden", "two people read a book", "a lazy dog", "the station page", "a quick fox"]


def task(name: str = "Words", **changes: Any) -> Task:
    queries = [Entry(f"q{place}", text=f"find {text}", instruction="Find it:") for place, text in enumerate(WORDS)]
    corpus = [Entry(f"d{place}", text=text) for place, text in enumerate(WORDS)]
    relevant = {f"q{place}": {f"d{place}": 2.0, f"d{(place + 1) % 6}": 1.0} for place in range(6)}
    return replace(Task(name, queries, corpus, relevant, metric="ndcg_linear@5"), **changes)


def cosines(model: Any) -> np.ndarray:
    queries = streamed(model, [{"text": f"find {text}"} for text in WORDS], prompt="Find it:")
    return queries @ streamed(model, [{"text": text} for text in WORDS]).T


@pytest.mark.parametrize("own", [False, True], ids=["all candidates", "own lists"])
def test_scores_are_those_of_the_models_own_embeddings(own: bool) -> None:
    model = attached("qwen3")
    lists = (
        {f"q{place}": [f"d{place}", f"d{(place + 1) % 6}", f"d{(place + 3) % 6}"] for place in range(6)}
        if own
        else None
    )
    result = evaluate(model, [task(candidates=lists)])["Words"]
    table = cosines(model)
    want = []
    for place, prediction in enumerate(result.predictions):
        among = lists[f"q{place}"] if lists else [f"d{each}" for each in range(6)]
        ranking = sorted(among, key=lambda each, place=place: -table[place, int(each[1:])])
        assert list(prediction.ranking) == ranking
        assert prediction.scores == pytest.approx([table[place, int(each[1:])] for each in ranking], abs=1e-5)
        want.append(metrics.score(ranking, task().relevant[f"q{place}"]))
    assert result.metrics == pytest.approx(metrics.mean(want), abs=1e-9)
    assert result.score == result.metrics["ndcg_linear@5"]


def test_instructions_are_part_of_what_is_embedded() -> None:
    model = attached("qwen3")
    plain = replace(task(), queries=[replace(entry, instruction="") for entry in task().queries])
    first, second = (evaluate(model, [each])["Words"] for each in (task(), plain))
    assert first.predictions[0].scores != second.predictions[0].scores
    assert first.prompts["query"] == "Find it: find a red bus\n<|btok_0|><|btok_1|><|btok_2|><|btok_3|>"
    assert second.prompts["query"] == "find a red bus\n<|btok_0|><|btok_1|><|btok_2|><|btok_3|>"


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no label": ({"relevant": {f"q{place}": {"d0": 1.0} for place in range(5)}}, "query 'q5' has nothing relevant"),
    "empty label": (
        {"relevant": {f"q{place}": {} for place in range(6)}},
        "query 'q0' has nothing relevant",
    ),
    "label outside": ({"relevant": {f"q{place}": {"x": 1.0} for place in range(6)}}, "'x', relevant to"),
    "label not in own list": (
        {"candidates": {f"q{place}": ["d3"] for place in range(6)}},
        "'d0', relevant to query 'q0'",
    ),
    "unknown candidate": (
        {"candidates": {f"q{place}": ["x", *(f"d{each}" for each in range(6))] for place in range(6)}},
        "candidate 'x' of query 'q0' is not in the corpus",
    ),
    "twice": ({"queries": [*task().queries, task().queries[0]]}, "queries 'q0' stands twice"),
    "nothing": ({"corpus": []}, "no candidates"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_data_that_cannot_be_scored_are_refused(case: str) -> None:
    changes, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        evaluate(attached("qwen3"), [task(**changes)])


@pytest.mark.parametrize("metric", ["ndcg@5", "hit", "hit@0", "hit@x"])
def test_a_metric_that_there_is_not(metric: str) -> None:
    with pytest.raises(BtoksError, match="no metric"):
        evaluate(attached("qwen3"), [task(metric=metric)])


def test_weights_that_are_no_numbers_are_an_error() -> None:
    model = fresh("qwen3")
    model[0].model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(BtoksError, match="NaN"):
        evaluate(model, [task()])


def test_one_task_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    unloaded = Unloaded("Gone", BtoksError("Gone", "no such folder", "complete it"))
    tasks = [task("First"), unloaded, task("Empty", relevant={}), task("Last")]
    report = evaluate(attached("qwen3"), tasks, on_error="skip", out=tmp_path)
    assert list(report.scores()) == ["First", "Last"]
    assert list(report.failed) == ["Gone", "Empty"]
    assert json.loads((tmp_path / "summary.json").read_text())["failed"] == report.failed
    with pytest.raises(BtoksError, match=r"Gone: no result .*no such folder"):
        report["Gone"]


def shown(tmp_path: Path) -> Task:
    """Pictures as queries and as candidates; one of each is broken, one of each is not there."""
    files = []
    for place in range(6):
        files.append(tmp_path / f"{place}.png")
        picture(place, 40, 60).save(files[-1])
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[2].unlink()
    queries = [Entry(f"q{place}", image=file) for place, file in enumerate(files)]
    corpus = [Entry(f"d{place}", image=str(file), text="page") for place, file in enumerate(files)]
    return Task("Pages", queries, corpus, {f"q{place}": {f"d{place}": 1.0} for place in range(6)}, metric="hit@5")


@pytest.mark.parametrize("own", [False, True], ids=["all candidates", "own lists"])
def test_media_that_cannot_be_opened_are_misses_and_are_counted(tmp_path: Path, own: bool) -> None:
    given = shown(tmp_path)
    given = replace(
        given,
        queries=[*given.queries, Entry("q6", broken="no folder v6")],
        relevant={**given.relevant, "q6": {"d0": 1.0}},
    )
    if own:
        given = replace(given, candidates={query.id: [f"d{place}" for place in range(6)] for query in given.queries})
    result = evaluate(attached("qwen3_vl"), [given])["Pages"]
    assert set(result.missing_queries) == {"q1", "q2", "q6"}
    assert set(result.missing_candidates) == {"d1", "d2"}
    assert result.missing_queries["q6"] == "no folder v6"
    assert "2.png" in result.missing_queries["q2"]
    hits = [prediction.value for prediction in result.predictions]
    assert hits == [1, 0, 0, 1, 1, 1, 0]
    assert result.score == 4 / 7
    assert [len(each.ranking) for each in result.predictions] == [4, 0, 0, 4, 4, 4, 0]
    record = result.record()
    assert record["missing_media"] == {"queries": 3, "candidates": 2}
    assert record["metrics"]["num_pred"] == record["metrics"]["num_data"] == 7
    assert sum("count as misses" in warning for warning in result.warnings) == 2


def test_a_side_of_which_nothing_can_be_embedded_is_an_error() -> None:
    gone = task(corpus=[Entry(f"d{place}", image=f"/nowhere/{place}.png") for place in range(6)])
    with pytest.raises(BtoksError, match="no document can be embedded"):
        evaluate(attached("qwen3_vl"), [gone])
    with pytest.raises(BtoksError, match="this model takes text"):
        evaluate(attached("qwen3"), [task(corpus=[Entry(f"d{place}", image=picture(place)) for place in range(6)])])


def test_a_score_at_chance_is_a_warning() -> None:
    """Equal vectors: all is tied, what is relevant comes last."""
    same = task(corpus=[Entry(f"d{place}", text="same") for place in range(6)], metric="hit@1")
    result = evaluate(attached("qwen3"), [same])["Words"]
    assert result.score == 0.0
    assert result.chance == pytest.approx(2 / 6)
    assert any("is chance (0.3333)" in warning for warning in result.warnings)


def test_a_score_above_chance_is_none() -> None:
    copies = task(queries=[Entry(f"q{place}", text=text) for place, text in enumerate(WORDS)], metric="hit@1")
    result = evaluate(attached("qwen3"), [copies])["Words"]
    assert result.score == 1.0
    assert not result.warnings


def test_a_model_in_training_is_evaluated_as_it_will_be_used_and_goes_on_training() -> None:
    model = fresh("qwen3")
    want = evaluate(model, [task()])["Words"].predictions
    for layer in model[0].model.layers:
        layer.mlp = torch.nn.Sequential(layer.mlp, torch.nn.Dropout(0.5))
    model.train()
    assert evaluate(model, [task()])["Words"].predictions == want
    assert model.training
    model.eval()
    evaluate(model, [task()])
    assert not model.training


def read(folder: Path) -> Mapping[str, Any]:
    return {file.name: json.loads(file.read_text()) for file in folder.glob("*.json")}


def test_the_files_of_a_run(tmp_path: Path) -> None:
    about = {"modality": "image", "meta_task": "I-CLS", "revision": "fixed", "official": True, "key": "Published"}
    report = evaluate(attached("qwen3_vl"), [task(about=about)], out=tmp_path, name="mine", settings={"frames": 8})
    files = read(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "Words_pred.jsonl",
        "Words_score.json",
        "leaderboard.json",
        "summary.json",
    ]
    model = files["summary.json"]["model"]
    assert (model["name"], model["layout"], model["padding"], model["precision"]) == (
        "mine",
        "btoks",
        "right",
        "float32",
    )
    assert model["pooling"]["name"] == "mean"
    assert set(model["pixels"]) >= {"shortest_edge", "longest_edge"}
    assert files["summary.json"]["settings"] == {"max_batch_tokens": 16_384, "frames": 8}
    assert {"btoks", "torch", "transformers"} <= set(files["summary.json"]["versions"])
    assert files["summary.json"]["datasets"]["Words"]["score"] == report["Words"].score
    assert files["Words_score.json"]["prompts"] == report["Words"].prompts
    entry = files["leaderboard.json"]["metrics"]["image"]["Published"]
    assert entry == {**report["Words"].metrics, "num_pred": 6, "num_data": 6}
    assert files["leaderboard.json"]["metadata"]["model_name"] == "mine"
    lines = [json.loads(line) for line in (tmp_path / "Words_pred.jsonl").read_text().splitlines()]
    for line, prediction in zip(lines, report["Words"].predictions, strict=True):
        again = metrics.score(line["ranking"], line["relevant"])
        assert again["ndcg_linear@5"] == line["value"] == prediction.value
