"""Rankings as batched matrix products: a block of queries at a time against all it must be compared with.

    Q queries, N candidates, D dimensions, B queries of a block, U distinct vectors of a block, k places kept

Cost: 2·Q·N·D operations and, beside the inputs, about `_SCORES` scores at a time. The order is total: score, then what
is relevant behind what is not, then the id. Equal vectors are compared once, so that they have equal scores whatever
the matrix product does at its edges: a model that maps everything to one vector gets nothing right by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_SCORES = 1 << 24
_PAIRS = 1 << 16


def rank_all(
    queries_QD: Floats,
    corpus_ND: Floats,
    depth: int,
    *,
    relevant: Sequence[Ints] | None = None,
    order_N: Ints | None = None,
    states: int = 1,
) -> tuple[Ints, Floats]:
    """The best `depth` of all candidates for every query, as (places in the corpus, scores).

    `relevant` holds the places of each query's relevant candidates, `order_N` the candidates' order among equals.
    Where a vector is `states` vectors side by side, they are compared by MaxSim.

    >>> rank_all(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 1)[0].tolist()
    [[0], [1]]
    """
    import torch

    check(queries_QD, "query")
    check(corpus_ND, "candidate")
    shape = len(queries_QD), (depth := min(depth, len(corpus_ND)))
    places_QK, scores_QK = np.empty(shape, np.int64), np.empty(shape, np.float32)
    distinct_U, of_N = _distinct(corpus_ND)
    vectors_UD = torch.from_numpy(corpus_ND if len(distinct_U) == len(corpus_ND) else corpus_ND[distinct_U])
    block = max(1, _SCORES // max(states * len(vectors_UD), 1))
    ties = _Ties(of_N, np.arange(len(corpus_ND)) if order_N is None else order_N, relevant, depth)
    keep = min(depth + 1, len(distinct_U))
    for start in range(0, len(queries_QD), block):
        scores_BU = _scores(torch.from_numpy(queries_QD[start : start + block]), vectors_UD, states)
        top = scores_BU.topk(keep, dim=1)
        best_BK, at_BK = top.values.numpy(), top.indices.numpy()
        tied_B = (best_BK[:, 1:] == best_BK[:, :-1]).any(axis=1) | ties.shared_U[at_BK].any(axis=1)
        if keep >= depth:
            rows = slice(start, start + len(best_BK))
            places_QK[rows], scores_QK[rows] = distinct_U[at_BK[:, :depth]], best_BK[:, :depth]
        for row in np.flatnonzero(tied_B | (keep < depth)).tolist():
            one = start + row
            places_QK[one], scores_QK[one] = ties.resolve(one, scores_BU[row].numpy(), best_BK[row])
    return places_QK, scores_QK


def rank_lists(
    queries_QD: Floats,
    corpus_ND: Floats,
    lists: Sequence[Ints],
    *,
    relevant: Sequence[Ints] | None = None,
    order_N: Ints | None = None,
    states: int = 1,
) -> list[tuple[Ints, Floats]]:
    """Every query's own list of candidates in its order, duplicates kept, as (places in the corpus, scores).

    >>> rank_lists(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), [np.array([1, 0]), np.array([1])])[0][0]
    array([0, 1])
    """
    import torch

    check(queries_QD, "query")
    check(corpus_ND, "candidate")
    distinct_U, of_N = _distinct(corpus_ND)
    order_N = np.arange(len(corpus_ND)) if order_N is None else order_N
    longest = max(map(len, lists), default=1)
    block = max(1, min(1024, _PAIRS // max(longest, 1)))
    out = []
    for start in range(0, len(queries_QD), block):
        chosen = [of_N[each] for each in lists[start : start + block]]
        union_U, inverse = np.unique(np.concatenate(chosen), return_inverse=True) if chosen else (of_N[:0], of_N[:0])
        own_BD = torch.from_numpy(queries_QD[start : start + block])
        scores_BU = _scores(own_BD, torch.from_numpy(corpus_ND[distinct_U[union_U]]), states).numpy()
        ends = np.cumsum([len(each) for each in chosen])
        for row, at_C in enumerate(np.split(inverse, ends[:-1])):
            places_C = lists[start + row]
            scores_C = scores_BU[row, at_C]
            order_C = _order(scores_C, places_C, order_N, None if relevant is None else relevant[start + row])
            out.append((places_C[order_C], scores_C[order_C]))
    return out


def _scores(queries_BD: Tensor, vectors_UD: Tensor, states: int) -> Tensor:
    from btoks.similarity import maxsim

    return queries_BD @ vectors_UD.T if states == 1 else maxsim(queries_BD, vectors_UD, states)


def check(vectors_ND: Floats, what: str) -> None:
    """Refuse vectors that are not numbers: compared with them, anything could come first."""
    bad = np.flatnonzero(~np.isfinite(vectors_ND).all(axis=1))
    if len(bad):
        raise BtoksError(
            f"{what} {bad[0]}", "its embedding holds NaN or infinity", "check the model's weights and precision"
        )


class _Ties:
    """Rows where scores coincide or candidates share a vector, put into the total order one by one."""

    def __init__(self, of_N: Ints, order_N: Ints, relevant: Sequence[Ints] | None, depth: int) -> None:
        self.of_N, self.order_N, self.relevant, self.depth = of_N, order_N, relevant, depth
        self.shared_U = np.bincount(of_N) > 1

    def resolve(self, query: int, scores_U: Floats, best_K: Floats) -> tuple[Ints, Floats]:
        least = best_K[min(self.depth, len(best_K)) - 1]
        places = np.flatnonzero((scores_U >= least)[self.of_N])
        scores = scores_U[self.of_N[places]]
        relevant = None if self.relevant is None else self.relevant[query]
        order = _order(scores, places, self.order_N, relevant)[: self.depth]
        return places[order], scores[order]


def _order(scores_C: Floats, places_C: Ints, order_N: Ints, relevant: Ints | None) -> Ints:
    behind_C = np.isin(places_C, relevant) if relevant is not None else np.zeros(len(places_C), bool)
    return np.lexsort((order_N[places_C], behind_C, -scores_C))


def _distinct(vectors_ND: Floats) -> tuple[Ints, Ints]:
    """The place of every distinct vector's first copy, and the number of each candidate's vector among these."""
    seen: dict[bytes, int] = {}
    numbers = (seen.setdefault(_digest(row_D), len(seen)) for row_D in vectors_ND)
    of_N = np.fromiter(numbers, np.int64, len(vectors_ND))
    first_U = np.full(len(seen), len(vectors_ND), np.int64)
    np.minimum.at(first_U, of_N, np.arange(len(vectors_ND)))
    return first_U, of_N


def _digest(row_D: Floats) -> bytes:
    """A name for a vector; −0 and 0 are the same number."""
    return hashlib.blake2b((row_D + np.float32(0)).tobytes(), digest_size=16).digest()
