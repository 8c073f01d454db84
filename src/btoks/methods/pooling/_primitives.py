"""What the pooling methods share: how a pooler is built, where the bottleneck states are, and how to swap poolers.

Shape suffixes: B batch, T tokens of a padded row, K bottleneck tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor, nn

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class PoolingMethod(Protocol):
    """The interface of the family: modules that stand between the backbone and the normalisation."""

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """The modules for a tokenizer with this `vocabulary` (by id, bottleneck tokens included) and width `dim`."""
        ...

    def width(self, tokens: int, dim: int) -> int:
        """The width of the embedding, in closed form."""
        ...


class StatesPooling(Module):
    """A pooler of the last states, of K `tokens` and width D, without weights: a subclass says how in `forward`."""

    config_keys = ["tokens", "dim"]

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tokens, self.dim = tokens, dim

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.dim

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the settings; there are no weights."""
        self.save_config(output_path)


class TrainedPooling(StatesPooling):
    """A pooler of the last states that has weights."""

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write settings and weights."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> Self:
        """Open a saved pooler."""
        keys = ("subfolder", "token", "cache_folder", "revision", "local_files_only")
        hub = {key: kwargs[key] for key in keys if key in kwargs}
        model = cls(**cls.load_config(model_name_or_path, **hub))
        cls.load_torch_weights(model_name_or_path, model=model, **hub)
        return model


def vocabulary(tokenizer: Any, tokens: int) -> list[str]:
    """The entries by id, up to `tokens` bottleneck tokens; ids without an entry get a name no text can have."""
    from btoks.prompts import token_name

    known, more = tokenizer.get_vocab(), token_name(tokens)  # a start may have left more of them
    entries = {place: name for name, place in known.items() if name != more}
    return [entries.get(place, f"\0{place}") for place in range(max(known.values()) + 1)]


def bottleneck_names(vocabulary: Sequence[str]) -> list[str]:
    """The bottleneck tokens of a vocabulary, in order; refuses a model that has none."""
    from btoks.prompts import token_name

    have = set(vocabulary)
    found: list[str] = []
    while (name := token_name(len(found))) in have:
        found.append(name)
    if not found:
        raise BtoksError("pooling", "the model has no bottleneck tokens", "attach with tokens ≥ 1 or pooling='last'")
    return found


def last_positions(mask_BT: Tensor, tokens: int) -> Tensor:
    """The positions of the last `tokens` attended tokens of each row (B, K), whichever side is padded.

    >>> last_positions(torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]]), 2)
    tensor([[2, 3],
            [1, 2]])
    """
    width = mask_BT.shape[1]
    index_T = torch.arange(width, device=mask_BT.device)
    last_B1 = (index_T * mask_BT.to(index_T.dtype)).amax(dim=1, keepdim=True)
    return last_B1 - torch.arange(tokens - 1, -1, -1, device=mask_BT.device)


def last_states(hidden_BTD: Tensor, mask_BT: Tensor, tokens: int) -> Tensor:
    """The states of the bottleneck tokens (B, K, D): the last `tokens` attended ones of each row."""
    at_BK = last_positions(mask_BT, tokens)
    return hidden_BTD.gather(1, at_BK.unsqueeze(-1).expand(-1, -1, hidden_BTD.shape[-1]))


def word_weighted_mean(vocabulary: Sequence[str], dim: int, weights: Sequence[float]) -> list[nn.Module]:
    """The weighted mean of the bottleneck states, of stock modules only, so that it loads without btoks.

    Row by row: every token's state times its weight (0 for all but the K), summed, over the sum of the weights.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling, WordWeights

    by_name = dict(zip(bottleneck_names(vocabulary), weights, strict=True))
    words = WordWeights(list(vocabulary), by_name, unknown_word_weight=0.0)
    words.requires_grad_(False)
    return [words, Pooling(dim, pooling_mode="mean")]


@contextmanager
def swapped(model: SentenceTransformer, method: PoolingMethod) -> Iterator[None]:
    """Pool with another method for the length of a `with` block: everything between backbone and normalisation."""
    from btoks import patched
    from btoks.bottleneck import record, transformer

    names = list(model._modules)
    before = {name: module for name, module in model._modules.items() if module is not None}
    known = vocabulary(model.tokenizer, int(record(model)["tokens"]))
    inner = method.modules(known, transformer(model).get_embedding_dimension())
    chain = [before[names[0]], *(module.to(model.device).eval() for module in inner), before[names[-1]]]
    with patched.hosted(model, method):
        _install(model, {str(place): module for place, module in enumerate(chain)})
        try:
            yield
        finally:
            _install(model, before)


def _install(model: SentenceTransformer, modules: Mapping[str, nn.Module]) -> None:
    model._modules.clear()
    model._modules.update(modules)
