"""An autoencoder: an encoder and a decoder with one hidden layer each, trained on the squared error (Hinton 2006).

Its decoder is not affine, so scoring decodes block by block: use it to compare, not for speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from btoks.methods import method
from btoks.methods.quantize import _kernels, _primitives, _reducing
from btoks.methods.quantize._primitives import Floats

_BATCH, _RATE = 256, 2e-3


def _half(start: int, hidden: int, end: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(start, hidden), nn.GELU(), nn.Linear(hidden, end))


def _train(encoder: nn.Module, decoder: nn.Module, X_ND: Tensor, steps: int) -> None:
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch_BD = X_ND[torch.randint(len(X_ND), (min(_BATCH, len(X_ND)),))]
        loss = (decoder(encoder(batch_BD)) - batch_BD).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@method(
    title="Autoencoder",
    paper="2505.00105",
    stage="quantize",
    system="B1",
    trained=True,
    no_identity="a trained non-linear map: its decoder never is the exact inverse",
)
@dataclass(frozen=True)
class Autoencoder:
    """K numbers from a trained encoder; `hidden` is the hidden width as a multiple of D."""

    components: float | int = 0.5
    hidden: int = 2
    steps: int = 2000
    seed: int = 0
    state: _primitives.State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_amount(self, self.components, "components")
        _primitives.check_count(self, self.hidden, "hidden")
        _primitives.check_count(self, self.steps, "steps")

    def fit(self, X_ND: Any) -> Self:
        """Train both halves on vectors brought to zero mean and unit variance."""
        rows_ND = _primitives.fitting(self, X_ND)
        mean_D = rows_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = float((rows_ND - mean_D).std(dtype=np.float64)) or 1.0
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            encoder, decoder = self._halves(len(mean_D))
            _train(encoder, decoder, torch.from_numpy((rows_ND - mean_D) / np.float32(spread)), self.steps)
        weights = {
            f"{half}.{key}": tensor.numpy().copy()
            for half, module in (("encoder", encoder), ("decoder", decoder))
            for key, tensor in module.state_dict().items()
        }
        return replace(self, state={"mean": mean_D, "spread": np.array([spread], np.float32), **weights})

    def reduce(self, X_ND: Any) -> Floats:
        """The encoder's output."""
        mean_D = _primitives.learnt(self, "mean")
        rest_ND = (_primitives.encoding(self, X_ND, len(mean_D)) - mean_D) / self.state["spread"]
        return self._run("encoder", rest_ND)

    def lift(self, Z_NK: Floats, dim: int) -> Floats:
        """The decoder's output."""
        mean_D = _primitives.learnt(self, "mean")
        lifted: Floats = self._run("decoder", Z_NK) * self.state["spread"] + mean_D
        return lifted

    fold = _reducing.not_affine
    encode, decode, score = _reducing.encode, _reducing.decode, _reducing.score
    width, bytes_per_vector = _reducing.width, _reducing.bytes_per_vector
    state_nbytes = property(_primitives.state_nbytes)

    def _halves(self, dim: int) -> tuple[nn.Sequential, nn.Sequential]:
        width = self.width(dim)
        return _half(dim, self.hidden * dim, width), _half(width, self.hidden * dim, dim)

    def _run(self, half: str, rows: Floats) -> Floats:
        layers = [torch.from_numpy(self.state[f"{half}.{key}"]) for key in ("0.weight", "0.bias", "2.weight", "2.bias")]
        out = np.empty((len(rows), len(layers[3])), np.float32)
        for block in _primitives.blocks(len(rows), len(layers[1])):
            hidden = nn.functional.gelu(nn.functional.linear(_kernels.tensor(rows[block]), layers[0], layers[1]))
            out[block] = nn.functional.linear(hidden, layers[2], layers[3]).numpy()
        return out
