"""Causal2Vec: one contextual token, made by a light bidirectional encoder, in front of the text (2507.23386).

    text ──encoder──▶ mean ──MLP──▶ c          LLM:  c  w1 w2 … wn  [btoks]
                                                     │              └─ s, mean of the bottleneck states, or the
                                                     │                 last state where there are none
                                                     └─ state h_c           embedding  [ h_c | s ]

Causal attention lets every token see c, so w1 knows of wn. Designed here: the encoder reads the LLM's own token
embeddings (which it does not train) through a linear map, where the paper starts from a pre-trained BERT; the
contextual token stands in front of the instruction, since the prompt holds instruction and text in one; s may be that
of the bottleneck tokens. The text that the LLM sees is not shortened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from btoks.errors import BtoksError
from btoks.methods import method
from btoks.methods.pooling import _front, _patches, _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ContextPooling(_primitives.TrainedPooling):
    """The module: the encoder, and the two states joined; K is `tokens`, the encoder's width W is `width`."""

    config_keys = ["tokens", "dim", "layers", "width"]

    def __init__(self, tokens: int, dim: int, layers: int, width: int) -> None:
        super().__init__(tokens, dim)
        self.layers, self.width, self.slot = layers, width, -1
        self.down = nn.Linear(dim, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.up = nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim))

    def on_model_ready(self, model: Any) -> None:
        """Let the model's passes find the encoder."""
        self.slot = int(model.tokenizer.eos_token_id)
        _front.link(model, self)

    def contextual(self, embedded_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """The contextual token of each row (B, D), from the places that the mask keeps."""
        place_BT = (mask_BT.long().cumsum(1) - 1).clamp(min=0)
        kind = self.down.weight.dtype  # the backbone's may be narrower
        inner_BTW = self.down(embedded_BTD.to(kind)) + _front.sinusoids(place_BT, self.width).to(kind)
        seen_BTW = self.encoder(inner_BTW, src_key_padding_mask=~mask_BT)
        mean_BW = (seen_BTW * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True)
        context_BD: Tensor = self.up(mean_BW)
        return context_BD

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Join the states of a batch."""
        hidden_BTD, mask_BT = features["token_embeddings"], features["attention_mask"]
        at_B = places(features["input_ids"], mask_BT, self.slot)
        context_BD = hidden_BTD[torch.arange(len(at_B), device=at_B.device), at_B]
        states_BKD = _primitives.last_states(hidden_BTD, mask_BT, max(self.tokens, 1))
        features["sentence_embedding"] = torch.cat([context_BD, states_BKD.mean(dim=1)], dim=1)
        return features

    def get_embedding_dimension(self) -> int:
        """2·D."""
        return 2 * self.dim


class _Insert(_patches.Patch):
    """The change of the backbone's pass: the slot's embedding gives way to the contextual token."""

    @contextmanager
    def patching(self, run: _patches.Run) -> Iterator[None]:
        module: ContextPooling = _front.linked(run)
        at_B = places(run.ids_BT, run.mask_BT, run.slot)
        row_B = torch.arange(len(at_B), device=at_B.device)
        read_BT = run.mask_BT.bool().clone()
        if run.tokens:
            read_BT[row_B[:, None], _primitives.last_positions(run.mask_BT, run.tokens)] = False
        embedded_BTD = run.decoder.get_input_embeddings()(run.ids_BT).detach()
        context_BD = module.contextual(embedded_BTD, read_BT)

        def inserted(hidden_BTD: Tensor) -> Tensor:
            seen_BTD = hidden_BTD.clone()
            seen_BTD[row_B, at_B] = context_BD.to(hidden_BTD.dtype)
            return seen_BTD

        with _front.entering(run.decoder, inserted):
            yield


@method(
    title="Causal2Vec",
    paper="2507.23386",
    system="A1",
    stage="pool",
    trained=True,
    takes=("text",),
    no_identity="the embedding is twice as wide as the plain one",
    cost="a light encoder, one token, twice the bytes",
)
@dataclass(frozen=True)
class Causal2Vec:
    """A contextual token from an encoder of `layers` layers and this `width`; its state joined with the pooled one."""

    layers: int = 2
    inside: int = 64
    seed: int = 0

    def build(self, dim: int, tokens: int = 4) -> nn.Module:
        """The untrained module for a backbone of this width."""
        if self.inside < 4 or self.inside % 4 or self.layers < 1:
            reason = f"{self.layers} layers of width {self.inside} cannot be built"
            raise BtoksError("causal2vec", reason, "pass layers ≥ 1 and a width that 4 divides")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return ContextPooling(tokens, dim, self.layers, self.inside)

    def patches(self) -> list[_patches.Patch]:
        """What changes the backbone's passes."""
        return [_Insert()]

    def frames(self, slot: str) -> tuple[tuple[str, str], ...]:
        """The slot of the contextual token in front of the text."""
        return ((slot, "\n"),)

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One trained module, opened by `btoks.load`."""
        return [self.build(dim, len(_patches.names(vocabulary)))]

    def width(self, tokens: int, dim: int) -> int:
        """2·D."""
        return 2 * dim

    def parameters(self, dim: int) -> int:
        """Trained parameters, in closed form: down D·W + W, a layer 12·W² + 13·W, up W·D + D² + 2·D."""
        layer = 12 * self.inside * self.inside + 13 * self.inside
        return dim * self.inside + self.inside + self.layers * layer + self.inside * dim + dim * dim + 2 * dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Run and pool so for a while, by an untrained encoder."""
        return _front.swapped(model, self)


def places(ids_BT: Tensor, mask_BT: Tensor, slot: int) -> Tensor:
    """Where the contextual token stands in each row (B,)."""
    found_BT = (ids_BT == slot) & mask_BT.bool()
    if not found_BT.any(dim=1).all():
        raise BtoksError("causal2vec", "a prompt without its contextual token", "use it alone, in no chain")
    return found_BT.int().argmax(dim=1)
