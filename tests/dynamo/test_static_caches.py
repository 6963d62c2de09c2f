"""Kept values of many sets of parameters."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from tzwc.dynamo.static_caches import KeptValues
from tzwc.partition.partitioner import split
from tzwc.passes import by_name
from tzwc.rewrite.pass_manager import PassContext


class _Meeting(dict[Any, Any]):
    """Lets nobody go on who asked for a key before as many as expected have asked."""

    def __init__(self, parties: int) -> None:
        super().__init__()
        self._all = threading.Barrier(parties)

    def get(self, key: Any, default: Any = None) -> Any:
        found = super().get(key, default)
        self._all.wait(timeout=300)
        return found


def test_threads_that_ask_for_new_parameters_at_once_share_one_evaluation() -> None:
    graph = fx.Graph()
    weight, x = graph.placeholder("weight"), graph.placeholder("x")
    static = graph.call_function(torch.ops.aten.matmul.default, (weight, weight))
    graph.output((graph.call_function(torch.ops.aten.mul.Tensor, (static, x)),))
    value = torch.randn(32, 32, dtype=torch.float64)
    with FakeTensorMode():
        for node in graph.nodes:
            node.meta["val"] = torch.empty(32, 32, dtype=torch.float64)
    module = fx.GraphModule({}, graph)
    by_name("hoist_static").run(module, PassContext("hoist_static", {}, frozenset({"weight"})))
    kept = KeptValues(split(module, ["weight"], ["x"]).program, ["weight"], "version")
    kept._sets = _Meeting(2)
    found: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: found.extend(kept.get([value]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = found
    assert first is second
    assert torch.equal(first, value @ value)
    assert kept.stats.misses == 1
