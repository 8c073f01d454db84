"""How fast are exact queries scored against codes, beside faiss, usearch and numpy?

    python benchmarks/quantize_speed.py [--rows N] [--json FILE] [--methods bfloat16,rabitq]

1,000,000 vectors × 256, one query and 32: milliseconds for all scores and the ten best, that of the fastest other, and
the share of the measured memory bandwidth that reading the codes once in the time for one query makes. opq and residual
are left out: their scores are sums of look-ups, as pq's. faiss and usearch are left out where not installed. Where the
processor multiplies bfloat16 itself, faiss's search rounds the query to it as well, ours does not. With
OMP_NUM_THREADS=1 the time is that of the processor, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import sys
from typing import Any

import numpy as np
import torch
from quantize import PAIRS, Rows, best, chosen, run, top, unit

from btoks import methods

DIM, ASKED = 256, (1, 32)
OTHERS = {ours: theirs for ours, theirs in PAIRS if not ours.startswith(("opq", "residual"))} | {"float32": "Flat"}
ALONE = ["float8", "float8:e5m2", "ternary", "binary", "rescaled:int8", "rescaled:int4", "pca:0.5+float8"]


def main() -> None:
    """Print a table, write JSON."""
    run(str(__doc__), {"speed": speed})


def speed(options: argparse.Namespace) -> Rows:
    """Milliseconds to score all rows and take ten, for 1 and 32 queries."""
    drawn = np.random.default_rng(0)
    few = unit(drawn.standard_normal((50_000, DIM)))
    rows, queries = np.tile(few, (options.rows // len(few), 1)), unit(drawn.standard_normal((max(ASKED), DIM)))
    bandwidth = rows.nbytes / best(lambda: torch.from_numpy(rows).sum(), 5)[0] / 1e9
    found: Rows = []
    for spec, factory in chosen([*OTHERS.items(), *((each, "") for each in ALONE)], options.methods):
        spec = spec.format(m=32)
        method = methods.create("quantize", spec).fit(few[:20_000])
        codes = method.encode(few)
        codes = type(codes)(np.tile(codes.data_NB, (options.rows // len(few), 1)), codes.dim)
        line: dict[str, Any] = {"method": spec, "bytes": method.bytes_per_vector(DIM)}
        index = faiss_index(factory.format(m=32), few, rows)
        for asked in ASKED:
            some = queries[:asked]
            line[f"ours {asked}"] = 1e3 * best(lambda m=method, c=codes, q=some: top(m.score(q, c)), 5)[0]
            other = rivals(spec, index, rows, some)
            line |= other
            line |= {f"× {asked}": line[f"ours {asked}"] / other[f"its {asked}"]} if other else {}
        line["GB/s"] = codes.nbytes / line["ours 1"] / 1e6
        line["of bandwidth"] = line["GB/s"] / bandwidth
        found.append(line)
        print(line, file=sys.stderr, flush=True)
    print(f"memory bandwidth {bandwidth:.1f} GB/s")
    return found


def rivals(spec: str, index: Any, rows: Any, queries: Any) -> dict[str, Any]:
    """The fastest other and its time."""
    ways = {"numpy": numpy_way(spec, rows, queries), "usearch": usearch_way(spec, rows, queries)}
    ways["faiss"] = best(lambda: index.search(queries, 10), 5)[0] if index is not None else None
    times = {name: 1e3 * seconds for name, seconds in ways.items() if seconds is not None}
    if not times:
        return {}
    name = min(times, key=times.__getitem__)
    return {f"fastest {len(queries)}": name, f"its {len(queries)}": times[name]}


def faiss_index(factory: str, few: Any, rows: Any) -> Any:
    """A filled faiss index, or None."""
    if not factory or importlib.util.find_spec("faiss") is None:
        return None
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.index_factory(DIM, factory, faiss.METRIC_INNER_PRODUCT)
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
        blocks = [
            stored[at : at + 4096].astype(np.float32, copy=False) @ queries.T for at in range(0, len(stored), 4096)
        ]
        return top(np.concatenate(blocks).T)

    return best(score, 2)[0]


def usearch_way(spec: str, rows: Any, queries: Any) -> float | None:
    """usearch's exact search where it has the type."""
    kinds = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
    if spec not in kinds or importlib.util.find_spec("usearch") is None:
        return None
    usearch = importlib.import_module("usearch.index")
    scale = 100 if spec == "int8" else 1
    stored, asked = ((each * scale).astype(kinds[spec]) for each in (rows, queries))
    search = functools.partial(
        usearch.search, stored, asked, 10, metric="ip", exact=True, threads=torch.get_num_threads()
    )
    return best(search, 2)[0]


if __name__ == "__main__":
    main()
