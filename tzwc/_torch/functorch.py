"""The transforms of ``torch.func``."""

from __future__ import annotations

import torch

current_transform = torch._C._functorch.peek_interpreter_stack
"""The innermost active transform, or ``None``."""

is_transformed = torch._C._functorch.is_functorch_wrapped_tensor
"""Whether a tensor is a transform's wrapper around another one."""

TRANSFORM_MODULES = ("torch._functorch.", "torch.func.", "torch._dynamo.")
"""Prefixes of the modules whose functions in a graph of Dynamo's enter or leave a transform."""
