"""Scoring kernels: block by block in bounded memory, never a loop over vectors.

    rows      decode a block to float32 in the cache, one matrix product            any format
    integers  int8 rows times the query written in three int8 digits: exact sums    few queries
    tables    a query's products with every code word, then one sum of look-ups      codes that point into codebooks
    signs     tables of the 256 bytes                                                sign codes

With few queries and faiss at hand, look-ups and 16-bit floats are its own; without, look-ups are numpy's, several times
slower.

Shape suffixes: N stored vectors, M queries, D width, J codes a vector, V words of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from btoks.methods.quantize import _scanning
from btoks.methods.quantize._primitives import Floats, blocks

# Changes the scores (n, M) of a run of rows in place.
Finish: TypeAlias = Callable[[Tensor, slice], None]
_DIGITS, _BASE = 3, 254
_SHORT = 1 << 15


def rows(query_MD: Floats, stored_NB: NDArray[Any], decode: Callable[[NDArray[Any]], Tensor]) -> Floats:
    """Products with rows that `decode` turns into float32 (n, D), a block at a time."""
    query = tensor(query_MD)
    scores_MN = torch.empty(len(query), len(stored_NB))
    for block in blocks(len(stored_NB), query.shape[1]):
        decoded = decode(stored_NB[block])
        if len(query) == 1:
            torch.mv(decoded, query[0], out=scores_MN[0, block])
        else:
            scores_MN[:, block] = query @ decoded.T
    return scores_MN.numpy()


def integers(query_MD: Floats, stored_NB: NDArray[Any], decode: Callable[[NDArray[Any]], Tensor]) -> Floats:
    """Products with rows that `decode` turns into int8 (n, D).

    The query is written as size · (d₁ + d₂ / 254 + d₃ / 254²) with int8 digits, which keeps 24 bits of it, and the
    three integer products are summed exactly. Many queries are cheaper as one float product.
    """
    if not 0 < len(query_MD) <= _scanning.FEW_QUERIES or query_MD.shape[1] > 100_000:
        return rows(query_MD, stored_NB, lambda block: decode(block).float())
    digits_DM, size_M = _digits(tensor(query_MD))
    weights = torch.tensor([_BASE**-place for place in range(_DIGITS)], dtype=torch.float64)
    scores_MN = torch.empty(len(query_MD), len(stored_NB))
    for block in blocks(len(stored_NB), query_MD.shape[1], floats=1 << 20):
        sums_n3M = torch._int_mm(decode(stored_NB[block]), digits_DM).view(-1, _DIGITS, len(query_MD))
        scores_MN[:, block] = (torch.einsum("ndm,d->mn", sums_n3M.double(), weights) * size_M[:, None]).float()
    return scores_MN.numpy()


def _digits(query_MD: Tensor) -> tuple[Tensor, Tensor]:
    size_M = query_MD.abs().amax(dim=1).double() / 127
    rest_MD = query_MD.double() / torch.where(size_M > 0, size_M, 1.0)[:, None]
    places = []
    for _ in range(_DIGITS):
        digit = rest_MD.round()
        places.append(digit)
        rest_MD = (rest_MD - digit) * _BASE
    digits_3MD = torch.stack(places).to(torch.int8)
    return digits_3MD.flatten(0, 1).T.contiguous(), size_M


def signs(query_MD: Floats, packed_NJ: NDArray[np.uint8], finish: Finish | None = None) -> Floats:
    """Σ_d ± query[m, d], plus where the bit is set; eight are packed a byte, the first in the highest place."""
    words_V8 = 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) - 1
    return tables(run_tables(query_MD, words_V8), packed_NJ, finish)


def run_tables(query_MD: Floats, words_VS: Floats) -> Tensor:
    """The queries' products (M, J, V) with the same words at each run of S dimensions, the last filled with zeros."""
    width = words_VS.shape[1]
    padded_MD = np.pad(query_MD, ((0, 0), (0, -query_MD.shape[1] % width)))
    runs_JSM = padded_MD.T.reshape(padded_MD.shape[1] // width, width, len(query_MD))
    return torch.from_numpy(words_VS @ runs_JSM).permute(2, 0, 1)


def unpacked(packed_NJ: NDArray[np.uint8], dim: int) -> NDArray[np.uint8]:
    """Packed bits as zeros and ones (N, D)."""
    return np.unpackbits(packed_NJ, axis=1, count=dim)


def tensor(block: NDArray[Any]) -> Tensor:
    """An array as a tensor; one that may not be written to (read from a file) is copied, as torch would warn."""
    return torch.from_numpy(block if block.flags.writeable else block.copy())


def tables(table_MJV: Tensor, codes_NJ: NDArray[np.uint8], finish: Finish | None = None) -> Floats:
    """Σ_j table[m, j, codes[n, j]] for every query m and vector n, each block then given to `finish`.

    Many queries' tables lie best in memory by words first: then they are not copied.
    """
    queries, columns, words = table_MJV.shape
    if queries <= _scanning.FEW_QUERIES:
        by_query_MJV = table_MJV.contiguous()
        look_ups = _scanning.look_ups if _scanning.helps(table_MJV) else _by_column
        return _finished(look_ups(by_query_MJV, codes_NJ), finish)
    table_WM = table_MJV.permute(1, 2, 0).reshape(columns * words, queries).contiguous()
    start_J = torch.arange(0, columns * words, words, dtype=torch.int32)
    scores_MN = torch.empty(queries, len(codes_NJ))
    for block in blocks(len(codes_NJ), columns + queries):
        index_nJ = tensor(codes_NJ[block]).to(torch.int32) + start_J
        scores_nM = functional.embedding_bag(index_nJ, table_WM, mode="sum")
        if finish:
            finish(scores_nM, block)
        scores_MN[:, block] = scores_nM.T
    return scores_MN.numpy()


def _finished(scores_MN: Floats, finish: Finish | None) -> Floats:
    if finish is None or not len(scores_MN):
        return scores_MN

    def part(rows: slice) -> None:
        for block in blocks(rows.stop - rows.start, len(scores_MN), _SHORT):
            within = slice(rows.start + block.start, rows.start + block.stop)
            finish(torch.from_numpy(scores_MN[:, within].T), within)

    _scanning.spread(scores_MN.shape[1], part)
    return scores_MN


def _by_column(table_MJV: Tensor, codes_NJ: NDArray[np.uint8]) -> Floats:
    scores_MN = np.zeros((len(table_MJV), len(codes_NJ)), np.float32)

    def part(rows: slice) -> None:
        for block in blocks(rows.stop - rows.start, codes_NJ.shape[1]):
            within = slice(rows.start + block.start, rows.start + block.stop)
            place_Jn = np.ascontiguousarray(codes_NJ[within].T).astype(np.intp)
            for scores_n, table_JV in zip(scores_MN[:, within], table_MJV.numpy(), strict=True):
                for words_V, place_n in zip(table_JV, place_Jn, strict=True):
                    scores_n += words_V.take(place_n, mode="clip")

    _scanning.spread(len(codes_NJ), part)
    return scores_MN
