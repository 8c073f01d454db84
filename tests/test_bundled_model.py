"""The bundled model: small, whole, told of, and no worse than it is said to be."""

from __future__ import annotations

import numpy as np
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

import btoks
from btoks import bundled
from btoks.bottleneck import generator, record
from btoks.media import load
from btoks.training.rows import decoded
from btoks.training.shapes import Shapes
from command import run

LARGEST = 24_000_000


def test_it_is_small_and_stored_in_half_precision() -> None:
    file = bundled.model() / "model.safetensors"
    assert file.stat().st_size <= LARGEST
    assert {str(tensor.dtype) for tensor in load_file(file).values()} == {"torch.bfloat16"}
    assert 8e6 <= sum(each.numel() for each in generator(btoks.load("btoks-mini")).parameters()) <= 12e6


def test_it_opens_in_full_precision_with_and_without_btoks() -> None:
    ours, plain = btoks.load("btoks-mini"), SentenceTransformer(str(bundled.model()), device="cpu")
    assert str(ours.dtype) == str(plain.dtype) == "torch.float32"
    given = [{"text": "a red fox"}, {"text": "two blue squares"}]
    assert np.abs(ours.encode(given) - plain.encode(given)).max() < 1e-5


def test_its_probes_agree() -> None:
    assert run("doctor", "btoks-mini").status == 0


def test_its_card_names_every_data_set_and_licence() -> None:
    card = (bundled.model() / "README.md").read_text(encoding="utf-8")
    notes = record(btoks.load("btoks-mini"))
    assert notes["version"] >= 1
    from btoks.training.recipes import mini

    folders = {each.name.partition("-")[0] for each in mini.SETS} - {"shapes", "halves"}
    assert all(f"- {name}: " in card for name in folders)


def test_descriptions_find_pictures_that_it_was_not_shown() -> None:
    """New drawings of coloured shapes, each to be found by its description among forty."""
    model = btoks.load("btoks-mini")
    shown = Shapes("find", 40, seed=7).open(None)
    rows = [shown.row(number, 0) for number in range(40)]
    texts = model.encode([decoded(row.query, load) for row in rows])
    pictures = model.encode([decoded(row.positive, load) for row in rows])
    order = (-texts @ pictures.T).argsort(axis=1)
    among_five = (order[:, :5] == np.arange(40)[:, None]).any(axis=1)
    assert among_five.mean() > 0.5, "chance is one in eight"
