"""Names of call targets, and the way back from a name to a function that a file may use.

Reading a graph from a file must not give the file a way to import or run anything, not even when the graph is run
later: ``operator.attrgetter`` and ``operator.call`` together would be enough. So only the functions listed here can
be named, and anything else has to be handed over by the caller.
"""

from __future__ import annotations

import importlib
import math
import operator
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx.node import Target

from tzwc._torch.operators import HigherOrderOperator, OpOverload, OpOverloadPacket
from tzwc.errors import InvalidArgumentError

__all__ = ["import_path", "qualified_name", "resolve_target", "short_name"]

_ARITHMETIC = """
    abs add and_ contains eq floordiv ge getitem gt index inv invert is_ is_not le lshift lt matmul mod mul ne neg
    not_ or_ pos pow rshift sub truediv truth xor iadd isub imul itruediv
"""
_OPERATORS = frozenset(_ARITHMETIC.split())
_BUILTINS = {function.__name__: function for function in (abs, max, min, round, len)}
_NAMESPACES = frozenset({"aten", "prims", "tzwc"})
# Operators that touch files or the process rather than tensors.
_REFUSED_OPERATORS = frozenset({"from_file"})
_REGIONS = """
    associative_scan cond invoke_subgraph map map_impl scan tag_activation_checkpoint while_loop wrap
    wrap_activation_checkpoint wrap_with_autocast wrap_with_set_grad_enabled
"""
_HIGHER_ORDER = frozenset(_REGIONS.split())
_FUNCTION_PACKAGE = "tzwc.ops"


def qualified_name(target: Target) -> str:
    """The full name of a call target: ``torch.ops.aten.mul.Tensor``, ``operator.getitem``, ``tzwc.ops.…``.

    The name of a function that cannot be imported (a lambda, a local function) still tells a reader where it is from.
    """
    if isinstance(target, str):
        return target
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        return f"torch.ops.{str(target).replace('::', '.')}"
    if isinstance(target, HigherOrderOperator):
        return f"torch.ops.higher_order.{target.__name__}"
    path = import_path(target)
    if path is not None:
        return ".".join(path)
    module = getattr(target, "__module__", None) or type(target).__module__
    return f"{module}.{getattr(target, '__qualname__', type(target).__qualname__)}"


def short_name(target: Target) -> str:
    """The name that people use: ``aten.mul.Tensor``, ``operator.getitem``."""
    return qualified_name(target).removeprefix("torch.ops.")


def import_path(function: Callable[..., Any]) -> tuple[str, str] | None:
    """Module and attribute path under which ``function`` can be imported; ``None`` when there is none.

    The shortest public path is preferred (``tzwc.ops`` over ``tzwc.ops.fft``).
    """
    qualname = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    if not isinstance(qualname, str) or "<" in qualname:
        return None
    owner = getattr(function, "__self__", None)
    home = getattr(owner if isinstance(owner, type) else function, "__module__", None)
    if isinstance(owner, type):  # Function.apply: its qualified name is that of the base class
        qualname = f"{owner.__qualname__}.{getattr(function, '__name__', '')}"
    if home == "_operator":
        return "operator", qualname
    if home == "__main__":
        return None
    candidates = _prefixes(home) if home else ["torch", "torch._C._nn", "torch._C._fft"]
    for module in candidates:
        found: Any = sys.modules.get(module)
        for part in qualname.split("."):
            found = getattr(found, part, None)
        # Bound methods are made anew at every access, so they are equal but not identical.
        if found is function or (
            isinstance(function, (types.MethodType, types.BuiltinMethodType)) and found == function
        ):
            return module, qualname
    return None


def _prefixes(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def resolve_target(name: str, extra: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function called ``name``, if it is one that a file may use.

    Args:
        extra: further functions by name, admitted by the caller.

    Raises:
        InvalidArgumentError: the function is unknown or not admitted.
    """
    if name in extra:
        return extra[name]
    found = _lookup(name)
    if found is None:
        raise InvalidArgumentError(
            f"call target {name!r} is not admitted in a graph read from a file: expected an operator of "
            f"torch.ops.aten or torch.ops.prims, an arithmetic function of operator, math or torch.sym_*, or a public "
            f"function of {_FUNCTION_PACKAGE}; if you trust it, pass targets={{{name!r}: function}}"
        )
    return found


def _lookup(name: str) -> Callable[..., Any] | None:
    module, _, attribute = name.rpartition(".")
    if attribute.startswith("__") or not name.isascii():
        return None
    if name.startswith("torch.ops."):
        return _operator(name.removeprefix("torch.ops.").split("."))
    if module == "operator" and attribute in _OPERATORS:
        return _callable(operator, attribute)
    if module == "builtins":
        return _BUILTINS.get(attribute)
    if module == "math" and not attribute.startswith("_"):
        return _callable(math, attribute)
    if module == "torch" and attribute.startswith(("sym_", "_sym_")):
        return _callable(torch, attribute)
    if module == _FUNCTION_PACKAGE or module.startswith(f"{_FUNCTION_PACKAGE}."):
        return _own_function(module, attribute)
    return None


def _callable(module: types.ModuleType, attribute: str) -> Callable[..., Any] | None:
    found = getattr(module, attribute, None)
    return found if callable(found) else None


def _operator(parts: list[str]) -> Callable[..., Any] | None:
    if len(parts) == 2 and parts[0] == "higher_order" and parts[1] in _HIGHER_ORDER:
        found: Any = getattr(torch.ops.higher_order, parts[1], None)
        return found if isinstance(found, HigherOrderOperator) else None
    if len(parts) != 3 or parts[0] not in _NAMESPACES or parts[1] in _REFUSED_OPERATORS:
        return None
    packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
    if not isinstance(packet, OpOverloadPacket):
        return None
    overload = getattr(packet, parts[2], None)
    return overload if isinstance(overload, OpOverload) else None


def _own_function(module: str, attribute: str) -> Callable[..., Any] | None:
    try:
        home = importlib.import_module(module)
    except ImportError:
        return None
    found = getattr(home, attribute, None)
    # Defined in that package, not merely imported into it: a file must not reach torch.load through a module of ours.
    if not isinstance(found, types.FunctionType) or attribute.startswith("_"):
        return None
    return found if f"{found.__module__}.".startswith(f"{_FUNCTION_PACKAGE}.") else None
