"""CREM: a switch a batch between the chorus alone and the whole input, and generation that can do with the chorus."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from btoks import condensation, methods, read
from btoks.errors import BtoksError
from btoks.training.loss import CondensationLoss
from items import attached, features, fresh
from trained import hit, trained
from training.by_hand import POSITIVES, QUERIES, plain

WORDS, COLOURS = ("fox", "dog", "book", "bus"), ("red", "lazy", "quick", "brown")


def facts() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Texts with two facts and both of them in order, for training and held out."""
    every = [
        (f"{one} {a} and {other} {b}", f"{a}: {one}, {b}: {other}")
        for a, b in itertools.permutations(WORDS, 2)
        for one, other in itertools.product(COLOURS, repeat=2)
    ]
    order = np.random.default_rng(0).permutation(len(every))
    return [every[place] for place in order[48:]], [every[place] for place in order[:48]]


def test_the_switch_is_drawn_by_seed_and_step() -> None:
    crem = methods.create("pooling", {"name": "crem", "masked": 0.25})
    drawn = [crem.masks(step) for step in range(2000)]
    assert abs(np.mean(drawn) - 0.25) < 0.03
    assert drawn == [crem.masks(step) for step in range(2000)]
    other = methods.create("pooling", {"name": "crem", "masked": 0.25, "seed": 1})
    assert drawn != [other.masks(step) for step in range(2000)]
    ends = [methods.create("pooling", f"crem:{share}").masks(step) for share in (0, 1) for step in range(20)]
    assert ends == [False] * 20 + [True] * 20
    with pytest.raises(BtoksError, match="not a share"):
        methods.create("pooling", "crem:1.5")


def test_a_step_is_that_of_the_plain_loss_with_or_without_the_mask() -> None:
    plainly, crem = attached("qwen3"), fresh("qwen3", pooling="crem")
    columns = [features(plainly, *plain(items)) for items in (QUERIES, POSITIVES)]
    wanted = {mask: CondensationLoss(plainly, mask=mask)(columns).item() for mask in (True, False)}
    assert abs(wanted[True] - wanted[False]) > 1e-3
    loss, seen = CondensationLoss(crem), set()
    for step in range(6):
        loss.step = step
        seen.add(loss.masked)
        assert loss(columns).item() == pytest.approx(wanted[loss.masked], rel=1e-5)
    assert seen == {True, False}


def test_the_chorus_alone_tells_what_was_asked_for() -> None:
    """Held-out facts from K places of the cache: beyond chance and means of as many places; retrieval is no worse."""
    known, held_out = facts()
    model, contrastive = (trained(known, 70, **options) for options in ({"pooling": "crem"}, {"weight": 0.0}))
    batch = features(model, *({"text": text} for text, _ in held_out))
    chorus, whole = (condensation.memory(model, batch, full=full)[1] for full in (False, True))
    assert chorus.keys_LBHKD.shape[3] == 4
    right = told(model, chorus, held_out)
    assert right > 0.25 + 0.15, "a colour of four"
    assert right >= told(model, means(whole, 4), held_out)
    assert hit(model, held_out) >= hit(contrastive, held_out)


def told(model: object, memory: condensation.Memory, pairs: list[tuple[str, str]]) -> float:
    """The share of facts that greedy reading gives."""
    found = read(model, memory, max_new_tokens=12)
    wanted = [answer.split(", ") for _, answer in pairs]
    return float(np.mean([fact in text for text, own in zip(found, wanted, strict=True) for fact in own]))


def means(whole: condensation.Memory, places: int) -> condensation.Memory:
    """A cache of inputs of one length brought down to means of neighbouring places."""
    rows = []
    for row in range(len(whole)):
        count = int(whole.mask_BK[row].sum()) - places  # without the chorus itself
        parts = np.array_split(np.arange(count), places)
        rows.append(
            [
                torch.stack([each[:, row, :, part].mean(2) for part in parts], dim=2)
                for each in (whole.keys_LBHKD, whole.values_LBHKD)
            ]
        )
    keys, values = (torch.stack(each, dim=1) for each in zip(*rows, strict=True))
    return condensation.Memory(keys, values, whole.position_B)
