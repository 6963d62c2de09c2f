"""Trace a module by partial evaluation: what follows from its state alone is computed, the rest is recorded on fakes.

Inputs are fake tensors with a symbolic batch; parameters, buffers and constants are real. An operator whose arguments
are all real is *static*: it is run, so that a branch, an ``.item()`` or a slice that depends on it sees its value, and
every value that the program so reads becomes an assumption. An operator with a fake argument is *dynamic*: it is run on
fakes, and a program that reads values there cannot be traced. Both become nodes of one graph.

Autograd is switched off below the operators, so that composite ones (``conv2d``, ``linear``, ``einsum``) arrive whole.
Whether a result would require gradients is tracked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from tzwc._torch import pytree
from tzwc._torch.dispatch import TorchDispatchMode, disable_current_modes
from tzwc._torch.fake_tensors import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from tzwc.errors import CaptureError
from tzwc.ir.op_schemas import (
    functional_form,
    returns_number,
    returns_written,
    view_form,
    writes_to_lists,
    written_values,
)
from tzwc.tracing.autocast import AutocastAbove
from tzwc.tracing.functionalize import flat_value, store, written_value
from tzwc.tracing.graph_builder import Recorder, needs_gradient
from tzwc.tracing.source_location import Origins
from tzwc.tracing.stand_ins import Number
from tzwc.tracing.storage import Memory
from tzwc.tracing.tensor_table import TensorTable

__all__ = ["Read", "ReadKind", "Tracer"]

aten = torch.ops.aten

_DROPOUTS = (aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default)
_INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
_CONSTANTS = (int, float, complex, bool, str, bytes, torch.dtype, torch.device)
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_DATA_DEPENDENT = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)
# Their results never require gradients, whatever their arguments do.
_CUTS_GRADIENT = {"aten::detach", "aten::detach_", "aten::zeros_like", "aten::ones_like", "aten::empty_like"}
_NOT_COMPUTING = {"prim", "profiler"}  # ``with record_function("…")`` marks a region for whoever measures the program

ReadKind = Literal["value", "integer", "shape"]


@dataclass(frozen=True)
class Read:
    """A value that the program took out of a static tensor.

    Attributes:
        node: what it was read from.
        kind: the ``value`` of a number or tensor, only its ``integer`` part, or only the ``shape`` of a result whose
            shape depends on values.
        expected: what was read: a number, a tensor, or sizes.
        line: the user's line, as ``file:line: code``.
        module_path: dotted path of the module whose forward that line belongs to.
        of: what the program made of the number; it is this that is expected.
    """

    node: fx.Node
    kind: ReadKind
    expected: Any
    line: str
    module_path: str
    of: Callable[[float], Any] | None = None


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator that is called while it is active.

    Args:
        find_slot: gives the placeholder of a real tensor that the program holds.
        origins: tells where an operator was called.
        fake_mode: of the inputs.

    Attributes:
        recorder: the graph.
        tensors: what is known of every tensor.
        memory: behind every real tensor.
        reads: what the program took out of static tensors.
        numbers: whether the program got a :class:`Number` for a float.
        autocast: a function mode to be active as well, which sees autocast.
        refusal: why the program cannot be traced, even if it has caught the exception and gone on.
    """

    def __init__(
        self, find_slot: Callable[[Recorder, Tensor, Tensor], fx.Node], origins: Origins, fake_mode: FakeTensorMode
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = Recorder(origins, fake_mode)
        self.tensors = TensorTable(self.recorder, find_slot, origins, fake_mode)
        self.autocast = AutocastAbove()
        self.memory = self.tensors.memory
        self.origins = origins
        self.reads: list[Read] = []
        self.numbers = False
        self._fake_mode = fake_mode
        self._read_already: set[tuple[Any, ...]] = set()
        self.refusal = ""

    def read(self, node: fx.Node, kind: ReadKind, expected: Any) -> None:
        """Note that the program went on with a value that it took out of ``node``."""
        if (node, kind) not in self._read_already:
            self._read_already.add((node, kind))
            self.reads.append(Read(node, kind, expected, self.origins.line(), self.origins.module_path()))

    def number(self, tensor: Tensor) -> Number:
        """The float that a static tensor holds; what the program makes of it becomes an assumption."""
        with disable_current_modes():
            node = self._call(aten._local_scalar_dense.default, (tensor,), {}, [tensor])
            value = float(aten._local_scalar_dense.default(tensor))
        node.meta["val"] = value
        self.numbers = True
        line, path = self.origins.line(), self.origins.module_path()

        def note(of: Callable[[float], Any]) -> None:
            self.reads.append(Read(node, "value", of(value), line, path, of))

        return Number(value, note)

    def output(self, leaf: Any) -> Any:
        """What the graph returns for a leaf of the program's result: a node or a constant.

        Raises:
            CaptureError: the leaf is neither a tensor nor a constant, or has gradients that were switched off.
        """
        if isinstance(leaf, Tensor):
            node = self.tensors.result_of(leaf)
            if self.tensors.requires_grad(leaf) and not torch.is_grad_enabled():
                raise CaptureError("forward returns a result with gradients although they are switched off")
            return node
        if isinstance(leaf, _SYMBOLIC):
            return self.recorder.symbols.node_for(leaf)
        if leaf is None or isinstance(leaf, _CONSTANTS):
            return leaf
        raise CaptureError(f"forward returns a {type(leaf).__name__}, which is neither a tensor nor a constant")

    # --- operators --------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if func.namespace in _NOT_COMPUTING:
            return func(*args, **kwargs)
        if self.autocast.parts(func):
            with self.autocast.active(), self:
                return func.decompose(*args, **kwargs)
        if func in _DROPOUTS and (args[2] is False or args[1] == 0):
            return args[0]  # it would draw nothing
        leaves = pytree.tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if writes_to_lists(func):
            return self._write_to_lists(func, args, kwargs, tensors)
        dynamic = (
            any(map(self.tensors.is_dynamic, tensors))
            or torch.Tag.nondeterministic_seeded in func.tags
            or any(isinstance(leaf, _SYMBOLIC) for leaf in leaves)
        )
        try:
            return (self._dynamic if dynamic else self._static)(func, args, kwargs, tensors)
        except _DATA_DEPENDENT as error:
            self.refusal = f"{self.origins.line()} depends on the values of the inputs"
            raise CaptureError(self.refusal) from error
        except CaptureError as error:
            self.refusal = str(error)
            raise

    def refuse(self, what: str) -> NoReturn:
        """Give up because of what the user's line does."""
        self.refusal = f"{self.origins.line()} {what}"
        raise CaptureError(self.refusal)

    def _write_to_lists(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        """Compute what ``func`` writes to each tensor of its lists, and write that to them one by one."""
        functional = functional_form(func)
        written = written_values(func, args, kwargs)
        if functional is None:
            self.refuse(f"calls {func._schema.name}, which writes to lists of tensors and has no functional form")
        places = [tensor.untyped_storage()._cdata for tensor in tensors if tensor.numel()]
        if any(tensor.numel() and places.count(tensor.untyped_storage()._cdata) > 1 for tensor in written):
            # The operator may write to one before it reads the other.
            self.refuse(f"calls {func._schema.name} with tensors that share memory")
        with self:
            values = [value for value in pytree.tree_leaves(functional(*args, **kwargs)) if isinstance(value, Tensor)]
        pairs = list(zip(written, values, strict=True))
        if any(new.shape != old.shape or not torch.can_cast(new.dtype, old.dtype) for old, new in pairs):
            self.refuse(f"calls {func._schema.name} with a result that does not fit what it is written to")
        with self:
            for old, new in pairs:
                old.copy_(new)

    def _dynamic(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        if returns_number(func):
            raise CaptureError(f"{self.origins.line()} reads a value that depends on the inputs")
        if func in _INDEXED:
            args = (args[0], [self._position(index) for index in args[1]], *args[2:])
            args = (args[0], [p for positions in args[1] for p in positions], *args[2:])
            tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        written = written_values(func, args, kwargs)
        for tensor in written:
            self._write_dynamic(tensor)
        target, moved = _view_instead(func)
        node = self._call(target, args, kwargs, tensors)
        originals = {id(self.tensors.fake_of(tensor)): tensor for tensor in tensors}
        fake_args, fake_kwargs = pytree.tree_map_only(Tensor, self.tensors.fake_of, (args, kwargs))
        if moved:
            self._keep_record(args[0])
        with self._fake_mode, self._unguarded(func):
            result = func(*fake_args, **fake_kwargs)
        if isinstance(result, Tensor) and id(result) in originals and not written:
            self.recorder.graph.erase_node(node)
            return originals[id(result)]
        self._describe(node, result)
        if returns_written(func):
            self.tensors.rebind(written[0], node)
        return self._returned(node, result, originals)

    def _unguarded(self, func: Any) -> AbstractContextManager[None]:
        """Convolutions ask whether the batch is large, to predict a memory format; sizes do not depend on it."""
        environment = self._fake_mode.shape_env
        if environment is None or "conv" not in func._schema.name:
            return nullcontext()
        return environment.suppress_guards()

    def _write_dynamic(self, tensor: Tensor) -> None:
        if not isinstance(tensor, FakeTensor):
            memory = self.memory.of(tensor)
            self.memory.save(tensor)
            memory.version += 1  # views are taken from the memory's value again, so that the write reaches it
            memory.dynamic, memory.functional = True, False

    def _keep_record(self, tensor: Tensor) -> None:
        """Give the node of a tensor whose shape is about to change in place a fake of its own."""
        node = self.tensors.node_of(tensor)
        with self._fake_mode:
            node.meta["val"] = self.tensors.fake_of(tensor).detach()

    def _static(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        if func is aten.lift_fresh.default:
            return self._literal(args[0])
        written = written_values(func, args, kwargs)
        for tensor in written:
            self.memory.save(tensor)
        target, moved = _view_instead(func)
        if moved and not self.memory.of(args[0]).fresh:
            raise CaptureError(f"{self.origins.line()} changes the shape of a tensor that outlives the call")
        if written and not moved and self._write_functional(func, args, kwargs, tensors, written):
            return func(*args, **kwargs)
        if returns_number(func):
            return self._number(func, args, kwargs, tensors)
        node = self._call(target, args, kwargs, tensors)
        if moved:
            self._keep_record(args[0])
        result = func(*args, **kwargs)
        originals = {id(tensor): tensor for tensor in tensors}
        if isinstance(result, Tensor) and id(result) in originals and not written:
            self.recorder.graph.erase_node(node)
            return result
        self._describe(node, pytree.tree_map_only(Tensor, self.tensors.fake_of, result))
        if returns_written(func):
            self.tensors.rebind(written[0], node)
        result = self._returned(node, result, originals)
        if torch.Tag.dynamic_output_shape in func.tags or _selects(func, args):
            for tensor in pytree.tree_leaves(result):
                self.read(self.tensors.node_of(tensor), "shape", tuple(tensor.shape))
        return result

    def _number(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        result = func(*args, **kwargs)
        key = (func, *map(self.tensors.node_of, tensors))
        if key not in self._read_already:
            self._read_already.add(key)
            node = self._call(func, args, kwargs, tensors)
            node.meta["val"] = result
            self.read(node, "value", result)
        return result

    def _literal(self, tensor: Tensor) -> Tensor:
        """A tensor made from Python numbers: a constant, and a copy of it that the program may write to."""
        constant = self.tensors.constant(tensor)
        self.tensors.bind(tensor, self.recorder.evaluate(aten.clone.default, constant))
        return tensor

    def _write_functional(
        self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], written: list[Tensor]
    ) -> bool:
        """Give fresh memory a new value instead of writing to it, where that can be said; whether it was."""
        target, memory = written[0], self.memory.of(written[0])
        if len(written) != 1 or not memory.functional or not args or args[0] is not target or target.is_complex():
            return False
        if self._two_histories(memory, self._differentiable(func, tensors)):
            memory.functional = False
            return False
        flat = flat_value(self.recorder, memory, target)
        if flat is None or flat.meta["val"].dtype != target.dtype:
            memory.functional = False
            return False
        arguments, keywords = self.recorder.arguments((args, kwargs), self.tensors.node_of)
        value = written_value(self.recorder, func, arguments, keywords, self._differentiable(func, tensors))
        store(self.recorder, memory, flat, value, target)
        self.tensors.written(target, value)
        return True

    def _two_histories(self, memory: Memory, requires_grad: bool) -> bool:
        """Whether a write must leave the history of some tensor in ``memory`` alone: one value has one history."""
        held = memory.first if memory.value is None else memory.value
        if not self.recorder.grad or not (requires_grad or (held is not None and needs_gradient(held))):
            return False
        if torch.is_grad_enabled() and not memory.cut:
            return False
        if memory.value is not None:
            self.refuse("writes to a tensor past its gradients, after other writes to it")
        return True

    def whole(self, target: Callable[..., Any], args: Sequence[Any], run: Callable[[list[Any]], Any]) -> Any:
        """Record one call of Python code with tensors among ``args``, tried out by ``run`` on fakes."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        before = [self.tensors.fake_of(t)._version for t in tensors]
        with torch.enable_grad():  # autograd runs it without; the node runs where the program called it
            arguments = self.recorder.arguments(tuple(args), self.tensors.node_of)
        node = self.recorder.call(target, arguments, {}, any(map(self.tensors.requires_grad, tensors)))
        fakes = [self.tensors.fake_of(a) if isinstance(a, Tensor) else a for a in args]
        with disable_current_modes(), self._fake_mode:
            result = run(fakes)
        if before != [self.tensors.fake_of(t)._version for t in tensors]:
            self.refuse("calls a custom autograd.Function that writes to its arguments")
        # An argument that is returned as it is becomes a tensor with a history of its own.
        given = set(map(id, fakes))
        with disable_current_modes(), self._fake_mode:
            result = pytree.tree_map_only(Tensor, lambda t: t.detach() if id(t) in given else t, result)
        self._describe(node, result)
        return self._returned(node, result, {})

    # --- nodes ------------------------------------------------------------------------------------------------------

    def _call(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> fx.Node:
        arguments, keywords = self.recorder.arguments((args, kwargs), self.tensors.node_of)
        return self.recorder.call(func, arguments, keywords, self._differentiable(func, tensors))

    def _differentiable(self, func: Any, tensors: Iterable[Tensor]) -> bool:
        if not torch.is_grad_enabled() or func._schema.name in _CUTS_GRADIENT:
            return False
        return any(map(self.tensors.requires_grad, tensors))

    def _describe(self, node: fx.Node, fake: Any) -> None:
        value = tuple(fake) if isinstance(fake, (tuple, list)) else fake
        self.recorder.describe(node, value, needs_gradient(node))

    def _returned(self, node: fx.Node, result: Any, originals: dict[int, Tensor]) -> Any:
        """``result`` with the program's own tensors in place of their fakes, and new ones bound to nodes."""

        if isinstance(result, Tensor):
            if id(result) in originals:
                return originals[id(result)]
            self.tensors.bind(result, node)
            return result
        if not isinstance(result, (tuple, list)):
            return result
        elements = []
        for index, part in enumerate(result):
            given = isinstance(part, Tensor) and id(part) in originals
            holds = isinstance(part, Tensor) or (isinstance(part, (tuple, list)) and len(part) > 0)
            if given or not holds:
                elements.append(originals[id(part)] if given else part)
                continue
            fakes = pytree.tree_map_only(Tensor, self.tensors.fake_of, part)
            fake = fakes if isinstance(part, Tensor) else tuple(fakes)
            elements.append(self._returned(self.recorder.element(node, index, fake), part, originals))
        return type(result)(elements) if type(result) in (tuple, list) else tuple(elements)

    def _position(self, index: Any) -> list[Any]:
        """A static mask as positions: its sum decides a shape, which fakes cannot know."""
        if (
            not isinstance(index, Tensor)
            or index.dtype not in (torch.bool, torch.uint8)
            or self.tensors.is_dynamic(index)
        ):
            return [index]
        positions = self._static(aten.nonzero.default, (index,), {}, [index])
        return [self._static(aten.select.int, (positions, 1, i), {}, [positions]) for i in range(index.dim())]


def _selects(func: Any, args: Any) -> bool:
    """Whether the shape of an indexing's result depends on a mask."""
    return func is aten.index.Tensor and any(map(_is_mask, args[1]))


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _view_instead(func: Any) -> tuple[Any, bool]:
    """``unsqueeze`` for ``unsqueeze_``, and whether ``func`` is such an operator."""
    if torch.Tag.inplace_view not in func.tags:
        return func, False
    view = view_form(func)
    if view is None:
        raise CaptureError(f"{func} changes a tensor's shape or storage in place")
    return view, True
