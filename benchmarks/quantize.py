"""What does each compression of vectors cost in quality and time, beside faiss at equal bytes?

    python benchmarks/quantize.py [DATA] [--model MODEL] [--json FILE] [--only quality,claims] [--methods int8,pq]

quality  recall@10 against the exact order on real vectors: scikit-learn's digits, TF-IDF + SVD of the data folder's
         texts, colour and gradient histograms of its pictures, a model's embeddings of both; ours and faiss's own at
         equal bytes, time beside time
claims   those of float8 × PCA (2505.00105), on three splits: float8 loses less than int8; PCA is the best reducer;
         PCA to half the width and float8 (8×) loses less than int8 (4×)

DATA (or $BTOKS_DATA) holds <name>/records.jsonl with texts and pictures. Without DATA there are digits alone, without a
model none of its embeddings; faiss and umap are left out where not installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from btoks import methods, tradeoff
from btoks.errors import BtoksError

Rows = list[dict[str, Any]]
PICTURES, TEXTS, EMBEDDED, SPLITS = 6_000, 20_000, 4_000, 3
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


def run(about: str, parts: dict[str, Callable[[argparse.Namespace], Rows]]) -> None:
    """Run the parts of a script that are asked for, print them, write JSON."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=os.environ.get("BTOKS_DATA"))
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default=",".join(parts))
    parser.add_argument("--methods", default="", help="the formats to measure, such as int8,pq; all without")
    options = parser.parse_args()
    found = {}
    for name in options.only.split(","):
        found[name] = parts[name](options)
        print(f"\n{name}\n{table(found[name])}", flush=True)
        if options.json:
            machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
            options.json.write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n", encoding="utf-8")


@functools.cache
def sets(data: Path | None, model: str | None) -> dict[str, Any]:
    """Real vectors of length one, by name."""
    from sklearn.datasets import load_digits

    found = {"digits": load_digits().data}
    if data:
        found |= {"texts": of_texts(Path(data)), "pictures": of_pictures(Path(data))}
    if data and model:
        found["embeddings"] = of_model(Path(data), model)
    return {name: unit(rows) for name, rows in found.items()}


def of_model(data: Path, model: str) -> Any:
    """A model's embeddings of texts and whole pictures, alone and together as the records have them."""
    import btoks

    sides = [(home, each) for home, each in records(data) if not {"video", "page", "box"} & set(each)]
    items = sorted(
        {(each.get("text", ""), str(home / each["image"]) if each.get("image") else "") for home, each in sides}
    )
    items = [{key: value for key, value in (("text", text), ("image", image)) if value} for text, image in items]
    encoded = btoks.encode_stream(btoks.load(model), items[:: -(-len(items) // EMBEDDED)], on_error="skip")
    return np.stack([each.embedding for each in encoded if each.embedding is not None])


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


def split(rows: Any, seed: int = 0) -> tuple[Any, Any]:
    """Stored vectors and 200 queries that are not among them."""
    drawn = np.random.default_rng(seed).permutation(len(rows))
    return rows[drawn[200:]], rows[drawn[:200]]


def quality(options: argparse.Namespace) -> Rows:
    """Recall and time of all formats, ours beside faiss's."""
    found = []
    for name, rows in sets(options.data, options.model).items():
        stored, queries = split(rows)
        sizes = {"m": 16 if rows.shape[1] < 128 else 32, "few": 8}
        for ours, theirs in chosen([*PAIRS, *((each, "") for each in ALONE + CHAINS)], options.methods):
            spec = ours.format(**sizes)
            line = {"vectors": name, "method": spec, **of_ours(spec, stored, queries)}
            if other := of_faiss(theirs.format(**sizes), stored, queries) if theirs else {}:
                making, asking = ("fit s", "encode s"), ("search ms",)
                line |= {f"faiss {key}": value for key, value in other.items()}
                line["making ×"], line["asking ×"] = (
                    sum(line[key] for key in keys) / sum(other[key] for key in keys) for keys in (making, asking)
                )
            found.append(line)
            print(line, file=sys.stderr, flush=True)
    return found


def chosen(pairs: list[tuple[str, str]], names: str) -> list[tuple[str, str]]:
    """The pairs of the methods that are asked for."""
    return [pair for pair in pairs if not names or pair[0].split(":")[0] in names.split(",")]


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
    if importlib.util.find_spec("faiss") is None:
        return {}
    faiss = importlib.import_module("faiss")
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


def claims(options: argparse.Namespace) -> Rows:
    """The claims, by nDCG@10 lost on vectors that the methods were not fitted on, in the mean of the splits."""
    found: Rows = []
    for name, rows in sets(options.data, options.model).items():
        lost = functools.cache(functools.partial(loss, rows))

        def add(claim: str, ours: str, rivals: list[str], name: str = name, lost: Any = lost) -> None:
            rival = min(rivals, key=lambda each: np.mean(lost(each)))
            line = {"vectors": name, "claim": claim, "lost": spread(lost(ours)), "rival": rival}
            line |= {"its": spread(lost(rival)), "holds": bool(np.mean(lost(ours)) < np.mean(lost(rival)))}
            line["all"] = {each: lost(each) for each in (ours, *rivals)}
            found.append(line)
            print(line, file=sys.stderr, flush=True)

        for float8 in FLOAT8:
            add(f"{float8} loses less than int8", float8, ["int8"])
        for chain in ("pca:0.5+float8", "pca:0.5,true+float8", "pca:0.5,true+rescaled:float8"):
            add(f"{chain} (8×) loses less than int8 (4×)", chain, ["int8"])
        for share in (0.25, 0.5):
            by = [each.format(f=share) for each in REDUCERS]
            pca = min(by[:2], key=lambda each: np.mean(lost(each)))
            add(f"PCA to {share:.0%} is the best reducer", pca, by[2:])
    return found


def loss(rows: Any, spec: str) -> list[float]:
    """nDCG@10 lost on half of the vectors by a method fitted on the others; infinite where it is not installed."""
    found = []
    slow = spec.startswith(("autoencoder", "umap"))
    for seed in range(1 if slow else SPLITS):
        stored, queries = split(rows, seed)
        half = len(stored) // 2
        try:
            method = methods.create("quantize", spec).fit(stored[:half])
        except BtoksError:
            return [math.inf]
        scores = method.score(queries, method.encode(stored[half:]))
        found.append(1 - tradeoff.quality(scores, queries @ stored[half:].T)[0])
    return found


def spread(values: list[float]) -> str:
    """Mean, and the least and most of the splits."""
    return f"{np.mean(values):.4f} ({min(values):.4f} … {max(values):.4f})"


def top(scores: Any, k: int = 10) -> Any:
    """The places of the k largest of each row."""
    return torch.from_numpy(scores).topk(k, dim=1).indices


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    done = work()
    return clock() - started, done


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
