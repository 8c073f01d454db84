"""Drawn pictures of coloured shapes with their descriptions: as many as one likes, of what a small model can learn."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from btoks.errors import BtoksError
from btoks.media import Source
from btoks.training.rows import Ref, Row

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (50, 150, 70),
    "blue": (40, 90, 200),
    "purple": (130, 60, 160),
    "pink": (245, 150, 190),
    "brown": (125, 80, 45),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "grey": (135, 135, 135),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond")
NUMBERS = ("zero", "one", "two", "three", "four", "five")
ASK = {
    "find": "",
    "tell": "Describe the picture.",
    "count": "How many {} are in the picture?",
    "colour": "Name the colour of the {}.",
}
_SIDE, _CELLS = 96, 3


@dataclass(frozen=True)
class Shapes:
    """`count` pictures with one or two groups of equal shapes: to `find` by their description, to `tell` of, to answer
    questions about (`count`, `colour`). Every pass draws new ones.

    >>> row = Shapes("count", 10).open(None).row(3, 0)
    >>> row.positive["text"] in NUMBERS
    True
    """

    task: str = "tell"
    count: int = 20_000
    seed: int = 0

    def open(self, _: Path | None) -> _Shapes:
        """Nothing is read: all is drawn."""
        if self.task not in ASK:
            raise BtoksError(f"shapes task {self.task!r}", "there is none", f"pass one of {', '.join(ASK)}")
        return _Shapes(self)


@dataclass(frozen=True)
class _Group:
    """Shapes of one kind."""

    number: int
    colour: str
    shape: str

    @property
    def words(self) -> str:
        return f"{NUMBERS[self.number]} {self.colour} {_plural(self.shape, self.number)}"


class _Shapes:
    def __init__(self, how: Shapes) -> None:
        self.how = how

    def __len__(self) -> int:
        return self.how.count

    def row(self, number: int, passed: int) -> Row:
        luck = np.random.default_rng([self.how.seed, sorted(ASK).index(self.how.task), number, passed])
        groups = _groups(luck)
        picture = {"image": Ref(Source(_drawn(groups, luck)))}
        text = " and ".join(group.words for group in groups)
        name = f"{self.how.task}-{passed}-{number}"
        if self.how.task == "find":
            return Row(name, {"text": text}, picture)
        if self.how.task == "tell":
            return Row(name, {"text": ASK["tell"], **picture}, {"text": text})
        first = groups[0]
        counted = f"{first.colour} {_plural(first.shape, 2)}"
        asked = counted if self.how.task == "count" else _plural(first.shape, first.number)
        question = ASK[self.how.task].format(asked)
        answer = NUMBERS[first.number] if self.how.task == "count" else first.colour
        return Row(name, {"text": question, **picture}, {"text": answer})


def _groups(luck: np.random.Generator) -> list[_Group]:
    """One or two groups, of different shapes."""
    many = int(luck.integers(1, 3))
    most = len(NUMBERS) - many
    shapes = luck.choice(SHAPES, size=many, replace=False)
    return [_Group(int(luck.integers(1, most + 1)), str(luck.choice(list(COLOURS))), str(shape)) for shape in shapes]


def _plural(shape: str, number: int) -> str:
    ending = "" if number == 1 else "es" if shape.endswith("s") else "s"
    return shape + ending


def _drawn(groups: list[_Group], luck: np.random.Generator) -> bytes:
    """A PNG: the shapes in cells of a grid, no two in one, on a plain ground of another colour."""
    taken = {group.colour for group in groups}
    grounds = [name for name in ("white", "black", "grey", "yellow", "blue") if name not in taken]
    picture = Image.new("RGB", (_SIDE, _SIDE), COLOURS[grounds[luck.integers(len(grounds))]])
    draw = ImageDraw.Draw(picture)
    cells = iter(luck.permutation(_CELLS * _CELLS))
    cell = _SIDE // _CELLS
    for group in groups:
        for _ in range(group.number):
            row, column = divmod(int(next(cells)), _CELLS)
            radius = luck.uniform(0.3, 0.46) * cell
            x, y = ((place + 0.5) * cell + luck.uniform(-1, 1) * (cell / 2 - radius) for place in (column, row))
            _shape(draw, group.shape, x, y, radius, COLOURS[group.colour])
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _shape(
    draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=max(2, round(radius / 3)))
    elif shape == "square":
        draw.rectangle((x - 0.8 * radius, y - 0.8 * radius, x + 0.8 * radius, y + 0.8 * radius), fill=colour)
    elif shape == "cross":
        third = radius / 3
        draw.rectangle((x - third, y - radius, x + third, y + radius), fill=colour)
        draw.rectangle((x - radius, y - third, x + radius, y + third), fill=colour)
    else:
        draw.polygon(_corners(shape, x, y, radius), fill=colour)


def _corners(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    number, inner = {"triangle": (3, 1.0), "diamond": (4, 1.0), "star": (10, 0.45)}[shape]
    angles = [2 * np.pi * place / number - np.pi / 2 for place in range(number)]
    lengths = [radius * (inner if place % 2 and shape == "star" else 1.0) for place in range(number)]
    return [(x + r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, lengths, strict=True)]
