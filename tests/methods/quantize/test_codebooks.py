"""Codebook methods: exact where the words suffice, better than their simpler kin, and RaBitQ's estimator."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import vectors
from btoks import methods
from btoks.errors import BtoksError
from btoks.methods.quantize import _codebooks
from btoks.methods.quantize import residual as _residual

DIM = 24


def correlated(count: int, seed: int) -> np.ndarray[Any, Any]:
    """Vectors with strong correlation across the runs of dimensions, variances from large to small."""
    mix = np.linalg.qr(np.random.default_rng(9).standard_normal((DIM, DIM)))[0] * 0.8 ** np.arange(DIM)[:, None]
    return (np.random.default_rng(seed).standard_normal((count, DIM)) @ mix).astype(np.float32)


def error(spec: str, fit: Any, stored: Any) -> float:
    return vectors.error(methods.create("quantize", spec).fit(fit), stored)


@pytest.mark.parametrize("spec", ["pq:6", "pq:5", "opq:6", "residual:2"])
def test_as_many_different_vectors_as_words_are_kept_exactly(spec: str) -> None:
    rows = np.random.default_rng(0).standard_normal((200, DIM)).astype(np.float32)
    assert error(spec, rows, rows) < 1e-8


def test_opq_beats_pq_where_runs_are_correlated() -> None:
    fit, stored = correlated(3000, 1), correlated(500, 2)
    assert error("opq:4", fit, stored) < 0.9 * error("pq:4", fit, stored)


def test_residual_beats_pq_at_equal_bytes() -> None:
    fit, stored = correlated(3000, 1), correlated(500, 2)
    for m in (2, 4):
        assert error(f"residual:{m}", fit, stored) < 0.8 * error(f"pq:{m}", fit, stored)


def test_opq_turns_without_stretching() -> None:
    rotation = vectors.fitted("opq").state["rotation"]
    assert np.abs(rotation @ rotation.T - np.eye(len(rotation))).max() < 1e-5


def test_a_wider_beam_is_nearer() -> None:
    fit, stored = correlated(3000, 1), correlated(500, 2)
    one, four = error("residual:6,beam=1", fit, stored), error("residual:6,beam=4", fit, stored)
    assert four < 0.97 * one


def test_beam_of_one_takes_the_nearest_word_each_time() -> None:
    fit, stored = correlated(600, 1), correlated(50, 2)
    method = methods.create("quantize", "residual:3,beam=1").fit(fit)
    rest, expected = stored, []
    for words in method.state["codebooks"]:
        found = ((rest[:, None] - words) ** 2).sum(axis=2).argmin(axis=1)
        rest = rest - words[found]
        expected.append(found)
    assert np.array_equal(method.encode(stored).data_NB, np.stack(expected, axis=1))


def test_words_that_took_turns_are_nearer_than_the_beam_alone() -> None:
    rows, few = correlated(3000, 1), correlated(300, 2)
    books = methods.create("quantize", "residual:4").fit(rows).state["codebooks"]
    method: Any = methods.create("quantize", "residual:4")
    found = _residual._beam(torch.from_numpy(few), torch.from_numpy(books), method.beam).numpy()
    before = ((few - _residual._sums(found, books)) ** 2).sum(axis=1)
    _residual._turns(few, found, books)
    after = ((few - _residual._sums(found, books)) ** 2).sum(axis=1)
    assert (after <= before + 1e-5).all()
    assert after.mean() < 0.999 * before.mean()


def test_codebooks_that_took_turns_keep_more_of_what_they_are_fitted_on_and_no_less_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit, other = correlated(3000, 1), correlated(500, 2)
    with_turns = [error("residual:4", fit, stored) for stored in (fit, other)]
    monkeypatch.setattr(_residual, "_ROUNDS", 0)
    without = [error("residual:4", fit, stored) for stored in (fit, other)]
    assert with_turns[0] < 0.95 * without[0]
    assert with_turns[1] < 1.01 * without[1]


def test_nearest_is_the_nearest() -> None:
    rows, words = correlated(700, 3) + 1000, correlated(256, 4) + 1000
    gaps = ((rows[:, None].astype(np.float64) - words) ** 2).sum(axis=2)
    found = _codebooks.nearest(rows, words)
    assert np.allclose(gaps[np.arange(700), found], gaps.min(axis=1), rtol=1e-4)


def test_kmeans_finds_clear_groups_and_leaves_no_word_unused() -> None:
    drawn = np.random.default_rng(0)
    groups = np.repeat(drawn.standard_normal((8, 4)).astype(np.float32) * 100, 50, axis=0)
    rows = groups + drawn.standard_normal(groups.shape).astype(np.float32)
    words = _codebooks.kmeans(rows, seed=0, rounds=30, words=16)
    assert len(np.unique(_codebooks.nearest(rows, words))) == 16
    assert ((rows - words[_codebooks.nearest(rows, words)]) ** 2).sum(axis=1).mean() < 4


def test_more_codebooks_than_dimensions_are_refused() -> None:
    for spec in ("pq:25", "opq:25"):
        with pytest.raises(BtoksError, match="25 codebooks asked of width 24; ask for at most 24"):
            methods.create("quantize", spec).fit(correlated(300, 1))


def test_rabitq_is_unbiased_over_its_rotations() -> None:
    rows, query = correlated(40, 1), correlated(1, 2)
    scores = []
    for seed in range(300):
        method = methods.create("quantize", f"rabitq:{seed}").fit(rows)
        scores.append(method.score(query, method.encode(rows))[0])
    estimates, exact = np.array(scores), (query @ rows.T)[0]
    deviation = estimates.std(axis=0) / np.sqrt(len(scores))
    assert (np.abs(estimates.mean(axis=0) - exact) < 4 * deviation + 1e-4).all()


def test_rabitq_errors_keep_to_their_bound() -> None:
    _, stored, queries = vectors.digits()
    method: Any = vectors.fitted("rabitq")
    codes = method.encode(stored)
    off = np.abs(method.score(queries, codes) - queries @ stored.T)
    wide, narrow = method.error_bound(queries, codes), method.error_bound(queries, codes, epsilon=0.3)
    assert wide.shape == off.shape
    assert (off <= wide).mean() > 0.9
    assert 0.05 < (off <= narrow).mean() < 0.6, "the bound is no empty one"


def test_rabitq_weighs_what_bits_lose_along_the_mean_as_for_a_centred_query() -> None:
    fit, _, queries = vectors.digits()
    state = vectors.fitted("rabitq").state
    square = float(state["mean"] @ state["mean"])
    off, plain = (np.abs(queries @ state[key] - square).mean() for key in ("share", "mean"))
    assert off < 0.9 * plain
    lone = methods.create("quantize", "rabitq").fit(np.tile(fit[:1], (5, 1))).state
    assert np.allclose(lone["share"], lone["mean"], rtol=1e-4)


def test_rabitq_files_without_a_share_are_read() -> None:
    _, stored, queries = vectors.digits()
    method: Any = vectors.fitted("rabitq")
    older = dataclasses.replace(method, state={key: method.state[key] for key in ("mean", "rotation")})
    codes = older.encode(stored)
    assert np.array_equal(codes.data_NB, method.encode(stored).data_NB)
    scores = older.score(queries, codes)
    assert np.abs(scores - queries @ older.decode(codes).T).max() < 2e-5
    assert np.abs(scores - method.score(queries, codes)).max() > 1e-4
