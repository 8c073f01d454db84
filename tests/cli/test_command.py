"""The command as a whole: help, errors, exit status."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import btoks
from btoks.cli import screen
from command import run
from items import python

if TYPE_CHECKING:
    pass

PATHS = os.pathsep.join(filter(None, sys.path))


def seconds_of_cpu(*argv: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": PATHS})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_quick():
    """Processor seconds beside those of one import of numpy, so that neither a busy nor a slow machine matters."""
    numpy = min(seconds_of_cpu("-c", "import numpy") for _ in range(3))
    assert min(seconds_of_cpu("-m", "btoks", "--help") for _ in range(3)) < 2.5 * numpy


def test_help_loads_nothing_heavy():
    heavy = ("torch", "transformers", "sentence_transformers", "numpy", "av", "pyarrow", "pypdfium2")
    code = f"import sys; from btoks.cli import main; main(['--help']); print([x for x in {heavy} if x in sys.modules])"
    assert python(code).stdout.splitlines()[-1] == "[]"


def test_help_names_every_command_with_an_example():
    shown = run("--help")
    assert shown.status == 0
    for name in ("demo", "embed", "read", "attach", "convert", "info", "doctor", "methods"):
        assert f"Example: btoks {name}" in " ".join(shown.out.replace("│", " ").split()), name
    assert run().out.split() == shown.out.split()


def test_version():
    assert run("--version").out == f"btoks {btoks.__version__}\n"


def test_module_runs_as_the_command():
    done = python(
        "import runpy, sys; sys.argv = ['btoks', '--version']; runpy.run_module('btoks', run_name='__main__')"
    )
    assert (done.returncode, done.stdout) == (0, f"btoks {btoks.__version__}\n")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["embed", "--modle", "x"], "--model"),
        (["embd"], "embed"),
        (["info"], "Missing argument"),
        (["embed", "a.txt", "--batch-tokens", "0"], "batch-tokens"),
        (["embed", "a.txt", "--on-error", "ignore"], "skip"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint(argv: list[str], told: str):
    ran = run(*argv)
    assert ran.status == 2
    assert told in ran.line
    assert "--help" in ran.err
    assert not ran.out


def test_errors_are_one_line_unless_debugged(monkeypatch: pytest.MonkeyPatch):
    ran = run("methods", "--family", "poolng")
    assert (ran.status, ran.line) == (
        1,
        "btoks: method family 'poolng': there is none; did you mean 'pooling'?",
    )
    for argv in (["--debug", "methods"], ["methods", "--debug"]):
        debugged = run(*argv, "--family", "poolng")
        assert debugged.status == 1
        assert "Traceback" in debugged.err
    monkeypatch.setenv("BTOKS_DEBUG", "1")
    assert "Traceback" in run("methods", "--family", "poolng").err


def test_unexpected_errors_say_how_to_see_more(monkeypatch: pytest.MonkeyPatch):
    def broken(_: object) -> None:
        raise KeyError("of\nsome kind")

    monkeypatch.setattr("btoks.methods.cards", broken)
    ran = run("methods")
    assert ran.status == 1
    assert ran.line == r"btoks: KeyError: 'of\nsome kind' (use --debug for the traceback)"
    assert "in broken" in run("methods", "--debug").err


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("btoks.methods.cards", interrupted)
    ran = run("methods")
    assert (ran.status, ran.err) == (130, "btoks: interrupted\n")


SAYS = "import sys; from btoks.cli import app, main; app.command('say')(lambda: print('x')); sys.exit(main(['say']))"


@pytest.mark.parametrize("command", [["-m", "btoks", "--version"], ["-c", SAYS]], ids=["flushed", "buffered"])
def test_broken_pipe_is_quiet(command: list[str]):
    env = {**os.environ, "PYTHONPATH": PATHS}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=pipe, env=env) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (1, b"")


def test_progress_is_plain_lines_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(screen, "_EVERY", 0)
    with screen.counter("embedded") as step:
        step()
        step()
    assert capsys.readouterr().err == "1 embedded\n2 embedded\n"


def test_progress_is_a_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with screen.counter("embedded") as step:
        step()
        step()
    assert "2 embedded" in sys.stderr.getvalue()
    assert "\r" in sys.stderr.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
