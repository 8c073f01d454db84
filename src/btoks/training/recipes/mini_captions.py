"""The first stage of `mini`: a model from nothing learns to tell things apart, and a little to say what they are.

Embeddings of a new model fall together, and stay so, where it learns faster or gives more weight to words.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.training.layers import layers, objects
from btoks.training.recipe import Recipe
from btoks.training.recipes.mini import SETS

if TYPE_CHECKING:
    from collections.abc import Iterator


def recipe() -> Recipe:
    """Contrast, with some captioning through the mask."""
    return Recipe(
        "mini_captions",
        model=make,
        sets=tuple(each for each in SETS if each.side != "none"),
        steps=900,
        batch=32,
        chunk=32,
        block=32,
        lr=1e-4,
        warmup=30,
        schedule="constant_with_warmup",
        weight=0.1,
        temperature=0.05,
        longest_target=32,
        max_tokens=64,
        workers=1,
    )


def make(data: Path | None) -> Any:
    """A Qwen3-VL of about nine million parameters, with a tokenizer of the training texts."""
    from btoks.training.scratch import Size, backbone

    if data is None:
        raise BtoksError("mini", "no data folder is known", "set BTOKS_DATA or the recipe's data")
    return backbone(texts(data), Size(vocabulary=8192, hidden=256, layers=5, heads=4, feed=768, visual_tokens=9))


def texts(data: Path) -> Iterator[str]:
    """Every text of the training records below a folder, and of the pages that they name."""
    for file in sorted(data.glob("*/records.jsonl")):
        pages: set[str] = set()
        for record in objects(file):
            if record["split"] == "train":
                sides = (record["query"], *record["positives"])
                yield from (side["text"] for side in sides if side.get("text"))
                pages |= {Path(side["page"]).stem for side in sides if side.get("page")}
        if pages:
            known = layers(file.parent)
            yield from (known[name] for name in sorted(pages))
