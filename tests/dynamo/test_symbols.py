"""Sizes of Dynamo's in an environment of our own: what is found out there is handed over, or refused."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from tzwc.dynamo.symbols import Sizes
from tzwc.errors import CaptureError


def _open(environment: ShapeEnv, hint: int, name: str = "n") -> torch.SymInt:
    source = ConstantSource(name)
    symbol = environment.create_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC)
    found = environment.create_symintnode(symbol, hint=hint, source=source)
    assert isinstance(found, torch.SymInt)
    return found


def test_guards_are_handed_over_in_terms_of_the_sizes_they_stand_for() -> None:
    environment, sizes = ShapeEnv(), Sizes()
    n = _open(environment, 6)
    own = sizes.number(n)
    assert own > 3
    assert own % 2 == 0
    assert not environment.guards  # not before the graph is finished
    sizes.hand_over()
    symbol = n.node.expr
    assert [guard.expr.free_symbols for guard in environment.guards] == [{symbol}, {symbol}]
    assert [bool(guard.expr.subs(symbol, 6)) for guard in environment.guards] == [True, True]
    assert [bool(guard.expr.subs(symbol, 3)) for guard in environment.guards] == [False, False]


def test_a_size_that_would_be_fixed_is_refused() -> None:
    environment, sizes = ShapeEnv(), Sizes()
    n = _open(environment, 6)
    assert sizes.number(n) == 6
    with pytest.raises(CaptureError, match=f"the size {n.node.expr} would be fixed to 6"):
        sizes.hand_over()
    assert not environment.guards


def test_a_guard_about_a_size_that_is_not_dynamos_is_refused() -> None:
    environment, sizes = ShapeEnv(), Sizes()
    sizes.number(_open(environment, 6))
    context = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])  # type: ignore[no-untyped-call]
    fake = sizes.mode.from_tensor(torch.zeros(5), source=ConstantSource("own"), symbolic_context=context)
    assert fake.shape[0] > 3
    with pytest.raises(CaptureError, match="a size depends on the values of a tensor"):
        sizes.hand_over()
    assert not environment.guards


@pytest.mark.parametrize("hint", [0, 1])
def test_sizes_that_pytorch_treats_specially_are_refused(hint: int) -> None:
    n = _open(ShapeEnv(specialize_zero_one=False), hint)
    with pytest.raises(CaptureError, match=f"the size {n.node.expr} is 0 or 1, which PyTorch treats specially"):
        Sizes().number(n)


def test_a_size_that_a_tensor_holds_is_refused() -> None:
    with pytest.raises(CaptureError, match="a size depends on the values of a tensor"):
        Sizes().number(ShapeEnv().create_unbacked_symint())
