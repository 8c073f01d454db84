"""`btoks eval mini`: a model and what it must beat, on data that come along."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btoks.cli.progress import shown
from btoks.cli.screen import MODEL, Device, Json, Model, emit, opened, table
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.evaluation.mini import Table


def mini(
    ctx: typer.Context,
    *,
    model: Model = MODEL,
    data: Annotated[
        Path | None, typer.Option(help="A folder of such data, all of it.", show_default="what comes along")
    ] = None,
    split: Annotated[str, typer.Option(help="The records' split; what comes along is all test.")] = "test",
    no_layers: Annotated[bool, typer.Option("--no-layers", help="Show pages as pictures alone, without text.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for results and rankings.")] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Evaluate on the mini benchmark beside its baselines. Example: btoks eval mini --out results

    Scores are hit@1, for pages nDCG@5, times 100; every data set counts the same.
    """
    if data is not None and not data.is_dir():
        raise BtoksError(str(data), "not a folder", "pass the folder that holds the data sets")
    loaded = opened(ctx, model, device)
    from btoks.evaluation.mini import Bench, measure
    from btoks.evaluation.progress import Progress

    bench = Bench.of(data, split, layers=not no_layers)
    progress = Progress(bench.passes())
    with shown(progress) as step:
        found = measure(loaded, bench, out=out, name=Path(model).name, begin=progress.begin, step=step)
    if as_json:
        emit(found.record())
    else:
        _show(found)


def _show(found: "Table") -> None:
    """The table, best read from below."""
    columns = list(found.lines[0].scores)
    table(
        ("", "queries", *columns),
        (
            (line.name, line.queries, *(f"{line.scores[column] * 100:.1f}" for column in columns))
            for line in found.lines
        ),
    )
