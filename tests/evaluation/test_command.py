"""`btoks eval`: from the command line to the files and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import btoks
from btoks.evaluation.mmeb.registry import select
from btoks.evaluation.progress import Progress
from command import run
from evaluation import mmeb_folder
from items import attached


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, data of two meta-tasks, and a run."""
    home = tmp_path_factory.mktemp("eval")
    btoks.save(attached("qwen3_vl"), home / "model")
    mmeb_folder.write(home / "data", [*select(task="V-MR"), *select(task="OOD")])
    return home


def evaluated(home: Path, out: str, *options: str) -> list[object]:
    return [
        *("eval", "mmeb-v2", "--model", home / "model", "--data", home / "data", "--out", home / out),
        *("--cache", home / "cache", "--device", "cpu", *options),
    ]


def test_a_run_its_files_and_its_aggregate(home: Path) -> None:
    ran = run(*evaluated(home, "first", "--task", "V-MR", "--any-counts", "--json"))
    assert ran.status == 0, ran.err
    (record,) = ran.records
    assert list(record["dataset"]) == ["QVHighlight", "Charades-STA", "MomentSeeker"]
    assert record["meta_task"]["V-MR"] == pytest.approx(sum(record["dataset"].values()) / 3)
    assert record["overall"] is None
    assert len(record["missing"]) == 75
    assert "query prompt: '<0.2 seconds><|vision_start|><|video_pad|><|vision_end|>" in ran.err
    summary = json.loads((home / "first" / "summary.json").read_text())
    assert summary["settings"]["frames"] == 8
    assert summary["datasets"]["MomentSeeker"]["official"] is False
    again = run("eval", "aggregate", home / "first", "--json")
    assert again.records == [{key: record[key] for key in ("dataset", "meta_task", "modality", "overall", "missing")}]
    assert "missing 75 of 78: ImageNet-1K" in again.err
    assert "unofficial, other counts than the benchmark's: Charades-STA" in again.err
    partial = run("eval", "aggregate", home / "first", "--json", "--partial")
    assert partial.records[0]["overall"] == pytest.approx(record["meta_task"]["V-MR"])
    table = run("eval", "aggregate", home / "first")
    assert f"{record['meta_task']['V-MR'] * 100:.2f}" in table.out


def test_our_submission_file_is_read_as_the_leaderboards(home: Path) -> None:
    run(*evaluated(home, "pages", "--task", "OOD", "--any-counts"))
    metrics = json.loads((home / "pages" / "leaderboard.json").read_text())["metrics"]["visdoc"]
    pages = ["ViDoSeek-page-fixed", "ViDoSeek-doc", "MMLongBench-page-fixed", "MMLongBench-doc"]
    assert [key for key, value in metrics.items() if value != "FILE_N/A"] == pages
    assert len(metrics) == 24
    ours = run("eval", "aggregate", home / "pages", "--json").records
    assert run("eval", "aggregate", home / "pages" / "leaderboard.json", "--json").records == ours


def test_counts_stop_a_run_and_the_others_go_on(home: Path) -> None:
    ran = run(*evaluated(home, "counted", "--task", "V-MR"))
    assert ran.status == 1
    assert "failed MomentSeeker: MomentSeeker: 3 queries where there should be 1602; use --any-counts" in ran.err
    assert json.loads((home / "counted" / "summary.json").read_text())["datasets"] == {}


def test_models_side_by_side(home: Path) -> None:
    for out, frames in (("a", "8"), ("b", "1")):
        assert run(*evaluated(home, out, "--task", "V-MR", "--any-counts", "--frames", frames)).status == 0
    plot = home / "bars.svg"
    ran = run("eval", "compare", home / "a", home / "b", "--format", "json", "--plot", plot)
    (record,) = ran.records
    assert record["models"] == ["a", "b"]
    rows = {each["name"]: each for each in record["rows"]}
    assert rows["V-MR"]["intervals"]["b"] is not None
    assert rows["all"]["scores"] == {"a": None, "b": None}
    assert plot.read_text().startswith("<svg")
    assert run("eval", "compare", home / "a", home / "b").out.startswith("|  | a | b |")
    assert "did you mean 'html'" in run("eval", "compare", home / "a", "--format", "htm").line


def test_the_list() -> None:
    assert len(run("eval", "list", "--json").records) == 78
    (row,) = run("eval", "list", "--dataset", "K700", "--json").records
    assert (row["queries"], row["corpus"], row["metric"], row["repo"]) == (1000, 700, "hit@1", "VLM2Vec/Kinetics-700")
    assert "ViDoRe_tatdqa" in run("eval", "list", "--modality", "visdoc").out
    assert "did you mean 'V-MR'?" in run("eval", "list", "--task", "V-M").line


def test_what_is_wrong_is_one_line(home: Path) -> None:
    assert "not a folder" in run("eval", "mmeb-v2", "--data", home / "nowhere").line
    assert "did you mean 'fixed'" in run(*evaluated(home, "x", "--revision", "fixd")).line
    assert "no readable result" in run("eval", "aggregate", home / "model" / "config.json").line


def test_progress_guesses_what_is_left_from_what_was_embedded() -> None:
    progress = Progress({"a": 100, "b": 300}, share=2)
    assert progress.left() is None
    progress.begin("a", 200)
    progress.step(50, cached=True)
    assert (progress.left(), progress.done) == (None, 100)
    progress.step(50, cached=False)
    progress.seconds = 10.0
    assert progress.left() == pytest.approx(300 * 10.0 / 100)
    assert progress.line() == "1 of 2 data sets, 200 of 500 items, 30 s left"
    progress.begin("b", 100)
    assert progress.line() == "2 of 2 data sets, 200 of 300 items, 10 s left"
