"""What does each compression of vectors cost in quality and time, beside faiss at equal bytes?

    BTOKS_DATA=folder python benchmarks/quantize.py [--json FILE] [--only quality,claims]

quality  recall@10 against the exact order on real vectors: scikit-learn's digits, TF-IDF + SVD of the data folder's
         texts, colour and gradient histograms of its pictures; ours and faiss's own at equal bytes, time beside time
claims   those of float8 × PCA (2505.00105): float8 loses less than int8; PCA is the best reducer; PCA to half the width
         and float8 (8×) loses less than int8 (4×)

The data folder holds <name>/records.jsonl with texts and pictures. faiss and umap are left out where not installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from btoks import methods, tradeoff
from btoks.errors import BtoksError

Rows = list[dict[str, Any]]
PICTURES, TEXTS = 6_000, 20_000
# Ours beside faiss's factory string; {m} is the number of bytes a vector.
PAIRS = [
    ("float16", "SQfp16"),
    ("bfloat16", "SQbf16"),
    ("int8", "SQ8"),
    ("int4", "SQ4"),
    ("pq:{m}", "PQ{m}x8"),
    ("opq:{m}", "OPQ{m},PQ{m}x8"),
    ("residual:{few}", "RQ{few}x8"),
    ("rabitq", "RaBitQ"),
]
ALONE = ["float8", "float8:e5m2", "ternary", "binary", "rescaled:int8", "rescaled:float8", "rescaled:int4"]
ALONE += ["rescaled:binary", "rescaled:pq:{m}", "rescaled:opq:{m}", "rescaled:residual:{few}"]
FLOAT8 = [f"float8:e4m3,{scale}" for scale in ("dimension", "vector", "global")]
REDUCERS = ["pca:{f}", "pca:{f},true", "matryoshka:{f}", "random_projection:{f}", "kernel_pca:{f}", "autoencoder:{f}"]
REDUCERS += ["umap:{f},sample=1000"]
CHAINS = [
    f"pca:0.5{mean}+{each}"
    for mean in (",false", ",true")
    for each in ("float8", "int8", "rescaled:float8", "rescaled:int4")
]


def main() -> None:
    """Run the chosen parts, print tables, write JSON."""
    run(str(__doc__), {"quality": quality, "claims": claims})


def run(about: str, parts: dict[str, Callable[[], Rows]]) -> None:
    """Run the parts of a script that are asked for, print them, write JSON."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default=",".join(parts))
    options = parser.parse_args()
    found = {}
    for name in options.only.split(","):
        found[name] = parts[name]()
        print(f"\n{name}\n{table(found[name])}", flush=True)
    if options.json:
        machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
        options.json.write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n", encoding="utf-8")


@functools.cache
def sets() -> dict[str, Any]:
    """Real vectors of length one, by name."""
    from sklearn.datasets import load_digits

    found = {"digits": load_digits().data}
    if folder := os.environ.get("BTOKS_DATA"):
        found |= {"texts": of_texts(Path(folder)), "pictures": of_pictures(Path(folder))}
    return {name: unit(rows) for name, rows in found.items()}


def unit(rows: Any) -> Any:
    """Rows of length one, as float32."""
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every query and positive of the data folder."""
    for file in sorted(folder.glob("*/records.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            yield from ((file.parent, each) for each in (record["query"], *record["positives"]))


def texts(folder: Path) -> list[str]:
    """Different texts of some length, evenly drawn."""
    every = sorted({each["text"] for _, each in records(folder) if len(each.get("text", "")) > 30})
    return every[:: -(-len(every) // TEXTS)]


def of_texts(folder: Path) -> Any:
    """TF-IDF of words, cut to 256 dimensions."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=30_000).fit_transform(texts(folder))
    return TruncatedSVD(256, random_state=0).fit_transform(weights)


def of_pictures(folder: Path) -> Any:
    """Colours (4 × 8 × 6) and gradients (4 × 4 cells of 8 directions), square roots of shares."""
    from PIL import Image

    every = sorted({home / each["image"] for home, each in records(folder) if each.get("image")})
    rows = []
    for file in every[:: -(-len(every) // PICTURES)]:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((64, 64)), np.float64)
        level = (pixels.reshape(-1, 3) * [4, 8, 6] // 256).astype(int)
        colours = np.bincount(level @ [48, 6, 1], minlength=192)
        down, right = np.gradient(pixels.mean(axis=2))
        turn = ((np.arctan2(down, right) + np.pi) / (2 * np.pi) * 8).astype(int) % 8
        cell = np.arange(64) // 16
        place = (cell[:, None] * 4 + cell) * 8 + turn
        gradients = np.bincount(place.ravel(), weights=np.hypot(down, right).ravel(), minlength=128)
        rows.append(np.sqrt(np.concatenate([colours / 4096, gradients / max(gradients.sum(), 1e-9)])))
    return np.stack(rows)


def split(rows: Any) -> tuple[Any, Any]:
    """Stored vectors and 200 queries that are not among them."""
    drawn = np.random.default_rng(0).permutation(len(rows))
    return rows[drawn[200:]], rows[drawn[:200]]


def quality() -> Rows:
    """Recall and time of all formats, ours beside faiss's."""
    found = []
    for name, rows in sets().items():
        stored, queries = split(rows)
        sizes = {"m": 16 if rows.shape[1] < 128 else 32, "few": 8}
        for ours, theirs in [*PAIRS, *((each, "") for each in ALONE + CHAINS)]:
            spec = ours.format(**sizes)
            line = {"vectors": name, "method": spec, **of_ours(spec, stored, queries)}
            other = of_faiss(theirs.format(**sizes), stored, queries) if theirs else {}
            found.append(line | {f"faiss {key}": value for key, value in other.items()})
    return found


def of_ours(spec: str, stored: Any, queries: Any) -> dict[str, Any]:
    """One method of ours: bytes, quality, seconds."""
    plain = methods.create("quantize", spec)
    seconds, method = timed(lambda: plain.fit(stored))
    encoding, codes = timed(lambda: method.encode(stored))
    scoring, _ = best(lambda: top(method.score(queries, codes)))
    ndcg, recall = tradeoff.quality(method.score(queries, codes), queries @ stored.T)
    times = {"fit s": seconds, "encode s": encoding, "search ms": 1e3 * scoring}
    return {"bytes": method.bytes_per_vector(stored.shape[1]), "ndcg": ndcg, "recall": recall, **times}


def of_faiss(factory: str, stored: Any, queries: Any) -> dict[str, Any]:
    """The same by faiss, inner product."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return {}
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.index_factory(stored.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if "RaBitQ" in factory:  # the plain index does not rotate
        index = faiss.IndexPreTransform(faiss.RandomRotationMatrix(stored.shape[1], stored.shape[1]), index)
    seconds, _ = timed(lambda: index.train(stored))
    encoding, _ = timed(lambda: index.add(stored))
    scoring, (_, found) = best(lambda: index.search(queries, 10))
    exact = queries @ stored.T
    scores = np.full(exact.shape, -np.inf, np.float32)
    np.put_along_axis(scores, found, np.arange(10, 0, -1, dtype=np.float32)[None], axis=1)
    times = {"fit s": seconds, "encode s": encoding, "search ms": 1e3 * scoring}
    return {"bytes": index.sa_code_size(), "recall": tradeoff.quality(scores, exact)[1], **times}


def claims() -> Rows:
    """The claims, by nDCG@10 lost on vectors that the methods were not fitted on."""
    found: Rows = []
    for name, rows in sets().items():
        lost = functools.cache(functools.partial(loss, *split(rows)))

        def add(claim: str, ours: float, beside: float, set_name: str = name, **more: Any) -> None:
            found.append(
                {"vectors": set_name, "claim": claim, "lost": ours, "beside": beside, "holds": ours < beside, **more}
            )

        add("float8 loses less than int8", min(map(lost, FLOAT8)), lost("int8"))
        for share in (0.25, 0.5):
            by = {spec: lost(spec) for spec in (each.format(f=share) for each in REDUCERS)}
            best_pca, rival = (
                min((s for s in by if s.startswith("pca") == pca), key=by.__getitem__) for pca in (True, False)
            )
            add(f"PCA {share:.0%} is the best reducer", by[best_pca], by[rival], rival=rival, all=by)
        for chain in ("pca:0.5+float8", "pca:0.5,true+float8", "pca:0.5,true+rescaled:float8"):
            add(f"{chain} (8×) loses less than int8 (4×)", lost(chain), lost("int8"))
    return found


def loss(stored: Any, queries: Any, spec: str) -> float:
    """nDCG@10 lost on half of the vectors by a method fitted on the others; infinite where it is not installed."""
    half = len(stored) // 2
    try:
        method = methods.create("quantize", spec).fit(stored[:half])
    except BtoksError:
        return math.inf
    scores = method.score(queries, method.encode(stored[half:]))
    return 1 - tradeoff.quality(scores, queries @ stored[half:].T)[0]


def top(scores: Any, k: int = 10) -> Any:
    """The places of the k largest of each row."""
    return torch.from_numpy(scores).topk(k, dim=1).indices


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


def best(work: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """The shortest of some runs, after one that does not count."""
    work()
    runs = [timed(work) for _ in range(times)]
    return min(seconds for seconds, _ in runs), runs[0][1]


def table(rows: Rows) -> str:
    """Columns as wide as their cells."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "all"))
    cells = [columns, *([shown(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def shown(value: Any) -> str:
    """A cell."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
