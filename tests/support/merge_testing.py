"""Programs with maps next to each other, and a CPU that is seen as a device where starting a kernel takes long."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tzwc.ir.roofline
from tests.support.pass_testing import Program, capture
from tzwc.passes.pointwise import parallel_maps

PASSES = ("normalize", "cse", "merge_parallel")
B, C, N = 3, 4, 6


# Tables of cases are drawn when their file is read, in front of any fixture.
_GENERATOR = torch.Generator().manual_seed(0)

# A bias' gradient sums up to (B + 2) · N² = 180 terms in another order, each off by a rounding: by 180 eps of their
# size at most, which is that of the largest gradient or, where terms cancel, somewhat more.
ROUNDINGS = 512.0


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=_GENERATOR)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Let the pass see the CPU as a device where starting a kernel takes long, which is where it merges."""
    monkeypatch.setattr(parallel_maps, "DEVICES", ("cpu",))
    monkeypatch.setitem(tzwc.ir.roofline.MACHINES, "cpu", tzwc.ir.roofline.MACHINES["cuda"])
    torch.manual_seed(0)


def captured(function, parameters, x, dynamic=False):
    """The program for the sizes of ``x`` alone."""
    return capture(Program(function, parameters), x, dynamic=dynamic)


def weights(*channels, bias=True, axes=2):
    """Weights `(O, C, 1, …)`, and biases unless there are none, for each pair of channels."""
    found = []
    for a, b in channels:
        found += [double(b, a, *(1,) * axes)] + ([double(b)] if bias else [])
    return found


def used(*results):
    """Results, each read by something, none returned as it is."""
    return tuple(torch.tanh(result) for result in results)


def three(w1, b1, w2, b2, w3, b3, x):
    return used(F.conv2d(x, w1, b1), F.conv2d(x, w2, b2), F.conv2d(x, w3, b3))


def sum_of_two(w1, b1, w2, b2, x):
    return F.conv2d(x.tanh(), w1, b1) + F.conv2d(x[:, :2] * 2, w2, b2)
