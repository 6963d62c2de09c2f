"""The SFNE block: slow-fast neural encoding with global, local and gating forms of the HyperZ·Z·W operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import pack, rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.models.layers import (
    GroupedStandardisation,
    RecursiveGatedUnit,
    batch_standardise,
    channel_dropout,
    depthwise,
    instance_standardise,
    pointwise,
)
from tzwc.models.operators import context_weight, convolve, gate, matrix_product
from tzwc.models.parts import LocalSpec, SlowNetSpec
from tzwc.models.slow_networks import KernelGenerator, SlowNetwork
from tzwc.models.spec import TerminatorSpec

__all__ = ["ChannelInteraction", "HyperInteraction", "LocalBranch", "SFNEBlock"]


def _slow_network(net: SlowNetSpec, block: int, sizes: tuple[int, ...], out_channels: int) -> SlowNetwork:
    return SlowNetwork(sizes, out_channels, net.hidden, net.layers_of(block), net.omega_0)


def _grid_network(net: SlowNetSpec, block: int, spec: TerminatorSpec, out_channels: int) -> SlowNetwork:
    """A slow network over the grid, or one over the trained grid whose kernel is interpolated."""
    written = spec.trained_sizes if spec.resample == "interpolate" and spec.trained_sizes else spec.sizes
    return SlowNetwork(written, out_channels, net.hidden, net.layers_of(block), net.omega_0, spec.sizes)


class ChannelInteraction(nn.Module):
    """HCI: ``x ⊙ sigmoid( E(K_c, mean_grid x) )``, ``K_c`` written by a slow network over channels.

    Args:
        spec: the declaration of the network.
        block: index of the block.
    """

    def __init__(self, spec: TerminatorSpec, block: int) -> None:
        super().__init__()
        self.net = _slow_network(spec.hci_net, block, (spec.channels[block],), 1)
        self._mean = f"b c {spec.axes} -> b 1 c"
        self._spread = "b 1 c -> b c" + " 1" * len(spec.sizes)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` and the result: ``(b c …)``."""
        scores = gate(self.net(), reduce(x, self._mean, "mean"))
        return x * rearrange(torch.sigmoid(scores), self._spread)


class HyperInteraction(nn.Module):
    """``x ⊙ sigmoid( E(K_s, mean_c out) ⊙ E(K_c, mean_grid out) )``: gates over space and over channels.

    Args:
        spec: the declaration of the network.
        block: index of the block.
    """

    def __init__(self, spec: TerminatorSpec, block: int) -> None:
        super().__init__()
        self.channel_net = _slow_network(spec.interaction_channel_net, block, (spec.channels[block],), 1)
        self.spatial_net = _grid_network(spec.interaction_spatial_net, block, spec, 1)
        self._channel_mean = f"b c {spec.axes} -> b 1 c"
        self._channel_spread = "b 1 c -> b c" + " 1" * len(spec.sizes)
        self._spatial_mean = f"b c {spec.axes} -> b 1 {spec.axes}"

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """``x``, ``out`` and the result: ``(b c …)``."""
        channel = gate(self.channel_net(), reduce(out, self._channel_mean, "mean"))
        spatial = gate(self.spatial_net(), reduce(out, self._spatial_mean, "mean"))
        return x * torch.sigmoid(spatial * rearrange(channel, self._channel_spread))


class LocalBranch(nn.Module):
    """A depthwise convolution with a generated kernel, a 1×1 channel mixer, batch standardisation, gelu, an offset.

    Args:
        spec: the declaration of the network.
        block: index of the block.
        branch: the declaration of the branch.
    """

    def __init__(self, spec: TerminatorSpec, block: int, branch: LocalSpec) -> None:
        super().__init__()
        net, dims, channels = spec.local_net, len(spec.sizes), spec.channels[block]
        taps = spec.taps_of(branch)
        written = branch.kernel_size if spec.resample == "interpolate" else taps
        self.generator = KernelGenerator(written, dims, channels, net.hidden, net.layers_of(block), net.omega_0, taps)
        self.mixer = pointwise(dims, channels, channels, "relu")
        self.offset = nn.Parameter(torch.zeros(1))
        self.kernel_from = branch.kernel_from
        self.applied_to = branch.applied_to

    def forward(self, source: Tensor, value: Tensor) -> Tensor:
        """The branch from the ``source`` of its kernel and the ``value`` convolved with it, all ``(b c …)``."""
        mixed = self.mixer(depthwise(value, self.generator(source)))
        return F.gelu(batch_standardise(mixed)) + self.offset


class SFNEBlock(nn.Module):
    """One block: its branches, their concatenation and the bottleneck.

    Only what ``spec.branches`` needs is built and computed.

    Args:
        spec: the declaration of the network.
        block: index of the block.
    """

    def __init__(self, spec: TerminatorSpec, block: int) -> None:
        super().__init__()
        dims, channels, out_channels = len(spec.sizes), spec.channels[block], spec.channels[block + 1]
        needed = spec.branches
        self.global_net = _grid_network(spec.global_net, block, spec, channels)
        self.rgu_x = RecursiveGatedUnit(spec.sizes, channels) if "fast" in needed else None
        self.rgu_w = RecursiveGatedUnit(spec.sizes, channels) if "fast" in needed else None
        self.mix = pointwise(dims, channels, channels, "relu") if "mix" in needed else None
        self.hci = ChannelInteraction(spec, block) if "hci" in needed else None
        self.interaction = HyperInteraction(spec, block) if "hyp" in needed else None
        self.local = nn.ModuleDict({branch.name: LocalBranch(spec, block, branch) for branch in spec.local})
        self.concat = spec.concat_of(block)
        self.bottleneck = pointwise(dims, channels * len(self.concat), out_channels, "relu")
        self.standardise = GroupedStandardisation(spec.axes, spec.groups)
        self.offset = nn.Parameter(torch.zeros(1))
        self.dropout = channel_dropout(dims, spec.dropout_of(block))
        self.form = spec.form
        self.spacing = spec.spacing
        self.padding = spec.padding
        self.channels = channels
        self._needed = needed
        self._tile = f"b c {spec.axes} -> b (n c) {spec.axes}"
        self._pack = f"b * {spec.axes}"

    def forward(self, x: Tensor, kernel: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        """The block's output.

        Args:
            x: ``(b channels[block] …)``.
            kernel: the global hyper-kernel ``(1 channels[block] …)``, from ``global_net``.
            skips: outputs of the blocks in ``spec.skips[block]``.

        Returns:
            ``(b channels[block + 1] …)``.
        """
        branches = self._global_branches(x, kernel)
        for name, local in self.local.items():
            assert isinstance(local, LocalBranch)
            branches[name] = local(branches[local.kernel_from], branches[local.applied_to])
        for n, skip in enumerate(skips, start=1):
            branches[f"skip{n}"] = repeat(skip, self._tile, n=self.channels // skip.shape[1])
        packed, _ = pack([branches[name] for name in self.concat], self._pack)
        result: Tensor = self.dropout(F.gelu(self.standardise(self.bottleneck(packed))) + self.offset)
        return result

    def _global_branches(self, x: Tensor, kernel: Tensor) -> dict[str, Tensor]:
        # One weight for the three global branches and for the unit that reads it.
        weight = context_weight(x, kernel)
        branches = {"x": x}
        if self.rgu_x is not None and self.rgu_w is not None:
            branches["fast"] = instance_standardise(self.rgu_w(weight) + self.rgu_x(x))
        if self.mix is not None:
            branches["mix"] = instance_standardise(self.mix(x))
        if self.hci is not None:
            branches["hci"] = instance_standardise(self.hci(x))
        for name, value in (("out", "fast"), ("out_x", "mix"), ("out_h", "hci")):
            if name in self._needed:
                branches[name] = self._operate(weight, branches[value])
        if "glu" in self._needed:
            branches["glu"] = torch.sigmoid(branches["out"]) * branches["out"]
        if self.interaction is not None:
            branches["hyp"] = self.interaction(x, branches["out"])
        return branches

    def _operate(self, weight: Tensor, value: Tensor) -> Tensor:
        dot_product = self.form == "dot_product"
        result = matrix_product(weight, value) if dot_product else convolve(weight, value, self.padding)
        # On the trained grid, nothing is multiplied by one.
        return result if self.spacing == 1 else result * self.spacing
