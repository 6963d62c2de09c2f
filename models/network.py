"""The Terminator network: SFNE blocks, pooling over the grid and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from einops import reduce
from torch import Tensor, nn

from tzwc.errors import InvalidArgumentError
from tzwc.models.block import SFNEBlock
from tzwc.models.extent import check_fits
from tzwc.models.losses import SlowLoss, slow_neural_loss
from tzwc.models.resolution import resampled_spec, resampled_state
from tzwc.models.slow_networks import SlowNetwork
from tzwc.models.spec import Resample, TerminatorSpec

__all__ = ["Terminator"]


class Terminator(nn.Module):
    """The network that a :class:`~tzwc.models.spec.TerminatorSpec` declares.

    Its local kernels and standardisations use the statistics of the batch, in evaluation too: a sample's logits
    depend on its batch mates. The state dict holds parameters only; the coordinates follow from the declaration.

    Args:
        spec: the declaration.

    Raises:
        SpecError: the parameters alone do not fit into the memory of the default device.
    """

    def __init__(self, spec: TerminatorSpec) -> None:
        super().__init__()
        check_fits(spec)
        self.spec = spec
        self.blocks = nn.ModuleList(SFNEBlock(spec, block) for block in range(spec.blocks))
        self.head = nn.Linear(spec.channels[-1], spec.classes)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="relu")
        nn.init.zeros_(self.head.bias)
        self._pool = f"b c {spec.axes} -> b c"

    def global_kernels(self) -> list[Tensor]:
        """The global hyper-kernel of every block, ``(1 channels[i] *sizes)``."""
        nets = [block.global_net for block in self.blocks]
        return [net() for net in nets if isinstance(net, SlowNetwork)]

    def at_resolution(self, sizes: Sequence[int], kernels: Resample = "evaluate") -> Terminator:
        """The same model on another grid, with copies of its parameters; see :mod:`tzwc.models.resolution`.

        Args:
            sizes: grid points along each axis: those of this model times one factor.
            kernels: ``"evaluate"`` the slow networks at the new coordinates, or ``"interpolate"`` the kernels that
                they write on the grid they were trained on. A slow network with a high ``omega_0`` (2000 as released)
                oscillates many times between two points of the grid: what it says elsewhere was never trained, and
                only ``"interpolate"`` keeps the accuracy.

        Raises:
            SpecError: ``sizes`` or ``kernels`` cannot be used.
        """
        spec = resampled_spec(self.spec, sizes, kernels)
        with torch.random.fork_rng([]):  # the parameters it is made with are replaced
            other = Terminator(spec).to(self.head.weight)
        other.load_state_dict(resampled_state(self.state_dict(), other.state_dict()))
        return other.train(self.training)

    @overload
    def forward(self, x: Tensor, slow_loss: None = None) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, slow_loss: SlowLoss) -> tuple[Tensor, Tensor]: ...
    def forward(self, x: Tensor, slow_loss: SlowLoss | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Classify a batch.

        Args:
            x: ``(b in_channels *sizes)``, of the dtype of the parameters (any floating dtype under autocast).
            slow_loss: a variant of :func:`~tzwc.models.losses.slow_neural_loss` to return as well; it costs no second
                evaluation of the slow networks.

        Returns:
            Logits ``(b classes)``, or logits and the scalar loss.

        Raises:
            InvalidArgumentError: ``x`` or ``slow_loss`` is not of that kind.
        """
        self._check_input(x)
        kernels = self.global_kernels()
        outputs: list[Tensor] = []
        for index, (block, kernel) in enumerate(zip(self.blocks, kernels, strict=True)):
            x = block(x, kernel, [outputs[source] for source in self.spec.skips_of(index)])
            outputs.append(x)
        logits: Tensor = self.head(reduce(x, self._pool, "mean"))
        if slow_loss is None:
            return logits
        return logits, slow_neural_loss(kernels, self.spec.factors, slow_loss)

    def _check_input(self, x: Tensor) -> None:
        expected = (self.spec.in_channels, *self.spec.sizes)
        # The batch is left alone, so that it may be symbolic.
        if x.ndim != len(expected) + 1 or tuple(x.shape[1:]) != expected:
            shape = ", ".join(map(str, expected))
            raise InvalidArgumentError(f"x has shape {tuple(x.shape)}: expected (batch, {shape})")
        dtype = self.head.weight.dtype
        if not x.is_floating_point() or (x.dtype != dtype and not torch.is_autocast_enabled(x.device.type)):
            raise InvalidArgumentError(
                f"x has dtype {x.dtype}: expected {dtype}, that of the parameters (convert one of them with .to)"
            )
