"""The tiny backbones are real ones: every input their family takes reaches the hidden states."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

import tiny

if TYPE_CHECKING:
    from pathlib import Path

TEXT = {"type": "text", "text": "the quick brown fox"}
METADATA = {"fps": 1.0, "total_num_frames": 4, "duration": 4.0, "frames_indices": [0, 1, 2, 3]}


def picture(seed: int, height: int = 60, width: int = 90) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"type": "image", "image": Image.fromarray(pixels)}


def clip(seed: int) -> dict[str, Any]:
    frames = np.random.default_rng(seed).integers(0, 256, (4, 60, 90, 3), dtype=np.uint8)
    return {"type": "video", "video": frames}


def features(processor: Any, *content: dict[str, Any]) -> dict[str, torch.Tensor]:
    options: dict[str, Any] = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    if any(part["type"] == "video" for part in content):
        options["processor_kwargs"] = {"video_metadata": [METADATA]}
    return processor.apply_chat_template([[{"role": "user", "content": list(content)}]], **options)


@torch.no_grad()
def last_state(model: Any, processor: Any, *content: dict[str, Any]) -> torch.Tensor:
    return model.model(**features(processor, *content)).last_hidden_state[0, -1]


def moved(model: Any, processor: Any, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    a, b = last_state(model, processor, *first), last_state(model, processor, *second)
    return bool(torch.isfinite(a).all()) and float((a - b).abs().max()) > 1e-2


@pytest.mark.parametrize("name", tiny.NAMES)
def test_every_family_takes_its_inputs(name: str) -> None:
    start = time.process_time()
    model, processor = tiny.backbone(name)
    assert time.process_time() - start < 3
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert moved(model, processor, [TEXT], [{"type": "text", "text": "the quick brown dog"}])
    if name in tiny.VISION:
        assert moved(model, processor, [picture(0), TEXT], [picture(1), TEXT])
        assert moved(model, processor, [picture(0), picture(2, 120, 50)], [picture(0), picture(3, 120, 50)])
        assert moved(model, processor, [picture(0), picture(1)], [picture(1), picture(0)])
    if name in tiny.VIDEO:
        assert moved(model, processor, [clip(0), TEXT], [clip(1), TEXT])


def test_which_families_see() -> None:
    assert set(tiny.NAMES) - tiny.VISION == {"qwen3"}
    assert set(tiny.VISION - tiny.VIDEO) == {"gemma3"}


@pytest.mark.parametrize("name", ["llava_onevision", "smolvlm", "internvl"])
def test_tiling_families_give_larger_images_more_tiles(name: str) -> None:
    _, processor = tiny.backbone(name)
    square, wide = (features(processor, picture(0, 56, width))["pixel_values"] for width in (56, 112))
    assert square.shape[:-3].numel() != wide.shape[:-3].numel()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("qwen3_5", ["linear_attention", "full_attention"]), ("gemma3", ["sliding_attention", "full_attention"])],
)
def test_mixed_families_have_both_kinds_of_layers(name: str, kinds: list[str]) -> None:
    model, _ = tiny.backbone(name)
    assert model.config.get_text_config().layer_types == kinds


@pytest.mark.parametrize("name", tiny.NAMES)
def test_tokenizer_round_trips_bytes_and_special_tokens(name: str) -> None:
    model, processor = tiny.backbone(name)
    tokenizer = getattr(processor, "tokenizer", processor)
    text = "Größe 7 × ½ – 漢字 🙂\n\tend"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    for token in tokenizer.get_added_vocab():
        assert tokenizer(token, add_special_tokens=False)["input_ids"] == [tokenizer.convert_tokens_to_ids(token)]
    rows = model.get_input_embeddings().weight.shape[0]
    assert rows > len(tokenizer) if name.startswith("qwen") else rows == len(tokenizer)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_folder_loads_as_from_the_hub(name: str, tie: bool, tmp_path: Path) -> None:
    path = tiny.folder(name, tmp_path, tie=tie, table=400)
    content = [TEXT, *([picture(0)] if name in tiny.VISION else [])]
    auto = AutoModelForImageTextToText if name in tiny.VISION else AutoModelForCausalLM
    loaded = auto.from_pretrained(path, local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(path, local_files_only=True)
    made, original = tiny.backbone(name, tie=tie, table=400)
    # A video processor that writes the image processor's key cannot serve an item with both.
    if name in tiny.VIDEO and "pixel_values" not in original.video_processor.model_input_names:
        content.append(clip(0))
    inputs = features(original, *content)
    reread = features(processor, *content)
    assert inputs.keys() == reread.keys()
    assert all(torch.equal(torch.as_tensor(inputs[key]), torch.as_tensor(reread[key])) for key in inputs)
    assert made.get_input_embeddings().weight.shape[0] == 400
    assert (made.get_input_embeddings().weight is made.get_output_embeddings().weight) == tie
    with torch.no_grad():
        assert torch.equal(made(**inputs).logits, loaded(**reread).logits)


def test_options_and_copies() -> None:
    model, _ = tiny.backbone("qwen3", layers=3)
    assert model.config.num_hidden_layers == 3
    weight = model.get_input_embeddings().weight
    before = weight.clone()
    with torch.no_grad():
        weight.zero_()
    assert torch.equal(tiny.backbone("qwen3", layers=3)[0].get_input_embeddings().weight, before)
    assert not torch.equal(tiny.backbone("qwen3", layers=3, seed=1)[0].get_input_embeddings().weight, before)
    tiny.backbone("qwen3")[1].add_tokens(["<new>"])
    assert "<new>" not in tiny.backbone("qwen3")[1].get_vocab()
