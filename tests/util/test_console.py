"""What is shown while a command works, and how an error is reported."""

from __future__ import annotations

import errno
import io

import pytest
import typer
from rich.console import Console

from tzwc.errors import CaptureError, InvalidArgumentError
from tzwc.util import console as terminal


def test_a_line_where_there_is_no_terminal_and_a_spinner_where_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (False, True):
        file = io.StringIO()
        console = Console(file=file, force_terminal=is_terminal, width=80, highlight=False)
        monkeypatch.setattr(terminal, "errors", lambda console=console: console)
        with terminal.working("measuring"):
            pass
        shown = file.getvalue()
        assert (shown == "measuring …\n") is not is_terminal
        assert ("0:00:00" in shown) is is_terminal


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidArgumentError("give a folder"), 2, "error: give a folder\n"),
        (CaptureError("it branches"), 1, "error: it branches\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "run/log.csv"),
            1,
            "error: run/log.csv: No space left on device\n",
        ),
        (OSError("no name"), 1, "error: OSError: no name (--traceback shows where)\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, terminal.reported(trace=False):
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr() == ("", said)


def test_errors_are_raised_on_request() -> None:
    with pytest.raises(CaptureError), terminal.reported(trace=True):
        raise CaptureError("it branches")
