"""The number formats: their error bounds, every code there is, and B1's claim on outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import vectors
from btoks import methods
from btoks.errors import BtoksError
from btoks.methods import quantize

RELATIVE = {"float16": 2**-11, "bfloat16": 2**-8, "float8:e4m3,none": 2**-4, "float8:e5m2,none": 2**-3}
NORMAL = {"float16": 2**-14, "bfloat16": 2**-126, "float8:e4m3,none": 2**-6, "float8:e5m2,none": 2**-14}


def spread(count: int = 200, dim: int = 16) -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng(0)
    return (np.exp2(drawn.uniform(-12, 8, (count, dim))) * drawn.choice([-1, 1], (count, dim))).astype(np.float32)


def decoded(spec: str, rows: Any) -> np.ndarray[Any, Any]:
    method = methods.create("quantize", spec).fit(rows)
    return method.decode(method.encode(rows))


@pytest.mark.parametrize("spec", RELATIVE)
def test_relative_error_of_normal_numbers(spec: str) -> None:
    rows = spread()
    relative = np.abs(decoded(spec, rows) - rows) / np.abs(rows)
    normal = np.abs(rows) >= NORMAL[spec]
    assert relative[normal].max() <= RELATIVE[spec]
    assert relative[normal].max() > RELATIVE[spec] / 2, "the bound is tight"


def test_a_plain_cast_of_unit_vectors_breaks_the_bound_and_a_scale_mends_it() -> None:
    rows = np.random.default_rng(1).standard_normal((300, 1024)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    below = (np.abs(rows) > 1e-3) & (np.abs(rows) < NORMAL["float8:e4m3,none"])
    assert below.mean() > 0.3
    for spec, fine in (
        ("float8:e4m3,none", False),
        ("float8", True),
        ("float8:e4m3,global", True),
        ("float8:e4m3,vector", True),
    ):
        assert ((np.abs(decoded(spec, rows) - rows) / np.abs(rows))[below].max() <= 2**-4) == fine, spec


@pytest.mark.parametrize(("name", "dtype"), [("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)])
def test_every_float8_code_is_what_torch_says(name: str, dtype: torch.dtype) -> None:
    codes = np.arange(256, dtype=np.uint8)[None]
    expected = torch.from_numpy(codes).view(dtype).float().numpy()
    found = methods.create("quantize", f"float8:{name},none").decode(quantize.Codes(codes, 256))
    finite = np.isfinite(expected)
    assert finite.sum() >= 248
    assert np.array_equal(found[finite], expected[finite])
    assert np.array_equal(np.signbit(found[finite]), np.signbit(expected[finite]))


@pytest.mark.parametrize("spec", ["float8:e4m3,none", "float8:e5m2,none", "float8"])
def test_float8_cuts_what_is_beyond_its_range(spec: str) -> None:
    method = methods.create("quantize", spec).fit(np.ones((3, 4), np.float32))
    codes = method.encode(np.full((1, 4), -1e9, np.float32))
    largest = {"float8:e4m3,none": 448, "float8:e5m2,none": 57344, "float8": 1}[spec]
    assert np.allclose(method.decode(codes), -largest)


def test_float16_refuses_what_is_beyond_its_range() -> None:
    with pytest.raises(BtoksError, match="row 1 goes beyond 65504"):
        methods.create("quantize", "float16").encode(np.array([[1.0], [1e5]], np.float32))


@pytest.mark.parametrize(("spec", "levels"), [("int8:100", 254), ("int4:100", 15)])
def test_integers_are_half_a_step_off_at_most(spec: str, levels: int) -> None:
    rows = np.random.default_rng(2).standard_normal((400, 11)).astype(np.float32) * np.arange(1, 12, dtype=np.float32)
    step = np.ptp(rows, axis=0) / levels
    off = np.abs(decoded(spec, rows) - rows) / step
    assert off.max() <= 0.5 + 1e-4
    assert off.max() > 0.49


@pytest.mark.parametrize(("spec", "levels"), [("int8:90", 254), ("int4:90", 15)])
def test_a_percentile_cuts_outliers_to_the_calibrated_range(spec: str, levels: int) -> None:
    rows = np.random.default_rng(3).standard_normal((1000, 5)).astype(np.float32)
    found, (low, high) = decoded(spec, rows), np.percentile(rows, (5, 95), axis=0)
    inside = (rows >= low) & (rows <= high)
    assert 0.89 < inside.mean() < 0.91
    assert (np.abs(found - rows) / ((high - low) / levels))[inside].max() <= 0.5 + 1e-4
    assert np.allclose(found[~inside], rows.clip(low, high)[~inside], atol=1e-5)


def test_int8_and_int4_reach_every_level() -> None:
    for spec, levels in (("int8:100", 255), ("int4:100", 16)):
        rows = 40 + np.arange(levels, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
        assert np.allclose(decoded(spec, rows), rows, atol=1e-5)


def test_a_ternary_value_is_the_nearest_of_three_beside_the_mean() -> None:
    fit, stored, _ = vectors.digits()
    method = vectors.fitted("ternary")
    mean, size = method.state["mean"], method.state["size"]
    level = np.abs((stored - mean)[:, :, None] - size[:, None] * np.array([-1, 0, 1])).argmin(axis=2) - 1
    expected = level * size - np.outer(level * size @ mean, mean) / (mean @ mean)
    assert np.allclose(method.decode(method.encode(stored)), mean + expected, atol=1e-5)
    rest = fit - mean
    beyond = np.abs(rest) > size / 2
    assert np.allclose(
        size, (np.abs(rest) * beyond).sum(axis=0) / np.maximum(beyond.sum(axis=0), 1), rtol=0.05, atol=1e-6
    )


def test_binary_error_is_what_the_card_states() -> None:
    fit, _, _ = vectors.digits()
    mean, found = fit.mean(axis=0), decoded("binary", fit)
    deviation = np.abs(fit - mean).mean(axis=0)
    signs = mean + np.where(fit > mean, deviation, -deviation)
    plain = ((signs - fit) ** 2).sum(axis=1).mean()
    assert np.isclose(plain, (fit.var(axis=0) - deviation**2).sum(), rtol=1e-4)
    along = (((fit - mean) @ mean) ** 2).mean() / (mean @ mean)
    assert ((found - fit) ** 2).sum(axis=1).mean() <= plain + along
    assert np.abs((found - mean) @ mean).max() < 1e-5


def test_hamming_counts_bits_and_is_coarser_than_an_exact_query() -> None:
    _, stored, queries = vectors.digits()
    method: Any = vectors.fitted("binary")
    codes = method.encode(stored)
    bits, asked = (np.unpackbits(method.encode(each).data_NB, axis=1) for each in (stored, queries))
    for count in (1, 40):
        distance = method.hamming(queries[:count], codes)
        assert np.array_equal(distance, (asked[:count, None] != bits[None]).sum(axis=2))
    assert vectors.recall(vectors.fitted("rescaled:binary")) > vectors.overlap(-distance, queries @ stored.T, 10) + 0.1


@pytest.mark.parametrize("spec", ["ternary", "int4", "pq:8", "residual:4"])
def test_lengths_restored_by_one_byte_are_worth_more_than_any_other(spec: str) -> None:
    """On vectors of one length: recall rises by more than a byte more of the same format gives."""
    _, stored, _ = vectors.digits()
    plain, mended = vectors.fitted(spec), vectors.fitted(f"rescaled:{spec}")
    assert mended.bytes_per_vector(vectors.DIM) == plain.bytes_per_vector(vectors.DIM) + 1
    off = np.abs(np.linalg.norm(mended.decode(mended.encode(stored)), axis=1) - 1)
    assert np.quantile(off, 0.95) < 3e-3
    assert vectors.recall(mended) > vectors.recall(plain) + 0.03


@pytest.mark.parametrize(
    "spec", ["rescaled:pca:0.5", "rescaled:rescaled:binary", "rescaled:float8:e5m2,none", "rescaled:3"]
)
def test_only_a_number_format_is_rescaled(spec: str) -> None:
    with pytest.raises(BtoksError):
        methods.create("quantize", spec)


def test_rescoring_with_a_finer_copy_mends_the_order() -> None:
    """Candidates by sign codes, their order by int8: as good as int8 alone when a tenth is rescored."""
    _, stored, queries = vectors.digits()
    coarse, fine = vectors.fitted("binary"), vectors.fitted("int8")
    fine_codes, exact = fine.encode(stored), queries @ stored.T
    rough = coarse.score(queries, coarse.encode(stored))
    scores = np.full_like(rough, -np.inf)
    for row, query, place in zip(np.argsort(-rough, axis=1)[:, :50], queries, scores, strict=True):
        place[row] = fine.score(query[None], fine_codes[row])[0]
    assert vectors.overlap(rough, exact, 10) < 0.8
    assert vectors.overlap(scores, exact, 10) > 0.95


def test_float8_loses_less_than_int8_where_outliers_stretch_the_range() -> None:
    """B1: a few rows 200 times as large take int8's levels from the others; a float keeps its relative precision."""
    drawn = np.random.default_rng(4)
    rows, queries = (drawn.standard_normal((count, 64)).astype(np.float32) for count in (2000, 50))
    outliers = np.concatenate([rows, 200 * rows[:20]])
    recall = {}
    for spec in ("float8", "int8"):
        method = methods.create("quantize", spec).fit(outliers)
        recall[spec] = vectors.overlap(method.score(queries, method.encode(rows)), queries @ rows.T, 10)
    assert recall["float8"] > 0.85
    assert recall["int8"] < recall["float8"] - 0.3


@given(
    arrays(np.int8, (7, 19)),
    arrays(np.float32, (3, 19), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_integer_products_are_float32_exact(stored: Any, query: Any) -> None:
    """Three int8 digits of the query lose no more than float32 arithmetic itself."""
    from btoks.methods.quantize import _kernels

    exact = query.astype(np.float64) @ stored.T.astype(np.float64)
    found = _kernels.integers(query, stored, torch.from_numpy)
    bound = np.abs(query).max(axis=1, keepdims=True) * np.abs(stored.astype(np.float64)).sum(axis=1) * 2**-23 + 1e-30
    assert (np.abs(found - exact) <= bound).all()


@given(arrays(np.uint8, (5, 4)), st.integers(1, 12))
def test_bit_sums_and_tables_equal_the_obvious_sums(stored: Any, count: int) -> None:
    from btoks.methods.quantize import _kernels

    drawn = np.random.default_rng(0)
    query = drawn.standard_normal((count, 27)).astype(np.float32)
    bits = np.unpackbits(stored, axis=1)[:, :27]
    assert np.allclose(_kernels.signs(query, stored), query @ (2.0 * bits - 1).T, atol=1e-5)
    table = drawn.standard_normal((count, 4, 256)).astype(np.float32)
    expected = [[sum(table[m, j, code[j]] for j in range(4)) for code in stored] for m in range(count)]
    assert np.allclose(_kernels.tables(torch.from_numpy(table), stored), expected, atol=1e-5)


def test_scoring_many_blocks_equals_scoring_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from btoks.methods.quantize import _kernels, _primitives

    _, stored, queries = vectors.digits()
    specs = ("float16", "float8", "int8", "int4", "binary", "ternary", "rabitq", "pq:8", "residual:4", "pca:0.5+int8")
    whole = {spec: vectors.fitted(spec).score(queries[:3], vectors.fitted(spec).encode(stored)) for spec in specs}
    monkeypatch.setattr(_kernels, "blocks", lambda rows, width, floats=0: _primitives.blocks(rows, 1, 7))
    for spec, scores in whole.items():
        again = vectors.fitted(spec).score(queries[:3], vectors.fitted(spec).encode(stored))
        assert np.abs(again - scores).max() <= 1e-6, spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("float8:e3m4", "format='e3m4'; choose one of e4m3, e5m2"),
        ("float8:e4m3,row", "scale='row'; choose one of dimension, vector, global, none"),
        ("int8:0", "percentile=0; give a number above 0 and at most 100"),
        ("int4:101", "percentile=101"),
        ("pq:0", "m=0; give a whole number ≥ 1"),
        ("pq:true", "m=True"),
        ("pca:0.0", "components=0.0; give a fraction such as 0.5 or a whole number ≥ 1"),
        ("pca:1.5", "components=1.5"),
        ("matryoshka:-3", "components=-3"),
    ],
)
def test_wrong_settings_are_refused(spec: str, message: str) -> None:
    with pytest.raises(BtoksError) as caught:
        methods.create("quantize", spec)
    assert message in str(caught.value)
