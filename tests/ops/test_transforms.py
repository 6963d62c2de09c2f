"""The transform operators against ``torch.fft``, and their conduct under tracing with a symbolic batch."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from tzwc.ops.fft import irfftn, rfftn

SIZES = [(10,), (9,), (6,), (10, 6), (5, 9), (4, 6, 8)]


@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_are_those_of_torch(size):
    torch.manual_seed(0)
    axes = tuple(range(-len(size), 0))
    x = torch.randn(2, *(8, 5, 7)[: len(size)], dtype=torch.float64, requires_grad=True)
    spectrum = torch.randn(2, *size[:-1], size[-1] // 2 + 1, dtype=torch.complex128, requires_grad=True)
    for ours, theirs, leaf in (
        (rfftn(x, size), torch.fft.rfftn(x, s=size, dim=axes), x),
        (irfftn(spectrum, size), torch.fft.irfftn(spectrum, s=size, dim=axes), spectrum),
    ):
        torch.testing.assert_close(ours, theirs)
        seed = torch.randn_like(theirs.detach())
        (a,) = torch.autograd.grad(ours, leaf, seed)
        (b,) = torch.autograd.grad(theirs, leaf, seed)
        torch.testing.assert_close(a, b)


def test_second_derivatives():
    x = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: irfftn(rfftn(x, (6,)) ** 2, (6,)), (x,))


def _energy(function):
    """A number from the result of ``function``."""
    return lambda x: function(x).abs().square().sum()


TANGENT = torch.linspace(-1, 1, 16, dtype=torch.float64).view(2, 8)
TRANSFORMS = {
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (TANGENT,))[1],
    "jacfwd": lambda f: torch.func.jacfwd(_energy(f)),
    "jacrev": lambda f: torch.func.jacrev(_energy(f)),
    "hessian": lambda f: torch.func.hessian(_energy(f)),
    "grad of jvp": lambda f: torch.func.grad(lambda x: torch.func.jvp(_energy(f), (x,), (TANGENT,))[1]),
    "jvp of grad": lambda f: lambda x: torch.func.jvp(torch.func.grad(_energy(f)), (x,), (TANGENT,))[1],
    "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(_energy(f))),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("length", [7, 10, 13])
def test_transforms_of_functions(length, transform):
    """In forward mode the operators gave no tangent, which counted as zero, and under ``grad`` they failed."""
    x = torch.linspace(0.1, 2, 16, dtype=torch.float64).view(2, 8).sin()
    pairs = (
        (lambda x: rfftn(x, (length,)), lambda x: torch.fft.rfftn(x, s=(length,), dim=(-1,))),
        (
            lambda x: irfftn(torch.complex(x, 2 * x), (length,)),
            lambda x: torch.fft.irfftn(torch.complex(x, 2 * x), s=(length,), dim=(-1,)),
        ),
    )
    for ours, theirs in pairs:
        expected = TRANSFORMS[transform](theirs)(x)
        torch.testing.assert_close(TRANSFORMS[transform](ours)(x), expected)
        assert expected.abs().max() > 0


def test_forward_mode():
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: irfftn(rfftn(x, (6,)) ** 2, (6,)), (x,), check_forward_ad=True, check_batched_forward_grad=True
    )


# PyTorch 2.14's own, for any operator: `opcheck` makes a fake tensor of a non-leaf, and describing it reads `grad`.
@pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor that is not a leaf:UserWarning")
def test_operator_contract():
    x = torch.randn(2, 3, 8, requires_grad=True)
    spectrum = torch.randn(2, 3, 6, dtype=torch.complex64, requires_grad=True)
    torch.library.opcheck(torch.ops.tzwc.rfftn.default, (x, [10]))
    torch.library.opcheck(torch.ops.tzwc.irfftn.default, (spectrum, [10]))


def test_a_symbolic_batch_stays_symbolic():
    environment = ShapeEnv()
    context = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC, DimDynamic.STATIC])
    mode = FakeTensorMode(shape_env=environment)
    x = mode.from_tensor(torch.randn(3, 8), symbolic_context=context)
    with mode, torch.no_grad():
        result = irfftn(rfftn(x, (10,)), (10,))
    assert isinstance(result.shape[0], torch.SymInt)
    assert not environment.guards
