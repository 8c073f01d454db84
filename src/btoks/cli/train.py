"""`btoks train`, `btoks data check` and `btoks plot`: runs, what goes into them, and their curves."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btoks.cli.screen import Json, emit, quiet, table

if TYPE_CHECKING:
    from btoks.training.inspect import Finding

data = typer.Typer(help="Look at training data.")
Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped name, such as mini, or a Python file.")]


def train(
    ctx: typer.Context,
    recipe: Recipe,
    *,
    out: Annotated[Path, typer.Option(help="The run's folder; the model comes into OUT/model.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train.", show_default="recipe")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch of all devices.", show_default="recipe")] = None,
    chunk: Annotated[int | None, typer.Option(min=1, help="Rows in memory at once.", show_default="recipe")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.", show_default="recipe")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.", show_default="recipe")] = None,
    save_every: Annotated[int | None, typer.Option(min=1, help="Steps between saves.", show_default="recipe")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew instead of going on.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model by a recipe. Example: btoks train mini --out runs/mini

    The same command goes on where a killed run stopped; Ctrl-C saves first. Several devices: put torchrun -m before it.
    """
    quiet(ctx)
    from btoks.training.recipe import opened
    from btoks.training.run import train as run

    chosen = opened(recipe, steps=steps, batch=batch, chunk=chunk, lr=lr, seed=seed, save_every=save_every)
    model = run(chosen, out=out, restart=restart)
    if int(os.environ.get("RANK", "0")) == 0:
        if as_json:
            emit({"model": str(model), "metrics": str(out / "metrics.jsonl")})
        else:
            typer.echo(f"{model} written; look at it with `btoks info {model}`")


@data.callback()
def _group() -> None:
    """Keep `check` a command of the group."""


@data.command()
def check(
    ctx: typer.Context,
    recipe: Recipe,
    *,
    rows: Annotated[int, typer.Option(min=1, help="Rows to open of every data set.")] = 20,
    as_json: Json = False,
) -> None:
    """Open a sample of every data set and tell what is in it, and what is wrong. Example: btoks data check mini

    The exit status is 1 if there is any problem.
    """
    quiet(ctx)
    from btoks.training.build import build
    from btoks.training.inspect import inspect
    from btoks.training.recipe import first, opened

    chosen = opened(recipe)
    findings = inspect(chosen, build(first(chosen)), rows)
    for each in findings:
        if as_json:
            emit(vars(each))
        else:
            _show(each)
    if any(each.problems for each in findings):
        raise typer.Exit(1)


def plot(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    *,
    out: Annotated[Path | None, typer.Option(help="A .png or .svg file.", show_default="RUN/curves.png")] = None,
    as_json: Json = False,
) -> None:
    """Draw the curves of a run. Example: btoks plot runs/mini"""
    from btoks.training.plot import plot as draw

    drawn = draw(run, out)
    if as_json:
        emit({"out": str(drawn)})
    else:
        typer.echo(str(drawn))


def _show(finding: "Finding") -> None:
    typer.echo(f"{finding.name}: {finding.rows} rows, {finding.share:.1%} of the batches, side {finding.side}")
    lengths = {"query": finding.query_tokens, "positive": finding.document_tokens}
    table(
        ("", "sampled", "tokens: least, median, most"),
        (
            (column, finding.sizes.get(column), ", ".join(map(str, spread)) if spread else None)
            for column, spread in lengths.items()
        ),
    )
    for prompt in finding.prompts:
        for column in lengths:
            typer.echo(f"  {prompt['id']} {column}: {prompt.get(column, '')!r}")
    for problem in finding.problems:
        typer.echo(f"  problem: {problem}")
    typer.echo("")
