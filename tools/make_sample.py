"""Makes the demo's sample folder from the train splits of openly licensed data folders: `make_sample.py DATA_DIR`.

DATA_DIR holds one folder a data set (records.jsonl, pictures, and clips as folders of frames under rendered/);
sample.json names what is taken from each. Writes the media, captions.jsonl (a line a picture, clip or page) and
LICENSES.md (a line a file).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sample_entries as build
from sample_entries import Entry, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
OUT = HERE.parent / "src" / "btoks" / "bundled" / "sample"

TEXTS = """\
Texts of the licences: [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/legalcode),
[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/legalcode),
[CC BY-SA 3.0](https://creativecommons.org/licenses/by-sa/3.0/legalcode),
[CC0](https://creativecommons.org/publicdomain/zero/1.0/legalcode),
[Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0); MIT below."""

HEAD = f"""# Licences of the sample

Every file of this folder, where it comes from and under what licence. Changes: pictures were made smaller and
recompressed, clips encoded as H.264 from single frames, texts set as PDF, Markdown or plain text. Files marked
"share alike" are adaptations under the licence of their origin; whoever changes them hands them on under the same one.
The captions of a file stand under the file's licence.

{TEXTS}

| file | origin | commit | licence | author |
|---|---|---|---|---|
"""

MIT = """
## MIT License

Copyright (c) 2019 Marcus Klasson; Copyright (c) 2020-2022 Bas Milius; Copyright (c) Charmbracelet, Inc.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def entries(data: Path, chosen: dict[str, Any]) -> Iterator[Entry]:
    """All files of the sample."""
    recipes, flags, xquad = (open_folder(data, name) for name in ("recipes", "flags", "xquad"))
    yield from build.grocery(open_folder(data, "grocery"), chosen["grocery"])
    for name, short, long in (
        ("aquarium", "{}", "{} in an aquarium"),
        ("cards", "playing card: {}", "playing cards: {}"),
    ):
        yield from build.counted(open_folder(data, name), chosen[name], name, short, f"a photograph of {long}")
    yield from build.food(recipes, chosen["food"])
    yield from build.flags(flags, chosen["flags"])
    yield from build.icons(open_folder(data, "emoji"), chosen["icons"])
    for name, place, fps in (("weather", "weather", 4), ("kanji", "handwriting", 8), ("larc", "puzzles", 4)):
        yield from build.clips(open_folder(data, name), chosen[place], place, fps)
    yield from build.clips(open_folder(data, "terminal"), chosen["terminal"], "terminal", 3)
    yield from build.tables(open_folder(data, "wikitables"), chosen["tables"])
    yield from build.articles(xquad, chosen["articles"])
    yield from build.recipe_pages(recipes, chosen["recipe_pages"])
    yield from build.paragraphs(xquad, chosen["paragraphs"])
    yield from build.recipe_notes(recipes, chosen["recipe_notes"])
    yield from build.flag_notes(flags, chosen["flag_notes"])


def caption_lines(files: list[Entry]) -> str:
    """captions.jsonl: path, page (of documents only) and one to four texts."""
    lines = []
    for entry in files:
        for page, texts in entry.captions.items():
            where = {"path": entry.path} | ({} if page is None else {"page": page})
            lines.append(json.dumps(where | {"text": list(texts)}, ensure_ascii=False))
    return "\n".join(lines) + "\n"


def licences(files: list[Entry], origins: dict[str, list[str]]) -> str:
    """LICENSES.md: a table row a file, then the one licence text that has to travel along."""
    rows = ["| captions.jsonl | this project, from the labels and texts of the files it describes | | as each file | |"]
    for entry in files:
        columns = zip(*(origins[name] for name in entry.origins), strict=True)
        rows.append(f"| {entry.path} | {' | '.join('; '.join(dict.fromkeys(values)) for values in columns)} |")
    return HEAD + "\n".join(rows) + "\n" + MIT


def make(data: Path, out: Path) -> int:
    """Writes the sample into `out`, in the place of an older one, and returns its size in bytes."""
    chosen = json.loads((HERE / "sample.json").read_text(encoding="utf-8"))
    files = sorted(entries(data, chosen), key=lambda entry: entry.path)
    contents = {entry.path: entry.content for entry in files}
    if len(contents) < len(files):
        raise ValueError("two files of the sample have the same name; change a title in sample.json")
    contents["captions.jsonl"] = caption_lines(files).encode()
    contents["LICENSES.md"] = licences(files, chosen["origins"]).encode()
    if out.exists() and any(out.iterdir()) and not (out / "captions.jsonl").is_file():
        raise ValueError(f"{out}: neither empty nor an older sample; name another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    for path, content in contents.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content)
    return sum(map(len, contents.values()))


def command(about: str | None, make: Callable[[Path, Path], int], out: Path) -> None:
    """The command line of a tool that makes a folder from the data folders."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA_DIR", type=Path, help="folder of data folders, rendered")
    parser.add_argument("--out", type=Path, default=out, help="folder to write (default: %(default)s)")
    arguments = parser.parse_args()
    size = make(arguments.data, arguments.out)
    print(f"{arguments.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    command(__doc__, make, OUT)
