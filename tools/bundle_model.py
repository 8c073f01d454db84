"""Puts a trained model into the package as btoks-mini: `bundle_model.py RUN/model --version 1 --recipe mini --seed 0`.

Weights are rounded to bfloat16 and stored so; the model opens in float32 with exactly these numbers. The card lists
every training set with its licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import btoks
from btoks.bottleneck import generator, record
from btoks.training.recipe import opened

OUT = Path(__file__).parents[1] / "src" / "btoks" / "bundled" / "btoks-mini"
LARGEST = 24_000_000
SETS = {
    "aquarium": "Aquarium Combined (Roboflow, 2020), CC BY 4.0",
    "cards": "playing cards, photographs by Evan Juras, Apache-2.0",
    "cranfield": "Cranfield 1400, abstracts handed out for research without a formal licence",
    "emoji": "FxEmojis by Mozilla, CC BY 4.0",
    "flags": "country-flags and factbook descriptions, public domain",
    "grocery": "Grocery Store Dataset by Marcus Klasson, MIT",
    "kanji": "KanjiVG by Ulrich Apel and contributors, CC BY-SA 3.0",
    "larc": "LARC by Acquaviva et al., CC BY 4.0",
    "motion": "CMU Graphics Lab motion capture database, free for research and commercial use",
    "nlvr": "NLVR (2017), CC BY 4.0",
    "recipes": "based.cooking, public domain",
    "terminal": "VHS recordings by Charmbracelet, MIT",
    "weather": "Weather Icons by Bas Milius, MIT",
    "wikitables": "WikiTableQuestions, CC BY-SA 4.0",
    "xquad": "XQuAD, CC BY-SA 4.0",
}


def bundle(folder: Path, recipe: str, seed: int, version: int) -> int:
    """Write the model into the package and return the size of its weights in bytes."""
    model = btoks.load(folder, device="cpu")
    with torch.no_grad():
        for weight in generator(model).parameters():
            weight.copy_(weight.bfloat16().float())
    used = {each.name.partition("-")[0] for each in opened(recipe).sets}
    made = "shapes drawn by btoks.training.shapes; texts and sentences of the above with words left out"
    notes = record(model)
    notes["version"] = version
    notes["data"] = [f"{name}: {SETS[name]} (train split)" for name in sorted(used & SETS.keys())] + [made]
    notes["results"] = "docs/results.md, “The bundled model”; `btoks eval mini` prints them anew."
    notes["recipe"] = f"btoks train {recipe} --seed {seed}"
    btoks.save(model, OUT)
    file = OUT / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    return file.stat().st_size


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a trained model's folder")
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", type=int, required=True)
    asked = parser.parse_args()
    size = bundle(asked.folder, asked.recipe, asked.seed, asked.version)
    print(f"{OUT}: {size / 1e6:.1f} MB of weights")
    if size > LARGEST:
        raise SystemExit(f"more than {LARGEST / 1e6:.0f} MB: make the model smaller")


if __name__ == "__main__":
    main()
