"""The trained poolings in recipes: by name, from records to a folder that opens and embeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import btoks
import tiny
from btoks import methods
from btoks.bottleneck import record
from btoks.methods.pooling.sitemb import situated
from btoks.training import train
from btoks.training.build import started
from btoks.training.data import Set
from btoks.training.readers import Records
from btoks.training.recipe import Recipe
from items import near, streamed
from training.records import lines, recipe
from training.runs import metrics

if TYPE_CHECKING:
    from pathlib import Path

NAMED = {
    "prefixes:0.01": {"name": "prefixes", "tolerance": 0.01, "keep": None},
    "late_interaction": {"name": "late_interaction"},
    "crem:0.5": {"name": "crem", "masked": 0.5, "seed": 0},
    "causal2vec": {"name": "causal2vec", "layers": 2, "inside": 64, "seed": 0},
    "dupmae:32,32,32": {"name": "dupmae", "dense": 32, "kept": 32, "sketch": 32, "blank": 0.3, "bow": 0.1, "seed": 0},
    "sitemb": {"name": "sitemb"},
}


def backbone(_: Path | None) -> Any:
    return tiny.backbone("qwen3")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("texts")
    (data / "notes").mkdir()
    sides = [{"text": f"it is number {n}", "context": f"the fox and the number {n}"} for n in range(8)]
    rows = [
        {"id": str(n), "split": "dev" if n > 5 else "train", "query": {"text": f"fox {n}"}}
        | {"positives": [sides[n]], "candidates": [sides[n], sides[(n + 1) % 8]]}
        for n in range(8)
    ]
    lines(data / "notes", rows)
    return data


@pytest.mark.parametrize("name", NAMED)
def test_a_recipe_trains_it(name: str, texts: Path, tmp_path: Path) -> None:
    speaks = name != "sitemb"
    notes = Set("notes", Records("notes", negatives=1), side="query" if speaks else "none")
    dev = Set("dev", Records("notes", split="dev"), side="none")
    made = recipe(
        texts,
        sets=(notes,),
        dev=(dev,),
        dev_every=2,
        model=backbone,
        steps=2,
        pooling=name,
        weight=1.0 if speaks else 0.0,
    )
    model = btoks.load(train(made, out=tmp_path / "run"), device="cpu")
    assert [np.isfinite(line["loss"]) for line in metrics(tmp_path / "run")] == [True, True]
    assert record(model)["pooling"] == NAMED[name]
    (vector,) = streamed(model, ["fox 3"])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_records_give_a_text_its_context(texts: Path) -> None:
    row = Records("notes").open(texts).row(2, 0)
    model = btoks.attach(backbone(None), pooling="sitemb")
    assert btoks.fit(model, row.positive) == {"text": situated("it is number 2", "the fox and the number 2")}


@pytest.mark.parametrize("name", ["concat", "last_input", "late_interaction", "prefixes", "mean"])
def test_fewer_tokens_than_the_start_had(name: str) -> None:
    """The vocabulary keeps the others; what is pooled are the states of those that stand in the prompt."""
    begun = started(btoks.attach(backbone(None), tokens=5), Recipe("fewer", sets=(), tokens=2, pooling=name))
    wanted = btoks.attach(backbone(None), tokens=2, pooling=name)
    near(streamed(begun, ["a fox", "two people read"]), streamed(wanted, ["a fox", "two people read"]))
    with methods.apply(begun, methods.create("pooling", "concat")):
        assert streamed(begun, ["a fox"]).shape[1] == 2 * 64
