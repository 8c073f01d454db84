"""What the methods share that train a part in front of the first layer: how a pass finds it, and where it comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from btoks.methods.pooling import _patches, _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_LINK = "front"


def link(model: Any, module: nn.Module) -> None:
    """Let the model's passes find a module of its pooling."""
    from btoks.bottleneck import generator

    generator(model).get_decoder().__dict__[_LINK] = module  # past nn.Module's registration: it is registered already


def linked(run: _patches.Run) -> Any:
    """The module that belongs to a pass."""
    return run.decoder.__dict__[_LINK]


@contextmanager
def swapped(model: SentenceTransformer, method: Any) -> Iterator[None]:
    """Pool with such a method for the length of a `with` block."""
    from btoks.bottleneck import generator

    links = generator(model).get_decoder().__dict__
    before = {_LINK: links[_LINK]} if _LINK in links else {}
    try:
        with _primitives.swapped(model, method):
            pooler: Any = model[1]
            pooler.on_model_ready(model)
            yield
    finally:
        links.pop(_LINK, None)
        links.update(before)


@contextmanager
def entering(decoder: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change what the first layer is given (B, T, D), for a while."""

    def changed(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    with _patches.hooked((decoder.layers[0].register_forward_pre_hook, changed), with_kwargs=True):
        yield


def sinusoids(place_BT: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions (B, T, W): no input is too long for them."""
    rate_H = torch.exp(torch.arange(0, width, 2, device=place_BT.device) * (-9.21 / width))
    angle_BTH = place_BT[..., None] * rate_H
    return torch.cat([angle_BTH.sin(), angle_BTH.cos()], dim=2)
