"""The Python text of a stage computes what the stage computes, and says where everything came from."""

from __future__ import annotations

import operator
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

from tests.support.inspection_cases import MODULES, case, run, same
from tzwc.inspection import render_python, to_python


def _execute(text: str, externals: dict[str, Any] | None = None) -> Any:
    namespace: dict[str, Any] = {}
    exec(compile(text, "stage.py", "exec"), namespace)
    namespace.update(externals or {})
    return namespace["forward"]


@pytest.mark.parametrize("name", MODULES)
def test_text_computes_what_the_stage_computes(name: str) -> None:
    it = case(name)
    for stage in it.stages:
        rendered = render_python(stage, root=it.root, slots=it.slots)
        assert rendered.externals == {}
        forward = _execute(rendered.text)
        torch.manual_seed(1)
        assert same(forward(*it.arguments()), run(stage, it))


def test_a_saved_text_runs_in_a_fresh_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "stage.py"
    it = case("shapes")
    path.write_text(to_python(it.stages[-1]) + "\nprint(list(forward(torch.ones(2, 3, 8, 8))[0].shape))\n")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[2, 192]\n"


def test_lines_show_origin_shape_and_pass() -> None:
    it = case("layers")
    text = to_python(it.stages[-1], root=it.root, slots=it.slots)
    assert "# features.0: tests/support/inspection_cases.py:" in text
    assert "| return self.head(self.dropout(self.features(x)).mean((2, 3)))" in text
    assert re.search(r"p_head_weight,  # f32\[4, 8\], slot head\.weight", text)
    assert re.search(r"conv2d = aten\.conv2d\.padding\(.*'same'\)  # f32\[s\d+, 8, 8, 8\]", text)
    assert ", by swap_factors/swap" in to_python(case("spectral").stages[-1])
    assert max(len(line) for line in text.splitlines() if "#" not in line) <= 120


def test_variables_never_hide_what_the_text_needs() -> None:
    graph = fx.Graph()
    nodes = []
    for name in ("torch", "aten", "operator", "math", "END", "tzwc", "forward"):
        node = graph.placeholder(name)
        node.name = name
        nodes.append(node)
    total = nodes[0]
    for node in nodes[1:]:
        total = graph.call_function(torch.ops.aten.add.Tensor, (total, node))
    ceiling = graph.call_function(torch.sym_max, (graph.call_function(operator.floordiv, (7, -2)), float("-inf")))
    negated = graph.call_function(operator.neg, (ceiling,))
    graph.output((total, negated))
    forward = _execute(to_python(graph))
    result, number = forward(*(torch.tensor(2.0**i) for i in range(7)))
    assert (result.item(), number) == (127.0, 4)


def test_symbolic_sizes_in_arguments_are_read_off_the_inputs() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = case("shapes").stages[0].graph.find_nodes(op="placeholder")[0].meta["val"]
    batch = x.meta["val"].shape[0]
    with pytest.warns(UserWarning, match="Raw SymInt"):  # torch.fx discourages this, but takes it
        graph.output(graph.call_function(torch.ops.aten.reshape.default, (x, [batch * 2, -1])))
    assert _execute(to_python(graph))(torch.ones(5, 3, 8, 8)).shape == (10, 96)


def test_what_text_cannot_hold_is_named() -> None:
    def scale(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    root = nn.Module()
    root.big = nn.Buffer(torch.randn(1000))
    graph = fx.Graph()
    big = graph.create_node("get_attr", "big")
    graph.output(graph.call_function(scale, (big,)))
    rendered = render_python(graph, root=root)
    assert set(rendered.externals) == {"big", "scale"}
    assert "set them before calling forward" in rendered.text
    assert same(_execute(rendered.text, dict(rendered.externals))(), root.big * 3)


def test_small_constants_are_written_out() -> None:
    root = nn.Module()
    root.table = nn.Buffer(torch.tensor([[0.1, float("inf")], [float("nan"), -0.0]], dtype=torch.bfloat16))
    graph = fx.Graph()
    graph.output(graph.create_node("get_attr", "table"))
    rendered = render_python(graph, root=root)
    assert rendered.externals == {}
    assert same(_execute(rendered.text)(), root.table)


def test_origins_cannot_break_out_of_comments() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_function(torch.ops.aten.neg.default, (x,))
    node.meta["nn_module_stack"] = {"": ('a\nraise SystemExit("""', "")}
    graph.output(node)
    assert _execute(to_python(graph))(torch.tensor(1.0)).item() == -1.0
