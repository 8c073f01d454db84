"""Changes of the backbone's passes and then a pooling, in one method: `tempscale:0.7+longembed:ntk+weighted`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from btoks.errors import BtoksError
from btoks.methods import card, create, method, settings
from btoks.methods.pooling import _parts, _patches


@method(
    title="Changed passes, then a pooling",
    paper="2410.24200",
    stage="pool",
    identity={"parts": ("mean",)},
    cost="that of its parts",
)
@dataclass(frozen=True)
class Chain(_patches.Patch):
    """Methods by their short strings (or mappings), changes first; without a pooling at the end the plain one."""

    parts: Sequence[Any] = ("tempscale", "weighted")

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        made = [create("pooling", part) for part in self.parts]
        fine = bool(made) and all(isinstance(each, _patches.Patch) for each in made[:-1])
        framed = [each for each in made if isinstance(each, _patches.Patch) and each.frames("")]
        if not fine or any(isinstance(each, Chain) for each in made) or len(framed) > 1:
            reason = f"cannot join {'+'.join(map(str, self.parts))}"
            raise BtoksError(
                "pooling chain", reason, "give changes first, then one pooling, such as tempscale+weighted"
            )

    @property
    def takes(self) -> tuple[str, ...]:
        """The kinds of input that every part is for."""
        made = [card(each).takes for each in self._made()]
        return tuple(kind for kind in made[0] if all(kind in each for each in made))

    def patches(self) -> list[_patches.Patch]:
        """Those of the parts."""
        return [patch for each in self._made() if hasattr(each, "patches") for patch in each.patches()]

    def frames(self, slot: str) -> tuple[tuple[str, str], ...]:
        """Those of the part that has any."""
        return next((found for each in self.patches() if (found := each.frames(slot))), ())

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """The last part's, then one that joins rows if another part takes them in parts."""
        *before, last = self._made()
        joins = any(each.parts_rows for each in before) and not getattr(last, "parts_rows", False)
        joined = [_parts.PartsMean(self.width(len(_patches.names(vocabulary)), dim))] if joins else []
        return [*last.modules(vocabulary, dim), *joined]

    def width(self, tokens: int, dim: int) -> int:
        """The pooling's."""
        return int(self._made()[-1].width(tokens, dim))

    def _made(self) -> list[Any]:
        return [create("pooling", part) for part in self.parts]


def led(pooling: Any, change: Any) -> Chain:
    """A pooling behind a change, which takes the place of those of its kind.

    >>> led("tempscale:0.7+weighted", create("pooling", "tempscale:0.5")).parts[1:]
    ('weighted',)
    """
    own = create("pooling", pooling)
    parts = own.parts if isinstance(own, Chain) else (settings(own),)
    kept = (part for part in parts if not isinstance(create("pooling", part), type(change)))
    return Chain((settings(change), *kept))
