"""What generated Triton kernels import. Loads Triton, where there is one."""

from __future__ import annotations

from typing import Any

from torch._inductor.runtime import triton_helpers as _triton_helpers

triton_helpers: Any = _triton_helpers
"""Functions of generated kernels; ``libdevice`` and ``set_driver_to_gpu`` among them are replaced by the stand-ins."""
