"""`btoks eval long`: how far a model reads, and what lets it read further."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli.screen import MODEL, Device, Json, emit, opened, table, tell
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.evaluation.long import Line


def long(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A model folder or a hub id.")] = MODEL,
    *,
    lengths: Annotated[str, typer.Option(help="Tokens of the texts, with commas.")] = "256,512,1024",
    window: Annotated[
        int | None, typer.Option(min=2, help="Tokens the model was trained on.", show_default="its configuration's")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only passkey or needle.")] = None,
    policy: Annotated[str | None, typer.Option(help="Only these, with commas, such as cut,ntk.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Questions a length.")] = 50,
    candidates: Annotated[int, typer.Option(min=1, help="Texts a length.")] = 100,
    seed: Annotated[int, typer.Option(help="Which texts.")] = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Find facts in long texts, by each position policy. Example: btoks eval long --lengths 256,512 --window 64

    Scores are hit@1 times 100: over all questions, and over those whose fact begins past the window.
    """
    numbers = _numbers(lengths)
    loaded = opened(ctx, model, device)
    from btoks.evaluation.long import TASKS, measure, policies

    chosen = policies() if policy is None else tuple(policy.split(","))
    wanted: Any = {"lengths": numbers, "window": window, "queries": queries, "candidates": candidates, "seed": seed}
    tasks = TASKS if task is None else (task,)
    lines = measure(loaded, tasks=tasks, chosen=chosen, done=_told, **wanted)
    if as_json:
        for line in lines:
            emit(vars(line))
    else:
        _show(lines, chosen)


def _told(line: "Line") -> None:
    tell(f"{line.task} {line.length} {line.policy}: {line.accuracy:.2f}, {line.seconds:.1f} s")


def _numbers(given: str) -> tuple[int, ...]:
    try:
        found = tuple(int(each) for each in given.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise BtoksError(f"--lengths {given}", "not numbers of tokens", "give them with commas, such as 256,512")
    return found


def _show(lines: "list[Line]", chosen: tuple[str, ...]) -> None:
    """A row a length for all questions, and one for those past the window; a column a policy."""
    cells = {(each.task, each.length, each.policy): each for each in lines}
    rows: list[tuple[str, ...]] = []
    for task, length in dict.fromkeys((each.task, each.length) for each in lines):
        found = [cells[task, length, policy] for policy in chosen]
        rows.append((task, str(length), "all", *(f"{each.accuracy * 100:.0f}" for each in found)))
        if found[0].beyond is not None:
            past = [0.0 if each.beyond is None else each.beyond for each in found]
            rows.append((task, str(length), "past the window", *(f"{each * 100:.0f}" for each in past)))
    table(("", "tokens", "facts", *chosen), rows)
