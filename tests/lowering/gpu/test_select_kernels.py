"""Where the dot-product kernel takes a call's place, seen from a graph of fake tensors on a GPU that is not there."""

from __future__ import annotations

import logging
import operator
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.triton import needs_triton
from tzwc.cross_compile import TARGETS
from tzwc.lowering.gpu import fused_dot, select_kernels
from tzwc.ops import hyperzzw_dot

H100 = TARGETS["cuda:90"]


def _module(
    z: tuple[int, ...] = (2, 3, 20, 20),
    v: tuple[int, ...] = (2, 3, 20, 20),
    product: tuple[int, ...] | None = None,
    dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.float32),
    device: str = "cuda",
    values: int = 1,
) -> fx.GraphModule:
    graph = fx.Graph()
    with FakeTensorMode():
        left = [_input(graph, name, z, dtypes[0], device) for name in ("z", "k")]
        right = [_input(graph, f"v{i}", v, dtypes[1], device) for i in range(values)]
        keywords = {} if product is None else {"product": _input(graph, "product", product, dtypes[0], device)}
        call = graph.call_function(hyperzzw_dot, (*left, *right), keywords)
        result = torch.empty(*v[:-2], z[-2], v[-1], dtype=dtypes[1], device=device)
        call.meta["val"] = (result,) * values
        items = [graph.call_function(operator.getitem, (call, i)) for i in range(values)]
        for item in items:
            item.meta["val"] = result
    graph.output(tuple(items))
    return fx.GraphModule({}, graph)


def _input(graph: fx.Graph, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> fx.Node:
    node = graph.placeholder(name)
    node.meta["val"] = torch.empty(shape, dtype=dtype, device=device)
    return node


def _calls(module: fx.GraphModule) -> list[Any]:
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


def _examples(module: fx.GraphModule) -> list[Tensor]:
    return [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"]


@needs_triton
@pytest.mark.parametrize("given", [{}, {"values": 3}, {"values": 3, "product": (2, 3, 20, 20)}])
def test_small_products_are_the_kernels(given: dict[str, Any]) -> None:
    module = _module(**given)
    assert len(select_kernels.use_kernels(module, H100)) == 1
    assert _calls(module)[0] is fused_dot


MISSES: dict[str, dict[str, Any]] = {
    "on the CPU": {"device": "cpu"},
    "more values than it takes": {"values": 4},
    "no samples": {"z": (0, 3, 20, 20), "v": (0, 3, 20, 20)},
    "three axes": {"z": (3, 20, 20), "v": (3, 20, 20)},
    "a product that is there already": {"product": (2, 3, 20, 20)},
    "a product that is broadcast": {"product": (1, 3, 20, 20), "values": 3},
    "float64": {"dtypes": (torch.float64, torch.float64)},
    "two dtypes": {"dtypes": (torch.float32, torch.bfloat16)},
}


@needs_triton
@pytest.mark.parametrize("case", MISSES)
def test_what_is_left_to_a_library(case: str) -> None:
    module = _module(**MISSES[case])
    assert select_kernels.use_kernels(module, H100) == []
    assert _calls(module)[0] is hyperzzw_dot


@needs_triton
def test_values_that_are_not_known_are_left_to_a_library() -> None:
    module = _module()
    del next(iter(module.graph.nodes)).meta["val"]
    assert select_kernels.use_kernels(module, H100) == []


def test_without_triton_everything_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select_kernels.importlib.util, "find_spec", lambda _: None)
    module = _module()
    assert select_kernels.use_kernels(module, H100) == []
    assert _calls(module)[0] is hyperzzw_dot


@needs_triton
def test_a_graph_for_a_gpu_gets_the_kernels_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    module = _module()
    copy = select_kernels.for_devices(module, _examples(module))
    assert _calls(copy)[0] is fused_dot
    assert _calls(module)[0] is hyperzzw_dot
    library = _module(dtypes=(torch.float64, torch.float64))
    assert _calls(select_kernels.for_devices(library, _examples(library)))[0] is hyperzzw_dot


def test_a_graph_for_the_cpu_stays() -> None:
    module = _module(device="cpu")
    assert select_kernels.for_devices(module, _examples(module)) is module


def test_a_kernel_that_fails_leaves_the_graph_as_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such driver")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(select_kernels, "use_kernels", fail)
    module = _module()
    with caplog.at_level(logging.WARNING):
        assert select_kernels.for_devices(module, _examples(module)) is module
    assert "the kernel for hyperzzw_dot cannot be used: RuntimeError: no such driver" in caplog.text
