"""How fast are exact queries scored against codes, beside faiss, usearch and numpy?

    python benchmarks/quantize_speed.py [--json FILE]

1,000,000 vectors × 256, one query and 32: milliseconds for all scores and the ten best, and the share of the measured
memory bandwidth that reading the codes once in that time makes.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
import torch
from quantize import PAIRS, Rows, best, run, top, unit

from btoks import methods

ROWS = 1_000_000


def main() -> None:
    """Print a table, write JSON."""
    run(str(__doc__), {"speed": speed})


def speed() -> Rows:
    """Milliseconds to score all rows and take ten, for 1 and 32 queries."""
    drawn = np.random.default_rng(0)
    few = unit(drawn.standard_normal((min(ROWS, 50_000), 256)))
    rows, queries = np.tile(few, (ROWS // len(few), 1)), unit(drawn.standard_normal((32, 256)))
    bandwidth = rows.nbytes / best(lambda: torch.from_numpy(rows).sum())[0] / 1e9
    found = []
    pairs = {ours.format(m=32, few=8): theirs.format(m=32, few=8) for ours, theirs in PAIRS}
    for spec in ["float32", "float8", "float8:e5m2", "ternary", "binary", "rescaled:int8", "pca:0.5+float8", *pairs]:
        method = methods.create("quantize", spec).fit(few[:20_000])
        codes = method.encode(few)
        codes = type(codes)(np.tile(codes.data_NB, (ROWS // len(few), 1)), codes.dim)
        line: dict[str, Any] = {"method": spec, "bytes": method.bytes_per_vector(256)}
        index = faiss_index(pairs.get(spec, {"float32": "Flat"}.get(spec, "")), few, rows)
        for asked in (1, 32):
            some = queries[:asked]
            seconds = best(lambda m=method, c=codes, q=some: top(m.score(q, c)))[0]
            line[f"ours {asked}"] = 1e3 * seconds
            rivals = {"numpy": numpy_way(spec, rows, some)} | usearch_way(spec, rows, some)
            rivals |= {"faiss": best(lambda i=index, q=some: i.search(q, 10))[0]} if index is not None else {}
            rivals = {name: value for name, value in rivals.items() if value}
            line |= {f"{name} {asked}": 1e3 * value for name, value in rivals.items()}
            line[f"ratio {asked}"] = seconds / min(rivals.values()) if rivals else None
        line["GB/s"] = codes.nbytes / line["ours 1"] / 1e6
        line["of bandwidth"] = line["GB/s"] / bandwidth
        found.append(line)
    return found


def faiss_index(factory: str, few: Any, rows: Any) -> Any:
    """A filled faiss index, or None."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return None
    if not factory:
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    if "OPQ" in factory or "RQ" in factory:
        return None  # their search is PQ's, after minutes of training and encoding
    index = faiss.index_factory(256, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(few[:20_000])
    index.add(rows)
    return index


def numpy_way(spec: str, rows: Any, queries: Any) -> float | None:
    """numpy alone where it has the type: widen block by block, multiply."""
    kinds = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
    if spec not in kinds:
        return None
    stored = (rows * 100).astype(kinds[spec]) if spec == "int8" else rows.astype(kinds[spec])

    def score() -> Any:
        blocks = [stored[at : at + 4096].astype(np.float32) @ queries.T for at in range(0, len(stored), 4096)]
        return top(np.concatenate(blocks).T)

    return best(score)[0]


def usearch_way(spec: str, rows: Any, queries: Any) -> dict[str, float]:
    """usearch's exact search where it has the type."""
    try:
        usearch = importlib.import_module("usearch.index")
    except ImportError:
        return {}
    kinds = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
    if spec not in kinds:
        return {}
    scale = 100 if spec == "int8" else 1
    stored, asked = ((each * scale).astype(kinds[spec]) for each in (rows, queries))
    search = functools.partial(
        usearch.search, stored, asked, 10, metric="ip", exact=True, threads=torch.get_num_threads()
    )
    return {"usearch": best(search, 1)[0]}


if __name__ == "__main__":
    main()
