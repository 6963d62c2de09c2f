"""The front door: ``tzwc.compile``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tzwc.errors import InvalidArgumentError
from tzwc.options import CompileOptions
from tzwc.passes import DEFAULT_PASSES, by_name
from tzwc.rewrite.pass_manager import Pass
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.util.argument_checks import exact, examined, shown

__all__ = ["compile", "options_of"]


@examined("model, passes or options")
def compile(model: nn.Module, *, passes: Sequence[Pass | str] | None = None, **options: Any) -> CompiledModule:
    """Return a module that gives the results of ``model``, faster.

    The first call with a new kind of arguments (sizes, dtypes, gradients or not, training or evaluation) captures the
    module as a graph, rewrites the graph with ``passes``, evaluates what depends on parameters and buffers alone and
    keeps it until they change, and lowers the rest. A module that cannot be captured runs as it was; ``report()``
    says why.

    Args:
        model: any module. It is not changed, and the result shares its parameters, buffers and submodules.
        passes: the pipeline, as :class:`tzwc.passes.Pass` objects or names; by default all, in documented order.
        **options: fields of :class:`tzwc.options.CompileOptions`: ``backend``, ``dynamic``, ``static_sizes``,
            ``cache_bytes``, ``check``, ``convolution``, ``tune``, ``exact``, ``keep_buffers``, ``verify``,
            ``max_specialisations``, ``snapshots``.

    Raises:
        InvalidArgumentError: an argument cannot be used; the message names it, its value and the choices.
    """
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(f"model={shown(model)} is a {type(model).__name__}; give a torch.nn.Module")
    chosen = options_of(passes, options)
    if isinstance(model, CompiledModule):
        model = model.original  # compiling twice must not stack one wrapper on the other
    return CompiledModule(model, chosen)


def options_of(passes: Sequence[Pass | str] | None, options: Mapping[str, Any]) -> CompileOptions:
    """The arguments of :func:`compile`, checked.

    Raises:
        InvalidArgumentError: one of them cannot be used.
    """
    passes = exact(passes)
    known = CompileOptions.__dataclass_fields__.keys() - {"passes"}
    unknown = options.keys() - known
    if unknown:
        raise InvalidArgumentError(f"unknown option {sorted(unknown)[0]!r}; choose from {sorted(known)}")
    if passes is not None and (isinstance(passes, str) or not isinstance(passes, Sequence)):
        raise InvalidArgumentError(
            f"passes={shown(passes)} is a {type(passes).__name__}; give a list of passes or names"
        )
    chosen = DEFAULT_PASSES if passes is None else [by_name(p) if isinstance(p, str) else p for p in passes]
    return CompileOptions(passes=tuple(chosen), **options)
