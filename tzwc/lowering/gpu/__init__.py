"""Triton kernels for what Inductor cannot fuse, and the rule that chooses them; importing this needs no Triton."""

from __future__ import annotations

from tzwc.lowering.gpu.hyperzzw_dot import fused_dot
from tzwc.lowering.gpu.select_kernels import for_devices, use_kernels

__all__ = ["for_devices", "fused_dot", "use_kernels"]
