"""Metrics equal the reference vectors; chance is what random orders get."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from btoks.evaluation import metrics

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def scored(name: str, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    case = CASES[name]
    return metrics.score(case["ranking"], dict(case["relevant"]), ks)


@pytest.mark.parametrize("name", CASES)
def test_every_value_of_every_vector(name: str) -> None:
    have = scored(name)
    assert list(have) == GOLDEN["order"]
    assert have == pytest.approx(CASES[name]["scores"], abs=1e-9, rel=0)


@pytest.mark.parametrize("batch", GOLDEN["means"], ids=lambda batch: str(batch["ks"]))
def test_means_over_queries(batch: dict) -> None:
    have = metrics.mean([scored(name, tuple(batch["ks"])) for name in batch["cases"]])
    assert list(have) == list(batch["scores"])
    assert have == pytest.approx(batch["scores"], abs=1e-9, rel=0)


def test_the_gain_stays_with_its_page_whatever_the_order_of_the_labels() -> None:
    ranking, gains = [7, 31, 5, 32], [(31, 3.0), (32, 1.0), (5, 2.0)]
    want = metrics.score(ranking, dict(gains))
    assert all(metrics.score(ranking, dict(random.Random(seed).sample(gains, 3))) == want for seed in range(6))


@pytest.mark.parametrize(
    "metric", ["hit@1", "hit@5", "precision@5", "recall@5", "ndcg_linear@5", "ndcg_exponential@10"]
)
@pytest.mark.parametrize(("candidates", "gains"), [(12, (1.0,)), (8, (3.0, 1.0, 2.0)), (4, (2.0, 2.0))])
def test_chance_is_the_mean_over_random_orders(metric: str, candidates: int, gains: tuple[float, ...]) -> None:
    relevant = dict(zip("abc", gains, strict=False))
    items = [*relevant, *range(candidates - len(relevant))]
    dice = random.Random(0)
    k = int(metric.partition("@")[2])
    drawn = [metrics.score(dice.sample(items, candidates), relevant, (k,))[metric] for _ in range(4000)]
    assert metrics.chance(metric, candidates, relevant) == pytest.approx(sum(drawn) / 4000, abs=0.03)


def test_metrics_without_a_closed_form_have_no_chance() -> None:
    assert metrics.chance("mrr@10", 10, {"a": 1.0}) is None
