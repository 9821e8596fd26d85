"""The command ``windlass``.

Result on stdout, talk on stderr. Exit codes: 0 success, 1 a failed job or an expected error, 2 wrong usage, 130 Ctrl-C.
Typer and Rich (the extra ``cli``) are loaded only when a command line needs them, the SDK only when a command does.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Any, Optional, Sequence, Union

_OK, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130


def main(argv: "Optional[Sequence[str]]" = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(given: "Sequence[str]") -> int:
    if list(given) == ["--version"]:
        import windlass

        sys.stdout.write("windlass %s\n" % windlass.__version__)
        return _OK
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write("windlass: the command line needs typer and rich: pip install 'windlass-sdk[cli]'\n")
        return _USAGE
    return _dispatch(given)


def _dispatch(given: "Sequence[str]") -> int:
    from windlass.cli.app import app
    from windlass.errors import AzureMLException

    if sys.stdout is None:  # closed by the shell (`>&-`): there is nobody to write to
        sys.stdout = io.open(os.devnull, "w")  # `open` alone is the module of the command of that name
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character still shows the rest
            stream.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warned
            app(args=list(given), prog_name="windlass")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else _OK
    except AzureMLException as problem:
        return _refused(problem.message)
    except BrokenPipeError:
        raise
    except FileNotFoundError as problem:
        if problem.filename is None:
            return _refused("The current folder is gone. Change to one that exists.")
        return _refused(str(problem))
    except OSError as problem:
        return _refused(str(problem))
    return _OK


def _warned(message: "Union[Warning, str]", *place: Any, **options: Any) -> None:
    """Say a warning of the SDK without the line of code, which is no user's here."""
    from windlass.cli._show import say

    say("windlass: %s" % message)


def _refused(message: str) -> int:
    from windlass.cli._show import say

    say("windlass: " + message)
    return _FAILED


def _reader_left() -> int:
    """Whoever read our output has gone (``| head``): end quietly, also when Python flushes at exit; Typer's code."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    return _FAILED
