"""Capture a module as one ATen-level torch.fx graph whose parameters and buffers are inputs, fetched live.

The graph comes from ``torch.export`` in its non-strict mode. Around it stand the checks that export lacks and without
which a captured graph would be silently wrong: attribute writes, Python-side randomness, custom autograd functions
and hooks are found out and refused, so that ``tzwc.compile`` can run such a module as it was.
"""

from __future__ import annotations

import builtins
import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument
from torch.utils import _pytree as pytree

from tzwc.errors import CaptureError
from tzwc.fidelity import refuse_unfaithful, watched
from tzwc.graph import alias_groups, fake_mode_of, infer, is_mutating, may_alias, mutated_arguments
from tzwc.shapes import fits

__all__ = ["Capture", "Slot", "capture"]

SlotKind = Literal["parameter", "buffer", "attribute", "constant"]


@dataclass(frozen=True, eq=False)
class Slot:
    """A graph input that is read from the live module at every call.

    Attributes:
        name: its placeholder in the graph.
        kind: ``parameter`` or ``buffer`` of the module, a tensor ``attribute``, or a ``constant`` of the program text.
        path: dotted name in the module (``blocks.0.weight``).
        container, key: the tensor is ``container[key]``; the container belongs to the live module.
    """

    name: str
    kind: SlotKind
    path: str
    container: Any = field(repr=False)
    key: Any = field(repr=False)

    def fetch(self) -> torch.Tensor:
        """The tensor that the slot holds now."""
        tensor: torch.Tensor = self.container[self.key]
        return tensor


@dataclass(frozen=True)
class Capture:
    """A module as a graph.

    Attributes:
        module: the graph; its placeholders are the slots, then the tensor inputs, in order; it returns a flat tuple.
        slots: one for each of the first placeholders.
        inputs: names of the remaining placeholders, one for each tensor leaf of the arguments.
        out_spec: how the flat outputs are put together again.
    """

    module: fx.GraphModule
    slots: tuple[Slot, ...]
    inputs: tuple[str, ...]
    out_spec: pytree.TreeSpec

    def accepts(self, sizes: Sequence[torch.Size]) -> bool:
        """Whether the graph is right for inputs of these sizes (one for each of ``inputs``)."""
        fakes = [n.meta["val"] for n in self.module.graph.nodes if n.op == "placeholder" and n.name in self.inputs]
        return fits([fake.shape for fake in fakes], sizes, fake_mode_of(self.module.graph))


def capture(
    module: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, dynamic: bool = True
) -> Capture:
    """Capture ``module(*args, **kwargs)`` as a graph, in the current grad mode and the module's training mode.

    Args:
        module: any module; it is left as it was.
        args, kwargs: example arguments; tensors in nested tuples, lists and dictionaries become graph inputs, all
            other leaves are constants of the graph.
        dynamic: let the leading (batch) size of every tensor be symbolic where the program allows it. Sizes 0 and 1
            are always fixed, since PyTorch treats them specially.

    Raises:
        CaptureError: the module cannot be captured faithfully; the message says why and where.
    """
    kwargs = dict(kwargs or {})
    refuse_unfaithful(module)
    with watched(module, (args, kwargs)):
        program = _export(module, tuple(args), kwargs, dynamic)
    _, in_spec = pytree.tree_flatten((tuple(args), kwargs))
    if program.call_spec.in_spec != in_spec:
        raise CaptureError(f"the arguments were reordered: given {in_spec}, captured {program.call_spec.in_spec}")
    graph_module = program.graph_module
    _inline_grad_regions(graph_module)
    _rename_placeholders(graph_module.graph)
    slots, inputs = _resolve_inputs(module, program)
    _flatten_output(graph_module.graph, program)
    _refuse_written_inputs(graph_module.graph, inputs)
    _refuse_shared_writes(graph_module.graph, slots)
    graph_module.graph.lint()
    graph_module.recompile()
    _release_real_tensors(graph_module.graph)
    assert program.call_spec.out_spec is not None
    return Capture(graph_module, slots, inputs, program.call_spec.out_spec)


def _export(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic: bool) -> ExportedProgram:
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise CaptureError(f"the arguments do not fit {type(module).__name__}.forward: {error}") from error
    shapes = pytree.tree_map(_dynamic_batch, dict(bound)) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # export warns of its own internals; what matters is checked around it
        try:
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
        except CaptureError:
            raise
        except Exception as error:  # export raises errors of many kinds, none of them documented
            if dynamic:
                return _export(module, args, kwargs, dynamic=False)
            reason = str(error).strip().splitlines()
            raise CaptureError(f"torch.export: {type(error).__name__}: {reason[0] if reason else ''}") from error


def _release_real_tensors(graph: fx.Graph) -> None:
    """Drop the fake-tensor mode's weak references to parameters, which would forbid ``torch.utils.swap_tensors``."""
    mode = fake_mode_of(graph)
    if mode is not None:
        converter = mode.fake_tensor_converter
        converter.meta_converter.tensor_memo.clear()
        converter.meta_converter.describer.lookup_tensor.clear()
        converter.constant_storage_mapping.clear()


def _dynamic_batch(leaf: object) -> dict[int, Any] | None:
    if isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and leaf.shape[0] > 1:
        return {0: Dim.AUTO}
    return None


def _refuse_written_inputs(graph: fx.Graph, inputs: Sequence[str]) -> None:
    writers = [node for node in graph.nodes if is_mutating(node)]
    if not writers:
        return
    groups = alias_groups(graph)
    arguments = {groups[node]: node for node in graph.nodes if node.op == "placeholder" and node.name in inputs}
    for writer in writers:
        for written in mutated_arguments(writer):
            if (
                groups[written] in arguments
                and arguments[groups[written]].name in inputs
                and _is_view_of(written, arguments[groups[written]])
            ):
                raise CaptureError(f"{writer.target} writes to the argument {arguments[groups[written]].name!r}")


def _refuse_shared_writes(graph: fx.Graph, slots: Sequence[Slot]) -> None:
    """A write to one slot must not be a write to another one, or to what the graph does not see."""
    groups = alias_groups(graph)
    written = {groups[node] for writer in graph.nodes for node in mutated_arguments(writer)}
    by_name = {slot.name: slot for slot in slots}
    owners: dict[int, list[Slot]] = {}
    changed: list[Slot] = []
    for node in graph.nodes:
        if node.op == "placeholder" and node.name in by_name:
            slot = by_name[node.name]
            owners.setdefault(slot.fetch().untyped_storage().data_ptr(), []).append(slot)
            if groups[node] in written:
                changed.append(slot)
    for slot in changed:
        if slot.kind != "buffer":
            raise CaptureError(f"forward writes to the {slot.kind} {slot.path!r}, which is no buffer")
        if slot.fetch().numel() and len(owners[slot.fetch().untyped_storage().data_ptr()]) > 1:
            raise CaptureError(f"forward writes to {slot.path!r}, which shares its memory with another tensor")


def _is_view_of(node: fx.Node, root: fx.Node) -> bool:
    """Whether ``node`` reaches ``root`` through operators that may return their argument's memory."""
    pending, seen = [node], set()
    while pending:
        current = pending.pop()
        if current is root:
            return True
        if current not in seen:
            seen.add(current)
            pending.extend(may_alias(current))
    return False


# --- from an ExportedProgram to slots, inputs and flat outputs ------------------------------------------------------


def _resolve_inputs(module: nn.Module, program: ExportedProgram) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
    graph = program.graph_module.graph
    # By position: a node may have another name than its argument, when that is the name of a builtin.
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    slots: list[Slot] = []
    inputs: list[str] = []
    literals: dict[str, torch.Tensor] = {}
    for spec, node in zip(program.graph_signature.input_specs, placeholders, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            if isinstance(spec.arg, TensorArgument):
                inputs.append(node.name)
            elif isinstance(spec.arg, ConstantArgument) and not node.users:
                graph.erase_node(node)
            else:
                raise CaptureError(f"argument {node.name!r} is a {type(spec.arg).__name__}, which is not supported")
        elif not node.users:
            graph.erase_node(node)  # a parameter that this forward does not read
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
            slots.append(_registered_slot(module, node.name, spec.target, spec.kind))
        elif spec.kind is InputKind.CONSTANT_TENSOR and spec.target is not None:
            slots.append(_constant_slot(module, node.name, spec.target, program.constants[spec.target], literals))
        else:
            raise CaptureError(f"graph input {node.name!r} is a {spec.kind.name}, which is not supported")
    return tuple(slots), tuple(inputs)


def _rename_placeholders(graph: fx.Graph) -> None:
    """Give placeholders names that survive a copy of the graph and shadow nothing that generated code refers to."""
    for node in graph.nodes:
        if node.op == "placeholder" and (hasattr(builtins, node.name) or node.name in _TAKEN):
            node._rename(f"{node.name}_argument")
            node.target = node.name


_TAKEN = {"torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree", "self"}


def _registered_slot(module: nn.Module, name: str, path: str, kind: InputKind) -> Slot:
    owner_path, _, key = path.rpartition(".")
    owner = module.get_submodule(owner_path)
    if kind is InputKind.PARAMETER:
        return Slot(name, "parameter", path, owner._parameters, key)
    return Slot(name, "buffer", path, owner._buffers, key)


def _constant_slot(module: nn.Module, name: str, path: str, value: Any, literals: dict[str, torch.Tensor]) -> Slot:
    if not isinstance(value, torch.Tensor):
        raise CaptureError(f"constant {path!r} is a {type(value).__name__}, which is not supported")
    for prefix, child in module.named_modules():
        for attribute, held in child.__dict__.items():
            where = f"{prefix}.{attribute}".lstrip(".")
            if held is value:
                return Slot(name, "attribute", where, child.__dict__, attribute)
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            if isinstance(held, (list, dict)):
                entries = held.items() if isinstance(held, dict) else enumerate(held)
                for key, entry in entries:
                    if entry is value:
                        return Slot(name, "attribute", f"{where}[{key!r}]", held, key)
            elif isinstance(held, tuple) and any(entry is value for entry in held):
                raise CaptureError(f"{where!r} is a tuple of tensors; a list or buffers can be followed, a tuple not")
    literals[path] = value
    return Slot(name, "constant", path, literals, path)


def _flatten_output(graph: fx.Graph, program: ExportedProgram) -> None:
    """Let the graph return its user outputs only, as a tuple."""
    kinds = {spec.kind.name for spec in program.graph_signature.output_specs}
    if kinds - {"USER_OUTPUT"}:
        raise CaptureError(f"the graph returns {sorted(kinds - {'USER_OUTPUT'})}, which is not supported")
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    results = output.args[0]
    assert isinstance(results, (tuple, list))
    output.args = (tuple(results),)


def _inline_grad_regions(module: fx.GraphModule) -> None:
    """Replace calls of ``wrap_with_set_grad_enabled`` by their body, cutting the gradient of what leaves it.

    A region without gradients inside a graph with gradients is the same as its operators followed by ``detach``.
    """
    graph = module.graph
    region_call = torch.ops.higher_order.wrap_with_set_grad_enabled
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not region_call:
            continue
        enabled, body_attr, *operands = node.args
        body = getattr(module, body_attr.target)
        if enabled:
            raise CaptureError("torch.enable_grad() inside a region without gradients is not supported")
        detach_entry = torch.is_grad_enabled()
        with graph.inserting_before(node):
            entries = [_detached(graph, operand) if detach_entry else operand for operand in operands]
            inner = [n for n in body.graph.nodes if n.op == "placeholder"]
            mapping: dict[fx.Node, Any] = dict(zip(inner, entries, strict=True))
            results = graph.graph_copy(body.graph, mapping)
        assert isinstance(results, (tuple, list))
        for user in list(node.users):
            if user.target is not sys.modules["operator"].getitem:
                raise CaptureError("an unexpected use of a region without gradients")
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
        if not body_attr.users:
            graph.erase_node(body_attr)


def _detached(graph: fx.Graph, operand: Any) -> Any:
    """``operand.detach()`` for tensors: the same memory, so in-place writes inside the region still reach it."""
    if not isinstance(operand, fx.Node) or not isinstance(operand.meta.get("val"), torch.Tensor):
        return operand
    node = graph.call_function(torch.ops.aten.detach.default, (operand,))
    node.meta = {k: v for k, v in operand.meta.items() if k in ("nn_module_stack", "stack_trace")}
    node.meta["val"] = infer(node)
    return node
