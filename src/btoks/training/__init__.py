"""Training: contrastive and Generative Information Condensation, on sentence-transformers' trainer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from btoks.training.data import Set
    from btoks.training.loss import CondensationLoss
    from btoks.training.recipe import Lora, Recipe
    from btoks.training.run import train

_HOME = {"CondensationLoss": "loss", "Lora": "recipe", "Recipe": "recipe", "Set": "data", "train": "run"}
__all__ = ["CondensationLoss", "Lora", "Recipe", "Set", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'btoks.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"btoks.training.{_HOME[name]}"), name)
