"""Quality against bytes as a picture: all points by kind, the front as a line, the recommendation marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.tradeoff.choosing import Tradeoff
    from btoks.tradeoff.measuring import Point

_LEAST = 1e-3
_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)
_ASKED: dict[str, Any] = {"color": "0.4", "linewidth": 0.9, "linestyle": ":", "zorder": 0}
_NOTE: dict[str, Any] = {"fontsize": 7.5, "color": "0.4"}
_ROOM = 110, 14
_CHOSEN: dict[str, Any] = {"fontsize": 10, "color": "#cc3311", "weight": "bold"}
_OTHER: dict[str, Any] = {"fontsize": 7.5, "color": "0.25"}
_KINDS = {
    "number formats": ("#4477aa", "o"),
    "codebooks": ("#228833", "s"),
    "reducers": ("#aa7733", "^"),
    "reducer + format": ("#aa3377", "D"),
}


def check_picture(path: Path) -> None:
    """Refuse a path that `draw` cannot write, before any work is done."""
    if path.suffix not in (".png", ".svg"):
        raise BtoksError(str(path), "no such picture format", "end it in .png or .svg")
    if not path.parent.is_dir():
        raise BtoksError(str(path), f"no folder {path.parent}", "make it first")


def draw(found: Tradeoff, path: Path, *, min_quality: float | None = None, budget: int | None = None) -> None:
    """Write the picture, .png or .svg, whole or not at all.

    The bytes include each vector's share of what a method keeps once, so that the front is one in the picture, too.
    """
    check_picture(path)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BtoksError("plot", "matplotlib is not installed", "pip install 'btoks[plot]'") from error
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.add_subplot()
    _scales(axes, found)
    for kind, (colour, marker) in _KINDS.items():
        points = [point for point in found.points if _kind(point.spec) == kind]
        sizes, heights = [_bytes(found, point) for point in points], [point.quality for point in points]
        axes.scatter(sizes, heights, s=22, color=colour, marker=marker, alpha=0.55, linewidths=0, label=kind, zorder=2)
    sizes, heights = [_bytes(found, point) for point in found.front], [point.quality for point in found.front]
    line: dict[str, Any] = {"color": "0.25", "linewidth": 1.2, "drawstyle": "steps-post", "zorder": 1}
    axes.plot(sizes, heights, label="the best of each size", **line)
    _limits(axes, found, min_quality, budget)
    _names(axes, found)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        figure.savefig(part, dpi=150)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _bytes(found: Tradeoff, point: Point) -> float:
    return point.total(found.rows) / found.rows


def _kind(spec: str) -> str:
    if "+" in spec:
        return "reducer + format"
    name = spec.removeprefix("rescaled:").split(":")[0]
    if name in ("pq", "opq", "residual"):
        return "codebooks"
    reducers = ("pca", "matryoshka", "random_projection", "kernel_pca", "autoencoder", "umap")
    return "reducers" if name in reducers else "number formats"


def _lost(quality: Any) -> Any:
    """Quality so that 0.9, 0.99 and 0.999 stand equally far apart."""
    return -np.log10(np.maximum(1 - np.asarray(quality, float), 0) + _LEAST)


def _scales(axes: Any, found: Tradeoff) -> None:
    axes.set_xscale("log", base=2)
    sizes = [_bytes(found, point) for point in found.points]
    axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.2)
    axes.set_yscale("function", functions=(_lost, lambda place: 1 + _LEAST - 10.0 ** -np.asarray(place, float)))
    least = min(point.quality for point in found.points)
    axes.set_ylim(max(least - 0.05, 0), 1 + _LEAST / 2)
    ticks = [tick for tick in _TICKS if tick >= least - 0.05]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_locator(_no_ticks())
    axes.xaxis.set_major_formatter(lambda size, _: f"{size:g}")
    axes.grid(color="0.9", linewidth=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    task = found.points[0].kept is not None
    axes.set_ylabel("share of the task's nDCG@10 that is kept" if task else "nDCG@10 against the exact order")
    axes.set_xlabel(f"bytes a vector, of {4 * found.dim} as float32")
    axes.set_title(f"{found.rows:,} vectors, {found.dim} wide", loc="left", fontsize=11)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _limits(axes: Any, found: Tradeoff, min_quality: float | None, budget: int | None) -> None:
    """What was asked for, as dotted lines."""
    if min_quality is not None:
        axes.axhline(min_quality, **_ASKED)
        side = axes.get_yaxis_transform()
        axes.text(0.995, min_quality, "quality asked for", ha="right", va="bottom", transform=side, **_NOTE)
    if budget is not None:
        axes.axvline(budget / found.rows, **_ASKED)
        foot = axes.get_xaxis_transform()
        axes.text(budget / found.rows, 0.01, " budget", transform=foot, **_NOTE)


def _names(axes: Any, found: Tradeoff) -> None:
    """The name of the recommendation, then those of the front from the best down, where there is room."""
    chosen, taken = found.recommended, list[Any]()
    spot = _bytes(found, chosen), chosen.quality
    axes.scatter(*spot, s=190, facecolors="none", edgecolors="#cc3311", linewidths=1.8, zorder=4)
    for point in [chosen, *(each for each in reversed(found.front) if each != chosen)]:
        place = _bytes(found, point), point.quality
        near = np.abs(axes.transData.transform(place) - np.reshape(taken, (-1, 2)))
        if ((near[:, 0] < _ROOM[0]) & (near[:, 1] < _ROOM[1])).any():
            continue
        taken.append(axes.transData.transform(place))
        style = _CHOSEN if point == chosen else _OTHER
        axes.annotate(point.spec, place, (-7, 5), textcoords="offset points", ha="right", zorder=5, **style)
