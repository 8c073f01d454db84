"""Poolings that need no training: what they cost, how far they read, what they bring: `training_free.py --only cost`.

cost    processor time of a pass beside the plain one, rounds in turn, on random weights
long    facts in texts of up to four windows, found by three models that were trained on one window
twins   the mini benchmark on the baselines of `ablation.py`: `--runs runs/ablation --out runs/training-free`
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

WINDOW, STEPS, SEEDS = 64, 120, (0, 1, 2)
METHODS: dict[str, Any] = {
    "TempScale 0.7": "tempscale:0.7",
    "TempScale 0.5": "tempscale:0.5",
    "Token Prepending, no prompt, last layer": {"name": "token_prepending", "prompt": "none", "exit": -1},
    "PromptEOL, last layer": {"name": "token_prepending", "stop": 1, "exit": -1},
    "Token Prepending, PromptEOL": "token_prepending",
    "Token Prepending, MetaEOL": "token_prepending:meta",
}


def cost(rounds: int) -> None:
    """Processor time of each method over the plain pass on a text of about 500 tokens, a window of 128."""
    import torch

    import btoks
    from btoks import methods
    from btoks.evaluation.long import hay, people
    from btoks.methods.pooling.longembed import POLICIES
    from btoks.training.scratch import Size, backbone

    torch.set_num_threads(1)
    size = Size(600, hidden=256, layers=8, heads=4, feed=768, vision_hidden=32, vision_layers=1)
    model = btoks.attach(backbone(people(), size))
    text = {"text": hay("passkey", 500, model.tokenizer, candidates=1, queries=1).texts[0]}
    tokens = model.preprocess([text])["input_ids"].shape[1]
    specs = {**METHODS, **{policy: {"name": "longembed", "policy": policy, "window": 128} for policy in POLICIES}}
    specs.pop("PromptEOL, last layer")
    times: dict[str, list[float]] = {"plain": [], **{name: [] for name in specs}}
    for _ in range(rounds):
        for name, seconds in times.items():
            made = methods.create("pooling", specs.get(name, "mean"))
            with methods.apply(model, made), torch.inference_mode():
                batch = model.preprocess([text])
                start = time.process_time()
                model(batch)
                seconds.append(time.process_time() - start)
    print(f"| method | ms, of {tokens} tokens | extra, % |\n|---|---|---|")
    plain = statistics.median(times["plain"])
    for name, seconds in times.items():
        found = statistics.median(seconds)
        print(f"| {name} | {1000 * found:.0f} | {100 * (found / plain - 1):+.0f} |")


def trained(seed: int) -> Any:
    """A small model that finds facts in texts of up to the window."""
    import numpy as np
    import torch

    import btoks
    from btoks.evaluation import long
    from btoks.training.scratch import Size, backbone

    telling = [
        f"The pass key of {name} is 1 2 3 4 5 6 7 8 9 0. What is the pass key of {name}?" for name in long.people()
    ]
    size = Size(600, hidden=64, layers=2, heads=4, feed=128, vision_hidden=32, vision_layers=1, length=WINDOW)
    full, processor = backbone([*telling, *long._DULL * 20], size, seed=seed)
    model = btoks.attach((full, processor), tokens=2)
    made = [
        long.hay("passkey", length, model.tokenizer, candidates=400, queries=400, seed=1000 * (seed + 1) + length)
        for length in range(32, 57, 2)
    ]
    rng, optimizer = np.random.default_rng(seed), torch.optim.AdamW(full.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        held = made[step % len(made)]
        chosen = rng.permutation(400)[:32]
        asked_BD, held_BD = (
            model(model.preprocess([{"text": side[at]} for at in chosen]))["sentence_embedding"]
            for side in (held.questions, held.texts)
        )
        loss = torch.nn.functional.cross_entropy(asked_BD @ held_BD.T / 0.05, torch.arange(32))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def far() -> None:
    """The table of passkeys by length and policy: means over the seeds, least and most in brackets."""
    import torch

    from btoks.evaluation import long

    torch.set_num_threads(1)
    lengths = (WINDOW - 8, 2 * WINDOW, 4 * WINDOW)
    runs = [long.measure(trained(seed), tasks=["passkey"], lengths=lengths, window=WINDOW) for seed in SEEDS]
    print("| tokens | facts | " + " | ".join(long.policies()) + " |")
    print("|---" * (2 + len(long.policies())) + "|")
    for length in lengths:
        for facts in ("accuracy", "beyond"):
            cells = []
            for policy in long.policies():
                lines = [line for run in runs for line in run if (line.length, line.policy) == (length, policy)]
                values = [100 * value for line in lines if (value := getattr(line, facts)) is not None]
                cells.append(f"{statistics.mean(values):.0f} ({min(values):.0f}–{max(values):.0f})" if values else "")
            if any(cells):
                print(f"| {length} | {'all' if facts == 'accuracy' else 'past the window'} | {' | '.join(cells)} |")


def twins(runs: Path, out: Path) -> None:
    """What each method brings the trained baselines of each seed on the mini benchmark, text alone where it must be."""
    from ablation import METHOD, VARIANTS, scored
    from ablation_report import write

    from btoks import load, methods

    found = []
    for seed in SEEDS:
        folder = runs / f"{seed}-{list(VARIANTS).index(METHOD):02}" / "run" / "model"
        for name, spec in {METHOD: "mean", **METHODS}.items():
            made = methods.create("pooling", spec)
            if "image" not in methods.card(made).takes:
                continue
            with methods.apply(load(folder), made) as model:
                found.append({"variant": name, "seed": seed, **scored(model)})
            print(f"{seed} {name}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "scores.json").write_text(json.dumps(found), encoding="utf-8")
    print(write(found, METHOD, out))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("cost", "long", "twins"), required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--runs", type=Path, help="the folder of `ablation.py --out`")
    parser.add_argument("--out", type=Path, help="folder of the twins' scores")
    asked = parser.parse_args()
    if asked.only == "cost":
        cost(asked.rounds)
    elif asked.only == "long":
        far()
    elif asked.runs and asked.out:
        twins(asked.runs, asked.out)
    else:
        parser.error("twins need --runs and --out")


if __name__ == "__main__":
    main()
