"""Properties and kinds of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TensorBase: Any = torch._C.TensorBase
"""The class, written in C, that has the methods and properties of ``torch.Tensor``: where these are patched."""

is_leaf_of: Callable[[Tensor], bool] = vars(torch._C.TensorBase)["is_leaf"].__get__
"""``Tensor.is_leaf``, out of reach of patches of the property."""

requires_grad_of: Callable[[Tensor], bool] = vars(torch._C.TensorBase)["requires_grad"].__get__
"""``Tensor.requires_grad``, out of reach of patches of the property."""

is_view = Tensor._is_view
"""Whether autograd takes a tensor for a view of another one."""

is_zero_tensor = Tensor._is_zerotensor
"""Whether a tensor stands for zeros without having memory; forward-mode differentiation makes such."""

is_functional_tensor = torch._is_functional_tensor
"""Whether a tensor is a wrapper of the C++ functionalisation."""

negative_view = torch._neg_view
"""The tensor negated lazily: it has the negative bit, and the memory of its argument."""

data_of: Any = torch._C._autograd._get_data_attr  # type: ignore[attr-defined]
"""What Dynamo writes into its graphs for ``Tensor.data``."""
