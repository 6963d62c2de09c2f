"""The options of ``tzwc.compile``, validated in one place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from tzwc.autotune import Tune
from tzwc.errors import InvalidArgumentError
from tzwc.lowering.backend import Backend, check_backend
from tzwc.ops.conv import all_algorithms
from tzwc.partition.static_cache import Check
from tzwc.rewrite.pass_manager import Pass
from tzwc.util.argument_checks import examined, make_exact, shown

__all__ = ["TUNE_VARIABLE", "CompileOptions"]

TUNE_VARIABLE = "TZWC_TUNE"
"""Name of the environment variable that gives the option ``tune`` its default."""


def _default_tune() -> Any:
    tune = os.environ.get(TUNE_VARIABLE) or "measure"
    _one_of(TUNE_VARIABLE, tune, get_args(Tune))
    return tune


@dataclass(frozen=True)
class CompileOptions:
    """How ``tzwc.compile`` compiles.

    Attributes:
        passes: the pipeline, in order.
        backend: what lowers the rewritten graph: a backend of ``torch.compile`` by name, or a callable.
        dynamic: leave the batch size open in the captured graph. Code is made for the first ``static_sizes`` sizes
            that are seen, and for all sizes at once after that.
        static_sizes: see ``dynamic``.
        cache_bytes: bound on the memory for kept static values of one specialisation; ``None`` for no bound.
        check: how changes of parameters are noticed, see :class:`tzwc.partition.static_cache.StaticCache`.
        convolution: let the passes choose the algorithm (``auto``), or force one where it is legal: a name from
            :func:`tzwc.ops.conv.all_algorithms`, such as ``fft``.
        tune: how ``auto`` chooses. ``measure``: a cost model, then a measurement of the closest candidates, remembered
            on disk; ``model``: the cost model alone; ``off``: always ``native``. The environment variable
            ``TZWC_TUNE`` sets the default.
        exact: only algorithms whose results are sums of products of their own inputs, which an FFT's are not; see
            :mod:`tzwc.ops.conv`.
        keep_buffers: keep the memory of large intermediate results between calls, on CPU; see
            :mod:`tzwc.lowering.buffer_pool`.
        verify: compare the captured graph with the module before its first answer is returned.
        max_specialisations: graphs kept for one module; beyond it, the module runs as it was.
        snapshots: remember the graph after every pass, for ``fast.stages``, dumps and diffs; otherwise only the last.

    Raises:
        InvalidArgumentError: on construction, for a value outside of these.
    """

    passes: Sequence[Pass] = field(default=())
    backend: Backend = "inductor"
    dynamic: bool = True
    static_sizes: int = 2
    cache_bytes: int | None = None
    check: Check = "bytes"
    convolution: str = "auto"
    tune: Tune = field(default_factory=_default_tune)
    exact: bool = False
    keep_buffers: bool = True
    verify: bool = True
    max_specialisations: int = 16
    snapshots: bool = True

    @examined("an option")
    def __post_init__(self) -> None:
        make_exact(self)
        if not isinstance(self.backend, str) and not callable(self.backend):
            raise InvalidArgumentError(f"backend={shown(self.backend)} must be a name or a callable")
        check_backend(self.backend)
        _one_of("check", self.check, get_args(Check))
        _one_of("convolution", self.convolution, ["auto", *all_algorithms()])
        _one_of("tune", self.tune, get_args(Tune))
        _at_least("static_sizes", self.static_sizes, 1)
        _at_least("max_specialisations", self.max_specialisations, 1)
        for name in ("dynamic", "exact", "keep_buffers", "verify", "snapshots"):
            if not isinstance(value := getattr(self, name), bool):
                raise InvalidArgumentError(f"{name}={shown(value)} must be True or False")
        if self.cache_bytes is not None:
            _at_least("cache_bytes", self.cache_bytes, 0)
        if not isinstance(self.passes, (tuple, list)):
            raise InvalidArgumentError(f"passes={shown(self.passes)} must be a sequence of tzwc.passes.Pass objects")
        for step in self.passes:
            if not isinstance(step, Pass):
                raise InvalidArgumentError(
                    f"passes contains {shown(step)}; give tzwc.passes.Pass objects or their names"
                )

    def for_passes(self, *, grad: bool) -> dict[str, Any]:
        """What passes may read: the options that concern them, and whether gradients are recorded (``grad``)."""
        names = ("cache_bytes", "convolution", "tune", "exact")
        return {name: getattr(self, name) for name in names} | {"grad": grad}


def _one_of(name: str, value: object, choices: Sequence[Any]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgumentError(f"{name}={shown(value)} is not one of {list(choices)}")


def _at_least(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidArgumentError(f"{name}={shown(value)} must be an integer of at least {least}")
