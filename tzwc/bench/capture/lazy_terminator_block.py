"""The block of :mod:`tzwc.bench.capture.lazy_terminator`: gated units, interactions and local branches, concatenated.

Kept as researchers write such code: do not tidy it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.bench.capture.lazy_terminator_slow import SlowNet, SlowNetLocal, conv_1x1, kaiming_linear
from tzwc.models import SlowNetSpec, TerminatorSpec

__all__ = ["LazyBlock"]


def _mixer(in_channels: int, out_channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    layer.bias.data.fill_(0.0)
    return layer


def _slow_net(net: SlowNetSpec, block: int, sizes: tuple[int, ...], out: int) -> SlowNet:
    return SlowNet(sizes, out, net.hidden, net.layers_of(block), net.omega_0)


def hyperzzw_dot(weight: Tensor, value: Tensor) -> Tensor:
    """A matrix product over the grid, with a matrix of its own for every sample and channel."""
    assert weight.shape == value.shape, "both come from the same grid"
    return torch.einsum("bcik,bckj->bcij", weight, value)


def hyperzzw_gate(kernel: Tensor, z: Tensor) -> Tensor:
    """Two elementwise products."""
    score = z * kernel
    score *= z
    return score


class RGU(nn.Module):
    """Recursive gated unit."""

    def __init__(self, channels: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.linear_k = conv_1x1(2, channels, channels)
        self.linear_v = conv_1x1(2, channels, channels)
        self.linear_q = conv_1x1(2, channels, channels)
        self.linear_y = conv_1x1(2, channels, channels)
        for layer in [self.linear_k, self.linear_v, self.linear_q, self.linear_y]:
            kaiming_linear(layer, bias=0.0)
        self.bias_p = nn.Parameter(torch.zeros(1, 1, *sizes))
        self.norm = nn.InstanceNorm2d(channels)

    def forward(self, z: Tensor) -> Tensor:
        key = self.linear_k(z)
        key *= self.linear_q(self.linear_v(z))
        result: Tensor = self.linear_y(F.gelu(self.norm(key)) + self.bias_p)
        return result


class HyperChannel(nn.Module):
    """A gate over channels, with a kernel along them."""

    def __init__(self, spec: TerminatorSpec, block: int) -> None:
        super().__init__()
        self.slow_net = _slow_net(spec.hci_net, block, (spec.channels[block],), 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3)).unsqueeze(1)
        scores = torch.sigmoid(hyperzzw_gate(self.slow_net(pooled), pooled))
        return x * scores.transpose(1, 2).unsqueeze(-1)


class HyperInteract(nn.Module):
    """A gate over channels times a gate over space."""

    def __init__(self, spec: TerminatorSpec, block: int) -> None:
        super().__init__()
        self.slow_net_c = _slow_net(spec.interaction_channel_net, block, (spec.channels[block],), 1)
        self.slow_net_s = _slow_net(spec.interaction_spatial_net, block, spec.sizes, 1)

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        over_grid = out.mean(dim=(2, 3)).unsqueeze(1)
        over_channels = out.mean(dim=1, keepdim=True)
        channel = hyperzzw_gate(self.slow_net_c(over_grid), over_grid).transpose(1, 2).unsqueeze(-1)
        spatial = hyperzzw_gate(self.slow_net_s(over_channels), over_channels)
        return x * torch.sigmoid(spatial * channel)


class GroupNorms(nn.Module):
    """Every other group of channels over the batch, the rest for each instance."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        assert channels % groups == 0
        self.groups = groups
        self.batch = nn.BatchNorm2d(channels // 2, affine=False, track_running_stats=False)
        self.instance = nn.InstanceNorm2d(channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.chunk(x, self.groups, dim=1)
        batch = torch.chunk(self.batch(torch.cat(parts[0::2], dim=1)), self.groups // 2, dim=1)
        instance = torch.chunk(self.instance(torch.cat(parts[1::2], dim=1)), self.groups // 2, dim=1)
        merged = []
        for i in range(self.groups // 2):
            merged += [batch[i], instance[i]]
        return torch.cat(merged, dim=1)


class LazyBlock(nn.Module):
    """Slow-fast neural encoding: four local branches, seven global ones, up to two skips."""

    def __init__(self, spec: TerminatorSpec, block: int) -> None:
        super().__init__()
        channels, out_channels = spec.channels[block], spec.channels[block + 1]
        self.channels = channels
        self.skips = len(spec.skips_of(block))
        self.slow_net_g = _slow_net(spec.global_net, block, spec.sizes, channels)
        self.rgu_1 = RGU(channels, spec.sizes)
        self.rgu_2 = RGU(channels, spec.sizes)
        self.channel_mixer = _mixer(channels, channels)
        self.hyper_channel = HyperChannel(spec, block)
        self.hyper_interact = HyperInteract(spec, block)
        net, layers = spec.local_net, spec.local_net.layers_of(block)
        sizes = [branch.kernel_size for branch in spec.local]
        self.slow_net_l1 = SlowNetLocal(sizes[0], channels, net.hidden, layers, net.omega_0)
        self.slow_net_l2 = SlowNetLocal(sizes[1], channels, net.hidden, layers, net.omega_0)
        self.slow_net_l3 = SlowNetLocal(sizes[2], channels, net.hidden, layers, net.omega_0)
        self.slow_net_l4 = SlowNetLocal(sizes[3], channels, net.hidden, layers, net.omega_0)
        self.mixer_l1 = _mixer(channels, channels)
        self.mixer_l2 = _mixer(channels, channels)
        self.mixer_l3 = _mixer(channels, channels)
        self.mixer_l4 = _mixer(channels, channels)
        self.bias1 = nn.Parameter(torch.zeros(1))
        self.bias2 = nn.Parameter(torch.zeros(1))
        self.bias3 = nn.Parameter(torch.zeros(1))
        self.bias4 = nn.Parameter(torch.zeros(1))
        self.biases = [self.bias1, self.bias2, self.bias3, self.bias4]
        self.instance_norm = nn.InstanceNorm2d(channels)
        self.batch_norm = nn.BatchNorm2d(channels, affine=False, track_running_stats=False)
        self.bottleneck = _mixer(channels * (10 + self.skips), out_channels)
        self.norms = GroupNorms(out_channels, spec.groups)
        self.bias = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout2d(spec.dropout_of(block))

    def local(self, i: int, slow_net: SlowNetLocal, mixer: nn.Conv2d, source: Tensor, value: Tensor) -> Tensor:
        kernel = slow_net(source)
        assert kernel.shape[0] == value.shape[1]
        mixed = mixer(F.conv2d(value, kernel, padding=kernel.shape[-1] // 2, groups=value.shape[1]))
        return F.gelu(self.batch_norm(mixed)) + self.biases[i]

    def forward(self, x: Tensor, pre_1: Tensor | None = None, pre_2: Tensor | None = None) -> Tensor:
        assert x.shape[1] == self.channels, f"expected {self.channels} channels, got {x.shape[1]}"
        assert x.shape[-1] == x.shape[-2], "the dot product needs a square grid"
        # Everything global: one context-dependent weight, three values.
        weight = x * self.slow_net_g(x)
        fast = self.instance_norm(self.rgu_2(weight) + self.rgu_1(x))
        mix = self.instance_norm(self.channel_mixer(x))
        hci = self.instance_norm(self.hyper_channel(x))
        out = hyperzzw_dot(weight, fast)
        out_x = hyperzzw_dot(weight, mix)
        out_h = hyperzzw_dot(weight, hci)
        glu = torch.sigmoid(out) * out
        hyp = self.hyper_interact(x, out)
        # Everything local: the kernel from one branch, slid over another.
        l1 = self.local(0, self.slow_net_l1, self.mixer_l1, x, hci)
        l2 = self.local(1, self.slow_net_l2, self.mixer_l2, hci, x)
        l3 = self.local(2, self.slow_net_l3, self.mixer_l3, mix, x)
        l4 = self.local(3, self.slow_net_l4, self.mixer_l4, x, mix)
        branches = [out, l2, fast, out_x, l1, glu, l3, out_h, l4, hyp]
        if pre_1 is not None:
            branches.insert(2, pre_1.repeat(1, self.channels // pre_1.shape[1], 1, 1))
        if pre_2 is not None:
            branches.insert(len(branches) - 1, pre_2.repeat(1, self.channels // pre_2.shape[1], 1, 1))
        y = self.bottleneck(torch.cat(branches, dim=1))
        y = F.gelu(self.norms(y))
        y += self.bias
        result: Tensor = self.dropout(y)
        return result
