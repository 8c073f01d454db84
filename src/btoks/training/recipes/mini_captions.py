"""The first stage of `mini`: a model from nothing learns to tell what it sees, with the whole input before it."""

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
    """Captioning through the whole cache, beside contrast."""
    return Recipe(
        "mini_captions",
        model=make,
        sets=tuple(each for each in SETS if each.side != "none"),
        steps=300,
        batch=32,
        chunk=32,
        block=32,
        lr=3e-4,
        warmup=50,
        schedule="cosine",
        weight=1.0,
        mask=False,
        temperature=0.05,
        longest_target=32,
        max_tokens=160,
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
