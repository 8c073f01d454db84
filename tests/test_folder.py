"""A model's folder: the same vectors and weights when it is opened again, in any way."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

import btoks
import tiny
from btoks import bottleneck, doctor
from btoks.errors import BtoksError
from items import KINDS, attached, features, fresh, same, vectors, weights

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_saved_model_opens_with_the_same_vectors(name: str, tmp_path: Path) -> None:
    model = attached(name)
    btoks.save(model, tmp_path / "model")
    expected = vectors(model, name)
    loaded, plain = btoks.load(tmp_path / "model"), SentenceTransformer(str(tmp_path / "model"))
    for each in (loaded, plain):
        assert np.array_equal(vectors(each, name), expected)
        assert bottleneck.record(each) == bottleneck.record(model)
        assert {type(module).__module__.partition(".")[0] for module in each} == {"sentence_transformers"}
    assert same(weights(loaded), weights(model))
    btoks.save(loaded, tmp_path / "again")
    assert np.array_equal(vectors(btoks.load(str(tmp_path / "again")), name), expected)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("name", ["qwen2_vl", "llava_onevision", "gemma3", "qwen3"])
def test_the_same_folder_is_the_generative_model(name: str, tie: bool, tmp_path: Path) -> None:
    model = fresh(name, tie=tie)
    btoks.save(model, tmp_path / "model")
    auto = AutoModelForImageTextToText if name in tiny.VISION else AutoModelForCausalLM
    full, report = auto.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert same(full.state_dict(), bottleneck.generator(model).state_dict())
    assert (full.get_input_embeddings().weight is full.get_output_embeddings().weight) == tie
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert processor.chat_template == model[0].processor.chat_template
    batch = features(model, KINDS["image + text" if name in tiny.VISION else "text"])
    batch = {key: value for key, value in batch.items() if key in inspect.signature(full.forward).parameters}
    with torch.no_grad():
        assert torch.equal(full(**batch).logits, bottleneck.generator(model).eval()(**batch).logits)


def test_vectors_can_be_cut_when_opened(tmp_path: Path) -> None:
    btoks.save(attached("qwen3"), tmp_path / "model")
    expected = vectors(attached("qwen3"), "qwen3")[:, :8]
    assert np.array_equal(vectors(btoks.load(tmp_path / "model", truncate_dim=8), "qwen3"), expected)


def test_other_types_of_number_come_back(tmp_path: Path) -> None:
    model = btoks.attach(tiny.backbone("qwen3"), dtype=torch.bfloat16)
    btoks.save(model, tmp_path / "model")
    loaded = btoks.load(tmp_path / "model")
    assert loaded.dtype == torch.bfloat16
    assert np.array_equal(vectors(loaded, "qwen3"), vectors(model, "qwen3"))
    assert all(finding.agrees for finding in doctor.check(tmp_path / "model"))


def test_folders_that_are_no_models_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    btoks.save(attached("qwen3"), tmp_path / "broken")
    (tmp_path / "broken" / "modules.json").write_text("{")
    for part, content in (("model.safetensors", b"cut"), ("config.json", b'{"btoks": {}, "model_type": "none"}')):
        btoks.save(attached("qwen3"), tmp_path / part)
        (tmp_path / part / part).write_bytes(content)
    backbone = tiny.folder("qwen3", tmp_path / "backbone")
    names = ("empty", "file", "none", "broken", "model.safetensors", "config.json")
    for place in (*(tmp_path / name for name in names), backbone, "nobody/has-this"):
        with pytest.raises(BtoksError) as caught:
            btoks.load(place)
        assert str(place) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_plainly_opened_model_has_no_head_to_save(tmp_path: Path) -> None:
    btoks.save(attached("qwen3"), tmp_path / "model")
    plain = SentenceTransformer(str(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(BtoksError, match=r"btoks\.load"):
        btoks.save(plain, tmp_path / "model")
