"""DupMAE (RetroMAE v2): two decoders teach the pooled state and the words' states to hold the text (2211.08769).

    text, a share blanked ──LLM──▶ h, pooled ─────▶ L_dec   one layer tells every token from h and what it may see
                                   h_1 … h_n ─────▶ L_mlm   the blanked tokens, each from its own state
                                   max over i of the head's logits, μ (V) ──▶ L_bow   the set of the text's tokens

    L = L_con + λ · (L_mlm + L_dec + 0.1 · L_bow)           embedding   [ linear(h) | sketch of the top k of μ ]

The decoder's layer sees, for the token of row i, h and a random half of the others, never the token itself:

              h   w1  w2  w3
        w1    x   .   x   .
        w2    x   x   .   .
        w3    x   .   x   .

Designed here, for decoder-only backbones: h is the mean of the bottleneck states, blanked tokens are told from what
stands before them, the two decoders work beside the contrastive loss instead of before it, and the sparse part is kept
as a count sketch, so that every vector store can hold it; its dot products are those of the sparse vectors but for
collisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from btoks.errors import BtoksError
from btoks.methods import method
from btoks.methods.pooling import _front, _patches, _primitives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_HEADS, _BLOCK, _DROP = 4, 64, 0.5


class DuplexPooling(_primitives.TrainedPooling):
    """The module: writes `sentence_embedding` (B, dense + sketch) and, while it trains, `generation` (B,)."""

    config_keys = ["tokens", "dim", "dense", "kept", "sketch", "blank", "bow"]
    speaks = True

    def __init__(self, tokens: int, dim: int, dense: int, kept: int, sketch: int, blank: float, bow: float) -> None:
        super().__init__(tokens, dim)
        self.dense, self.kept, self.sketch, self.blank, self.bow = dense, kept, sketch, blank, bow
        self.down = nn.Linear(dim, dense)
        self.unseen = nn.Parameter(torch.zeros(dim))
        self.attend = nn.MultiheadAttention(dim, _HEADS, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.blanked_BT: Tensor | None = None

    def on_model_ready(self, model: Any) -> None:
        """Let the passes find the module, and the module the head."""
        _front.link(model, self)
        self.__dict__["host"] = model  # past nn.Module's registration: it holds this module

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Pool a batch."""
        hidden_BTD, mask_BT = features["token_embeddings"], features["attention_mask"].bool()
        hidden_BTD = hidden_BTD.to(self.down.weight.dtype)  # the backbone's may be narrower
        pooled_BD = _primitives.last_states(hidden_BTD, mask_BT, max(self.tokens, 1)).mean(dim=1)
        words_BT = words(mask_BT, self.tokens)
        strongest_BV = self.strongest(hidden_BTD, words_BT)
        parts = normalize(self.down(pooled_BD), dim=1), normalize(self.sketched(strongest_BV), dim=1)
        features["sentence_embedding"] = torch.cat(parts, dim=1)
        if self.training and self.blanked_BT is not None:
            features["generation"] = self.losses(features["input_ids"], hidden_BTD, words_BT, pooled_BD, strongest_BV)
        return features

    def strongest(self, hidden_BTD: Tensor, words_BT: Tensor) -> Tensor:
        """The largest logit of every entry of the vocabulary over a row's words (B, V), some places at a time."""
        best: Tensor | None = None
        for begin in range(0, hidden_BTD.shape[1], _BLOCK):
            inside_BT = words_BT[:, begin : begin + _BLOCK, None]
            told_BTV = self._logits(hidden_BTD[:, begin : begin + _BLOCK]).masked_fill(~inside_BT, -torch.inf)
            block_BV = told_BTV.amax(dim=1)
            best = block_BV if best is None else torch.maximum(best, block_BV)
        return best if best is not None else hidden_BTD.new_zeros(len(hidden_BTD), 1)

    def sketched(self, strongest_BV: Tensor) -> Tensor:
        """The top k of μ above 0, thrown into the places of a sketch with random signs (B, S)."""
        size = strongest_BV.shape[1]
        top = strongest_BV.clamp(min=0).topk(min(self.kept, size), dim=1)
        luck = torch.Generator().manual_seed(0)
        places_V = torch.randint(self.sketch, (size,), generator=luck).to(strongest_BV.device)
        signs_V = (torch.randint(2, (size,), generator=luck) * 2 - 1).to(strongest_BV)
        out_BS = strongest_BV.new_zeros(len(strongest_BV), self.sketch)
        return out_BS.scatter_add(1, places_V[top.indices], top.values * signs_V[top.indices])

    def losses(
        self, ids_BT: Tensor, hidden_BTD: Tensor, words_BT: Tensor, pooled_BD: Tensor, strongest_BV: Tensor
    ) -> Tensor:
        """L_mlm + L_dec + bow · L_bow of each row (B,)."""
        blanked_BT = words_BT if self.blanked_BT is None else self.blanked_BT & words_BT
        own_B = _mean(self._unlikely(hidden_BTD, ids_BT, blanked_BT), blanked_BT)
        told_BTD = self.decoded(ids_BT, words_BT, pooled_BD)
        whole_B = _mean(self._unlikely(told_BTD, ids_BT, words_BT), words_BT)
        return own_B + whole_B + self.bow * bag_loss(strongest_BV, ids_BT, words_BT)

    def decoded(self, ids_BT: Tensor, words_BT: Tensor, pooled_BD: Tensor) -> Tensor:
        """The states from which the decoder tells every word (B, T, D)."""
        host: Any = self.__dict__["host"]
        place_BT = (words_BT.long().cumsum(1) - 1).clamp(min=0)
        at_BTD = _front.sinusoids(place_BT, self.dim).to(pooled_BD)
        embedded_BTD = host[0].model.get_input_embeddings()(ids_BT).detach().to(pooled_BD)
        query_BTD = pooled_BD[:, None] + at_BTD
        seen_BSD = torch.cat([pooled_BD[:, None], embedded_BTD + at_BTD], dim=1)
        hidden_BTS = ~visible(words_BT, _DROP).repeat_interleave(_HEADS, dim=0)
        out_BTD = self.attend(query_BTD, seen_BSD, seen_BSD, attn_mask=hidden_BTS, need_weights=False)[0]
        out_BTD = self.norms[0](query_BTD + out_BTD)
        decoded_BTD: Tensor = self.norms[1](out_BTD + self.feed(out_BTD))
        return decoded_BTD

    def get_embedding_dimension(self) -> int:
        """Dense and sketch."""
        return self.dense + self.sketch

    def _logits(self, hidden: Tensor) -> Tensor:
        from btoks.condensation import logits

        host: Any = self.__dict__["host"]
        return logits(host, hidden.to(host[0].model.dtype)).to(hidden.dtype)

    def _unlikely(self, hidden_BTD: Tensor, ids_BT: Tensor, at_BT: Tensor) -> Tensor:
        """How unlikely the tokens at some places are, 0 elsewhere (B, T)."""
        loss_N = cross_entropy(self._logits(hidden_BTD[at_BT]), ids_BT[at_BT], reduction="none")
        return loss_N.new_zeros(ids_BT.shape).masked_scatter(at_BT, loss_N)


class _Blank(_patches.Patch):
    """The change of the backbone's pass while it trains: a share of the words is not shown."""

    @contextmanager
    def patching(self, run: _patches.Run) -> Iterator[None]:
        module: DuplexPooling = _front.linked(run)
        module.blanked_BT = None
        if not module.training:
            yield
            return
        words_BT = words(run.mask_BT.bool(), run.tokens)
        drawn_BT = torch.rand(words_BT.shape, device=words_BT.device) < module.blank
        blanked_BT = module.blanked_BT = drawn_BT & words_BT

        def blanked(hidden_BTD: Tensor) -> Tensor:
            return torch.where(blanked_BT[..., None], module.unseen.to(hidden_BTD.dtype), hidden_BTD)

        with _front.entering(run.decoder, blanked):
            yield


@method(
    title="DupMAE, dense and bag of words",
    paper="2211.08769",
    system="A6",
    stage="pool",
    trained=True,
    takes=("text",),
    no_identity="a linear map and a sketch of words take the place of the states",
    cost="the head at every word",
)
@dataclass(frozen=True)
class DupMae:
    """`dense` numbers of the pooled state, then a sketch of the `kept` strongest entries of the vocabulary.

    In training a share `blank` of the words is hidden and `bow` weighs the bag of words; λ is the recipe's `weight`.
    """

    dense: int = 384
    kept: int = 384
    sketch: int = 1024
    blank: float = 0.3
    bow: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.dense, self.kept, self.sketch) < 1 or not 0 <= self.blank < 1:
            raise BtoksError("dupmae", "its sizes or its share of blanks cannot be", "pass sizes ≥ 1 and 0 ≤ blank < 1")

    def build(self, dim: int, tokens: int = 4) -> nn.Module:
        """The untrained module for a backbone of this width."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return DuplexPooling(tokens, dim, self.dense, self.kept, self.sketch, self.blank, self.bow)

    def patches(self) -> list[_patches.Patch]:
        """What changes the backbone's passes."""
        return [_Blank()]

    def modules(self, vocabulary: Sequence[str], dim: int) -> list[nn.Module]:
        """One trained module, opened by `btoks.load`."""
        return [self.build(dim, len(_patches.names(vocabulary)))]

    def width(self, tokens: int, dim: int) -> int:
        """Dense and sketch."""
        return self.dense + self.sketch

    def parameters(self, dim: int) -> int:
        """Trained parameters: the map (D+1)·dense, the blank D, and the decoder's layer 8·D² + 11·D."""
        return (dim + 1) * self.dense + dim + 8 * dim * dim + 11 * dim

    def applied(self, model: SentenceTransformer) -> AbstractContextManager[None]:
        """Pool so for a while, by an untrained map."""
        return _front.swapped(model, self)


def words(mask_BT: Tensor, tokens: int) -> Tensor:
    """Which places are attended and no bottleneck tokens (B, T)."""
    if not tokens:
        return mask_BT
    return mask_BT.scatter(1, _primitives.last_positions(mask_BT, tokens), value=False)


def visible(words_BT: Tensor, drop: float) -> Tensor:
    """What the decoder may see for each place: the pooled state, and some other words (B, T, 1+T)."""
    many = words_BT.shape[1]
    drawn_BTT = torch.rand(*words_BT.shape, many, device=words_BT.device) >= drop
    others_TT = ~torch.eye(many, dtype=torch.bool, device=words_BT.device)
    seen_BTT = drawn_BTT & others_TT & words_BT[:, None]
    return torch.cat([torch.ones_like(seen_BTT[..., :1]), seen_BTT], dim=2)


def bag_loss(strongest_BV: Tensor, ids_BT: Tensor, words_BT: Tensor) -> Tensor:
    """How unlikely the set of a row's tokens is under μ: the mean of its negative log-softmax over the set (B,)."""
    row_N, place_N = words_BT.nonzero(as_tuple=True)
    set_BV = torch.zeros_like(strongest_BV, dtype=torch.bool)
    set_BV[row_N, ids_BT[row_N, place_N]] = True
    return -(strongest_BV.log_softmax(dim=1) * set_BV).sum(dim=1) / set_BV.sum(dim=1).clamp(min=1)


def _mean(loss_BT: Tensor, at_BT: Tensor) -> Tensor:
    return loss_BT.sum(dim=1) / at_BT.sum(dim=1).clamp(min=1)
