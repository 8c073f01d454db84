"""Codebooks: k-means, and products of codebooks over runs of dimensions.

Shape suffixes: N vectors, D width, J codebooks, V words of one, S dimensions of one.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from btoks.methods.quantize._kernels import tensor
from btoks.methods.quantize._primitives import Floats, blocks, generator, sample

WORDS = 256
TRAINING_ROWS = WORDS * WORDS


def nearest(X_NS: Floats, words_VS: Floats) -> NDArray[np.intp]:
    """The nearest word of each vector; the first of equals."""
    shift_S = words_VS.mean(axis=0)
    words = torch.from_numpy(words_VS - shift_S)
    half_V = (words * words).sum(dim=1) / 2
    found_N = np.empty(len(X_NS), np.intp)
    for block in blocks(len(X_NS), len(words_VS)):
        rows = torch.from_numpy(np.ascontiguousarray(X_NS[block] - shift_S))
        # numpy's argmin is vectorised, torch's is not: seven times as fast here.
        found_N[block] = np.argmin(torch.addmm(half_V, rows, words.T, alpha=-1).numpy(), axis=1)
    return found_N


def kmeans(X_NS: Floats, *, seed: int, rounds: int, start_VS: Floats | None = None, words: int = WORDS) -> Floats:
    """At most `words` centres by Lloyd's algorithm from distinct rows; empty ones move to the farthest vectors."""
    if start_VS is None:
        distinct_NS = np.unique(X_NS, axis=0)
        drawn = generator(seed).permutation(len(distinct_NS))[:words]
        start_VS = distinct_NS[np.sort(drawn)]
    centres_VS = start_VS
    for _ in range(rounds):
        moved_VS = _centres(X_NS, nearest(X_NS, centres_VS), centres_VS)
        if np.array_equal(moved_VS, centres_VS):
            break
        centres_VS = moved_VS
    return centres_VS


def sums(X_NS: Floats, found_N: NDArray[np.intp], words: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The sum and the number of the vectors of each word."""
    summed = torch.zeros((words, X_NS.shape[1]), dtype=torch.float64)
    summed.index_add_(0, tensor(found_N), tensor(X_NS).double())
    return summed.numpy(), np.bincount(found_N, minlength=words)


def _centres(X_NS: Floats, found_N: NDArray[np.intp], before_VS: Floats) -> Floats:
    sums_VS, count_V = sums(X_NS, found_N, len(before_VS))
    centres_VS = (sums_VS / np.maximum(count_V, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(count_V == 0)
    if len(empty):
        gap_N = ((X_NS - before_VS[found_N]) ** 2).sum(axis=1)
        farthest = np.argsort(-gap_N, kind="stable")[: len(empty)]
        centres_VS[empty] = X_NS[np.resize(farthest, len(empty))]
    return centres_VS


def cuts(dim: int, parts: int) -> list[slice]:
    """D dimensions in J runs of nearly equal length.

    >>> cuts(5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    ends = [0, *np.cumsum([dim // parts + (part < dim % parts) for part in range(parts)]).tolist()]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def product_fit(
    X_ND: Floats, parts: int, *, seed: int, rounds: int, start_JVS: Floats | None = None
) -> tuple[Floats, NDArray[np.intp]]:
    """A codebook for each run of dimensions (J, V, S), short ones filled up with zeros, and the vectors' codes."""
    dim = X_ND.shape[1]
    books, codes = [], []
    for part, cut in enumerate(cuts(dim, parts)):
        X_NS = np.ascontiguousarray(X_ND[:, cut])
        start_VS = None if start_JVS is None else np.ascontiguousarray(start_JVS[part, :, : X_NS.shape[1]])
        words_VS = kmeans(X_NS, seed=seed + part, rounds=rounds, start_VS=start_VS)
        codes.append(nearest(X_NS, words_VS))
        books.append(words_VS)
    words, width = max(map(len, books)), -(-dim // parts)
    # A run with fewer distinct values than the others repeats its last word, which is never chosen.
    filled = [np.pad(book, ((0, words - len(book)), (0, 0)), mode="edge") for book in books]
    return np.stack([np.pad(book, ((0, 0), (0, width - book.shape[1]))) for book in filled]), np.stack(codes, axis=1)


def product_encode(X_ND: Floats, books_JVS: Floats) -> NDArray[np.uint8]:
    """The nearest word of each run (N, J)."""
    codes_NJ = np.empty((len(X_ND), len(books_JVS)), np.uint8)
    for part, cut in enumerate(cuts(X_ND.shape[1], len(books_JVS))):
        run = X_ND[:, cut]
        codes_NJ[:, part] = nearest(run, np.ascontiguousarray(books_JVS[part, :, : run.shape[1]]))
    return codes_NJ


def product_decode(codes_NJ: NDArray[np.uint8], books_JVS: Floats, dim: int) -> Floats:
    """The words side by side (N, D)."""
    X_ND = np.empty((len(codes_NJ), dim), np.float32)
    for part, cut in enumerate(cuts(dim, len(books_JVS))):
        X_ND[:, cut] = books_JVS[part, codes_NJ[:, part], : cut.stop - cut.start]
    return X_ND


def product_tables(query_MD: Floats, books_JVS: Floats) -> torch.Tensor:
    """The queries' products with every word (M, J, V); in memory the queries are innermost."""
    table_JVM = np.empty((*books_JVS.shape[:2], len(query_MD)), np.float32)
    for table_VM, book_VS, cut in zip(table_JVM, books_JVS, cuts(query_MD.shape[1], len(books_JVS)), strict=True):
        np.matmul(book_VS[:, : cut.stop - cut.start], query_MD[:, cut].T, out=table_VM)
    return torch.from_numpy(table_JVM).permute(2, 0, 1)


def training_rows(X_ND: Floats, seed: int) -> Floats:
    """What codebooks are learnt from: 256 rows a word are enough."""
    return sample(X_ND, TRAINING_ROWS, seed)
