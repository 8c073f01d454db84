"""Ranking metrics as pure functions of one ranking and its relevant items, in the variants the benchmark reports.

L = relevant items, d_i = i-th ranked item, gain(d) = relevant[d]

hit@k       1 if any of d_1 … d_k is in L             precision@k  |{d_1 … d_k} ∩ L| / k
recall@k    |{d_1 … d_k} ∩ L| / |L|                   f1@k         2PR / (P + R)
map@k       Σ_{i≤k, d_i ∈ L} P(i) / min(|L|, k)       mrr@k        1 / rank of the first of L within k, else 0
ndcg_*@k    Σ_{i≤k} g(d_i) / log2(i + 1), over that of the best order of L; g is the gain or 2^gain − 1
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

FAMILIES = ("hit", "ndcg_linear", "ndcg_exponential", "precision", "recall", "f1", "map", "mrr")
_GAINS: dict[str, Callable[[float], float]] = {"linear": float, "exponential": lambda gain: 2.0**gain - 1.0}


def score(
    ranking: Sequence[Hashable], relevant: Mapping[str, float], ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Every metric of one ranking at every k, by name.

    `relevant` maps an item to its gain; an item of gain 0 is relevant and adds nothing to nDCG. Without any relevant
    item recall is 1 and all else 0: whoever evaluates refuses such a query before.

    >>> score(["b", "a"], {"a": 1.0}, ks=(1,))["hit@1"], score(["b", "a"], {"a": 1.0}, ks=(5,))["mrr@5"]
    (0.0, 0.5)
    """
    ks = sorted(set(ks))
    table: dict[str, dict[int, float]] = {family: {} for family in FAMILIES}
    for k in ks:
        top = ranking[:k]
        hits = [item in relevant for item in top]
        found = len({item for item in top if item in relevant})
        precision = found / k
        recall = found / len(relevant) if relevant else 1.0
        first = hits.index(True) + 1 if any(hits) else None
        table["hit"][k] = float(first is not None)
        for name, gain in _GAINS.items():
            table[f"ndcg_{name}"][k] = _ndcg(top, relevant, gain, k)
        table["precision"][k], table["recall"][k] = precision, recall
        table["f1"][k] = 2 * precision * recall / (precision + recall) if precision and recall else 0.0
        table["map"][k] = _average_precision(hits, min(len(relevant), k))
        table["mrr"][k] = 1.0 / first if first else 0.0
    return {f"{family}@{k}": table[family][k] for family in FAMILIES for k in ks}


def mean(scores: Collection[Mapping[str, float]]) -> dict[str, float]:
    """The plain mean of every metric over queries.

    >>> mean([{"hit@1": 1.0}, {"hit@1": 0.0}])
    {'hit@1': 0.5}
    """
    names = next(iter(scores), {})
    return {name: math.fsum(each[name] for each in scores) / len(scores) for name in names}


def chance(metric: str, candidates: int, relevant: Mapping[str, float]) -> float | None:
    """What a random order of the candidates gets on average; None for a metric without a simple closed form.

    >>> chance("recall@1", 10, {"a": 1.0})
    0.1
    """
    family, _, at = metric.partition("@")
    k = min(int(at), candidates)
    share = len(relevant) / candidates
    if family == "hit":
        return 1.0 - math.comb(candidates - len(relevant), k) / math.comb(candidates, k)
    if family in ("precision", "recall"):
        return k * share / (int(at) if family == "precision" else len(relevant))
    if not family.startswith("ndcg_"):
        return None
    gain = _GAINS[family.removeprefix("ndcg_")]
    expected = math.fsum(gain(each) for each in relevant.values()) / candidates * math.fsum(_discounts(k))
    best = _ideal(relevant, gain, int(at))
    return expected / best if best else 0.0


def _ndcg(top: Sequence[Hashable], relevant: Mapping[str, float], gain: Callable[[float], float], k: int) -> float:
    gains: Mapping[Hashable, float] = {item: gain(value) for item, value in relevant.items()}
    got = math.fsum(gains.get(item, 0.0) * each for item, each in zip(top, _discounts(len(top)), strict=True))
    best = _ideal(relevant, gain, k)
    return got / best if best else 0.0


def _ideal(relevant: Mapping[str, float], gain: Callable[[float], float], k: int) -> float:
    gains = sorted(map(gain, relevant.values()), reverse=True)[:k]
    return math.fsum(value * each for value, each in zip(gains, _discounts(len(gains)), strict=True))


def _discounts(count: int) -> list[float]:
    return [1.0 / math.log2(place + 1) for place in range(1, count + 1)]


def _average_precision(hits: Sequence[bool], most: int) -> float:
    total, found = 0.0, 0
    for place, hit in enumerate(hits, 1):
        found += hit
        total += hit * found / place
    return total / most if most else 0.0
