"""Capture programs with transforms, and compare them within the rounding of a transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.support.pass_testing import EPS, Captured, Program, as_tuple, capture, gradients

FFT = "conv.fft_convolution.fft_convolution"
SPECTRUM = "conv.fft_convolution.kernel_spectrum"
PASSES = ("normalize", "cse", "recognise_fft_convolution")


def capture_program(function: Callable[..., Any], kernel: Tensor, *inputs: Tensor, dynamic: bool) -> Captured:
    return capture(Program(function, [kernel]), *inputs, dynamic=dynamic)


def transforms(program: Captured) -> list[str]:
    """The calls of transforms that are left."""
    return [name for name in program.counts() if "fft" in name and "convolution" not in name]


def assert_close(program: Captured, *inputs: Tensor, channels: int = 4, scale: float = 1.0) -> None:
    """Same values and gradients as eager, within the rounding of both transforms.

    An element of a convolution by FFT is off by at most ``c · eps · log2(n)`` times the norms of what is convolved,
    with ``c`` about 3 for each of three transforms (Higham, Accuracy and Stability of Numerical Algorithms, ch. 24);
    both sides make that error, over the ``channels`` that are summed. The norms are those of the whole tensors, and
    at least 1, since gradients replace one of the two by noise of unit variance.
    """
    inputs = inputs or program.inputs
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    wanted = [*leaves, *program.model.parameters()]
    expected, found = as_tuple(program.model(*leaves)), as_tuple(program.evaluate(*leaves))
    noise = sum(o.numel() for o in expected) ** 0.5
    norms = max(t.detach().norm().item() for t in wanted) * max(noise, *(t.detach().norm().item() for t in wanted))
    pairs = [*zip(found, expected, strict=True)]
    pairs += [*zip(gradients(found, wanted), gradients(expected, wanted), strict=True)]
    for a, b in pairs:
        assert a is not None
        assert b is not None
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=0, atol=20 * EPS * 6 * scale * norms * channels**0.5)
