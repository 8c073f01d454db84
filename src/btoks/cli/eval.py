"""`btoks eval`: run the benchmark, list its data sets, bring scores together, put models side by side."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli import long, mini
from btoks.cli.progress import shown
from btoks.cli.screen import MODEL, Device, Json, Model, emit, opened, table
from btoks.errors import BtoksError, did_you_mean

if TYPE_CHECKING:
    from btoks.evaluation.aggregate import Aggregate, Scores
    from btoks.evaluation.mmeb.registry import Row
    from btoks.evaluation.progress import Progress
    from btoks.evaluation.report import Report, Result
    from btoks.evaluation.run import Unloaded
    from btoks.evaluation.task import Task

group = typer.Typer(help="Measure models on retrieval benchmarks.", no_args_is_help=True)
group.command("mini")(mini.mini)
group.command("long")(long.long)

Modality = Annotated[str | None, typer.Option(help="Only image, video or visdoc.")]
MetaTask = Annotated[
    str | None, typer.Option("--task", help="Only one meta-task, such as I-CLS or VD, or a group of VD.")
]
Dataset = Annotated[str | None, typer.Option(help="Only one data set; see `btoks eval list`.")]
Revision = Annotated[str, typer.Option(help="fixed, or 2.0 with the page labels and rows before their fix.")]
Partial = Annotated[bool, typer.Option("--partial", help="Also give means over incomplete groups.")]


@group.command("mmeb-v2")
def mmeb_v2(
    ctx: typer.Context,
    *,
    model: Model = MODEL,
    modality: Modality = None,
    task: MetaTask = None,
    dataset: Dataset = None,
    data: Annotated[
        Path | None, typer.Option(help="A local folder of the hub's layout.", show_default="the hub")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for results and rankings.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where embeddings are kept.", show_default="btoks' cache")] = None,
    revision: Revision = "fixed",
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video.")] = 8,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a batch.")] = 16_384,
    any_counts: Annotated[
        bool, typer.Option("--any-counts", help="Go on with data other than the benchmark's; marked unofficial.")
    ] = False,
    partial: Partial = False,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Evaluate on MMEB-V2, or on part of it. Example: btoks eval mmeb-v2 --task V-MR --out results

    A run that was stopped goes on where it was. Several processes share the work: torchrun -m btoks eval mmeb-v2 …
    """
    from btoks.evaluation import processes
    from btoks.evaluation.mmeb.registry import select

    rows = select(modality=modality, task=task, dataset=dataset, revision=revision)
    if data is not None and not data.is_dir():
        raise BtoksError(str(data), "not a folder", "pass the folder that holds the benchmark's data")
    with processes.joined() as own:
        loaded = opened(ctx, model, device or own)
        options = {"revision": revision, "frames": frames, "any_counts": any_counts}
        report = _run(loaded, rows, data, out, cache, options, name=model, batch_tokens=batch_tokens)
        if processes.rank() == 0:
            _show(report, partial=partial, as_json=as_json)
    if report.failed:
        raise typer.Exit(1)


@group.command("list")
def list_(
    *,
    modality: Modality = None,
    task: MetaTask = None,
    dataset: Dataset = None,
    revision: Revision = "fixed",
    as_json: Json = False,
) -> None:
    """Show the data sets of MMEB-V2. Example: btoks eval list --modality video"""
    from btoks.evaluation.mmeb.registry import select

    columns = ("name", "modality", "meta_task", "group", "metric", "queries", "corpus", "format", "repo")
    found = select(modality=modality, task=task, dataset=dataset, revision=revision)
    rows = [{column: getattr(row, column) for column in columns} for row in found]
    if as_json:
        for row in rows:
            emit(row)
    else:
        table([column.replace("_", "-") for column in columns], (row.values() for row in rows))


@group.command("aggregate")
def aggregate_(
    files: Annotated[list[Path], typer.Argument(help="A run's folder, its score files, or a leaderboard file.")],
    *,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Bring one model's scores together as the leaderboard does. Example: btoks eval aggregate results"""
    from btoks.evaluation.aggregate import aggregate, read

    scores = read(files)
    found = aggregate(scores.dataset, partial=partial)
    for note in _notes(scores, found):
        typer.echo(note, err=True)
    if as_json:
        emit(found.record())
    else:
        _means(found)


@group.command("compare")
def compare_(
    models: Annotated[list[Path], typer.Argument(help="A run's folder or a leaderboard file a model.")],
    *,
    form: Annotated[str, typer.Option("--format", help="md, json, csv or html (with the plot).")] = "md",
    plot: Annotated[Path | None, typer.Option(help="Also write the bars per meta-task, as an SVG picture.")] = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Put models side by side, with intervals where rankings are there. Example: btoks eval compare A B"""
    from btoks.evaluation import rendering
    from btoks.evaluation.aggregate import read
    from btoks.evaluation.compare import compare

    form = "json" if as_json else form
    if form not in rendering.FORMS:
        raise BtoksError(f"format {form!r}", "there is none", did_you_mean(form, rendering.FORMS))
    found = [read([each]) for each in models]
    names = _names(models, found)
    lines = compare(found, partial=partial)
    if plot is not None:
        plot.write_text(rendering.bars(names, lines), encoding="utf-8")
    typer.echo(rendering.shown(names, lines, form), nl=False)


def _run(
    model: Any,
    rows: "list[Row]",
    data: Path | None,
    out: Path | None,
    cache: Path | None,
    options: dict[str, Any],
    *,
    name: str,
    batch_tokens: int,
) -> "Report":
    from btoks.convert import cache_dir
    from btoks.evaluation import evaluate, processes
    from btoks.evaluation.mmeb.tasks import tasks
    from btoks.evaluation.progress import Progress

    progress = Progress({row.name: row.queries + (row.corpus or row.queries) for row in rows}, share=processes.count())
    with shown(progress) as step:
        return evaluate(
            model,
            _announced(tasks(rows, data=data, **options), progress),
            cache=cache or cache_dir() / "eval",
            out=out,
            name=name,
            max_batch_tokens=batch_tokens,
            on_error="skip",
            step=step,
            done=_told,
            settings={"benchmark": "MMEB-V2", **options, "data": None if data is None else str(data)},
        )


def _announced(found: "Iterator[Task | Unloaded]", progress: "Progress") -> "Iterator[Task | Unloaded]":
    """Tell the progress what each data set really holds."""
    from btoks.evaluation.task import Task

    for task in found:
        count = len(task.queries) + len(task.corpus) if isinstance(task, Task) else 0
        progress.begin(task.name, count)
        yield task


def _told(result: "Result") -> None:
    """One data set's score, its prompts and what is odd about it."""
    from btoks.evaluation import processes

    if processes.rank() == 0:
        lines = [f"{result.name}: {result.metric} {result.score:.4f}"]
        lines += [f"  {side} prompt: {prompt!r}" for side, prompt in result.prompts.items()]
        lines += [f"  warning: {warning}" for warning in result.warnings]
        typer.echo("\n".join(lines), err=True)


def _show(report: "Report", *, partial: bool, as_json: bool) -> None:
    from btoks.evaluation.aggregate import aggregate

    found = aggregate(report.scores(), partial=partial)
    for name, why in report.failed.items():
        typer.echo(f"failed {name}: {why}", err=True)
    if as_json:
        emit({"model": report.model, **found.record(), "failed": report.failed, "seconds": round(report.seconds, 1)})
    else:
        _means(found)


def _means(found: "Aggregate") -> None:
    levels = (found.dataset, found.group, found.meta_task, found.modality, {"all": found.overall})
    rows = [(name, f"{score * 100:.2f}") for level in levels for name, score in level.items() if score is not None]
    table(("", "score"), rows)


def _notes(scores: "Scores", found: "Aggregate") -> Iterator[str]:
    if found.missing:
        yield f"missing {len(found.missing)} of {len(found.missing) + len(found.dataset)}: {', '.join(found.missing)}"
    if scores.unofficial:
        yield f"unofficial, other counts than the benchmark's: {', '.join(scores.unofficial)}"


def _names(paths: list[Path], found: "list[Scores]") -> list[str]:
    """The models' names, or those of their files where they coincide."""
    names = [each.model.partition("@")[0] or path.stem for path, each in zip(paths, found, strict=True)]
    return names if len(set(names)) == len(names) else [path.stem for path in paths]
