"""The dimension reducers and their chains: what each is best at, and where UMAP fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

import vectors
from btoks import methods
from btoks.errors import BtoksError


def test_pca_is_the_textbook_one() -> None:
    fit, stored, _ = vectors.digits()
    reference = PCA(16, svd_solver="full").fit(fit)
    method = vectors.fitted("pca:16")
    expected = reference.inverse_transform(reference.transform(stored))
    assert np.abs(method.decode(method.encode(stored)) - expected).max() < 1e-4


def test_no_reducer_has_a_smaller_squared_error_on_its_own_vectors_than_pca_if_linear() -> None:
    fit, _, _ = vectors.digits()
    best = vectors.error(vectors.fitted("pca:16"), fit)
    for spec in ("random_projection:16", "matryoshka:16,false"):
        assert vectors.error(vectors.fitted(spec), fit) > 2 * best


def test_pca_puts_the_mean_back_and_renormalised_keeps_lengths() -> None:
    _, stored, queries = vectors.digits()
    method = vectors.fitted("pca:8,true")
    decoded = method.decode(method.encode(stored * np.linspace(1, 3, len(stored), dtype=np.float32)[:, None]))
    assert np.allclose(np.linalg.norm(decoded, axis=1), np.linspace(1, 3, len(stored)), rtol=1e-5)
    assert vectors.overlap(method.score(queries, method.encode(stored)), queries @ stored.T, 10) > 0.3


def test_matryoshka_keeps_the_first_dimensions_and_the_length() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 10)).astype(np.float32)
    method = methods.create("quantize", "matryoshka:4").fit(rows)
    decoded = method.decode(method.encode(rows))
    assert np.array_equal(decoded[:, 4:], np.zeros((20, 6)))
    assert np.allclose(np.linalg.norm(decoded, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5)
    cut = methods.create("quantize", "matryoshka:4,false").fit(rows)
    assert np.array_equal(cut.decode(cut.encode(rows))[:, :4], rows[:, :4])


def test_random_projection_has_the_stated_mean_and_variance() -> None:
    drawn = np.random.default_rng(1)
    row, query = drawn.standard_normal((2, 1, 32)).astype(np.float32)
    estimates = []
    for seed in range(800):
        method = methods.create("quantize", {"name": "random_projection", "components": 8, "seed": seed}).fit(row)
        estimates.append(method.score(query, method.encode(row)).item())
    exact, lengths = (query @ row.T).item(), (query @ query.T).item() * (row @ row.T).item()
    stated = (lengths + exact**2) / 8
    assert abs(np.mean(estimates) - exact) < 4 * np.sqrt(stated / len(estimates))
    assert 0.8 < np.var(estimates) / stated < 1.25


def bent(count: int, seed: int) -> np.ndarray[Any, Any]:
    """A curve of one parameter that fills six dimensions: no line follows it."""
    along = np.random.default_rng(seed).uniform(0, 1, (count, 1)) * np.pi
    return np.concatenate([f(k * along) for k in (1, 2, 3) for f in (np.sin, np.cos)], axis=1).astype(np.float32)


@pytest.mark.parametrize("spec", ["kernel_pca:2,gamma=1.0", "autoencoder:2,hidden=8,steps=800"])
def test_non_linear_reducers_follow_a_curve_that_pca_cannot(spec: str) -> None:
    fit, stored = bent(800, 0), bent(200, 1)
    linear, curved = (methods.create("quantize", each).fit(fit) for each in ("pca:2", spec))
    assert vectors.error(curved, stored) < 0.5 * vectors.error(linear, stored)


def test_umap_is_the_measured_negative() -> None:
    """At the same bytes its order of new vectors is far behind that of principal components."""
    assert vectors.recall(vectors.fitted("umap:8,sample=120")) < vectors.recall(vectors.fitted("pca:8")) - 0.1


def test_a_chain_is_its_parts_one_after_the_other() -> None:
    fit, stored, _ = vectors.digits()
    chain = vectors.fitted("pca:0.25+int8")
    reducer = methods.create("quantize", "pca:0.25").fit(fit)
    short = methods.create("quantize", "int8").fit(reducer.reduce(fit))
    codes = short.encode(reducer.reduce(stored))
    assert np.array_equal(chain.encode(stored).data_NB, codes.data_NB)
    assert np.array_equal(chain.decode(chain.encode(stored)), reducer.lift(short.decode(codes), vectors.DIM))
    assert chain.bytes_per_vector(768) == 192
    assert methods.create("quantize", "pca:0.5+float8").bytes_per_vector(768) * 8 == 768 * 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("float8+pca:0.5", "cannot join float8+pca:0.5; give a dimension reducer and a number format"),
        ("pca:0.5+pca:0.5", "cannot join"),
        ("pca:0.5+float8+int8", "cannot join"),
        ("pca:0.5+floot8", "did you mean 'float8'?"),
        ("pca:0.5,false,3", "pca has 2 settings; give fewer values"),
        ("pca:part=0.5", "no setting 'part'"),
        ("+", "quantize method ''"),
    ],
)
def test_a_wrong_chain_is_refused(spec: str, message: str) -> None:
    with pytest.raises(BtoksError) as caught:
        methods.create("quantize", spec)
    assert message in str(caught.value)


def test_strings_give_settings_in_their_order_or_by_name() -> None:
    create = methods.create
    assert create("quantize", "float8:e5m2,scale=vector") == create(
        "quantize", {"name": "float8", "format": "e5m2", "scale": "vector"}
    )
    assert [create("quantize", f"pca:{amount}").bytes_per_vector(64) for amount in ("1", "1.0")] == [4, 256]
    assert create("quantize", "pca:0.5 + float8") == create(
        "quantize", {"name": "chain", "parts": ["pca:0.5", "float8"]}
    )
