"""Dynamo's graph, of torch functions and methods, as a graph of ATen operators with its parameters as slots.

The graph is run node by node under :class:`tzwc.tracing.Tracer`, with real parameters and buffers and with fakes for
everything else, exactly as :func:`tzwc.capture` runs a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tzwc._torch import pytree
from tzwc._torch.autocast import any_autocast_enabled
from tzwc._torch.autograd import AutoDispatchBelowAutograd
from tzwc._torch.dispatch import enable_python_dispatcher
from tzwc._torch.fake_tensors import FakeTensor
from tzwc._torch.tensors import requires_grad_of
from tzwc.dynamo.interpreter import Runner
from tzwc.dynamo.origins import NodeOrigins, dotted
from tzwc.dynamo.symbols import Sizes
from tzwc.errors import CaptureError
from tzwc.ir.graph import alias_groups, mutated_arguments, order_placeholders
from tzwc.tracing import Interception, Tracer
from tzwc.tracing.assumptions import Assumptions
from tzwc.tracing.graph_builder import Recorder
from tzwc.tracing.graph_inputs import placeholder_name
from tzwc.tracing.patches import patching
from tzwc.tracing.random_generators import same_randomness

__all__ = ["GraphSlot", "Retraced", "is_plain", "retrace"]


@dataclass(frozen=True)
class GraphSlot:
    """A parameter or buffer that the graph is given at every call, or a constant of the graph.

    Attributes:
        name: its placeholder.
        path: dotted name in the module.
        position: among the arguments of Dynamo's graph; ``None`` for a constant.
        constant: the tensor, when it is one.
    """

    name: str
    path: str
    position: int | None
    constant: Tensor | None = None

    def tensor(self, arguments: Sequence[Any]) -> Tensor:
        """The slot's tensor, given the arguments of Dynamo's graph."""
        found = self.constant if self.position is None else arguments[self.position]
        assert isinstance(found, Tensor)
        return found


@dataclass(frozen=True)
class Retraced:
    """A graph of Dynamo's as ATen operators; the counterpart of :class:`tzwc.tracing.capture.Capture`.

    Attributes:
        module: its placeholders are the slots, then the inputs, in order.
        slots: one for each of the first placeholders.
        inputs: names of the remaining placeholders.
        positions: of the inputs among the arguments of Dynamo's graph.
        sizes: what the symbolic sizes stand for; their guards are not handed over yet.
        assumptions: none; Dynamo has guarded what the program read.
        written: names of the slots that the graph writes to.
    """

    module: fx.GraphModule
    slots: tuple[GraphSlot, ...]
    inputs: tuple[str, ...]
    positions: tuple[int, ...]
    sizes: Sizes
    assumptions: Assumptions
    written: frozenset[str]


def retrace(module: fx.GraphModule, examples: Sequence[Any]) -> Retraced:
    """Trace Dynamo's graph ``module``, called with ``examples``, in the current grad and autocast modes.

    Raises:
        CaptureError: it holds something that has no faithful form in a graph of operators.
    """
    grad = torch.is_grad_enabled()
    with patching, torch.inference_mode(False), torch.set_grad_enabled(grad):
        return _Retracing(module, examples).run()


class _Retracing:
    def __init__(self, module: fx.GraphModule, examples: Sequence[Any]) -> None:
        self._module = module
        self._examples = examples
        self._grad = torch.is_grad_enabled()
        self._placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        self._sizes = Sizes()
        self._origins = NodeOrigins()
        self._tracer = Tracer(self._find, self._origins, self._sizes.mode)
        self._places: dict[int, tuple[str, int]] = {}
        self._slots: list[GraphSlot] = []
        self._inputs: list[str] = []
        self._positions: list[int] = []
        self._fakes: list[Tensor] = []

    def run(self) -> Retraced:
        arguments = [self._argument(i, n) for i, n in enumerate(self._placeholders)]
        for position, given in enumerate(arguments):
            if isinstance(given, torch.SymInt):
                self._number(position, given)
        layouts = [_layout(fake) for fake in self._fakes]
        with ExitStack() as stack:
            stack.callback(self._tracer.memory.restore)
            interception = Interception(self._tracer)
            with same_randomness(), interception.active():
                result = self._call(arguments)
            if interception.moved:
                raise CaptureError(f"a tensor is given other data at {interception.moved[0]}")
            if [_layout(fake) for fake in self._fakes] != layouts:
                raise CaptureError("the shape of an argument is changed in place")
            return self._finish(result)

    def _call(self, arguments: Sequence[Any]) -> Any:
        with ExitStack() as stack:
            # Weights that autocast keeps converted would look like constants.
            stack.callback(torch.set_autocast_cache_enabled, torch.is_autocast_cache_enabled())
            torch.set_autocast_cache_enabled(False)
            stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
            stack.enter_context(enable_python_dispatcher())
            stack.enter_context(AutoDispatchBelowAutograd())
            stack.enter_context(self._tracer)
            if any_autocast_enabled():
                stack.enter_context(self._tracer.autocast)
            return Runner(self._module, self._origins, self._read_float).run(*arguments, enable_io_processing=False)

    # --- arguments --------------------------------------------------------------------------------------------------

    def _argument(self, position: int, node: fx.Node) -> Any:
        example = self._examples[position]
        if isinstance(example, torch.SymInt):
            return self._sizes.number(example)
        if not isinstance(example, Tensor):
            if isinstance(example, (torch.SymFloat, torch.SymBool, torch.ScriptObject)):
                raise CaptureError(f"the argument {node.name} is a {type(example).__name__}")
            return example
        if not is_plain(example):
            raise CaptureError(f"the argument {node.name} is not a plain dense tensor")
        like = node.meta.get("example_value")
        like = like if isinstance(like, FakeTensor) else example
        if is_slot(node, example) and not _symbolic(like):
            self._places[id(example)] = _source(node), position
            return example
        if [_size(s) for s in like.shape] != [_size(s) for s in example.shape]:
            raise CaptureError(f"the shape of the argument {node.name} is changed in place")
        fake = self._sizes.like(like)
        self._fakes.append(fake)
        grad = self._grad and example.requires_grad
        made = self._tracer.recorder.placeholder(placeholder_name(dotted(_source(node))), fake, grad)
        self._tracer.recorder.symbols.define(made, fake)
        self._tracer.tensors.bind(fake, made)
        self._inputs.append(made.name)
        self._positions.append(position)
        return fake

    def _number(self, position: int, given: torch.SymInt) -> None:
        """A symbolic number that is an argument of its own, unless it is the size of another one."""
        made = self._tracer.recorder.symbols.define_number(self._placeholders[position].name, given)
        if made is not None:
            self._inputs.append(made.name)
            self._positions.append(position)

    def _read_float(self, tensor: Tensor, given: torch.SymFloat) -> Any:
        number = self._sizes.number(given)
        if isinstance(number, torch.SymFloat):
            recorder = self._tracer.recorder
            node = self._tracer.tensors.node_of(tensor)
            recorder.symbols.stand_for(number, recorder.call(torch.ops.aten._local_scalar_dense.default, (node,), {}))
        return number

    def _find(self, recorder: Recorder, tensor: Tensor, fake: Tensor) -> fx.Node:
        source, position = self._places.get(id(tensor), (f"constant{len(self._slots)}", None))
        path = dotted(source)
        prefix = "c" if position is None else "p" if isinstance(tensor, nn.Parameter) else "b"
        requires_grad = self._grad and requires_grad_of(tensor)  # the region that reads it may be without gradients
        node = recorder.placeholder(placeholder_name(f"{prefix}_{path}"), fake, requires_grad)
        self._slots.append(GraphSlot(node.name, path, position, tensor if position is None else None))
        return node

    # --- the result -------------------------------------------------------------------------------------------------

    def _finish(self, result: Any) -> Retraced:
        outputs = pytree.tree_map(self._tracer.output, tuple(result) if isinstance(result, list) else result)
        if self._tracer.reads:
            raise CaptureError(f"a value of a parameter is read at {self._tracer.reads[0].line}")
        recorder = self._tracer.recorder
        recorder.finish(outputs)
        graph = recorder.graph
        order_placeholders(graph, [*(slot.name for slot in self._slots), *self._inputs])
        written = self._written(graph)
        graph.lint()
        return Retraced(
            fx.GraphModule({}, graph, "Dynamo"),
            tuple(self._slots),
            tuple(self._inputs),
            tuple(self._positions),
            self._sizes,
            Assumptions(graph),
            written,
        )

    def _written(self, graph: fx.Graph) -> frozenset[str]:
        """The slots that the graph writes to; arguments and shared memory are left to the inner backend."""
        groups = alias_groups(graph)
        written = {groups[argument] for node in graph.nodes for argument in mutated_arguments(node)}
        found = {n.name for n in graph.nodes if n.op == "placeholder" and groups[n] in written}
        for name in found & set(self._inputs):
            raise CaptureError(f"the argument {name} is written to, or may be")
        tensors = {s.name: s.tensor(self._examples) for s in self._slots}
        everything = [*tensors.values(), *(e for e in self._examples if isinstance(e, Tensor))]
        for name in found:
            own = tensors[name]
            others = [
                t for t in everything if t is not own and t.untyped_storage()._cdata == own.untyped_storage()._cdata
            ]
            if others and own.numel():
                raise CaptureError(f"{name} is written to and shares its memory with another tensor")
        return frozenset(found)


_PLAIN = (Tensor, nn.Parameter, nn.Buffer)


def is_plain(example: Tensor) -> bool:
    """Whether it is dense, and of no class that may have a say in what operators do."""
    return example.layout == torch.strided and not example.is_quantized and type(example) in _PLAIN


def is_slot(node: fx.Node, example: Any) -> bool:
    """Whether a graph input is a parameter or buffer: the same tensor at most calls, and to be watched for changes."""
    if not isinstance(example, Tensor) or isinstance(example, FakeTensor) or example.is_inference():
        return False
    noted = node.meta.get("tensor_dict") or {}
    return isinstance(example, nn.Parameter) or noted.get("_dynamo_static_input_type") is not None


def _source(node: fx.Node) -> str:
    argument = node.meta.get("grapharg")
    source = getattr(argument, "source", None)
    return str(source.name) if source is not None else node.name


def _symbolic(tensor: Tensor) -> bool:
    return any(isinstance(n, torch.SymInt) and not n.node.expr.is_number for n in (*tensor.shape, *tensor.stride()))


def _size(size: Any) -> int:
    return (
        int(size.node.hint)
        if isinstance(size, torch.SymInt) and size.node.has_hint()
        else -1
        if isinstance(size, torch.SymInt)
        else size
    )


def _layout(fake: Tensor) -> tuple[str, str]:
    return str(fake.shape), str(fake.stride())
