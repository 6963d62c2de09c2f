"""Find what follows from parameters, buffers and constants alone, and choose what of it to keep between calls.

The pass changes no node. It writes its decision into the metadata, where the split reads it:

``tzwc_binding``, ``tzwc_binding_reason``
    ``"static"`` or ``"dynamic"``, and why.
``tzwc_cached``
    the :class:`tzwc.partition.min_cut.CachedValue` of a node whose value is kept.
"""

from __future__ import annotations

from collections import Counter

from torch import fx

from tzwc.ir.graph import alias_groups, may_alias, remove_dead_code
from tzwc.partition.binding_time import analyse
from tzwc.partition.min_cut import choose_frontier
from tzwc.rewrite.pass_manager import Pass, PassContext

__all__ = ["HOIST_STATIC"]


def _run(module: fx.GraphModule, context: PassContext) -> None:
    graph = module.graph
    remove_dead_code(graph)  # what nobody reads must not look like repeated work
    bindings = analyse(graph, context.static_slots)
    for node, binding in bindings.items():
        node.meta["tzwc_binding"] = "static" if binding.static else "dynamic"
        node.meta["tzwc_binding_reason"] = binding.reason
        node.meta.pop("tzwc_cached", None)
    shared = _shared_by_results(graph)
    for value in choose_frontier(graph, bindings, context.options.get("cache_bytes"), shared):
        if not context.admits("keep", [value.node]):
            continue
        value.node.meta["tzwc_cached"] = value
        context.remark("applied", "keep", value.reason, [value.node], bytes=value.bytes, seconds=value.seconds)
    for node, binding in bindings.items():
        at_boundary = not binding.static and any(bindings[a].static for a in node.all_input_nodes)
        if at_boundary and not binding.reason.startswith("depends on"):
            context.remark("declined", "boundary", f"stays in every call: {binding.reason}", [node])


def _shared_by_results(graph: fx.Graph) -> set[fx.Node]:
    """Views of memory that several results of the graph share: the memory is kept, if at all, and no view of it."""
    groups = alias_groups(graph)
    results = Counter(groups[result] for node in graph.nodes if node.op == "output" for result in node.all_input_nodes)
    return {node for node in graph.nodes if results[groups[node]] > 1 and may_alias(node)}


HOIST_STATIC = Pass(
    "hoist_static",
    "Evaluate what does not depend on the input once, and keep what a minimum cut finds worth its bytes.",
    _run,
)
