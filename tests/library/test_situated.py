"""A library of a model that reads chunks in their context: passages are embedded among those around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import btoks
from btoks.library import Library
from btoks.library.parts import passages
from btoks.methods.pooling.sitemb import situated
from items import attached, fresh, near, streamed
from library.stored import same, vectors, write

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("red fox", "lazy dog")
LONG = " ".join(f"the {name} reads a book number {number}." for number in range(30) for name in NAMES)
SHORT = "two people in the garden"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, pooling in (("plain", "mean"), ("situated", "sitemb")):
        btoks.save(fresh("qwen3", pooling=pooling), folder / name)
    return {name: folder / name for name in ("plain", "situated")}


def made(folder: Path, model: Path, notes: Path) -> Library:
    library = Library.create(folder, model=model)
    library.add(notes)
    return library


def test_passages_are_embedded_in_their_context(models: dict[str, Path], tmp_path: Path) -> None:
    write(tmp_path / "notes", "long.txt", LONG)
    write(tmp_path / "notes", "short.txt", SHORT)
    cut = passages(LONG)
    assert len(cut) == 3
    wanted = {text: situated(text, "\n".join(cut[:place] + cut[place + 1 :])) for place, text in enumerate(cut)}
    wanted[SHORT] = SHORT
    library = made(tmp_path / "situated", models["situated"], tmp_path / "notes")
    texts = {row["id"]: row["text"] for row in library._store.get("id IS NOT NULL", ["id", "text"])}
    assert set(texts.values()) == set(wanted)
    held = vectors(library)
    for name, text in texts.items():
        near(held[name], streamed(library.model, [wanted[text]], task="document")[0])
    plain = made(tmp_path / "plain", models["plain"], tmp_path / "notes")
    for name, vector in vectors(plain).items():
        near(vector, streamed(plain.model, [texts[name]], task="document")[0])
    plain.reindex(model=models["situated"])
    same(plain, library)


def test_a_context_is_for_models_that_read_one() -> None:
    item = {"text": SHORT, "context": "a red bus"}
    assert btoks.fit(attached("qwen3"), item) == {"text": SHORT}
    model = fresh("qwen3", pooling="sitemb")
    assert btoks.fit(model, item) == {"text": situated(SHORT, "a red bus")}
    near(*(streamed(model, [each]) for each in (item, situated(SHORT, "a red bus"))))
