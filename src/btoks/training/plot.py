"""The curves of a run, drawn from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from btoks.errors import BtoksError

_PANELS = (("loss", "loss"), ("loss_con", "contrastive loss"), ("loss_gen", "generation loss"), ("lr", "learning rate"))


def plot(run: str | Path, out: str | Path | None = None) -> Path:
    """Draw losses, learning rate and dev results over steps into a PNG or SVG, by default `run/curves.png`.

    >>> plot("runs/mini")  # doctest: +SKIP
    PosixPath('runs/mini/curves.png')
    """
    run = Path(run)
    out = run / "curves.png" if out is None else Path(out)
    if out.suffix not in (".png", ".svg"):
        raise BtoksError(str(out), "not a PNG or SVG", "let its name end in .png or .svg")
    metrics, dev = _lines(run / "metrics.jsonl"), _lines(run / "dev.jsonl")
    if not metrics:
        raise BtoksError(str(run), "it has no metrics.jsonl with a step in it", "pass the --out of a training run")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BtoksError("plot", "matplotlib is not installed", "pip install 'btoks[plot]'") from error
    panels = [each for each in _PANELS if any(line[each[0]] is not None for line in metrics)]
    count = len(panels) + bool(dev)
    figure = Figure(figsize=(3.6 * count, 3.0), layout="constrained")
    axes: Any = figure.subplots(1, count, squeeze=False)[0]
    for axis, (key, title) in zip(axes, panels, strict=False):
        drawn = [(line["step"], line[key]) for line in metrics if line[key] is not None]
        axis.plot(*zip(*drawn, strict=True), linewidth=1)
        axis.set(title=title, xlabel="step")
    for name in [key for key in (dev[0] if dev else ()) if key != "step"]:
        axes[-1].plot([line["step"] for line in dev], [line[name] for line in dev], label=name, linewidth=1)
    if dev:
        axes[-1].set(title="dev, hit@1", xlabel="step", ylim=(0, 1))
        axes[-1].legend(fontsize="x-small")
    figure.savefig(out, dpi=120)
    return out


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
