"""What the command line shows while it works: consoles, spinners and error messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["error_line", "errors", "output", "reported", "working"]


class _Errors(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error; rich would end the process, in the middle of what it does."""
        raise


def output() -> Console:
    """The console for results: standard output, as wide as wide tables need when it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def errors() -> Console:
    """The console for progress and error messages: standard error."""
    return _Errors(stderr=True, highlight=False)


def error_line(message: str) -> None:
    """Print ``error: message`` to standard error, if anybody reads it."""
    with suppress(OSError):  # Ctrl-C has ended the ``tee`` behind the pipe, or the terminal is closed
        errors().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show a spinner and the elapsed time while the block runs; where there is no terminal, a line before it."""
    console = errors()
    if not console.is_terminal:
        console.print(f"{description} …")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(description, total=None)
        yield


@contextmanager
def reported(trace: bool) -> Iterator[None]:
    """Turn exceptions into one line and an exit code."""
    from tzwc.errors import InvalidArgumentError

    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        error_line("interrupted")
        raise typer.Exit(130) from None
    except Exception as error:
        if trace:
            raise
        if isinstance(error, InvalidArgumentError):
            error_line(str(error))
            raise typer.Exit(2) from None
        if isinstance(error, OSError) and error.filename is not None:  # somebody's disk, not somebody's mistake
            error_line(f"{error.filename}: {error.strerror}")
            raise typer.Exit(1) from None
        known = type(error).__module__.startswith("tzwc.")
        error_line(str(error) if known else f"{type(error).__name__}: {error} (--traceback shows where)")
        raise typer.Exit(1) from None
