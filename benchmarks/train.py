"""What does a training step cost, and what do kept graphs, sorted chunks and the memory of few tokens save?

    python benchmarks/train.py [--json FILE] [--rounds 5] [--only generation,passes,padding,loading,memory,gpu]
                               [--device cuda]

(a) generation  a step with generation through the memory, against one pass with a dense mask and against contrast alone
(b) padding     padding in chunks of rows sorted by length and of rows as they come, inputs and targets of mixed kinds
(c) loading     the share of a step that is not waiting for the next batch, JPEG pictures
(d) memory      peak memory of a step as the batch grows at one chunk size
(e) passes      a step that keeps what fits, one where nothing fits, and the plain two-pass step
    compile     torch.compile against none, only when asked for
    gpu         tokens a second and model-FLOPs utilisation at the size of Qwen3-VL-2B, with `--device cuda`

Random weights: speed does not depend on what a model has learnt.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it, before torch is loaded

import numpy as np
import torch
from encode import WORDS, flops, of_length, table
from torch.nn import functional
from train_parts import SIGHT, Rows, loading, memory, padding, picture

from btoks import attach, condensation
from btoks.bottleneck import generator
from btoks.training.build import add_lora
from btoks.training.loss import CondensationLoss
from btoks.training.recipe import Lora
from btoks.training.scratch import Size, backbone
from btoks.training.targets import Targets

TEXT = Size(vocabulary=2048, hidden=256, layers=4, feed=768, vision_hidden=64, vision_layers=1, length=4096)
SAID, NOTHING = 48, 1
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Turns = Callable[[list[Callable[[], object]]], list[list[float]]]


def main() -> None:
    """Run the chosen parts, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="generation,passes,padding,loading,memory,gpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: this process's own time, for busy machines"
    )
    options = parser.parse_args()
    turns = partial(interleaved, rounds=options.rounds, clock=CLOCKS[options.clock])
    parts: dict[str, Callable[[], Rows]] = {
        "generation": lambda: generation(turns),
        "passes": lambda: passes(turns),
        "padding": padding,
        "loading": loading,
        "memory": memory,
        "compile": lambda: compiled(turns),
        "gpu": lambda: gpu(options.device, options.rounds),
    }
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
    found: dict[str, Any] = {"machine": machine}
    for name in options.only.split(","):
        start, load = time.monotonic(), os.getloadavg()[0]
        found[name] = parts[name]()
        print(f"\n{name}, {time.monotonic() - start:.0f} s, load {load:.1f} before and {os.getloadavg()[0]:.1f} after")
        print(table(found[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def generation(turns: Turns) -> Rows:
    """Two rows of `length` tokens that must tell texts of `SAID` tokens, three ways."""
    model = attach(backbone([" ".join(WORDS)], TEXT), tokens=4).train()
    spoken, silent = CondensationLoss(model, mini_batch_size=2), CondensationLoss(model, mini_batch_size=2, side="none")
    told = of_length(model, SAID)
    positives = {key: torch.cat([value, value]) for key, value in told.items() if isinstance(value, torch.Tensor)}
    target, supervised = Targets(model, 512)(positives)
    rows = []
    for length in (128, 256, 512, 1024, 2048):
        one = of_length(model, length)
        queries = {key: torch.cat([value, value]) for key, value in one.items() if isinstance(value, torch.Tensor)}
        losses = {
            "memory": lambda queries=queries: spoken([queries, positives]),
            "dense": lambda queries=queries: dense(model, queries, positives, target, supervised),
            "contrast": lambda queries=queries: silent([queries, positives]),
        }
        gap = abs(float(losses["memory"]().detach()) - float(losses["dense"]().detach()))
        seconds = turns([stepping(model, each) for each in losses.values()])
        before = flops(TEXT, length) + flops(TEXT, SAID)
        more = flops(TEXT, target.shape[1] - 1) + TEXT.hidden * TEXT.vocabulary * int(supervised[0].sum())
        faster, dearer = ratio(seconds[1], seconds[0]), ratio(seconds[0], seconds[2])
        rows.append(
            {
                "tokens": length,
                **{f"{name} ms": 1e3 * statistics.median(each) for name, each in zip(losses, seconds, strict=True)},
                "dense / memory": faster,
                "memory / contrast": dearer,
                "by extra tokens": 1 + more / before,
                "loss differs by": gap,
                "within": gap < 1e-3 and (length < 512 or faster > 1),
            }
        )
    return rows


def dense(model: Any, queries: Any, positives: Any, target_BT: torch.Tensor, supervised_BT: torch.Tensor) -> Any:
    """The same loss from one pass over `[input][btoks][target]` with a mask of every place by every place."""
    body, tokens = generator(model).base_model, 4
    start = queries["input_ids"].shape[1]
    ids = torch.cat([queries["input_ids"], target_BT[:, :-1]], dim=1)
    allowed = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    allowed[start:, : start - tokens] = False
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    places = torch.arange(ids.shape[1]).expand(3, len(ids), -1)
    hidden = body(
        input_ids=ids, attention_mask=mask.expand(len(ids), 1, -1, -1), position_ids=places, use_cache=False
    ).last_hidden_state
    asked = functional.normalize(hidden[:, start - tokens : start].mean(dim=1), dim=1)
    row, place = supervised_BT[:, 1:].nonzero(as_tuple=True)
    logits = condensation.logits(model, hidden[:, start:][row, place])
    each = functional.cross_entropy(logits, target_BT[:, 1:][row, place])
    scores = asked @ model(dict(positives))["sentence_embedding"].T / 0.02
    return functional.cross_entropy(scores, torch.arange(len(scores))) + 5 * each


def passes(turns: Turns) -> Rows:
    """Sixteen pairs of a picture with text and a text in chunks of four, with more and more of the model trained."""
    rows = []
    for trained in ("adapters", "all but vision", "all"):
        model = attach(backbone([" ".join(WORDS)], SIGHT), tokens=4)
        if trained == "adapters":
            add_lora(model, Lora(dropout=0.0))
        elif trained == "all but vision":
            model[0].model.get_encoder("image").requires_grad_(requires_grad=False)
        model.train()
        columns = pairs(model, 16)
        keeping = {"plain": 0, "nothing fits": NOTHING, "all fits": None}
        losses = [CondensationLoss(model, mini_batch_size=4, keep=keep) for keep in keeping.values()]
        runs = [stepping(model, lambda loss=loss, columns=columns: loss(columns)) for loss in losses]
        seconds = turns(runs)
        whole, none = ratio(seconds[0], seconds[2]), ratio(seconds[0], seconds[1])
        off = max(difference(model, runs[0], run) for run in runs[1:])
        least = 1.2 if trained == "all" else 1.4
        rows.append(
            {
                "trained": trained,
                **{f"{name} ms": 1e3 * statistics.median(each) for name, each in zip(keeping, seconds, strict=True)},
                "plain / all fits": whole,
                "plain / nothing fits": none,
                "gradients differ by": off,
                "within": whole >= least and none >= 0.97 and off <= 1e-5,
            }
        )
    return rows


def pairs(model: Any, count: int) -> list[dict[str, Any]]:
    """Pictures with a question, and texts, of one length each."""
    rng = np.random.default_rng(0)
    asked = [{"text": " ".join(rng.choice(WORDS, 20)), "image": picture(rng)} for _ in range(count)]
    told = [{"text": " ".join(rng.choice(WORDS, 40))} for _ in range(count)]
    return [model.preprocess(asked), model.preprocess(told)]


def compiled(turns: Turns) -> Rows:
    """Steps of one chunk with the decoder's layers compiled, and without."""
    models = [attach(backbone([" ".join(WORDS)], SIGHT), tokens=4).train() for _ in range(2)]
    for layer in generator(models[1]).get_decoder().layers:
        layer.compile(dynamic=True)
    columns = pairs(models[0], 16)
    losses = [CondensationLoss(model, mini_batch_size=16) for model in models]
    runs = [stepping(model, lambda loss=loss: loss(columns)) for model, loss in zip(models, losses, strict=True)]
    for run in runs:
        run()
    seconds = turns(runs)
    gain = ratio(*seconds)
    return [{"plain ms": 1e3 * statistics.median(seconds[0]), "plain / compiled": gain, "worth it": gain >= 1.1}]


def gpu(device: str, rounds: int) -> Rows:
    """The sizes of the published recipe, where there is a GPU."""
    if device != "cuda" or not torch.cuda.is_available():
        return [{"gpu": "no GPU"}]
    from train_gpu import utilisation

    return utilisation(rounds)


def interleaved(runs: list[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """Seconds of each run, the runs taking turns so that a drifting machine hits all alike; one round warms up."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, kept in zip(runs, seconds, strict=True):
            start = clock()
            run()
            if turn:
                kept.append(clock() - start)
    return seconds


def stepping(model: Any, loss: Callable[[], Any]) -> Callable[[], object]:
    """A step without the optimiser."""

    def run() -> object:
        model.zero_grad()
        return loss().backward()

    return run


def ratio(above: list[float], below: list[float]) -> float:
    """The median of a ratio over the rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def difference(model: Any, one: Callable[[], object], other: Callable[[], object]) -> float:
    """The largest difference of a gradient, relative to the largest entry of its tensor."""
    found = []
    for run in (one, other):
        run()
        found.append({name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None})
    largest = {name: float(each.abs().max()) for name, each in found[0].items()}
    floor = 1e-6 * max(largest.values())
    return max(float((found[1][name] - found[0][name]).abs().max()) / max(largest[name], floor) for name in largest)


if __name__ == "__main__":
    main()
