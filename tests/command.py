"""The command line run in this process."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging

from btoks.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The only line on stderr."""
        (line,) = self.err.splitlines()
        return line

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class _Stdin(io.TextIOWrapper):
    """Bytes that were piped in, or a terminal on which nothing is typed."""

    def __init__(self, piped: bytes | None) -> None:
        super().__init__(io.BytesIO(piped or b""))
        self.terminal = piped is None

    def isatty(self) -> bool:
        return self.terminal


def run(*argv: object, stdin: bytes | None = b"") -> Ran:
    """Run a command as the console script does; what it silences is loud again afterwards. stdin=None is a terminal."""
    out, err = io.StringIO(), io.StringIO()
    verbosity, bars_off = logging.get_verbosity(), are_progress_bars_disabled()
    try:
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "stdin", _Stdin(stdin)),
            patch.dict(os.environ),
        ):
            status = main([str(each) for each in argv])
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
        (disable_progress_bars if bars_off else enable_progress_bars)()
    return Ran(status, out.getvalue(), err.getvalue())
