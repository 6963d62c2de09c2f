"""Statements that surround the layers: elementwise functions, views, writes in place, state, randomness, branches."""

from __future__ import annotations

import math

from tests.properties.draft import Draft, Statement, Value

__all__ = ["SURROUNDINGS"]


def _batched(value: Value) -> bool:
    return value.batched and len(value.shape) >= 1


def elementwise(draft: Draft) -> None:
    """One operand, smooth and not."""
    x = draft.pick(lambda _: True)
    if x is None:
        return
    n = x.name
    codes = [f"torch.tanh({n})", f"F.gelu({n})", f"{n}.sin()", f"F.relu({n})", f"{n} * 0.5", f"{n}.abs()", f"-{n} + 1"]
    codes += [f"F.silu({n})", f"torch.exp(-{n}.square())", f"{n}.clamp(-1, 1)", f"1 * {n}", f"{n} / 1.0"]
    draft.like(x, draft.choose(codes))


def binary(draft: Draft) -> None:
    """Two operands of one shape, or one that is broadcast."""
    x = draft.pick(_batched)
    if x is None:
        return
    kind = draft.choose(["add", "mul", "scale", "sub", "skip"])
    if kind == "scale":
        weight = draft.parameter(*x.shape[:1], *(1,) * (len(x.shape) - 1))
        draft.like(x, draft.choose([f"{x.name} * {weight}", f"{weight} * {x.name}", f"{weight}.mul({x.name})"]))
        return
    y = draft.pick(lambda v: v.shape == x.shape)
    assert y is not None  # x itself
    a, b = x.name, y.name
    codes = {"add": f"{a} + {b}", "mul": f"{a} * {b}", "sub": f"torch.sub({a}, {b}, alpha=2)", "skip": f"{a}.add({b})"}
    draft.like(x, codes[kind])


def concatenation(draft: Draft) -> None:
    """``cat`` along the channels, of two values or of one with itself; ``stack`` and ``repeat``."""
    x = draft.pick(_batched)
    if x is None:
        return
    y = draft.pick(lambda v: v.batched and len(v.shape) == len(x.shape) and v.shape[1:] == x.shape[1:])
    assert y is not None  # x itself
    kind = draft.choose(["cat", "twice", "stack", "repeat", "interleave"])
    channels = x.shape[0]
    if channels + y.shape[0] > 16:
        return
    if kind == "stack":
        draft.bind(f"torch.stack([{x.name}, 2 * {x.name}], 1).flatten(1, 2)", (2 * channels, *x.shape[1:]))
    elif kind == "repeat":
        ones = ", 1" * (len(x.shape) - 1)
        draft.bind(f"{x.name}.repeat(1, 2{ones})", (2 * channels, *x.shape[1:]))
    elif kind == "interleave":
        draft.bind(f"{x.name}.repeat_interleave(2, 1)", (2 * channels, *x.shape[1:]))
    else:
        parts = f"[{x.name}, {x.name}]" if kind == "twice" else f"[{x.name}, {y.name}]"
        draft.bind(f"torch.cat({parts}, 1)", (channels + (channels if kind == "twice" else y.shape[0]), *x.shape[1:]))


def slicing(draft: Draft) -> None:
    """Parts of a value: slices, halves, indices, flips and rolls."""
    x = draft.pick(_batched)
    if x is None:
        return
    *lead, last = x.shape
    n = x.name
    kind = draft.choose(["slice", "channels", "step", "flip", "roll", "chunk", "index", "pad", "rows"])
    if kind == "slice" and last > 1:
        draft.bind(f"{n}[..., 1:]", (*lead, last - 1), owned=x.owned)
    elif kind == "channels":
        draft.bind(f"{n}[:, :1]", (1, *x.shape[1:]), owned=x.owned)
    elif kind == "step":
        draft.bind(f"{n}[..., ::2]", (*lead, (last + 1) // 2), owned=x.owned)
    elif kind == "chunk" and last > 1 and last % 2 == 0:
        draft.bind(f"{n}.chunk(2, -1)[{draft.choose([0, 1])}]", (*lead, last // 2), owned=False)
    elif kind == "index":
        draft.bind(f"{n}[:, [0, -1]]", (2, *x.shape[1:]))
    elif kind == "pad":
        draft.bind(f"F.pad({n}, (1, 0))", (*lead, last + 1))
    elif kind == "rows":
        draft.like(x, f"{n}[torch.arange({n}.shape[0] - 1, -1, -1)]")
    elif kind == "roll":
        draft.like(x, f"{n}.roll(1, -1)")
    else:
        draft.like(x, f"{n}.flip(-1)")


def reshaping(draft: Draft) -> None:
    """Views and changes of layout."""
    x = draft.pick(_batched)
    if x is None:
        return
    n, size = x.name, math.prod(x.shape)
    kind = draft.choose(["flatten", "transpose", "unsqueeze", "grow", "contiguous", "view", "expand", "last"])
    if kind == "transpose" and len(x.shape) >= 2:
        draft.bind(f"{n}.transpose(1, 2)", (x.shape[1], x.shape[0], *x.shape[2:]), owned=x.owned)
    elif kind == "unsqueeze" and len(x.shape) < 3:
        draft.bind(f"{n}.unsqueeze(1)", (1, *x.shape), owned=x.owned)
    elif kind == "grow" and len(x.shape) < 3:
        draft.bind(f"{n}.unsqueeze(-1)", (*x.shape, 1), owned=x.owned)
    elif kind == "contiguous":
        draft.like(x, f"{n}.contiguous()", owned=False)
    elif kind == "view" and len(x.shape) == 3:
        draft.bind(f"{n}.reshape({n}.shape[0], {x.shape[0]}, -1)", (x.shape[0], size // x.shape[0]), owned=False)
    elif kind == "expand" and len(x.shape) < 3:
        draft.bind(f"{n}.unsqueeze(1).expand(-1, 2{', -1' * len(x.shape)})", (2, *x.shape), owned=False)
    elif kind == "last" and len(x.shape) == 3:
        draft.like(x, f"{n}.to(memory_format=torch.channels_last)", owned=False)
    else:
        draft.bind(f"{n}.flatten(1)", (size,), owned=False)


def reduction(draft: Draft) -> None:
    """Means, sums and maxima, and pooling."""
    x = draft.pick(lambda v: v.batched and len(v.shape) >= 2)
    if x is None:
        return
    n, shape = x.name, x.shape
    kind = draft.choose(["mean", "sum", "amax", "pool", "adaptive", "logsumexp", "centre"])
    axes = len(shape) - 1
    if kind == "pool" and min(shape[1:]) >= 2:
        function = draft.choose(["avg", "max"])
        draft.bind(f"F.{function}_pool{axes}d({n}, 2)", (shape[0], *(size // 2 for size in shape[1:])))
    elif kind == "adaptive":
        draft.bind(f"F.adaptive_avg_pool{axes}d({n}, 1)", (shape[0], *(1,) * axes))
    elif kind == "centre":
        draft.like(x, f"{n} - {n}.mean((0, -1), keepdim=True)")
    else:
        function = {"sum": "sum", "amax": "amax", "logsumexp": "logsumexp"}.get(kind, "mean")
        draft.bind(f"{n}.{function}(-1)", shape[:-1])


def in_place(draft: Draft) -> None:
    """A write to a value that may have been read before, or that others are views of."""
    x = draft.pick(lambda v: v.owned and v.name.startswith("v") and len(v.shape) >= 1)
    if x is None:
        return
    n = x.name
    codes = [
        f"{n}.mul_(0.5)",
        f"{n}.add_(1)",
        f"{n}[..., 0] = 0",
        f"{n}[..., :1].mul_(-2)",
        f"F.relu({n}, inplace=True)",
    ]
    codes += [f"{n} += {n}.detach().mean()", f"{n}.neg_()"]
    draft.write(draft.choose(codes))


def state(draft: Draft) -> None:
    """Buffers: constants, counters, and a moving average."""
    x = draft.pick(_batched)
    if x is None:
        return
    kind = draft.choose(["constant", "counter", "average", "mask"])
    if kind == "counter":
        count = draft.member("nn.Buffer(torch.zeros(()))")
        draft.write(f"{count} += 1")
        draft.like(x, f"{x.name} / {count}")
    elif kind == "average":
        average = draft.member(f"nn.Buffer(torch.ones({x.shape[-1]}))")
        draft.write(f"if self.training: {average}.mul_(0.9).add_(0.1 * {x.name}.detach().flatten(0, -2).mean(0))")
        draft.like(x, f"{x.name} + {average}")
    elif kind == "mask":
        mask = draft.member(f"nn.Buffer(torch.arange({x.shape[-1]}) % 2 == 0)")
        draft.like(x, f"torch.where({mask}, {x.name}, 0.25 * {x.name})")
    else:
        draft.like(x, f"{x.name} * {draft.member(f'nn.Buffer(torch.linspace(0.5, 1.5, {x.shape[-1]}))')}")


def randomness(draft: Draft) -> None:
    """Dropout as a layer, as a call and of channels, and noise."""
    x = draft.pick(_batched)
    if x is None:
        return
    n = x.name
    layer = draft.choose(["layer", "call", "noise", "always", "kernel"])
    if layer == "layer":
        draft.like(x, f"{draft.layer('nn.Dropout(0.25)')}({n})", owned=False)
    elif layer == "call":
        draft.like(x, f"F.dropout({n}, 0.5, self.training)", owned=False)
    elif layer == "always":
        draft.like(x, f"F.dropout({n}, 0.5)")
    elif layer == "kernel" and len(x.shape) >= 2:
        draft.like(x, f"F.dropout1d({n}, 0.5, self.training)" if len(x.shape) == 2 else f"F.dropout2d({n})")
    else:
        draft.like(x, f"{n} + 0.1 * torch.randn_like({n})")


def branch(draft: Draft) -> None:
    """Control flow on sizes, that of the batch included, and arithmetic with them."""
    x = draft.pick(_batched)
    if x is None:
        return
    n, last = x.name, x.shape[-1]
    codes = [
        f"{n} * 2 if {n}.shape[-1] > 2 else -{n}",
        f"{n} / {n}.shape[0]",
        f"{n}.sin() if {n}.shape[0] > 2 else {n}.cos()",
        f"{n} * (len({n}) % 2 + 1)",
        f"sum({n} * i for i in range(1, {min(last, 3)} + 1))",
        f"{n} + torch.arange({n}.shape[0], dtype={n}.dtype).reshape(-1{', 1' * len(x.shape)})",
    ]
    draft.like(x, draft.choose(codes))


SURROUNDINGS: tuple[Statement, ...] = (
    elementwise,
    binary,
    concatenation,
    slicing,
    reshaping,
    reduction,
    in_place,
    state,
    randomness,
    branch,
)
"""All of them."""
