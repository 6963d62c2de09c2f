"""What a node costs, in seconds, by a simple roofline: arithmetic or memory traffic, whichever is slower.

The figures rank choices (keep or repeat, this algorithm or that one); they do not predict wall time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils.flop_counter import FlopCounterMode

from tzwc._torch.operators import OpOverloadPacket
from tzwc.ir.graph import hint, infer, nbytes, tensor_value

__all__ = ["MACHINES", "Machine", "flops", "machine_of", "seconds"]


@dataclass(frozen=True)
class Machine:
    """Rates of a device class.

    Attributes:
        arithmetic: FLOP/s of matrix products and convolutions.
        pointwise: FLOP/s of elementwise arithmetic.
        bandwidth: bytes/s of main memory.
        launch: seconds for starting one operator.
    """

    arithmetic: float
    pointwise: float
    bandwidth: float
    launch: float


MACHINES = {
    # Two AVX-512 cores reach 140–200 GFLOP/s in matrix products; small convolutions stay well below.
    "cpu": Machine(arithmetic=60e9, pointwise=10e9, bandwidth=10e9, launch=2e-6),
    # An accelerator of the H100's class: launches dominate what slow networks cost there.
    "cuda": Machine(arithmetic=50e12, pointwise=5e12, bandwidth=2.5e12, launch=4e-6),
}

_aten = torch.ops.aten

_PRODUCTS = {
    _aten.linear, _aten.matmul, _aten.mm, _aten.bmm, _aten.addmm, _aten.baddbmm, _aten.einsum, _aten.convolution,
    _aten.conv1d, _aten.conv2d, _aten.conv3d, _aten.conv_transpose1d, _aten.conv_transpose2d,
}  # fmt: skip

_VIEWS = {
    _aten.view, _aten.reshape, _aten.permute, _aten.transpose, _aten.t, _aten.expand, _aten.squeeze, _aten.unsqueeze,
    _aten.slice, _aten.select, _aten.detach, _aten.alias, _aten.flatten, _aten.unflatten, _aten.split, _aten.chunk,
    _aten.unbind, _aten.movedim, _aten.expand_as, _aten.view_as, _aten.real, _aten.imag, _aten.view_as_real,
    _aten.split_with_sizes, _aten.narrow, _aten.diagonal, _aten.unfold, _aten.sym_size, _aten.numpy_T, _aten.mT,
}  # fmt: skip

_TRANSCENDENTAL = {
    _aten.sin, _aten.cos, _aten.exp, _aten.log, _aten.tanh, _aten.sigmoid, _aten.gelu, _aten.erf, _aten.pow,
    _aten.rsqrt, _aten.sqrt, _aten.softmax, _aten.silu, _aten.softplus,
}  # fmt: skip

_TRANSCENDENTAL_FLOPS = 20


def machine_of(node: fx.Node) -> Machine:
    """The rates of the device on which ``node`` runs."""
    value = tensor_value(node)
    return MACHINES.get(value.device.type if value is not None else "cpu", MACHINES["cpu"])


def _packet(node: fx.Node) -> Any:
    return getattr(node.target, "overloadpacket", node.target)


def is_view(node: fx.Node) -> bool:
    """Whether ``node`` only renames memory, or picks from a tuple."""
    return _packet(node) in _VIEWS or getattr(node.target, "__name__", "") == "getitem"


def flops(node: fx.Node) -> float:
    """Floating-point operations of ``node``, at the sizes seen at capture."""
    if node.op != "call_function" or is_view(node):
        return 0.0
    packet = _packet(node)
    value = node.meta.get("val")
    if packet in _PRODUCTS or not isinstance(packet, OpOverloadPacket):
        with FlopCounterMode(display=False) as counter:
            infer(node)
        counted = float(counter.get_total_flops())
        if counted or packet in _PRODUCTS:
            return counted
    if not isinstance(value, torch.Tensor):
        return 0.0
    elements = hint(value.numel())
    name = getattr(packet, "__name__", "")
    if name.startswith("fft") or "spectrum" in name:
        return 5.0 * elements * math.log2(max(2, elements))
    return float(elements * (_TRANSCENDENTAL_FLOPS if packet in _TRANSCENDENTAL else 1))


def seconds(node: fx.Node) -> float:
    """Estimated seconds for one evaluation of ``node`` when its operands and result are in memory."""
    if node.op != "call_function" or is_view(node):
        return 0.0
    machine = machine_of(node)
    product = _packet(node) in _PRODUCTS
    arithmetic = flops(node) / (machine.arithmetic if product else machine.pointwise)
    moved = nbytes(node) + sum(nbytes(argument) for argument in node.all_input_nodes)
    return max(arithmetic, moved / machine.bandwidth) + machine.launch
