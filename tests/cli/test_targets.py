from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.models import Terminator, terminator
from tzwc.targets import InputSpec, default_inputs, parse_dtype, resolve


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("16x3x32x32", (16, 3, 32, 32), None),
        ("8", (8,), None),
        ("8x128:int64", (8, 128), torch.int64),
        ("2x2:bool", (2, 2), torch.bool),
    ],
)
def test_input_is_read_and_printed(text: str, shape: tuple[int, ...], dtype: torch.dtype | None) -> None:
    spec = InputSpec.parse(text)
    assert (spec.shape, spec.dtype) == (shape, dtype)
    assert str(spec) == text


@pytest.mark.parametrize("text", ["", "x", "16x", "x16", "16X3", "16x0", "-1", "16,3", "16x3:", "3 x 3", "1.5"])
def test_malformed_input_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected sizes"):
        InputSpec.parse(text)


def test_unknown_dtype_gives_the_choices() -> None:
    with pytest.raises(InvalidArgumentError, match=r"float32.*did you mean 'float32'"):
        parse_dtype("flot32")


def test_made_inputs_follow_the_model_unless_they_say() -> None:
    def make(text: str) -> torch.Tensor:
        return InputSpec.parse(text).make(torch.float64, torch.Generator().manual_seed(0))

    assert make("2x3").dtype == torch.float64
    assert make("2x3:float32").dtype == torch.float32
    assert set(make("50:int64").tolist()) == {0, 1}
    torch.testing.assert_close(make("2x3"), make("2x3"), rtol=0, atol=0)


def test_preset_and_its_inputs() -> None:
    model = resolve("digits")
    assert isinstance(model, Terminator)
    assert default_inputs(model) == [InputSpec((16, 1, 8, 8))]
    assert default_inputs(terminator("smnist")) == [InputSpec((16, 1, 784))]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("name", ["Written", "ready", "Factories.written"])
def test_module_and_factory(name: str) -> None:
    assert type(resolve(f"cli_models:{name}")).__name__ == "Written"


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("digitz", r"digits.*did you mean 'digits'"),
        ("cli_models:", "expected module:factory"),
        (":Written", "expected module:factory"),
        ("cli_modles:Written", "no module 'cli_modles'.*did you mean 'cli_models'"),
        ("cli_models.deeper:x", "no module 'cli_models.deeper'"),
        ("cli_models.py:Written", "give a module, not a file"),
        ("cli_models:Writen", "no attribute 'Writen'.*did you mean 'Written'"),
        ("cli_models:number", "gives a int: expected a torch.nn.Module"),
        ("cli_models:ready.code", "gives a Parameter"),
    ],
)
def test_what_cannot_be_resolved(target: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        resolve(target)


def test_failures_inside_of_user_code(workspace: Path) -> None:
    (workspace / "cli_needy.py").write_text("import not_installed_at_all")
    (workspace / "cli_wrong.py").write_text("1 / 0")
    with pytest.raises(TzwcError, match="needs 'not_installed_at_all'"):
        resolve("cli_needy:x")
    with pytest.raises(TzwcError, match=r"importing 'cli_wrong' failed \(ZeroDivisionError"):
        resolve("cli_wrong:x")
    with pytest.raises(TzwcError, match=r"could not be called without arguments \(RuntimeError: no such file"):
        resolve("cli_models:broken")


@pytest.mark.usefixtures("workspace")
def test_a_model_of_unknown_sizes_needs_inputs() -> None:
    with pytest.raises(InvalidArgumentError, match="Written does not say what it takes"):
        default_inputs(resolve("cli_models:Written"))
