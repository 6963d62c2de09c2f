"""The dot-product form of HyperZ·Z·W as one Triton kernel.

``Y_i[b, c, m, p] = Σ_n z[b, c, m, n] · k[b, c, m, n] · V_i[b, c, n, p]``

A block of the product ``z ⊙ k`` is made in registers, where Inductor would write the whole product to memory for a
library to read, and meets every right side there, where a library reads it once for each.

Numbers: the product is rounded to the element type, as in eager mode; sums are accumulated in float32. float32 is
multiplied as such unless ``tf32`` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op, triton_op, wrap_triton

from tzwc.ops.derivatives import tangents_may_flow

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{__name__} needs Triton: pip install 'tzwc[triton]'", name=error.name) from error

__all__ = ["dot", "dot_kernel"]


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def dot_kernel(  # type: ignore[no-untyped-def]
    z, k, v0, v1, v2, y, M, N, P, C, stride_y,
    zb, zc, zm, zn, kb, kc, km, kn, vb, vc, vn, vp,
    COUNT: tl.constexpr, HAS_KERNEL: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One block of ``BLOCK_M`` × ``BLOCK_P`` of every result; axis 2 of the grid runs over batch and channels."""
    lead = tl.program_id(2).to(tl.int64)
    b, c = lead // C, lead % C
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, BLOCK_N)
    z += b * zb + c * zc
    k += b * kb + c * kc
    value_offset = b * vb + c * vc
    sum0 = tl.zeros((BLOCK_M, BLOCK_P), tl.float32)
    sum1 = tl.zeros((BLOCK_M, BLOCK_P), tl.float32)
    sum2 = tl.zeros((BLOCK_M, BLOCK_P), tl.float32)
    for start in range(0, N, BLOCK_N):
        column = start + n
        left = (m[:, None] < M) & (column[None, :] < N)
        weights = tl.load(z + m[:, None] * zm + column[None, :] * zn, left, other=0.0)
        if HAS_KERNEL:
            other = tl.load(k + m[:, None] * km + column[None, :] * kn, left, other=0.0)
            weights = (weights.to(tl.float32) * other.to(tl.float32)).to(z.dtype.element_ty)
        right = (column[:, None] < N) & (p[None, :] < P)
        offsets = value_offset + column[:, None] * vn + p[None, :] * vp
        value = tl.load(v0 + offsets, right, other=0.0)
        if WIDEN:
            weights = weights.to(tl.float32)
            value = value.to(tl.float32)
        sum0 = tl.dot(weights, value, sum0, input_precision=PRECISION)
        if COUNT > 1:
            value = tl.load(v1 + offsets, right, other=0.0)
            if WIDEN:
                value = value.to(tl.float32)
            sum1 = tl.dot(weights, value, sum1, input_precision=PRECISION)
        if COUNT > 2:
            value = tl.load(v2 + offsets, right, other=0.0)
            if WIDEN:
                value = value.to(tl.float32)
            sum2 = tl.dot(weights, value, sum2, input_precision=PRECISION)
    inside = (m[:, None] < M) & (p[None, :] < P)
    out = y + lead * M * P + m[:, None] * P + p[None, :]
    tl.store(out, sum0.to(y.dtype.element_ty), inside)
    if COUNT > 1:
        tl.store(out + stride_y, sum1.to(y.dtype.element_ty), inside)
    if COUNT > 2:
        tl.store(out + 2 * stride_y, sum2.to(y.dtype.element_ty), inside)


def _shape(z: Tensor, kernel: Tensor | None, values: list[Tensor], tf32: bool) -> Tensor:  # noqa: ARG001
    return z.new_empty((len(values), *z.shape[:-1], values[0].shape[-1]))


def _register(function: Callable[..., Tensor]) -> Any:
    """An operator that Inductor sees into, except where Triton only interprets and there is nothing to see."""
    if not triton.knobs.runtime.interpret:
        return triton_op("tzwc_gpu::hyperzzw_dot", function, mutates_args={})
    opaque = custom_op("tzwc_gpu::hyperzzw_dot", function, mutates_args={})
    opaque.register_fake(_shape)
    return opaque


@_register
def dot(z: Tensor, kernel: Tensor | None, values: list[Tensor], tf32: bool) -> Tensor:
    """``(z ⊙ kernel) · V_i`` for one to three values.

    Args:
        z: `(B, C, M, N)`, of any strides (0 where it is broadcast); float32, bfloat16 or float16.
        kernel: the shape of ``z``, or ``None`` where ``z`` is the product already.
        values: each `(B, C, N, P)`, in the dtype of ``z``.
        tf32: multiply float32 on tensor cores, with 10 bits after the point.

    Returns:
        `(len(values), B, C, M, P)`, contiguous.
    """
    if tangents_may_flow():
        raise NotImplementedError("tzwc_gpu::hyperzzw_dot has no forward-mode derivative: use tzwc.ops.hyperzzw_dot")
    batch, channels, rows, inner = z.shape
    columns = values[0].shape[-1]
    result = z.new_empty((len(values), batch, channels, rows, columns))
    if any(value.stride() != values[0].stride() for value in values):
        values = [value.contiguous() for value in values]
    other = z if kernel is None else kernel
    right = [*values, *[values[-1]] * (3 - len(values))]  # v0, v1 and v2 of the kernel, which reads COUNT of them
    block_m, block_p = _block(rows), _block(columns)
    grid = (triton.cdiv(rows, block_m), triton.cdiv(columns, block_p), batch * channels)
    wrap_triton(dot_kernel)[grid](
        z, other, *right, result, rows, inner, columns, channels, batch * channels * rows * columns,
        *z.stride(), *other.stride(), *right[0].stride(),
        COUNT=len(values), HAS_KERNEL=kernel is not None, PRECISION="tf32" if tf32 else "ieee",
        # The interpreter's products read bfloat16 as integers; of float32 values the same products are exact.
        WIDEN=bool(triton.knobs.runtime.interpret),
        BLOCK_M=block_m, BLOCK_N=_block(inner), BLOCK_P=block_p,
    )  # fmt: skip
    return result


def _block(size: int) -> int:
    """Rows or columns of one block: a power of 2, at least the 16 that matrix units take, at most 32."""
    return 16 if size <= 16 else 32


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor | None, list[Tensor], bool], output: Tensor) -> None:  # noqa: ARG001
    z, kernel, values, ctx.tf32 = inputs
    ctx.has_kernel = kernel is not None
    ctx.save_for_backward(z, *([] if kernel is None else [kernel]), *values)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor], None]:
    """``∂V_i = (z ⊙ k)ᵀ · G_i`` by the same kernel, and ``∂(z ⊙ k) = Σ_i G_i · V_iᵀ`` as one product."""
    z, *rest = ctx.saved_tensors
    kernel = rest.pop(0) if ctx.has_kernel else None
    gradients = list(gradient.unbind(0))
    transposed = None if kernel is None else kernel.mT
    for_values = list(dot(z.mT, transposed, [g.contiguous() for g in gradients], ctx.tf32).unbind(0))
    weights = torch.cat(gradients, -1) @ torch.cat(rest, -1).mT
    if kernel is None:
        return weights, None, for_values, None
    return weights * kernel, weights * z, for_values, None


dot.register_autograd(_backward, setup_context=_setup)
