"""A comparison as Markdown, CSV, JSON or one HTML page with its bars; the plot alone is an SVG picture."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Sequence

from btoks.evaluation.compare import Line

_COLOURS = ("#2a6f97", "#e07a5f", "#3d8361", "#8d5a97", "#c9a227", "#5c677d")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 320, 46, 34, 30


def shown(names: Sequence[str], lines: Sequence[Line], form: str) -> str:
    """The comparison in a form of `FORMS`."""
    return FORMS[form](names, lines)


def bars(names: Sequence[str], lines: Sequence[Line]) -> str:
    """Bars per meta-task as an SVG picture; a mean that is not there has no bar."""
    tasks = [line for line in lines if line.kind == "meta_task"]
    wide, high = (_WIDTH - _LEFT) / len(tasks), _HEIGHT - _BOTTOM - _TOP
    bar = wide * 0.8 / len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f"<title>Scores per meta-task of {html.escape(', '.join(names))}</title>",
    ]
    for percent in range(0, 101, 20):
        y = _TOP + high * (1 - percent / 100)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent}</text>')
    for place, line in enumerate(tasks):
        left = _LEFT + place * wide
        parts.append(f'<text x="{left + wide / 2:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{line.name}</text>')
        for model, score in enumerate(line.scores):
            if score is not None:
                x, tall = left + wide * 0.1 + model * bar, high * score
                what = f"<title>{html.escape(names[model])}, {line.name}: {_percent(score)}</title>"
                box = f'x="{x:.1f}" y="{_TOP + high - tall:.1f}" width="{bar * 0.92:.1f}" height="{tall:.1f}"'
                parts.append(f'<rect {box} fill="{_colour(model)}">{what}</rect>')
    return "\n".join([*parts, *_legend(names), "</svg>"]) + "\n"


def _legend(names: Sequence[str]) -> list[str]:
    step = (_WIDTH - _LEFT) / len(names)
    parts = []
    for place, name in enumerate(names):
        x = _LEFT + place * step
        parts.append(f'<rect x="{x:.1f}" y="6" width="10" height="10" fill="{_colour(place)}"/>')
        parts.append(f'<text x="{x + 14:.1f}" y="15">{html.escape(name[-40:])}</text>')
    return parts


def _markdown(names: Sequence[str], lines: Sequence[Line]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in _cells(names, lines)]
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *body))


def _csv(names: Sequence[str], lines: Sequence[Line]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{name} {end}" for name in names[1:] for end in ("low", "high")]
    writer.writerow(["kind", "name", *names, *ends])
    for line in lines:
        intervals = [end for each in line.intervals for end in (each or ("", ""))]
        writer.writerow([line.kind, line.name, *("" if each is None else each for each in line.scores), *intervals])
    return out.getvalue()


def _json(names: Sequence[str], lines: Sequence[Line]) -> str:
    rows = [
        {
            "kind": line.kind,
            "name": line.name,
            "scores": dict(zip(names, line.scores, strict=True)),
            "intervals": dict(zip(names[1:], line.intervals, strict=True)),
        }
        for line in lines
    ]
    return json.dumps({"models": list(names), "rows": rows}) + "\n"


def _html(names: Sequence[str], lines: Sequence[Line]) -> str:
    head, *body = _cells(names, lines)
    top = "".join(f"<th scope=col>{html.escape(cell)}" for cell in head)
    rows = "".join(
        f"<tr><th scope=row>{row[0]}" + "".join(f"<td>{html.escape(cell)}" for cell in row[1:]) for row in body
    )
    style = "body{font-family:sans-serif;max-width:60rem;margin:2rem auto}td,th{padding:.2rem .6rem;text-align:right}"
    title = html.escape(" and ".join(names))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1>{bars(names, lines)}<table><thead><tr>{top}<tbody>{rows}</table></html>\n"
    )


def _cells(names: Sequence[str], lines: Sequence[Line]) -> list[list[str]]:
    """The table for people: percent, and behind it the interval of the difference to the first model."""
    head = ["", names[0], *names[1:]]
    return [head, *([line.name, *(_cell(line, model) for model in range(len(names)))] for line in lines)]


def _cell(line: Line, model: int) -> str:
    between = line.intervals[model - 1] if model else None
    interval = f" [{between[0] * 100:+.1f}, {between[1] * 100:+.1f}]" if between else ""
    return _percent(line.scores[model]) + interval


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{score * 100:.1f}"


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


FORMS: dict[str, Callable[[Sequence[str], Sequence[Line]], str]] = {
    "md": _markdown,
    "json": _json,
    "csv": _csv,
    "html": _html,
}
