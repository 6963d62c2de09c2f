"""Calls, arguments and functions of every kind as Python text that computes the same."""

from __future__ import annotations

import contextlib
import io
import operator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import tzwc.ops
from tests.support.inspection_cases import case
from tzwc.inspection import render_python, to_python
from tzwc.inspection.formats.call_targets import import_path, qualified_name
from tzwc.inspection.text.expressions import identifier

aten = torch.ops.aten
X = torch.arange(12.0).reshape(3, 4)


def _run(text: str, name: str = "stage", **externals: object) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(text, "stage.py", "exec"), namespace)
    namespace.update(externals)
    return namespace


def _symbol() -> Any:
    """The size of a batch that is open."""
    return case("shapes").stages[0].graph.find_nodes(op="placeholder")[0].meta["val"].shape[0]


@torch.library.custom_op("tzwc_tests::doubled", mutates_args=())
def _doubled(x: Tensor) -> Tensor:
    return 2 * x


class _Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return 2 * x


@pytest.mark.parametrize(
    ("target", "args", "text"),
    [
        (max, (7, -2), "max(7, -2)"),
        (torch.ops.tzwc.rfftn.default, (X, [6]), "torch.ops.tzwc.rfftn.default(x, [6])"),
        (torch.ops.tzwc_tests.doubled.default, (X,), "torch.ops.tzwc_tests.doubled.default(x)"),
        (_Twice.apply, (X,), "tests.inspection.text.test_expressions._Twice.apply(x)"),
        (tzwc.ops.good_size, (7,), "tzwc.ops.good_size(7)"),
        (operator.getitem, (X, (slice(None, None, 2), slice(1, -1))), "x[(slice(None, None, 2), slice(1, -1, None))]"),
        (operator.contains, (range(2, 8, 3), 5), "operator.contains(range(2, 8, 3), 5)"),
        (len, ({"a": 1, 2: [True, None]},), "len({'a': 1, 2: [True, None]})"),
    ],
)
def test_functions_and_arguments(target: Any, args: tuple[Any, ...], text: str) -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(target, tuple(x if argument is X else argument for argument in args)))
    rendered = render_python(graph)
    assert rendered.externals == {}
    assert f" = {text}\n" in rendered.text
    assert ("import tzwc.ops\n" in rendered.text) is ("tzwc." in text)  # which registers the operators
    found, expected = _run(rendered.text)["forward"](X), target(*args)
    assert torch.equal(found, expected) if isinstance(expected, Tensor) else found == expected


def test_methods_and_modules_of_a_graph_that_was_not_captured_here() -> None:
    root = nn.Module()
    root.layers = nn.ModuleList([nn.Linear(4, 2)])
    graph = fx.Graph()
    x = graph.placeholder("x")
    clamped = graph.call_method("clamp", (x,), {"min": 3})
    graph.output(graph.call_module("layers.0", (), {"input": clamped}))
    rendered = render_python(graph, root=root)
    assert "x.clamp(min=3)" in rendered.text
    assert [*rendered.externals] == ["layers_0"]
    found = _run(rendered.text, **rendered.externals)["forward"](X)
    assert torch.equal(found, root.layers[0](X.clamp(min=3)))
    assert [*render_python(graph).externals.values()] == ["layers.0"]  # without a root, its name is all there is


def test_what_an_attribute_holds() -> None:
    root = nn.Module()
    root.math, root.factor = nn.Buffer(torch.tensor(2.0)), 2.5
    graph = fx.Graph()
    graph.output(tuple(graph.get_attr(name) for name in ("math", "factor", "missing", "missing")))
    rendered = render_python(graph, root=root)
    assert "math_ = torch.tensor(2.0" in rendered.text  # the module of that name may be needed
    assert [*rendered.externals] == ["missing", "missing_1"]
    namespace = _run(rendered.text, missing=1, missing_1=2)
    assert namespace["forward"]() == (2.0, 2.5, 1, 2)


def test_functions_that_cannot_be_imported_are_given_each_once() -> None:
    def first(x: Tensor) -> Tensor:
        return x + 1

    def second(x: Tensor) -> Tensor:
        return x * 2

    second.__module__, second.__qualname__ = "__main__", "second"
    assert import_path(second) is None
    assert qualified_name(second) == "__main__.second"
    graph = fx.Graph()
    x = graph.placeholder("x")
    for function in (first, second, first):
        x = graph.call_function(function, (x,))
    graph.output(x)
    rendered = render_python(graph)
    assert rendered.externals == {"first": first, "second": second}
    assert torch.equal(_run(rendered.text, **rendered.externals)["forward"](X), first(second(first(X))))


def test_names_that_are_no_identifiers() -> None:
    names = ("a.b", "lambda", "0", "")
    assert [identifier(name) for name in names] == ["a_b", "_lambda", "_0", "_"]


def test_a_line_without_anything_to_break_it_at_stays_one() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    seed = graph.call_function(torch.initial_seed, ())
    x.name, seed.name = "x" * 130, "seed" * 40
    graph.output((graph.call_function(aten.add.Tensor, (x, x)), seed))
    text = to_python(graph)
    lines = text.splitlines()
    assert lines.count(f"        {x.name},") == 2
    assert f"    {seed.name} = torch.initial_seed()" in lines
    assert torch.equal(_run(text)["forward"](X)[0], X + X)


def test_scripts_call_with_numbers_and_symbolic_sizes() -> None:
    batch = _symbol()
    graph = fx.Graph()
    n, flag, x = (graph.placeholder(name) for name in ("n", "flag", "x"))
    n.meta["val"], flag.meta["val"] = batch, True
    x.meta["val"] = torch.empty(2, 3, device="meta")
    with pytest.warns(UserWarning, match="Raw SymInt"):  # torch.fx discourages this, but takes it
        full = graph.call_function(aten.full.default, ([batch + 1, 2], 1.5))
    graph.output((full, flag, x))
    text = to_python(graph, script=True)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        _run(text, "__main__")
    rows = 1 + int(batch.node.hint)
    assert said.getvalue().splitlines() == [f"torch.float32 [{rows}, 2]", "True", "torch.float32 [2, 3]"]
    assert torch.equal(_run(text)["forward"](6, False, X)[0], torch.full((7, 2), 1.5))


def test_without_a_kind_of_argument_there_is_no_script() -> None:
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    assert to_python(graph, script=True) == to_python(graph)
