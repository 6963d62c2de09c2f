"""The classes of what ``torch.ops`` holds."""

from __future__ import annotations

from torch import _ops

OpOverload = _ops.OpOverload
"""One overload of an operator, such as ``torch.ops.aten.add.Tensor``."""

OpOverloadPacket = _ops.OpOverloadPacket
"""All overloads of an operator, such as ``torch.ops.aten.add``."""

HigherOrderOperator = _ops.HigherOrderOperator
"""An operator that takes functions, such as ``torch.ops.higher_order.cond``."""
