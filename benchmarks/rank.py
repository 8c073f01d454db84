"""What does ranking cost beside the bare matrix product, and beside a loop over queries?

    python benchmarks/rank.py [--json FILE] [--queries 10000] [--candidates 100000] [--dim 1024] [--depth 100]

(a) product   the scores alone, block by block, thrown away
(b) ranked    `rank_all`: the best of every query, ties and copies settled
(c) loop      a query at a time: one product, one full sort; timed on a sample and scaled
(d) own lists `rank_lists`: the same candidates, 1,000 for each query

Every part runs in a process of its own, whose peak memory beyond the vectors is measured. Random vectors: no ties.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from btoks.evaluation.ranking import rank_all, rank_lists

BLOCK = 160
SAMPLE = 100
LIST = 1000


def main() -> None:
    """Measure the parts one after the other, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    for name, default in (("queries", 10_000), ("candidates", 100_000), ("dim", 1024), ("depth", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # a child that measures one part
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measured(options)))
        return
    rest = [f"--{name}={getattr(options, name)}" for name in ("queries", "candidates", "dim", "depth")]
    found: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        command = [sys.executable, __file__, f"--part={part}", *rest]
        found[part] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    record = {
        "sizes": {name: getattr(options, name) for name in ("queries", "candidates", "dim", "depth")},
        "threads": torch.get_num_threads(),
        "parts": found,
        "ranked_to_product": found["ranked"]["seconds"] / found["product"]["seconds"],
        "loop_to_ranked": found["loop"]["seconds"] / found["ranked"]["seconds"],
    }
    print(f"{'part':<10}{'seconds':>10}{'MiB beyond the vectors':>26}")
    for part, each in found.items():
        print(f"{part:<10}{each['seconds']:>10.1f}{each['extra_mib']:>26.0f}")
    print(f"ranked / product {record['ranked_to_product']:.2f}, loop / ranked {record['loop_to_ranked']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of one part, and its peak memory beyond what was there before."""
    dice = np.random.default_rng(0)
    queries_QD, corpus_ND = (unit(dice, count, options.dim) for count in (options.queries, options.candidates))
    before, began = peak_mib(), time.perf_counter()
    share = PARTS[options.part](queries_QD, corpus_ND, options.depth)
    seconds = (time.perf_counter() - began) / share
    return {"seconds": seconds, "extra_mib": peak_mib() - before}


def unit(dice: np.random.Generator, count: int, dim: int) -> np.ndarray[Any, Any]:
    """Unit vectors, made without a second copy of them."""
    vectors_ND = dice.standard_normal((count, dim), dtype=np.float32)
    vectors_ND /= np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND))[:, None]
    return vectors_ND


def product(queries_QD: np.ndarray[Any, Any], corpus_ND: np.ndarray[Any, Any], depth: int) -> float:
    """The scores, thrown away."""
    del depth
    corpus_DN = torch.from_numpy(corpus_ND).T
    for start in range(0, len(queries_QD), BLOCK):
        torch.from_numpy(queries_QD[start : start + BLOCK]) @ corpus_DN
    return 1.0


def ranked(queries_QD: np.ndarray[Any, Any], corpus_ND: np.ndarray[Any, Any], depth: int) -> float:
    """The way the evaluation goes."""
    rank_all(queries_QD, corpus_ND, depth)
    return 1.0


def loop(queries_QD: np.ndarray[Any, Any], corpus_ND: np.ndarray[Any, Any], depth: int) -> float:
    """The obvious way, for a sample; gives the share of queries that it is."""
    sample = queries_QD[:SAMPLE]
    for query_D in sample:
        np.argsort(-(corpus_ND @ query_D), kind="stable")[:depth]
    return len(sample) / len(queries_QD)


def lists(queries_QD: np.ndarray[Any, Any], corpus_ND: np.ndarray[Any, Any], depth: int) -> float:
    """Own lists, no two alike."""
    del depth
    dice = np.random.default_rng(1)
    rank_lists(queries_QD, corpus_ND, list(dice.integers(len(corpus_ND), size=(len(queries_QD), LIST))))
    return 1.0


def peak_mib() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PARTS = {"product": product, "ranked": ranked, "loop": loop, "own lists": lists}

if __name__ == "__main__":
    main()
