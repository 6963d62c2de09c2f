"""The training objective: label-smoothing cross entropy, the slow neural loss and a norm penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from einops import reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.errors import InvalidArgumentError
from tzwc.models.block import ChannelInteraction, HyperInteraction
from tzwc.models.layers import RecursiveGatedUnit
from tzwc.models.slow_networks import SineNetwork
from tzwc.models.validation import closest
from tzwc.util.argument_checks import shown

__all__ = ["SlowLoss", "label_smoothing_cross_entropy", "norm_penalty", "slow_neural_loss"]

SlowLoss = Literal["tile", "channel_sum"]


def slow_neural_loss(kernels: Sequence[Tensor], factors: Sequence[int], variant: SlowLoss = "channel_sum") -> Tensor:
    """Pull the global hyper-kernels of all pairs of blocks ``j < i`` together; a function of parameters alone.

    ``"tile"``: ``Σ mean( (tile(K_j, λ_j ⋯ λ_{i−1}) − K_i)² )``, tiled along channels.
    ``"channel_sum"``: ``Σ mean_grid( (Σ_c K_j − Σ_c K_i)² )``. Both variants were released.

    Args:
        kernels: ``K_i`` of every block, ``(1 channels[i] …)``.
        factors: the bottleneck factors ``λ_i``, one a block.
        variant: ``"tile"`` or ``"channel_sum"``.

    Returns:
        A scalar; zero for a single block.

    Raises:
        InvalidArgumentError: unknown variant, or kernels and factors that do not belong together.
    """
    if not isinstance(variant, str) or variant not in get_args(SlowLoss):
        raise InvalidArgumentError(f"slow_loss = {shown(variant)}: expected {closest(variant, get_args(SlowLoss))}")
    if len(kernels) != len(factors) or not kernels:
        raise InvalidArgumentError(f"{len(kernels)} kernels and {len(factors)} factors: expected one of each a block")
    for block, factor in enumerate(factors[:-1]):
        here, behind = kernels[block].shape[1], kernels[block + 1].shape[1]
        if here * factor != behind:
            raise InvalidArgumentError(
                f"factors[{block}] = {factor}: expected {behind} / {here}, "
                f"the channels of kernels {block + 1} and {block}"
            )
    loss = kernels[0].new_zeros(())
    if variant == "channel_sum":
        sums = [reduce(kernel, "1 c ... -> ...", "sum") for kernel in kernels]
        for i in range(1, len(sums)):
            for j in range(i):
                loss = loss + F.mse_loss(sums[j], sums[i])
        return loss
    for i in range(1, len(kernels)):
        for j in range(i):
            tiled = repeat(kernels[j], "1 c ... -> 1 (n c) ...", n=math.prod(factors[j:i]))
            loss = loss + F.mse_loss(tiled, kernels[i])
    return loss


def label_smoothing_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """``(1 − ε) · nll + ε / classes · Σ(−log p)``, averaged over the batch.

    Args:
        logits: ``(b classes)``.
        labels: ``(b)``, int64.
        smoothing: ``ε`` in ``[0, 1]``; 0.1 in the paper's release, 0.09 in a later one.
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def norm_penalty(model: nn.Module, weight: float = 5e-5, slow_scale: float = 1e-6) -> Tensor:
    """``weight · Σ‖θ‖₂ + weight · slow_scale · Σ‖W‖₂``, norms not squared.

    ``θ`` runs over the parameters outside slow networks and recursive gated units; ``W`` over the weights inside them
    of convolutions on the grid, which excludes slow networks over channels.

    Args:
        model: a :class:`~tzwc.models.network.Terminator`, or a module that contains one.
        weight, slow_scale: the two factors.

    Returns:
        A scalar.
    """
    inside: set[nn.Parameter] = set()
    slow_weights: list[Tensor] = []
    over_channels: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, ChannelInteraction):
            over_channels.add(module.net)
        elif isinstance(module, HyperInteraction):
            over_channels.add(module.channel_net)
    for module in model.modules():
        if isinstance(module, (SineNetwork, RecursiveGatedUnit)):
            inside.update(module.parameters())
            if module not in over_channels:
                slow_weights += [m.weight for m in module.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d))]
    outside = [parameter for parameter in model.parameters() if parameter not in inside]
    return weight * _sum_of_norms(outside) + weight * slow_scale * _sum_of_norms(slow_weights)


def _sum_of_norms(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(())
    return torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]).sum()
