"""A small data folder in the schema of local records, and recipes on it that train in seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tiny
from btoks.training.data import Set
from btoks.training.readers import Records
from btoks.training.recipe import Recipe
from items import picture

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["fox", "bus", "house", "garden"]


def write(data: Path, rows: int = 12) -> Path:
    """Things (pictures with class, caption, box and hard negatives), clips and pages."""
    for folder in ("things", "clips", "pages"):
        (data / folder).mkdir(parents=True)
    for number in range(rows):
        picture(number).save(data / "things" / f"{number}.png")
        picture(100 + number, 70, 50).save(data / "pages" / f"{number}.png")
        for frame in range(5):
            picture(10 * number + frame, 40, 40).save(data / "clips" / f"{number}-{frame}.png")
    lines(data / "things", (record for number in range(rows) for record in _things(number)))
    lines(data / "clips", (_clip(number) for number in range(rows)))
    lines(data / "pages", (_page(number) for number in range(rows)))
    return data


def lines(folder: Path, records: Any) -> None:
    (folder / "records.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")


def _things(number: int) -> list[dict[str, Any]]:
    image, name = f"{number}.png", NAMES[number % 4]
    common = {"split": "dev" if number % 6 == 5 else "train"}
    box, wrong = {"image": image, "box": [10, 10, 50, 40]}, {"image": image, "box": [0, 0, 20, 20]}
    return [
        {"id": f"cls-{number}", "task": "cls", "query": {"text": "what is it?", "image": image}, **common}
        | {"positives": [{"text": name}], "candidates": [{"text": each} for each in NAMES]},
        {"id": f"ret-{number}", "task": "ret", "query": {"text": f"picture {number} of a {name}"}, **common}
        | {"positives": [{"image": image}, {"image": image, "text": "again"}]},
        {"id": f"vg-{number}", "task": "vg", "query": {"text": name, "image": image}, **common}
        | {"positives": [box], "candidates": [wrong, box]},
    ]


def _clip(number: int) -> dict[str, Any]:
    frames = [f"{number}-{frame}.png" for frame in range(5)]
    query = {"text": "what happens?", "video": frames}
    return {
        "id": f"clip-{number}",
        "task": "qa",
        "split": "train",
        "query": query,
        "positives": [{"text": f"{number}"}],
    }


def _page(number: int) -> dict[str, Any]:
    page = {"page": f"{number}.png"}
    return {"id": f"page-{number}", "task": "visdoc", "split": "train", "query": {"text": f"page {number}"}} | {
        "positives": [page]
    }


SETS = (
    Set("classes", Records("things", task="cls"), side="positive", instruction="Name it."),
    Set("pictures", Records("things", task="ret"), side="query", weight=2.0, shuffle=True),
    Set("clips", Records("clips"), side="both", frames=2),
    Set("pages", Records("pages"), side="none", pixels=2000),
)


def recipe(data: Path, **changed: Any) -> Recipe:
    """A run of a few steps on a tiny model."""
    settings: dict[str, Any] = {
        "sets": SETS,
        "model": backbone,
        "data": data,
        "steps": 6,
        "batch": 4,
        "chunk": 2,
        "block": 4,
        "lr": 1e-3,
        "warmup": 2,
        "weight": 1.0,
        "precision": "fp32",
        "workers": 0,
        "save_every": 2,
        "max_tokens": 256,
    }
    return Recipe("small", **{**settings, **changed})


def backbone(_: Path | None) -> Any:
    return tiny.backbone("qwen3_vl", layers=2)
