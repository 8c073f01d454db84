"""Contrastive loss and Generative Information Condensation in one gradient-cached pass.

A chunk's representation is `[embedding | generation loss of each sample]`, from one pass of the encoder:

    chunk ──encoder──▶ [embedding | ℓ_gen]   cached, without graph or with it where memory is free
    all chunks: L = InfoNCE(embeddings) + λ · mean(ℓ_gen)   gradients of both columns are kept
    chunk ──encoder──▶ [embedding | ℓ_gen] · kept gradients   chunk by chunk; run again where no graph is

so that memory depends on the chunk and the loss does not. Chunks hold rows of about one length.
Shape suffixes: B batch, C rows of a chunk, N documents of all columns and devices, T target tokens, D embedding width.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.losses.gradcache import RandContext, _minibatch_ranges
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank
from sentence_transformers.util.distributed import get_world_size
from torch import Tensor, nn

from btoks import condensation, methods
from btoks.bottleneck import record
from btoks.errors import BtoksError, did_you_mean
from btoks.training.chunks import arranged, chunk, cut, lengths, longest_first
from btoks.training.contrast import Compare, comparison, info_nce, representation, views_of
from btoks.training.duplicates import duplicates, hashes_of
from btoks.training.keeping import Kept, Step, frozen_tower, room, sharded
from btoks.training.targets import Targets, anywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sentence_transformers import SentenceTransformer

SIDES = {"positive": (0,), "query": (1,), "both": (0, 1), "none": ()}
_TARGET, _STEP = "generation_target", "step"


@dataclass(frozen=True)
class Parts:
    """The two terms of a loss, before λ; `generation` is None where none was computed."""

    contrastive: Tensor
    generation: Tensor | None


def _learnt(model: SentenceTransformer, temperature: float) -> nn.Parameter:
    """The logarithm of a temperature, to be trained, in single precision at least."""
    kind = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    return nn.Parameter(torch.tensor(temperature, dtype=torch.float64).log().to(kind))


class CondensationLoss(CachedMultipleNegativesRankingLoss):
    """InfoNCE between embeddings, plus λ times the loss of telling the other side's text from the bottleneck tokens.

    Columns are query, positive and any number of hard negatives. `side` names the text that is generated: the
    positive's from the query's tokens, the query's from the positive's, both (their sum) or none. λ is `weight`, and 0
    from `weight_steps` steps on: set `loss.step` for that. `mask=False` generates from the whole input instead of the
    bottleneck tokens. Targets are cut to `longest_target` tokens. `mini_batch_size` is a chunk in samples,
    `mini_batch_num_tokens` in tokens instead. `keep` is how many bytes of the first pass may be kept for the second,
    beside one chunk's; by default half of what is free.

    Labels are content hashes of the documents, (B,) for the positives or (B, columns): documents equal to a row's
    positive do not count as its negatives.

    >>> loss = CondensationLoss(model, weight=5.0, side="positive")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        weight: float = 5.0,
        weight_steps: int | None = None,
        side: str = "positive",
        mask: bool = True,
        temperature: float = 0.02,
        learn_temperature: bool = False,
        longest_target: int = 512,
        mini_batch_size: int = 8,
        mini_batch_num_tokens: int | None = None,
        keep: int | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        if side not in SIDES:
            raise BtoksError(f"side {side!r}", "there is none", did_you_mean(side, SIDES))
        if temperature <= 0:
            raise BtoksError(f"temperature={temperature}", "not above 0", "pass 0.02 or so")
        super().__init__(
            model,
            scale=1 / temperature,
            mini_batch_size=mini_batch_size,
            mini_batch_num_tokens=mini_batch_num_tokens,
            gather_across_devices=gather_across_devices,
        )
        self.weight, self.weight_steps, self.side, self.mask = weight, weight_steps, side, mask
        self.step, self.keep = 0, keep
        self.last: Parts | None = None
        self._own = any(getattr(module, "speaks", False) for module in model)
        told = side != "none" and weight and not self._own
        self.targets = Targets(model, longest_target) if told else None
        self.log_temperature = _learnt(model, temperature) if learn_temperature else None
        self._log_temperature: Tensor | None = None
        self._places: list[Tensor] = []
        self._compare: Compare = comparison(model)
        pooling = methods.create("pooling", record(model)["pooling"])
        self._masks: Callable[[int], bool] | None = getattr(pooling, "masks", None)

    @property
    def weight_now(self) -> float:
        """λ at the current step."""
        return 0.0 if self.weight_steps is not None and self.step >= self.weight_steps else self.weight

    @property
    def masked(self) -> bool:
        """Whether generation sees the bottleneck tokens alone at the current step; CREM's pooling draws it."""
        return self.mask and (self._masks is None or self._masks(self.step))

    @property
    def temperature(self) -> float:
        """What similarities are divided by."""
        return 1 / self.scale if self.log_temperature is None else self.log_temperature.exp().item()

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Any = None) -> Tensor:
        """The loss of a batch, whose backward pass goes through the chunks."""
        columns = self._prepared(self._with_targets([dict(column) for column in sentence_features]))
        if self.log_temperature is None:
            return super().forward(columns, labels)
        leaf = self._log_temperature = self.log_temperature.detach().requires_grad_()
        loss = super().forward(columns, labels)
        if leaf.grad is None:
            return loss
        # The cached loss is a leaf of its own: what reaches it must reach the temperature too, scaled alike.
        slope = all_gather(leaf.grad[None]).mean() if get_world_size() > 1 else leaf.grad
        return loss + (self.log_temperature - self.log_temperature.detach()) * slope

    def embed_minibatch_iter(
        self,
        sentence_feature: dict[str, Any],
        with_grad: bool,
        copy_random_state: bool,
        random_states: list[RandContext] | None = None,
        ranges: list[tuple[int, int]] | None = None,
    ) -> Iterator[tuple[Tensor, RandContext | None]]:
        """The representations of a column's chunks, which are those of `ranges` or smaller."""
        ranges = sentence_feature[_STEP].ranges
        yield from super().embed_minibatch_iter(sentence_feature, with_grad, copy_random_state, random_states, ranges)

    def embed_minibatch(
        self,
        sentence_feature: dict[str, Any],
        begin: int,
        end: int,
        with_grad: bool,
        copy_random_state: bool,
        random_state: RandContext | None = None,
    ) -> tuple[Tensor, RandContext | None]:
        """A chunk's embeddings with the generation loss of each sample behind them (C, D+1)."""
        step: Step = sentence_feature[_STEP]
        kept, key = step.kept, (step.column, end)
        out = kept.take(key) if with_grad else None
        if out is not None:
            return out, None
        features = chunk({name: value for name, value in sentence_feature.items() if name != _STEP}, begin, end)
        target = features.pop(_TARGET, None)
        with random_state or nullcontext():
            again = RandContext(*features.values()) if copy_random_state else None
            if with_grad:
                with kept.seeing(key, first=False):
                    out = self._represent(features, target)
            elif copy_random_state:
                with kept.seeing(key, first=True):
                    out = kept.run(key, lambda: self._represent(features, target))
            else:
                with torch.no_grad():
                    out = self._represent(features, target)
        return out, again

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss of a whole batch from its chunks' representations."""
        columns = [torch.cat(rows)[place] for rows, place in zip(reps, self._places, strict=True)]
        if not with_backward:
            return self._total(columns, labels, with_backward)
        leaves = [each.detach().requires_grad_() for each in columns]  # the parts have backward passes of their own
        loss = self._total(leaves, labels, with_backward)
        torch.autograd.backward(columns, [leaf.grad for leaf in leaves])
        return loss

    def _total(self, columns: list[Tensor], labels: Tensor | None, with_backward: bool) -> Tensor:
        contrastive = self._contrastive([each[:, :-1].contiguous() for each in columns], labels, with_backward)
        if not self._speaks():
            self.last = Parts(contrastive.detach(), None)
            return contrastive
        generation = torch.stack([each[:, -1].mean() for each in columns]).sum()
        weighted = self.weight_now * generation
        if with_backward:
            torch.autograd.backward(weighted)
        self.last = Parts(contrastive.detach(), generation.detach())
        return contrastive + weighted.detach() if with_backward else contrastive + weighted

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        names = ("weight", "weight_steps", "side", "mask", "temperature", "mini_batch_size", "mini_batch_num_tokens")
        learnt = {"learn_temperature": self.log_temperature is not None}
        return {name: getattr(self, name) for name in (*names, "keep", "gather_across_devices")} | learnt

    def _plain(self) -> Any:
        """The model without what distributes or compiles it."""
        from accelerate.utils.other import extract_model_from_parallel

        return extract_model_from_parallel(self.model, keep_fp32_wrapper=True)

    def _speaks(self) -> bool:
        return (self.targets is not None or self._own) and self.weight_now > 0

    def _with_targets(self, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The columns, those that generate with ids and supervision of the other's text (B, 1, 2, T)."""
        if self.targets is None or not self._speaks() or len(columns) < 2:
            return columns
        for place in SIDES[self.side]:
            target = torch.stack([each.long() for each in self.targets(columns[1 - place])], dim=1)[:, None]
            if anywhere(target.shape[3]):
                columns[place][_TARGET] = nn.functional.pad(target, (0, max(2 - target.shape[3], 0)))
        return columns

    def _prepared(self, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The columns sorted for chunks of one length, with what keeps their first pass; notes the way back."""
        plain, device = self._plain(), columns[0]["input_ids"].device
        limit = room(device) if self.keep is None else self.keep
        kept = Kept(self.model, frozen_tower(plain[0].model), limit, (len(columns) - 1, len(columns[-1]["input_ids"])))
        self._places, out = [], []
        for place, column in enumerate(columns):
            lengths_B2 = lengths(column, column.get(_TARGET))
            order_B = longest_first(lengths_B2)
            batch = arranged(column, order_B, plain[0].config)
            ranges = _minibatch_ranges(batch, self.mini_batch_size, self.mini_batch_num_tokens)
            ranges = ranges if sharded(plain) else cut(lengths_B2[order_B], ranges)
            self._places.append(order_B.argsort())
            out.append({**batch, _STEP: Step(kept, place, ranges)})
        return out

    def _represent(self, features: dict[str, Any], target: Tensor | None) -> Tensor:
        if target is None:
            return representation(self.model(features))
        plain = self._plain()
        masked, views = self.masked, views_of(plain)
        width = max(int(lengths(features, target)[:, 1].amax()), 2)
        ids_CT, supervised_CT = target[:, 0, :, :width].unbind(dim=1)

        def speak(_: nn.Module, __: Any, out: dict[str, Any]) -> dict[str, Any]:
            memory = held() if views == 1 or not masked else held().first(1 + self.step % views)
            return {**out, "generation": condensation.generation_loss(plain, memory, ids_CT, supervised_CT.bool())}

        with condensation.remembering(plain, features, full=not masked) as (batch, held):
            # Inside the model's own pass: there mixed precision and the wrappers of several devices hold.
            handle = plain[-1].register_forward_hook(speak)
            try:
                out = self.model(batch)
            finally:
                handle.remove()
        return representation(out)

    def _contrastive(self, columns: list[Tensor], labels: Tensor | None, with_backward: bool) -> Tensor:
        """InfoNCE of queries against all documents, by rows; its backward pass too, if asked for."""
        queries_BD, documents = columns[0], columns[1:]
        size, first, hashes = len(queries_BD), 0, hashes_of(labels)
        if self.gather_across_devices and get_world_size() > 1:
            documents = [all_gather_with_grad(each) for each in documents]
            hashes = [all_gather(each) for each in hashes]
            first = get_rank() * size
        documents_ND = torch.cat(documents)
        losses: list[Tensor] = []
        for begin in range(0, size, self.mini_batch_size):
            own_C = torch.arange(begin, min(begin + self.mini_batch_size, size), device=queries_BD.device)
            same_CN = duplicates(hashes, own_C + first, len(documents_ND)) if hashes else None
            scores = self._scores(queries_BD[own_C], documents_ND)
            loss = info_nce(scores, own_C - begin, own_C + first, same_CN, size)
            if with_backward:
                torch.autograd.backward(loss)
                loss = loss.detach()
            losses.append(loss)
        return sum(losses[1:], losses[0])

    def _scores(self, queries_CD: Tensor, documents_ND: Tensor) -> list[Tensor]:
        scale = self.scale if self._log_temperature is None else torch.exp(-self._log_temperature)
        return [similarity_CN * scale for similarity_CN in self._compare(queries_CD, documents_ND)]
