"""Devices that models are measured on: ``cpu``, and ``cuda`` where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from tzwc.autotune.timers import CudaTimer
from tzwc.errors import InvalidArgumentError, TzwcError

__all__ = ["DEVICES", "DeviceError", "check_device", "clock_of", "name_of", "wait"]

DEVICES: Final = ("cpu", "cuda")


class DeviceError(TzwcError):
    """A device that was asked for is not there; the message says what is missing."""


def check_device(device: str) -> None:
    """Refuse a device that is none, or not here.

    Raises:
        InvalidArgumentError: not one of :data:`DEVICES`.
        DeviceError: PyTorch was built without CUDA, or finds no device.
    """
    if device not in DEVICES:
        raise InvalidArgumentError(f"device {device!r} is unknown: choose from {', '.join(DEVICES)}")
    if device == "cpu" or torch.cuda.is_available():
        return
    if torch.version.cuda is None and torch.version.hip is None:
        missing = f"PyTorch {torch.__version__} was built without CUDA; install a build with it (pytorch.org)"
    else:
        missing = "PyTorch finds no GPU; see what nvidia-smi and CUDA_VISIBLE_DEVICES say"
    raise DeviceError(f"device 'cuda' cannot be used: {missing}. Without a GPU, `tzwc lower` models what one would do")


def name_of(device: str) -> str:
    """The GPU's own name, which belongs to every figure measured on it; ``cpu`` as it is."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def wait(device: str) -> None:
    """Wait until the device has done what was asked of it."""
    if device == "cuda":
        torch.cuda.synchronize()


def clock_of(device: str) -> Callable[[Callable[[], object], int], float] | None:
    """What times calls: events in the stream of a GPU, and the caller's own clock (``None``) on a CPU."""
    return CudaTimer().time if device == "cuda" else None
