"""Other projects' checkpoints, written by hand from tiny models, and the references they are held against."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny

if TYPE_CHECKING:
    from pathlib import Path

TYPES = {"qwen2_vl": "Qwen2VLBackbone", "qwen2_5_vl": "Qwen2_5_VLBackbone", "qwen3_vl": "Qwen3VLBackbone"}
K = 4
TOKENS = [f"<|btok_{place}|>" for place in range(K)]
IMAGE = Image.fromarray(np.arange(64 * 96 * 3, dtype=np.uint8).reshape(64, 96, 3))
FRAMES = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
TIMES = {"fps": 1.0, "total_num_frames": 4, "duration": 4.0, "frames_indices": [0, 1, 2, 3]}
ITEMS: dict[str, dict[str, Any]] = {
    "text": {"text": "a red fox"},
    "image": {"image": IMAGE, "text": "what is it?"},
    "video": {"video": {"array": FRAMES, "video_metadata": TIMES}, "text": "a dog"},
}


VLM2VEC = {
    "text": "Find it. a red fox",
    "image": "<|image_pad|>\nFind it. what is it?\n",
    "video": "<|video_pad|> Find it. a dog",
}


def authors(
    path: Path,
    name: str = "qwen2_vl",
    *,
    shards: int = 1,
    head: bool = True,
    style: str = "full",
    flat: bool = False,
    in_tokenizer: bool = True,
    rows: int | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """Write a checkpoint in the authors' layout; returns the model and the processor it was made of.

    `style`: the names of the generative model, of its body, or old ones; `flat`: the old form of the configuration.
    """
    model, processor = tiny.backbone(name, table=rows, **options)
    processor.chat_template = "a template that is no chat"
    if in_tokenizer:
        processor.tokenizer.add_tokens(TOKENS, special_tokens=True)
    processor.save_pretrained(path)
    processor.tokenizer.add_tokens(TOKENS, special_tokens=True)
    modules = {
        "injector": {"type": "BToksTokenInjector", "num_tokens": K},
        "backbone": {"type": TYPES[name], "backbone_config": old_config(model) if flat else model.config.to_dict()},
        "pooling": {"type": "BToksPooling"},
        "normalize": {"type": "Normalize"},
    }
    (path / "config.json").write_text(json.dumps({"model_type": "btoks", "modules": modules}))
    stored = {key: value for key, value in model.state_dict().items() if head or key != "lm_head.weight"}
    if style != "full":
        stored = {key.removeprefix("model."): value for key, value in stored.items()}
    if style == "old":
        stored = {re.sub("^language_model", "model", key): value for key, value in stored.items()}
    write_weights(path, {f"_modules_dict.backbone.model.{key}": value for key, value in stored.items()}, shards)
    return model, processor


def old_config(model: Any) -> dict[str, Any]:
    """A configuration as it was written before it had a part for the text model."""
    settings = model.config.to_dict()
    settings = {**settings.pop("text_config"), **settings}
    sections = settings.pop("rope_parameters")["mrope_section"]
    return settings | {"rope_scaling": {"type": "mrope", "mrope_section": sections}, "rope_theta": 10_000.0}


def write_weights(path: Path, stored: dict[str, torch.Tensor], shards: int = 1) -> None:
    stored = {key: value.clone() for key, value in stored.items()}
    if shards == 1:
        save_file(stored, path / "model.safetensors")
        return
    names = {key: f"model-{place % shards}.safetensors" for place, key in enumerate(stored)}
    for file in set(names.values()):
        save_file({key: value for key, value in stored.items() if names[key] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def edit(path: Path, change: Any) -> None:
    settings = json.loads((path / "config.json").read_text())
    change(settings)
    (path / "config.json").write_text(json.dumps(settings))


def inputs(processor: Any, text: str, item: dict[str, Any]) -> Any:
    given: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
    if "image" in item:
        given["images"] = [item["image"]]
    if "video" in item:
        given["videos"] = [item["video"]["array"]]
        given["videos_kwargs"] = {"do_sample_frames": False, "video_metadata": [item["video"]["video_metadata"]]}
    return processor(**given)


@torch.no_grad()
def reference(model: Any, processor: Any, text: str, item: dict[str, Any], last: int, **more: Any) -> torch.Tensor:
    """The backbone's body on ids made by hand, the mean of the last states, unit length."""
    hidden_BTD = model.base_model(**inputs(processor, text, item), **more).last_hidden_state
    return torch.nn.functional.normalize(hidden_BTD[0, -last:].mean(dim=0), dim=0)


def written(name: str, kind: str) -> str:
    """The prompt of the authors for one of the items."""
    visual = {
        "image": "<|vision_start|><|image_pad|><|vision_end|>\n",
        "video": "<|vision_start|><|video_pad|><|vision_end|>\n",
    }
    if name == "qwen3_vl":
        visual["video"] = "<|video_pad|>\n"  # its processor writes the boundaries, a pair a frame
    return visual.get(kind, "") + f"Find it. {ITEMS[kind]['text']}\n" + "".join(TOKENS)


def last_token(path: Path, name: str, **options: Any) -> tuple[Any, Any]:
    tiny.folder(name, path, **options)
    return tiny.backbone(name, **options)


def adapter(path: Path, base: Path, style: str = "full", **settings: Any) -> Any:
    """Write a trained-looking adapter over a folder's model; returns the wrapped model."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], **settings)
    wrapped = get_peft_model(tiny.backbone("qwen2_vl")[0], config)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.2)
    wrapped.save_pretrained(path, save_embedding_layers=False)
    settings_file = path / "adapter_config.json"
    settings_file.write_text(json.dumps(json.loads(settings_file.read_text()) | {"base_model_name_or_path": str(base)}))
    change = {"full": "", "body": "model.language_model.", "old": "model.language_model."}[style]
    into = {"full": "", "body": "language_model.", "old": "model."}[style]
    stored = load_file(path / "adapter_model.safetensors")
    save_file(
        {key.replace(change, into, 1) if change else key: value for key, value in stored.items()},
        path / "adapter_model.safetensors",
    )
    return wrapped.eval()
