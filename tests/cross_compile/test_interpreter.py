"""Generated programs give what the models give: kernels in Triton's interpreter, library calls on the CPU."""

from __future__ import annotations

import copy
import itertools
import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import tzwc
from tests.properties.oracle import Oracle
from tests.properties.programs import Program, programs
from tests.support.examples import examples
from tests.support.gpu_models import Branches, Dots, Long, Stacked, assert_as_good_as_eager, assert_near, small
from tests.support.triton import needs_triton
from tzwc.cross_compile import LoweringError, Process, interpret, lower
from tzwc.errors import InvalidArgumentError
from tzwc.models.presets import PRESETS

pytestmark = needs_triton

_WAYS = [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False), (torch.bfloat16, True)]
_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def _cases() -> list[tuple[str, torch.dtype, bool]]:
    """Every preset in all four ways when there is time (each takes seconds), else one or two of each kind of grid."""
    if _DEEP:
        return [(preset, *way) for preset, way in itertools.product(PRESETS, _WAYS)]
    return [("cifar10", torch.float32, True), ("smnist", torch.bfloat16, True), ("scifar10", torch.float32, False)]


@pytest.mark.parametrize(("preset", "dtype", "train"), _cases())
def test_small_presets(preset: str, dtype: torch.dtype, train: bool, interpreter: Process) -> None:
    torch.manual_seed(0)
    model = small(preset).to(dtype).train(train)
    x = torch.randn(3, 2, *model.spec.sizes, dtype=dtype)
    assert_as_good_as_eager(model, x, train=train, process=interpreter)


_UNARY = {
    "gelu": nn.functional.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softmax": lambda x: torch.softmax(x, -1),
    "mean": lambda x: x - x.mean((0, 2), keepdim=True),
    "flip": lambda x: x.flip(-1),
    "pad": lambda x: nn.functional.pad(x, (2, 0))[..., :7],
}


class _Chain(nn.Module):
    """Operators in a row, each on the last result, with a kernel that a slow network writes in every second."""

    codes: Tensor

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("codes", torch.linspace(-1, 1, 7).reshape(-1, 1))
        self.slow = nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.sin(self.slow(self.codes)).t()
        start = x
        for index, name in enumerate(self.names):
            x = start @ (x * kernel).mT @ x if name == "product" else _UNARY[name](x)
            x = x * kernel if index % 2 else x
        return x


@settings(max_examples=examples(3), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    names=st.lists(st.sampled_from([*_UNARY, "product"]), min_size=3, max_size=6),
    train=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_small_random_graphs(names: list[str], train: bool, dtype: torch.dtype, interpreter: Process) -> None:
    torch.manual_seed(len(names))
    model = _Chain(names).to(dtype)
    x = torch.randn(2, 4, 7, dtype=dtype)
    assert_as_good_as_eager(model, x, train=train, process=interpreter)


@settings(max_examples=examples(2), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(program=programs(random=False, writes=False, max_statements=5), train=st.booleans())
def test_graphs_of_the_property_tests(program: Program, train: bool, interpreter: Process) -> None:
    """In float32, held against float64 by the bound of those tests, which follows the roundings of eager mode."""
    tensors = program.tensors(dtype=torch.float32)
    wide = [tensor.double() for tensor in tensors]

    try:
        oracle = Oracle(lambda: _observed(program.build(), program, wide, train), torch.finfo(torch.float32).eps)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        assume(False)  # what eager mode refuses is not a program
        raise
    model = program.build(torch.float32)
    found, gradients = _interpreted(model, program, tensors, train, interpreter)
    oracle.check(found | {name: gradients.get(name) for name in oracle.exact if name not in found})


@settings(max_examples=examples(2), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(program=programs(random=False, writes=False, max_statements=4), train=st.booleans())
def test_graphs_of_the_property_tests_in_bfloat16(program: Program, train: bool, interpreter: Process) -> None:
    """Held against eager mode: with eight bits, what roundings do is not linear in them any more."""
    tensors = program.tensors(dtype=torch.bfloat16)
    model = program.build(torch.bfloat16)
    try:
        # The same numbers for both: parameters are rounded first.
        exact = _observed(copy.deepcopy(model).double(), program, [tensor.double() for tensor in tensors], train)
        eager = _observed(copy.deepcopy(model), program, tensors, train)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        assume(False)
        raise
    found, gradients = _interpreted(model, program, tensors, train, interpreter)
    found |= {name: gradients.get(name) for name in exact if name not in found}
    assert_near(found, eager, exact)


def _interpreted(
    model: nn.Module, program: Program, tensors: list[Tensor], train: bool, interpreter: Process
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Results and gradients of the lowered program; one that is not captured as one graph is none."""
    try:
        result, gradients = interpret(model, *program.arguments(tensors), train=train, process=interpreter)
    except LoweringError as error:
        assume("cannot be captured as one graph" not in str(error))
        raise
    return {f"result {i}": leaf for i, leaf in enumerate(pytree.tree_leaves(result))}, gradients


def _observed(model: nn.Module, program: Program, tensors: list[Tensor], train: bool) -> dict[str, Any]:
    """Results of eager mode and, in training, the gradients of their sum by parameter."""
    with torch.set_grad_enabled(train):
        leaves = pytree.tree_leaves(model(*program.arguments(list(tensors))))
        losses = [leaf.sum() for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
        if losses:
            torch.stack(losses).sum().backward()
    plain = {f"result {i}": leaf.detach() if isinstance(leaf, Tensor) else leaf for i, leaf in enumerate(leaves)}
    return plain | ({name: p.grad for name, p in model.named_parameters()} if train else {})


@pytest.mark.parametrize(("dtype", "train"), [(torch.float32, True), (torch.bfloat16, False)])
def test_the_dot_kernel_inside_a_program(dtype: torch.dtype, train: bool, interpreter: Process) -> None:
    torch.manual_seed(0)
    model = Dots().to(dtype)
    z, v = torch.randn(2, 2, 3, 20, 20, dtype=dtype)
    assert_as_good_as_eager(model, z, v, train=train, process=interpreter)


class _InMemory(Dots):
    """The product is needed by itself as well, and the values lie in memory in different ways."""

    def forward(self, z: Tensor, v: Tensor) -> Tensor:
        weights = z * torch.sin(3 * self.slow(self.codes)).permute(2, 0, 1)
        return weights @ v + (weights @ v.mT) * (weights @ v.tanh()) + weights.cumsum(-1)


def test_the_dot_kernel_with_a_product_that_is_in_memory(compiler: Process, interpreter: Process) -> None:
    torch.manual_seed(0)
    model = _InMemory()
    z, v = torch.randn(2, 2, 3, 20, 20)
    program = lower(tzwc.compile(model), z, v, train=True, binaries=False, process=compiler)
    assert program.model == "_InMemory"
    assert len([launch for launch in program.launches if launch.kernel.startswith("dot_kernel")]) == 1
    assert_as_good_as_eager(model, z, v, train=True, process=interpreter)


def test_merged_maps_inside_a_program(compiler: Process, interpreter: Process) -> None:
    torch.manual_seed(0)
    model, x = Branches().eval(), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        program = lower(model, x, binaries=False, process=compiler)
    rules = [remark.rule for remark in program.remarks if remark.pass_name == "merge_parallel"]
    assert sorted(rules) == ["batch", "shared", "sum"]
    assert_as_good_as_eager(model, x, train=False, process=interpreter)


@pytest.mark.parametrize(("dtype", "train"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True)])
def test_stacked_values_inside_a_program(
    dtype: torch.dtype, train: bool, compiler: Process, interpreter: Process
) -> None:
    torch.manual_seed(0)
    model, x = Stacked().to(dtype), torch.randn(2, 6, 64, dtype=dtype)
    program = lower(model, x, train=train, binaries=False, process=compiler)
    assert "stack" in {remark.rule for remark in program.remarks if remark.kind == "applied"}
    forward = program.modules[0].launches
    assert len([launch for launch in forward if launch.kernel.endswith("convolution")]) == 2  # all values, and `mix`
    if not train:  # which is traced as on a CPU
        assert not [launch for launch in forward if "pad" in launch.kernel]  # with 64 taps, one output more is dropped
    assert_as_good_as_eager(model, x, train=train, process=interpreter)


@pytest.mark.parametrize("padding", ["causal", "same"])
def test_a_convolution_by_fft_inside_a_program(padding: str, interpreter: Process) -> None:
    torch.manual_seed(0)
    z, v = torch.randn(2, 2, 6, 64)
    assert_as_good_as_eager(Long(padding), z, v, train=False, process=interpreter, convolution="fft")


def test_a_program_runs_on_inputs_like_those_it_was_made_for(compiler: Process, interpreter: Process) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh()).eval()
    with torch.no_grad():
        program = lower(model, torch.rand(3, 4), binaries=False, process=compiler)
        x = torch.rand(3, 4)
        model[0].weight.mul_(2)  # parameters are taken as they are when it runs
        found, gradients = program.run(x, process=interpreter)
        torch.testing.assert_close(found, model(x), rtol=0, atol=4e-7)  # four roundings near 1
    assert gradients == {}
    with pytest.raises(InvalidArgumentError, match="lower it for these"):
        program.run(torch.rand(2, 4), process=interpreter)
    with pytest.raises(InvalidArgumentError, match=r"give Process\('run'\)"):
        program.run(x, process=compiler)
