"""How large the model of a declaration is, counted before it is made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch

from tzwc.errors import SpecError
from tzwc.models.parts import SlowNetSpec
from tzwc.models.spec import TerminatorSpec
from tzwc.util.formatting import size
from tzwc.util.system_memory import too_large

__all__ = ["check_fits", "parameter_count"]

_MODULE = 4096
"""Bytes that Python takes for a layer, whatever its parameters."""


def parameter_count(spec: TerminatorSpec) -> int:
    """Parameters of the network that ``spec`` declares, all together."""
    return sum(parameters for _, parameters, _ in _parts(spec))


def check_fits(spec: TerminatorSpec) -> None:
    """Check that parameters and modules fit into the memory of the default device, where that is known.

    Raises:
        SpecError: they do not; the message says how large they are, and what is largest.
    """
    itemsize = torch.get_default_dtype().itemsize
    taken = {name: parameters * itemsize + layers * _MODULE for name, parameters, layers in _parts(spec)}
    reason = too_large(sum(taken.values()))
    if reason is not None:
        largest = max(taken, key=taken.__getitem__)
        raise SpecError(
            f"the declared model {reason} ({size(taken[largest])} are for {largest}): lower sizes, factors, "
            "hidden channels, layers or kernel sizes, or make it under torch.device('meta')"
        )


def _parts(spec: TerminatorSpec) -> Iterator[tuple[str, int, int]]:
    """Name, parameters and layers of every part."""
    needed, dims, grid = spec.branches, len(spec.sizes), math.prod(spec.sizes)
    written = spec.trained_sizes if spec.resample == "interpolate" and spec.trained_sizes else spec.sizes
    channels = spec.channels
    for block, (here, out) in enumerate(pairwise(channels)):
        prefix = f"blocks[{block}]."
        yield prefix + "global_net", *_slow_network(spec.global_net, block, written, here)
        if "fast" in needed:
            yield prefix + "rgu_x and rgu_w", 2 * (grid + 4 * _map(here, here)), 10
        if "mix" in needed:
            yield prefix + "mix", _map(here, here), 1
        if "hci" in needed:
            yield prefix + "hci", *_slow_network(spec.hci_net, block, (here,), 1)
        if "hyp" in needed:
            yield prefix + "interaction.channel_net", *_slow_network(spec.interaction_channel_net, block, (here,), 1)
            yield prefix + "interaction.spatial_net", *_slow_network(spec.interaction_spatial_net, block, written, 1)
        for branch in spec.local:
            taps = branch.kernel_size if spec.resample == "interpolate" else spec.taps_of(branch)
            parameters, layers = _slow_network(spec.local_net, block, (taps,) * dims, here)
            hidden, depth = spec.local_net.hidden, spec.local_net.layers_of(block)
            modulation = _map(here, hidden) + (1 + depth) * _map(hidden, hidden)
            yield f"{prefix}local.{branch.name}", parameters + modulation + _map(here, here) + 1, layers + depth + 5
        yield prefix + "bottleneck", _map(here * len(spec.concat_of(block)), out) + 1, 4
    yield "head", _map(channels[-1], spec.classes), 1


def _slow_network(net: SlowNetSpec, block: int, sizes: tuple[int, ...], out_channels: int) -> tuple[int, int]:
    layers, dims = net.layers_of(block), len(sizes)
    filters = (layers + 1) * _map(dims, net.hidden)
    parameters = filters + layers * _map(net.hidden, net.hidden) + math.prod(sizes) + _map(net.hidden, out_channels)
    return parameters, 2 * layers + 4


def _map(inputs: int, outputs: int) -> int:
    """Parameters of a linear map with a bias."""
    return inputs * outputs + outputs
