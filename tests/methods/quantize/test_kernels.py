"""The scoring kernels: faiss's, those without it, and those for many queries agree with the obvious sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import vectors
from btoks import methods
from btoks.methods.quantize import _kernels, _scanning

SPECS = ["float16", "bfloat16", "float8", "float8:e5m2,vector", "int8", "int4", "ternary", "binary", "rabitq", "pq:8"]
SPECS += ["residual:4", "rescaled:int4", "rescaled:pq:8", "pca:0.5+float8"]


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS)
def test_without_faiss_scores_are_the_same(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, stored, queries = vectors.digits()
    method = vectors.fitted(spec)
    codes = method.encode(stored)
    with_it = method.score(queries[:3], codes)
    assert _scanning.helps(queries[:3])
    monkeypatch.setattr(_scanning, "faiss", lambda: None)
    assert not _scanning.helps(queries[:3])
    assert np.abs(method.score(queries[:3], codes) - with_it).max() <= 1e-5


@pytest.mark.parametrize("there", [True, False])
def test_threads_share_the_rows(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not there:
        monkeypatch.setattr(_scanning, "faiss", lambda: None)
    codes = np.random.default_rng(1).integers(0, 200, (1000, 6)).astype(np.uint8)
    table = drawn((2, 6, 200))
    expected = table[:, np.arange(6), codes].sum(axis=2)
    assert np.allclose(_kernels.tables(torch.from_numpy(table), codes), expected, atol=1e-5)
    monkeypatch.setattr(_scanning, "_SHARE", 7)
    monkeypatch.setattr(_scanning, "_BLOCK", 11)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for shown in (codes, np.pad(codes, ((0, 0), (2, 3)))[:, 2:-3]):
        assert np.allclose(_kernels.tables(torch.from_numpy(table), shown), expected, atol=1e-5)


def test_half_floats_are_exact_down_to_the_smallest() -> None:
    method = methods.create("quantize", "float16")
    rows = (drawn((300, 19)) * np.exp2(np.arange(19) * -1.5)).astype(np.float32)
    codes, query = method.encode(rows), drawn((2, 19), 1)
    exact = query.astype(np.float64) @ method.decode(codes).astype(np.float64).T
    assert np.abs(method.score(query, codes) - exact).max() < 1e-5
    alone = np.zeros((1, 19), np.float32)
    alone[0, -1] = 1
    assert np.array_equal(method.score(alone, codes)[0], method.decode(codes)[:, -1]), "subnormals are kept"


def test_a_threshold_below_all_loses_no_product() -> None:
    """Also the most negative products that vectors can have are reported."""
    method = methods.create("quantize", "float8").fit(np.full((2, 8), 1e15, np.float32))
    codes = method.encode(np.full((5, 8), -1e15, np.float32))
    assert np.allclose(method.score(np.full((1, 8), 1e15, np.float32), codes), -8e30, rtol=1e-5)


def test_bfloat16_products_are_those_of_the_exact_query_whatever_faiss_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    method = methods.create("quantize", "bfloat16")
    for dim in (19, 64):
        codes, query = method.encode(drawn((300, dim))), drawn((2, dim), 1)
        exact = query.astype(np.float64) @ method.decode(codes).astype(np.float64).T
        with monkeypatch.context() as patched:
            for keeps in (_scanning.keeps_query(dim), False):
                patched.setattr(_scanning, "keeps_query", lambda _, keeps=keeps: keeps)
                assert np.abs(method.score(query, codes) - exact).max() < 2e-5


def test_the_level_of_faiss_kernels_is_put_back() -> None:
    levels = getattr(_scanning.faiss(), "SIMDConfig", None)
    if levels is None:
        pytest.skip("this faiss chooses its kernels at import")
    level = levels.get_level()
    method = methods.create("quantize", "bfloat16")
    method.score(drawn((1, 64)), method.encode(drawn((300, 64))))
    assert levels.get_level() == level


@pytest.mark.parametrize("few", [1, 40])
def test_a_finish_sees_every_score_once(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernels, "_SHORT", 64)
    monkeypatch.setattr(_scanning, "_SHARE", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    codes = np.random.default_rng(1).integers(0, 256, (1000, 3)).astype(np.uint8)
    query, plus = drawn((few, 20)), np.arange(1000, dtype=np.float32)
    scores = _kernels.signs(query, codes, lambda scores_nM, rows: scores_nM.add_(torch.from_numpy(plus[rows, None])))
    assert np.allclose(scores, _kernels.signs(query, codes) + plus, atol=1e-3)
