"""Questions about operators that their schemas answer: what they write to, and which operators do the same purely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tzwc._torch.operators import OpOverload

__all__ = ["functional_form", "returns_number", "returns_written", "view_form", "writes_to_lists", "written_values"]

_NUMBERS = {"NumberType", "BoolType", "IntType", "FloatType", "ComplexType"}

# Operators that write to arguments although their schema does not say so.
_HIDDEN_WRITES = {
    torch.ops.aten.batch_norm.default: (3, 4, 5),
    torch.ops.aten.instance_norm.default: (3, 4, 5),
}


def written_values(target: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Those arguments of the call ``target(*args, **kwargs)`` that it writes to; the elements of lists one by one."""
    if target in _HIDDEN_WRITES:
        mean, var, training = _HIDDEN_WRITES[target]
        if len(args) > training and args[training] is False:
            return []
        return [argument for argument in (args[mean], args[var]) if argument is not None]
    written: list[Any] = []
    for position, argument in enumerate(target._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        written.extend(value if isinstance(value, (tuple, list)) else [] if value is None else [value])
    return written


def writes_to_lists(target: OpOverload) -> bool:
    """Whether ``target`` writes to the tensors of a list that it is given, as ``_foreach_add_`` does."""
    return any(
        argument.alias_info is not None and argument.alias_info.is_write and argument.type.kind() == "ListType"
        for argument in target._schema.arguments
    )


def returns_written(target: OpOverload) -> bool:
    """Whether the only result of ``target`` is the tensor that it has written to, as that of ``add_`` is."""
    returns = target._schema.returns
    return len(returns) == 1 and returns[0].alias_info is not None and returns[0].alias_info.is_write


def functional_form(target: OpOverload) -> OpOverload | None:
    """``mul`` for ``mul_``: takes the same arguments and returns what ``target`` would write, if there is such one."""
    name = target._schema.name.partition("::")[2]
    if target.namespace != "aten" or not name.endswith("_") or name.endswith("__"):
        return None
    functional: OpOverload | None = getattr(getattr(torch.ops.aten, name[:-1], None), target._overloadname, None)
    if functional is None:
        return None
    same = [a.name for a in functional._schema.arguments] == [a.name for a in target._schema.arguments]
    return functional if same and all(a.alias_info is None for a in functional._schema.arguments) else None


def view_form(target: OpOverload) -> OpOverload | None:
    """``unsqueeze`` for ``unsqueeze_``: the view that ``target`` turns its argument into, if there is such one."""
    name = target._schema.name.partition("::")[2].removesuffix("_")
    view: OpOverload | None = getattr(getattr(torch.ops.aten, name, None), target._overloadname, None)
    return view


def returns_number(target: OpOverload) -> bool:
    """Whether ``target`` returns nothing but Python numbers, read out of tensors."""
    returns = target._schema.returns
    return bool(returns) and all(result.type.kind() in _NUMBERS for result in returns)
