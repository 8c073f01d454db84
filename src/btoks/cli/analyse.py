"""`btoks analyse`: looks into a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btoks.cli.screen import MODEL, Device, Json, emit, opened, table, tell
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.evaluation.collapse import Point

group = typer.Typer(help="Look into a model.", no_args_is_help=True)


@group.callback()
def root() -> None:
    """Look into a model."""


@group.command("length-collapse")
def length_collapse(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A model folder or a hub id.")] = MODEL,
    *,
    out: Annotated[Path | None, typer.Option(help="Also draw the curves, as PNG or SVG.")] = None,
    lengths: Annotated[str, typer.Option(help="Tokens of the texts, with commas.")] = "16,32,64,128,256,512",
    temperature: Annotated[str, typer.Option(help="Temperatures of attention, with commas.")] = "1.0,0.7",
    texts: Annotated[int, typer.Option(min=2, help="Texts a length.")] = 16,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure whether long texts come to look alike. Example: btoks analyse length-collapse --out collapse.png

    Mean cosine of pairs of texts of each length, and over the layers the entropy of attention and the energy of a
    text's states about their mean. Pooling tempscale counters what is found.
    """
    numbers = [int(each) for each in _numbers("--lengths", lengths)]
    temperatures = _numbers("--temperature", temperature)
    loaded = opened(ctx, model, device)
    from btoks.evaluation.collapse import canvas, measure, plot

    if out is not None:
        canvas(out)  # refuses before anything is measured
    points = measure(
        loaded,
        lengths=numbers,
        temperatures=temperatures,
        texts=texts,
        done=lambda point: tell(f"τ {point.temperature:g}, {point.length} tokens: cosine {point.cosine:.3f}"),
    )
    if out is not None:
        plot(points, out)
    if as_json:
        for point in points:
            emit(vars(point))
    else:
        _show(points)


def _numbers(option: str, given: str) -> list[float]:
    try:
        return [float(each) for each in given.split(",")]
    except ValueError as error:
        raise BtoksError(f"{option} {given}", "not numbers", "give them with commas") from error


def _show(points: "list[Point]") -> None:
    """A row a temperature and length; then how steeply each temperature's cosine rises."""
    from btoks.evaluation.collapse import slope

    columns = ("τ", "tokens", "cosine", "entropy, first and last layer", "high/low energy, first and last layer")
    rows = (
        (f"{each.temperature:g}", each.length, f"{each.cosine:.4f}", _ends(each.entropy), _ends(each.energy))
        for each in points
    )
    table(columns, rows)
    for temperature in dict.fromkeys(each.temperature for each in points):
        own = [each for each in points if each.temperature == temperature]
        typer.echo(f"τ {temperature:g}: the cosine rises by {slope(own):+.4f} with each doubling of the length")


def _ends(values: list[float]) -> str:
    return f"{values[0]:.3g} … {values[-1]:.3g}"
