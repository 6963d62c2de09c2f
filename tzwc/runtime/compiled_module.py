"""``tzwc.compile``: a module that gives the answers of another one, faster."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tzwc._torch import pytree
from tzwc.errors import InvalidArgumentError
from tzwc.inspection import Report, Stage, diff, dump
from tzwc.inspection.dump import VARIABLE, requested_folder
from tzwc.ir.logs import passes_log
from tzwc.ir.remarks import Remark
from tzwc.options import CompileOptions
from tzwc.runtime.accumulate import Accumulation, AccumulationError
from tzwc.runtime.dispatch import Dispatcher
from tzwc.runtime.environment import shortcomings
from tzwc.runtime.lookup import Bypass, Call, Declined, Hit, Miss
from tzwc.runtime.module_guard import transforms_active
from tzwc.runtime.module_proxy import SharedModule
from tzwc.runtime.records import specialisation_infos, versions
from tzwc.runtime.specialisation import Specialisation
from tzwc.runtime.submodules import Submodules, worth_compiling
from tzwc.tracing.parametrized import UncachedError, evaluating_weights
from tzwc.util.argument_checks import exact, examined, shown

__all__ = ["CompiledModule"]

# How often one call may find that the module has changed under it before it gives up.
_CAPTURES = 3

_LEVELS = ("untouched", "per submodule")  # and those of a specialisation


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
    _dispatcher: Dispatcher
    _lock: threading.RLock
    _bypassed: set[str]
    _accumulation: Accumulation | None
    _pieces: Submodules | None
    _parts: list[CompiledModule]
    _level: str
    _dump_folder: Path | None

    def __init__(self, original: nn.Module, options: CompileOptions) -> None:
        super().__init__(
            original,
            options=options,
            remarks=[],
            _lock=threading.RLock(),
            _bypassed=set(),
            _accumulation=None,
            _pieces=None,
            _parts=[],
            _level="untouched",
            _dump_folder=None,
        )
        self.__dict__["_dispatcher"] = Dispatcher(original, options, self._note)

    # --- the call ---------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """``original(*args, **kwargs)``, compiled; see :func:`tzwc.compile`."""
        if torch.compiler.is_compiling():  # asked here, since the gate itself cannot be traced
            return self.original(*args, **kwargs)
        accumulating = torch.is_grad_enabled() and self._accumulation is not None
        call: Call | None = None
        for _ in range(_CAPTURES):
            with self._gate.reading():
                if call is None:
                    try:
                        leaves, spec = pytree.tree_flatten((args, kwargs))
                    except Exception as error:  # of a container that somebody has registered
                        reason = f"an argument cannot be looked at ({type(error).__name__})"
                        return self._run_original(reason, args, kwargs)
                    call = Call(args, kwargs, leaves, spec, accumulating)
                found = self._find(call)
                if isinstance(found, Hit):
                    return self._run(found, call)
                if isinstance(found, Declined):
                    return self._run_pieces(args, kwargs)
                if isinstance(found, Bypass):
                    return self._run_original(found.reason, args, kwargs)
            if self._gate.inside:
                return self._run_original("it is called from within a call of itself", args, kwargs)
            with self._gate.writing():  # tracing writes to the live module: no other call may see that
                learnt = self._learn(call, found)
            if not learnt:
                return self.original(*args, **kwargs)
            self._dump_if_requested()
        return self._run_original("parameters or attributes keep changing between calls", args, kwargs)

    def _find(self, call: Call) -> Hit | Miss | Declined | Bypass:
        reason = transforms_active(call.leaves)
        if reason is None and type(self) is not CompiledModule:
            reason = f"its class was changed to {type(self).__name__}, which manages parameters on its own"
        return self._dispatcher.find(call) if reason is None else Bypass(reason)

    def _learn(self, call: Call, miss: Miss) -> bool:
        try:
            return evaluating_weights(lambda: self._dispatcher.learn(call, miss))
        except UncachedError:  # the module evaluates its weights, and caches them for the next call
            return False

    def _run(self, hit: Hit, call: Call) -> Any:
        accumulation = self._accumulation
        keep = accumulation.leaves if accumulation is not None and call.accumulating else None
        result = hit.graph(call.tensors, hit.tensors, keep)
        if hit.graph.captured.effects:
            hit.guard.accept_written()
        if (why := hit.graph.code.not_lowered) and why not in self._bypassed:
            self._bypassed.add(why)
            self.remarks.append(Remark("lowering", "declined", "backend", f"the graph is not lowered: {why}"))
        self.__dict__["_level"] = hit.graph.level
        return result

    def _run_original(self, reason: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self._note_bypass(reason)
        return self.original(*args, **kwargs)

    def _note_bypass(self, reason: str) -> None:
        if reason not in self._bypassed:
            self._bypassed.add(reason)
            self._note("declined", "bypass", f"the module runs as it was: {reason}")

    def _replicate_for_data_parallel(self) -> nn.Module:
        # New ones are made at every call: a graph of one would serve once.
        self._note_bypass("DataParallel replicates it for every call (DistributedDataParallel does not)")
        return super()._replicate_for_data_parallel()

    def _run_pieces(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the original with its submodules compiled."""
        with self._lock:
            if self._pieces is None:
                children = worth_compiling(self.original)
                parts = [CompiledModule(child, self.options) for child in children]
                self.__dict__.update(
                    _parts=parts, _pieces=Submodules(self.original, list(zip(children, parts, strict=True)))
                )
        assert self._pieces is not None
        result = self._pieces(args, kwargs)
        self.__dict__["_level"] = _LEVELS[any(part.level != _LEVELS[0] for part in self._parts)]
        return result

    @property
    def level(self) -> str:
        """How the newest call ran.

        ``"whole graph"``; ``"whole graph with assumptions"`` about values of parameters and buffers, checked when they
        change; ``"per submodule"``, where only submodules could be captured; or ``"untouched"``.
        ``", not lowered: ..."`` follows, with the reason, where the backend failed and operators ran one by one.
        """
        return self._level

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
        return [*self._dispatcher, *(s for part in self._parts for s in part.specialisations)]

    @property
    def stages(self) -> list[Stage]:
        """The stages of the newest specialisation; empty before the first call."""
        made = self.specialisations
        return made[-1].stages if made else []

    @examined("name")
    def stage(self, name: str) -> Stage:
        """The stage called ``name`` of the newest specialisation.

        Raises:
            InvalidArgumentError: there is none of that name.
        """
        name = exact(name)
        for stage in self.stages:
            if isinstance(name, str) and stage.name == name:
                return stage
        names = [s.name for s in self.stages]
        hint = f"choose one of {names}" if names else "call the module once before looking at its stages"
        raise InvalidArgumentError(f"name={shown(name)}: no such stage; {hint}")

    def report(self, *, measure: bool | torch.Tensor | Sequence[Any] = False) -> Report:
        """What was captured, what every pass did and declined and why, and what is kept; print it or ask its forms.

        Args:
            measure: also time the operators of every graph, one at a time: on random inputs (``True``), or on these.
        """
        infos = specialisation_infos(self.specialisations)
        if measure is not False:
            from tzwc.runtime.operator_profile import measured  # which nothing else needs

            given = [t for t in pytree.tree_leaves(measure) if isinstance(t, torch.Tensor)]
            infos = tuple(measured(i, s, given) for i, s in zip(infos, self.specialisations, strict=True))
        name = type(self.original).__name__
        notes = shortcomings() if infos or self.remarks else ("Call the module once: its first call captures it.",)
        remarks = (*self.remarks, *(remark for part in self._parts for remark in part.remarks))
        return Report(name, infos, remarks, notes, versions(), self._level if infos or remarks else "")

    def dump(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Write the graph after every pass as Python, JSON and DOT, and the report, and return the paths written.

        Raises:
            InvalidArgumentError: ``directory`` cannot be written to.
        """
        return dump(directory, specialisation_infos(self.specialisations), report=self.report())

    def _dump_if_requested(self) -> None:
        if self._dump_folder is None and self.specialisations:
            self.__dict__["_dump_folder"] = requested_folder(type(self.original).__name__)
        if self._dump_folder is None:
            return
        try:
            self.dump(self._dump_folder)
        except InvalidArgumentError as error:  # the model's answer matters more
            passes_log.warning("%s: %s", VARIABLE, error)

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
            self._dispatcher.forget("invalidate(graphs=True)")

    def _note(self, kind: Any, rule: str, reason: str) -> None:
        self.remarks.append(Remark("capture", kind, rule, reason))

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModule:
        duplicate = CompiledModule(copy.deepcopy(self.original, memo), self.options)
        memo[id(self)] = duplicate
        return duplicate

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledModule, (self.original, self.options)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"compiled by tzwc from {type(self.original).__name__}"
