"""The ablation's table, plot and JSON from the scores of its twins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DRAWS = 2000
MEASURES = ("hit@1", "hit@5", "nDCG@5")
Scores = dict[str, Any]


def write(runs: Sequence[Scores], method: str, out: Path) -> str:
    """Write ablation.json and ablation.svg and return the tables as Markdown."""
    names = list(dict.fromkeys(each["variant"] for each in runs))
    by_name = {name: [each for each in runs if each["variant"] == name] for name in names}
    rows = [row(name, by_name[name], by_name[method]) for name in names]
    (out / "ablation.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    plot(rows, method, out / "ablation.svg")
    return f"{overall(rows)}\n\n{by_meta_task(rows)}"


def row(name: str, runs: Sequence[Scores], against: Sequence[Scores]) -> dict[str, Any]:
    """A variant's means, every seed's, and its distance from the method with a 95% interval of paired draws."""
    seeds = [means(each)["all"] for each in runs]
    meta_tasks = sorted({task["meta_task"] for each in runs for task in each["tasks"].values()})
    return {
        "variant": name,
        "overall": np.mean(seeds, axis=0).tolist(),
        "seeds": {each["seed"]: value.tolist() for each, value in zip(runs, seeds, strict=True)},
        "meta_tasks": {meta: np.mean([means(each)[meta] for each in runs], axis=0).tolist() for meta in meta_tasks},
        "intervals": {
            meta: interval(runs, against, None if meta == "all" else meta).tolist() for meta in ("all", *meta_tasks)
        },
        "read": [each["read"] and each["read"]["shapes"] for each in runs],
    }


def means(run: Scores) -> dict[str, Any]:
    """The measures of each meta-task (mean over its data sets) and of all (mean over all data sets)."""
    tasks = run["tasks"].values()
    every = [(task["meta_task"], np.mean(list(task["queries"].values()), axis=0)) for task in tasks]
    found = {meta: np.mean([value for other, value in every if other == meta], axis=0) for meta, _ in every}
    return {**found, "all": np.mean([value for _, value in every], axis=0)}


def interval(runs: Sequence[Scores], against: Sequence[Scores], meta: str | None) -> Any:
    """The middle 95% of hit@1's mean difference over the seeds; queries are drawn anew within each data set."""
    luck = np.random.default_rng(0)
    draws = np.zeros(DRAWS)
    for run, other in zip(runs, against, strict=True):
        chosen = [name for name, task in run["tasks"].items() if meta in (None, task["meta_task"])]
        for name in chosen:
            ours, theirs = run["tasks"][name]["queries"], other["tasks"][name]["queries"]
            difference_N = np.array([ours[query][0] - theirs[query][0] for query in ours])
            places_DN = luck.integers(len(difference_N), size=(DRAWS, len(difference_N)))
            draws += difference_N[places_DN].mean(axis=1) / len(chosen) / len(runs)
    return np.quantile(draws, (0.025, 0.975))


def overall(rows: Sequence[dict[str, Any]]) -> str:
    """The table over all data sets."""
    head = f"| variant | {' | '.join(MEASURES)} | hit@1 by seed | against the method | read back |"
    lines = [head, "|---" * 6 + "|"]
    for each in rows:
        numbers = " | ".join(f"{100 * value:.1f}" for value in each["overall"])
        seeds = ", ".join(f"{100 * value[0]:.1f}" for value in each["seeds"].values())
        low, high = each["intervals"]["all"]
        told = [value for value in each["read"] if value is not None]
        back = f"{100 * np.mean(told):.0f}%" if told else "–"
        lines.append(f"| {each['variant']} | {numbers} | {seeds} | {100 * low:+.1f} … {100 * high:+.1f} | {back} |")
    return "\n".join(lines)


def by_meta_task(rows: Sequence[dict[str, Any]]) -> str:
    """hit@1 of each meta-task, with hit@5 and nDCG@5 behind it."""
    names = list(rows[0]["meta_tasks"])
    lines = [f"| variant | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for each in rows:
        cells = (" / ".join(f"{100 * value:.0f}" for value in each["meta_tasks"][name]) for name in names)
        lines.append(f"| {each['variant']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], method: str, file: Path) -> None:
    """hit@1 over all data sets less the method's, with the interval; a dot a seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    others = [each for each in rows if each["variant"] != method][::-1]
    base = next(each for each in rows if each["variant"] == method)
    figure, axes = plt.subplots(figsize=(7.5, 0.4 * len(others) + 1.2))
    for place, each in enumerate(others):
        low, high = (100 * value for value in each["intervals"]["all"])
        axes.plot([low, high], [place, place], color="#4c72b0", linewidth=3, solid_capstyle="round", zorder=2)
        dots = [100 * (value[0] - base["seeds"][seed][0]) for seed, value in each["seeds"].items()]
        axes.scatter(dots, [place] * len(dots), s=16, color="#222222", zorder=3)
    axes.axvline(0, color="#999999", linewidth=1, zorder=1)
    axes.set_yticks(range(len(others)), [each["variant"] for each in others])
    axes.set_xlabel(f"hit@1 less that of “{method}”, points (bar: 95% interval; dots: seeds)")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
