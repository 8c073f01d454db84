"""The attention of a language model, changed for one pass: an entry of our own in transformers' table of kernels.

The entry hands on to the kernel that the model runs with. Elsewhere than in the pass that put it on it changes nothing.

Shape suffixes: B batch, H heads, T tokens, W width of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Kernel = Callable[..., tuple[Tensor, Tensor | None]]
"""(module, query_BHTW, key, value, mask, **options) → (output, weights or None)."""

_PREFIX = "btoks_"
_CHANGES: ContextVar[tuple[Callable[[Kernel], Kernel], ...]] = ContextVar("btoks_attention", default=())


@contextmanager
def changed(decoder: Any, change: Callable[[Kernel], Kernel], *, inner: bool = False) -> Iterator[None]:
    """Let every attention layer of `decoder` run `change(kernel)` instead of its kernel.

    An `inner` change is the kernel of those that are not, in whichever order they come.
    """
    config = decoder.config
    before = config._attn_implementation
    others = _CHANGES.get()
    token = _CHANGES.set((change, *others) if inner else (*others, change))
    config._attn_implementation = _entry(before.removeprefix(_PREFIX))
    try:
        yield
    finally:
        config._attn_implementation = before
        _CHANGES.reset(token)


def _entry(kernel: str) -> str:
    name = _PREFIX + kernel
    AttentionInterface.register(name, partial(_attend, kernel))
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[kernel])
    return name


def _attend(kernel: str, module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    # Every modeling file has its own eager kernel, which the table does not hold.
    own: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    run: Kernel = ALL_ATTENTION_FUNCTIONS.get_interface(kernel, own)
    for change in _CHANGES.get():
        run = change(run)
    return run(module, *args, **options)
