from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from typer.testing import Result

from tzwc.passes import DEFAULT_PASSES

Invoke = Callable[..., Result]
COMMAND = [sys.executable, "-c", "from tzwc.cli.main import main; main()"]


def test_passes_in_order(invoke: Invoke) -> None:
    result = invoke("passes")
    assert result.exit_code == 0
    positions = [result.stdout.index(f" {step.name} ") for step in DEFAULT_PASSES]
    assert positions == sorted(positions)


def test_passes_as_json(invoke: Invoke) -> None:
    listed = json.loads(invoke("passes", "--json").stdout)
    assert [entry["name"] for entry in listed if entry["default"]] == [step.name for step in DEFAULT_PASSES]
    assert all(entry["summary"] for entry in listed)


def test_version_and_help(invoke: Invoke) -> None:
    assert invoke("--version").stdout.startswith("tzwc ")
    for arguments in (["--help"], ["compile", "-h"], ["demo", "--help"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "Usage" in result.stdout
    assert invoke().exit_code == 2


def test_a_closed_pipe_is_no_error() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, "passes", "--json"], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_console_script_reports_usage_errors() -> None:
    result = subprocess.run([*COMMAND, "compile", "digitz"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: preset 'digitz' is unknown")
    assert result.stdout == ""
