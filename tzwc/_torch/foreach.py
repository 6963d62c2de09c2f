"""Elementwise functions of lists of tensors, one launch for many. Optimisers use them; no public module has them."""

from __future__ import annotations

import torch

add_ = torch._foreach_add_
"""Add to each tensor of a list the matching tensor of another one."""

lerp_ = torch._foreach_lerp_
"""Move each tensor of a list a part of the way to the matching tensor of another one."""

sign = torch._foreach_sign
"""The signs of the elements of each tensor of a list."""
