"""One convolution by algorithms of one's choice, whole or in two halves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv.algorithm import exactness_objection, find_algorithm, widens
from tzwc.ops.conv.algorithms.aten import pads_by_itself
from tzwc.ops.conv.autograd import Names, differentiable
from tzwc.ops.conv.problem import DIRECTIONS, PaddingMode, Problem

__all__ = ["convolution", "prepare_kernel", "prepared_convolution"]

Padding = Sequence[tuple[int, int]]
"""Elements before and after, for each spatial axis; negative ones crop."""

_ARGUMENTS = ("algorithm", "input_gradient", "weight_gradient")


def convolution(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    *,
    padding: Padding,
    padding_mode: PaddingMode = "zeros",
    stride: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    groups: int = 1,
    flip: bool = False,
    per_sample: bool = False,
    algorithm: str = "native",
    input_gradient: str = "native",
    weight_gradient: str = "native",
    exact: bool = False,
) -> Tensor:
    """Convolution in the sense of ``torch.nn.functional`` (a correlation), each direction by a given algorithm.

    Derivatives of every order and mode, ``torch.func`` and autocast work as they do for ``torch.nn.functional.conv1d``.
    See :class:`tzwc.ops.conv.Problem` for the formula.

    Args:
        x: `(B, C, *S)`, one to three spatial axes; float32, float64, bfloat16 or float16.
        kernel: `(O, C / groups, *K)`, or `(B, C, *K)` for ``per_sample``; of the dtype of ``x``.
        bias: `(O,)`, added to the result.
        padding: elements before and after each axis, from :func:`tzwc.ops.normalize_padding`; negative ones crop.
        padding_mode: what the padding holds: ``"zeros"``, or ``x`` continued periodically, ``"circular"``.
        stride: step along each axis from output to output; 1 by default.
        dilation: step along each axis from tap to tap; 1 by default.
        groups: as for ``torch.nn.functional.conv1d``; not read for ``per_sample``.
        flip: reverse the taps: convolution in the mathematical sense.
        per_sample: every sample and channel has a kernel of its own.
        algorithm: how the result is computed; a name from :func:`tzwc.ops.conv.all_algorithms`.
        input_gradient, weight_gradient: how the gradients are computed.
        exact: refuse algorithms that are accurate relative to the peak only, or that spread NaN and infinity.

    Returns:
        `(B, O, *out)` in the dtype of ``x``, contiguous or channels-last. In float16 and bfloat16 the convolution is
        summed in float32 and rounded once, and so is the sum with the bias.

    Raises:
        InvalidArgumentError: sizes or dtypes that do not go together, an unknown algorithm, or one that cannot compute
            this convolution or one of its gradients, with the reason.
    """
    x, kernel, bias = _autocast(x, kernel, bias)
    names = (algorithm, input_gradient, weight_gradient)
    problem = _problem(x, kernel.shape, padding, padding_mode, stride, dilation, groups, flip, per_sample, kernel.dtype)
    _check(problem, names, exact)
    if per_sample and tuple(kernel.shape[:2]) != tuple(x.shape[:2]):
        raise InvalidArgumentError(
            f"kernel={tuple(kernel.shape)} must have the samples and channels of x={tuple(x.shape)}: expand it"
        )
    plain = not (flip or per_sample or widens(find_algorithm("native"), x.dtype, x.device.type))
    if set(names) == {"native"} and pads_by_itself(problem) and plain:
        function = (F.conv1d, F.conv2d, F.conv3d)[problem.axes - 1]
        zeros = tuple(before for before, _ in problem.padding)
        return function(x, kernel, bias, problem.stride, zeros, problem.dilation, problem.groups)
    y = differentiable(problem, names, x, kernel)
    return _add_bias(y, bias, problem.axes)


def prepare_kernel(
    kernel: Tensor,
    *,
    algorithm: str,
    lengths: Sequence[int],
    padding: Padding,
    padding_mode: PaddingMode = "zeros",
    stride: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    groups: int = 1,
    flip: bool = False,
    per_sample: bool = False,
) -> Tensor:
    """What an algorithm computes from the kernel alone, such as its spectrum; for :func:`prepared_convolution`.

    A function of its own so that the result for a kernel which does not depend on the input is computed once.

    Args:
        kernel: as for :func:`convolution`, and so is everything else.
        algorithm: a name from :func:`tzwc.ops.conv.all_algorithms`.
        lengths: input sizes of the spatial axes.

    Returns:
        A tensor that means something to the algorithm only.

    Raises:
        InvalidArgumentError: as :func:`convolution`.
    """
    shape = (kernel.shape[0], kernel.shape[1] * (1 if per_sample else groups), *lengths)
    like = kernel.new_empty(()).expand(shape)
    problem = _problem(
        like, kernel.shape, padding, padding_mode, stride, dilation, groups, flip, per_sample, kernel.dtype
    )
    _check(problem, (algorithm, "native", "native"), False)
    chosen = find_algorithm(algorithm)
    if widens(chosen, kernel.dtype, kernel.device.type):
        kernel, problem = kernel.float(), problem.with_(dtype=torch.float32)
    return chosen.prepare(problem, kernel)


def prepared_convolution(
    x: Tensor,
    prepared: Tensor,
    bias: Tensor | None = None,
    *,
    algorithm: str,
    kernel_size: Sequence[int],
    out_channels: int,
    padding: Padding,
    padding_mode: PaddingMode = "zeros",
    stride: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    groups: int = 1,
    flip: bool = False,
    per_sample: bool = False,
) -> Tensor:
    """:func:`convolution` with the result of :func:`prepare_kernel` in the place of the kernel.

    Meant for graphs without gradients: differentiating it works, and keeps what the algorithm computes on its way.

    Args:
        x: `(B, C, *S)`.
        prepared: from :func:`prepare_kernel` with the same ``algorithm`` and sizes.
        bias: `(O,)`, added to the result.
        algorithm: a name from :func:`tzwc.ops.conv.all_algorithms`.
        kernel_size: taps along each axis.
        out_channels: `O`; the channels for ``per_sample``.

    Returns:
        `(B, O, *out)` in the dtype of ``x``.

    Raises:
        InvalidArgumentError: as :func:`convolution`.
    """
    count = 1 if per_sample else groups
    shape = (x.shape[0] if per_sample else out_channels, x.shape[1] // count, *kernel_size)
    problem = _problem(x, shape, padding, padding_mode, stride, dilation, groups, flip, per_sample, x.dtype)
    _check(problem, (algorithm, "native", "native"), False)
    chosen, dtype = find_algorithm(algorithm), x.dtype
    if widens(chosen, dtype, x.device.type):
        x, problem = x.float(), problem.with_(dtype=torch.float32)
    if isinstance(x.shape[0], int) and x.numel() == 0:
        y = x.new_zeros((x.shape[0], problem.out_channels, *problem.out))
    else:
        y = chosen.run(problem, x, prepared)
        y = y if chosen.narrow else y.contiguous()  # PyTorch's own keep the layout of their input
    return _add_bias(y.to(dtype), bias, problem.axes)


# Dynamo refuses autograd functions with a forward mode of their own. It need not look inside: everything but tensors is
# constant, and AOTAutograd traces the calls like any other.
for _operator in (convolution, prepared_convolution):
    torch.compiler.allow_in_graph(_operator)  # type: ignore[no-untyped-call]


def _add_bias(y: Tensor, bias: Tensor | None, axes: int) -> Tensor:
    return y if bias is None else y + bias.reshape(-1, *(1,) * axes)


def _autocast(*tensors: Tensor | None) -> Any:
    device = next(t.device.type for t in tensors if t is not None)
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    eligible = (torch.float32, torch.float16, torch.bfloat16)
    return tuple(t.to(dtype) if t is not None and t.dtype in eligible else t for t in tensors)


# --- sizes --------------------------------------------------------------------------------------------------------


def _problem(
    x: Tensor,
    kernel_shape: Sequence[int],
    padding: Padding,
    padding_mode: PaddingMode,
    stride: Sequence[int] | None,
    dilation: Sequence[int] | None,
    groups: int,
    flip: bool,
    per_sample: bool,
    kernel_dtype: torch.dtype,
) -> Problem:
    """The forward problem. An open batch size is not read: its place is taken by 2, which is no special case."""
    axes = len(kernel_shape) - 2
    if x.dim() != len(kernel_shape) or not 1 <= axes <= 3:
        raise InvalidArgumentError(
            f"x={tuple(x.shape)} and kernel={tuple(kernel_shape)} must both have two axes and one to three spatial ones"
        )
    if x.dtype != kernel_dtype:
        raise InvalidArgumentError(f"x is {x.dtype} and kernel {kernel_dtype}: convert one of them")
    channels = int(x.shape[1])
    if not per_sample and kernel_shape[1] * groups != channels:
        raise InvalidArgumentError(
            f"kernel={tuple(kernel_shape)} with groups={groups} must have {channels} / {groups} input channels, "
            f"as x={tuple(x.shape)} has"
        )
    return _cached_problem(
        x.shape[0] if isinstance(x.shape[0], int) else 2,
        channels,
        channels if per_sample else int(kernel_shape[0]),
        channels if per_sample else int(groups),
        tuple(map(int, x.shape[2:])),
        tuple(map(int, kernel_shape[2:])),
        tuple((int(before), int(after)) for before, after in padding),
        padding_mode,
        tuple(map(int, stride or (1,) * axes)),
        tuple(map(int, dilation or (1,) * axes)),
        flip,
        per_sample,
        dtype=x.dtype,
        device=x.device.type,
    )


@lru_cache(maxsize=4096)
def _cached_problem(
    batch: int,
    in_channels: int,
    out_channels: int,
    groups: int,
    lengths: tuple[int, ...],
    kernel: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    padding_mode: PaddingMode,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    flip: bool,
    per_sample: bool,
    dtype: torch.dtype,
    device: str,
) -> Problem:
    return Problem(
        batch, in_channels, out_channels, groups, lengths, kernel, padding, padding_mode, stride, dilation, flip,
        per_sample, dtype=dtype, device=device,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _check(problem: Problem, names: Names, exact: bool) -> None:
    for argument, direction, name in zip(_ARGUMENTS, DIRECTIONS, names, strict=True):
        directed, chosen = problem.with_(direction=direction), find_algorithm(name)
        reason = chosen.objection(directed) or (exactness_objection(directed, chosen) if exact else None)
        if reason is not None:
            raise InvalidArgumentError(f"{argument}={name!r} cannot compute this convolution: {reason}")
