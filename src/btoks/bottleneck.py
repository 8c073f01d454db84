"""Bottleneck tokens on any decoder-only (M)LLM: attach them, open and write such models.

The result is a plain `SentenceTransformer`; nothing in its input path is ours. What btoks needs to know beyond that
(number of tokens, layout, where generation starts) stands in the `btoks` entry of the model's `config.json`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, WordWeights
from torch import nn

from btoks import methods, prompts
from btoks.errors import BtoksError, did_you_mean
from btoks.methods.pooling._primitives import vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

INITS = ("eos", "mean", "random", "keep")


class Backbone(Transformer):
    """sentence-transformers' module, loading the whole generative model where the stock one loads its body only.

    It differs while it is being built and nowhere else: `stock` turns it into the stock class, which is what is saved.
    """

    def _load_config(self, path: str, backend: str, config_kwargs: dict[str, Any]) -> tuple[Any, bool]:
        held = config_kwargs.pop("held", None)
        return (held, False) if held is not None else super()._load_config(path, backend, config_kwargs)

    def _load_model(  # type: ignore[override]  # what else `from_pretrained` takes stays open
        self, path: str, task: str, config: Any, backend: str, is_peft: bool, *, held: Any = None, **kwargs: Any
    ) -> Any:
        full = held if held is not None else generative_class(config).from_pretrained(path, config=config, **kwargs)
        if not (getattr(config, "btoks", None) or {}).get("head", True):
            full.set_output_embeddings(NoHead())
        self.__dict__["generator"] = full  # past nn.Module's registration: its body is registered already
        self.lm_head = full.get_output_embeddings()
        return full.base_model

    def stock(self) -> Transformer:
        """This module as sentence-transformers' own."""
        self.__class__ = Transformer
        return self


class NoHead(nn.Module):
    """In the place of a language-model head that a checkpoint came without: the model embeds and does not speak."""

    def forward(self, *_: Any) -> Any:
        """Refuse."""
        raise BtoksError("model", "its checkpoint came without a language-model head", "use it for embeddings only")


def generative_class(config: Any) -> Any:
    """The auto class that opens the generative model of a configuration."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    return AutoModelForImageTextToText if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING else AutoModelForCausalLM


def transformer(model: SentenceTransformer) -> Any:
    """The module that holds the language model's body and its processor."""
    return model[0]


def generator(model: SentenceTransformer) -> Any:
    """The generative model that shares its body with the embedding model."""
    full = model[0].__dict__.get("generator")
    if full is None:
        raise BtoksError("model", "it was opened without its language-model head", "open it with btoks.load")
    return full


def record(model: SentenceTransformer) -> dict[str, Any]:
    """What btoks wrote about the model: tokens, pooling, layout, max_tokens, start, prefix, suffix, backbone."""
    found = getattr(model[0].config, "btoks", None)
    if found is None:
        raise BtoksError("model", "it has no bottleneck tokens", "make one with btoks.attach")
    return cast("dict[str, Any]", found)


def attach(
    model: str | Path | tuple[PreTrainedModel, ProcessorMixin | PreTrainedTokenizerBase],
    *,
    tokens: int = 4,
    pooling: str | Mapping[str, Any] | object = "mean",
    init: str = "eos",
    layout: str = "btoks",
    max_tokens: int = 8192,
    dtype: torch.dtype | None = None,
) -> SentenceTransformer:
    """A `SentenceTransformer` whose inputs end in `tokens` bottleneck tokens, pooled into the embedding.

    `model` is a hub id, a folder, or a loaded (model, processor) pair, whose model is then used as it is, not copied.
    `tokens=0` is last-token pooling, or another that needs no bottleneck tokens. `init` starts the new rows from the
    end-of-sequence token ("eos"), the mean row ("mean"), small noise ("random"), or leaves reserved rows as they are
    ("keep"). Texts are cut to `max_tokens`.

    >>> model = attach("Qwen/Qwen3-VL-2B-Instruct", tokens=4)  # doctest: +SKIP
    """
    if type(tokens) is not int or tokens < 0:
        raise BtoksError(f"tokens={tokens!r}", "not a number of bottleneck tokens", "pass 0 (last token), 1, 4, …")
    if init not in INITS:
        raise BtoksError(f"init={init!r}", "there is none", did_you_mean(init, INITS))
    full, processor = _opened(model, dtype)
    tokenizer = prompts.tokenizer_of(processor)
    pooler = pooler_of(tokens, pooling)
    from btoks import patched

    patched.template(processor, tokens, layout, pooler)  # refuses before anything has changed
    add_tokens(full, tokenizer, tokens, init)
    limit_pixels(processor)
    return assemble(full, processor, tokens=tokens, pooling=pooler, layout=layout, max_tokens=max_tokens)


def pooler_of(tokens: int, pooling: Any) -> Any:
    """The pooling method, or the last token where the default has no bottleneck tokens to pool."""
    return methods.create("pooling", pooling if tokens or pooling != "mean" else "last")


def assemble(
    full: PreTrainedModel,
    processor: ProcessorMixin | PreTrainedTokenizerBase,
    *,
    tokens: int,
    pooling: Any,
    layout: str,
    max_tokens: int = 8192,
    **notes: Any,
) -> SentenceTransformer:
    """The `SentenceTransformer` of a model whose vocabulary holds its tokens; `notes` go into its record."""
    from btoks import patched

    prefix, suffix = prompts.speech_of(processor)
    full.config.btoks = {
        "tokens": tokens,
        "pooling": methods.settings(pooling),
        "layout": layout,
        "max_tokens": max_tokens,
        "start": "position",
        "prefix": prefix,
        "suffix": suffix,
        "backbone": _named(full.config),
        **notes,
    }
    processor.chat_template = patched.template(processor, tokens, layout, pooling)
    plain = layout == "vlm2vec" and hasattr(full.base_model, "get_rope_index")
    backbone = wrap(full, processor, kind=patched.kind(pooling, plain=plain))
    patched.limit(backbone, pooling)
    names = vocabulary(prompts.tokenizer_of(backbone.processor), tokens)
    modules = [backbone, *pooling.modules(names, backbone.get_embedding_dimension()), Normalize()]
    return finish(SentenceTransformer(modules=modules, device=str(full.device)))


def _named(config: Any) -> str:
    """The backbone's hub id, the last part of its folder, or its kind; never where it lay on this machine."""
    name = getattr(config, "_name_or_path", "")
    return str(Path(name).name if Path(name).exists() else name) or str(config.model_type)


def wrap(
    full: PreTrainedModel, processor: ProcessorMixin | PreTrainedTokenizerBase, *, kind: type[Backbone] | None = None
) -> Transformer:
    """The stock module, or ours of this `kind`, around a generative model in memory, with the settings btoks saves."""
    # Truncation would cut the bottleneck tokens; left padding shifts the positions of models that count from the pads.
    kwargs: dict[str, Any] = {"text": {"truncation": False, "padding_side": "right"}}
    takes: list[str] = getattr(processor, "get_attributes", list)()
    if takes and not prompts.opening(prompts.tokenizer_of(processor)):
        kwargs["text"]["add_special_tokens"] = False  # the template writes what there is to write
    takes_video = "video_processor" in takes and prompts.visuals_of(processor).video is not None
    if takes_video:
        kwargs["video"] = {"do_sample_frames": False}  # media.load has sampled them
    elif "video_processor" in takes:
        # Such a processor swaps a batch with a video to a template of its own, without bottleneck tokens.
        kwargs["chat_template"] = {"chat_template": processor.chat_template}
    with tempfile.TemporaryDirectory() as folder:
        full.config.save_pretrained(folder)
        processor.save_pretrained(folder)
        built: Backbone = Backbone(
            folder,
            model_kwargs={"held": full},
            config_kwargs={"held": full.config},
            processing_kwargs=kwargs,
            unpad_inputs=False,  # flattened batches have no mask, which WordWeights needs
        )
    if not takes_video and "video" in built.modality_config:
        del built.modality_config["video"]
        built.input_formatter.supported_modalities = list(built.modality_config)
    if kind is None:
        return built.stock()
    built.__class__ = kind
    return built


def finish(model: SentenceTransformer) -> SentenceTransformer:
    """What holds for every open model: pooling weights frozen (they are trainable after every load), ready to embed."""
    for module in model:
        if isinstance(module, WordWeights):
            module.requires_grad_(requires_grad=False)
    return model.eval()


def add_tokens(full: Any, tokenizer: PreTrainedTokenizerBase, tokens: int, init: str = "eos") -> None:
    """Add the bottleneck tokens to the vocabulary and start their input rows."""
    names = [prompts.token_name(place) for place in range(tokens)]
    if prompts.token_name(0) in tokenizer.get_vocab():
        raise BtoksError("tokenizer", "it has bottleneck tokens already", "open the model with btoks.load")
    if not names:
        return
    if init == "eos" and tokenizer.eos_token_id is None:
        raise BtoksError("init='eos'", "the tokenizer has no end-of-sequence token", "pass init='mean'")
    tokenizer.add_special_tokens({"additional_special_tokens": names}, replace_extra_special_tokens=False)
    had = full.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > had:
        full.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        _start_new(full.get_input_embeddings().weight, had)
        _start_new(full.get_output_embeddings().weight, had)
    start_rows(full, [tokenizer.get_vocab()[name] for name in names], tokenizer.eos_token_id, init)


def start_rows(full: Any, rows: list[int], eos: int | None, init: str) -> None:
    """Set the input rows of the bottleneck tokens."""
    table_VD = full.get_input_embeddings().weight
    with torch.no_grad():
        if init == "eos":
            table_VD[rows] = table_VD[eos].clone()
        elif init == "mean":
            table_VD[rows] = table_VD.float().mean(dim=0).to(table_VD.dtype)
        elif init == "random":
            generator = torch.Generator().manual_seed(0)
            noise_KD = torch.randn(len(rows), table_VD.shape[1], generator=generator) * table_VD.float().std().cpu()
            table_VD[rows] = noise_KD.to(table_VD)


def _start_new(table_VD: torch.Tensor, had: int) -> None:
    """New rows at the mean of the old ones: transformers draws them at random, and the same model must come out."""
    with torch.no_grad():
        table_VD[had:] = table_VD[:had].float().mean(dim=0).to(table_VD.dtype)


def limit_pixels(processor: ProcessorMixin | PreTrainedTokenizerBase, most: int = 1280) -> None:
    """Keep pictures between 4 and `most` visual tokens where the processor resizes by area, never above its own."""
    image: Any = getattr(processor, "image_processor", None)
    size, patch, merge = (getattr(image, name, None) for name in ("size", "patch_size", "merge_size"))
    if not (patch and merge and size is not None and getattr(size, "longest_edge", None)):
        return
    area = (int(patch) * int(merge)) ** 2
    largest = min(size["longest_edge"], most * area)
    smallest = min(max(size["shortest_edge"], 4 * area), largest)
    image.size = {"shortest_edge": smallest, "longest_edge": largest}


def _opened(model: Any, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """The generative model and a processor of our own, from whatever was given."""
    if isinstance(model, tuple):
        full, processor = model[0], copy.deepcopy(model[1])
        for weight in full.parameters() if dtype else ():
            weight.data = weight.data.to(dtype)  # as from_pretrained does, which leaves the rotary buffers as they are
    else:
        full, processor = _from_pretrained(str(model), dtype)
    config = full.config
    _require_decoder(config)
    if full.get_output_embeddings() is None:
        raise BtoksError(str(config.model_type), "no language-model head", "pass the generative model, not its body")
    return full, processor


def _require_decoder(config: Any) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise BtoksError(str(config.model_type), "not a decoder-only language model", "pass one, such as Qwen3-VL")


def _from_pretrained(name: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoProcessor

    try:
        config = AutoConfig.from_pretrained(name)
        _require_decoder(config)
        full = generative_class(config).from_pretrained(name, dtype=dtype or "auto")
        return full, AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BtoksError(name, reason, "pass a hub id, a model folder, or (model, processor)") from error
