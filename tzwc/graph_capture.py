"""Capture a module as one ATen-level torch.fx graph whose parameters and buffers are inputs, fetched live.

The graph comes from ``torch.export`` in its non-strict mode. Around it stand the checks that export lacks and without
which a captured graph would be silently wrong: attribute writes, Python-side randomness, custom autograd functions
and hooks are found out and refused, so that ``tzwc.compile`` can run such a module as it was.
"""

from __future__ import annotations

import inspect
import random
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument
from torch.utils import _pytree as pytree

from tzwc.errors import CaptureError
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
    _refuse_unfaithful(module)
    with _watched(module):
        program = _export(module, tuple(args), kwargs, dynamic)
    _, in_spec = pytree.tree_flatten((tuple(args), kwargs))
    if program.call_spec.in_spec != in_spec:
        raise CaptureError(f"the arguments were reordered: given {in_spec}, captured {program.call_spec.in_spec}")
    graph_module = program.graph_module
    _inline_grad_regions(graph_module)
    slots, inputs = _resolve_inputs(module, program)
    _flatten_output(graph_module.graph, program)
    _refuse_written_inputs(graph_module.graph, inputs)
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


# --- what export would get silently wrong -------------------------------------------------------------------------


def _refuse_unfaithful(module: nn.Module) -> None:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise CaptureError(f"{name!r} is not initialised yet; call the module once")
        if tensor.is_meta:
            raise CaptureError(f"{name!r} is on the meta device and has no values")
        if type(tensor) not in (nn.Parameter, torch.Tensor, nn.Buffer):
            raise CaptureError(f"{name!r} is a {type(tensor).__name__}, a tensor subclass")
    for path, child in module.named_modules():
        if child._forward_hooks or child._forward_pre_hooks or child._backward_hooks or child._backward_pre_hooks:
            raise CaptureError(f"module {path or '(root)'!r} has hooks, whose side effects a graph cannot replay")
        if isinstance(child, torch.jit.ScriptModule):
            raise CaptureError(f"module {path or '(root)'!r} is TorchScript")


_PLAIN = (int, float, complex, bool, str, bytes, set, frozenset, torch.dtype, torch.device, torch.Size)

_capturing = threading.RLock()


@contextmanager
def _watched(module: nn.Module) -> Iterator[None]:
    """Refuse forwards that change Python state or define their own derivatives, and leave everything as it was."""
    before = _python_state(module)
    generator = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    thread = threading.get_ident()
    function = torch.autograd.Function
    original = function.__dict__.get("apply")

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            raise CaptureError(f"{cls.__name__} is a custom autograd.Function, whose backward would be lost")
        return original.__func__(cls, *args, **kwargs)  # type: ignore[union-attr]

    with _capturing, torch.random.fork_rng():
        function.apply = classmethod(apply)  # type: ignore[assignment]
        try:
            yield
        finally:
            if original is None:
                del function.apply
            else:
                function.apply = original  # type: ignore[method-assign]
            changed = _restore(before)
    if changed:
        shown = ", ".join(map(repr, changed[:3])) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise CaptureError(f"forward writes {shown}, an effect that a graph cannot replay")
    if random.getstate() != generator:
        random.setstate(generator)
        raise CaptureError("forward draws from Python's random module, whose values would be frozen")
    if numpy and not _same_numpy_state(numpy_state, numpy.random.get_state()):
        numpy.random.set_state(numpy_state)
        raise CaptureError("forward draws from numpy.random, whose values would be frozen")


def _same_numpy_state(a: Any, b: Any) -> bool:
    return all((x == y).all() if hasattr(x == y, "all") else x == y for x, y in zip(a, b, strict=True))


_State = list[tuple[str, Any, Any]]


def _python_state(module: nn.Module) -> _State:
    """Shallow copies of every mutable container that hangs off the module, with a name for each."""
    state: _State = []
    for path, child in module.named_modules(remove_duplicate=True):
        prefix = f"{path}." if path else ""
        state.append((prefix + "__dict__", child.__dict__, dict(child.__dict__)))
        for name, value in child.__dict__.items():
            if isinstance(value, (dict, list, set)):
                state.append((prefix + name, value, value.copy()))
    return state


def _restore(state: _State) -> list[str]:
    """Put the containers back as they were; returns the names of those whose contents had really changed.

    Export rebuilds some containers from their leaves, so that equal copies stand in for the originals.
    """
    changed: list[str] = []
    for name, container, before in state:
        if isinstance(container, dict):
            keys = [k for k in {*container, *before} if not _same(container.get(k, state), before.get(k, state))]
            owner = name.removesuffix("__dict__").rstrip(".")
            changed.extend(f"{owner}.{k}".lstrip(".") for k in keys)
            container.clear()
            container.update(before)
        elif isinstance(container, list):
            if not _same(container, before):
                changed.append(name)
            container[:] = before
        else:
            if container != before:
                changed.append(name)
            container.clear()
            container.update(before)
    return changed


def _same(a: Any, b: Any) -> bool:
    """Identical, or equal plain data."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return isinstance(a, _PLAIN) and bool(a == b)


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
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    slots: list[Slot] = []
    inputs: list[str] = []
    literals: dict[str, torch.Tensor] = {}
    for spec in program.graph_signature.input_specs:
        node = placeholders[spec.arg.name]
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
        if enabled and torch.is_grad_enabled() is False:
            enabled = False
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
