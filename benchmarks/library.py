"""What does the library cost beside the arithmetic, beside other stores, and beside the disk?

    python benchmarks/library.py [--scale 1.0] [--only search,rounds,reindex,open,files,model] [--json FILE]

search   1,000,000 × 256 and 200,000 × 1,024 made vectors: rows a second in, bytes a vector, p50 and p99 of a query,
         recall@10; the library, numpy, faiss, usearch and plain LanceDB, one query of each after the other
rounds   100 rounds of add + delete + optimise against an index made anew: recall and p50
reindex  codes in the place of 1,000,000 × 256 vectors: searches that failed meanwhile, and the most bytes on disk
open     1,000,000 × 256 in a new process: opening and the first search, after the imports
files    a second pass over 100,000 unchanged files against os.scandir + stat, and a moved folder
model    the share of indexing pictures that preprocessing and model take by themselves

Queries lie across a gap from what is stored, as texts do from pictures. Ratios are of one run; nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from library_life import files, model, opening, reindex, rounds
from made import Floats, K, across, best, built, held, made, numbered

from btoks.library import Library, upkeep

Facts = dict[str, Any]
EXACT = 1_000_000


def main() -> None:
    """Run the chosen parts, print what they found, write JSON."""
    parts: dict[str, Callable[[float, Path], list[Facts]]] = {
        "search": search,
        "rounds": rounds,
        "reindex": reindex,
        "open": opening,
        "files": files,
        "model": model,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(parts))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"scale": options.scale, "cores": os.cpu_count(), "load before": os.getloadavg()}
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as home:
            found[name] = parts[name](options.scale, Path(home))
        print(f"\n{name}")
        for facts in found[name]:
            print("  " + ", ".join(f"{key} {shown(value)}" for key, value in facts.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def shown(value: object) -> str:
    """A number with the digits that mean something."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def search(scale: float, home: Path) -> list[Facts]:
    """Every way to the nearest rows, query by query in turn."""
    found = []
    for rows, dim in ((1_000_000, 256), (200_000, 1_024)):
        count = int(rows * scale)
        vectors_ND = made(count, dim)
        queries_QD = across(vectors_ND)
        ways = {name: opened for name, make in WAYS.items() if (opened := make(home / f"{dim}", vectors_ND))}
        times: dict[str, list[float]] = {name: [] for name in ways}
        right: dict[str, int] = dict.fromkeys(ways, 0)
        for query_D in queries_QD:
            exact = set(best(vectors_ND @ query_D))
            for name, way in ways.items():
                began = time.perf_counter()
                hits = way["ask"](query_D)
                times[name].append(1000 * (time.perf_counter() - began))
                right[name] += len(exact & set(hits))
        base = statistics.median(times["numpy"])
        for name, way in ways.items():
            p50, p99 = np.percentile(times[name], (50, 99))
            facts = {"rows": count, "dim": dim, "way": name, "rows/s in": count / way["seconds"]}
            facts |= {"bytes/vector": way["bytes"] / count, "p50 ms": float(p50), "p99 ms": float(p99)}
            found.append({**facts, "recall": right[name] / K / len(queries_QD), "× numpy": float(p50) / base})
        shutil.rmtree(home / f"{dim}", ignore_errors=True)
    return found


def way(ask: Callable[[Floats], list[int]], seconds: float, held: float) -> Facts:
    """A way to search: how it is asked, what it took to fill, and the bytes it holds."""
    return {"ask": ask, "seconds": max(seconds, 1e-9), "bytes": held}


def of_numpy(folder: Path, vectors_ND: Floats) -> Facts:
    """The product and the ten highest."""
    del folder
    return way(lambda query_D: best(vectors_ND @ query_D), 0, vectors_ND.nbytes)


def of_library(folder: Path, vectors_ND: Floats) -> Facts:
    """As a user asks it."""
    began = time.perf_counter()
    library = built(folder / "library", vectors_ND)
    seconds = time.perf_counter() - began
    return way(lambda query_D: [int(hit.id) for hit in library.search_vector(query_D, K)], seconds, held(library.path))


def of_store(probes: int | None) -> Callable[[Path, Floats], Facts]:
    """The library's rows without its hits: by the index, by all of it, or (None) by the array in memory."""

    def make(folder: Path, vectors_ND: Floats) -> Facts:
        inner = Library.open(folder / "library").view.store
        if probes is None:
            inner.scan()
            return way(lambda query_D: numbered(inner.scan().nearest(query_D, K)), 0, vectors_ND.nbytes)
        return way(lambda query_D: numbered(inner.probe(query_D, K, None, probes)), 0, 0)

    return make


def of_lancedb(indexed: bool) -> Callable[[Path, Floats], Facts]:
    """LanceDB as its own users would ask it: the same table, its own scan, or the same index and probes."""

    def make(folder: Path, vectors_ND: Floats) -> Facts:
        if indexed:
            table = Library.open(folder / "library").view.store.table
            if upkeep.due(table, 0):
                return {}
        else:
            import lancedb
            import pyarrow as pa

            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), vectors_ND.shape[1])
            ids = pa.array([str(place) for place in range(len(vectors_ND))])
            began = time.perf_counter()
            table = lancedb.connect(folder / "plain").create_table("plain", pa.table({"id": ids, "vector": flat}))
            return way(lambda q: plain(table, q, None), time.perf_counter() - began, held(folder / "plain"))
        return way(lambda query_D: plain(table, query_D, 32), 0, 0)

    return make


def plain(table: Any, query_D: Floats, probes: int | None) -> list[int]:
    """One call of LanceDB's."""
    query = table.search(query_D, vector_column_name="vector").distance_type("dot")
    query = query if probes is None else query.maximum_nprobes(1_000_000).minimum_nprobes(probes)
    return [int(name) for name in query.select(["id", "_distance"]).limit(K).to_arrow()["id"].to_pylist()]


def of_faiss(kind: str) -> Callable[[Path, Floats], Facts]:
    """faiss in memory."""

    def make(folder: Path, vectors_ND: Floats) -> Facts:
        import faiss

        del folder
        began = time.perf_counter()
        lists = max(1, len(vectors_ND) // 1_000)
        index = faiss.index_factory(vectors_ND.shape[1], kind.format(lists), faiss.METRIC_INNER_PRODUCT)
        index.train(vectors_ND[:: max(1, len(vectors_ND) // (64 * lists))])
        index.add(vectors_ND)
        if lists > 1 and "IVF" in kind:
            index.nprobe = 16
        ask = lambda query_D: index.search(query_D[None], K)[1][0].tolist()  # noqa: E731
        return way(ask, time.perf_counter() - began, len(faiss.serialize_index(index)))

    return make


def of_usearch(folder: Path, vectors_ND: Floats) -> Facts:
    """usearch's graph, where it is installed."""
    del folder
    try:
        from usearch.index import Index
    except ImportError:
        return {}
    began = time.perf_counter()
    index = Index(ndim=vectors_ND.shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(vectors_ND)), vectors_ND)
    return way(lambda q: index.search(q, K).keys.tolist(), time.perf_counter() - began, index.memory_usage)


WAYS: dict[str, Callable[[Path, Floats], Facts]] = {
    "numpy": of_numpy,
    "library": of_library,
    "store, index": of_store(32),
    "store, whole index": of_store(EXACT),
    "store, in memory": of_store(None),
    "lancedb, same index": of_lancedb(indexed=True),
    "lancedb, scan": of_lancedb(indexed=False),
    "faiss flat": of_faiss("Flat"),
    "faiss IVF": of_faiss("IVF{},Flat"),
    "usearch": of_usearch,
}

if __name__ == "__main__":
    main()
