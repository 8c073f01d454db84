"""Makes the mini benchmark from the test splits of openly licensed data folders: `make_mini.py DATA_DIR`.

DATA_DIR holds one folder a data set, with its media drawn; mini.json says how much is taken of each. What is written is
again such folders: records, pools, page texts and media, as small as the evaluation makes them; and LICENSES.md. In the
end both are opened by the evaluation and compared: texts, frames and drawings are equal, photographs and pages nearly.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from make_sample import MIT, TEXTS, command
from PIL import Image

from btoks.evaluation.records import Entries, tasks
from btoks.media import Source, load
from btoks.media.frames import uniform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from btoks.evaluation import Entry, Task

HERE = Path(__file__).parent
OUT = HERE.parent / "src" / "btoks" / "bundled" / "mini"
FRAMES = 4
STRAY = 12.0
"""How far a photograph may be off on average, of 255, after it was compressed."""
_PHOTO: dict[str, Any] = {"quality": 75, "method": 6}
_DRAWING: dict[str, Any] = {"lossless": True, "quality": 60, "method": 4}

HEAD = f"""# Licences of the mini benchmark

Every folder, where it comes from and under what licence. Changes: a part of the records was drawn by lot, pictures were
made smaller and recompressed as WebP, of a clip four frames were kept, puzzles, characters, tables and pages were drawn
from their data. Folders marked "share alike" are adaptations under the licence of their origin; whoever changes them
hands them on under the same one. Questions and labels stand under their folder's licence.

{TEXTS}

| folder | origin | commit | licence | author |
|---|---|---|---|---|
"""

LEFT_OUT = """
## Left out

- Cranfield (pages): its collection has no formal licence.
- CMU motion capture (clips): its terms are its own and no open licence.
- The grocery photographs' product descriptions: they are a shop's.
"""


@dataclass
class Folder:
    """What is written of one data set."""

    out: Path
    photos: bool
    boxed: frozenset[str]
    records: list[dict[str, Any]] = field(default_factory=list)
    pools: dict[str, list[Any]] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)

    def side(self, given: Mapping[str, Any], entry: Entry, home: Path) -> dict[str, Any]:
        """A side with its media written anew: drawings and boxed photographs in their size, others as shown."""
        if "page" in given:
            stem = Path(given["page"]).stem
            self.layers[stem] = entry.text
            return {"page": self.picture(entry.image, f"pages/{stem}")}
        new = {"text": given["text"]} if given.get("text") else {}
        if "video" in given:
            return new | {"video": self.clip([home / frame for frame in given["video"]])}
        if "image" in given:
            whole = not self.photos or given["image"] in self.boxed
            new["image"] = self.picture(opened(home / given["image"]) if whole else entry.image)
        return new | ({"box": given["box"]} if "box" in given else {})

    def picture(self, image: Image.Image, name: str | None = None) -> str:
        """Write a picture, under its content's name if it has none."""
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", **(_PHOTO if self.photos else _DRAWING))
        name = name or f"media/{hashlib.blake2b(buffer.getvalue(), digest_size=5).hexdigest()}"
        path = self.out / f"{name}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        return f"{name}.webp"

    def clip(self, frames: Sequence[Path]) -> list[str]:
        """Write the frames that are shown; those between stand for the nearest of them, so that times stay true."""
        kept = uniform(len(frames), FRAMES)
        written = {place: self.picture(opened(frames[place])) for place in kept}
        return [written[min(kept, key=lambda at: abs(at - place))] for place in range(len(frames))]

    def write(self) -> None:
        """Write records, pools and page texts."""
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in self.records)
        (self.out / "records.jsonl").write_text("".join(lines), encoding="utf-8")
        if self.pools:
            text = json.dumps(self.pools, ensure_ascii=False, indent=0)
            (self.out / "pools.json").write_text(text + "\n", encoding="utf-8")
        if self.layers:
            pages = (json.dumps({"id": stem, "body": self.layers[stem]}, ensure_ascii=False) for stem in self.layers)
            (self.out / "pages.jsonl").write_text("\n".join(pages) + "\n", encoding="utf-8")


def opened(path: Path) -> Image.Image:
    """A picture in its own size."""
    return load(Source(path))["image"]


def lot(name: str) -> bytes:
    """A place in the draw that depends on the name alone."""
    return hashlib.blake2b(name.encode(), key=b"mini").digest()


def drawn(task: Task, count: int) -> list[str]:
    """The queries taken: those about one picture or clip go together, so that few files serve many tasks."""
    queries, corpus = sides(task.queries), sides(task.corpus)

    def about(query: str) -> tuple[bytes, bytes]:
        given = queries[query] if len(queries[query]) > 1 else corpus[next(iter(task.relevant[query]))]
        media = given.get("image") or given.get("page") or given.get("video") or query
        return lot(media if isinstance(media, str) else media[0]), lot(query)

    return sorted(sorted(queries, key=about)[:count])


def sides(entries: Sequence[Entry]) -> Mapping[str, Mapping[str, Any]]:
    """A task's side as its records have it."""
    assert isinstance(entries, Entries)
    return entries.sides


def pool_of(task: Task, queries: Iterable[str], names: Sequence[str], pages: int, seen: set[str]) -> list[str]:
    """The right ones of the queries, then others by lot that no training record holds, up to `pages` together."""
    right = {name for query in queries for name in task.relevant[query]} & set(names)
    others = sorted((name for name in names if name not in right and name not in seen), key=lot)
    return sorted([*right, *others[: max(pages - len(right), 0)]])


def add(folder: Folder, task: Task, records: Mapping[str, Any], limit: Mapping[str, int], seen: set[str]) -> None:
    """Take the drawn part of a task into its folder."""
    home = task.queries.home  # type: ignore[attr-defined]
    asked = {name: place for place, name in enumerate(sides(task.queries))}
    held = {name: place for place, name in enumerate(sides(task.corpus))}
    written: dict[str, dict[str, Any]] = {}

    def candidate(name: str) -> dict[str, Any]:
        if name not in written:
            written[name] = folder.side(sides(task.corpus)[name], task.corpus[held[name]], home)
        return written[name]

    chosen = drawn(task, limit["queries"])
    by_pool: dict[str, list[str]] = {}
    for name in chosen:
        record = records[name]
        new = {key: record[key] for key in ("id", "task", "meta_task")}
        new["query"] = folder.side(record["query"], task.queries[asked[name]], home)
        new["positives"] = [candidate(each) for each in task.relevant[name]]
        new["split"] = record["split"]
        if "candidates" in record:
            new["candidates"] = [candidate(each) for each in (task.candidates or {}).get(name, held)]
        else:
            new["pool"] = record["pool"]
            by_pool.setdefault(record["pool"], []).append(name)
        folder.records.append(new)
    for pool, queries in by_pool.items():
        names = list((task.candidates or {}).get(queries[0], held))
        if task.about["meta_task"].endswith("CLS"):
            folder.pools[pool] = [candidate(each) for each in names]
        elif task.about["meta_task"] == "VD":
            kept = pool_of(task, queries, names, limit["pages"], seen)
            folder.pools[pool] = [candidate(each)["page"] for each in kept]


def make(data: Path, out: Path) -> int:
    """Writes the benchmark into `out`, in the place of an older one, and returns its size in bytes."""
    chosen = json.loads((HERE / "mini.json").read_text(encoding="utf-8"))
    origins = json.loads((HERE / "sample.json").read_text(encoding="utf-8"))["origins"]
    if out.exists() and any(out.iterdir()) and not (out / "LICENSES.md").is_file():
        raise ValueError(f"{out}: neither empty nor an older one; name another folder with --out")
    full = {task.name: task for task in tasks(data)}
    for name, settings in chosen["folders"].items():
        shutil.rmtree(out / name, ignore_errors=True)
        lines = (data / name / "records.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        seen = {each["page"] for r in records if r["split"] != "test" for each in r["positives"] if "page" in each}
        seen |= {r["query"]["image"] for r in records if r["split"] != "test" and "image" in r["query"]}
        boxed = frozenset(each["image"] for r in records for each in r.get("candidates", ()) if "box" in each)
        folder = Folder(out / name, settings["photos"], boxed)
        for task, limit in settings["tasks"].items():
            add(folder, full[f"{name}-{task}"], {r["id"]: r for r in records}, limit, seen)
        folder.write()
    rows = "".join(
        f"| {name} | {' | '.join(origins[each])} |\n"
        for name, settings in chosen["folders"].items()
        for each in settings["origins"]
    )
    (out / "LICENSES.md").write_text(HEAD + rows + LEFT_OUT + MIT, encoding="utf-8")
    compare(full, {task.name: task for task in tasks(out)})
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def compare(full: Mapping[str, Task], small: Mapping[str, Task]) -> None:
    """Refuse a benchmark whose queries or right answers are not what the full one shows."""
    for name, task in small.items():
        origin = full[name]
        places = [{each: place for place, each in enumerate(sides(of.queries))} for of in (task, origin)]
        answers = [{each: place for place, each in enumerate(sides(of.corpus))} for of in (task, origin)]
        for query in sides(task.queries):
            mine, theirs = (of.queries[place[query]] for of, place in zip((task, origin), places, strict=True))
            right = [task.corpus[answers[0][each]] for each in task.relevant[query]]
            wanted = [origin.corpus[answers[1][each]] for each in origin.relevant[query]]
            # Two clips of which the same frames are shown are one here.
            if not alike(mine, theirs) or not all(any(alike(one, other) for one in right) for other in wanted):
                raise ValueError(f"{name}: {query} is not what it was")


def alike(mine: Entry, theirs: Entry) -> bool:
    """Whether texts and frames and their times are equal, and pictures but for their compression."""
    if mine.broken or theirs.broken or mine.text != theirs.text:
        return False
    if theirs.video is not None:
        times = [each.video["video_metadata"] for each in (mine, theirs)]
        return times[0] == times[1] and np.array_equal(mine.video["array"], theirs.video["array"])
    if theirs.image is None:
        return mine.image is None
    pixels = [np.asarray(each.image, np.float32) for each in (mine, theirs)]
    return pixels[0].shape == pixels[1].shape and float(np.abs(pixels[0] - pixels[1]).mean()) <= STRAY


if __name__ == "__main__":
    command(__doc__, make, OUT)
