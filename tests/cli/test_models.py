"""The commands that make, inspect and read models, and the list of methods."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import btoks
from btoks.condensation import nbytes
from command import run
from items import attached
from tiny import folder

if TYPE_CHECKING:
    from pathlib import Path


def test_info_tells_what_a_model_costs():
    (facts,) = run("info", "btoks-mini", "--json").records
    model = attached("qwen3_vl")
    full = btoks.bottleneck.generator(model)
    assert facts == {
        "model": "btoks-mini",
        "tokens": 4,
        "pooling": "mean",
        "layout": "btoks",
        "backbone": "qwen3_vl",
        "parameters": full.num_parameters(),
        "dim": 64,
        "modalities": ["text", "image", "video"],
        "max_tokens": 8192,
        "dtype": "float32",
        "bytes_per_vector": 256,
        "bytes_per_memory": nbytes(full.config, tokens=4, rows=1),
    }
    assert "2,056" in run("info", "btoks-mini").out


def test_attach_writes_a_model(tmp_path: Path):
    backbone, out = folder("qwen3", tmp_path / "backbone"), tmp_path / "model"
    ran = run("attach", backbone, out, "--tokens", "0", "--json")
    assert ran.records == [{"out": str(out)}]
    assert not ran.err
    (facts,) = run("info", out, "--json").records
    assert (facts["tokens"], facts["pooling"], facts["bytes_per_memory"]) == (0, "last", None)


def test_convert_writes_a_model(tmp_path: Path):
    backbone, out = folder("qwen2_vl", tmp_path / "backbone"), tmp_path / "model"
    ran = run("convert", backbone, out, "--tokens", "0", "--layout", "vlm2vec", "--json")
    assert ran.records == [{"out": str(out)}]
    assert btoks.bottleneck.record(btoks.load(out))["layout"] == "vlm2vec"


def test_doctor_tells_a_changed_model(tmp_path: Path, small: Path):
    ran = run("doctor", small, "--json")
    assert ran.status == 0
    assert [set(each) for each in ran.records] == [{"probe", "cosine", "difference", "agrees", "reason"}] * 5
    assert all(each["agrees"] for each in ran.records)
    changed = shutil.copytree(small, tmp_path / "changed")
    probes = json.loads((changed / "probes.json").read_text())
    probes["embeddings"][0] = probes["embeddings"][1]
    (changed / "probes.json").write_text(json.dumps(probes))
    ran = run("doctor", changed)
    assert ran.status == 1
    assert [line.split()[-1] for line in ran.out.splitlines() if "1." in line or "0." in line] == ["no", *["yes"] * 4]
    assert run("doctor", "http://127.0.0.1:1/").line.startswith("btoks: http://127.0.0.1:1/v1/embeddings: no answer")


def test_read_gives_what_the_library_reads(media: Path):
    model = attached("qwen3_vl")
    for argv, item in (
        (["--text", "a red fox"], {"text": "a red fox"}),
        ([media / "recipe", "--page", "1"], btoks.media.load(btoks.Source(media / "recipe", page=1))),
    ):
        held = btoks.memory(model, model.preprocess([btoks.fit(model, item)]))[1]
        (want,) = btoks.read(model, held, "What?", max_new_tokens=6)
        (got,) = run("read", *argv, "--prompt", "What?", "--max-new-tokens", "6", "--json").records
        path, page = (None, None) if argv[0] == "--text" else (str(argv[0]), 1)
        assert got == {"path": path, "page": page, "text": want}
    assert "not both" in run("read").line


def test_methods_are_the_cards():
    found = run("methods", "--json").records
    keys = ["name", "family", "system", "title", "paper", "stage", "trained", "query_aware", "takes", "cost"]
    assert [list(each) for each in found] == [keys] * len(found)
    assert {"mean", "weighted", "attention", "last", "concat"} <= {
        each["name"] for each in found if each["family"] == "pooling"
    }
    shown = run("methods", "--family", "pooling").out
    assert all(each["title"] in shown for each in found if each["family"] == "pooling")
