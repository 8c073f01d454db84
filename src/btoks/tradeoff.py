"""What does each compression of these vectors cost in quality? Every method and chain measured, one recommended.

Some vectors are held out as queries; the exact order of the others by inner product is the truth.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btoks import methods
from btoks.errors import BtoksError

K = 10
QUERIES, STORED = 200, 20_000
_SAME = 1e-6  # scores nearer than this, in units of the largest, are of equal rank


@dataclass(frozen=True)
class Point:
    """One method measured: `ndcg` and `recall` at 10 against the exact order, bytes a vector and bytes kept once."""

    spec: str
    bytes_per_vector: int
    state_nbytes: int
    ndcg: float
    recall: float
    seconds: float

    def total(self, rows: int) -> int:
        """Bytes of a collection of this many vectors."""
        return rows * self.bytes_per_vector + self.state_nbytes


@dataclass(frozen=True)
class Tradeoff:
    """All points of a collection, those that no other beats in both bytes and quality, and the one to take."""

    rows: int
    dim: int
    points: list[Point]
    front: list[Point]
    recommended: Point
    reached: bool


def read(path: str | Path) -> NDArray[np.float32]:
    """Vectors from `.npy` or from the column `embedding` of `.parquet`, as `btoks embed` writes them."""
    path = Path(path)
    if path.suffix not in (".npy", ".parquet"):
        raise BtoksError(
            str(path), "no vectors by its name", "pass a .npy or .parquet file, such as btoks embed writes"
        )
    if not path.is_file():
        raise BtoksError(str(path), "no such file", "pass a .npy or .parquet file")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False) if path.suffix == ".npy" else _parquet(path)
    except (OSError, ValueError, KeyError) as error:
        raise BtoksError(str(path), f"cannot be read ({error})", "write it again") from error


def _parquet(path: Path) -> NDArray[np.float32]:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    column = parquet.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
    width = len(column[0]) if len(column) else 0
    return np.asarray(column.flatten(), np.float32).reshape(len(column), width)


def candidates(dim: int) -> list[str]:
    """The methods to measure on vectors of width D, by their short strings; slow non-linear reducers are left out."""
    formats = ["float32", "float16", "bfloat16", "float8", "float8:e5m2", "int8", "int4", "ternary", "binary", "rabitq"]
    formats += [f"rescaled:{each}" for each in ("float8", "int8", "int4", "ternary", "binary")]
    sizes = [m for m in (4, 8, 16, 32, 64) if m <= dim // 2]
    books = [f"{name}:{m}" for m in sizes for name in ("pq", "opq")] + [f"residual:{m}" for m in sizes if m <= 16]
    books += [f"rescaled:pq:{m}" for m in sizes]
    reducers = [f"{name}:{share}" for name in ("pca", "matryoshka", "random_projection") for share in (0.25, 0.5)]
    chains = [
        f"{reducer}+{short}"
        for reducer in ("pca:0.25", "pca:0.5", "pca:0.75", "pca:0.5,true", "matryoshka:0.5")
        for short in ("float8", "int8", "int4", "rescaled:float8", "rescaled:int8", "rescaled:int4")
    ]
    return [*formats, *books, *(reducers + chains if dim >= 4 else [])]


def measure(
    vectors_ND: Any, specs: Sequence[str] | None = None, *, seed: int = 0, done: Callable[[], None] = lambda: None
) -> list[Point]:
    """Measure methods on vectors; `done` is called after each. A method that refuses the vectors is left out."""
    fit, stored, queries = _split(vectors_ND, seed)
    exact = queries @ stored.T
    points = []
    for spec in specs or candidates(stored.shape[1]):
        started = time.perf_counter()
        try:
            method = methods.create("quantize", spec).fit(fit)
            scores = method.score(queries, method.encode(stored))
        except BtoksError:
            if specs:
                raise
            continue
        seconds = time.perf_counter() - started
        size = method.bytes_per_vector(stored.shape[1])
        points.append(Point(spec, size, method.state_nbytes, *quality(scores, exact), seconds))
        done()
    return points


def front(points: Sequence[Point], rows: int) -> list[Point]:
    """The points that no other beats in a collection of so many vectors: each is better than all that are smaller."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.total(rows), -each.ndcg, each.spec)):
        if not best or point.ndcg > best[-1].ndcg:
            best.append(point)
    return best


def recommend(points: Sequence[Point], rows: int, budget: int | None, min_quality: float) -> tuple[Point, bool]:
    """The smallest point of the front with this nDCG that fits; or the best that fits, and False."""
    fits = [point for point in points if budget is None or point.total(rows) <= budget]
    if not fits:
        least = min(points, key=lambda point: point.total(rows))
        reason = f"the smallest, {least.spec}, takes {least.total(rows)} bytes for {rows} vectors"
        raise BtoksError(f"budget {budget}", reason, "give more")
    choices = front(fits, rows)
    enough = [point for point in choices if point.ndcg >= min_quality]
    return (enough[0], True) if enough else (choices[-1], False)


def tradeoff(
    vectors_ND: Any,
    *,
    budget: int | None = None,
    min_quality: float = 0.99,
    rows: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> Tradeoff:
    """Measure everything and choose. `rows` is the size of the collection, by default that of the vectors.

    >>> found = tradeoff(np.random.default_rng(0).standard_normal((500, 16)))  # doctest: +SKIP
    >>> found.recommended.spec  # doctest: +SKIP
    'rescaled:int8'
    """
    points = measure(vectors_ND, done=done)
    size = len(vectors_ND) if rows is None else rows
    recommended, reached = recommend(points, size, budget, min_quality)
    return Tradeoff(size, vectors_ND.shape[1], points, front(points, size), recommended, reached)


def amount(text: str) -> int:
    """Bytes from a number with a unit.

    >>> amount("2GB"), amount("1.5 MiB")
    (2000000000, 1572864)
    """
    number, unit = text.strip().lower(), 1
    for place, letter in enumerate("kmgt", 1):
        for ending, base in ((f"{letter}ib", 1024), (f"{letter}b", 1000), (letter, 1000)):
            if number.endswith(ending):
                number, unit = number.removesuffix(ending), base**place
                break
    try:
        value = float(number.removesuffix("b")) * unit
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise BtoksError(f"budget {text!r}", "not a size", "give bytes such as 500MB or 2GB")
    return int(value)


def check_picture(path: Path) -> None:
    """Refuse a path that `draw` cannot write, before any work is done."""
    if path.suffix not in (".png", ".svg"):
        raise BtoksError(str(path), "no such picture format", "end it in .png or .svg")
    if not path.parent.is_dir():
        raise BtoksError(str(path), f"no folder {path.parent}", "make it first")


def draw(found: Tradeoff, path: Path) -> None:
    """Quality against bytes as a picture, the front as a line; .png or .svg."""
    check_picture(path)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BtoksError("plot", "matplotlib is not installed", "pip install 'btoks[plot]'") from error
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(
        [each.bytes_per_vector for each in found.points], [each.ndcg for each in found.points], s=14, color="0.6"
    )
    axes.plot(
        [each.bytes_per_vector for each in found.front], [each.ndcg for each in found.front], "o-", color="tab:blue"
    )
    for point in found.front:
        axes.annotate(
            point.spec, (point.bytes_per_vector, point.ndcg), (4, -10), textcoords="offset points", fontsize=7
        )
    chosen = found.recommended
    axes.scatter([chosen.bytes_per_vector], [chosen.ndcg], s=120, facecolors="none", edgecolors="tab:red")
    axes.set_xscale("log", base=2)
    axes.set(
        xlabel="bytes a vector", ylabel=f"nDCG@{K} against exact", title=f"{found.rows} vectors, width {found.dim}"
    )
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        figure.savefig(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _split(vectors_ND: Any, seed: int) -> list[NDArray[np.float32]]:
    """Vectors to fit on, to store and to ask with; in a large collection most were not there when it was fitted."""
    if getattr(vectors_ND, "ndim", 0) != 2 or len(vectors_ND) < 2 * K:
        shape = getattr(vectors_ND, "shape", "none")
        raise BtoksError("vectors", f"shape {shape} is too little to measure on", f"give {2 * K} rows or more")
    drawn = np.random.default_rng(seed).permutation(len(vectors_ND))
    asked = min(QUERIES, len(vectors_ND) // 10)
    stored, rest = drawn[asked : asked + STORED], drawn[asked + STORED : asked + 2 * STORED]
    fit = rest if len(rest) >= STORED // 2 else stored
    return [np.ascontiguousarray(vectors_ND[np.sort(each)], np.float32) for each in (fit, stored, drawn[:asked])]


def quality(scores_MN: NDArray[np.float32], exact_MN: NDArray[np.float32]) -> tuple[float, float]:
    """nDCG@10 and recall@10: relevant is whatever is as near as the exact tenth, so that equals may swap."""
    missing = ~np.array(list(_relevant(scores_MN, exact_MN)))
    discount = 1 / np.log2(np.arange(2, 2 + missing.shape[1]))
    lost = float((missing @ discount).mean() / discount.sum())
    return max(0.0, 1 - lost), 1 - float(missing.mean())


def _relevant(scores_MN: NDArray[np.float32], exact_MN: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
    for scores, exact in zip(scores_MN, exact_MN, strict=True):
        tenth = -np.partition(-exact, K - 1)[K - 1]
        top = np.lexsort((np.arange(len(scores)), -scores))[:K]
        yield exact[top] >= tenth - _SAME * np.abs(exact).max()
