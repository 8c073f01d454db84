"""A small vision-language model from nothing: Qwen3-VL's architecture, a tokenizer of its own, random weights.

For models trained on the spot, where no published one can be fetched or would fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_PATCH, _MERGE = 16, 2
_CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_VISUAL = {
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
}
_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}{{ '<|vision_start|><|' + part.type + '_pad|><|vision_end|>' }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """The shape of the model; pictures take up to `visual_tokens` tokens, clips up to four times as many."""

    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    feed: int = 768
    vision_hidden: int = 192
    vision_layers: int = 3
    visual_tokens: int = 16
    length: int = 2048


def backbone(
    texts: Iterable[str], size: Size | None = None, *, seed: int = 0
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A model with random weights and its processor, whose tokenizer is trained on `texts`.

    >>> model, processor = backbone(["a red fox", "a blue car"], Size(vocabulary=300))  # doctest: +SKIP
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    size = size or Size()
    tokenizer = _tokenizer(texts, size)
    config = AutoConfig.for_model("qwen3_vl", **_config(tokenizer, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config).float().eval()
    return model, _processor(tokenizer, size)


def _tokenizer(texts: Iterable[str], size: Size) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [*_CONTROL, *_VISUAL.values()]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    room = size.vocabulary - len(special)
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens(special)
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        model_max_length=size.length,
        chat_template=_TEMPLATE,
        **_VISUAL,
    )


def _config(tokenizer: Any, size: Size) -> dict[str, Any]:
    width = size.hidden // size.heads
    third = width // 6  # half a head's width, shared by the rotary axes: time, height, width
    text = {
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.feed,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": max(size.heads // 2, 1),
        "head_dim": width,
        "max_position_embeddings": size.length,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [width // 2 - 2 * third, third, third],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": size.vision_layers,
        "hidden_size": size.vision_hidden,
        "intermediate_size": 4 * size.vision_hidden,
        "num_heads": 4,
        "out_hidden_size": size.hidden,
        "patch_size": _PATCH,
        "spatial_merge_size": _MERGE,
        "temporal_patch_size": 2,
        "in_channels": 3,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0],
    }
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in _VISUAL.items()}
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": True, **ids}


def _processor(tokenizer: Any, size: Size) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    area = (_PATCH * _MERGE) ** 2
    budgets = [size.visual_tokens, 4 * size.visual_tokens]
    images, clips = ({"shortest_edge": 4 * area, "longest_edge": tokens * area} for tokens in budgets)
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=_PATCH, merge_size=_MERGE, size=images),
        video_processor=Qwen3VLVideoProcessor(
            patch_size=_PATCH, merge_size=_MERGE, size=clips, cap_pixels_per_frame=False
        ),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
