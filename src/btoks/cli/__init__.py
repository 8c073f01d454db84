"""The command `btoks`: one file a command group, each parses, calls the library and prints.

Nothing heavy is imported before a command runs. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import btoks
from btoks.cli import (
    analyse,
    ask,
    demo,
    embed,
    index,
    library,
    mcp,
    methods,
    models,
    read,
    reindex,
    search,
    serve,
    tradeoff,
    train,
)
from btoks.cli import eval as evaluation
from btoks.cli.screen import Session
from btoks.errors import BtoksError

app = typer.Typer(
    help="Find things across text, images, videos and document pages, and read back what was found.",
    epilog="Start with: btoks demo. Help on one command: btoks embed --help",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
_USE, _MODELS, _TRAIN, _START = "Use a model", "Make and inspect models", "Train a model", "Start here"
app.command(rich_help_panel=_START)(demo.demo)
app.command(rich_help_panel=_USE)(index.index)
app.command(rich_help_panel=_USE)(search.search)
app.command(rich_help_panel=_USE)(reindex.reindex)
app.command(rich_help_panel=_USE)(ask.ask)
app.add_typer(library.group, name="library", rich_help_panel=_USE)
app.command(rich_help_panel=_USE)(serve.serve)
app.command(rich_help_panel=_USE)(mcp.mcp)
app.command(rich_help_panel=_USE)(embed.embed)
app.command(rich_help_panel=_USE)(read.read)
app.command(rich_help_panel=_MODELS)(models.attach)
app.command(rich_help_panel=_MODELS)(models.convert)
app.command(rich_help_panel=_MODELS)(models.info)
app.command(rich_help_panel=_MODELS)(models.doctor)
app.command(rich_help_panel=_MODELS)(methods.methods)
app.command(rich_help_panel=_USE)(tradeoff.tradeoff)
app.add_typer(evaluation.group, name="eval", rich_help_panel=_MODELS)
app.add_typer(analyse.group, name="analyse", rich_help_panel=_MODELS)
app.command(rich_help_panel=_TRAIN)(train.train)
app.add_typer(train.data, name="data", rich_help_panel=_TRAIN)
app.command(rich_help_panel=_TRAIN)(train.plot)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"btoks {btoks.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    *,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="BTOKS_DEBUG", help="Show tracebacks and the libraries' own messages.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the global options; a bare `btoks` shows the help."""
    del version  # its callback has answered
    ctx.obj.debug = debug
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), nl=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    >>> main(["--version"])
    btoks 0.1.0
    0
    """
    # Threads that wait by spinning starve one another as soon as another program runs: steps took 8 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    session = Session()
    args = _debug_first(list(sys.argv[1:] if argv is None else argv))
    try:
        status = typer.main.get_command(app).main(args=args, prog_name="btoks", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except BrokenPipeError:
        return _unheard()
    except Exception as error:
        return _failed(error, session)
    except (KeyboardInterrupt, SystemExit) as stopped:
        status = stopped.code if isinstance(stopped, SystemExit) else 130
    if status == 130:
        typer.echo("btoks: interrupted", err=True)
    return status if isinstance(status, int) else 0


def _debug_first(args: list[str]) -> list[str]:
    """`--debug` is taken wherever it stands before a `--`."""
    end = args.index("--") if "--" in args else len(args)
    rest = [each for each in args[:end] if each != "--debug"]
    return ["--debug"] * (len(rest) < end) + rest + args[end:]


def _failed(error: Exception, session: Session) -> int:
    """Say in one line what went wrong."""
    if session.debug:
        traceback.print_exception(error)
        return 1
    # The exceptions of wrong usage belong to a library that typer keeps to itself; they know their message and status.
    message = getattr(error, "format_message", None)
    if message is not None:
        ctx = getattr(error, "ctx", None)
        line = f"{message()} (see `{ctx.command_path if ctx else 'btoks'} --help`)"
    elif isinstance(error, BtoksError):
        line = str(error)
    else:
        line = f"{type(error).__name__}: {error} (use --debug for the traceback)"
    typer.echo(f"btoks: {' '.join(line.split())}", err=True)
    return int(getattr(error, "exit_code", 1))


def _unheard() -> int:
    """Whoever read our output has gone: end quietly, also where the interpreter flushes what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
