"""``torch.compile(model, backend="tzwc")``: equal to eager, through everything that Dynamo does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.dynamo_testing import close, compiled_graphs, gradients, hyper, remarks, through_dynamo
from tests.support.programs import HyperConv, WithBuffers, example

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


# --- equality -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["eager", "aot_eager"])
def test_inference_and_training_equal_eager(inner: str) -> None:
    model = hyper()
    fast = through_dynamo(model, inner, fullgraph=True)
    with torch.no_grad():
        close(fast(example()), model(example()))
    model.train()
    for found, expected in zip(gradients(model, fast, example()), gradients(model, model, example()), strict=True):
        close(found, expected)
    assert remarks() == []
    assert [graph.grad for graph in compiled_graphs()] == [False, True]


def test_inference_mode() -> None:
    model = hyper()
    fast = through_dynamo(model)
    with torch.inference_mode():
        for _ in range(2):
            close(fast(example()), model(example()))
    assert remarks() == []


def _step(model: HyperConv) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(example()).square().sum().backward()
    optimiser.step()


def _copy(model: HyperConv) -> None:
    with torch.no_grad():
        model.slow[0].weight.copy_(model.slow[0].weight * 1.5)


def _load(model: HyperConv) -> None:
    model.load_state_dict({name: 0.5 * value for name, value in model.state_dict().items()})


def _data(model: HyperConv) -> None:
    model.slow[0].weight.data.mul_(2)


def _replace(model: HyperConv) -> None:
    model.slow[0].weight = nn.Parameter(model.slow[0].weight.detach() + 1)


@pytest.mark.parametrize("change", [_step, _copy, _load, _data, _replace])
def test_a_change_of_parameters_is_noticed(change: Callable[[HyperConv], None]) -> None:
    model = hyper()
    fast = through_dynamo(model)
    with torch.no_grad():
        before = fast(example())
    change(model)
    with torch.no_grad():
        after, expected = fast(example()), model(example())
    assert not torch.allclose(before, expected)
    close(after, expected)


def test_static_values_are_kept() -> None:
    model = hyper()
    fast = through_dynamo(model)
    with torch.no_grad():
        for _ in range(5):
            fast(example())
        (graph,) = compiled_graphs()
        assert graph.kept is not None
        assert graph.kept.stats.misses == 1
        assert graph.kept.stats.hits == 5  # the first value was made when the graph was compiled
        assert {"slow.0.weight", "grid"} <= {slot.path for slot in graph.retraced.slots}  # type: ignore[union-attr]
        model.enter.weight.mul_(2)  # no kept value depends on it
        fast(example())
        assert graph.kept.stats.misses == 1
        model.slow[0].weight.mul_(2)
        fast(example())
        assert graph.kept.stats.misses == 2


# --- what Dynamo does -------------------------------------------------------------------------------------------------


class Breaks(nn.Module):
    """Two halves with something between them that no graph holds."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.first, self.second = HyperConv(channels=3, size=5), nn.Linear(3, 2)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        if self.between == "print":
            print("in the middle")
        elif hidden.sum() > 0:
            hidden = -hidden
        out: Tensor = self.second(hidden)
        return out


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo looks at it
@pytest.mark.parametrize("between", ["print", "branch"])
def test_graph_breaks(between: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = Breaks(between).double()
    fast = through_dynamo(model)
    x = torch.randn(4, 3, 9, dtype=torch.float64)
    for found, expected in zip(gradients(model, fast, x), gradients(model, model, x), strict=True):
        close(found, expected)
    with torch.no_grad():
        close(fast(x), model(x))
    assert capsys.readouterr().out.count("in the middle") == (4 if between == "print" else 0)
    assert len(compiled_graphs()) >= 4  # two halves, with gradients and without
    assert remarks() == []


@pytest.mark.parametrize("dynamic", [None, True, "marked"])
@pytest.mark.parametrize("training", [False, True])
def test_dynamic_batches_need_few_graphs(dynamic: Any, training: bool) -> None:
    model = hyper()
    fast = through_dynamo(model, dynamic=None if dynamic == "marked" else dynamic)
    for batch in (2, 3, 5, 7):
        x = example(batch)
        if dynamic == "marked":
            torch._dynamo.mark_dynamic(x, 0)
        with torch.set_grad_enabled(training):
            close(fast(x), model(x))
    assert len(compiled_graphs()) == (2 if dynamic is None else 1)
    assert remarks() == []


class SizesAsNumbers(nn.Module):
    """Computes with sizes, and with an integer argument that changes from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, count: int, *, scale: float = 1.0) -> tuple[Tensor, int]:
        ramp = torch.arange(count, dtype=x.dtype) / x.shape[0]
        return self.fc(x).unsqueeze(-1) * ramp * scale, x.shape[0] * count


def test_symbolic_numbers_as_arguments_and_results() -> None:
    model = SizesAsNumbers().double()
    fast = through_dynamo(model)
    for batch, count in ((2, 3), (3, 5), (5, 4), (7, 6)):
        x = torch.randn(batch, 4, dtype=torch.float64)
        (found, number), (expected, right) = fast(x, count), model(x, count)
        close(found, expected)
        assert number == right
    assert len(compiled_graphs()) <= 3
    assert remarks() == []


def test_a_float_that_changes() -> None:
    model = SizesAsNumbers().double()
    fast = through_dynamo(model)
    for scale in (1.0, 2.5, 3.5):
        x = torch.randn(3, 4, dtype=torch.float64)
        close(fast(x, 4, scale=scale)[0], model(x, 4, scale=scale)[0])
    assert len(compiled_graphs()) == 2
    assert remarks() == []


def test_keywords_dictionaries_buffers_and_dropout() -> None:
    torch.manual_seed(0)
    model = WithBuffers().double()
    twin = copy.deepcopy(model)
    fast, reference = through_dynamo(model), torch.compile(twin, backend="eager")
    for training in (True, False):
        model.train(training)
        twin.train(training)
        for batch in (4, 6):
            x = torch.randn(batch, 4, dtype=torch.float64)
            torch.manual_seed(1)
            found = fast({"x": x}, double=True)
            torch.manual_seed(1)
            expected = reference({"x": x}, double=True)
            assert found.keys() == expected.keys()
            assert found["width"] == expected["width"]
            close(found["hidden"], expected["hidden"])
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b)
    assert remarks() == []


def test_autocast() -> None:
    model = hyper().float()
    fast = through_dynamo(model)
    x = example().float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = fast(x), model(x)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)  # bfloat16 keeps 8 bits
    assert remarks() == []


class NoGradWrite(nn.Module):
    """Writes to a parameter in a region without gradients, and uses it outside."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.fc.weight.mul_(0.7)
        return torch.tanh(self.fc(x))


def test_a_parameter_that_is_written_to_gets_its_gradient() -> None:
    model = NoGradWrite().double()
    twin = copy.deepcopy(model)
    x = torch.randn(3, 5, dtype=torch.float64)
    found, expected = gradients(model, through_dynamo(model), x), gradients(twin, twin, x)
    for a, b in zip([*found, *model.parameters()], [*expected, *twin.parameters()], strict=True):
        close(a, b)


def test_checkpoints_are_traced_into() -> None:
    from torch.utils.checkpoint import checkpoint

    inner = hyper()

    def run(x: Tensor) -> Tensor:
        out: Tensor = checkpoint(inner, x, use_reentrant=False)
        return out

    for found, expected in zip(
        gradients(inner, through_dynamo(run), example()), gradients(inner, run, example()), strict=True
    ):
        close(found, expected)
    assert remarks() == []


# --- several models ---------------------------------------------------------------------------------------------------


def test_copies_of_a_model_do_not_share_kept_values() -> None:
    model = hyper()
    fast = through_dynamo(model)
    with torch.no_grad():
        fast(example())
        twin = copy.deepcopy(fast)
        twin.slow[0].weight.mul_(2)
        for _ in range(3):
            close(fast(example()), model(example()))
            close(twin(example()), twin._orig_mod(example()))
    graphs = [graph for graph in compiled_graphs() if graph.calls]
    assert sum(graph.kept.stats.misses for graph in graphs if graph.kept) == 2  # once for each set of parameters


def test_two_models_that_share_weights() -> None:
    model, other = hyper(), hyper()
    other.slow = model.slow
    first, second = through_dynamo(model), through_dynamo(other)
    with torch.no_grad():
        for _ in range(2):
            close(first(example()), model(example()))
            close(second(example()), other(example()))
            model.slow[2].bias.add_(1)


def test_values_of_a_model_that_is_gone_are_dropped_with_the_next_one() -> None:
    fast = through_dynamo(lambda model, x: model(x))
    with torch.no_grad():
        for _ in range(4):
            model = hyper()
            close(fast(model, example()), model(example()))
    (graph,) = compiled_graphs()
    assert graph.kept is not None
    assert len(graph.kept._sets) <= 2
