"""``tzwc.compile``: a module that gives the answers of another one, faster."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tzwc.accumulate import Accumulation, AccumulationError, outside_checkpoints
from tzwc.call_key import CallKey, call_key, family_of
from tzwc.describe import specialisation_infos, versions
from tzwc.errors import CaptureError, InvalidArgumentError, TzwcError
from tzwc.graph_capture import Capture, capture
from tzwc.guards import ModuleGuard, transforms_active
from tzwc.inspection import Report, diff, dump
from tzwc.options import CompileOptions
from tzwc.pipeline import Stage
from tzwc.remarks import Remark
from tzwc.shared_module import SharedModule
from tzwc.specialisation import SlotsChanged, Specialisation
from tzwc.verify import disagreement

__all__ = ["CompiledModule"]


# How often one call may find that the module has changed under it before it gives up.
_CAPTURES = 3


class _Unknown(Exception):
    """A call of a kind that has not been captured yet."""

    def __init__(self, key: CallKey) -> None:
        super().__init__()
        self.key = key


class CompiledModule(SharedModule):
    """Gives the results of ``original``, from graphs that are captured, rewritten and lowered on demand.

    Made by :func:`tzwc.compile`.

    Attributes:
        original: the module as it was given; parameters, names and attributes are its own.
        options: how it is compiled.
        remarks: what was found out outside of any pass: fall-backs, and new captures with their reason.
    """

    options: CompileOptions
    remarks: list[Remark]
    _lock: threading.RLock
    _bypassed: set[str]
    _accumulation: Accumulation | None
    _guard: ModuleGuard | None
    _table: dict[CallKey, Specialisation | None]
    _families: dict[CallKey, list[Specialisation]]

    def __init__(self, original: nn.Module, options: CompileOptions) -> None:
        super().__init__(
            original,
            options=options,
            remarks=[],
            _lock=threading.RLock(),
            _bypassed=set(),
            _accumulation=None,
        )
        self._forget()

    # --- the call ---------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """``original(*args, **kwargs)``, compiled; see :func:`tzwc.compile`."""
        if torch.compiler.is_compiling():  # asked here, since the gate itself cannot be traced
            return self.original(*args, **kwargs)
        for _ in range(_CAPTURES):
            try:
                with self._gate.reading():
                    return self._call(args, kwargs)
            except _Unknown as unknown:
                # Export puts fake tensors into the live module while it traces: no other call may see them.
                with self._gate.writing():
                    self._learn(unknown, args, kwargs)
        return self._run_original("parameters or attributes keep changing between calls", args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, spec = pytree.tree_flatten((args, kwargs))
        reason = transforms_active(leaves)
        if reason is None and type(self) is not CompiledModule:
            reason = f"its class was changed to {type(self).__name__}, which manages parameters on its own"
        if reason is not None:
            return self._run_original(reason, args, kwargs)
        guard = self._current_guard()
        accumulating = torch.is_grad_enabled() and self._accumulation is not None
        key = call_key(guard, leaves, spec, accumulating)
        if key is None:
            return self._run_original("an argument is neither a tensor nor a plain constant", args, kwargs)
        if key not in self._table:
            raise _Unknown(key)
        runner = self._table[key]
        if runner is None:
            return self.original(*args, **kwargs)
        keep = self._accumulation.leaves if self._accumulation is not None and accumulating else None
        try:
            return runner([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)], guard.generation, keep)
        except SlotsChanged as error:
            self._start_again("a parameter or buffer has another shape, dtype, device or owner")
            raise _Unknown(key) from error

    def _learn(self, unknown: _Unknown, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find or make the specialisation for a call of a new kind."""
        with self._lock:
            if unknown.key not in self._table:
                self._table[unknown.key] = self._find_or_build(
                    unknown.key, pytree.tree_leaves((args, kwargs)), args, kwargs
                )

    def _current_guard(self) -> ModuleGuard:
        guard = self._guard
        if guard is None or not guard.holds():
            guard = self._start_again("" if guard is None else "modules, hooks or Python attributes have changed")
        return guard

    def _run_original(self, reason: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if reason not in self._bypassed:
            self._bypassed.add(reason)
            self._note("declined", "bypass", f"the module runs as it was: {reason}")
        return self.original(*args, **kwargs)

    # --- building ---------------------------------------------------------------------------------------------------

    def _find_or_build(
        self, key: CallKey, leaves: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Specialisation | None:
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        family = family_of(key)
        for candidate in self._families.get(family, []):
            if candidate.captured.accepts([t.shape for t in tensors]):
                return candidate
        if sum(map(len, self._families.values())) >= self.options.max_specialisations:
            self._note_once(f"more than max_specialisations={self.options.max_specialisations} kinds of call")
            return None
        try:
            built = self._build(tensors, args, kwargs)
        except Exception as error:  # whatever goes wrong in here, the module itself still gives the answer
            kind = "" if isinstance(error, TzwcError) else f"{type(error).__name__}: "
            self._note("declined", "capture", f"the module runs as it was: {kind}{error}")
            return None
        self._families.setdefault(family, []).append(built)
        return built

    def _build(self, tensors: Sequence[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Specialisation:
        if any(t.layout != torch.strided or t.is_quantized for t in tensors):
            raise CaptureError("an argument is sparse or quantised")
        # Leaving inference mode keeps inference tensors out of the graph; gradients stay off as they are.
        grad = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(grad), outside_checkpoints():
            arguments = pytree.tree_map(_ordinary, (args, kwargs))
            start = time.perf_counter()
            captured = capture(self.original, *arguments, dynamic=self.options.dynamic)
            self._check(captured, *arguments)
            elapsed = time.perf_counter() - start
            # While gradients accumulate, everything static is evaluated once, with gradients.
            vary = grad and self._accumulation is None
            varying = frozenset(slot.name for slot in captured.slots if vary and slot.fetch().requires_grad)
            return Specialisation(captured, varying, self.options, grad=grad, capture_seconds=elapsed)

    def _check(self, captured: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.options.verify:
            problem = disagreement(self.original, captured, args, kwargs)
            if problem is not None:
                raise CaptureError(f"the captured graph disagrees with the module: {problem}")

    def _start_again(self, reason: str) -> ModuleGuard:
        with self._lock:
            self._forget()
            guard = ModuleGuard(self.original)
            self.__dict__["_guard"] = guard
            if reason:
                self._note("note", "recapture", f"captured again: {reason}")
            return guard

    def _forget(self) -> None:
        self.__dict__.update(_guard=None, _table={}, _families={})

    # --- training ---------------------------------------------------------------------------------------------------

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Accumulate gradients over micro-batches, with one forward and one backward of the static part.

        Call the module and ``backward()`` for every micro-batch inside the block. Gradients of what depends on
        parameters alone (slow networks) arrive when the block ends; they equal the sum over the micro-batches. An
        exception inside the block discards them. Under DistributedDataParallel, use it inside ``no_sync()`` and run
        the last micro-batch outside of both.

        Raises:
            AccumulationError: a parameter was changed inside the block, ``backward()`` came after it, blocks were
                nested, or gradients are being synchronised.
        """
        if self._accumulation is not None:
            raise AccumulationError("accumulate() inside accumulate(); one block collects any number of micro-batches")
        accumulation = Accumulation(compare_bytes=self.options.check == "bytes")
        self.__dict__["_accumulation"] = accumulation
        try:
            yield
        except BaseException:
            accumulation.discard()
            raise
        finally:
            self.__dict__["_accumulation"] = None
        accumulation.finish()

    # --- inspection -------------------------------------------------------------------------------------------------

    @property
    def specialisations(self) -> list[Specialisation]:
        """Every graph that was made so far, in order."""
        return [s for family in self._families.values() for s in family]

    @property
    def stages(self) -> list[Stage]:
        """The stages of the newest specialisation; empty before the first call."""
        made = self.specialisations
        return made[-1].stages if made else []

    def stage(self, name: str) -> Stage:
        """The stage called ``name`` of the newest specialisation.

        Raises:
            InvalidArgumentError: there is none of that name.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [s.name for s in self.stages]
        hint = f"choose one of {names}" if names else "call the module once before looking at its stages"
        raise InvalidArgumentError(f"name={name!r}: no such stage; {hint}")

    def report(self) -> Report:
        """What was captured, what every pass did and declined and why, and what is kept; print it or ask its forms."""
        infos = specialisation_infos(self.specialisations)
        name = type(self.original).__name__
        notes = () if infos else ("Call the module once: it is captured by its first call.",)
        return Report(name, infos, tuple(self.remarks), notes, versions())

    def dump(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Write the graph after every pass as Python, JSON and DOT, and the report, and return the paths written.

        Raises:
            InvalidArgumentError: ``directory`` cannot be written to.
        """
        return dump(directory, specialisation_infos(self.specialisations), report=self.report())

    def diff(self, before: str, after: str) -> str:
        """The nodes added, removed and replaced between two stages of the newest specialisation, as text.

        Raises:
            InvalidArgumentError: there is no stage of that name.
        """
        return diff(self.stage(before), self.stage(after))

    def invalidate(self, *, graphs: bool = False) -> None:
        """Forget every kept static value; the next call evaluates them again.

        Args:
            graphs: forget the captured graphs as well. Needed only after a change of what no module holds: a global
                variable or a closure that ``forward`` reads.
        """
        for specialisation in self.specialisations:
            specialisation.cache.invalidate()
        if graphs:
            self._start_again("invalidate(graphs=True)")

    def _note(self, kind: Any, rule: str, reason: str) -> None:
        self.remarks.append(Remark("capture", kind, rule, reason))

    def _note_once(self, reason: str) -> None:
        if reason not in self._bypassed:
            self._bypassed.add(reason)
            self._note("declined", "capture", f"the module runs as it was: {reason}")

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModule:
        duplicate = CompiledModule(copy.deepcopy(self.original, memo), self.options)
        memo[id(self)] = duplicate
        return duplicate

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledModule, (self.original, self.options)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"compiled by tzwc from {type(self.original).__name__}"


def _ordinary(leaf: Any) -> Any:
    """A tensor object of its own with the same contents and strides.

    One tensor given twice, or a parameter given as an argument, would be one input of the graph. Inference tensors
    cannot be part of a graph at all and are copied.
    """
    if not isinstance(leaf, torch.Tensor):
        return leaf
    own = leaf.clone() if leaf.is_inference() else leaf.detach()
    return own.requires_grad_(leaf.requires_grad)
