"""What the parts of the method bring, on small twins: `ablation.py --data $BTOKS_DATA --out runs/ablation`.

For each seed one first stage (captions through the whole cache) and from it one twin a variant, all with the same rows
in the same order and as many steps. Scored on the mini benchmark: hit@1, hit@5 and nDCG@5 of each meta-task, and how
much of a text the memory gives back. A run that was killed goes on; finished twins are not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SEEDS, STEPS, FIRST_STEPS = (0, 1, 2), 300, 900
MOST_TOKENS, LONGEST = 96, 24
MEASURES = ("hit@1", "hit@5", "ndcg_linear@5")
METHOD = "4 tokens, generation through the mask"
VARIANTS: dict[str, dict[str, Any]] = {
    "last token": {"tokens": 0, "pooling": "last", "weight": 0.0},
    "mean over the input": {"tokens": 0, "pooling": "input_mean", "weight": 0.0},
    "4 tokens, contrast alone (λ 0)": {"weight": 0.0},
    "4 tokens, generation without the mask": {"mask": False},
    METHOD: {},
    "1 token": {"tokens": 1},
    "2 tokens": {"tokens": 2},
    "8 tokens": {"tokens": 8},
    "16 tokens": {"tokens": 16},
    "λ 1": {"weight": 1.0},
    "λ for the first half": {"weight_steps": STEPS // 2},
}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Makes a model of three million parameters."""

    seed: int

    def __call__(self, data: Path | None) -> Any:
        """The model and its processor."""
        from btoks.training.recipes import mini_captions
        from btoks.training.scratch import Size, backbone

        size = Size(4096, hidden=160, layers=4, heads=4, feed=480, vision_hidden=128, vision_layers=2, visual_tokens=9)
        return backbone(mini_captions.texts(data or Path()), size, seed=self.seed)


@dataclasses.dataclass(frozen=True)
class Begun:
    """Opens the first stage with a variant's own tokens."""

    stage: Path
    tokens: int
    pooling: str

    def __call__(self, _: Path | None) -> Any:
        """The model to train."""
        from btoks import load
        from btoks.training.build import started
        from btoks.training.recipes import mini

        shape = {"tokens": self.tokens, "pooling": self.pooling, "max_tokens": MOST_TOKENS}
        return started(load(self.stage, device="cpu"), dataclasses.replace(mini.recipe(), **shape))


def first(seed: int, data: Path, steps: int) -> Any:
    """The stage that all twins of a seed start from; it has tokens for the largest of them."""
    from btoks.training.recipes import mini_captions

    most = max(each.get("tokens", 4) for each in VARIANTS.values())
    small = {"batch": 32, "chunk": 32, "block": 32, "max_tokens": MOST_TOKENS, "workers": 1, "data": data}
    plain = dataclasses.replace(mini_captions.recipe(), name="ablation_first", model=Backbone(seed), **small)
    return dataclasses.replace(plain, steps=steps, tokens=most, seed=seed, longest_target=LONGEST)


def twin(seed: int, data: Path, steps: int, changes: dict[str, Any]) -> Any:
    """A variant's recipe but for what it starts from."""
    from btoks.training.recipes import mini

    same = {"batch": 32, "chunk": 32, "block": 32, "steps": steps, "weight": 5.0, "longest_target": LONGEST}
    rest = {"dev": (), "dev_every": None, "max_tokens": MOST_TOKENS, "workers": 1, "data": data, "seed": seed}
    return dataclasses.replace(mini.recipe(), name="ablation", start=None, **{**same, **rest, **changes})


def run(job: tuple[str, int, Path, Path, int]) -> Path:
    """Train and score one twin, unless that is done; returns the file of its scores."""
    from btoks import load
    from btoks.training.run import train

    variant, seed, data, out, steps = job
    home = out / f"{seed}-{list(VARIANTS).index(variant):02}"
    file = home / "scores.json"
    if not file.is_file():
        recipe = twin(seed, data, steps, VARIANTS[variant])
        begun = Begun(out / f"{seed}-first" / "model", recipe.tokens, recipe.pooling)
        folder = train(dataclasses.replace(recipe, model=begun), out=home / "run")
        scores = {"variant": variant, "seed": seed, **scored(load(folder))}
        file.write_text(json.dumps(scores), encoding="utf-8")
    return file


def scored(model: Any) -> dict[str, Any]:
    """Every query's measures on the mini benchmark, and the share of tokens that the memory gives back."""
    from btoks.bundled import benchmark
    from btoks.evaluation import evaluate, metrics
    from btoks.evaluation.records import tasks

    report = evaluate(model, tasks(benchmark()))
    found = {}
    for result in report.results:
        values = {}
        for each in result.predictions:
            one = metrics.score(each.ranking, each.relevant, ks=(1, 5))
            values[each.query] = [one[name] for name in MEASURES]
        found[result.name] = {"meta_task": result.about["meta_task"], "queries": values}
    return {"tasks": found, "read": given_back(model)}


def given_back(model: Any) -> dict[str, float] | None:
    """The share of a text's tokens that greedy reading from the memory alone gives at their places."""
    from btoks import memory, read
    from btoks.bottleneck import record
    from btoks.media import load
    from btoks.training.rows import decoded
    from btoks.training.shapes import Shapes

    if not record(model)["tokens"]:
        return None
    rows = Shapes("tell", 200, seed=10_000).open(None)
    right = total = 0
    for begin in range(0, len(rows), 50):
        chosen = [rows.row(number, 0) for number in range(begin, begin + 50)]
        _, held = memory(model, model.preprocess([decoded(row.query, load) for row in chosen]))
        for text, row in zip(read(model, held, max_new_tokens=LONGEST), chosen, strict=True):
            wanted = model.tokenizer.encode(row.positive["text"], add_special_tokens=False)
            told = model.tokenizer.encode(text, add_special_tokens=False)
            right += sum(one == other for one, other in zip(wanted, told, strict=False))
            total += len(wanted)
    return {"shapes": right / total}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BTOKS_DATA"), help="folder of data folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of the report")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--jobs", type=int, default=2, help="twins at a time, a thread each")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    from ablation_report import write

    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        stages = [(seed, asked.data, asked.out, FIRST_STEPS) for seed in asked.seeds]
        list(pool.map(_first, stages))
        jobs = [(name, seed, asked.data, asked.out, asked.steps) for seed in asked.seeds for name in VARIANTS]
        files = []
        for file in pool.map(run, jobs):
            files.append(file)
            print(f"{len(files)}/{len(jobs)} {file}", flush=True)
    print(write([json.loads(file.read_text(encoding="utf-8")) for file in files], METHOD, asked.out))


def _first(stage: tuple[int, Path, Path, int]) -> None:
    from btoks.training.run import train

    seed, data, out, steps = stage
    train(first(seed, data, steps), out=out / f"{seed}-first")


if __name__ == "__main__":
    main()
