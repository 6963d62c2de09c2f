"""Statements of our models: convolutions, products, norms, hyper-kernels, and HyperZ·Z·W in unusual spellings."""

from __future__ import annotations

import math

from tests.properties.draft import Draft, Statement, Value

__all__ = ["LAYERS"]


def _is_map(value: Value) -> bool:
    return value.batched and len(value.shape) in (2, 3)


def _is_signal(value: Value) -> bool:
    return value.batched and len(value.shape) == 2


def _out(length: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    return (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1


def convolution_layer(draft: Draft) -> None:
    """``nn.Conv1d`` or ``nn.Conv2d``, with groups, stride, dilation and either padding."""
    x = draft.pick(_is_map)
    if x is None:
        return
    channels, *lengths = x.shape
    taps = draft.choose([1, 3, 2, 5])
    kind = draft.choose(["dense", "depthwise", "circular", "strided", "dilated", "pointwise"])
    taps = 1 if kind == "pointwise" else taps
    groups = channels if kind == "depthwise" else 1
    stride, dilation = (2 if kind == "strided" else 1), (2 if kind == "dilated" else 1)
    padding = taps // 2
    if kind == "circular" and padding > min(lengths):
        return
    sizes = [_out(length, taps, stride, padding, dilation) for length in lengths]
    if min(sizes) < 1:
        return
    filters = channels * draft.choose([1, 2]) if groups > 1 else draft.choose([channels, 2, 6])
    options = "".join(
        f", {name}={value!r}"
        for name, value, default in (
            ("stride", stride, 1),
            ("padding", padding, 0),
            ("dilation", dilation, 1),
            ("groups", groups, 1),
            ("bias", draft.choose([True, False]), True),
            ("padding_mode", "circular" if kind == "circular" else "zeros", "zeros"),
        )
        if value != default
    )
    layer = draft.layer(f"nn.Conv{len(lengths)}d({channels}, {filters}, {taps}{options})")
    draft.bind(f"{layer}({x.name})", (filters, *sizes))


def convolution_call(draft: Draft) -> None:
    """``F.conv1d`` or ``F.conv2d`` with a parameter, padded by itself or before."""
    x = draft.pick(_is_map)
    if x is None:
        return
    channels, *lengths = x.shape
    taps = draft.choose([3, 1, 2])
    groups = draft.choose([1, channels])
    weight = draft.parameter(channels, channels // groups, *(taps,) * len(lengths))
    padding = draft.choose(["call", "before", "both", "none"])
    call = f"F.conv{len(lengths)}d"
    margins = [taps - 1, 0] * len(lengths)
    operand = f"F.pad({x.name}, {margins})" if padding in ("before", "both") else x.name
    more = taps // 2 if padding in ("call", "both") else 0
    added = (taps - 1 if padding in ("before", "both") else 0) + 2 * more
    sizes = [length + added - taps + 1 for length in lengths]
    if min(sizes) >= 1:
        draft.bind(f"{call}({operand}, {weight}, padding={more}, groups={groups})", (channels, *sizes))


def _written_kernel(draft: Draft, channels: int, points: int) -> Value:
    """A kernel (c l) that a coordinate network writes, with its grid kept or made at every call; or an earlier one."""
    if any(not v.batched and v.shape == (channels, points) for v in draft.values) and draft.choose([True, False]):
        earlier = draft.pick(lambda v: not v.batched and v.shape == (channels, points))
        assert earlier is not None
        return earlier
    activation = draft.choose(["nn.Tanh()", "nn.GELU()", "nn.ReLU(inplace=True)"])
    net = draft.layer(f"nn.Sequential(nn.Linear(1, 4), {activation}, nn.Linear(4, {channels}))")
    grid = f"torch.linspace(-1, 1, {points})"
    name = draft.choose([draft.member(f"nn.Buffer({grid}[:, None])"), f"{grid}.to({net}[0].weight).reshape(-1, 1)"])
    written = f"{net}({name})"
    spellings = [
        f"{written}.t()",
        f"torch.einsum('lc->cl', {written})",
        f"torch.sin(3 * {written}).mT",
        f"{written}.permute(1, 0).contiguous()",
        f"({written} / {points}).transpose(0, 1).clone()",
    ]
    kernel = draft.bind(draft.choose(spellings), (channels, points), batched=False)
    draft.read.add(kernel.name)
    return kernel


def kernel_convolution(draft: Draft) -> None:
    """A depthwise convolution with a written kernel, by ``conv1d`` or by transforms."""
    x = draft.pick(_is_signal)
    if x is None:
        return
    channels, length = x.shape
    form = draft.choose(["same", "causal", "transforms", "cropped", "cat"])
    taps = draft.choose([length, 3, 2, 7])
    kernel = _written_kernel(draft, channels, taps)
    points = length + taps - 1
    if form == "same":
        code = f"F.conv1d({x.name}, {kernel.name}[:, None], padding={taps // 2}, groups={channels})"
        draft.bind(code, (channels, length + 2 * (taps // 2) - taps + 1))
    elif form == "causal":
        taps_back = f"{kernel.name}.flip(-1)[:, None]"
        draft.like(x, f"F.conv1d(F.pad({x.name}, ({taps - 1}, 0)), {taps_back}, groups={channels})")
    elif form == "transforms" and points >= 2:
        spectrum = f"torch.fft.rfft({x.name}, n={points}) * torch.fft.rfft({kernel.name}, n={points})"
        draft.like(x, f"torch.fft.irfft({spectrum}, n={points})[..., :{length}]")
    else:
        code = f"F.conv1d({x.name}, {kernel.name}.unsqueeze(1), None, 1, {taps - 1}, 1, {channels})"
        draft.like(x, f"{code}[..., :{length}]")


def hyper_product(draft: Draft) -> None:
    """HyperZ·Z·W: the product of activations and a written kernel as gate, weight, or matrix."""
    z = draft.pick(_is_signal)
    if z is None:
        return
    channels, length = z.shape
    form = draft.choose(["gate", "convolution", "dot", "pairs", "causal"])
    k, n = _written_kernel(draft, channels, length).name, z.name
    weights = [
        f"{n} * {k}",
        f"{k} * {n}",
        f"torch.einsum('bcl,cl->bcl', {n}, {k})",
        f"{n}.mul({k}[None])",
        f"{n} * 2 * {k}",
    ]
    w = draft.like(z, draft.choose(weights)).name
    draft.read.add(w)
    other = draft.pick(lambda v: _is_signal(v) and v.shape[0] == channels and v.name != w)
    assert other is not None  # z itself
    v, batch, size = other.name, f"{other.name}.shape[0]", other.shape[1]
    if form == "gate" and other.shape == z.shape:
        draft.like(
            z, draft.choose([f"{w} * {v}", f"{v}.mul({w})", f"{w} * {n}", f"torch.einsum('bcl,bcl->bcl', {w}, {n})"])
        )
    elif form == "convolution" or form == "causal":
        before = (length - 1) // 2 if form == "convolution" else length - 1
        padded = f"F.pad({v}, ({before}, {length - 1 - before}))"
        taps = draft.choose([f"{w}", f"{w}.flip(-1)"]) if form == "convolution" else f"{w}.flip(-1)"
        signal = f"{padded}.reshape(1, -1, {size + length - 1})"
        call = f"F.conv1d({signal}, {taps}.reshape(-1, 1, {length}), groups={batch} * {channels})"
        draft.bind(f"{call}.reshape({batch}, {channels}, {size})", (channels, size))
    elif form == "dot":
        square = f"({n}.unsqueeze(-1) * {k}.unsqueeze(-2))"
        code = draft.choose(
            [f"{square} @ {n}.unsqueeze(-1)", f"torch.einsum('bcij,bcj->bci', {square}, {n})[..., None]"]
        )
        draft.bind(f"({code}).squeeze(-1)", z.shape)
    else:
        draft.bind(f"torch.einsum('bcl,bdl->bcd', {w}, {n})", (channels, channels))


def pointwise_chain(draft: Draft) -> None:
    """1×1 convolutions one after the other, or over channels that occur several times."""
    x = draft.pick(_is_map)
    if x is None:
        return
    channels, axes = x.shape[0], len(x.shape) - 1
    wide = draft.choose([16, 4, 2])
    out = draft.choose([channels, 3])
    bias = draft.choose(["", ", bias=False"])
    form = draft.choose(["chain", "repeated", "interleaved", "linear"])
    n = x.name
    if form == "chain":
        first = draft.layer(f"nn.Conv{axes}d({channels}, {wide}, 1{bias})")
        last = draft.layer(f"nn.Conv{axes}d({wide}, {out}, 1)")
        draft.bind(f"{last}({first}({n}))", (out, *x.shape[1:]))
    elif form == "linear":
        first = draft.layer(f"nn.Linear({x.shape[-1]}, {wide}{bias})")
        last = draft.layer(f"nn.Linear({wide}, {x.shape[-1]})")
        draft.like(x, f"{last}({first}({n}))")
    else:
        layer = draft.layer(f"nn.Conv{axes}d({2 * channels}, {out}, 1{bias})")
        twice = f"torch.cat([{n}, {n}], 1)" if form == "repeated" else f"{n}.repeat_interleave(2, 1)"
        draft.bind(f"{layer}({twice})", (out, *x.shape[1:]))


def product(draft: Draft) -> None:
    """A layer on the last axis, or a matrix product in one of its spellings."""
    x = draft.pick(lambda v: v.batched and len(v.shape) >= 1)
    if x is None:
        return
    *lead, last = x.shape
    form = draft.choose(["layer", "linear", "matmul", "chain", "einsum", "gram", "channels"])
    wide = draft.choose([3, last, 1])
    if form == "layer":
        layer = draft.layer(f"nn.Linear({last}, {wide}{draft.choose(['', ', bias=False'])})")
        draft.bind(f"{layer}({x.name})", (*lead, wide))
    elif form == "linear":
        draft.bind(f"F.linear({x.name}, {draft.parameter(wide, last)})", (*lead, wide))
    elif form == "matmul":
        draft.bind(f"{x.name} @ {draft.parameter(last, wide)}", (*lead, wide))
    elif form == "chain":
        a, b = draft.parameter(2, last), draft.parameter(wide, 2)
        draft.bind(f"F.linear(F.linear({x.name}, {a}), {b})", (*lead, wide))
    elif form == "einsum":
        draft.bind(f"torch.einsum('...i,oi->...o', {x.name}, {draft.parameter(wide, last)})", (*lead, wide))
    elif form == "gram" and lead:
        draft.bind(f"torch.matmul({x.name}, {x.name}.transpose(-1, -2)) / {last}", (*lead, lead[-1]))
    elif form == "channels" and len(x.shape) >= 2:
        code = f"torch.einsum('bc...,dc->bd...', {x.name}, {draft.parameter(wide, x.shape[0])})"
        draft.bind(code, (wide, *x.shape[1:]))


def norm(draft: Draft) -> None:
    """Layer, group, instance and batch norm, and a standardisation by hand."""
    x = draft.pick(lambda v: v.batched and len(v.shape) >= 1)
    if x is None:
        return
    channels, axes = x.shape[0], len(x.shape) - 1
    kind = draft.choose(["layer", "group", "instance", "batch", "hand", "softmax"])
    if kind == "instance" and axes >= 1 and math.prod(x.shape[1:]) > 1:
        draft.like(x, f"{draft.layer(f'nn.InstanceNorm{axes}d({channels}, affine=True)')}({x.name})")
    elif kind == "batch" and axes <= 2:
        draft.like(x, f"{draft.layer(f'nn.BatchNorm{max(axes, 1)}d({channels})')}({x.name})")
    elif kind == "group":
        groups = draft.choose([1, channels])
        draft.like(x, f"{draft.layer(f'nn.GroupNorm({groups}, {channels})')}({x.name})")
    elif kind == "hand":
        centred = f"({x.name} - {x.name}.mean(-1, keepdim=True))"
        draft.like(x, f"{centred} / ({x.name}.var(-1, keepdim=True, correction=0) + 1e-3).sqrt()")
    elif kind == "softmax":
        draft.like(x, f"{x.name}.softmax({draft.choose([-1, 1])})")
    else:
        draft.like(x, f"{draft.layer(f'nn.LayerNorm({x.shape[-1]})')}({x.name})")


LAYERS: tuple[Statement, ...] = (
    convolution_layer,
    convolution_call,
    product,
    norm,
    pointwise_chain,
    kernel_convolution,
    hyper_product,
)
"""All of them."""
