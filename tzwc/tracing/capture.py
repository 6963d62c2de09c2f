"""Capture a module as one ATen-level torch.fx graph whose parameters and buffers are inputs, fetched live.

The module is run once, as it is, under :class:`tzwc.tracing.Tracer`. What a graph of operators cannot express is found
out around that: changes of Python state become effects, values that were read become assumptions, and what is neither
is refused, so that ``tzwc.compile`` can run such a module as it was.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from tzwc._torch import pytree
from tzwc._torch.autocast import any_autocast_enabled
from tzwc._torch.autograd import AutoDispatchBelowAutograd
from tzwc._torch.dispatch import enable_python_dispatcher
from tzwc._torch.dynamo import ConstantSource
from tzwc._torch.fake_tensors import FakeTensor, FakeTensorMode
from tzwc.autotune.disturbance import working
from tzwc.errors import CaptureError
from tzwc.ir.graph import fake_mode_of, location, order_placeholders
from tzwc.ir.pytree import flatten_result
from tzwc.ir.symbolic_sizes import fits
from tzwc.tracing import (
    Counter,
    Interception,
    Origins,
    Tracer,
    as_plain,
    escaped_fake,
    escaped_value,
    forget_escaped,
    source_of,
)
from tzwc.tracing.assumptions import Assumptions
from tzwc.tracing.global_state import global_state
from tzwc.tracing.graph_inputs import Slot, SlotTable, placeholder_name
from tzwc.tracing.parametrized import CachedWeights, UncachedError, evaluating_weights, traced_cache
from tzwc.tracing.patches import patching
from tzwc.tracing.python_state import PythonState, refuse_unfaithful
from tzwc.tracing.random_generators import draws, same_randomness
from tzwc.tracing.side_effects import Counted, Effect, Unrepeatable, effects_of
from tzwc.tracing.write_checks import refuse_shared_writes, refuse_written_inputs

__all__ = ["Capture", "Slot", "UnsettledError", "capture", "capture_call"]


class UnsettledError(CaptureError):
    """The traced call changes the state that it depends on, so the next one will be another program."""


@dataclass(frozen=True)
class Capture:
    """A module as a graph.

    Attributes:
        module: the graph; its placeholders are the slots, then the tensor inputs, in order. It returns a flat tuple:
            the leaves of the result, then what the effects need.
        slots: one for each of the first placeholders.
        inputs: names of the remaining placeholders, one for each tensor leaf of the arguments.
        out_spec: how the leaves of the result are put together again.
        assumptions: values of slots that the program read, and that the graph takes for granted.
        effects: entries of dictionaries and lists that the program sets at every call.
        printed: arguments of the program's calls of ``print``, in order.
        unsettled: why the next call will need another graph; empty when it will not.
    """

    module: fx.GraphModule
    slots: tuple[Slot, ...]
    inputs: tuple[str, ...]
    out_spec: pytree.TreeSpec
    assumptions: Assumptions
    effects: tuple[Effect, ...] = ()
    printed: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = ()
    unsettled: str = ""

    def accepts(self, sizes: Sequence[torch.Size]) -> bool:
        """Whether the graph is right for inputs of these sizes (one for each of ``inputs``)."""
        fakes = [n.meta["val"] for n in self.module.graph.nodes if n.op == "placeholder" and n.name in self.inputs]
        return fits([fake.shape for fake in fakes], sizes, fake_mode_of(self.module.graph))


def capture(module: nn.Module, /, *args: Any, **kwargs: Any) -> Capture:
    """Capture ``module(*args, **kwargs)`` as a graph, in the current grad mode and the module's training mode.

    The leading (batch) size of every tensor is left open where the program allows it.

    Args:
        module: any module; it is left as it was.
        args, kwargs: example arguments; tensors in nested tuples, lists and dictionaries become graph inputs, all
            other leaves are constants of the graph.

    Raises:
        CaptureError: the module cannot be captured faithfully; the message says why and where.
    """
    return evaluating_weights(lambda: capture_call(module, args, kwargs))


def capture_call(
    module: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, dynamic: bool = True
) -> Capture:
    """:func:`capture` with the arguments as a sequence and a mapping.

    Args:
        module, args, kwargs: as there.
        dynamic: let the leading (batch) size of every tensor be symbolic where the program allows it. Sizes 0 and 1
            are always fixed, since PyTorch treats them specially.

    Raises:
        CaptureError: the module cannot be captured faithfully; the message says why and where.
        UncachedError: inside ``parametrize.cached()``, weights must be evaluated first.
    """
    kwargs = dict(kwargs or {})
    try:
        inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise CaptureError(f"the arguments do not fit {type(module).__name__}.forward: {error}") from error
    refuse_unfaithful(module)
    with patching, working("a capture"):
        counters: Sequence[tuple[str, Any, Any]] = ()
        numbers = True
        while True:
            tracing = _Tracing(module, dynamic, counters, numbers=numbers)
            try:
                captured = tracing.run(tuple(args), kwargs)
            except Counted as found:
                if counters:  # set to another value, not counted up
                    path = found.entries[0][0]
                    raise UnsettledError(f"forward sets the integer {path!r}, which a graph cannot replay") from None
                counters = found.entries
            except UncachedError:
                raise
            except Exception:
                if not numbers or not tracing.numbers:
                    raise
                numbers = False  # what it does with a float may want a real one
            else:
                tracing.refuse_escapes(captured)
                return captured


class _Tracing:
    """One run of a module under the tracer.

    Args:
        module: is traced.
        dynamic: leave the batch size open.
        counters: dotted name, container and key of integers that must not be looked at.
        numbers: assume what the program makes of a float, instead of the float.
    """

    def __init__(
        self, module: nn.Module, dynamic: bool, counters: Sequence[tuple[str, Any, Any]], *, numbers: bool
    ) -> None:
        self._counters = counters
        self._numbers = numbers
        self._module = module
        self._dynamic = dynamic
        self._mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        self._table = SlotTable(module)
        self._tracer = Tracer(self._table.find, Origins(module, self._call.__code__), self._mode)
        self._inputs: list[str] = []
        self._around: tuple[Any, ...] = ()
        self._weights: set[tuple[int, str]] = set()

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Capture:
        fake_args, fake_kwargs = self._fakes(args, kwargs)
        state = PythonState(self._module, (fake_args, fake_kwargs))
        interception = Interception(self._tracer, numbers=self._numbers)
        with ExitStack() as stack:
            stack.callback(self._tracer.memory.restore)
            stack.callback(state.restore)
            for path, container, key in self._counters:
                container[key] = Counter(path, self._tracer.refuse, container[key])
            cache = traced_cache(self._module, self._cached_weight)
            try:
                with same_randomness(self._module), interception.active(), cache:
                    result = self._call(fake_args, fake_kwargs)
            except (CaptureError, UncachedError):
                raise
            except Exception as error:
                # PyTorch may swallow a refusal, and complains of a stand-in without asking what it stands for.
                if self._tracer.refusal:
                    raise CaptureError(self._tracer.refusal) from error
                if self._counters and Counter.__name__ in str(error):
                    self._refuse_counters(error)
                raise
            return self._finish(result, state, interception)

    def _refuse_counters(self, error: Exception) -> NoReturn:
        paths = " or ".join(repr(path) for path, *_ in self._counters)
        line = self._tracer.origins.line_of(error)
        raise CaptureError(f"{line} depends on {paths}, which forward changes at every call") from error

    def refuse_escapes(self, captured: Capture) -> None:
        """Look for tensors that the program has kept where this module knows nothing of them.

        Raises:
            CaptureError: there is one.
        """
        converter = self._mode.fake_tensor_converter
        converter.meta_converter.tensor_memo.clear()
        node = escaped_fake(self._tracer.tensors, captured.module.graph)
        if node is not None:
            raise CaptureError(f"a result is kept outside of the module: {location(node)}")
        node = escaped_value(self._tracer.tensors, self._table.identities())
        if node is not None:
            held = source_of(node, {slot.name: slot.path for slot in self._table.slots if slot.kind != "constant"})
            if held:
                forget_escaped(self._tracer.tensors, node)
                # It would be stale, and without a gradient, in a graph that takes it for a constant.
                raise CaptureError(f"a value is kept outside of the module, made of {held!r}: {location(node)}")
            raise UnsettledError(f"a value is kept outside of the module: {location(node)}")

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with ExitStack() as stack:
            # Weights that autocast keeps converted would look like constants.
            stack.callback(torch.set_autocast_cache_enabled, torch.is_autocast_cache_enabled())
            torch.set_autocast_cache_enabled(False)
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            # What a custom autograd.Function saves is for a backward pass that never comes.
            nothing = torch.empty(0)
            stack.enter_context(saved_tensors_hooks(lambda _: nothing, lambda saved: saved))
            stack.enter_context(enable_python_dispatcher())
            stack.enter_context(AutoDispatchBelowAutograd())
            stack.enter_context(self._tracer)
            if any_autocast_enabled():
                stack.enter_context(self._tracer.autocast)
            around = self._around = global_state()
            try:
                result = self._module(*args, **kwargs)
            except BaseException as error:
                _clear_frames(error)
                raise
            if global_state() != around:
                raise CaptureError("forward switches gradients, autocasting or defaults of PyTorch for its caller")
            return result

    def _cached_weight(self, owner: nn.Module, name: str, tensor: Tensor | None) -> None:
        """Let a weight that PyTorch caches be an input, evaluated where the call begins if the block has none yet."""
        if (id(owner), name) not in self._weights and global_state() != self._around:
            self._tracer.refuse(f"reads {name!r} inside parametrize.cached() where gradients or autocast are switched")
        self._weights.add((id(owner), name))
        if tensor is None:
            return
        path = next((path for path, child in self._module.named_modules() if child is owner), "")
        self._table.place(tensor, "parametrized", f"{path}.{name}".lstrip("."), CachedWeights(owner), name)
        self._tracer.tensors.node_of(tensor)

    def _fakes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        leaves, spec = pytree.tree_flatten_with_path((args, kwargs))
        parameters = list(inspect.signature(self._module.forward).parameters)
        fakes: list[Any] = []
        first: dict[int, Tensor] = {}
        for path, leaf in leaves:
            fake = self._fake(_name(path, parameters), leaf) if isinstance(leaf, Tensor) else leaf
            fakes.append(first.setdefault(id(leaf), fake) if isinstance(leaf, Tensor) else leaf)
        result: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_unflatten(fakes, spec)
        return result

    def _fake(self, name: str, leaf: Tensor) -> Tensor:
        varies = self._dynamic and leaf.ndim > 0 and leaf.shape[0] > 1
        sizes = [DimDynamic.DYNAMIC if varies and d == 0 else DimDynamic.STATIC for d in range(leaf.ndim)]
        fake = self._mode.from_tensor(
            leaf.detach(), symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes), source=ConstantSource(name)
        )
        node = self._tracer.recorder.placeholder(placeholder_name(name), fake, leaf.requires_grad)
        self._tracer.recorder.symbols.define(node, fake)
        self._tracer.tensors.bind(fake, node)
        self._inputs.append(node.name)
        return fake

    # --- from what was recorded to a capture ------------------------------------------------------------------------

    def _finish(self, result: Any, state: PythonState, interception: Interception) -> Capture:
        if self._tracer.refusal:
            raise CaptureError(self._tracer.refusal)  # the program has caught it and gone another way
        if interception.changed_unseen():
            raise CaptureError("forward changes a tensor that it has given to NumPy or to another library")
        if state.owns(result):
            raise CaptureError("forward returns a list or a dictionary of its own, which is to be that very object")
        leaves, out_spec = flatten_result(result)
        outputs = [self._tracer.output(as_plain(leaf)) for leaf in leaves]

        def add_result(leaf: Any) -> int:
            outputs.append(self._tracer.output(as_plain(leaf)))
            return len(outputs) - len(leaves) - 1

        if interception.moved:
            raise UnsettledError(f"forward gives a parameter other data at {interception.moved[0]}")
        changes = state.changes()
        try:
            effects = effects_of(changes, add_result)
        except Unrepeatable as reason:
            raise UnsettledError(f"{reason}, an effect that a graph cannot replay") from reason
        recorder, slots = self._tracer.recorder, tuple(self._table.slots)
        recorder.finish(tuple(outputs))
        graph = recorder.graph
        if interception.generator_moved and draws(graph):
            raise CaptureError(f"{interception.generator_moved} moves PyTorch's random generator, and forward draws")
        order_placeholders(graph, [*(slot.name for slot in slots), *self._inputs])
        assumptions = Assumptions(graph, self._tracer.reads)
        unsettled = self._unsettled(assumptions, effects)
        refuse_written_inputs(graph, self._inputs)
        refuse_shared_writes(graph, slots, self._table.tensors)
        graph.lint()
        module = fx.GraphModule({}, graph, type(self._module).__name__)
        return Capture(
            module,
            slots,
            tuple(self._inputs),
            out_spec,
            assumptions,
            effects,
            tuple(interception.printed),
            unsettled,
        )

    @property
    def numbers(self) -> bool:
        """Whether the program got a stand-in for a float."""
        return self._tracer.numbers

    def _unsettled(self, assumptions: Assumptions, effects: Sequence[Effect]) -> str:
        # The module's memory is still as the traced call left it.
        now = {slot.name: slot.fetch() for slot in self._table.slots if slot.name in assumptions.slots}
        if any(isinstance(tensor, FakeTensor) for tensor in now.values()):
            raise UnsettledError("forward reads a value that the call before it computed from its inputs")
        violated = assumptions.violated(now)
        if violated is not None:
            raise UnsettledError(f"forward changes what it depends on: {violated}")
        fickle = [effect.path for effect in effects if not effect.settled]
        return f"forward sets {fickle[0]!r} to a value of another kind" if fickle else ""


def _clear_frames(error: BaseException | None) -> None:
    """Let go of the guards in the frames of tracebacks: each restores what was so when it was made, if only later."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _name(path: Sequence[Any], parameters: Sequence[str]) -> str:
    """The name of the argument that a leaf belongs to, with the keys that lead to it."""
    _, leading, *rest = path
    if isinstance(leading, pytree.MappingKey):
        head = str(leading.key)
    elif leading.idx < len(parameters):
        head = parameters[leading.idx]
    else:  # one of *args
        head = f"{parameters[-1] if parameters else 'arg'}_{leading.idx}"
    keys = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", "")))) for k in rest]
    return "_".join([head, *keys])
