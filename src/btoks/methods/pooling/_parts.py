"""Rows taken in parts: a row of the batch becomes several, each is pooled, and their unit vectors are averaged.

Shape suffixes: B rows of the batch, P parts of them, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor, nn

from btoks import prompts
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.patched import Patched

OWNER = "part_of"
"""The feature that says which row of the batch a part belongs to (P,)."""


class PartsMean(Module):
    """The module: the mean of the unit vectors of a row's parts; a row in one part stays as it is."""

    config_keys = ["dim"]

    def __init__(self, dim: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dim = dim

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Join the parts of a batch."""
        owner_P: Tensor | None = features.pop(OWNER, None)
        if owner_P is None:
            return features
        part_PD: Tensor = features["sentence_embedding"]
        count_B = torch.bincount(owner_P)
        single_P1 = (count_B[owner_P] == 1)[:, None]
        weighed_PD = torch.where(single_P1, part_PD, nn.functional.normalize(part_PD, dim=1))
        sum_BD = part_PD.new_zeros(len(count_B), part_PD.shape[1]).index_add(0, owner_P, weighed_PD)
        features["sentence_embedding"] = sum_BD / count_B[:, None]
        return features

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.dim

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the settings; there are no weights."""
        self.save_config(output_path)


def rows(features: Mapping[str, Any]) -> list[Tensor]:
    """The attended tokens of each row."""
    pairs = zip(features["input_ids"], features["attention_mask"].bool(), strict=True)
    return [ids_T[mask_T] for ids_T, mask_T in pairs]


def parted(features: Mapping[str, Any], parts: Sequence[Sequence[Tensor]], backbone: Patched) -> dict[str, Any]:
    """The features of the parts of each row, padded on the right; refuses what has no parts."""
    if "past_key_values" in features:
        raise BtoksError("memory", "an input taken in parts has none", "choose another pooling for memories")
    if any(key.startswith("pixel") for key in features):
        raise BtoksError("batch", "only texts can be taken in parts", "embed pictures apart, or choose another pooling")
    mask_BT: Tensor = features["attention_mask"]
    every = [part for row in parts for part in row]
    pad = prompts.tokenizer_of(backbone.processor).pad_token_id or 0
    ids_PT = nn.utils.rnn.pad_sequence(every, batch_first=True, padding_value=pad)
    lengths_P1 = torch.tensor([len(part) for part in every], device=mask_BT.device)[:, None]
    inside_PT = torch.arange(ids_PT.shape[1], device=mask_BT.device) < lengths_P1
    out = dict(features)
    for key, value in features.items():
        if isinstance(value, Tensor) and value.shape == mask_BT.shape:
            out[key] = torch.zeros_like(ids_PT)
    owner_P = torch.tensor([row for row, own in enumerate(parts) for _ in own], device=mask_BT.device)
    before_B: Tensor | None = features.get(OWNER)
    out[OWNER] = owner_P if before_B is None else before_B[owner_P]
    return out | {"input_ids": ids_PT, "attention_mask": inside_PT.to(mask_BT.dtype)}
