"""Operators that write to every tensor of a list: captured or refused with the line, and no trace of the attempt."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tzwc.ir.op_schemas import functional_form, writes_to_lists


class Buffers(nn.Module):
    """Writes to its buffers as ``write`` says, and reads them."""

    def __init__(self, write: Callable[[Any, Tensor], object]) -> None:
        super().__init__()
        self.register_buffer("n", torch.full((), 4.0))
        self.register_buffer("h", torch.arange(1.0, 4.0))
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        self.write(self, x)
        return x + self.h + self.n


def _listed() -> Iterator[tuple[str, Callable[[Any, Tensor], object]]]:
    """A call of every in-place operator on lists, with arguments as its schema asks for them."""
    given: dict[str, Callable[[Any], Any]] = {
        "self": lambda m: [m.n, m.h],
        "other": lambda m: [m.n / 2, m.h / 2],
        "exponent": lambda m: [m.n / 4, m.h / 4],
        "tensor1": lambda m: [m.n + 1, m.h + 1],
        "tensor2": lambda m: [m.n + 2, m.h + 2],
        "tensors1": lambda m: [m.n + 1, m.h + 1],
        "weights": lambda m: [m.n / 8, m.h / 8],
        "src": lambda m: [m.n + 1, m.h * 2],
        "scalars": lambda _: [0.5, 0.25],
        "scalar": lambda _: 0.5,
        "weight": lambda _: 0.5,
        "value": lambda _: 0.5,
    }
    for packet_name in dir(torch.ops.aten):
        if not (packet_name.startswith("_foreach_") and packet_name.endswith("_")):
            continue
        packet = getattr(torch.ops.aten, packet_name)
        for overload in packet.overloads():
            operator = getattr(packet, overload)
            required = [a for a in operator._schema.arguments if not a.has_default_value()]

            def argument(module: Any, a: Any, overload: str = overload) -> Any:
                kind = str(a.type)
                if kind == "Tensor":
                    return torch.tensor([0.5, 0.25]) if a.name == "scalars" else torch.tensor(0.5)
                if a.name == "other" and "List" not in kind:
                    return 0.5
                if a.name == "exponent" and overload == "Scalar":
                    return 2.0
                if overload == "ScalarList" and a.name in ("exponent", "weight"):
                    return [2.0, 3.0]
                return given[a.name](module)

            def call(
                module: Any, _: Tensor, operator: Any = operator, required: Any = required, get: Any = argument
            ) -> Any:
                return operator(*(get(module, a) for a in required))

            yield f"{packet_name}.{overload}", call


OPERATORS = dict(_listed())


def same_as_eager(write: Callable[[Any, Tensor], object], **options: Any) -> tzwc.CompiledModule:
    expected, module = Buffers(write), Buffers(write)
    fast = tzwc.compile(module, backend="eager", **options)
    with torch.no_grad():
        for _ in range(3):
            x = torch.ones(3)
            torch.testing.assert_close(fast(x), expected(x), rtol=0, atol=0, equal_nan=True)
            for name, buffer in expected.named_buffers():
                torch.testing.assert_close(module.get_buffer(name), buffer, rtol=0, atol=0, equal_nan=True)
    return fast


def test_there_are_operators_to_try() -> None:
    assert len(OPERATORS) > 60
    assert all(writes_to_lists(getattr(getattr(torch.ops.aten, name), o)) for name, o in map(_split, OPERATORS))


def _split(name: str) -> tuple[str, str]:
    packet, overload = name.rsplit(".", 1)
    return packet, overload


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_on_lists(name: str) -> None:
    assert same_as_eager(OPERATORS[name]).level == "whole graph"


def test_after_one_another_and_beside_ordinary_writes() -> None:
    def write(module: Any, x: Tensor) -> None:
        module.n.add_(1)
        torch._foreach_add_([module.n, module.h], 1.0)
        module.h.mul_(2)
        torch._foreach_mul_([module.h], 0.5)
        torch._foreach_add_([module.h], [x])

    assert same_as_eager(write).level == "whole graph"
    assert same_as_eager(write, verify=False).level == "whole graph"


def test_writes_to_memory_of_the_call_itself() -> None:
    def write(module: Any, x: Tensor) -> None:
        parts = [torch.zeros(3), x * 2]
        torch._foreach_add_(parts, [x, torch.ones(3)])
        module.h.copy_(parts[0] + parts[1])

    assert same_as_eager(write).level == "whole graph"


def test_gradients_flow_through_them() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(1.0, 4.0))

        def forward(self, x: Tensor) -> Tensor:
            parts = [x * self.weight, x + self.weight]
            torch._foreach_mul_(parts, [self.weight, self.weight])
            return parts[0] + parts[1]

    module = Scaled()
    fast = tzwc.compile(copy.deepcopy(module), backend="eager")
    x = torch.randn(3)
    module(x).sum().backward()
    fast(x).sum().backward()
    assert fast.level == "whole graph"
    torch.testing.assert_close(fast.weight.grad, module.weight.grad, rtol=0, atol=0)


@pytest.mark.parametrize("shared", ["twice", "view", "read by another"])
def test_shared_memory_is_refused_with_the_line(shared: str) -> None:
    def write(module: Any, _: Tensor) -> None:
        lists = {"twice": [module.h, module.h], "view": [module.h, module.h[1:]], "read by another": [module.h]}
        if shared == "read by another":
            torch._foreach_add_(lists[shared], [module.h])
        else:
            torch._foreach_mul_(lists[shared], 2.0)

    fast = same_as_eager(write)
    assert fast.level == "untouched"
    assert "test_list_writes.py" in fast.remarks[0].reason
    assert "share memory" in fast.remarks[0].reason


def test_gradients_that_are_unscaled_are_captured() -> None:
    def write(module: Any, _: Tensor) -> None:
        found = torch.zeros(())
        torch._amp_foreach_non_finite_check_and_unscale_([module.h], found, torch.tensor(0.5))
        module.n.add_(found)

    assert same_as_eager(write).level == "whole graph"


def test_what_has_no_functional_form_is_refused_with_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzwc.tracing.tracer.functional_form", lambda _: None)

    def write(module: Any, _: Tensor) -> None:
        torch._foreach_add_([module.n, module.h], 1.0)

    fast = same_as_eager(write)
    assert fast.level == "untouched"
    assert "no functional form" in fast.remarks[0].reason
    assert functional_form(torch.ops.aten._foreach_add_.Scalar) is torch.ops.aten._foreach_add.Scalar


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_comparison_that_fails_leaves_buffers_as_they_were(error: type[BaseException]) -> None:
    """The graph writes before it fails: that must not be seen."""

    def write(module: Any, _: Tensor) -> None:
        module.n.add_(1)
        module.h.mul_(2)

    expected, module = Buffers(write), Buffers(write)
    captured = tzwc.capture(module, torch.ones(3))

    def fail(*_: Any) -> None:
        raise error("in the middle")

    graph = captured.module.graph
    with graph.inserting_before(next(iter(reversed(graph.nodes)))):
        graph.call_function(fail, ())
    captured.module.recompile()
    from tzwc.tracing.verify import disagreement

    with pytest.raises(error, match="in the middle"):
        disagreement(module, captured, (torch.ones(3),), {})
    for name, buffer in expected.named_buffers():
        assert torch.equal(module.get_buffer(name), buffer)
