"""Capture is faithful, keeps parameters live, leaves the module alone, and refuses what a graph cannot express."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import tzwc
from tests.support.faithful import Written
from tests.support.programs import HyperConv, WithBuffers, example
from tzwc.ir.graph import location
from tzwc.tracing.capture import Capture


def run(captured: Capture, *inputs: Tensor) -> tuple[object, ...]:
    return tuple(captured.module(*(slot.fetch() for slot in captured.slots), *inputs))


def test_graph_gives_the_results_of_the_module_at_every_batch_size() -> None:
    model = HyperConv().double()
    captured = tzwc.capture(model, example())
    for batch in (2, 5, 11):
        x = example(batch, seed=batch)
        assert captured.accepts([x.shape])
        assert torch.equal(run(captured, x)[0], model(x))  # type: ignore[arg-type]
    assert not captured.accepts([example(1).shape])
    assert not captured.accepts([example(5, length=17).shape])


def test_slots_follow_replaced_parameters() -> None:
    model = HyperConv().double()
    captured = tzwc.capture(model, example())
    before = run(captured, example())[0]
    model.leave.weight = nn.Parameter(2 * model.leave.weight.detach())
    after = run(captured, example())[0]
    assert torch.equal(after, model(example()))  # type: ignore[arg-type]
    assert not torch.equal(after, before)  # type: ignore[arg-type]


def test_nodes_know_module_and_line() -> None:
    captured = tzwc.capture(HyperConv().double(), example())
    convolution = next(n for n in captured.module.graph.nodes if "conv1d" in n.name and location(n).module_path == "")
    where = location(convolution)
    assert where.file is not None
    assert where.file.endswith("programs.py")
    assert where.code is not None
    assert "F.conv1d" in where.code
    linear = next(n for n in captured.module.graph.nodes if n.name == "linear")
    assert location(linear).module_path == "slow.0"


def test_buffers_dictionaries_and_constants() -> None:
    torch.manual_seed(0)
    model, x = WithBuffers().double(), torch.randn(5, 4, dtype=torch.float64)
    captured = tzwc.capture(model, {"x": x}, double=True)
    assert int(model.calls) == 0  # capturing left no trace
    attribute = next(slot for slot in captured.slots if slot.kind == "attribute")
    assert attribute.path == "table[0]"
    torch.manual_seed(1)
    found = torch.utils._pytree.tree_unflatten(run(captured, x), captured.out_spec)
    assert int(model.calls) == 1
    statistics = [b.clone() for b in model.buffers()]
    for buffer in model.buffers():
        buffer.zero_()
    model.net[1].running_var.fill_(1.0)
    torch.manual_seed(1)
    expected = model({"x": x}, double=True)
    assert torch.equal(found["hidden"], expected["hidden"])
    assert found["width"] == 8
    for a, b in zip(statistics, model.buffers(), strict=True):
        assert torch.equal(a, b)


class _Reads(nn.Module):
    """Does something with a float that a parameter holds."""

    use: Callable[[Tensor, Any], Any]

    def __init__(self, use: Callable[[Tensor, Any], Any]) -> None:
        super().__init__()
        self.use = use
        self.width = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Any:
        return self.use(x, self.width.item())


@pytest.mark.parametrize(
    ("use", "kept", "changed"),
    [
        (lambda x, width: x * 2 if width < 1 else x, 0.9, 1.1),
        (lambda x, width: x * 2 if abs(-width) <= 1 else x, 0.9, -1.1),
        (lambda x, width: x * 2 if width - 0.4 else x, 0.4, 0.5),
        (lambda x, width: x[..., : int(10 * width)], 0.45, 0.51),
        (lambda x, width: x[..., : math.floor(width / 0.1)], 0.45, 0.51),
        (lambda x, width: x[..., : round(1 / width)], 0.41, 0.3),
        (lambda x, width: (x, f"{width:.1f}"), 0.41, 0.3),
        (lambda x, width: x * {0.4: 2}.get(width, 3), 0.4, 0.41),
        (lambda x, width: x * max(width, 0.1), 0.4, 0.41),
        (lambda x, width: x.clone().mul_(width) + width**x, 0.4, 0.41),
        (lambda x, width: x * math.sqrt(width), 0.4, 0.41),
        (lambda x, width: x * torch.tensor([width, 1.0]).sum(), 0.4, 0.41),
        (lambda x, width: x * (width * x.shape[0]), 0.4, 0.41),
        (lambda x, width: (x, [width, isinstance(width, float)]), 0.4, 0.41),
    ],
)
def test_only_what_is_made_of_a_float_is_assumed(
    use: Callable[[Tensor, Any], Any], kept: float, changed: float
) -> None:
    model = _Reads(use)
    captured = tzwc.capture(model, example())
    for found, expected in zip(run(captured, example()), pytree.tree_leaves(model(example())), strict=True):
        assert torch.equal(found, expected) if isinstance(found, Tensor) else found == expected
    (name,) = captured.assumptions.slots
    for width, holds in ((kept, True), (changed, False)):
        violated = captured.assumptions.violated({name: torch.tensor(width, dtype=torch.float64)})
        assert (violated is None) == holds


class _Appends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(1)
        return x + 1


class _PythonRandom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * random.random()


class _Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class _WritesInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


def _on_meta() -> nn.Module:
    return nn.Linear(4, 4, device="meta")


@dataclasses.dataclass
class _Result:
    value: Tensor


class _Subclass(nn.Parameter):
    pass


def _with_subclass() -> nn.Module:
    model = nn.Linear(4, 4)
    model.weight = _Subclass(model.weight.detach())
    return model


def _with_backward_hook() -> nn.Module:
    model = nn.Sequential(nn.ReLU())
    model[0].register_full_backward_hook(lambda *_: None)
    return model


def _written(function: Callable[..., Any], **attributes: Any) -> Callable[[], nn.Module]:
    return lambda: Written(function, **attributes)


# What the program has got hold of before it is traced cannot be intercepted.
_DRAWS = {"python": random.random, "numpy": numpy.random.rand}
_KEPT: list[Tensor] = []


def _branches_on_its_own_result(module: Any, x: Tensor) -> Tensor:
    result = 2 * x if module.last > 0 else x
    module.last = x.sum()
    return result


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_Appends, "length or contents of 'seen'"),
        (_PythonRandom, r"test_capture.py:\d+: .* draws random numbers outside of PyTorch"),
        (_Branches, r"test_capture.py:\d+: .* reads a value that depends on the inputs"),
        (_WritesInput, "writes to the argument"),
        (_on_meta, "meta device"),
        (lambda: nn.LazyLinear(3), "not initialised"),
        (_with_subclass, "'weight' is a _Subclass, a tensor subclass"),
        (_with_backward_hook, "module '0' has backward hooks"),
        (_written(lambda _, x: x, held=random.Random(0)), "'held' holds a Random, whose changes cannot be followed"),
        (_written(lambda _, x: x, held=[numpy.ones(3)]), "'held' holds a ndarray, whose changes cannot be followed"),
        (_written(lambda m, x: m.held[0](x), held=(nn.ReLU(),)), "'held' holds a module that is not registered"),
        (_written(lambda _, x: x * _DRAWS["python"]()), "draws from Python's random module"),
        (_written(lambda _, x: x * _DRAWS["numpy"]()), r"draws from numpy\.random"),
        (_written(lambda _, x: (numpy.random.seed(3), x)[1]), r"draws from numpy\.random"),
        (_written(lambda _, x: (torch.manual_seed(3), x)[1]), "seeds PyTorch's random generator"),
        (_written(lambda _, x: (_KEPT.append(2 * x), x)[1]), "a result is kept outside of the module"),
        (_written(lambda m, x: (_KEPT.append(2 * m.weight), x)[1]), "a value is kept outside of the module"),
        (_written(lambda m, x: (m.held.pop("a"), x)[1], held={"a": 1}), "forward deletes entries of held"),
        (_written(lambda m, x: (setattr(m, "held", "text"), x)[1]), "forward sets 'held' to 'text'"),
        (_written(lambda m, x: (setattr(m, "held", 5), x)[1], held=3), "forward sets the integer 'held'"),
        (_written(lambda m, x: (m.held.update(a=_Result(x)), x)[1], held={}), r"sets 'held\.a' to a dataclass"),
        (
            _written(lambda m, x: (m.held.insert(0, m.held.pop()), x)[1], held=[1, object()]),
            r"sets 'held\[0\]' to a object",
        ),
        (
            _written(_branches_on_its_own_result, last=torch.ones(())),
            "that the call before it computed from its inputs",
        ),
    ],
)
def test_what_a_graph_cannot_express_is_refused(make: Callable[[], nn.Module], reason: str) -> None:
    model = make()
    attributes = dict(model.__dict__)
    generator, arrays, tensors = random.getstate(), numpy.random.get_state()[1], torch.get_rng_state()
    with pytest.raises(tzwc.CaptureError, match=reason):
        tzwc.capture(model, torch.ones(3, 4))
    assert model.__dict__ == attributes
    assert random.getstate() == generator
    assert numpy.array_equal(numpy.random.get_state()[1], arrays)
    assert torch.equal(torch.get_rng_state(), tensors)
    assert torch.autograd.Function.__dict__.get("apply") is not None


def test_further_arguments_have_names_of_their_own() -> None:
    captured = tzwc.capture(Written(lambda _, x, *more: x + sum(more)), *(torch.ones(3, 4) for _ in range(3)))
    assert captured.inputs == ("x", "more", "more_2")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(tzwc.CaptureError, match=r"do not fit Linear\.forward"):
        tzwc.capture(nn.Linear(4, 4), torch.ones(3, 4), 5)
