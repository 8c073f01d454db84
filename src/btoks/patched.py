"""A backbone that runs as its pooling method says: layers changed, positions moved, rows taken in parts.

What is changed is put on before a pass and taken off after it, so that the weights, the folder and whatever else runs
on them (reading from a memory, another pooling) never meet it. Only `btoks.load` opens such a folder: the stock module
would give other vectors without a word.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from btoks import methods, prompts
from btoks.bottleneck import Backbone, record
from btoks.errors import BtoksError
from btoks.plain_positions import PlainPositions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ONE_AT_A_TIME = threading.RLock()  # what is put on for one pass would change another on the same weights


class Patched(Backbone):
    """The module whose passes are changed by the patches of the pooling that its model's record names."""

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Run a batch."""
        from btoks.methods.pooling._parts import OWNER
        from btoks.methods.pooling._patches import Run

        patches = _patches(methods.create("pooling", self.config.btoks["pooling"]))
        decoder = self.__dict__["generator"].get_decoder()
        if self.training and any(getattr(layer, "gradient_checkpointing", False) for layer in decoder.modules()):
            reason = "it would run layers again without what the pooling changes"
            raise BtoksError("gradient checkpointing", reason, "train without it, or with another pooling")
        for patch in patches:
            features = patch.split(features, self)
        owner = {OWNER: features[OWNER]} if OWNER in features else {}
        given = {key: value for key, value in features.items() if key != OWNER}
        rows = features["attention_mask"], features["input_ids"], int(self.config.btoks["tokens"])
        run = Run(decoder, *rows, prompts.tokenizer_of(self.processor).eos_token_id, "past_key_values" in features)
        with _ONE_AT_A_TIME, ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch.patching(run))
            out: dict[str, Any] = super().forward(given, **kwargs)
        return out | owner | ({} if run.states is None else {"token_embeddings": run.states})


class PatchedPlain(Patched, PlainPositions):
    """The same over plain positions."""


def kind(pooling: Any, *, plain: bool) -> type[Backbone] | None:
    """The class of the backbone under a pooling, None for the stock one; `plain`: visual tokens at text positions."""
    found: type[Backbone] | None = PlainPositions if plain else None
    if _patches(pooling):
        found = PatchedPlain if plain else Patched
    return found


def template(processor: Any, tokens: int, layout: str, pooling: Any) -> str:
    """The chat template of a layout, with the frames that a pooling sets around texts."""
    slot = str(prompts.tokenizer_of(processor).eos_token)
    return prompts.template(processor, tokens, layout, _frames(pooling, slot))


def limit(backbone: Any, pooling: Any) -> None:
    """Let the module take no other kinds of input than its pooling is for."""
    wanted = {*takes(pooling), "message"}
    backbone.modality_config = {key: each for key, each in backbone.modality_config.items() if key in wanted}
    backbone.input_formatter.supported_modalities = list(backbone.modality_config)


def takes(pooling: Any) -> tuple[str, ...]:
    """The kinds of input that a pooling is for."""
    found: tuple[str, ...] = getattr(pooling, "takes", None) or methods.card(pooling).takes
    return found


@contextmanager
def hosted(model: SentenceTransformer, pooling: Any) -> Iterator[None]:
    """Let a model's backbone run as another pooling wants it, for the length of a `with` block."""
    backbone: Any = model[0]
    notes, processor, settings = record(model), backbone.processor, backbone.processing_kwargs.get("chat_template")
    before = type(backbone), notes["pooling"], processor.chat_template, backbone.modality_config
    framed = _frames(methods.create("pooling", notes["pooling"]), "x") != _frames(pooling, "x")
    prompt = template(processor, notes["tokens"], notes["layout"], pooling) if framed else before[2]
    plain = issubclass(before[0], PlainPositions)
    try:
        backbone.__class__ = kind(pooling, plain=plain) or _stock(before[0])
        notes["pooling"] = methods.settings(pooling)
        limit(backbone, pooling)
        _prompted(processor, settings, prompt)
        yield
    finally:
        backbone.__class__, notes["pooling"], _, backbone.modality_config = before
        backbone.input_formatter.supported_modalities = list(backbone.modality_config)
        _prompted(processor, settings, before[2])


def _prompted(processor: Any, settings: dict[str, Any] | None, prompt: str) -> None:
    processor.chat_template = prompt
    if settings:
        settings["chat_template"] = prompt


def _stock(current: type[Any]) -> type[Any]:
    from sentence_transformers.base.modules import Transformer

    return Transformer if issubclass(current, Backbone) else current


def _patches(pooling: Any) -> list[Any]:
    return pooling.patches() if hasattr(pooling, "patches") else []


def _frames(pooling: Any, slot: str) -> tuple[tuple[str, str], ...]:
    return pooling.frames(slot) if hasattr(pooling, "frames") else ()
