"""Hypothesis strategies for small declarations, in which every field varies and a forward takes milliseconds."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from tzwc.models import LocalSpec, SlowNetSpec, Terminator, TerminatorSpec
from tzwc.models.parts import BRANCHES

__all__ = ["build", "example_input", "slow_nets", "specs"]

_ORDER = ("out", "fast", "out_x", "glu", "out_h", "hyp", "x", "mix", "hci")


def slow_nets(blocks: int) -> st.SearchStrategy[SlowNetSpec]:
    """Slow networks of 2 to 6 hidden channels and 1 or 2 layers, the same or one value a block."""
    layers = st.integers(1, 2) | st.lists(st.integers(1, 2), min_size=1, max_size=blocks).map(tuple)
    return st.builds(SlowNetSpec, hidden=st.integers(2, 6), layers=layers, omega_0=st.sampled_from([1.0, 30.0, 2000.0]))


@st.composite
def _locals(draw: st.DrawFn) -> tuple[LocalSpec, ...]:
    defined = list(BRANCHES)
    branches = []
    for n in range(draw(st.integers(0, 3))):
        branch = LocalSpec(
            name=f"l{n + 1}",
            kernel_size=draw(st.sampled_from([1, 3, 5])),
            kernel_from=draw(st.sampled_from(defined)),
            applied_to=draw(st.sampled_from(defined)),
        )
        defined.append(branch.name)
        branches.append(branch)
    return tuple(branches)


@st.composite
def _skips(draw: st.DrawFn, channels: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    skips = []
    for block in range(len(channels) - 1):
        fitting = [source for source in range(block) if channels[block] % channels[source + 1] == 0]
        entry = st.lists(st.sampled_from(fitting), max_size=2).map(tuple) if fitting else st.just(())
        skips.append(draw(entry))
    return tuple(skips)


@st.composite
def specs(draw: st.DrawFn, axes: int | None = None) -> TerminatorSpec:
    """Declarations with one or two axes of 4 to 9 points, 12 or 24 channels behind each of 1 to 3 blocks.

    Args:
        axes: the number of grid axes, either if ``None``.
    """
    dims = draw(st.integers(1, 2)) if axes is None else axes
    form = "convolution" if dims == 1 else draw(st.sampled_from(["dot_product", "convolution"]))
    size = st.integers(4, 9)
    sizes = (draw(size),) * 2 if form == "dot_product" else tuple(draw(size) for _ in range(dims))
    in_channels = draw(st.sampled_from([1, 2, 3]))
    factors = [12 // in_channels]
    factors += draw(st.sampled_from([[], [1], [2], [1, 1], [1, 2], [2, 1]]))
    channels = tuple(in_channels * math.prod(factors[:i]) for i in range(len(factors) + 1))
    local = draw(_locals())
    globals_ = draw(st.lists(st.sampled_from(_ORDER), unique=True, min_size=1, max_size=len(_ORDER)))
    concat = draw(st.permutations([*globals_, *(branch.name for branch in local), "skip1", "skip2"]))
    dropout = st.sampled_from([0.0, 0.05, 0.5])
    fields: dict[str, Any] = {
        "axes": draw(st.sampled_from(["l", "t"] if dims == 1 else ["h w", "y x"])),
        "sizes": sizes,
        "in_channels": in_channels,
        "factors": tuple(factors),
        "classes": draw(st.integers(1, 5)),
        "form": form,
        "padding": "same" if form == "dot_product" else draw(st.sampled_from(["same", "causal"])),
        "global_net": draw(slow_nets(len(factors))),
        "local_net": draw(slow_nets(len(factors))),
        "hci_net": draw(slow_nets(len(factors))),
        "interaction_channel_net": draw(slow_nets(len(factors))),
        "interaction_spatial_net": draw(slow_nets(len(factors))),
        "local": local,
        "concat": tuple(concat),
        "skips": draw(_skips(channels)),
        "groups": draw(st.sampled_from([2, 4, 6, 12])),
        "dropout": draw(dropout | st.lists(dropout, min_size=1, max_size=len(factors)).map(tuple)),
    }
    return TerminatorSpec(**fields)


def build(spec: TerminatorSpec, seed: int = 0) -> Terminator:
    """A float64 model with reproducible weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Terminator(spec).double().eval()


def example_input(spec: TerminatorSpec, batch: int = 3, seed: int = 1) -> Tensor:
    """A reproducible float64 batch for the model that ``spec`` declares."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, spec.in_channels, *spec.sizes, generator=generator, dtype=torch.float64)
