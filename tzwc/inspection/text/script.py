"""The last lines of a stage's Python text: a call of ``forward`` with random arguments of the right kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import fx

from tzwc.ir.graph import hint
from tzwc.ir.values import Dimension, ScalarInfo, TensorInfo, value_of

__all__ = ["script_lines", "sizes_of"]

_SYMBOL = re.compile(r"[A-Za-z_]\w*")
_ANY_SIZE = 2  # for a symbolic size whose value at capture is not known


def script_lines(graph: fx.Graph) -> list[str]:
    """Lines for the end of the text; none when an argument is of an unknown kind."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    sizes = sizes_of(graph)
    arguments = [_argument(value_of(node)) for node in placeholders]
    if any(argument is None for argument in arguments):
        return []
    return [
        "",
        "",
        'if __name__ == "__main__":',
        "    torch.manual_seed(0)",
        *(f"    {name} = {size}  # any size" for name, size in sizes.items()),
        "    arguments = [",
        *(f"        {argument},  # {node.name}" for node, argument in zip(placeholders, arguments, strict=True)),
        "    ]",
        "    with torch.no_grad():",
        "        results = forward(*arguments)",
        "    for result in results if isinstance(results, (tuple, list)) else [results]:",
        '        print(f"{result.dtype} {list(result.shape)}" if isinstance(result, torch.Tensor) else result)',
    ]


def sizes_of(graph: fx.Graph) -> dict[str, int]:
    """A number for every symbol in the shapes of arguments, that seen at capture where it is known."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op != "placeholder":
            continue
        found |= node.meta.get("tzwc_sizes", {})  # from a file
        live = node.meta.get("val")
        sizes = live.shape if isinstance(live, torch.Tensor) else (live,)
        found |= {str(size): hint(size) for size in sizes if isinstance(size, torch.SymInt)}
        for symbol in _symbols(node):
            found.setdefault(symbol, _ANY_SIZE)
    return {name: size for name, size in found.items() if _SYMBOL.fullmatch(name)}


def _symbols(node: fx.Node) -> Iterator[str]:
    value = value_of(node)
    texts: tuple[Dimension, ...] = value.shape if isinstance(value, TensorInfo) else ()
    if isinstance(value, ScalarInfo):
        texts = (value.value,)
    for text in texts:
        if isinstance(text, str):
            yield from (name for name in _SYMBOL.findall(text) if name not in ("True", "False", "None"))


def _argument(value: object) -> str | None:
    if isinstance(value, ScalarInfo):
        return value.value
    if not isinstance(value, TensorInfo):
        return None
    shape = f"({', '.join(map(str, value.shape))}{',' if len(value.shape) == 1 else ''})"
    dtype = getattr(torch, value.dtype)
    where = "" if value.device == "cpu" else f", device={value.device!r}"
    if dtype.is_floating_point or dtype.is_complex:
        return f"torch.randn({shape}, dtype=torch.{value.dtype}{where})"
    return f"torch.randint(0, 2, {shape}{where}).to(torch.{value.dtype})"
