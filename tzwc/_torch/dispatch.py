"""Dispatch modes, function modes, and the dispatcher's state of a thread."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import overrides as _overrides
from torch._dispatch import python as _python
from torch.utils import _device, _python_dispatch

TorchDispatchMode = _python_dispatch.TorchDispatchMode
"""Base class of modes that see every operator: documented, but at home in a private module."""

current_dispatch_mode = _python_dispatch._get_current_dispatch_mode
"""The innermost dispatch mode, or ``None``."""

disable_current_modes = _python_dispatch._disable_current_modes
"""Context manager without any dispatch mode, for work of tzwc's own while something is traced."""

count_dispatch_modes = torch._C._len_torch_dispatch_stack
"""How many dispatch modes are active."""

function_modes: Callable[[], list[_overrides.TorchFunctionMode]] = _overrides._get_current_function_mode_stack
"""The active function modes, the innermost last."""

DeviceContext = _device.DeviceContext
"""The function mode behind ``torch.set_default_device`` and ``with torch.device(...)``."""

DisableTorchFunction = torch._C.DisableTorchFunction
"""Context manager in which neither subclasses nor function modes see functions of PyTorch."""

DisableTorchFunctionSubclass = torch._C.DisableTorchFunctionSubclass
"""Context manager in which subclasses do not see functions of PyTorch: documented, but at home in a private module."""

disabled_torch_dispatch = torch._C._disabled_torch_dispatch_impl
"""The ``__torch_dispatch__`` of classes of tensors that do not override it."""

enable_python_dispatcher = _python.enable_python_dispatcher
"""Context manager in which composite operators decompose by their Python rules, as they must for symbolic sizes."""

ForceDispatchKeyGuard = torch._C._ForceDispatchKeyGuard
"""Context manager with exactly these dispatch keys included and excluded: to call an operator as its caller would."""

included_dispatch_keys = torch._C._dispatch_tls_local_include_set
"""The dispatch keys that this thread adds to those of tensors."""

excluded_dispatch_keys = torch._C._dispatch_tls_local_exclude_set
"""The dispatch keys that this thread leaves out."""
