"""The card and the probes that travel with a folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import btoks
from btoks import card, doctor
from btoks.errors import BtoksError
from items import attached, fresh

if TYPE_CHECKING:
    pass


def test_the_card_states_what_the_model_is(tmp_path: Path) -> None:
    model = fresh("qwen2_vl", tokens=3, pooling="weighted", max_tokens=777)
    text = card.text(model)
    for said in (
        "# qwen2_vl with 3 bottleneck tokens",
        "text, image, video",
        '{"name": "weighted", "slope": 1.0}',
        "| 777 tokens |",
    ):
        assert said in text
    assert "SentenceTransformer(" in text
    assert "Not trained" in text
    assert "None recorded." in text
    model[0].config.btoks |= {"data": ["MMEB-train", "ColPali"], "results": {"recall@1": 0.5}}
    btoks.save(model, tmp_path / "model")
    written = (tmp_path / "model" / "README.md").read_text()
    assert "- MMEB-train\n- ColPali" in written
    assert "- recall@1: 0.5" in written
    assert "btoks.load(" in card.text(fresh("qwen3", pooling="concat"))


def test_what_the_card_shows_runs(tmp_path: Path) -> None:
    for model, place in ((attached("qwen3"), "stock"), (attached("qwen3", pooling="concat"), "own")):
        btoks.save(model, tmp_path / place)
        code = (tmp_path / place / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
        found: dict[str, Any] = {}
        exec(code.replace("path/to/this/folder", str(tmp_path / place)), found)
        assert np.array_equal(found["vectors"], model.encode([{"text": "a red fox"}, {"text": "a blue car"}]))


def test_the_doctor_knows_a_changed_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    btoks.save(attached("qwen3_vl"), path)
    findings = doctor.check(path)
    assert [finding.agrees for finding in findings] == [True] * 5
    assert len({finding.probe for finding in findings}) == 5
    assert max(finding.difference for finding in findings) < 1e-6
    file = path / "model.safetensors"
    tensors = load_file(file)
    changed = copy.deepcopy(tensors)
    name = next(key for key in changed if key.endswith("layers.1.mlp.down_proj.weight"))
    changed[name][0] += 0.5
    save_file(changed, file, metadata={"format": "pt"})
    assert not any(finding.agrees for finding in doctor.check(path))
    save_file(tensors, file, metadata={"format": "pt"})
    assert all(finding.agrees for finding in doctor.check(path))


def test_the_doctor_says_what_it_cannot_judge(tmp_path: Path) -> None:
    path = tmp_path / "model"
    btoks.save(attached("qwen3"), path)
    probes = json.loads((path / "probes.json").read_text())
    assert all(set(each) == {"text"} for each in probes["inputs"])
    (path / "probes.json").write_text(json.dumps({**probes, "embeddings": [row[:9] for row in probes["embeddings"]]}))
    with pytest.raises(BtoksError, match="64 dimensions where 9 were saved"):
        doctor.check(path)
    for content in ("", "{}", '{"inputs": []}'):
        (path / "probes.json").write_text(content)
        with pytest.raises(BtoksError, match=r"no readable probes\.json"):
            doctor.check(path)
    (path / "probes.json").unlink()
    with pytest.raises(BtoksError, match=r"no readable probes\.json"):
        doctor.check(path)
