"""What a run has learnt, as one file: the tensors that train, whole even where a model is spread over devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

_FILE = "trained.safetensors"


def trained(model: nn.Module, losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """The parameters that train, those of the losses too."""
    named: dict[str, Tensor] = {f"model.{name}": each for name, each in model.named_parameters() if each.requires_grad}
    learnt = {name: loss.log_temperature for name, loss in losses.items() if loss.log_temperature is not None}
    return named | {f"temperature.{name}": each for name, each in learnt.items()}


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, gathered from all devices: every one of them must ask."""
    return {name: _gathered(each.detach()).cpu().contiguous() for name, each in tensors.items()}


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write whole tensors."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / _FILE)


@torch.no_grad()
def read(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Read what `write` wrote; refuses other tensors than those that train."""
    from safetensors.torch import load_file

    found = load_file(folder / _FILE)
    if found.keys() != into.keys():
        odd = min(found.keys() ^ into.keys())
        raise BtoksError(str(folder), f"it holds other tensors than this model trains, such as {odd}", "begin anew")
    for name, tensor in into.items():
        tensor.copy_(_spread(found[name], tensor))


def _gathered(tensor: Any) -> Tensor:
    out: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return out


def _spread(value: Tensor, like: Any) -> Tensor:
    """The value laid out over devices as another tensor is."""
    if not hasattr(like, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device_mesh.device_type), like.device_mesh, like.placements)
