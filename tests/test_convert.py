"""Checkpoints of the authors, conversion into the cache, and the one door to every model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

import btoks
import tiny
from btoks import convert
from btoks.bottleneck import generator, record
from btoks.errors import BtoksError
from checkpoints import ITEMS, TYPES, K, adapter, authors, edit, reference, write_weights, written

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BTOKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def agree(path: Path, model: Any, processor: Any, name: str) -> Any:
    opened = btoks.load(path)
    for kind, item in ITEMS.items():
        have = opened.encode([item], prompt="Find it.", convert_to_tensor=True)[0]
        want = reference(model, processor, written(name, kind), item, K)
        assert (have - want).abs().max() <= 1e-6, kind
    return opened


@pytest.mark.parametrize("name", TYPES)
def test_authors_checkpoint_gives_the_vectors_of_its_backbone(name: str, tmp_path: Path) -> None:
    model, processor = authors(tmp_path / "theirs", name)
    opened = agree(tmp_path / "theirs", model, processor, name)
    notes = record(opened)
    assert (notes["tokens"], notes["layout"], notes["start"]) == (K, "btoks", "tokens")
    assert (notes["prefix"], notes["suffix"]) == ("<|im_start|>assistant\n", "<|im_end|>")
    rows = model.get_input_embeddings().weight
    assert torch.equal(generator(opened).get_input_embeddings().weight, rows)
    assert torch.equal(generator(opened).get_output_embeddings().weight, model.get_output_embeddings().weight)


@pytest.mark.parametrize(
    "options",
    [
        {"shards": 3},
        {"style": "body"},
        {"style": "old"},
        {"flat": True},
        {"style": "body", "name": "qwen3_vl", "shards": 2},
        {"in_tokenizer": False},
        {"in_tokenizer": False, "rows": 700},
        {"head": False, "tie": True},
        {"tie": True},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)
def test_every_way_the_authors_checkpoint_may_be_stored(options: dict[str, Any], tmp_path: Path) -> None:
    model, processor = authors(tmp_path / "theirs", **options)
    opened = agree(tmp_path / "theirs", model, processor, options.get("name", "qwen2_vl"))
    assert torch.equal(generator(opened).get_input_embeddings().weight, model.get_input_embeddings().weight)
    text = btoks.read(opened, btoks.memory(opened, opened.preprocess([{"text": "a red fox"}]))[1], max_new_tokens=2)
    assert isinstance(text[0], str)


def test_a_table_larger_than_the_configuration_says_keeps_its_rows(tmp_path: Path) -> None:
    model, processor = authors(tmp_path / "theirs", rows=640)
    edit(
        tmp_path / "theirs",
        lambda settings: settings["modules"]["backbone"]["backbone_config"]["text_config"].update(vocab_size=512),
    )
    opened = agree(tmp_path / "theirs", model, processor, "qwen2_vl")
    assert generator(opened).get_input_embeddings().weight.shape[0] == 640


def test_without_a_head_it_embeds_and_refuses_to_read(tmp_path: Path) -> None:
    model, processor = authors(tmp_path / "theirs", head=False)
    opened = agree(tmp_path / "theirs", model, processor, "qwen2_vl")
    btoks.save(opened, tmp_path / "again")
    again = btoks.load(tmp_path / "again")
    held = btoks.memory(again, again.preprocess([{"text": "a red fox"}]))[1]
    with pytest.raises(BtoksError, match="without a language-model head"):
        btoks.read(again, held)


def test_a_table_without_rows_for_the_tokens_is_refused(tmp_path: Path) -> None:
    size = len(tiny.backbone("qwen2_vl")[1].tokenizer)
    authors(tmp_path / "theirs", rows=size, in_tokenizer=False)
    with pytest.raises(BtoksError, match="none for the tokens"):
        btoks.load(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda modules: modules["pooling"].update(type="BToksAttentionPooling"), "BToksAttentionPooling"),
        (lambda modules: modules["backbone"].update(type="LlavaBackbone"), "LlavaBackbone"),
        (lambda modules: modules.update(extra={"type": "Dense"}), "unknown module extra of type Dense"),
        (lambda modules: modules.pop("normalize"), "no module normalize"),
        (lambda modules: modules["backbone"].pop("backbone_config"), "no backbone_config"),
        (lambda modules: modules["injector"].update(num_tokens=3), "tells of 3 bottleneck tokens"),
    ],
)
def test_foreign_modules_are_refused(change: Any, said: str, tmp_path: Path) -> None:
    authors(tmp_path / "theirs")
    edit(tmp_path / "theirs", lambda settings: change(settings["modules"]))
    with pytest.raises(BtoksError, match=said):
        btoks.load(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("_modules_dict.backbone.model.model.visual.merger.ln_q.weight", ""),
        ("_modules_dict.backbone.model.model.visual.merger.ln_q.weight", "_modules_dict.pooling.weight"),
        (
            "_modules_dict.backbone.model.model.visual.merger.ln_q.weight",
            "_modules_dict.backbone.model.model.visual.odd",
        ),
    ],
)
def test_weights_that_find_no_place_are_refused_by_name(old: str, new: str, tmp_path: Path) -> None:
    authors(tmp_path / "theirs")
    stored = load_file(tmp_path / "theirs/model.safetensors")
    moved = stored.pop(old)
    write_weights(tmp_path / "theirs", stored | ({new: moved} if new else {}))
    named = (new or old).removeprefix("_modules_dict.backbone.model.")
    with pytest.raises(BtoksError, match=re.escape(named)):
        btoks.load(tmp_path / "theirs")


def test_a_missing_head_hides_no_other_fault(tmp_path: Path) -> None:
    authors(tmp_path / "theirs", head=False)
    stored = load_file(tmp_path / "theirs/model.safetensors")
    odd = "_modules_dict.backbone.model.model.language_model.odd.weight"
    write_weights(tmp_path / "theirs", stored | {odd: torch.zeros(1)})
    with pytest.raises(BtoksError, match=r"unexpected weights, such as .*odd\.weight"):
        btoks.load(tmp_path / "theirs")
    write_weights(tmp_path / "theirs", {})
    with pytest.raises(BtoksError, match="no weights of the backbone"):
        btoks.load(tmp_path / "theirs")


def test_a_missing_shard_and_an_unreadable_one_are_errors(tmp_path: Path) -> None:
    authors(tmp_path / "theirs", shards=2)
    (tmp_path / "theirs/model-1.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BtoksError, match=r"model-1\.safetensors"):
        btoks.load(tmp_path / "theirs")
    (tmp_path / "theirs/model-1.safetensors").unlink()
    with pytest.raises(BtoksError, match=r"no model-1\.safetensors"):
        btoks.load(tmp_path / "theirs")


def test_conversion_happens_once_and_again_when_the_source_changes(tmp_path: Path, cache: Path) -> None:
    authors(tmp_path / "theirs")
    first = convert.native(tmp_path / "theirs")
    before = {file: file.stat().st_mtime_ns for file in first.iterdir()}
    assert convert.native(tmp_path / "theirs") == first
    assert {file: file.stat().st_mtime_ns for file in first.iterdir()} == before
    assert convert.native(first) == first
    os.utime(tmp_path / "theirs/model.safetensors", ns=(1, 1))
    second = convert.native(tmp_path / "theirs")
    assert second != first
    assert {each.name for each in (cache / "converted").iterdir() if each.is_dir()} == {first.name, second.name}


def test_what_a_killed_conversion_left_is_cleared(tmp_path: Path, cache: Path) -> None:
    authors(tmp_path / "theirs")
    out = convert.native(tmp_path / "theirs")
    out.rename(out.with_name(f".{out.name}.part-1"))
    assert convert.native(tmp_path / "theirs") == out
    assert [each for each in (cache / "converted").iterdir() if each.is_dir()] == [out]


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    authors(tmp_path / "theirs")
    edit(tmp_path / "theirs", lambda settings: settings["modules"]["injector"].update(num_tokens=3))
    with pytest.raises(BtoksError):
        convert.native(tmp_path / "theirs")
    assert not [each for each in (cache / "converted").iterdir() if each.is_dir()]


def test_two_processes_at_once_share_one_conversion(tmp_path: Path, cache: Path) -> None:
    authors(tmp_path / "theirs")
    code = (
        "import sys, time; from pathlib import Path; from btoks import condensation, convert, folder, foreign;"
        "ready = Path(sys.argv[2]); (ready / sys.argv[3]).touch();\n"
        "while len(list(ready.iterdir())) < 2: time.sleep(0.005)\n"
        "out = convert.native(sys.argv[1]); print(out, out.stat().st_ino)"
    )
    (tmp_path / "ready").mkdir()
    given = [sys.executable, "-c", code, str(tmp_path / "theirs"), str(tmp_path / "ready")]
    runs = [subprocess.Popen([*given, str(each)], stdout=subprocess.PIPE, text=True) for each in range(2)]
    said = {run.communicate(timeout=110)[0].strip().splitlines()[-1] for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert len(said) == 1
    assert len([each for each in (cache / "converted").iterdir() if each.is_dir()]) == 1


def test_recognise(tmp_path: Path) -> None:
    authors(tmp_path / "theirs")
    folder = tiny.folder("qwen3_vl", tmp_path / "model")
    adapter(tmp_path / "adapter", folder)
    assert convert.recognise(tmp_path / "theirs") == "authors"
    assert convert.recognise(tmp_path / "adapter") == "adapter"
    assert convert.recognise(folder) is None
    assert convert.recognise(tmp_path) is None
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_lasttoken": true}')
    assert convert.recognise(folder) == "last-token"
    btoks.save(btoks.attach(tiny.backbone("qwen3")), tmp_path / "ours")
    assert convert.recognise(tmp_path / "ours") == "btoks"
    assert convert.native(str(tmp_path / "ours")) == tmp_path / "ours"


def test_a_plain_model_is_converted_only_when_told_how(tmp_path: Path) -> None:
    folder = tiny.folder("qwen3", tmp_path / "model")
    with pytest.raises(BtoksError, match=r"attach tokens first with btoks\.attach"):
        btoks.load(folder)
    with pytest.raises(BtoksError, match=r"btoks convert --tokens 0"):
        convert.convert(folder, tmp_path / "out")
    model, tokenizer = tiny.backbone("qwen3")
    opened = btoks.load(convert.convert(folder, tmp_path / "out", tokens=0))
    hidden_BTD = model.base_model(**tokenizer("Find it. a fox", return_tensors="pt")).last_hidden_state
    want = torch.nn.functional.normalize(hidden_BTD[0, -1], dim=0)
    have = opened.encode([{"text": "a fox"}], prompt="Find it.", convert_to_tensor=True)[0]
    assert (have - want).abs().max() <= 1e-6
    more = btoks.load(convert.convert(folder, tmp_path / "more", tokens=2))
    assert (record(more)["tokens"], record(more)["layout"]) == (2, "btoks")


def test_convert_refuses_what_would_do_harm(tmp_path: Path) -> None:
    authors(tmp_path / "theirs")
    folder = tiny.folder("qwen3", tmp_path / "model")
    with pytest.raises(BtoksError, match="trained with 4 tokens"):
        convert.convert(tmp_path / "theirs", tmp_path / "out", tokens=8)
    with pytest.raises(BtoksError, match="trained with the layout 'btoks'"):
        convert.convert(tmp_path / "theirs", tmp_path / "out", layout="chat")
    with pytest.raises(BtoksError, match="exists and is not a btoks model"):
        convert.convert(folder, tmp_path / "theirs", tokens=0)
    with pytest.raises(BtoksError, match="exists and is not a btoks model"):
        convert.convert(folder, folder, tokens=0)
    with pytest.raises(BtoksError, match="did you mean 'vlm2vec'"):
        convert.convert(folder, tmp_path / "out", tokens=0, layout="vlm2vek")
    with pytest.raises(BtoksError, match="not an adapter"):
        convert.convert(folder, tmp_path / "out", tokens=0, base=folder)
    assert not (tmp_path / "out").exists()
    ours = convert.convert(folder, tmp_path / "out", tokens=0)
    with pytest.raises(BtoksError, match="a btoks model already"):
        convert.convert(ours, tmp_path / "more")


def test_what_is_no_model_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    for path, said in [
        (tmp_path / "none", "no such folder"),
        (tmp_path / "file", "a file, not a model folder"),
        (tmp_path / "empty", "no config.json"),
        (tmp_path / "broken", "no readable config.json"),
        ("nobody/nothing", "HF_HUB_OFFLINE"),
    ]:
        with pytest.raises(BtoksError, match=said) as caught:
            btoks.load(path)
        assert "\n" not in str(caught.value)


def test_a_hub_model_in_the_cache_opens_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub/models--VLM2Vec--VLM2Vec-V2.0"
    tiny.folder("qwen2_vl", repository / "snapshots/0123")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123")
    opened = btoks.load("VLM2Vec/VLM2Vec-V2.0")
    assert (record(opened)["layout"], record(opened)["backbone"]) == ("vlm2vec", "VLM2Vec/VLM2Vec-V2.0")
