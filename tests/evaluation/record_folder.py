"""A small folder of data sets in the form of local records: every kind of side, pool and candidate list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from items import picture

Record = dict[str, Any]
_LABELS = ("fox", "bus", "garden", "zebra")


def write(home: Path) -> Path:
    """Three data sets with test and train records."""
    _toys(home / "toys")
    _films(home / "films")
    _papers(home / "papers")
    return home


def _record(name: str, meta_task: str, query: Record, positives: list[Record], **more: Any) -> Record:
    given = {"id": name, "task": meta_task.rpartition("_")[2], "meta_task": meta_task, "split": "test"}
    return given | {"query": query, "positives": positives} | more


def _toys(home: Path) -> None:
    """Pictures: labels of any split, names both ways, boxes."""
    (home / "images").mkdir(parents=True)
    records = []
    for place, label in enumerate(_LABELS):
        # One is larger than what is shown of it.
        picture(place, 60 + 100 * (place == 1), 90 + 100 * (place == 1)).save(home / f"images/{place}.png")
        split = {"split": "train" if label == "zebra" else "test"}
        image = {"image": f"images/{place}.png"}
        asked = {"text": "what is it?", **image}
        records += [
            _record(f"{label}-cls", "image_cls", asked, [{"text": label}], pool="image_cls/cls", **split),
            _record(f"{label}-t2i", "image_ret", {"text": label}, [image], pool="image_ret/t2i", **split),
            _record(f"{label}-i2t", "image_ret", image, [{"text": label}], pool="image_ret/i2t", **split),
        ]
        boxes = [image | {"box": [place, 0, 20 + 10 * at, 30]} for at in range(3)]
        records.append(_record(f"{label}-vg", "image_vg", asked, boxes[1:2], candidates=boxes, **split))
    _lines(home / "records.jsonl", records)


def _films(home: Path) -> None:
    """Clips of ten frames, and moments in them."""
    records = []
    for place in range(3):
        (home / f"frames/{place}").mkdir(parents=True)
        frames = [f"frames/{place}/{at}.png" for at in range(10)]
        for at, frame in enumerate(frames):
            picture(100 * place + at, 40, 50).save(home / frame)
        moments = [{"video": frames[:3]}, {"video": frames[3:9]}, {"video": frames[8:]}]
        asked = {"text": "when?", "video": frames}
        records.append(_record(f"film{place}", "video_mret", asked, moments[place : place + 1], candidates=moments))
    _lines(home / "records.jsonl", records)


def _papers(home: Path) -> None:
    """Pages with a text layer in two languages, each with its own pool; one question has two answers."""
    (home / "pages").mkdir(parents=True)
    names = ["a-en", "b-en", "c-en", "a-de", "b-de"]
    for place, name in enumerate(names):
        picture(200 + place, 200, 150).save(home / f"pages/{name}.png")
    prose = [{"id": name, "title": f"the {name}", "body": "two people read a book"} for name in names[:3]]
    tables = [{"id": name, "title": "", "header": ["Dog", "Fox"], "rows": [["1", name]]} for name in names[3:]]
    _lines(home / "pages.jsonl", prose)
    _lines(home / "tables.jsonl", tables)
    pools = {f"visdoc/{code}": [f"pages/{name}.png" for name in names if name.endswith(code)] for code in ("en", "de")}
    (home / "pools.json").write_text(json.dumps(pools), encoding="utf-8")
    pages = [{"page": f"pages/{name}.png"} for name in names]
    records = [
        _record("q-en", "visdoc", {"text": "which book?"}, pages[1:3], pool="visdoc/en"),
        _record("r-en", "visdoc", {"text": "a dog"}, pages[:1], pool="visdoc/en"),
        _record("q-de", "visdoc", {"text": "a fox"}, pages[4:], pool="visdoc/de"),
    ]
    _lines(home / "records.jsonl", records)


def _lines(file: Path, records: list[Record]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
