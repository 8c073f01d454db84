"""A backbone whose visual tokens stand at plain text positions, as models trained without boundary tokens expect.

transformers finds visual tokens by their kind and gives them positions in time, height and width. Prompts of the
`vlm2vec` layout had no boundary tokens when such models were trained, so that no visual was found and every token,
visual or not, stood one after the last. Only `btoks.load` opens such a folder: the stock module cannot do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btoks.bottleneck import Backbone

if TYPE_CHECKING:
    from torch import Tensor


class PlainPositions(Backbone):
    """The module with explicit positions: 0, 1, 2, … over the attended tokens of a row, on every rotary axis."""

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Run a batch."""
        mask_BT: Tensor = features["attention_mask"]
        position_ids = (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)
        out: dict[str, Any] = super().forward(features, position_ids=position_ids, **kwargs)
        return out
