"""What each table method is best at, and the order they stand in on real word vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from btoks import methods
from btoks.errors import BtoksError
from tables import DIM, WORDS, words


def fitted(spec: str, rows: Any, budget: float) -> Any:
    return methods.create("table", spec).fit(rows, budget)


def loss(spec: str, rows: Any, budget: float) -> float:
    found = fitted(spec, rows, budget).lookup(np.arange(len(rows)))
    return float(((found - rows) ** 2).mean() / np.var(rows))


def ndcg(spec: str, budget: float) -> float:
    """nDCG@10 of the nearest words by the compressed table, where the ten exact neighbours are relevant."""
    rows = words() / np.linalg.norm(words(), axis=1, keepdims=True)
    found = fitted(spec, words(), budget).lookup(np.arange(WORDS))
    found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    exact, scores = rows @ rows.T, rows @ found.T
    for each in (exact, scores):
        np.fill_diagonal(each, -np.inf)
    discount = 1 / np.log2(np.arange(2, 12))
    top, relevant = (np.argsort(-each, axis=1, kind="stable")[:, :10] for each in (scores, exact))
    gains = (top[:, :, None] == relevant[:, None]).any(axis=2) @ discount
    return float(gains.mean() / discount.sum())


def test_learnt_codebooks_beat_random_hashing() -> None:
    for budget in (0.15, 0.3):
        best = max(ndcg(spec, budget) for spec in ("hash", "robe", "composition"))
        for spec in ("codebook", "mgqe"):
            assert ndcg(spec, budget) > best + 0.1, (spec, budget)


def test_cores_rebuild_a_table_of_low_rank() -> None:
    """A table made of cores of rank 3 comes back to 1e-4 from the bytes of such cores."""
    drawn = np.random.default_rng(0)
    a, b, c = (drawn.standard_normal(shape) for shape in ((6, 2, 3), (3, 6, 2, 3), (3, 6, 3)))
    rows = np.einsum("idr,rjes,skf->ijkdef", a, b, c).reshape(216, 12).astype(np.float32)
    cores = 4 * (a.size + b.size + c.size)
    found = fitted("tensor_train", rows, cores / rows.nbytes)
    assert found.nbytes == cores < 0.1 * rows.nbytes
    assert np.abs(found.lookup(np.arange(216)) - rows).max() < 1e-4 * np.abs(rows).max()


@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (2, 7), (97, 13), (100, 30), (1000, 64)])
def test_any_shape_is_written_in_three_digits(rows: int, dim: int) -> None:
    from btoks.methods.table import tensor_train

    v, d = tensor_train._radix(rows, whole=False), tensor_train._radix(dim, whole=True)
    assert np.prod(d) == dim
    assert rows <= np.prod(v) <= rows * 1.5 + 8


def test_low_rank_is_exact_where_the_rank_fits_and_best_elsewhere() -> None:
    drawn = np.random.default_rng(1)
    rows = (drawn.standard_normal((200, 3)) @ drawn.standard_normal((3, 20))).astype(np.float32)
    assert loss("low_rank", rows, 3 * 220 / 4000) < 1e-8
    size = np.linalg.svd(words(), compute_uv=False)
    rank = fitted("low_rank", words(), 0.4).state["left"].shape[1]
    centred = np.var(words()) * words().size
    assert np.isclose(loss("low_rank", words(), 0.4), (size[rank:] ** 2).sum() / centred, rtol=1e-3)


def test_composition_is_exact_for_rows_that_are_composed() -> None:
    drawn = np.random.default_rng(2)
    first, second = drawn.uniform(1, 2, (10, 1, 8)), drawn.uniform(1, 2, (1, 40, 8))
    for combine, rows in (("add", first + second), ("mult", first * second)):
        table = rows.reshape(400, 8).astype(np.float32)
        assert loss(f"composition:{combine}", table, 50 / 400) < 1e-6
        assert loss(f"composition:{'mult' if combine == 'add' else 'add'}", table, 50 / 400) > 1e-4


def test_private_rows_are_exact_and_the_others_shared() -> None:
    method = fitted("frequency:0.5", words(), 0.4)
    private = int(0.5 * len(method.state["rows"]))
    assert np.array_equal(method.lookup(np.arange(private)), words()[:private])
    assert len(np.unique(method.lookup(np.arange(WORDS)), axis=0)) <= len(method.state["rows"])


def test_shared_rows_are_the_means_of_theirs() -> None:
    found = fitted("hash", words(), 0.3).lookup(np.arange(WORDS))
    for row in np.unique(found, axis=0):
        assert np.allclose(words()[(found == row).all(axis=1)].mean(axis=0), row, atol=1e-4)


def test_the_circular_array_wraps_and_its_cells_are_least_squares() -> None:
    method = fitted("robe:8", words(), 0.3)
    array, rest = method.state["array"], words() - method.lookup(np.arange(WORDS))
    cells, signs = method._cells(np.arange(WORDS), DIM, len(array))
    assert {0, len(array) - 1} <= set(cells.ravel().tolist())
    pull = np.bincount(cells.ravel(), weights=(rest * signs).ravel(), minlength=len(array))
    assert np.abs(pull).max() < 1e-3


def test_repeated_blocks_are_stored_once_and_nothing_is_lost() -> None:
    rows = np.random.default_rng(3).standard_normal((9, 32)).astype(np.float32)
    table = rows[np.random.default_rng(4).integers(0, 9, 500)]
    method = fitted("dedup:8", table, 0.6)
    assert np.array_equal(method.lookup(np.arange(500)), table)
    assert len(method.state["blocks"]) == 36


def test_like_blocks_are_merged_before_unlike_ones() -> None:
    drawn = np.random.default_rng(5)
    table = (np.repeat(drawn.standard_normal((20, 16)), 30, axis=0) + 0.01 * drawn.standard_normal((600, 16))).astype(
        np.float32
    )
    assert loss("dedup:16", table, 0.2) < 0.02
    assert loss("dedup:16", table, 0.2) < 0.1 * loss("hash", table, 0.2)


def test_the_largest_numbers_are_kept() -> None:
    table = np.arange(1, 161, dtype=np.float32).reshape(16, 10) * np.where(np.arange(160).reshape(16, 10) % 2, -1, 1)
    method = fitted("pruning", table, 0.5)
    kept = len(method.state["values"])
    assert kept == (320 - 16 * 6) // 4
    assert np.array_equal(method.lookup(np.arange(16)), np.where(np.abs(table) > 160 - kept, table, 0))


@pytest.mark.parametrize(("budget", "bits"), [(0.6, 16), (0.4, 8), (0.2, 4), (0.15, 2)])
def test_as_many_bits_as_the_budget_allows(budget: float, bits: int) -> None:
    method = fitted("low_precision", words(), budget)
    if bits == 16:
        assert method.state["floats"].dtype == np.float16
        return
    assert method.state["bits"].tolist() == [bits]
    most = 2 ** (bits - 1) - 1
    plain = np.abs(words()).max(axis=1, keepdims=True) / most
    naive = np.mean((np.rint(words() / plain) * plain - words()) ** 2) / np.var(words())
    assert loss("low_precision", words(), budget) <= naive
    if bits == 2:
        assert loss("low_precision", words(), budget) < 0.9 * naive, "the learnt scale is better than the largest value"


def test_searched_widths_beat_the_power_law_where_a_group_is_flat() -> None:
    drawn = np.random.default_rng(6)
    easy, hard = drawn.standard_normal((200, 1)) @ drawn.standard_normal((1, 16)), drawn.standard_normal((400, 16))
    table = np.concatenate([easy, hard]).astype(np.float32)
    assert loss("autodim:2", table, 0.7) < 0.7 * loss("mixed_dimension:2", table, 0.7)
    widths = fitted("autodim:2", table, 0.7).state["widths"]
    assert widths[0] == 1 < widths[1]


def test_much_used_ids_have_wider_rows() -> None:
    widths = fitted("mixed_dimension", words(), 0.3).state["widths"]
    assert (np.diff(widths) <= 0).all()
    assert widths[0] > widths[-1]


def test_hot_ids_choose_among_more_words() -> None:
    method = fitted("mgqe:0.25", words(), 0.4)
    hot = len(method.state["hot"])
    assert method.state["hot"].max() >= 16
    rest = ((method.lookup(np.arange(WORDS)) - words()) ** 2).mean(axis=1) / words().var(axis=1)
    assert rest[:hot].mean() < rest[hot:].mean()


@pytest.mark.parametrize(
    ("spec", "budget", "message"),
    [
        ("low_rank", 0.01, "table method 'low_rank': budget 0.01 of 600 × 24 floats is too small; give 0.043 or more"),
        ("codebook", 0.001, "is too small; give 0.014 or more"),
        ("hash", 0, "table: budget=0; give a share of its bytes above 0 and at most 1"),
        ("robe:0", 0.5, "block=0; give a whole number ≥ 1"),
        ("frequency:1.0", 0.5, "hot=1.0; give a share from 0 to below 1"),
        ("composition:sum", 0.5, "combine='sum'; choose add or mult"),
    ],
)
def test_wrong_settings_and_budgets_are_refused(spec: str, budget: float, message: str) -> None:
    with pytest.raises(BtoksError) as caught:
        fitted(spec, words(), budget)
    assert message in str(caught.value)
