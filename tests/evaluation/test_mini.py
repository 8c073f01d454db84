"""The mini benchmark: its data, its baselines, and the command that shows a model beside them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import btoks
from btoks import methods
from btoks.bundled import benchmark, captions, sample
from btoks.evaluation import Entry, Task, evaluate, mini
from btoks.evaluation.baselines import LinearMap, WordsAndColours
from btoks.evaluation.metrics import chance
from btoks.evaluation.mini import LAST, LINEAR, OWN, RANDOM, WORDS, Bench, baselines, data_key, measure
from btoks.evaluation.mmeb.registry import META_TASKS
from btoks.evaluation.run import evaluate_task
from btoks.evaluation.task import check
from command import run
from evaluation.record_folder import write
from items import attached

LIMITS = json.loads((Path(__file__).parents[2] / "tools" / "mini.json").read_text(encoding="utf-8"))["folders"]
FILES = [path for path in benchmark().rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and small data, with a training split for some tasks."""
    home = tmp_path_factory.mktemp("mini")
    btoks.save(attached("qwen3_vl"), home / "model")
    write(home / "data")
    return home


def look(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB").resize((8, 8)), np.float32).ravel()


def test_the_bundled_tasks_can_be_scored_and_are_as_many_as_the_table_says() -> None:
    found = Bench.of().tasks
    for task in found:
        check(task)
        folder, _, kind = task.name.partition("-")
        assert len(task.queries) == LIMITS[folder]["tasks"][kind]["queries"], task.name
        lists = [task.corpus.ids] if task.candidates is None else task.candidates.values()
        assert min(map(len, lists)) >= 2, task.name
    assert len(found) == sum(len(settings["tasks"]) for settings in LIMITS.values())
    assert list(dict.fromkeys(task.about["meta_task"] for task in found)) == list(META_TASKS)


def test_every_bundled_side_opens_and_every_file_is_one() -> None:
    used = set()
    for task in Bench.of().tasks:
        for entries in (task.queries, task.corpus):
            assert not any(entry.broken for entry in entries), task.name
            for side in entries.sides.values():
                named = [side.get("image"), side.get("page"), *side.get("video", ())]
                used |= {entries.home / each for each in named if each}
    assert used == {path for path in FILES if path.suffix == ".webp"}


def test_the_bundled_data_are_small_and_licensed() -> None:
    size = sum(path.stat().st_size for path in FILES)
    assert size <= 7_000_000
    assert size + sum(path.stat().st_size for path in sample().rglob("*") if path.is_file()) <= 12_000_000
    text = (benchmark() / "LICENSES.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert {row[0] for row in rows} == {path.parent.name for path in FILES if path.name == "records.jsonl"}
    for _, origin, commit, licence, author in rows:
        assert re.fullmatch(r"https://github\.com/[^/ ]+/[^/ ]+", origin)
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
        assert re.match(r"CC BY|CC0|MIT|Apache|public domain", licence)
        assert author
    assert not re.search(r"cran|dmgnn|cmu", " ".join(row[1] for row in rows), re.IGNORECASE)


def test_nothing_bundled_for_testing_is_in_the_sample() -> None:
    """The sample is trained on: no picture of it, nor a text of a page, is asked for here."""
    theirs = np.stack([look(Image.open(path)) for path in sample().rglob("*") if path.suffix in (".jpg", ".png")])
    for path in benchmark().rglob("*.webp"):
        if path.parent.parent.name in ("aquarium", "cards", "grocery", "recipes", "flags", "emoji"):
            with Image.open(path) as image:
                assert np.abs(theirs - look(image)).mean(axis=1).min() > 4, path
    told = {text for caption in captions() if caption.path.suffix == ".pdf" for text in caption.texts}
    for task in Bench.of().tasks:
        if task.about["meta_task"] == "VD":
            assert not told & {entry.text for entry in task.queries}


def test_stored_scores_are_of_these_data() -> None:
    for file in benchmark().glob("*.json"):
        held = json.loads(file.read_text(encoding="utf-8"))
        assert held["data"] == data_key(benchmark())
        assert all(list(scores) == [task.name for task in Bench.of().tasks] for scores in held["scores"].values())


def test_the_command(home: Path) -> None:
    """Every column is what it says, every mean the plain mean over data sets."""
    model, out = home / "model", home / "out"
    ran = run(*("eval", "mini", "--model", model, "--data", home / "data", "--out", out, "--device", "cpu", "--json"))
    assert ran.status == 0, ran.err
    (record,) = ran.records
    bench = Bench.of(home / "data")
    columns = {OWN: evaluate(attached("qwen3_vl"), bench.tasks).scores()}
    with methods.apply(attached("qwen3_vl"), methods.create("pooling", "last_input")) as by_last:
        columns[LAST] = evaluate(by_last, bench.tasks).scores()
    columns[WORDS] = baselines(bench.tasks, {})[WORDS]
    columns[RANDOM] = {"toys-image_cls": 1 / 4, "toys-t2i": 1 / 3, "toys-image_vg": 1 / 3, "films-video_mret": 1 / 3}
    assert set(next(iter(record["dataset"].values()))) == {"queries", OWN, LAST, WORDS, RANDOM}
    for column, scores in columns.items():
        for name, score in scores.items():
            assert record["dataset"][name][column] == pytest.approx(score), (column, name)
    for name, chosen in {"I-RET": ["toys-i2t", "toys-t2i"], "VD": ["papers-visdoc"]}.items():
        for column in columns:
            mean = np.mean([record["dataset"][each][column] for each in chosen])
            assert record["meta_task"][name][column] == pytest.approx(mean)
    assert record["overall"][OWN] == pytest.approx(np.mean(list(columns[OWN].values())))
    assert record["overall"]["queries"] == sum(each["queries"] for each in record["dataset"].values()) == 18
    assert len((out / "papers-visdoc_pred.jsonl").read_text().splitlines()) == 3
    assert json.loads((out / "summary.json").read_text())["settings"]["data"] == data_key(home / "data")
    assert not (out / "leaderboard.json").exists()


def test_the_command_on_what_comes_along(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored scores of another model stand beside the model's, those with pages as pictures where these are asked."""
    shutil.copytree(home / "data", tmp_path / "data")
    names = [task.name for task in Bench.of(tmp_path / "data").tasks]
    scores = {"layers": dict.fromkeys(names, 0.75), "pictures": dict.fromkeys(names, 0.25)}
    (tmp_path / "data" / "twin.json").write_text(json.dumps({"name": "twin", "scores": scores}))
    monkeypatch.setattr(mini, "benchmark", lambda: tmp_path / "data")
    ran = run("eval", "mini", "--model", home / "model", "--no-layers", "--device", "cpu")
    assert ran.status == 0, ran.err
    head, *rows = [line.split("  ") for line in ran.out.splitlines() if line.strip()]
    assert "twin" in " ".join(head)
    assert sum("25.0" in " ".join(row) for row in rows) >= len(names)


def test_without_bottleneck_tokens_the_last_input_token_is_the_model(home: Path) -> None:
    heard: list[str] = []
    bench = Bench.of(home / "data")
    found = measure(attached("qwen3_vl", tokens=0), bench, begin=lambda name, _: heard.append(name))
    assert all(line.scores[OWN] == line.scores[LAST] for line in found.lines)
    assert heard == list(bench.passes())


def test_what_is_wrong_is_one_line(home: Path) -> None:
    assert "not a folder" in run("eval", "mini", "--data", home / "nowhere").line
    wrong = run("eval", "mini", "--model", home / "model", "--split", "dev")
    assert "split 'dev': no record is of it" in wrong.line


def coloured(names: str, size: int = 24) -> list[Entry]:
    """Pictures of one colour each, brighter and darker ones, with the colour's word in another language's stead."""
    colours = {"r": (220, 30, 30), "g": (30, 200, 40), "b": (30, 40, 210), "y": (220, 220, 40)}
    made = []
    for place, name in enumerate(names):
        share = 0.8 + 0.2 * (place % 3) / 2
        made.append(
            Entry(f"{name}{place}", image=Image.new("RGB", (size, size), tuple(int(c * share) for c in colours[name])))
        )
    return made


def named(queries: list[Entry]) -> Task:
    """From a picture of one colour to the colour's name."""
    words = {"r": "a red one", "g": "a green one", "b": "a blue one", "y": "a yellow one"}
    corpus = [Entry(name, text=text) for name, text in words.items()]
    return Task("Colours", queries, corpus, {query.id: {query.id[0]: 1.0} for query in queries}, metric="hit@1")


def test_words_find_texts_and_colours_find_pictures() -> None:
    texts = [Entry("a", text="The quick brown fox"), Entry("b", text="a lazy dog"), Entry("c", text="a dog, a fox")]
    task = Task("Words", [Entry("q", text="FOX: quick!")], texts, {"q": {"a": 1.0}}, metric="hit@1")
    assert evaluate_task(WordsAndColours.of(task), task).predictions[0].ranking == ("a", "c", "b")
    pictures = Task("Pictures", coloured("rgby"), coloured("yybbggrr", 40), {}, metric="hit@1")
    task = replace(
        pictures, relevant={q.id: {d.id: 1.0 for d in pictures.corpus if d.id[0] == q.id[0]} for q in pictures.queries}
    )
    assert evaluate_task(WordsAndColours.of(task), task).score == 1.0


def test_what_shares_no_kind_is_at_chance_and_stays_where_it_is() -> None:
    """Nothing tells them apart: neither all right nor all wrong, and the same whatever stands beside."""
    queries = [Entry(f"q{place}", text="which?") for place in range(400)]
    task = replace(named(coloured("rgby")), queries=queries, relevant={q.id: {"r": 1.0} for q in queries})
    task = replace(task, corpus=coloured("rgby"), relevant={q.id: {"r0": 1.0} for q in queries})
    result = evaluate_task(WordsAndColours.of(task), task)
    assert chance("hit@1", 4, {"r0": 1.0}) == 0.25
    assert result.score == pytest.approx(0.25, abs=0.08)
    part = replace(task, queries=queries[100:200], relevant={q.id: {"r0": 1.0} for q in queries[100:200]})
    again = evaluate_task(WordsAndColours.of(part), part).predictions
    assert [each.ranking for each in again] == [each.ranking for each in result.predictions[100:200]]


def test_a_linear_map_learns_what_counting_cannot() -> None:
    task, train = named(coloured("rgbyrgbyrgby")), named(coloured("rgby" * 3))
    assert evaluate_task(LinearMap.fitted(task, train), task).score == 1.0
    assert evaluate_task(WordsAndColours.of(task), task).score < 1.0
    assert set(baselines([task], {"Colours": train})) == {WORDS, LINEAR}
    assert set(baselines([task], {})) == {WORDS}
