"""The slow, obvious reference of condensation: one pass over `[input][btoks][target]` with a dense mask, row by row."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

import tiny
from btoks import bottleneck, condensation
from items import KINDS, features, token_ids

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


NAMES = ("qwen2_vl", "qwen3_vl", "qwen3")
ROWS = ("image + text", "short text", "two images", "text", "video + text")


def rows(name: str) -> list[dict[str, Any]]:
    """A ragged batch of what the family takes."""
    items = [KINDS[kind] for kind in ROWS]
    return items if name in tiny.VISION else [{"text": item.get("text", "the garden " * 3)} for item in items]


def states(
    model: SentenceTransformer, item: dict[str, Any], target_T: Tensor, *, masked: bool = True
) -> tuple[Tensor, int]:
    """Last-layer states of the whole sequence, and where the target begins.

    The target sees the bottleneck tokens and itself, and without `masked` the input too; its positions go on after the
    largest position of the input, on every axis.
    """
    batch = features(model, item)
    body = bottleneck.generator(model).base_model
    ids_1L = torch.cat([batch["input_ids"], target_T[None]], dim=1)
    start, length = batch["input_ids"].shape[1], ids_1L.shape[1]
    allowed_LL = torch.ones(length, length, dtype=torch.bool).tril()
    if masked:
        allowed_LL[start:, : start - len(token_ids(model))] = False
    mask = torch.zeros(length, length).masked_fill(~allowed_LL, torch.finfo(torch.float32).min)[None, None]
    kinds = set(getattr(body.config.get_text_config(), "layer_types", None) or [])
    given = {key: value for key, value in batch.items() if key in inspect.signature(body.forward).parameters}
    given.pop("mm_token_type_ids", None)
    if "token_type_ids" in given:
        given["token_type_ids"] = functional.pad(given["token_type_ids"], (0, len(target_T)))
    given["input_ids"] = ids_1L
    given["attention_mask"] = dict.fromkeys(kinds, mask) if len(kinds) > 1 else mask
    given["position_ids"] = positions(body, batch, len(target_T))
    return body(**given).last_hidden_state[0], start


def positions(body: Any, batch: dict[str, Any], more: int) -> Tensor:
    """The position ids of an input as the model itself gives them, and of `more` tokens that follow."""
    length = batch["input_ids"].shape[1]
    if hasattr(body, "get_rope_index"):
        takes = inspect.signature(body.get_rope_index).parameters
        seen = body.get_rope_index(**{key: value for key, value in batch.items() if key in takes})[0]
    else:
        seen = torch.arange(length)[None]
    further = seen.max() + 1 + torch.arange(more)
    return torch.cat([seen, further.expand(*seen.shape[:-1], -1)], dim=-1)


def loss(
    model: SentenceTransformer, item: dict[str, Any], target_T: Tensor, supervised_T: Tensor, *, masked: bool = True
) -> tuple[Tensor, Tensor]:
    """The mean loss of the supervised tokens of one row, and its embedding."""
    hidden_LD, start = states(model, item, target_T, masked=masked)
    logits_TV = condensation.logits(model, hidden_LD[start:-1])
    each_T = functional.cross_entropy(logits_TV, target_T[1:], reduction="none")
    count = supervised_T[1:].sum().clamp(min=1)
    pooled_D = hidden_LD[start - len(token_ids(model)) : start].mean(0)
    return (each_T * supervised_T[1:]).sum() / count, functional.normalize(pooled_D, dim=0)


@torch.no_grad()
def spoken(model: SentenceTransformer, item: dict[str, Any], opening: str, count: int) -> list[int]:
    """The likeliest tokens after an opening, everything run again for every token."""
    told_T = model.tokenizer(opening, add_special_tokens=False, return_tensors="pt").input_ids[0]
    before = len(told_T)
    for _ in range(count):
        hidden_LD, _ = states(model, item, told_T)
        logits_V = condensation.logits(model, hidden_LD[-1])
        logits_V[token_ids(model)] = -torch.inf
        logits_V[len(model.tokenizer) :] = -torch.inf
        told_T = torch.cat([told_T, logits_V.argmax()[None]])
    return told_T[before:].tolist()
