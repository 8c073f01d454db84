"""The last-token twin of `mini`, to compare it with: no bottleneck tokens, contrast alone, all else alike."""

from __future__ import annotations

import dataclasses

from btoks.training.recipe import Recipe
from btoks.training.recipes import mini


def recipe() -> Recipe:
    """As many steps on the same rows in the same order, from the same first stage."""
    return dataclasses.replace(mini.recipe(), name="mini_last", tokens=0, pooling="last", weight=0.0)
