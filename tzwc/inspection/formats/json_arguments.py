"""Arguments of graph nodes as JSON-safe data, and back.

``None``, booleans, integers, finite floats, strings and lists stand for themselves. Everything else is an object with
the single key that says what it is: ``{"node": "conv1d"}``, ``{"dtype": "float32"}``, ``{"tuple": [1, 2]}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import fx

from tzwc.errors import InvalidArgumentError

__all__ = ["decode", "encode"]

_Reader: TypeAlias = Callable[[Any, Mapping[str, fx.Node]], Any]

_KINDS: dict[str, type[Any]] = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


def encode(value: object) -> Any:
    """``value`` as JSON-safe data.

    Raises:
        InvalidArgumentError: ``value`` has no such form (a tensor, an object of a user's class).
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(value)}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, complex):
        return {"complex": [encode(value.real), encode(value.imag)]}
    for kind, type_ in _KINDS.items():
        if isinstance(value, type_):
            return {kind: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return {"symbol": str(value)}
    return _encode_container(value)


def _encode_container(value: object) -> Any:
    if isinstance(value, (slice, range)):
        return {type(value).__name__: [encode(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    raise InvalidArgumentError(
        f"a graph argument is {type(value).__name__} {value!r:.80}, which has no JSON form: expected nodes, numbers, "
        "strings, dtypes, devices, layouts, slices and containers of these; make it an input of the graph"
    )


def decode(data: Any, nodes: Mapping[str, fx.Node]) -> Any:
    """The argument that :func:`encode` wrote.

    Args:
        nodes: the nodes made so far, by name.

    Raises:
        InvalidArgumentError: ``data`` is not what :func:`encode` writes, or names a node that is not yet defined.
    """
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if isinstance(data, list):
        return [decode(item, nodes) for item in data]
    if isinstance(data, dict) and len(data) == 1:
        [(kind, content)] = data.items()
        reader = _READERS.get(kind)
        if reader is not None:
            try:
                return reader(content, nodes)
            except InvalidArgumentError:
                raise
            except (TypeError, ValueError, KeyError, RuntimeError) as error:
                raise _malformed(data) from error
    raise _malformed(data)


def _malformed(data: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"graph argument {str(data)[:120]!r} cannot be read: expected the form written by tzwc.inspection.graph_to_dict"
    )


def _node(content: Any, nodes: Mapping[str, fx.Node]) -> fx.Node:
    if content not in nodes:
        raise InvalidArgumentError(f"node {content!r} is used before it is defined: list the nodes in execution order")
    return nodes[content]


def _float(content: Any, _: Mapping[str, fx.Node]) -> float:
    if content not in ("inf", "-inf", "nan"):
        raise _malformed({"float": content})
    return float(content)


def _complex(content: Any, nodes: Mapping[str, fx.Node]) -> complex:
    real, imaginary = (float(decode(part, nodes)) for part in content)
    return complex(real, imaginary)


def _three(content: Any, nodes: Mapping[str, fx.Node]) -> tuple[Any, Any, Any]:
    start, stop, step = (decode(part, nodes) for part in content)
    return start, stop, step


def _torch_constant(kind: str) -> _Reader:
    def read(content: Any, _: Mapping[str, fx.Node]) -> Any:
        found = getattr(torch, str(content), None)
        if not isinstance(found, _KINDS[kind]):
            raise _malformed({kind: content})
        return found

    return read


def _symbol(content: Any, _: Mapping[str, fx.Node]) -> Any:
    # Evaluating the text of an expression would run what a file says; the compiler writes sizes as nodes anyway.
    raise InvalidArgumentError(
        f"symbolic size {content!r} stands in an argument: it can be shown, but not read back; "
        "compute it with nodes (aten.sym_size.int) instead"
    )


_READERS: dict[str, _Reader] = {
    "node": _node,
    "float": _float,
    "complex": _complex,
    "ellipsis": lambda _content, _: ...,
    "device": lambda content, _: torch.device(content),
    "symbol": _symbol,
    "slice": lambda content, nodes: slice(*_three(content, nodes)),
    "range": lambda content, nodes: range(*_three(content, nodes)),
    "tuple": lambda content, nodes: tuple(decode(item, nodes) for item in content),
    "dict": lambda content, nodes: {decode(key, nodes): decode(item, nodes) for key, item in content},
    **{kind: _torch_constant(kind) for kind in _KINDS},
}
