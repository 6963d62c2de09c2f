"""Graphs and stages as JSON-safe dictionaries, and back.

Nothing in a dictionary is ever imported, evaluated or unpickled: functions are looked up in a fixed list (see
:mod:`tzwc.inspection.formats.call_targets`), names have to be plain identifiers because torch.fx pastes them into
source code, and shapes are descriptions only. So a dictionary from an untrusted source can be read; running the graph
then executes tensor operators and nothing else.
"""

from __future__ import annotations

import ast
import functools
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from tzwc.errors import InvalidArgumentError
from tzwc.inspection.formats.call_targets import qualified_name, resolve_target
from tzwc.inspection.formats.json_arguments import decode, encode
from tzwc.inspection.formats.json_constants import decode_tensor, encode_tensor
from tzwc.inspection.text.script import sizes_of
from tzwc.inspection.values_and_costs import ESTIMATES, estimates
from tzwc.ir.graph import location
from tzwc.ir.values import ScalarInfo, TensorInfo, ValueInfo, value_of
from tzwc.util.argument_checks import examined, shown

__all__ = ["graph_from_dict", "graph_to_dict"]

FORMAT = "tzwc-graph-1"

_ARITHMETIC = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Tuple, ast.Call, ast.BinOp, ast.UnaryOp, ast.BoolOp),
    *(ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
_FUNCTION = re.compile(r"[A-Z]\w*|floor|ceiling")

_METADATA = {"made_by": "tzwc_made_by", "binding": "tzwc_binding", "binding_reason": "tzwc_binding_reason"}


def graph_to_dict(graph: fx.Graph, root: nn.Module | None = None) -> dict[str, Any]:
    """The graph as JSON-safe data: every node with target, arguments, value, origin and the pass that made it.

    Args:
        root: holds what ``get_attr`` nodes refer to; by default the module that owns the graph. What it lacks has to
            be supplied when the graph is read.

    Raises:
        InvalidArgumentError: an argument has no JSON form.
    """
    root = root if root is not None else graph.owning_module
    constants: dict[str, Any] = {}
    submodules: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op != "get_attr":
            continue
        value: Any = root
        for part in str(node.target).split("."):
            value = getattr(value, part, None)
        if isinstance(value, fx.GraphModule):
            submodules[str(node.target)] = graph_to_dict(value.graph, value)
        elif isinstance(value, torch.Tensor):
            constants[str(node.target)] = encode_tensor(value)
        else:
            constants[str(node.target)] = {"dtype": None, "shape": None, "device": None, "data": None}
    costs = estimates(graph)
    nodes = [_node_to_dict(node, costs.get(node)) for node in graph.nodes]
    parts = {"nodes": nodes, "constants": constants, "submodules": submodules}
    return {"format": FORMAT, "sizes": sizes_of(graph), **parts}


def _node_to_dict(node: fx.Node, estimate: tuple[float, float, int] | None) -> dict[str, Any]:
    where = location(node)
    return {
        "name": node.name,
        "op": node.op,
        "target": qualified_name(node.target),
        "args": [encode(argument) for argument in node.args],
        "kwargs": {key: encode(argument) for key, argument in node.kwargs.items()},
        "value": _value_to_data(value_of(node)),
        "location": {"module_path": where.module_path, "file": where.file, "line": where.line, "code": where.code},
        "kept": bool(node.meta.get("tzwc_cached")),
        "estimate": None if estimate is None else dict(zip(ESTIMATES, estimate, strict=True)),
        **{key: node.meta.get(meta) for key, meta in _METADATA.items()},
    }


@examined("data")
def graph_from_dict(
    data: Mapping[str, Any],
    *,
    constants: Mapping[str, torch.Tensor] | None = None,
    targets: Mapping[str, Callable[..., Any]] | None = None,
) -> fx.Graph:
    """The graph that :func:`graph_to_dict` wrote. ``fx.GraphModule(graph.owning_module, graph)`` runs it.

    The nodes carry their values in plain form (``tzwc_value``), not as fake tensors, and of a kept value the fact only
    (``tzwc_cached`` is ``True``).

    Args:
        constants: tensors for ``get_attr`` nodes that the file does not hold, by target.
        targets: functions beyond the admitted ones, by full name.

    Raises:
        InvalidArgumentError: ``data`` is malformed, or names a function that is not admitted.
    """
    try:
        return _graph_from_dict(data, constants or {}, targets or {})
    except InvalidArgumentError:
        raise
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        RuntimeError,
        ArithmeticError,
        SyntaxError,
    ) as error:
        raise InvalidArgumentError(
            f"graph data cannot be read ({type(error).__name__}: {error}): expected what graph_to_dict writes"
        ) from error


def _graph_from_dict(
    data: Mapping[str, Any], constants: Mapping[str, torch.Tensor], targets: Mapping[str, Callable[..., Any]]
) -> fx.Graph:
    if data.get("format") != FORMAT:
        raise InvalidArgumentError(f"graph data has format {shown(data.get('format'))}, expected {FORMAT!r}")
    held: dict[str, Any] = {}
    for name, content in data["constants"].items():
        held[_dotted(name)] = decode_tensor(name, content, constants)
    for name, content in data["submodules"].items():
        graph = _graph_from_dict(content, constants, targets)
        held[_dotted(name)] = fx.GraphModule(graph.owning_module or {}, graph)
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    for entry in data["nodes"]:
        name = _identifier(entry["name"])
        if name in made:
            raise InvalidArgumentError(f"node {name!r} occurs twice; node names are unique")
        node = graph.create_node(
            entry["op"],
            _target(entry, held, targets),
            tuple(decode(argument, made) for argument in entry["args"]),
            {_identifier(key): decode(argument, made) for key, argument in entry["kwargs"].items()},
            name=name,
        )
        # torch.fx alters names that it has seen or that are builtins; the file's own name is the one to keep.
        node.name = name
        made[name] = node
        _restore_metadata(node, entry)
    sizes = {_identifier(symbol): int(size) for symbol, size in (data.get("sizes") or {}).items()}
    for node in made.values():
        if node.op == "placeholder" and sizes:
            node.meta["tzwc_sizes"] = sizes
    graph.lint()
    graph.owning_module = fx.GraphModule(held, graph)
    return graph


def _target(entry: Mapping[str, Any], held: Mapping[str, Any], targets: Mapping[str, Callable[..., Any]]) -> Any:
    op, target = entry["op"], entry["target"]
    if op == "call_function":
        return resolve_target(target, targets)
    if op == "placeholder":
        return _identifier(target.lstrip("*")) and target
    if op == "output":
        return "output"
    if op == "get_attr" and target in held:
        return target
    raise InvalidArgumentError(
        f"node {shown(entry['name'])} is {shown(op)} of {shown(target)}: expected a placeholder, a "
        "call_function, the output, or a get_attr of one of the constants and submodules in the file"
    )


def _identifier(name: Any) -> str:
    # torch.fx writes names into the source code that it compiles: anything else could be code.
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidArgumentError(f"name {shown(name, 80)} is not a Python identifier")
    return name


def _dotted(name: str) -> str:
    for part in name.split("."):
        _identifier(part)
        if part.startswith("__"):
            raise InvalidArgumentError(f"name {name!r:.80} of a constant has a part that starts with two underscores")
    return name


def _restore_metadata(node: fx.Node, entry: Mapping[str, Any]) -> None:
    node.meta["tzwc_value"] = _value_from_data(entry["value"])
    for key, meta in _METADATA.items():
        if entry.get(key) is not None:
            node.meta[meta] = str(entry[key])
    if entry.get("estimate") is not None:
        flops, seconds, nbytes = (entry["estimate"][name] for name in ESTIMATES)
        node.meta["tzwc_estimate"] = (float(flops), float(seconds), int(nbytes))
    if entry.get("kept"):
        node.meta["tzwc_cached"] = True
    where = entry["location"]
    if where["module_path"]:
        node.meta["nn_module_stack"] = {"": (str(where["module_path"]), "")}
    if where["file"] is not None:
        code = " ".join(str(where["code"] or "").split())
        node.meta["stack_trace"] = f'File "{where["file"]}", line {int(where["line"])}, in forward\n    {code}'


def _value_to_data(value: ValueInfo) -> Any:
    if isinstance(value, tuple):
        return [_value_to_data(item) for item in value]
    if isinstance(value, TensorInfo):
        stride = None if value.stride is None else list(value.stride)
        return {"dtype": value.dtype, "shape": list(value.shape), "stride": stride, "device": value.device}
    if isinstance(value, ScalarInfo):
        return {"type": value.type, "value": value.value}
    return None


def _value_from_data(data: Any) -> ValueInfo:
    if data is None:
        return None
    if isinstance(data, list):
        return tuple(_value_from_data(item) for item in data)
    if "dtype" in data:
        stride = None if data["stride"] is None else _sizes(data["stride"])
        if not isinstance(getattr(torch, str(data["dtype"]), None), torch.dtype):
            raise InvalidArgumentError(f"dtype {data['dtype']!r:.80} is not one of torch")
        return TensorInfo(str(data["dtype"]), _sizes(data["shape"]), stride, str(data["device"]))
    return ScalarInfo(str(data["type"]), _expression(str(data["value"])))


def _sizes(data: Sequence[Any]) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else _expression(str(size)) for size in data)


@functools.cache
def _expression(text: str) -> str:
    # Sizes and numbers are written into the scripts of to_python: arithmetic and functions of sympy, nothing else.
    for part in ast.walk(ast.parse(text, mode="eval")):
        called = part.func if isinstance(part, ast.Call) else None
        if not isinstance(part, _ARITHMETIC) or (
            called is not None and not (isinstance(called, ast.Name) and _FUNCTION.fullmatch(called.id))
        ):
            raise InvalidArgumentError(f"{text!r:.80} is not a number or an expression of sizes")
    return text
