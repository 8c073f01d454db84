"""Writes the scores of the trained last-token twin on the mini benchmark, to show beside other models: `MODEL`.

MODEL is a folder of a model trained by the recipe `mini_last`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import btoks
from btoks.bundled import benchmark
from btoks.evaluation import evaluate
from btoks.evaluation.mini import Bench, data_key

NAME = "trained last token"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of the twin")
    parser.add_argument(
        "--out", type=Path, default=benchmark() / "twin.json", help="file to write (default: %(default)s)"
    )
    arguments = parser.parse_args()
    model = btoks.load(arguments.model)
    reports = {
        kind: evaluate(model, Bench.of(layers=kind == "layers").tasks, name=NAME) for kind in ("layers", "pictures")
    }
    held = {
        "name": NAME,
        "data": data_key(benchmark()),
        "model": reports["layers"].model,
        "scores": {kind: report.scores() for kind, report in reports.items()},
    }
    arguments.out.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
