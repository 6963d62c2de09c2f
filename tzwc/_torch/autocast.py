"""Autocast for all devices at once; ``torch.autocast`` and ``torch.is_autocast_enabled`` ask for one."""

from __future__ import annotations

import torch

any_autocast_enabled = torch._C._is_any_autocast_enabled
"""Whether autocast is on for any type of device."""

DisableAutocast = torch._C._DisableAutocast
"""Context manager without autocast on any device; unlike ``torch.autocast(enabled=False)`` it leaves the cache of
converted weights alone, and is cheap enough for single operators."""
