"""Products of few queries with codes by faiss's kernels (MIT licence), where it is installed: `btoks[quantize]`.

faiss scans codes where they lie and reports each product above a threshold. With a threshold below all there can be,
that is every product, in order.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btoks.methods.quantize._primitives import Floats, blocks

FEW_QUERIES = 8
_WORDS = 256
_SHARE, _BLOCK = 1 << 14, 1 << 13
_BELOW_ALL = float(np.finfo(np.float32).min)
_LEVEL = threading.Lock()


@functools.cache
def faiss() -> Any:
    """The library, or None."""
    return importlib.import_module("faiss") if importlib.util.find_spec("faiss") else None


def helps(query_MD: Floats | Tensor) -> bool:
    """Whether faiss is there and the queries are few; one pass over the codes for all is better where they are many."""
    return 0 < len(query_MD) <= FEW_QUERIES and faiss() is not None


def spread(rows: int, work: Callable[[slice], None]) -> None:
    """Do work on runs of rows, one a thread where there are enough, for work that releases Python's lock."""
    threads = min(torch.get_num_threads(), -(-rows // _SHARE))
    if threads <= 1:
        work(slice(0, rows))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks(rows, 1, -(-rows // threads))))


def look_ups(table_MJV: Tensor, codes_NJ: NDArray[np.uint8]) -> Floats:
    """Σ_j table[m, j, codes[n, j]]: to faiss these are products of ones with words of one dimension."""
    queries, columns, words = table_MJV.shape
    scores_MN = np.empty((queries, len(codes_NJ)), np.float32)
    for table_JV, scores_N in zip(torch.nn.functional.pad(table_MJV, (0, _WORDS - words)), scores_MN, strict=True):
        coarse = faiss().IndexFlatIP(columns)
        index = faiss().IndexIVFPQ(coarse, columns, 1, columns, 8, faiss().METRIC_INNER_PRODUCT)
        index.by_residual = False
        faiss().copy_array_to_vector(table_JV.numpy().ravel(), index.pq.centroids)
        _scan(index, np.ones(columns, np.float32), codes_NJ, scores_N)
    return scores_MN


@functools.cache
def keeps_query(dim: int) -> bool:
    """Whether products with bfloat16 rows of this width are those of the exact query: a build of faiss may round it."""
    query, ones = np.full((1, dim), 1 + 2**-12, np.float32), np.full((1, dim), 0x3F80, np.uint16)
    return float(short_floats(query, ones.view(np.uint8), "bf16")[0, 0]) > dim * (1 + 2**-13)


def short_floats(query_MD: Floats, stored_NB: NDArray[np.uint8], kind: str) -> Floats:
    """Products with rows of 16-bit floats: fp16 or bf16."""
    dim = query_MD.shape[1]
    coarse, code = faiss().IndexFlatIP(dim), getattr(faiss().ScalarQuantizer, f"QT_{kind}")
    index = faiss().IndexIVFScalarQuantizer(coarse, dim, 1, code, faiss().METRIC_INNER_PRODUCT, False)
    scores_MN = np.empty((len(query_MD), len(stored_NB)), np.float32)
    for query_D, scores_N in zip(query_MD, scores_MN, strict=True):
        _scan(index, query_D, stored_NB, scores_N)
    return scores_MN


def _scan(index: Any, query_D: Floats, stored_NB: NDArray[np.uint8], scores_N: Floats) -> None:
    """Products of a query with all rows, each thread its share of them."""
    index.is_trained = True

    def part(rows: slice) -> None:
        scanner = _scanner(index)
        scanner.set_query(faiss().swig_ptr(query_D))
        scanner.set_list(0, 0.0)
        share_nB, share_n = stored_NB[rows], scores_N[rows]
        # Rows that are part of wider ones are brought together in the cache, others are read in place.
        for block in blocks(len(share_nB), 1, len(share_nB) if share_nB.flags.c_contiguous else _BLOCK):
            share_n[block] = _products(scanner, np.ascontiguousarray(share_nB[block]))

    if len(stored_NB):
        spread(len(stored_NB), part)


def _scanner(index: Any) -> Any:
    """What reads codes with a kernel that leaves the query exact.

    With AVX512_BF16 faiss multiplies bfloat16 by bfloat16, rounding the query; one level below it widens the codes. The
    level is the whole process's, is looked at when a scanner is made, and so is lowered only that long.
    """
    levels = getattr(faiss(), "SIMDConfig", None)
    if levels is None:
        return index.get_InvertedListScanner(True, None, faiss().IVFSearchParameters())
    with _LEVEL:
        level = levels.get_level()
        try:
            if level == faiss().SIMDLevel_AVX512_SPR:
                levels.set_level(faiss().SIMDLevel_AVX512)
            return index.get_InvertedListScanner(True, None, faiss().IVFSearchParameters())
        finally:
            levels.set_level(level)


def _products(scanner: Any, stored_NB: NDArray[np.uint8]) -> Any:
    found = faiss().RangeSearchResult(1)
    partial = faiss().RangeSearchPartialResult(found)
    scanner.scan_codes_range(len(stored_NB), faiss().swig_ptr(stored_NB), None, _BELOW_ALL, partial.new_result(0))
    partial.set_lims()
    found.do_allocation()
    partial.copy_result()
    return faiss().rev_swig_ptr(found.distances, len(stored_NB)).copy()
