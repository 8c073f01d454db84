"""TempScale: a sharper softmax in attention, against the collapse of long texts into one direction (2410.24200).

Self-attention is a low-pass filter that grows stronger with length, so that long texts come to point the same way.
softmax(QKᵀ / (τ√d)) with τ < 1 counters it without training. A pass on the inputs alone is changed: text read from a
memory that it left is read as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from btoks.errors import BtoksError
from btoks.methods import method
from btoks.methods.pooling import _attention, _patches


@method(
    title="TempScale — temperature against length collapse",
    paper="2410.24200",
    system="A3",
    stage="pool",
    identity={"temperature": 1.0},
    cost="a division a query",
)
@dataclass(frozen=True)
class TempScale(_patches.Patch):
    """Temperature τ in the softmax of all or chosen `layers` (from 0, or from the end), in rows of over `above` tokens.

    The rows are those of the prompt, the bottleneck tokens included.
    """

    temperature: float = 0.7
    layers: Sequence[int] | None = None
    above: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise BtoksError(f"temperature={self.temperature}", "not a temperature", "pass one above 0, such as 0.7")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))

    def patching(self, run: _patches.Run) -> AbstractContextManager[None]:
        """Queries over τ; the kernel stays as it is where no row is to change."""
        layers = self._chosen(len(run.decoder.layers))
        warm_B = run.lengths > self.above
        if self.temperature == 1 or not warm_B.any():
            return nullcontext()
        tau_B = torch.where(warm_B, self.temperature, 1.0)

        def sharpened(kernel: _attention.Kernel) -> _attention.Kernel:
            def attend(
                module: nn.Module, query_BHTW: Tensor, *args: Any, **options: Any
            ) -> tuple[Tensor, Tensor | None]:
                if module.layer_idx in layers:
                    query_BHTW = query_BHTW / tau_B.to(query_BHTW)[:, None, None, None]
                return kernel(module, query_BHTW, *args, **options)

            return attend

        return _attention.changed(run.decoder, sharpened)

    def _chosen(self, count: int) -> set[int]:
        if self.layers is None:
            return set(range(count))
        for layer in self.layers:
            if not -count <= layer < count:
                raise BtoksError(f"layer {layer}", f"the model has {count}", f"choose from 0 to {count - 1}")
        return {layer % count for layer in self.layers}
