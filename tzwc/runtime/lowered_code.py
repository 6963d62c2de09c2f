"""The code that a backend makes of a residual graph: one for each of the first sizes seen, then one for all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from tzwc.ir.graph import fake_mode_of, is_mutating
from tzwc.ir.remarks import Remark
from tzwc.ir.symbolic_sizes import is_symbolic
from tzwc.lowering.backend import Lowered, lower, not_lowered
from tzwc.lowering.double_backward import finished
from tzwc.options import CompileOptions

__all__ = ["LoweredCode"]


class LoweredCode:
    """Lowers ``residual`` on demand and runs it; the graph itself runs where a backend fails.

    Args:
        residual: its arguments are slots, kept values and inputs, in this order.
        options: of ``tzwc.compile``.
        grad: whether gradients are recorded.

    Attributes:
        remarks: what lowering had to say.
        seconds: wall time spent in the backend so far.
        not_lowered: why the newest call ran the graph operator by operator, although a backend was asked for code;
            empty when it did not.
    """

    def __init__(self, residual: fx.GraphModule, options: CompileOptions, *, grad: bool) -> None:
        self.remarks: list[Remark] = []
        self.seconds = 0.0
        self.not_lowered = ""
        self._residual = residual
        self._options = options
        self._grad = grad
        self._writes = any(map(is_mutating, residual.graph.nodes))
        self._static: dict[tuple[Any, ...], Lowered] = {}
        self._symbolic: Lowered | None = None
        self._failure = ""  # of the backend, in few words
        self._proven: set[int] = set()  # identities of code that has run without an error

    def __call__(self, inputs: Sequence[torch.Tensor], arguments: Sequence[torch.Tensor]) -> Sequence[Any]:
        """The results of the graph.

        Args:
            inputs: those of the arguments whose sizes may differ from call to call.
            arguments: all arguments of the graph.
        """
        code = self._code_for(inputs, arguments)
        outputs: Sequence[Any]
        try:
            outputs = code(*arguments)
        except Exception as error:
            # What has run before works, and what it raises is the module's own error or the caller's control flow
            # (a checkpoint stops its recomputation so). After a write, a second run would write twice.
            if code is self._residual or id(code) in self._proven or self._writes:
                raise
            outputs = self._residual(*arguments)
            self.not_lowered = self._failure = not_lowered(self._options.backend, error)
            self._replace(code)
            reason = f"{self._options.backend!r} failed when it ran ({type(error).__name__}: {error})"
            self.remarks.append(Remark("lowering", "declined", "backend", f"{reason}; the graph ran eagerly"))
            return outputs
        self._proven.add(id(code))
        self.not_lowered = self._failure if code is self._residual else ""
        return outputs

    def _replace(self, failing: Lowered) -> None:
        """Run the graph itself from now on where ``failing`` would be called."""
        self._static = {key: self._residual if code is failing else code for key, code in self._static.items()}
        if self._symbolic is failing:
            self._symbolic = self._residual

    def _code_for(self, inputs: Sequence[torch.Tensor], arguments: Sequence[torch.Tensor]) -> Lowered:
        key = tuple((t.shape, t.stride()) for t in inputs)
        code = self._static.get(key)
        if code is not None:
            return code
        if len(self._static) < self._options.static_sizes or not self._has_symbolic_sizes():
            code = self._lower(arguments, symbolic=False)
            self._static[key] = code
            return code
        if self._symbolic is None:
            self._symbolic = self._lower(arguments, symbolic=True)
        return self._symbolic

    def _has_symbolic_sizes(self) -> bool:
        placeholders = [n for n in self._residual.graph.nodes if n.op == "placeholder"]
        return any(is_symbolic(size) for n in placeholders for size in n.meta["val"].shape)

    def _lower(self, arguments: Sequence[torch.Tensor], *, symbolic: bool) -> Lowered:
        start = time.perf_counter()
        residual = self._residual
        said: dict[str, Any] = {"tune": self._options.tune, "remarks": self.remarks}
        try:
            if symbolic:
                values = [n.meta["val"] for n in residual.graph.nodes if n.op == "placeholder"]
                # Captured values have no history, and a backend makes a backward only for what asks for a gradient.
                fakes = [v.detach().requires_grad_(a.requires_grad) for v, a in zip(values, arguments, strict=True)]
                code = lower(residual, fakes, self._options.backend, fake_mode_of(residual.graph), **said)
            else:
                code = lower(residual, arguments, self._options.backend, **said)
            return code if code is residual else finished(code, residual, self._grad, self._options.keep_buffers)
        except Exception as error:  # a backend may fail in any way; the graph itself still gives the answer
            reason = f"{self._options.backend!r} failed ({type(error).__name__}: {error}); the graph runs eagerly"
            self.remarks.append(Remark("lowering", "declined", "backend", reason))
            self._failure = not_lowered(self._options.backend, error)
            return residual
        finally:
            self.seconds += time.perf_counter() - start
