"""What every quantise method owes: an exact query, a stated size, nothing lost in a file, an answer to odd vectors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vectors
from btoks import methods
from btoks.errors import BtoksError
from btoks.methods import quantize, specs

SMALL = {
    "autoencoder": "autoencoder:0.5,steps=100",
    "kernel_pca": "kernel_pca:0.5,landmarks=400",
    "umap": "umap:8,sample=120",
}
MORE = {
    "float8": ["float8:e5m2", "float8:e4m3,vector", "float8:e4m3,global", "float8:e4m3,none"],
    "int8": ["int8:99.9"],
    "matryoshka": ["matryoshka:48,false"],
    "pca": ["pca:20", "pca:0.5,true"],
    "pq": ["pq:7"],
    "rescaled": ["rescaled:int4", "rescaled:pq:8", "rescaled:rabitq"],
    "opq": ["opq:7"],
    "chain": [
        "pca:0.3+int4",
        "random_projection:60+rabitq",
        "kernel_pca:0.5,landmarks=300+int8",
        "matryoshka:0.5+pq:8",
        "matryoshka:0.25+float16",
        "pca:0.5,true+rescaled:int4",
    ],
}
# From small to large: the quality of each ladder must rise.
LADDERS = {
    "matryoshka": ["matryoshka:8", "matryoshka:24", "matryoshka:48", "matryoshka:64"],
    "pca": ["pca:4", "pca:12", "pca:32", "pca:64"],
    "random_projection": ["random_projection:4", "random_projection:16", "random_projection:64"],
    "kernel_pca": ["kernel_pca:4,landmarks=400", "kernel_pca:16,landmarks=400", "kernel_pca:48,landmarks=400"],
    "autoencoder": ["autoencoder:2,steps=150", "autoencoder:8,steps=150", "autoencoder:32,steps=150"],
    "pq": ["pq:2", "pq:8", "pq:32", "pq:64"],
    "opq": ["opq:2,4", "opq:8,4", "opq:32,4"],
    "residual": ["residual:1", "residual:4", "residual:12"],
    "chain": ["pca:0.1+float8", "pca:0.25+float8", "pca:0.5+float8"],
    "float8": ["float8:e5m2", "float8:e4m3", "bfloat16", "float16"],
    "rescaled": ["rescaled:binary", "rescaled:ternary", "rescaled:int4", "rescaled:int8"],
    "binary": ["binary", "int4", "int8", "float16", "float32"],
}


def rows(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((count, vectors.DIM)).astype(np.float32)


ODD = {
    "duplicates": np.tile(rows(1), (50, 1)),
    "constant": np.ones((50, vectors.DIM), np.float32),
    "zero": np.zeros((50, vectors.DIM), np.float32),
    "huge": rows(50) * np.float32(1e12),
    "minute": rows(50) * np.float32(1e-20),
    "one row": rows(1),
    "empty": rows(0),
}


def fitted(card: methods.Card) -> Iterator[tuple[str, quantize.Quantizer]]:
    for spec in (SMALL.get(card.name, card.name), *MORE.get(card.name, [])):
        yield spec, vectors.fitted(spec)


def check_identity(card: methods.Card) -> None:
    if card.identity is None:
        return
    fit, stored, queries = vectors.digits()
    method = methods.create("quantize", {"name": card.name, **card.identity}).fit(fit)
    codes = method.encode(stored)
    assert np.abs(method.decode(codes) - stored).max() <= 1e-5
    assert np.abs(method.score(queries, codes) - queries @ stored.T).max() <= 1e-5


def check_a_vector_decodes_to_its_own_likeness(card: methods.Card) -> None:
    _, stored, _ = vectors.digits()
    for spec, method in fitted(card):
        decoded = method.decode(method.encode(stored))
        assert decoded.shape == stored.shape
        assert decoded.dtype == np.float32, spec
        own = (decoded * stored).sum(axis=1)
        other = (decoded * np.roll(stored, 1, axis=0)).sum(axis=1)
        assert (own > other).mean() > 0.8, spec


def check_scores_are_products_with_what_is_decoded(card: methods.Card) -> None:
    """Few and many queries take different kernels; a part of the codes has a part of the scores."""
    _, stored, queries = vectors.digits()
    for spec, method in fitted(card):
        codes = method.encode(stored)
        for count in (1, 3, 40):
            scores = method.score(queries[:count], codes)
            assert scores.shape == (count, len(stored))
            assert scores.dtype == np.float32, spec
            assert np.abs(scores - queries[:count] @ method.decode(codes).T).max() <= 2e-5, spec
            assert np.abs(method.score(queries[:count], codes[100:130]) - scores[:, 100:130]).max() <= 1e-5, spec


def check_queries_stay_exact(card: methods.Card) -> None:
    """A step far below the codes' precision moves the scores by its product with the decoded vectors."""
    _, stored, queries = vectors.digits()
    moved = queries.copy()
    moved[:, 20] += 1e-4
    for spec, method in fitted(card):
        codes = method.encode(stored)
        change = (moved - queries) @ method.decode(codes).T
        for count in (1, 40):
            scores = method.score(moved[:count], codes) - method.score(queries[:count], codes)
            assert np.abs(scores - change[:count]).max() <= 1e-5, spec


def check_bytes_are_the_closed_form(card: methods.Card) -> None:
    _, stored, _ = vectors.digits()
    for spec, method in fitted(card):
        codes = method.encode(stored)
        assert codes.data_NB.dtype == np.uint8
        assert codes.nbytes == len(stored) * method.bytes_per_vector(vectors.DIM) == codes.data_NB.nbytes, spec
        assert method.state_nbytes == sum(array.nbytes for array in method.state.values())


def check_a_file_holds_it_bit_by_bit(card: methods.Card) -> None:
    _, stored, queries = vectors.digits()
    for spec, method in fitted(card):
        codes = method.encode(stored)
        with tempfile.TemporaryDirectory() as folder:
            paths = Path(folder, "method.safetensors"), Path(folder, "codes.safetensors")
            quantize.save(method, paths[0])
            codes.save(paths[1])
            assert sorted(Path(folder).iterdir()) == sorted(paths)
            again, loaded = quantize.load(paths[0]), quantize.Codes.load(paths[1])
        assert again == method, spec
        assert again.state.keys() == method.state.keys()
        assert all(np.array_equal(array, method.state[key]) for key, array in again.state.items())
        assert np.array_equal(again.encode(stored).data_NB, codes.data_NB)
        assert np.array_equal(again.score(queries, loaded), method.score(queries, codes))


def check_codes_may_be_read_only(card: methods.Card) -> None:
    _, stored, queries = vectors.digits()
    for spec, method in fitted(card):
        codes = method.encode(stored)
        fixed = quantize.Codes(np.frombuffer(codes.data_NB.tobytes(), np.uint8).reshape(codes.data_NB.shape), codes.dim)
        assert np.array_equal(method.decode(fixed), method.decode(codes)), spec
        for count in (1, 40):
            assert np.array_equal(method.score(queries[:count], fixed), method.score(queries[:count], codes)), spec


def check_settings_go_through_json_and_strings(card: methods.Card) -> None:
    for spec, method in fitted(card):
        stored = json.loads(json.dumps(methods.settings(method)))
        assert methods.create("quantize", stored) == method, spec
        assert methods.create("quantize", specs.short(method)) == method, spec


def check_fitting_gives_a_new_method_each_time_the_same(card: methods.Card) -> None:
    fit, stored, _ = vectors.digits()
    for spec, method in fitted(card):
        plain = methods.create("quantize", spec)
        assert plain.state == {}
        if card.name == "umap":
            continue
        again = plain.fit(torch.from_numpy(fit).double().requires_grad_())
        assert plain.state == {}
        assert np.array_equal(again.encode(torch.from_numpy(stored)).data_NB, method.encode(stored).data_NB), spec


def check_more_bytes_give_better_results(card: methods.Card) -> None:
    steps = [vectors.fitted(spec) for spec in LADDERS.get(card.name, [])]
    sizes = [method.bytes_per_vector(vectors.DIM) for method in steps]
    assert sizes == sorted(sizes)
    recalls = [vectors.recall(method) for method in steps]
    assert recalls == sorted(recalls)
    assert not recalls or recalls[-1] > recalls[0]


def check_odd_vectors_give_a_result_or_a_clear_error(card: methods.Card) -> None:
    for spec, _ in fitted(card):
        for name, odd in ODD.items():
            try:
                method = methods.create("quantize", spec).fit(odd)
                codes = method.encode(np.concatenate([odd, odd]))
                scores, decoded = method.score(rows(2), codes), method.decode(codes)
            except BtoksError:
                continue
            assert scores.shape == (2, len(codes)) == (2, 2 * len(odd)), (spec, name)
            assert np.isfinite(scores).all(), (spec, name)
            assert np.isfinite(decoded).all(), (spec, name)


def check_bad_input_is_refused(card: methods.Card) -> None:
    _, stored, queries = vectors.digits()
    broken = stored[:3].copy()
    broken[1, 5] = np.nan
    bad = (broken, np.where(np.isnan(broken), np.inf, broken), stored[0], stored[None], "text", [["a"]], stored[:, :0])
    for spec, method in fitted(card):
        for each in bad:
            with pytest.raises(BtoksError):
                method.encode(each)
            with pytest.raises(BtoksError):
                methods.create("quantize", spec).fit(each)
        codes = method.encode(stored[:3])
        with pytest.raises(BtoksError, match="queries"):
            method.score(queries[:, :-1], codes)
        with pytest.raises(BtoksError, match="bytes a vector"):
            method.decode(quantize.Codes(np.zeros((2, codes.data_NB.shape[1] + 1), np.uint8), vectors.DIM))
        if method.state:
            with pytest.raises(BtoksError, match="not fitted yet"):
                methods.create("quantize", spec).encode(stored)
            with pytest.raises(BtoksError, match="fitted for width"):
                method.encode(stored[:, :-1])


def check_no_vectors_and_no_queries(card: methods.Card) -> None:
    _, stored, queries = vectors.digits()
    for spec, method in fitted(card):
        codes = method.encode(stored[:0])
        assert (len(codes), codes.nbytes) == (0, 0)
        assert method.decode(codes).shape == (0, vectors.DIM), spec
        assert method.score(queries, codes).shape == (len(queries), 0), spec
        assert method.score(queries[:0], method.encode(stored)).shape == (0, len(stored)), spec
