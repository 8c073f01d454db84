"""What the sample takes from each data folder: builders of its files and their captions.

A builder reads the train records of a folder, looks up what sample.json names and yields one `Entry` a file.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image
from sample_media import write_jpeg, write_mp4, write_png
from sample_pdf import Page, write_pdf

if TYPE_CHECKING:
    from pathlib import Path

PHOTOS_A_PRODUCT = 3
CAPTIONS_AN_ITEM = 4
SENTENCE_END = re.compile(r"(?<=[a-z]{3}\.|..\)\.|..\.\)) ")  # three letters, so not after "St."
Record = dict[str, Any]
Captions = Mapping[int | None, tuple[str, ...]]


@dataclass(frozen=True)
class Entry:
    """One file of the sample: its captions by page (None: the file as a whole) and the data folders it comes from."""

    path: str
    content: bytes
    captions: Captions
    origins: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """The train records of one data folder; `media` refuses a file that any other split uses."""

    root: Path
    train: tuple[Record, ...]
    held_out: frozenset[str]

    def media(self, relative: str) -> Path:
        """The path of a picture or frame of the train split."""
        if relative in self.held_out:
            raise ValueError(f"{self.root.name}/{relative}: used by a dev or test record; name another in sample.json")
        return self.root / relative

    def about(self, relative: str, suffix: str) -> list[Record]:
        """The train records with this kind of id that ask about, or answer with, a picture, page or clip."""
        pattern = re.compile(rf"-{suffix}$")
        return [r for r in self.train if pattern.search(r["id"]) and relative in _files(r)]

    def table(self, name: str) -> dict[str, Record]:
        """A further JSONL file of the folder, by id."""
        return {item["id"]: item for item in _lines(self.root / name)}


def open_folder(data: Path, name: str) -> Folder:
    """Reads `data/name/records.jsonl`."""
    records = _lines(data / name / "records.jsonl")
    held_out = frozenset(path for r in records if r["split"] != "train" for path in _files(r))
    return Folder(data / name, tuple(r for r in records if r["split"] == "train"), held_out)


def _lines(path: Path) -> list[Record]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def _files(record: Record) -> set[str]:
    sides = [record["query"], *record["positives"], *record.get("candidates", [])]
    single = {side[key] for side in sides for key in ("image", "page") if key in side}
    return single | {frame for side in sides for frame in side.get("video", [])}


def slug(name: str) -> str:
    """A readable ASCII file name: lower case, words joined by hyphens."""
    plain = unicodedata.normalize("NFKD", name.casefold().replace("ø", "o"))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")


def _answer(record: Record) -> str:
    return str(record["positives"][0]["text"]).strip()


def grocery(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """A few photographs of each product.

    The records also hold product descriptions: those are a shop's, not the photographer's, so they stay out.
    """
    for label in wanted:
        named = [r for r in folder.train if r["id"].endswith("-cls") and _answer(r) == label]
        pictures = sorted(r["query"]["image"] for r in named)
        name = re.sub(r" \((.+)\)", r" \1", label)
        kind = named[0]["info"]["coarse"]
        texts = [name, f"a photograph of {name.lower()} in a grocery store"]
        texts += [kind.lower()] * (kind.lower() not in name.lower())
        for n, picture in enumerate(pictures[:: len(pictures) // PHOTOS_A_PRODUCT][:PHOTOS_A_PRODUCT], 1):
            content = write_jpeg(folder.media(picture))
            yield Entry(f"photos/grocery/{slug(name)}-{n}.jpg", content, {None: tuple(texts)}, ("grocery",))


def counted(folder: Folder, wanted: list[str], place: str, short: str, long: str) -> Iterator[Entry]:
    """Photographs whose records say what is in them and how many of it."""
    numbers: dict[str, int] = {}
    for name in wanted:
        picture = f"images/{name}.jpg"
        label = _answer(folder.about(picture, "cls")[0])
        parts = []
        for record in folder.about(picture, "n-[a-z]+"):
            many = re.match(r"How many (.+) are visible", record["query"]["text"])
            one = record["id"].rpartition("-")[2]
            number = _answer(record)
            parts.append(f"{number} {one if number == 'one' or many is None else many[1]}")
        numbers[label] = numbers.get(label, 0) + 1
        texts = (short.format(label), long.format(" and ".join(parts) or label))
        yield Entry(
            f"photos/{place}/{slug(label)}-{numbers[label]}.jpg",
            write_jpeg(folder.media(picture)),
            {None: texts},
            (folder.root.name,),
        )


def food(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """Photographs of dishes with their names and ingredients."""
    for name in wanted:
        picture = f"images/{name}.webp"
        title, ingredients, _ = _recipe(folder, name)
        texts = (title, f"a photograph of a dish: {title}", f"Ingredients: {', '.join(ingredients)}")
        yield Entry(f"photos/food/{slug(title)}.jpg", write_jpeg(folder.media(picture)), {None: texts}, ("recipes",))


def _recipe(folder: Folder, name: str) -> tuple[str, list[str], str]:
    picture = f"images/{name}.webp"
    title = _answer(folder.about(picture, "2title")[0])
    text = _answer(folder.about(picture, "2recipe")[0])
    ingredients, directions = text.removeprefix("Ingredients: ").split("\nDirections: ", 1)
    # The records lost the leading amounts, so what is left of them goes too, and so do headings.
    amount = re.compile(r"^(/\d+ *)?((g|ml|dl|tsp|tbsp|cups?|teaspoons?)( of)? )?", re.IGNORECASE)
    parts = [amount.sub("", part.replace("*", "")).rstrip(".") for part in ingredients.split("; ") if part[-1] != ":"]
    return title, parts, directions


def flags(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """Flags with the country's name and, where there is one, a description."""
    for code in wanted:
        country, description = _flag(folder, code)
        texts = (f"the flag of {country}", *([f"a flag: {description}"] * bool(description)))
        content = write_png(folder.media(f"images/{code}.png"))
        origins = ("flags", "factbook") if description else ("flags",)
        yield Entry(f"flags/{slug(country)}.png", content, {None: texts}, origins)


def _flag(folder: Folder, code: str) -> tuple[str, str]:
    picture = f"images/{code}.png"
    country = _answer(folder.about(picture, "cls")[0]).split(",")[0]
    described = folder.about(picture, "img2desc")
    return country, _answer(described[0]) if described else ""


def flag_notes(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """Descriptions of flags as plain text files."""
    for code in wanted:
        country, description = _flag(folder, code)
        text = f"The flag of {country}\n\n{description[0].upper()}{description[1:]}.\n"
        yield Entry(f"notes/flag-of-{slug(country)}.txt", text.encode(), {}, ("factbook",))


def icons(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """Emoji pictures with their Unicode names."""
    pictures = {_answer(r): r["query"]["image"] for r in folder.train if r["id"].endswith("img2name")}
    for name in wanted:
        content = write_png(folder.media(pictures[name]))
        yield Entry(f"icons/{slug(name)}.png", content, {None: (name, f"an icon of: {name}")}, ("emoji",))


def recipe_notes(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """Recipes as Markdown."""
    for name in wanted:
        title, ingredients, directions = _recipe(folder, name)
        listed = "\n".join(f"- {part}" for part in ingredients)
        text = f"# {title}\n\n## Ingredients\n\n{listed}\n\n## Directions\n\n{directions}\n"
        yield Entry(f"notes/recipe-{slug(title)}.md", text.encode(), {}, ("recipes",))


def recipe_pages(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """Recipes as PDF with the picture of the dish."""
    for name in wanted:
        title, ingredients, directions = _recipe(folder, name)
        parts = f"Ingredients: {', '.join(ingredients)}"
        picture = write_jpeg(folder.media(f"images/{name}.webp"), longest=320)
        content = write_pdf([Page(title, (parts, directions), picture=picture)])
        texts = (f"{title}. {parts}", f"How do I make {title}?", f"a recipe for {title} with a picture of the dish")
        yield Entry(f"documents/recipe-{slug(title)}.pdf", content, {1: texts}, ("recipes",))


def tables(folder: Folder, wanted: list[str]) -> Iterator[Entry]:
    """Tables as PDF, with questions that people asked about them."""
    stored = folder.table("tables.jsonl")
    for name in wanted:
        page = f"rendered/{name}.png"
        folder.media(page)
        title = stored[name]["title"].removeprefix("List of ")
        title = title[0].upper() + title[1:]
        rows = tuple(tuple(row) for row in [stored[name]["header"], *stored[name]["rows"]])
        content = write_pdf([Page(title, table=rows, width=595, height=420)])
        texts = (f"{title}: {', '.join(rows[0])}", *_questions(folder, page))
        yield Entry(f"documents/{slug(title)}.pdf", content, {1: texts}, ("wikitables",))


def _questions(folder: Folder, page: str) -> list[str]:
    asked = [r for r in folder.train if any(p.get("page") == page for p in r["positives"])]
    same_language = [r for r in asked if not r.get("info", {}).get("cross")]
    return [r["query"]["text"] for r in same_language][: CAPTIONS_AN_ITEM - 1]


def articles(folder: Folder, wanted: dict[str, list[str]]) -> Iterator[Entry]:
    """Encyclopedia articles as PDF, a paragraph a page, with questions that people asked about them."""
    bodies = folder.table("pages_a.jsonl") | folder.table("pages_b.jsonl")
    for title, names in wanted.items():
        captions: dict[int | None, tuple[str, ...]] = {}
        for number, name in enumerate(names, 1):
            folder.media(f"rendered/{name}.png")
            opening = SENTENCE_END.split(bodies[name]["body"], maxsplit=1)[0]
            captions[number] = (f"{title}. {opening}", *_questions(folder, f"rendered/{name}.png"))
        content = write_pdf([Page(title, (bodies[name]["body"],)) for name in names])
        language = names[0].rpartition("-")[2]
        yield Entry(f"documents/{slug(title)}-{language}.pdf", content, captions, ("xquad",))


def paragraphs(folder: Folder, wanted: dict[str, str]) -> Iterator[Entry]:
    """Encyclopedia paragraphs as plain text files."""
    bodies = folder.table("pages_a.jsonl") | folder.table("pages_b.jsonl")
    for title, name in wanted.items():
        folder.media(f"rendered/{name}.png")
        text = f"{title}\n\n{bodies[name]['body']}\n"
        yield Entry(f"notes/{slug(title)}.txt", text.encode(), {}, ("xquad",))


def clips(folder: Folder, wanted: dict[str, str], place: str, fps: int) -> Iterator[Entry]:
    """Clips of a folder, encoded from its frames; each data set tells in its own way what a clip shows."""
    for name, title in wanted.items():
        frames = sorted(path.name for path in (folder.root / "rendered" / name).glob("*.png"))
        first = f"rendered/{name}/{frames[0]}"
        pictures = [Image.open(folder.media(f"rendered/{name}/{frame}")) for frame in frames]
        texts = CLIP_TEXTS[folder.root.name](folder, first)[:CAPTIONS_AN_ITEM]
        content = write_mp4(pictures, fps=fps)
        yield Entry(f"videos/{place}/{slug(title)}.mp4", content, {None: tuple(texts)}, (folder.root.name,))


def _weather_texts(folder: Folder, first: str) -> list[str]:
    name = _answer(folder.about(first, "v2t")[0])
    return [name, f"an animated weather icon: {name}"]


def _kanji_texts(folder: Folder, first: str) -> list[str]:
    radical = _answer(folder.about(first, "cls")[0])
    strokes = _answer(folder.about(first, "n")[0])
    moments = [r["query"]["text"] for r in folder.about(first, "mret[0-9]")]
    parts = [text.split("component ")[1].removesuffix(" is written.") for text in moments]
    return [
        f"a character with the radical {radical} is written by hand",
        f"handwriting: a Japanese character of {strokes} strokes, made with {' and '.join(parts)}",
    ]


def _larc_texts(folder: Folder, first: str) -> list[str]:
    asked = [r["query"]["text"].split("you have to ", 1)[1] for r in folder.about(first, "t2v")]
    short = sorted({text for text in asked if 20 < len(text) < 160}, key=asked.index)
    return [f"a person edits a grid of coloured cells: {text}" for text in short]


def _terminal_texts(folder: Folder, first: str) -> list[str]:
    script = folder.about(first, "t2v")[0]["query"]["text"]
    visible = re.sub(r"presses hidden begin;.*?presses hidden end(; )?", "", script + ";")
    steps = re.sub(r" Sleep \d+m?s", "", visible).rstrip("; ")
    return [steps, "a screen recording of a terminal"]


CLIP_TEXTS = {"weather": _weather_texts, "kanji": _kanji_texts, "larc": _larc_texts, "terminal": _terminal_texts}
