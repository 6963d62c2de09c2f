"""Kept values part by part: what is evaluated again, what is counted, what is shared, what is copied."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, fx

from tzwc.dynamo import static_caches as kept_values
from tzwc.dynamo.static_caches import KeptValues
from tzwc.partition.min_cut import CachedValue
from tzwc.partition.partitioner import Split, split
from tzwc.partition.static_cache import StaticCache


def _split(expressions: dict[str, frozenset[str]], text: dict[str, str]) -> Split:
    """A graph ``x + a₀ + a₁ + …`` of expressions in ``p`` and ``q``, each of which is kept."""
    graph = fx.Graph()
    names = {name: graph.placeholder(name) for name in ("p", "q", "x")}
    values = {}
    for name, slots in expressions.items():
        function = getattr(torch.ops.aten, text[name].partition(" ")[0]).default
        arguments = [names[a] for a in text[name].split()[1:]]
        names[name] = values[name] = graph.call_function(function, tuple(arguments))
        values[name].meta["tzwc_cached"] = CachedValue(values[name], 24, 0.0, 0.0, slots, "")
    for node in graph.nodes:
        node.meta["val"] = torch.zeros(3)
    graph.output((*values.values(), names["x"]))
    return split(fx.GraphModule(torch.nn.Module(), graph), ["p", "q"], ["x"])


def _two() -> Split:
    return _split(
        {"a": frozenset({"p"}), "b": frozenset({"q"})},
        {"a": "exp p", "b": "neg q"},
    )


def _slots() -> list[Tensor]:
    return [torch.ones(3), torch.full((3,), 2.0)]


def test_kept_values_are_arguments_of_the_rest_and_not_kept_again() -> None:
    nodes = _two().residual.graph.nodes
    assert [n.name for n in nodes if n.op == "placeholder"] == ["kept_0", "kept_1", "x"]
    assert not any("tzwc_cached" in n.meta for n in nodes)
    assert all("val" in n.meta for n in nodes if n.op == "placeholder")


def test_only_what_depends_on_a_change_is_evaluated_again() -> None:
    cache = StaticCache(_two().program, ["p", "q"], "version")
    assert cache.peek() == ()
    tensors = _slots()
    first = cache.get(tensors)
    assert (cache.stats.hits, cache.stats.misses, cache.stats.evaluations, cache.stats.bytes) == (0, 1, 2, 24)
    assert cache.get(tensors) is first
    assert cache.peek() is first
    tensors[1].add_(1)
    second = cache.get(tensors)
    assert second[0] is first[0]
    assert torch.equal(second[1], torch.full((3,), -3.0))
    assert (cache.stats.hits, cache.stats.misses, cache.stats.evaluations, cache.stats.bytes) == (1, 2, 3, 24)
    cache.invalidate()
    assert cache.peek() == ()
    assert cache.stats.bytes == 0
    assert cache.get(tensors)[0] is not first[0]
    assert cache.stats.evaluations == 5


def test_values_are_ordinary_tensors_in_every_mode() -> None:
    cache = StaticCache(_two().program, ["p", "q"], "version")
    tensors = [t.requires_grad_() for t in _slots()]
    with torch.inference_mode():
        values = cache.get(tensors)
    assert not any(v.is_inference() or v.requires_grad for v in values)


def test_a_thread_that_was_faster_is_not_repeated() -> None:
    cache = StaticCache(_two().program, ["p", "q"], "version")
    tensors = _slots()
    values = cache.get(tensors)
    assert cache._refresh(tensors) is values
    assert (cache.stats.misses, cache.stats.evaluations) == (1, 2)


def test_a_write_during_the_evaluation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    program = _two().program
    cache = StaticCache(program, ["p", "q"], "version")
    tensors, evaluate, writes = _slots(), type(program).evaluate, [1]

    def disturbed(_: object, slots: dict[str, Tensor], wanted: Sequence[int]) -> list[Tensor]:
        results = evaluate(program, slots, wanted)
        if writes:
            tensors[0].zero_()
            writes.pop()
        return results

    monkeypatch.setattr(type(program), "evaluate", disturbed)
    assert torch.equal(cache.get(tensors)[0], torch.ones(3))
    assert cache.get(tensors) is cache.peek()
    writes[:] = [1] * 100  # somebody writes all the time: the result is that of one moment, and it is not kept
    tensors[0].add_(1)
    before = cache.peek()
    cache.get(tensors)
    assert len(writes) == 92
    assert cache.peek() is before


def test_the_log_names_what_changed(caplog: pytest.LogCaptureFixture) -> None:
    cache = StaticCache(_two().program, ["p", "q"], "version")
    tensors = _slots()
    with caplog.at_level(logging.INFO, logger="tzwc.cache"):
        cache.get(tensors)
        tensors[1].add_(1)
        cache.get(tensors)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "evaluated 2 of 2 kept values for the first time"
    assert second == "evaluated 1 of 2 kept values because q changed"


def test_a_fused_optimiser_counts_what_it_wrote() -> None:
    StaticCache(_two().program, ["p", "q"], "version")  # the first cache follows optimisers
    touched, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    with torch.inference_mode():
        inference = torch.nn.Parameter(torch.ones(2))
    touched.grad = torch.ones(2)
    versions = touched._version, other._version
    torch.optim.SGD([{"params": [touched, other]}, {"params": [inference], "lr": 0.0}], 0.1, fused=True).step()
    assert touched._version > versions[0]
    assert other._version == versions[1]


# --- the split ---


def test_the_residual_reads_kept_values_and_what_it_still_needs() -> None:
    whole = _two()
    assert whole.slots == ()
    names = [n.name for n in whole.residual.graph.nodes if n.op == "placeholder"]
    assert names == ["kept_0", "kept_1", "x"]
    assert [value.node.name for value in whole.program.values] == ["exp_default", "neg_default"]
    assert whole.program.needs[0].isdisjoint(whole.program.needs[1])


def test_what_the_caller_may_write_to_is_copied() -> None:
    a, b, x = torch.ones(3), torch.ones(3), torch.ones(3)
    found = _two().residual(a, b, x)
    assert [f is t for f, t in zip(found, (a, b, x), strict=True)] == [False, False, True]
    found[0].zero_()
    assert a.sum() == 3


def test_a_kept_value_shares_no_memory_and_holds_no_more_than_its_own() -> None:
    program = _split({"a": frozenset({"p"})}, {"a": "detach p"}).program
    p = torch.ones(3)
    (value,) = program.evaluate({"p": p, "q": p}, [0])
    p.zero_()
    assert value.sum() == 3
    # A view of a larger result would keep all of it alive.
    large = _split({"a": frozenset({"p"})}, {"a": "diagonal p"}).program
    matrix = torch.ones(30, 30)
    (value,) = large.evaluate({"p": matrix, "q": matrix}, [0])
    assert value.untyped_storage().nbytes() == value.nbytes
    fresh = _split({"a": frozenset({"p"})}, {"a": "exp p"}).program
    assert fresh.evaluate({"p": p, "q": p}, []) == []


# --- Dynamo's graphs, which may serve many models ---


def test_each_set_of_parameters_has_its_own_values() -> None:
    kept = KeptValues(_two().program, ["p", "q"], "version")
    assert kept.peek() == ()
    one, two = _slots(), [torch.zeros(3), torch.zeros(3)]
    a, b = kept.get(one), kept.get(two)
    assert kept.peek() is b
    assert kept.get(one) is a
    assert kept.get(two) is b
    stats = kept.stats
    assert (stats.hits, stats.misses, stats.evaluations, stats.bytes) == (2, 2, 4, 48)
    kept.invalidate()
    stats = kept.stats
    assert (stats.hits, stats.misses, stats.evaluations, stats.bytes) == (2, 2, 4, 0)
    assert kept.get(one)[0] is not a[0]


def test_sets_that_nobody_uses_are_dropped() -> None:
    kept = KeptValues(_two().program, ["p", "q"], "version")
    here, gone = _slots(), _slots()
    kept.get(here)
    kept.get(gone)
    assert len(kept._sets) == 2
    del gone
    gc.collect()
    kept.get(_slots())
    assert next(iter(kept._sets)) == tuple(map(id, here))
    assert len(kept._sets) == 2


def test_half_used_sets_stay() -> None:
    kept = KeptValues(_two().program, ["p", "q"], "version")
    tensors = _slots()
    key = tuple(map(id, tensors))
    kept.get(tensors)
    del tensors[1]
    kept.get(_slots())
    assert key in kept._sets


def test_there_is_a_limit_to_the_number_of_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_values, "_SETS", 3)
    kept = KeptValues(_two().program, ["p", "q"], "version")
    sets = [_slots() for _ in range(5)]
    for tensors in sets:
        kept.get(tensors)
    assert list(kept._sets) == [tuple(map(id, tensors)) for tensors in sets[2:]]


def test_a_graph_that_keeps_nothing() -> None:
    kept = KeptValues(_split({}, {}).program, ["p", "q"], "version")
    assert kept.get(_slots()) == ()
    assert kept._sets == {}
