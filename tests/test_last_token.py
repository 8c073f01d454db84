"""Last-token embedding checkpoints and adapters over them, against references run by hand on the same weights."""

from __future__ import annotations

import json
import os
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import btoks
import tiny
from btoks import convert, foreign, prompts
from btoks.bottleneck import generator, record
from btoks.errors import BtoksError
from checkpoints import ITEMS, VLM2VEC, adapter, inputs, last_token, reference

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BTOKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_vlm2vec_stands_at_plain_text_positions(name: str, tmp_path: Path) -> None:
    model, processor = last_token(tmp_path / "VLM2Vec-tiny", name)
    opened = btoks.load(tmp_path / "VLM2Vec-tiny")
    assert (record(opened)["tokens"], record(opened)["layout"]) == (0, "vlm2vec")
    for kind, item in ITEMS.items():
        have = opened.encode([item], prompt="Find it.", convert_to_tensor=True)[0]
        length = inputs(processor, VLM2VEC[kind], item)["input_ids"].shape[1]
        plain = torch.arange(length).expand(3, 1, length)
        want = reference(model, processor, VLM2VEC[kind], item, 1, position_ids=plain)
        assert (have - want).abs().max() <= 1e-6, kind
        spread = reference(model, processor, VLM2VEC[kind], item, 1)
        assert ((have - spread).abs().max() > 1e-3) == (kind != "text")
    together = opened.encode(list(ITEMS.values()), prompt="Find it.", convert_to_tensor=True)
    alone = torch.cat([opened.encode([item], prompt="Find it.", convert_to_tensor=True) for item in ITEMS.values()])
    assert (together - alone).abs().max() <= 1e-5


def test_vlm2vec_is_saved_and_reopened_as_it_is_and_never_by_the_stock_class(tmp_path: Path) -> None:
    last_token(tmp_path / "VLM2Vec-tiny", "qwen2_vl")
    opened = btoks.load(tmp_path / "VLM2Vec-tiny")
    btoks.save(opened, tmp_path / "again")
    again = btoks.load(tmp_path / "again")
    item = ITEMS["image"]
    assert np.array_equal(opened.encode([item]), again.encode([item]))
    types = [entry["type"] for entry in json.loads((tmp_path / "again/modules.json").read_text())]
    assert types[0] == "btoks.plain_positions.PlainPositions"
    assert generator(again).get_output_embeddings().weight.shape[0] == 512


def test_vlm2vec_with_tokens_reads_on_after_the_last_plain_position() -> None:
    opened = btoks.attach(tiny.backbone("qwen2_vl"), tokens=2, layout="vlm2vec")
    features = opened.preprocess([ITEMS["image"]])
    count = features["attention_mask"].sum(dim=1)
    held = btoks.memory(opened, features)[1]
    assert torch.equal(held.position_B, count)


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ([{"type": "text", "text": "a"}], "I a"),
        ([{"type": "image"}, {"type": "text", "text": "a"}], "<|image_pad|>\nI a\n"),
        ([{"type": "image"}], "<|image_pad|>\nI\n"),
        ([{"type": "text", "text": "a \nb"}, {"type": "image"}], "<|image_pad|>\nI a\nb\n"),
        ([{"type": "video"}, {"type": "text", "text": "a \nb"}], "<|video_pad|> I a \nb"),
        ([{"type": "video"}], "<|video_pad|> I"),
    ],
)
def test_vlm2vec_prompts_as_they_were_trained(content: list[dict[str, str]], want: str) -> None:
    processor = tiny.backbone("qwen2_vl")[1]
    processor.chat_template = prompts.template(processor, 0, "vlm2vec")
    messages = [{"role": "system", "content": [{"type": "text", "text": "I"}]}, {"role": "user", "content": content}]
    assert processor.apply_chat_template(messages) == want
    messages[0]["content"] = "Question: "
    if content == [{"type": "text", "text": "a"}]:
        assert processor.apply_chat_template(messages) == "Question:  a"


def test_the_chat_layout_is_the_models_own_chat(tmp_path: Path) -> None:
    model, processor = last_token(tmp_path / "Qwen3-VL-Embedding-tiny", "qwen3_vl")
    opened = btoks.load(tmp_path / "Qwen3-VL-Embedding-tiny")
    assert (record(opened)["tokens"], record(opened)["layout"]) == (0, "chat")
    user = {"text": "", "image": "<|vision_start|><|image_pad|><|vision_end|>", "video": "<|video_pad|>"}
    for kind, item in ITEMS.items():
        for prompt in ("Find it.", None):
            have = opened.encode([item], prompt=prompt, convert_to_tensor=True)[0]
            told = prompt or "Represent the user's input."
            text = (
                f"<|im_start|>system\n{told}<|im_end|>\n"
                f"<|im_start|>user\n{user[kind]}{item['text']}<|im_end|>\n<|im_start|>assistant\n"
            )
            assert (have - reference(model, processor, text, item, 1)).abs().max() <= 1e-6, kind
    content = [{"type": "image"}, {"type": "text", "text": " two  spaces\n"}]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Find it."}]},
        {"role": "user", "content": content},
    ]
    theirs = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert opened[0].processor.apply_chat_template(messages, add_generation_prompt=True) == theirs


def test_the_chat_layout_needs_a_system_turn() -> None:
    model, processor = tiny.backbone("qwen2_vl")
    processor.chat_template = "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
    with pytest.raises(BtoksError, match="no system turn"):
        btoks.attach((model, processor), tokens=0, layout="chat")


@pytest.mark.parametrize(
    ("style", "settings"), [("full", {}), ("body", {}), ("old", {}), ("full", {"use_dora": True})], ids=str
)
def test_an_adapter_is_merged_exactly(style: str, settings: dict[str, Any], tmp_path: Path) -> None:
    base = tiny.folder("qwen2_vl", tmp_path / "base")
    wrapped = adapter(tmp_path / "adapter", base, style, **settings)
    processor = tiny.backbone("qwen2_vl")[1]
    opened = btoks.load(tmp_path / "adapter")
    body = wrapped.base_model.model
    for kind, item in ITEMS.items():
        have = opened.encode([item], prompt="Find it.", convert_to_tensor=True)[0]
        length = inputs(processor, VLM2VEC[kind], item)["input_ids"].shape[1]
        plain = torch.arange(length).expand(3, 1, length)
        want = reference(body, processor, VLM2VEC[kind], item, 1, position_ids=plain)
        assert (have - want).abs().max() <= 1e-5, kind
        untrained = reference(tiny.backbone("qwen2_vl")[0], processor, VLM2VEC[kind], item, 1, position_ids=plain)
        assert (have - untrained).abs().max() > 1e-3


def test_adapter_keys_that_do_not_match_are_refused(tmp_path: Path) -> None:
    base = tiny.folder("qwen2_vl", tmp_path / "base")
    adapter(tmp_path / "adapter", base)
    file = tmp_path / "adapter/adapter_model.safetensors"
    stored = load_file(file)
    key = min(stored)
    save_file({name: value for name, value in stored.items() if name != key}, file)
    with pytest.raises(BtoksError, match=f"1 adapter keys do not match the model, such as {re.escape(key)}"):
        btoks.load(tmp_path / "adapter")
    save_file({name.replace("q_proj", "query"): value for name, value in stored.items()}, file)
    with pytest.raises(BtoksError, match="adapter keys do not match"):
        btoks.load(tmp_path / "adapter")
    deeper = tiny.folder("qwen2_vl", tmp_path / "deeper", layers=3)
    save_file(stored, file)
    with pytest.raises(BtoksError, match="adapter keys do not match"):
        convert.convert(tmp_path / "adapter", tmp_path / "out", base=deeper)


def test_a_changed_base_is_another_conversion(tmp_path: Path) -> None:
    base = tiny.folder("qwen2_vl", tmp_path / "base")
    adapter(tmp_path / "adapter", base)
    first = convert.native(tmp_path / "adapter")
    os.utime(base / "model.safetensors", ns=(1, 1))
    assert convert.native(tmp_path / "adapter") != first


@pytest.mark.parametrize("kind", ["Qwen2VLVideoProcessor", "Qwen3VLVideoProcessor"])
def test_frames_are_kept_within_an_area(kind: str) -> None:
    video = getattr(transformers, kind)(size={"shortest_edge": 4096, "longest_edge": 24 * 1024 * 1024})

    def frame(count: int) -> int:
        """Pixels of one frame of a clip as it reaches the model."""
        clip = np.zeros((count, 900, 1200, 3), np.uint8)
        _, height, width = video(videos=[clip], do_sample_frames=False)["video_grid_thw"][0]
        return int(height * width) * video.patch_size**2

    before = frame(4)
    foreign.limit_video(SimpleNamespace(video_processor=video), 300_000, each_frame=True)
    assert before > 300_000
    assert all(250_000 < frame(count) <= 300_000 for count in (2, 4))
    foreign.limit_video(SimpleNamespace(video_processor=video), 10**9, each_frame=True)
    assert frame(4) <= 300_000
