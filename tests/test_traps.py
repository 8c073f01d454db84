"""Traps that others fell into, or that fail without a sound: one test each, the story in its first line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import WordWeights

import btoks
import tiny
from btoks import bottleneck
from btoks.errors import BtoksError
from items import KINDS, attached, features, fresh, kinds, padded, picture, python, rendered, streamed, token_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
WORDS = "the quick brown fox jumps over the lazy dog "
ALONE = """
import sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "btoks":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import torch
torch.set_num_threads(1)
import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer
folder, items, out = sys.argv[1:]
pixels = np.load(items)
metadata = {"fps": 1.0, "total_num_frames": 4, "frames_indices": [0, 1, 2, 3]}
video = {"array": pixels["clip"], "video_metadata": metadata}
image = Image.fromarray(pixels["image"])
inputs = [{"text": "fox"}, {"image": image, "text": "what is in the garden?"}, {"video": video}]
model = SentenceTransformer(folder, device="cpu")
assert {type(module).__module__.partition(".")[0] for module in model} == {"sentence_transformers"}
np.save(out, np.stack([model.encode([each])[0] for each in inputs]))
try:
    import btoks
except ModuleNotFoundError:
    print("alone")
"""


def test_stock_pooling_opens_without_btoks(tmp_path: Path) -> None:
    """Trap 1: a class of ours in modules.json would make plain `SentenceTransformer(folder)` refuse."""
    model = attached("qwen3_vl")
    btoks.save(model, tmp_path / "model")
    items = [KINDS["short text"], KINDS["image + text"], {"video": KINDS["video"]["video"]}]
    np.savez(tmp_path / "items.npz", image=np.asarray(items[1]["image"]), clip=items[2]["video"]["array"])
    ran = python(ALONE, tmp_path / "model", tmp_path / "items.npz", tmp_path / "out.npy")
    assert ran.stdout.strip() == "alone", ran.stderr
    expected = np.stack([model.encode([each])[0] for each in items])
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


def test_a_foreign_class_is_refused(tmp_path: Path) -> None:
    """Trap 1, the other side: opening a folder must not run whatever class its modules.json names."""
    btoks.save(attached("qwen3"), tmp_path / "model")
    file = tmp_path / "model" / "modules.json"
    modules = json.loads(file.read_text())
    named = {"os.system": "foreign code", "btoksy.Pool": "foreign code", "btoks.folder.load": "unknown"}
    for name, reason in named.items():
        file.write_text(json.dumps([*modules[:-1], {**modules[-1], "type": name}]))
        with pytest.raises(BtoksError, match=f"{name} is {reason}"):
            btoks.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "gemma3", "qwen3"])
def test_a_long_text_never_pushes_the_tokens_out(name: str) -> None:
    """Trap 2: truncation by the processor cut the bottleneck tokens of rows with media, and left a zero vector."""
    model = fresh(name, max_tokens=200)
    assert model[0].processing_kwargs["text"]["truncation"] is False
    long: dict[str, Any] = {"text": WORDS * 1200}
    assert len(model.tokenizer(long["text"]).input_ids) > 10_000
    if name in tiny.VISION:
        long["image"] = picture()
    row = features(model, long)["input_ids"][0].tolist()
    assert row[-4:] == token_ids(model)
    assert 150 < len(row) <= 200
    assert abs(np.linalg.norm(streamed(model, [long])[0]) - 1) < 1e-5
    assert long["text"].startswith(btoks.fit(model, long)["text"])
    for item in kinds(name).values():
        if set(item) <= set(model.modalities):
            np.testing.assert_allclose(streamed(model, [item]), model.encode([item]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_budget_is_used_up_exactly(length: int) -> None:
    """Trap 2, its edge: a text within the budget is not touched, one token more is cut; letters of 1 to 4 bytes."""
    model = fresh("qwen3", max_tokens=60)
    room = 60 - 4 - 32
    letter = {1: "q", 2: "é", 3: "漢"}[length]
    each = len(model.tokenizer(letter).input_ids)
    text = letter * (room // each)
    assert btoks.fit(model, {"text": text}) == {"text": text}
    assert btoks.fit(model, {"text": text + letter}) == {"text": text}
    assert btoks.fit(model, {"text": "🙂" * 100})["text"].encode() == "🙂".encode() * (room // 4)


@pytest.mark.parametrize("name", sorted(tiny.VISION))
def test_an_instruction_stands_behind_the_visuals(name: str) -> None:
    """Trap 4: sentence-transformers hands the prompt over as a system message, in front of the media."""
    model = attached(name)
    found = rendered(model, {"text": "a fox", "image": picture()}, prompt="find: ")
    alone = rendered(model, {"image": picture()})
    visual = alone[: alone.index("\n<|btok_0|>")]
    assert found == f"{visual}\nfind: a fox\n<|btok_0|><|btok_1|><|btok_2|><|btok_3|>"
    with_prompt = model.encode([{"image": picture(), "text": "a fox"}], prompt="find: ")
    np.testing.assert_allclose(
        with_prompt, model.encode([{"image": picture(), "text": "find: a fox"}]), rtol=0, atol=1e-5
    )


def adapter(**options: Any) -> LoraConfig:
    return LoraConfig(target_modules=["q_proj", "down_proj"], r=4, lora_alpha=16, init_lora_weights=False, **options)


def test_dora_reloads_exactly(tmp_path: Path) -> None:
    """Trap 5: a DoRA adapter reloaded by `add_adapter` was 0.04 off, with one line in the log."""
    model = fresh("qwen3")
    torch.manual_seed(0)
    model.add_adapter(adapter(use_dora=True))
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "magnitude" in name:
                weight.mul_(1.5)
    vectors = model.encode([KINDS["text"]])
    btoks.save(model, tmp_path / "apart", merge=False)
    assert np.array_equal(btoks.load(tmp_path / "apart").encode([KINDS["text"]]), vectors)


def test_probes_travel_and_tell(tmp_path: Path) -> None:
    """Trap 9: an engine may pool in its own way without an error; the folder carries inputs and their right vectors."""
    model = fresh("qwen2_vl")
    btoks.save(model, tmp_path / "model")
    probes = json.loads((tmp_path / "model" / "probes.json").read_text())
    assert {key for each in probes["inputs"] for key in each} == {"text", "image", "video", "fps"}
    assert np.allclose(np.linalg.norm(probes["embeddings"], axis=1), 1, atol=1e-5)
    from btoks import doctor

    assert all(finding.agrees for finding in doctor.check(tmp_path / "model"))
    config = tmp_path / "model" / "2_Pooling" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pooling_mode": "max"}))
    assert not any(finding.agrees for finding in doctor.check(tmp_path / "model"))


def test_fields_that_are_none_are_dropped() -> None:
    """Trap 10: rows read from an Arrow struct have every field, with None where there was nothing."""
    model = attached("qwen2_vl")
    given_rows = [{"text": "fox", "image": None, "video": None}, {"text": None, "image": picture(1), "video": None}]
    assert btoks.fit(model, given_rows[0]) == {"text": "fox"}
    assert np.array_equal(streamed(model, given_rows), streamed(model, [{"text": "fox"}, {"image": picture(1)}]))


def word_weights(model: SentenceTransformer) -> Iterator[torch.nn.Parameter]:
    for module in model:
        if isinstance(module, WordWeights):
            yield from module.parameters()


def test_pooling_weights_are_frozen_and_batches_keep_their_mask(tmp_path: Path) -> None:
    """Trap 10: WordWeights is trainable after every load; flash attention flattens batches, which lose their mask."""
    model = attached("qwen3")
    btoks.save(model, tmp_path / "model")
    loaded = btoks.load(tmp_path / "model")
    plain = SentenceTransformer(str(tmp_path / "model"))
    assert any(weight.requires_grad for weight in word_weights(plain)), "what the trap is about"
    for each in (model, loaded):
        assert len(list(word_weights(each))) == 1
        assert not any(weight.requires_grad for weight in word_weights(each))
    for each in (model, loaded, plain):
        assert each[0].unpad_inputs is False
        assert not each.training or each is plain


def test_the_states_are_those_behind_the_final_norm() -> None:
    """Trap 12: the last of a causal model's `hidden_states` can be the one before the final norm."""
    model = attached("qwen3_vl")
    seen: list[torch.Tensor] = []
    norm = bottleneck.generator(model).get_decoder().norm
    handle = norm.register_forward_hook(lambda _, before, after: seen.extend([before[0], after]))
    try:
        with torch.no_grad():
            states = model[0](features(model, KINDS["image"]))["token_embeddings"]
    finally:
        handle.remove()
    assert torch.equal(states, seen[1])
    assert not torch.allclose(states, seen[0], atol=1e-2)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    """Trap 13: an adapter whose keys do not match loads without an error, and scores at chance."""
    model = fresh("qwen3")
    model.add_adapter(adapter())
    btoks.save(model, tmp_path / "model", merge=False)
    file = tmp_path / "model" / "adapter_model.safetensors"
    tensors = load_file(file)
    first, *others = sorted(tensors)
    changed = {
        "renamed": {**{key: tensors[key] for key in others}, first.replace("layers.0", "layers.7"): tensors[first]},
        "missing": {key: tensors[key] for key in others},
        "extra": {**tensors, first.replace("down_proj", "up_proj"): tensors[first].clone()},
    }
    for content in changed.values():
        save_file(content, file)
        with pytest.raises(BtoksError, match="adapter keys do not match"):
            btoks.load(tmp_path / "model")
    save_file(tensors, file)
    btoks.load(tmp_path / "model")


@pytest.mark.parametrize("name", tiny.NAMES)
def test_exactly_one_newline_stands_before_the_tokens(name: str) -> None:
    """Trap 15: Jinja's `trim_blocks` eats a newline behind a tag, so an image alone ended without one."""
    model = attached(name)
    kinds_of = [["text"], ["image"], ["image", "text"]] if name in tiny.VISION else [["text"]]
    for trim in (True, False):
        for parts in kinds_of:
            for end in ("", "\n", "\n\n"):
                content = [{"type": part} | ({"text": f"fox{end}"} if part == "text" else {}) for part in parts]
                text = render(model, [{"role": "user", "content": content}], trim=trim)
                before = text[: text.index("<|btok_0|>")]
                assert before.endswith("\n")
                assert not before.endswith("\n\n")


def render(model: SentenceTransformer, messages: list[dict[str, Any]], *, trim: bool) -> str:
    """The template by an engine of its own, with either setting of Jinja."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    engine = ImmutableSandboxedEnvironment(trim_blocks=trim, lstrip_blocks=trim)
    return engine.from_string(model[0].processor.chat_template).render(messages=messages)


def test_recurrent_layers_have_no_memory() -> None:
    """Trap 16: most layers of a hybrid keep a recurrent state and no keys: embeddings only, told in one line."""
    from btoks import condensation

    model = attached("qwen3_5")
    with pytest.raises(BtoksError, match="linear_attention keep no keys to read; use this model for embeddings only"):
        condensation.memory(model, features(model, KINDS["text"]))
    assert streamed(model, [KINDS["text"]]).shape == (1, 64)


def test_time_stamps_stand_in_front_of_frames() -> None:
    """Trap 16: Qwen3-VL writes a time before every pair of frames; the times are the item's, not a guess."""
    model = attached("qwen3_vl")
    array = KINDS["video"]["video"]["array"]
    for fps, indices, stamps in ((1.0, [0, 1, 2, 3], ("0.5", "2.5")), (2.0, [0, 10, 20, 30], ("2.5", "12.5"))):
        metadata = {"fps": fps, "total_num_frames": 40, "duration": 40 / fps, "frames_indices": indices}
        text = rendered(model, {"video": {"array": array, "video_metadata": metadata}})
        assert [part.partition(" seconds>")[0] for part in text.split("<")[1:] if " seconds>" in part] == list(stamps)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "internvl", "llava_onevision", "gemma3"])
def test_a_clip_of_one_frame_is_taken(name: str) -> None:
    """Trap 16: some processors merge neighbours in time and refuse a single frame."""
    from items import clip

    model = attached(name)
    vectors = streamed(model, [{"video": clip(0, 1)}, {"video": clip(0, 3)}])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_left_padding_alone_shifts_no_position() -> None:
    """Trap 11's neighbour: models that count positions from the pads; batches are right-padded as they are saved."""
    model = attached("smolvlm")
    assert model[0].processing_kwargs["text"]["padding_side"] == "right"
    with padded(model, "left"):
        held = features(model, KINDS["text"], KINDS["short text"])
    assert held["attention_mask"][1, 0] == 0
    right = features(model, KINDS["text"], KINDS["short text"])
    assert right["attention_mask"][1, -1] == 0
