"""What travels inside the package: a small trained model, and a sample folder of mixed media to try it on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Caption:
    """What a file of the sample shows, or one page of it (counted from 1), in up to four wordings."""

    path: Path
    page: int | None
    texts: tuple[str, ...]


def sample() -> Path:
    """The sample folder, e.g. `sample() / "flags" / "brazil.png"`; its LICENSES.md has a line a file."""
    return Path(str(resources.files(__name__) / "sample"))


def benchmark() -> Path:
    """The data of `btoks eval mini`, laid out as any data folder; its LICENSES.md has a line a source."""
    return Path(str(resources.files(__name__) / "mini"))


def model() -> Path:
    """The folder of btoks-mini: `btoks.load("btoks-mini")` opens it, its README.md tells what it was trained on."""
    return Path(str(resources.files(__name__) / "btoks-mini"))


def captions() -> list[Caption]:
    """A caption of every picture, clip and page of the sample: `captions()[0].texts[0]`."""
    folder = sample()
    with (folder / "captions.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [Caption(folder / record["path"], record.get("page"), tuple(record["text"])) for record in records]
