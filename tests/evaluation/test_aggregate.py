"""Scores brought together by hand sums, and models side by side."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.evaluation import rendering
from btoks.evaluation.aggregate import Scores, aggregate, read
from btoks.evaluation.compare import compare
from btoks.evaluation.mmeb.registry import select, table

ROWS = table()


def scores(seed: int = 0) -> dict[str, float]:
    dice = random.Random(seed)
    return {row.name: dice.random() for row in ROWS}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_means_are_plain_and_every_data_set_counts_the_same() -> None:
    given = scores()
    found = aggregate(given)
    for task, score in found.meta_task.items():
        assert score == pytest.approx(mean([given[row.name] for row in ROWS if row.meta_task == task]), abs=1e-12)
    for kind, score in found.modality.items():
        assert score == pytest.approx(mean([given[row.name] for row in ROWS if row.modality == kind]), abs=1e-12)
    for group in ("ViDoRe-V1", "ViDoRe-V2", "VisRAG", "OOD"):
        assert found.group[group] == pytest.approx(mean([given[row.name] for row in select(task=group)]), abs=1e-12)
    assert found.overall == pytest.approx(mean(list(given.values())), abs=1e-12)
    assert found.overall != pytest.approx(mean(list(found.modality.values())), abs=1e-3)
    assert found.dataset == given
    assert found.missing == []
    assert list(found.record()) == ["dataset", "meta_task", "modality", "overall", "missing"]


def test_an_incomplete_group_has_no_mean() -> None:
    given = scores()
    del given["K700"], given["VisDial"]
    found = aggregate(given)
    assert found.missing == ["VisDial", "K700"]
    assert (found.overall, found.modality["video"], found.modality["image"]) == (None, None, None)
    assert (found.meta_task["V-CLS"], found.meta_task["I-RET"]) == (None, None)
    assert found.meta_task["V-MR"] is not None
    assert found.modality["visdoc"] is not None
    partial = aggregate(given, partial=True)
    assert partial.missing == found.missing
    assert partial.meta_task["V-CLS"] == pytest.approx(
        mean([given[row.name] for row in select(task="V-CLS") if row.name != "K700"])
    )
    assert partial.overall == pytest.approx(mean(list(given.values())))


def test_a_data_set_that_there_is_not() -> None:
    with pytest.raises(BtoksError, match="MomentSeeker_1k8: no data set"):
        aggregate({"MomentSeeker_1k8": 0.5})


def submission(given: dict[str, float], *, revision: str = "fixed", **more: Any) -> dict[str, Any]:
    """A file as the leaderboard has it."""
    metrics: dict[str, dict[str, Any]] = {}
    for row in select(revision=revision):
        score = given.get(row.name)
        value = "FILE_N/A" if score is None else {row.metric: score, "hit@10": 1.0, "num_pred": 1, "num_data": 1}
        metrics.setdefault(row.modality, {})[row.published] = value
    for kind, entries in more.items():
        metrics[kind] |= entries
    return {"metadata": {"model_name": "theirs"}, "metrics": metrics}


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("revision", ["fixed", "2.0"])
def test_the_leaderboards_file_under_old_and_new_names(revision: str, tmp_path: Path) -> None:
    extra = {"MomentSeeker_1k8": {"hit@1": 0.0}}
    found = read([written(tmp_path / "a.json", submission(scores(), revision=revision, video=extra))])
    assert (found.model, found.revision, found.dataset) == ("theirs", revision, scores())


def test_what_was_not_run_is_missing(tmp_path: Path) -> None:
    given = scores()
    del given["MSVD"]
    found = read([written(tmp_path / "a.json", submission(given))])
    assert aggregate(found.dataset).missing == ["MSVD"]


def test_revisions_are_never_mixed(tmp_path: Path) -> None:
    both = {"ViDoSeek-page": {"ndcg_linear@5": 0.2}}
    with pytest.raises(BtoksError, match="mixes page sets"):
        read([written(tmp_path / "a.json", submission(scores(), visdoc=both))])
    ours = {"dataset": "ViDoSeek-page", "score": 0.5, "revision": "2.0"}
    theirs = {"dataset": "MMLongBench-page", "score": 0.5, "revision": "fixed"}
    files = [written(tmp_path / f"{each['dataset']}_score.json", each) for each in (ours, theirs)]
    with pytest.raises(BtoksError, match=r"revisions 2\.0 and fixed"):
        read(files)
    same = written(tmp_path / "VOC2007_score.json", {"dataset": "VOC2007", "score": 0.5, "revision": "2.0"})
    assert read([files[1], same]).revision == "fixed"


def run(folder: Path, name: str, hits: dict[str, list[int]]) -> Path:
    """A run's folder."""
    folder.mkdir()
    for dataset, values in hits.items():
        model = {"name": name, "revision": "abc"}
        record = {"dataset": dataset, "score": mean(values), "revision": "fixed", "official": True, "model": model}
        written(folder / f"{dataset}_score.json", record)
        lines = (json.dumps({"query": str(query), "value": value}) for query, value in enumerate(values))
        (folder / f"{dataset}_pred.jsonl").write_text("\n".join(lines))
    return folder


def test_parts_of_one_model_are_one_and_of_two_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "a", "mine", {"VOC2007": [1, 0]})
    second = run(tmp_path / "b", "mine", {"SUN397": [1, 1]})
    assert read([first, second]).dataset == {"VOC2007": 0.5, "SUN397": 1.0}
    other = run(tmp_path / "c", "yours", {"SUN397": [1, 1]})
    with pytest.raises(BtoksError, match="models mine@abc and yours@abc"):
        read([first, other])
    again = run(tmp_path / "d", "mine", {"SUN397": [0, 0]})
    with pytest.raises(BtoksError, match=r"SUN397: it scores 1.0 in one file and 0.0"):
        read([second, again])


@pytest.mark.parametrize("text", ["", "[]", '{"metrics": 3}', '{"dataset": "VOC2007"}'])
def test_a_file_that_is_no_result(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BtoksError, match="no readable result"):
        read([tmp_path / "x.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BtoksError, match="holds no"):
        read([tmp_path / "empty"])


def model(seed: int, better: float = 0.0) -> Scores:
    """Fifty queries a data set, right with a probability of its own that `better` adds to."""
    dice = np.random.default_rng(7)
    own = np.random.default_rng(seed)
    queries = {}
    for row in ROWS:
        chances = dice.random(50) * 0.8 + better
        queries[row.name] = {str(place): float(own.random() < chance) for place, chance in enumerate(chances)}
    return Scores(f"m{seed}", {name: mean(list(each.values())) for name, each in queries.items()}, "fixed", (), queries)


def test_intervals_hold_the_difference_and_only_a_real_one_keeps_off_zero() -> None:
    first, same, better = model(1), model(2), model(3, 0.1)
    lines = {line.name: line for line in compare([first, same, better], draws=400)}
    assert len(lines) == 9 + 3 + 1
    for line in lines.values():
        for score, between in zip(line.scores[1:], line.intervals, strict=True):
            assert between is not None
            assert line.scores[0] is not None
            assert score is not None
            assert between[0] < score - line.scores[0] < between[1]
    everything = lines["all"]
    assert everything.intervals[0] is not None
    assert everything.intervals[1] is not None
    assert everything.intervals[0][0] < 0 < everything.intervals[0][1]
    assert everything.intervals[1][0] > 0
    small = lines["V-MR"].intervals[1]
    assert small is not None
    assert small[1] - small[0] > 3 * (everything.intervals[1][1] - everything.intervals[1][0])
    assert compare([first, same, better], draws=400) == list(lines.values())


def test_intervals_are_paired() -> None:
    """Models that are right on nearly the same queries differ surely, however hard the queries are."""
    first = model(1)
    queries = {name: dict(each) for name, each in first.queries.items()}
    for each in queries.values():
        wrong = [query for query, value in each.items() if not value]
        each[wrong[0]] = 1.0
    second = Scores("m", {name: mean(list(each.values())) for name, each in queries.items()}, "fixed", (), queries)
    (between,) = compare([first, second], draws=400)[-1].intervals
    assert between is not None
    assert 0.01 < between[0] < 0.02 < between[1] < 0.03


def test_without_queries_there_are_no_intervals_and_without_data_sets_no_means() -> None:
    bare = Scores("bare", model(2).dataset, "fixed")
    assert all(line.intervals == (None,) for line in compare([model(1), bare], draws=10))
    short = Scores("short", {row.name: 0.5 for row in select(task="V-MR")}, "fixed")
    lines = {line.name: line for line in compare([model(1), short])}
    assert lines["V-MR"].scores[1] == 0.5
    assert lines["I-CLS"].scores[1] is None
    assert lines["all"].scores[1] is None
    partial = {line.name: line for line in compare([model(1), short], partial=True)}
    assert partial["all"].scores[1] == 0.5
    assert partial["all"].scores[0] == partial["V-MR"].scores[0] == lines["V-MR"].scores[0]


def test_every_form_says_the_same() -> None:
    names, lines = ["a|b", "<c>"], compare([model(1), model(2)], draws=50)
    overall = [f"{score * 100:.1f}" for score in lines[-1].scores if score is not None]
    markdown = rendering.shown(names, lines, "md").splitlines()
    assert markdown[0] == "|  | a\\|b | <c> |"
    assert markdown[-1].startswith(f"| all | {overall[0]} | {overall[1]} [")
    record = json.loads(rendering.shown(names, lines, "json"))
    assert record["rows"][-1]["scores"] == dict(zip(names, lines[-1].scores, strict=True))
    assert record["rows"][-1]["intervals"]["<c>"] == list(lines[-1].intervals[0] or ())
    rows = rendering.shown(names, lines, "csv").splitlines()
    assert rows[0] == "kind,name,a|b,<c>,<c> low,<c> high"
    assert float(rows[-1].split(",")[2]) == lines[-1].scores[0]
    page = rendering.shown(names, lines, "html")
    assert "<c>" not in page
    assert "&lt;c&gt;" in page
    assert f"<td>{overall[0]}<td>{overall[1]} [" in page
    assert page.count("<svg") == 1


def test_a_bar_is_as_tall_as_its_score() -> None:
    lines = compare([model(1), Scores("none", {}, "fixed")])
    root = ET.fromstring(rendering.bars(["one", "none"], lines))
    bars = [each for each in root.iter() if each.tag.endswith("rect") and len(each)]
    tall = [float(each.attrib["height"]) for each in bars]
    want = [line.scores[0] for line in lines if line.kind == "meta_task"]
    assert len(bars) == 9
    assert tall == pytest.approx([tall[0] / (want[0] or 1) * (score or 0) for score in want], abs=0.2)
