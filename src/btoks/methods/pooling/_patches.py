"""What the methods share that change how the backbone runs: one pass as data, and the interface of such a change.

Shape suffixes: B batch, T tokens of a padded row, K bottleneck tokens, D width.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from btoks.methods.pooling import _parts, _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from btoks.patched import Patched


@dataclass
class Run:
    """One pass: the language model, its rows, whether a memory is taken, and other states to pool than the last.

    `slot` is the id of the token that stands in frames and in no text.
    """

    decoder: Any
    mask_BT: Tensor
    ids_BT: Tensor
    tokens: int
    slot: int
    remembers: bool
    states: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """Attended tokens of each row (B,)."""
        return self.mask_BT.sum(dim=1)


class Patch:
    """A change of the backbone's passes, beside the plain pooling: each method says what of this it does."""

    parts_rows = False
    """Whether it may take a row in parts."""

    def patches(self) -> list[Patch]:
        """The changes, in their order."""
        return [self]

    def frames(self, slot: str) -> tuple[tuple[str, str], ...]:
        """What stands around a text in the prompt, once or several times; `slot` is a token no text can have."""
        return ()

    def split(self, features: dict[str, Any], backbone: Patched) -> dict[str, Any]:
        """The features, or those of the parts that rows are taken in."""
        return features

    def patching(self, run: Run) -> AbstractContextManager[None]:
        """The change, for the length of one pass."""
        return nullcontext()

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """The modules of the plain pooling, and what joins parts."""
        joins = [_parts.PartsMean(dim)] if self.parts_rows else []
        return [*plain(vocabulary).modules(vocabulary, dim), *joins]

    def width(self, tokens: int, dim: int) -> int:
        """D."""
        return dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool so for a while."""
        return _primitives.swapped(model, self)


def names(vocabulary: Sequence[str]) -> list[str]:
    """The bottleneck tokens of a vocabulary, if it has any."""
    from btoks import prompts

    return _primitives.bottleneck_names(vocabulary) if prompts.token_name(0) in set(vocabulary) else []


def plain(vocabulary: Sequence[str]) -> Any:
    """The pooling without any change: the mean of the bottleneck tokens, or the last token where there are none."""
    from btoks import methods

    return methods.create("pooling", "mean" if names(vocabulary) else "last")


@contextmanager
def hooked(*places: tuple[Callable[..., Any], Callable[..., Any]], **options: Any) -> Iterator[None]:
    """Hooks for a while, each a registering method and what it registers; other threads' passes do not meet them."""
    owner = threading.get_ident()

    def own(hook: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: hook(*args) if threading.get_ident() == owner else None

    handles = [register(own(hook), **options) for register, hook in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
