from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from tzwc.cli.compile import largest_difference

Invoke = Callable[..., Result]
WRITTEN = ("compile", "cli_models:Written", "--input", "5x4", "--backend", "eager")


def test_report_and_dump(invoke: Invoke, workspace: Path) -> None:
    result = invoke(*WRITTEN, "--dump", "graphs")
    assert result.exit_code == 0, result.output
    assert "hoist_static" in result.stdout
    assert "Written(float32[5, 4])" in result.stdout
    assert "largest difference from eager" in result.stdout
    assert (workspace / "graphs" / "report.json").is_file()


@pytest.mark.usefixtures("workspace")
def test_json_is_all_there_is_on_standard_output(invoke: Invoke) -> None:
    result = invoke(*WRITTEN, "--json", "--dtype", "float64")
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    assert outcome["inputs"] == ["float64[5, 4]"]
    assert outcome["compiled"] is True
    assert outcome["difference"] < 1e-14
    assert outcome["dump"] is None
    assert outcome["report"]["specialisations"]


@pytest.mark.usefixtures("workspace")
def test_training_and_chosen_passes(invoke: Invoke) -> None:
    result = invoke(*WRITTEN, "--json", "--train", "--passes", "normalize, cse")
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    assert outcome["difference"] is None
    stages = [stage["name"] for stage in outcome["report"]["specialisations"][0]["stages"]]
    assert stages == ["capture", "normalize", "cse"]


@pytest.mark.usefixtures("workspace")
def test_training_has_nothing_to_compare_with(invoke: Invoke) -> None:
    result = invoke(*WRITTEN, "--train")
    assert result.exit_code == 0, result.output
    assert "first call: " in result.stdout
    assert "largest difference" not in result.stdout
    gathered = (
        "compile",
        "cli_models:Gathered",
        "--backend",
        "eager",
        "-i",
        "7:int64",
        "-i",
        "2x3",
        "--train",
        "--json",
    )
    result = invoke(*gathered)  # whose result has no gradients
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["compiled"] is True


@pytest.mark.usefixtures("workspace")
def test_several_inputs(invoke: Invoke) -> None:
    gathered = ("compile", "cli_models:Gathered", "--backend", "eager", "-i", "7:int64", "-i", "2x3")
    result = invoke(*gathered, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["inputs"] == ["int64[7]", "float32[2, 3]"]


@pytest.mark.usefixtures("workspace")
def test_what_cannot_be_captured_is_a_failure(invoke: Invoke) -> None:
    result = invoke("compile", "cli_models:Stubborn", "--input", "4", "--backend", "eager")
    assert result.exit_code == 1
    assert "could not be captured" in result.stderr


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("compile", "digitz"), 2, "did you mean 'digits'"),
        (("compile", "cli_models:Written"), 2, "give the sizes of every input"),
        (("compile", "cli_models:Written", "--input", "5y4"), 2, "expected sizes"),
        (("compile", "cli_models:Written", "--input", "5x4:f"), 2, "dtype 'f' is unknown"),
        (("compile", "cli_models:Written", "--input", "5x4", "--dtype", "int64"), 2, "floating-point"),
        (("compile", "cli_models:Written", "--input", "5x4", "--backend", "inducter"), 2, "inducter"),
        (("compile", "cli_models:Written", "--input", "5x4", "--passes", "csee"), 2, "csee"),
        (("compile", "cli_models:Written", "--input", "5x4", "--convolution", "fast"), 2, "convolution"),
        (("compile", "cli_models:Written", "--input", "5x4", "--dump", "cli_models.py"), 2, "is a file"),
        (("compile", "cli_models:Written", "--input", "5x3"), 1, "the model itself fails, uncompiled"),
        (("compile", "digits", "--input", "5x3"), 2, "x has shape"),
        (("compile", "cli_models:broken"), 1, "RuntimeError: no such file"),
        (("compile",), 2, "Missing argument"),
        (("compile", "digits", "--frobnicate"), 2, "No such option"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_errors(invoke: Invoke, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not result.stdout


@pytest.mark.usefixtures("workspace")
def test_traceback_on_request(invoke: Invoke) -> None:
    result = invoke("compile", "cli_models:broken", "--traceback")
    assert result.exit_code == 1
    assert isinstance(result.exception.__cause__ if result.exception else None, RuntimeError)


def test_difference_is_relative_to_the_largest_value() -> None:
    nan, inf = float("nan"), float("inf")
    expected = torch.tensor([1.0, 100.0, nan, inf])
    assert largest_difference(expected, expected.clone()) == 0.0
    assert largest_difference(expected + torch.tensor([1.0, 0, 0, 0]), expected) == pytest.approx(0.01)
    assert largest_difference([torch.zeros(2)], [torch.zeros(2)]) == 0.0
    mixed = [torch.ones(2), torch.zeros(0), 3, "text"]
    assert largest_difference([torch.full((2,), 1.5), *mixed[1:]], mixed) == 0.5
