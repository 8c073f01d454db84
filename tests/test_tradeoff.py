"""The trade-off report: what it measures, what it recommends, and how the command shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import vectors
from btoks import methods, tradeoff
from btoks.errors import BtoksError
from btoks.library import Library
from btoks.tradeoff import Point, measuring, reading
from command import run


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "digits.npy"
    np.save(path, vectors.digits()[0][:500, ::4])
    return path


@pytest.fixture(scope="module")
def found(file: Path) -> tradeoff.Tradeoff:
    return tradeoff.tradeoff(tradeoff.read(file).rows_ND, min_quality=0.9)


def point(spec: str, size: int, ndcg: float, state: int = 0) -> Point:
    return Point(spec, size, state, ndcg, ndcg, 0.0)


def test_every_candidate_can_be_made_and_each_kind_is_there() -> None:
    for dim in (1, 2, 3, 4, 16, 256, 768):
        assert all(methods.create("quantize", spec) for spec in tradeoff.candidates(dim, slow=True))
    fast, every = (
        {spec.split(":")[0].split("+")[0] for spec in tradeoff.candidates(768, slow=slow)} for slow in (False, True)
    )
    assert every == set(methods.names("quantize")) - {"chain"}
    assert every - fast == {"autoencoder", "kernel_pca", "umap"}


def test_quality_counts_what_is_as_near_as_the_exact_tenth() -> None:
    exact = np.arange(20, dtype=np.float32)[None]
    assert tradeoff.quality(exact, exact) == (1.0, 1.0)
    assert tradeoff.quality(-exact, exact) == (0.0, 0.0)
    swapped = exact.copy()
    swapped[0, [9, 10]] = exact[0, [10, 9]]
    ndcg, recall = tradeoff.quality(swapped, exact)
    discount = 1 / np.log2(np.arange(2, 12))
    assert recall == 0.9
    assert np.isclose(ndcg, 1 - discount[-1] / discount.sum())
    assert tradeoff.quality(swapped, np.minimum(exact, 5)) == (1.0, 1.0), "equals may swap"


def test_the_front_is_what_no_other_beats(found: tradeoff.Tradeoff) -> None:
    rows = found.rows
    for each in found.points:
        beaten = any(o.total(rows) <= each.total(rows) and o.ndcg >= each.ndcg and o != each for o in found.points)
        strictly = any(
            (o.total(rows), -o.ndcg) != (each.total(rows), -each.ndcg)
            and o.total(rows) <= each.total(rows)
            and o.ndcg >= each.ndcg
            for o in found.points
        )
        assert (each in found.front) <= (not strictly)
        assert each in found.front or beaten
    assert found.front[-1].ndcg == 1.0


def test_what_is_kept_once_counts_in_a_small_collection() -> None:
    points = [point("plain", 16, 0.9), point("books", 4, 0.95, state=100_000)]
    assert [each.spec for each in tradeoff.front(points, 100)] == ["plain", "books"]
    assert [each.spec for each in tradeoff.front(points, 100_000)] == ["books"]


def test_the_smallest_that_is_good_enough_is_recommended() -> None:
    points = [point("a", 4, 0.8), point("b", 8, 0.992), point("c", 8, 0.995), point("d", 32, 1.0)]
    for budget, quality, spec, reached in (
        (None, 0.99, "c", True),
        (None, 0.5, "a", True),
        (None, 1.0, "d", True),
        (900, 0.999, "c", False),
        (500, 0.99, "a", False),
    ):
        chosen, fine = tradeoff.recommend(points, 100, budget, quality)
        assert (chosen.spec, fine) == (spec, reached)
        fits = [each for each in points if budget is None or each.total(100) <= budget]
        assert chosen in tradeoff.front(fits, 100)
    with pytest.raises(BtoksError, match="the smallest, a, takes 400 bytes for 100 vectors; give more"):
        tradeoff.recommend(points, 100, 399, 0.5)


def test_measured_bytes_and_quality_are_the_methods_own(found: tradeoff.Tradeoff) -> None:
    by = {each.spec: each for each in found.points}
    assert by["float32"].ndcg == by["float32"].recall == 1.0
    assert by["pca:0.5+int8"].bytes_per_vector == 8
    assert by["binary"].bytes_per_vector == 2
    assert by["binary"].recall < by["int4"].recall < by["int8"].recall
    assert found.recommended.ndcg >= 0.9
    assert found.reached


def test_a_large_collection_is_not_judged_by_what_it_was_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codebooks that learn a small sample by heart must not look exact."""
    monkeypatch.setattr(measuring, "STORED", 300)
    rows = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
    (large,) = tradeoff.measure(rows, ["residual:4"])
    (small,) = tradeoff.measure(rows[:330], ["residual:4"])
    assert small.recall > 0.9
    assert large.recall < 0.6


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("1.5 MiB", 1572864), ("300", 300), ("10k", 10_000), ("1tb", 10**12), ("7b", 7)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert tradeoff.amount(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "two", "nan", "inf", "1XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BtoksError, match="give bytes such as 500MB or 2GB"):
        tradeoff.amount(text)


def test_parquet_is_read_as_embed_writes_it(tmp_path: Path) -> None:
    rows = vectors.digits()[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    parquet.write_table(
        pa.table({"id": [str(n) for n in range(len(rows))], "embedding": column}), tmp_path / "v.parquet"
    )
    found = tradeoff.read(tmp_path / "v.parquet")
    assert np.array_equal(found.rows_ND, rows)
    assert found.names == [str(n) for n in range(len(rows))]


def test_the_command_prints_a_table_a_picture_and_one_recommendation(file: Path, tmp_path: Path) -> None:
    ran = run("tradeoff", file, "--min-quality", "0.9", "--plot", tmp_path / "plot.svg")
    assert ran.status == 0, ran.err
    last = ran.out.splitlines()[-1]
    assert last.startswith("→ ")
    spec = last.removeprefix("→ ").split(": ")[0]
    line = last.split("Apply it: ")[1]
    assert f'"{spec}"' in line
    names: dict[str, Any] = {"vectors": np.load(file)}
    exec(line, names)
    assert names["method"].encode(names["vectors"]).nbytes == 500 * names["method"].bytes_per_vector(16)
    assert sum(line.lstrip().startswith("→ ") for line in ran.out.splitlines()) == 2
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["plot.svg"]


def test_the_command_prints_one_object(file: Path) -> None:
    ran = run("tradeoff", file, "--budget", "6kB", "--min-quality", "1", "--rows", "1000", "--json")
    assert ran.status == 0, ran.err
    (told,) = ran.records
    assert set(told) == {"rows", "dim", "points", "front", "recommended", "reached", "apply"}
    assert (told["rows"], told["dim"], told["reached"]) == (1000, 16, False)
    chosen: dict[str, Any] = told["recommended"]
    assert chosen["bytes_per_vector"] * 1000 + chosen["state_nbytes"] <= 6_000
    assert chosen["spec"] in told["apply"]
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.npy"], "no such file"),
        (["pyproject.toml"], "neither a library nor vectors by its name"),
        (["{file}", "--budget", "1B"], "budget 1: the smallest"),
        (["{file}", "--budget", "lots"], "not a size"),
        (["{file}", "--plot", "plot.gif"], "end it in .png or .svg"),
        (["{file}", "--labels", "l.jsonl"], "give --queries as well"),
        (["{file}", "--queries", "{file}", "--labels", "no.jsonl"], "no.jsonl: cannot be read"),
    ],
)
def test_wrong_input_is_refused_in_one_line(file: Path, arguments: list[str], message: str) -> None:
    ran = run("tradeoff", *(each.format(file=file) for each in arguments))
    assert ran.status == 1
    assert message in ran.err.splitlines()[-1]


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(BtoksError, match="give 20 rows or more"):
        tradeoff.tradeoff(np.ones((19, 4), np.float32))


def own(rows: Any) -> tradeoff.Collection:
    return tradeoff.Collection(rows, [f"d{place}" for place in range(len(rows))])


def labelled(rows: Any, count: int = 30) -> tuple[tradeoff.Collection, dict[str, dict[str, float]]]:
    """Queries near a row each, which is what is right for them."""
    noise = np.random.default_rng(3).standard_normal((count, rows.shape[1])).astype(np.float32)
    queries = tradeoff.Collection(rows[:count] + 0.02 * noise, [f"q{place}" for place in range(count)])
    return queries, {f"q{place}": {f"d{place}": 1.0} for place in range(count)}


def test_with_labels_quality_is_the_share_of_the_task_that_is_kept() -> None:
    rows = vectors.digits()[0][:400]
    queries, labels = labelled(rows)
    exact, coarse = tradeoff.measure(own(rows), ["float32", "pca:2"], queries=queries, labels=labels)
    assert exact.kept == 1.0
    assert exact.task is not None
    assert coarse.task is not None
    assert exact.task > 0.9
    assert coarse.quality == coarse.task / exact.task < 0.6
    ranks = (np.argsort(-(queries.rows_ND @ rows.T)) == np.arange(30)[:, None]).argmax(axis=1)
    assert np.isclose(exact.task, np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean())


def test_what_is_relevant_is_stored_however_large_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "STORED", 60)
    rows = vectors.digits()[0][:400]
    queries, labels = labelled(rows)
    trial = measuring._trial(own(rows), queries, labels, 0)
    assert trial.relevant is not None
    assert len(trial.stored_ND) == len(trial.fit_ND) == 60
    for place, relevant in enumerate(trial.relevant):
        assert [np.array_equal(trial.stored_ND[at], rows[place]) for at in relevant] == [True]


def test_queries_of_another_kind_may_ask_without_labels() -> None:
    rows = vectors.digits()[0][:200]
    far = np.random.default_rng(0).standard_normal((50, rows.shape[1])).astype(np.float32)
    held, asked = (tradeoff.measure(rows, ["binary"], queries=queries)[0] for queries in (None, far))
    assert held.ndcg != asked.ndcg
    assert asked.task is None
    with pytest.raises(BtoksError, match="embed both by one model"):
        tradeoff.measure(rows, ["binary"], queries=far[:, 1:])
    with pytest.raises(BtoksError, match="give queries as well"):
        tradeoff.measure(rows, ["binary"], labels={"q": {"0": 1.0}})


def test_labels_of_what_is_not_there_are_refused() -> None:
    rows = vectors.digits()[0][:100]
    queries, labels = labelled(rows)
    for wrong, what in (({"q99": {"d1": 1.0}}, "queries"), ({"q1": {"x": 1.0}}, "vectors")):
        with pytest.raises(BtoksError, match=f"no such id among the {what}"):
            tradeoff.measure(own(rows), ["int8"], queries=queries, labels=labels | wrong)


def test_labels_are_lists_or_gains(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"query": "a", "relevant": ["x", 3]}\n\n{"query": 7, "relevant": {"y": 2}}\n', encoding="utf-8")
    assert tradeoff.labels(file) == {"a": {"x": 1.0, "3": 1.0}, "7": {"y": 2.0}}
    for wrong in ("", "[1]", '{"query": "a"}', '{"relevant": ["x"]}', '{"query": "a", "relevant": {"x": -1}}', "{"):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(BtoksError, match="write lines such as"):
            tradeoff.labels(file)


def test_a_library_is_measured_and_told_its_command(tmp_path: Path) -> None:
    rows = vectors.digits()[0][:120, ::4]
    library = Library.create(tmp_path / "my own", model=None)
    library.add_vectors([f"d{place}" for place in range(len(rows))], rows)
    found = tradeoff.read(library.path)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert sorted(found.names) == sorted(f"d{place}" for place in range(120))
    assert np.allclose(found.rows_ND[found.names.index("d7")], unit[7], atol=1e-6)
    np.save(tmp_path / "queries.npy", unit[:12])
    lines = "\n".join(json.dumps({"query": str(place), "relevant": [f"d{place}"]}) for place in range(12))
    (tmp_path / "labels.jsonl").write_text(lines, encoding="utf-8")
    asked = ("--queries", tmp_path / "queries.npy", "--labels", tmp_path / "labels.jsonl")
    ran = run("tradeoff", library.path, *asked, "--min-quality", "0.9")
    assert ran.status == 0, ran.err
    assert "of the task's score" in ran.out.splitlines()[-1]
    spec = ran.out.splitlines()[-1].removeprefix("→ ").split(": ")[0]
    assert ran.out.strip().endswith(f"btoks reindex '{library.path}' --quantize {spec}")


def test_of_a_large_library_a_sample_is_read_with_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btoks.library import store

    monkeypatch.setattr(store, "EXACT_BELOW", 100)
    monkeypatch.setattr(reading, "SAMPLE", 50)
    rows = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    library = Library.create(tmp_path / "large", model=None)
    library.add_vectors([f"d{place}" for place in range(300)], rows)
    found = tradeoff.read(library.path, ["d17", "d18"])
    assert len(found) == 300
    assert 50 <= len(found.rows_ND) <= 60
    assert {"d17", "d18"} <= set(found.names)


def test_a_compressed_library_has_no_exact_order(tmp_path: Path) -> None:
    library = Library.create(tmp_path / "small", model=None)
    library.add_vectors([str(place) for place in range(60)], vectors.digits()[0][:60, ::4])
    library.reindex(quantize="int8")
    with pytest.raises(BtoksError, match="compressed already"):
        tradeoff.read(library.path)
