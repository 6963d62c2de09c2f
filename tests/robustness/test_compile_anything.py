"""``tzwc.compile`` of any argument is a module or a documented error; the module answers as the original would."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tzwc
from tests.support.examples import examples
from tests.support.hostile_input import answer, objects, texts
from tests.support.tiny_model import Tiny
from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.runtime.compiled_module import CompiledModule


@settings(max_examples=examples(12))
@given(
    objects,
    st.dictionaries(st.one_of(texts, st.sampled_from(["passes", "backend", "check", "verify"])), objects, max_size=2),
)
def test_arguments(model: Any, options: dict[str, Any]) -> None:
    assert isinstance(answer(lambda: tzwc.compile(model, backend="eager")), TzwcError)
    options = {
        name: value for name, value in options.items() if name not in ("backend", "passes") or not callable(value)
    }
    made = answer(lambda: tzwc.compile(Tiny(), **options))
    assert isinstance(made, (CompiledModule, TzwcError))


@settings(max_examples=examples(12))
@given(
    st.one_of(objects, st.lists(st.one_of(objects, st.sampled_from(["cse", "normalize", "hoist_static"])), max_size=3))
)
@example(["cse", "cse"])
@example([])
def test_passes(passes: Any) -> None:
    made = answer(lambda: tzwc.compile(Tiny(), backend="eager", passes=passes))
    if isinstance(made, TzwcError):
        assert isinstance(made, InvalidArgumentError)
    else:
        torch.testing.assert_close(made(torch.ones(2, 3)), Tiny()(torch.ones(2, 3)))


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, scale: Any = 1.0) -> Any:
        return self.conv(x) * scale


class Any_(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


class Choosing(nn.Module):
    def forward(self, x: Any, mode: Any = None) -> Any:
        if mode == "double":
            return x + x
        return {"x": x, "mode": mode, "shape": getattr(x, "shape", None)}


class Iterating(nn.Module):
    def forward(self, x: Any) -> Any:
        return sum(part for part in x)


class Raising(nn.Module):
    def forward(self, x: Any) -> Any:
        raise KeyError(type(x))


class Endless(nn.Module):
    def forward(self, x: Any) -> Any:
        return self(x)


def _tensors() -> st.SearchStrategy[Callable[[], Any]]:
    x = torch.linspace(-1, 1, 24)
    return st.sampled_from(
        [
            *(lambda: x.view(2, 3, 4), lambda: x.view(2, 3, 4).double(), lambda: x.view(2, 3, 4).to(torch.complex64)),
            *(lambda: x.view(2, 3, 4).int(), lambda: x.view(2, 4, 3).mT, lambda: x[:0].view(0, 3, 8), lambda: x[0]),
            *(lambda: x.view(2, 3, 4).to("meta"), lambda: x.view(2, 3, 4).to_sparse(), lambda: x.view(2, 3, 4).half()),
            *(lambda: torch.quantize_per_tensor(x.view(2, 3, 4), 0.1, 0, torch.qint8), lambda: x.view(4, 3, 2).numpy()),
            *(lambda: torch.nested.nested_tensor([x[:3], x[:4]]), lambda: nn.Parameter(x.view(2, 3, 4).clone())),
            *(lambda: x.view(2, 3, 4).bool(), lambda: x.view(2, 3, 4).clone().requires_grad_(), lambda: x.view(3, 8)),
            *(lambda: x.view(8, 3).expand(2, 8, 3), lambda: torch.full((2, 3, 4), float("nan")), lambda: [x, x]),
            *(lambda: x.view(2, 3, 4).to(torch.float8_e4m3fn), lambda: (x.view(2, 3, 4), "double"), lambda: iter([x])),
            *(lambda: torch.view_as_complex(x.view(2, 3, 2, 2)).conj(), lambda: x.view(2, 3, 4).to_mkldnn()),
        ]
    )


def _call(module: nn.Module, makers: list[Callable[[], Any]], names: dict[str, Any]) -> Any:
    return module(*[make() for make in makers], **names)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def same(a: Any, b: Any) -> bool:
    """Equal results of equal types, or errors of one type."""
    if isinstance(a, Exception) or isinstance(b, Exception):
        return type(a) is type(b)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.layout != b.layout or a.dtype != b.dtype or a.device != b.device or a.is_nested != b.is_nested:
            return False
        if a.device.type == "meta":
            return a.shape == b.shape
        plain = [t.dequantize() if t.is_quantized else t.to_padded_tensor(0.0) if t.is_nested else t for t in (a, b)]
        plain = [t.to_dense() if t.layout != torch.strided else t for t in plain]
        plain = [t.float() if t.dtype == torch.float8_e4m3fn else t for t in plain]
        return plain[0].shape == plain[1].shape and torch.allclose(*plain, rtol=1e-5, atol=1e-6, equal_nan=True)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return [*a] == [*b] and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and (a is b or repr(a) == repr(b) or " at 0x" in repr(a))


MODELS = [Tiny, Product, Any_, Choosing, Iterating, Raising, Endless]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=examples(12))
@given(st.data())
def test_calls(kind: type[nn.Module], draw: st.DataObject) -> None:
    torch.manual_seed(0)
    model = kind()
    fast = tzwc.compile(model, backend="eager")
    for _ in range(draw.draw(st.integers(1, 2))):
        makers = draw.draw(
            st.lists(st.one_of(_tensors(), objects.map(lambda value: lambda: copy.copy(value))), max_size=2)
        )
        names = draw.draw(
            st.dictionaries(st.sampled_from(["x", "scale", "mode", "other", "self"]), objects, max_size=1)
        )
        with torch.set_grad_enabled(draw.draw(st.booleans())):
            expected, actual = (outcome(partial(_call, module, makers, names)) for module in (model, fast))
        assert same(actual, expected), (actual, expected)
