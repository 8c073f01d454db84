"""What do bottleneck tokens, token-budget batches and overlapped preprocessing cost or save?

    python benchmarks/encode.py [--json FILE] [--pairs 21] [--only tokens,batches,overlap,memory]

(a) tokens   K = 4 against K = 0, one backbone, 64 to 2,048 input tokens: measured overhead beside the arithmetic one
(b) batches  `encode_stream` against fixed-size batches in arrival order, a corpus of mixed lengths and kinds
(c) overlap  wall time of `encode_stream` against preprocessing alone and the model alone, pictures and clips
(d) memory   peak memory of the process as the corpus grows tenfold

Random weights: speed does not depend on what a model has learnt.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it, before torch is loaded

import numpy as np
import torch
from PIL import Image

from btoks import attach, encode_stream
from btoks.inputs import fit
from btoks.training.scratch import Size, backbone

WORDS = "river stone window letter garden winter music paper bridge yellow market silver engine".split()  # noqa: SIM905
MIDDLE = Size(vocabulary=2048, hidden=512, layers=8, heads=8, feed=1536, length=4096)


def main() -> None:
    """Run the chosen parts, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--only", default="tokens,batches,overlap,memory")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # a child that measures its own memory
    options = parser.parse_args()
    if options.peak:
        print(peak_of_a_run(options.peak))
        return
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "tokens": lambda: tokens(options.pairs),
        "batches": batches,
        "overlap": overlap,
        "memory": memory,
    }
    found = {name: parts[name]() for name in options.only.split(",")}
    for name, rows in found.items():
        print(f"\n{name}\n" + table(rows))
    if options.json:
        machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
        options.json.write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n", encoding="utf-8")


def tokens(pairs: int) -> list[dict[str, Any]]:
    """Overhead of four bottleneck tokens, median of interleaved pairs."""
    full, processor = backbone([" ".join(WORDS)], MIDDLE)
    plain, with_btoks = attach((copy.deepcopy(full), processor), tokens=0), attach((full, processor), tokens=4)
    rows = []
    for length in (64, 128, 256, 512, 1024, 2048):
        features = [of_length(model, length + extra) for model, extra in ((plain, 0), (with_btoks, 4))]
        seconds = interleaved([timed(plain, features[0]), timed(with_btoks, features[1])], pairs)
        ratios = [b / a for a, b in zip(*seconds, strict=True)]
        expected = flops(MIDDLE, length + 4) / flops(MIDDLE, length) - 1
        measured = statistics.median(ratios) - 1
        rows.append(
            {
                "tokens": length,
                "K=0 ms": 1e3 * statistics.median(seconds[0]),
                "K=4 ms": 1e3 * statistics.median(seconds[1]),
                "overhead %": 100 * measured,
                "quartiles %": " … ".join(f"{100 * (q - 1):.1f}" for q in statistics.quantiles(ratios, n=4)[::2]),
                "arithmetic %": 100 * expected,
                "within": measured <= (0.02 if length >= 512 else expected + 0.02),
            }
        )
    return rows


def flops(size: Size, length: int) -> float:
    """Multiply-adds of one pass over a text of this length: matrices a token, and causal attention."""
    width = size.hidden // size.heads
    keys = max(size.heads // 2, 1) * width
    a_token = size.layers * (2 * size.hidden * size.hidden + 2 * size.hidden * keys + 3 * size.hidden * size.feed)
    return a_token * length + size.layers * size.hidden * length * length


def of_length(model: Any, length: int) -> dict[str, Any]:
    """Features of one text of exactly this many tokens, the bottleneck tokens included."""
    text = " ".join(WORDS[place % len(WORDS)] for place in range(length))
    features = model.preprocess([{"text": text}])
    for key in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if key in features:
            whole = features[key]
            features[key] = torch.cat([whole[:, : length - 5], whole[:, -5:]], dim=1)
    return features


def batches() -> list[dict[str, Any]]:
    """Token-budget batches against fixed-size batches in arrival order: items a second, same results."""
    model = attach(backbone([" ".join(WORDS)], Size(vocabulary=2048, visual_tokens=64)), tokens=4)
    items = corpus(768, seed=0)

    def fixed() -> np.ndarray:
        out = []
        for start in range(0, len(items), 32):
            features = model.preprocess([fit(model, item) for item in items[start : start + 32]])
            with torch.inference_mode():
                out.append(model(features)["sentence_embedding"].float().numpy())
        return np.concatenate(out)

    def streamed() -> np.ndarray:
        return np.stack([each.embedding for each in encode_stream(model, items, max_batch_tokens=4096)])

    seconds = interleaved([fixed, streamed], 5)
    ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    return [
        {
            "items": len(items),
            "fixed items/s": len(items) / statistics.median(seconds[0]),
            "streamed items/s": len(items) / statistics.median(seconds[1]),
            "ratio": ratio,
            "max difference": float(abs(fixed() - streamed()).max()),
            "within": ratio >= 1.5,
        }
    ]


def overlap() -> list[dict[str, Any]]:
    """Preprocessing beside the model, one thread each; then with two threads, against one after the other."""
    model = attach(backbone([" ".join(WORDS)], Size(vocabulary=2048, layers=6, visual_tokens=64)), tokens=4)
    items = [picture_or_clip(place) for place in range(192)]
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        chunks = [[fit(model, item) for item in items[start : start + 32]] for start in range(0, len(items), 32)]
        ready = [model.preprocess(chunk) for chunk in chunks]

        def prepare(chunks: list[Any] = chunks) -> None:
            for chunk in chunks:
                model.preprocess(chunk)

        def think(ready: list[Any] = ready) -> None:
            for features in ready:
                timed(model, features)()

        def one_after_the_other(chunks: list[Any] = chunks) -> None:
            for chunk in chunks:
                timed(model, model.preprocess(chunk))()

        def streamed() -> None:
            for _ in encode_stream(model, items, max_batch_tokens=2400):
                pass

        seconds = [statistics.median(each) for each in interleaved([prepare, think, one_after_the_other, streamed], 5)]
        wall = seconds[3] / max(seconds[:2])
        rows.append(
            {
                "threads": threads,
                "preprocessing s": seconds[0],
                "model s": seconds[1],
                "in turn s": seconds[2],
                "overlapped s": seconds[3],
                "overlapped / larger": wall,
                "overlapped / in turn": seconds[3] / seconds[2],
                "within": wall <= 1.15 if threads == 1 else seconds[3] <= seconds[2],
            }
        )
    torch.set_num_threads(2)
    return rows


def memory() -> list[dict[str, Any]]:
    """Peak memory of a fresh process that embeds a corpus and one ten times as large."""
    small, large = (
        float(
            subprocess.run(
                [sys.executable, __file__, "--peak", str(count)], capture_output=True, text=True, check=True
            ).stdout
        )
        for count in (1500, 15000)
    )
    return [{"items": 1500, "peak MiB": small}, {"items": 15000, "peak MiB": large, "within": large <= 1.05 * small}]


def peak_of_a_run(count: int) -> float:
    """Embed `count` items made one by one, and the most memory this process ever held, in MiB."""
    model = attach(
        backbone([" ".join(WORDS)], Size(vocabulary=1024, hidden=64, layers=1, vision_hidden=32, vision_layers=1))
    )
    seen = sum(1 for _ in encode_stream(model, made(count), max_batch_tokens=2048))
    if seen != count:
        raise RuntimeError(f"{seen} of {count} items came out")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def made(count: int) -> Iterator[dict[str, Any]]:
    """Pictures and texts in turn, made when they are asked for."""
    for place in range(count):
        yield picture_or_clip(place) if place % 8 == 0 else {"text": " ".join(WORDS[: 1 + place % len(WORDS)])}


def corpus(count: int, seed: int) -> list[dict[str, Any]]:
    """Two thirds texts, most of them short and a few long, the rest pictures, pictures with text, and clips."""
    rng = np.random.default_rng(seed)
    items = []
    for place in range(count):
        words = " ".join(rng.choice(WORDS, size=int(np.clip(rng.lognormal(3.0, 1.1), 2, 700))))
        kind = rng.random()
        item = {"text": words} if kind < 0.67 else picture_or_clip(place)
        items.append({**item, "text": " ".join(WORDS[:5])} if kind > 0.85 else item)
    return items


def picture_or_clip(place: int) -> dict[str, Any]:
    """A picture of some size; every eighth is a clip of four frames."""
    rng = np.random.default_rng(place)
    if place % 8 == 7:
        frames = rng.integers(0, 255, (4, 96, 128, 3), dtype=np.uint8)
        metadata = {"fps": 1.0, "total_num_frames": 4, "duration": 4.0, "frames_indices": [0, 1, 2, 3]}
        return {"video": {"array": frames, "video_metadata": metadata}}
    height, width = (int(side) for side in rng.integers(120, 480, 2))
    return {"image": Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))}


def timed(model: Any, features: dict[str, Any]) -> Callable[[], object]:
    """A pass over prepared features, to be called and timed."""

    def run() -> object:
        with torch.inference_mode():
            return model(dict(features))["sentence_embedding"]

    return run


def interleaved(runs: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each run, the runs taking turns so that a drifting machine hits all alike; one round warms up."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, kept in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                kept.append(time.perf_counter() - start)
    return seconds


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (row.get(name, "") for name in names)
        lines.append(
            "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
