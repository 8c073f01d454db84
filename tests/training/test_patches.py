"""Patch convolutions as matrix products: the same numbers, the same weights, and only where they are patches."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import tiny
from btoks.training.patches import PatchProduct, multiply


@pytest.mark.parametrize("bias", [True, False])
def test_the_product_equals_the_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4), bias=bias).double()
    ours = nn.Sequential(copy.deepcopy(plain))
    multiply(ours)
    for given in (torch.randn(5, 3, 2, 4, 4).double(), torch.randn(2, 3, 4, 8, 12).double()):
        wanted, found = plain(given), ours(given)
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, atol=1e-12)
    given = torch.randn(5, 3, 2, 4, 4).double()
    plain(given).square().sum().backward()
    ours(given).square().sum().backward()
    assert torch.allclose(ours[0].weight.grad, plain.weight.grad, atol=1e-12)


def test_other_convolutions_stay() -> None:
    kept = nn.ModuleList(
        [
            nn.Conv3d(3, 4, 2, 1),
            nn.Conv3d(3, 4, 2, 2, padding=1),
            nn.Conv3d(4, 4, 2, 2, groups=2),
            nn.Conv3d(3, 4, 2, 2, dilation=2),
            nn.Conv2d(3, 4, 2, 2),
        ]
    )
    multiply(kept)
    assert not any(isinstance(each, PatchProduct) for each in kept)


def test_models_multiply_and_keep_their_weights_names() -> None:
    model, _ = tiny.backbone("qwen3_vl", layers=1)
    names = list(model.state_dict())
    multiply(model)
    found = [each for each in model.modules() if isinstance(each, PatchProduct)]
    assert len(found) == 1
    assert list(model.state_dict()) == names
    assert isinstance(copy.deepcopy(found[0]), PatchProduct)
    assert isinstance(pickle.loads(pickle.dumps(found[0])), PatchProduct)
