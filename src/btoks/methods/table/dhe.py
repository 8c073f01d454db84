"""Deep hash embeddings (DHE, 2010.10784): no rows at all, a network computes them from many hashes of the id.

A frozen table is the hardest case for it: nothing in the hashes says which rows are alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from btoks.methods import method
from btoks.methods.table import _primitives
from btoks.methods.table._primitives import Floats, State

_BATCH, _RATE = 512, 3e-3


@method(
    title="Deep hash embeddings",
    paper="2010.10784",
    stage="table",
    system="B2",
    trained=True,
    no_identity="a network that computes rows, trained to a least squared error that is not zero",
)
@dataclass(frozen=True)
class Dhe:
    """`hashes` numbers in [−1, 1] for an id, a hidden layer as wide as the budget allows, the row."""

    hashes: int = 32
    steps: int = 1000
    seed: int = 0
    state: State = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _primitives.check_count(self, self.hashes, "hashes")
        _primitives.check_count(self, self.steps, "steps")

    def fit(self, table_VD: Any, budget: float) -> Self:
        """Train the network on the rows."""
        rows_VD = _primitives.table(table_VD)
        width = self._width(len(rows_VD), rows_VD.shape[1], budget)
        scale = float(np.abs(rows_VD).mean()) or 1.0
        target = torch.from_numpy(rows_VD / np.float32(scale))
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            last = nn.Linear(width, rows_VD.shape[1])
            model = nn.Sequential(nn.Linear(self.hashes, width), nn.GELU(), last)
            self._train(model, target)
        with torch.no_grad():
            last.weight.mul_(scale)
            last.bias.mul_(scale)
        weights = {key: tensor.numpy().copy() for key, tensor in model.state_dict().items()}
        return replace(self, state=weights | {"shape": _primitives.shape(rows_VD)})

    def lookup(self, ids_N: Any) -> Floats:
        """What the network computes."""
        ids = _primitives.asked(self, ids_N)
        weights = {key: torch.from_numpy(array) for key, array in self.state.items() if key != "shape"}
        hidden = functional.gelu(functional.linear(self._codes(ids), weights["0.weight"], weights["0.bias"]))
        rows: Floats = functional.linear(hidden, weights["2.weight"], weights["2.bias"]).numpy()
        return rows

    def bytes_for(self, rows: int, dim: int, budget: float) -> int:
        """4·(h·(k + 1) + D·(h + 1)) with k hashes and hidden width h."""
        width = self._width(rows, dim, budget)
        return 4 * (width * (self.hashes + 1) + dim * (width + 1))

    nbytes = property(_primitives.nbytes)

    def _width(self, rows: int, dim: int, budget: float) -> int:
        each = self.hashes + 1 + dim
        _primitives.refuse_below(4 * (each + dim), self, budget, rows, dim)
        return (_primitives.allowance(budget, rows, dim) // 4 - dim) // each

    def _codes(self, ids: _primitives.Ids) -> Tensor:
        size = 1_000_003
        places = [_primitives.hashed(ids, self.seed + each, size) for each in range(self.hashes)]
        return torch.from_numpy(np.stack(places, axis=1).astype(np.float32) / (size - 1) * 2 - 1)

    def _train(self, model: nn.Module, target_VD: Tensor) -> None:
        codes_VK = self._codes(np.arange(len(target_VD)))
        optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            batch = torch.randint(len(target_VD), (min(_BATCH, len(target_VD)),))
            loss = (model(codes_VK[batch]) - target_VD[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
