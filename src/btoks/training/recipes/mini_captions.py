"""The first stage of `mini`: a model from nothing learns to tell what it sees, with the whole input before it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.training.recipe import Recipe
from btoks.training.recipes.mini import SETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def recipe() -> Recipe:
    """Captioning far above contrast, through the full cache."""
    return Recipe(
        "mini_captions",
        model=make,
        sets=tuple(dataclasses.replace(each) for each in SETS if each.side != "none"),
        steps=1500,
        batch=64,
        chunk=64,
        block=64,
        lr=1e-3,
        schedule="cosine",
        weight=20.0,
        mask=False,
        temperature=0.05,
        longest_target=64,
        max_tokens=512,
    )


def make(data: Path | None) -> Any:
    """A Qwen3-VL of about ten million parameters, with a tokenizer of the training texts."""
    from btoks.training.scratch import Size, backbone

    if data is None:
        raise BtoksError("mini", "no data folder is known", "set BTOKS_DATA or the recipe's data")
    return backbone(texts(data), Size(vocabulary=8192, hidden=288, layers=6, heads=6, feed=864))


def texts(data: Path) -> Iterator[str]:
    """Every text of the training records below a folder."""
    for file in sorted(data.glob("*/records.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record["split"] == "train":
                    sides = (record["query"], *record["positives"])
                    yield from (side["text"] for side in sides if side.get("text"))
