"""Tiny random instances of every backbone family, each with its full processor.

Made from configuration alone (no hub, no downloads), so that the tests cover real architectures offline and in seconds.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

    Processor = ProcessorMixin | PreTrainedTokenizerBase

Settings = dict[str, Any]

_CORPUS = (
    "the quick brown fox jumps over the lazy dog while two people read a book in the garden",
    "a photo of a red bus that stands in front of the station, and the text of a page about it",
)
_HIDDEN, _TILE, _WIDE_TABLE, _LENGTH = 64, 56, 512, 4096
_TEMPLATE = (
    "{{ HEAD }}{% for message in messages %}{{ START + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ IMAGE }}{% elif part.type == 'video' %}{{ VIDEO }}"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "{{ END + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ START + 'assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class _Family:
    """What one family needs beside the shared sizes, its key in the table being transformers' `model_type`.

    `ids` fills entries of the configuration from attributes of the tokenizer; `first` is the kind of every layer but
    the last, which is full attention; `images` and `videos` are (class, arguments); a `wide` family has more rows in
    its table than its tokenizer has tokens.
    """

    tokens: dict[str, str]
    more_tokens: tuple[str, ...] = ("<|im_start|>",)
    ids: dict[str, str] = field(default_factory=dict)
    text: Settings = field(default_factory=dict)
    vision: Settings = field(default_factory=dict)
    config: Settings = field(default_factory=dict)
    first: str = ""
    images: tuple[str, Settings] | None = None
    videos: tuple[str, Settings] | None = None
    processor: Settings = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    wide: bool = False


_CHATML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_SQUARE = {"size": {"height": _TILE, "width": _TILE}}
_PINPOINTS = {"image_grid_pinpoints": [[_TILE * rows, _TILE * columns] for rows in (1, 2) for columns in (1, 2)]}
_VISION = {"hidden_size": 32, "intermediate_size": 48}
# 4 × 4 patches a tile, as every family with tiles of a fixed size has them here.
_TILES = {**_VISION, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": _TILE, "patch_size": 14}
_SIGLIP = {**_TILES, "model_type": "siglip_vision_model", "vision_use_head": False}
_SPLIT = {"size": {"longest_edge": 2 * _TILE}, "max_image_size": {"longest_edge": _TILE}}


def _qwen(patch: int, video: str, vision: Settings, rope: Settings, **more: Any) -> _Family:
    """A Qwen family with vision: images of 4 to 8 visual tokens."""
    ids = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    pads = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    area = (2 * patch) ** 2
    images, videos = ({"shortest_edge": 4 * area, "longest_edge": tokens * area} for tokens in (8, 16))
    merging = {"patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3], **rope}
    return _Family(
        tokens=_CHATML | {f"{name}_token": f"<|{name}|>" for name in ("vision_start", "vision_end")} | pads,
        ids={key: key for key in ids},
        text={"rope_parameters": rope, **more.pop("text", {})},
        vision={"depth": 2, "num_heads": 2, **merging, **vision},
        images=("Qwen2VLImageProcessor", {"patch_size": patch, "size": images}),
        videos=(video, {"patch_size": patch, "size": videos, "cap_pixels_per_frame": False}),
        marks={kind.upper(): f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video")},
        wide=True,
        **more,
    )


_TO_TEXT = {**_VISION, "out_hidden_size": _HIDDEN}
_FAMILIES = {
    "qwen2_vl": _qwen(
        14, "Qwen2VLVideoProcessor", {"embed_dim": _VISION["hidden_size"], "hidden_size": _HIDDEN, "mlp_ratio": 2}, {}
    ),
    "qwen2_5_vl": _qwen(
        14, "Qwen2VLVideoProcessor", {**_TO_TEXT, "window_size": _TILE, "fullatt_block_indexes": [1]}, {}
    ),
    "qwen3_vl": _qwen(
        16,
        "Qwen3VLVideoProcessor",
        {**_TO_TEXT, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        {"mrope_interleaved": True},
    ),
    "qwen3_5": _qwen(
        16,
        "Qwen3VLVideoProcessor",
        {**_TO_TEXT, "num_position_embeddings": 64},
        {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5},
        text={
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
        first="linear_attention",
    ),
    "qwen3": _Family(_CHATML, wide=True),
    "llava_onevision": _Family(
        {**_CHATML, "image_token": "<image>", "video_token": "<video>"},
        ids={"image_token_index": "image_token_id", "video_token_index": "video_token_id"},
        text={"model_type": "qwen2"},
        vision=_SIGLIP,
        config=_PINPOINTS,
        images=("LlavaOnevisionImageProcessor", {**_SQUARE, **_PINPOINTS}),
        videos=("LlavaOnevisionVideoProcessor", _SQUARE),
        processor={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
        marks={"IMAGE": "<image>", "VIDEO": "<video>"},
    ),
    "smolvlm": _Family(
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|im_end|>",
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
        tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
        ids={"image_token_id": "image_token_id"},
        text={"model_type": "llama"},
        vision=_TILES,
        images=("SmolVLMImageProcessor", _SPLIT),
        videos=("SmolVLMVideoProcessor", {**_SPLIT, "num_frames": 8, "fps": 1}),
        processor={"image_seq_len": 4},
        marks={"IMAGE": "<image>", "VIDEO": "<video>", "END": "<end_of_utterance>"},
    ),
    "gemma3": _Family(
        {
            "bos_token": "<bos>",
            "eos_token": "<end_of_turn>",
            "pad_token": "<pad>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        ("<start_of_turn>",),
        ids={f"{key}_token_index": f"{key}_token_id" for key in ("boi", "eoi", "image")},
        text={"sliding_window": 512, "query_pre_attn_scalar": 16},
        vision=_SIGLIP,
        config={"mm_tokens_per_image": 4},
        first="sliding_attention",
        images=("Gemma3ImageProcessor", _SQUARE),
        processor={"image_seq_length": 4},
        marks={"HEAD": "<bos>", "START": "<start_of_turn>", "END": "<end_of_turn>", "IMAGE": "<start_of_image>"},
    ),
    "internvl": _Family(
        {
            **_CHATML,
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        ids={"image_token_id": "context_image_token_id"},
        text={"model_type": "qwen2"},
        vision=_TILES,
        config={"image_seq_length": 4},
        images=("GotOcr2ImageProcessor", {**_SQUARE, "min_patches": 1, "max_patches": 3}),
        videos=("InternVLVideoProcessor", _SQUARE),
        processor={"image_seq_length": 4},
        marks={"IMAGE": "<IMG_CONTEXT>\n", "VIDEO": "<video>\n"},
    ),
}


def _tokenizer(family: _Family) -> Any:
    """A byte-level BPE tokenizer: every byte, a few merges, then the family's own special tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(_CORPUS, trainer)
    bpe.add_special_tokens([*dict.fromkeys(family.tokens.values()), *family.more_tokens])
    marks = {"HEAD": "", "START": "<|im_start|>", "END": "<|im_end|>", "IMAGE": "", "VIDEO": "", **family.marks}
    make: Any = transformers.PreTrainedTokenizerFast
    return make(
        tokenizer_object=bpe,
        extra_special_tokens=list(family.more_tokens),
        model_max_length=_LENGTH,
        chat_template="".join(f"{{% set {name} = {value!r} %}}" for name, value in marks.items()) + _TEMPLATE,
        **family.tokens,
    )


@functools.cache
def _processor(name: str) -> Any:
    family = _FAMILIES[name]
    tokenizer = _tokenizer(family)
    parts = {"image_processor": family.images, "video_processor": family.videos}
    made = {key: getattr(transformers, part[0])(**part[1]) for key, part in parts.items() if part}
    if not made:
        return tokenizer
    kind = transformers.PROCESSOR_MAPPING[transformers.CONFIG_MAPPING[name]]
    return kind(tokenizer=tokenizer, chat_template=tokenizer.chat_template, **made, **family.processor)


def _config(family: _Family, tokenizer: PreTrainedTokenizerBase, layers: int, table: int, *, tie: bool) -> Settings:
    text = {
        "vocab_size": table,
        "hidden_size": _HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": _LENGTH,
        "tie_word_embeddings": tie,
        **{key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
        **family.text,
    }
    if family.first:
        text["layer_types"] = [family.first] * (layers - 1) + ["full_attention"]
    if not family.vision:
        return text
    ids = {key: getattr(tokenizer, attribute) for key, attribute in family.ids.items()}
    return {"text_config": text, "vision_config": family.vision, "tie_word_embeddings": tie, **ids, **family.config}


@functools.cache
def _model(name: str, seed: int, layers: int, table: int | None, tie: bool) -> Any:
    family = _FAMILIES[name]
    tokenizer = getattr(_processor(name), "tokenizer", _processor(name))
    rows = table or (_WIDE_TABLE if family.wide else len(tokenizer))
    settings = copy.deepcopy(_config(family, tokenizer, layers, rows, tie=tie))
    auto: Any = transformers.AutoModelForImageTextToText if family.vision else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(transformers.AutoConfig.for_model(name, **settings)).float().eval()
        _randomise(model)
    return model


@torch.no_grad()
def _randomise(model: PreTrainedModel) -> None:
    """Matrices at unit gain, so that inputs stay apart; vectors (norms, biases) moved off their neutral start."""
    for name, weight in model.named_parameters():
        if name.endswith("A_log"):
            # At the library's start a recurrent layer forgets within a token, and its decays summed over a row of
            # padding cost more precision than fp32 tests of batch invariance allow.
            weight.uniform_(-4.0, -1.0)
        elif weight.ndim > 1:
            weight.normal_(std=(weight.shape[0] / weight.numel()) ** 0.5)
        else:
            weight.add_(torch.randn_like(weight), alpha=0.1)


def backbone(
    name: str, *, seed: int = 0, layers: int = 2, table: int | None = None, tie: bool = False
) -> tuple[PreTrainedModel, Processor]:
    """A fresh copy of the family's full generative model (fp32, eval) and its real processor.

    `table` sets the rows of the embedding table; by default the Qwen families have more rows than their tokenizer
    has tokens, as the published ones do, and the others exactly as many. `tie` ties the output head to it. From
    `layers=2` on, the families that mix two kinds of layers have both.
    """
    return copy.deepcopy(_model(name, seed, layers, table, tie)), copy.deepcopy(_processor(name))


def folder(name: str, path: Path, **options: Any) -> Path:
    """Saves model and processor to `path` as a hub repository holds them; the options are those of `backbone`."""
    model, processor = backbone(name, **options)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


NAMES = tuple(_FAMILIES)
VISION = frozenset(name for name in NAMES if hasattr(_processor(name), "image_processor"))
VIDEO = frozenset(name for name in NAMES if hasattr(_processor(name), "video_processor"))
