"""Patch embeddings as the matrix products that they are.

Vision towers cut a picture into patches with a convolution whose stride equals its kernel, and hand it one patch a row:
each row's output is then one matrix product, for which convolution kernels are many times slower on CPUs. Training
multiplies; elsewhere the model stays as transformers made it, so that vectors are the same bit for bit without btoks.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class PatchProduct(nn.Conv3d):
    """A convolution that multiplies where it is given exactly one patch a row."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """The same numbers as the convolution's, up to rounding."""
        if tuple(input.shape[2:]) != self.kernel_size:
            return super().forward(input)
        rows = functional.linear(input.flatten(1), self.weight.flatten(1), self.bias)
        return rows[:, :, None, None, None]


def multiply(model: nn.Module) -> None:
    """Make products of a model's patch convolutions; weights, names and what is saved stay as they are."""
    for module in model.modules():
        if type(module) is nn.Conv3d and _cuts_patches(module):
            module.__class__ = PatchProduct


def _cuts_patches(module: nn.Conv3d) -> bool:
    plain = module.groups == 1 and not any(module.padding) and all(step == 1 for step in module.dilation)
    return plain and module.stride == module.kernel_size
