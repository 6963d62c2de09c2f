"""A Terminator as it is written before anyone thinks of compilers: what ``tzwc bench capture`` measures.

The architecture, the sizes and, with the same parameters, the results are those of
:class:`tzwc.models.network.Terminator`. The manner is that of research code: kernel networks that scale their weights
and build their coordinates in the first forward, a tensor as the flag that says so, a training length read back with
``.item()``, ``.data`` read and written, products in place, kernels and a loss left on modules for whoever needs them
later, parameters in plain lists, assertions on shapes, and a ``squeeze`` that drops a batch of one.

This is a specimen: making it easier to compile would make the measurement worthless.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.bench.capture.lazy_terminator_block import LazyBlock
from tzwc.bench.capture.lazy_terminator_slow import SlowNet, SlowNetLocal
from tzwc.errors import InvalidArgumentError
from tzwc.models import Terminator, TerminatorSpec, terminator_spec

__all__ = ["LazyTerminator", "copy_weights", "lazy_name", "lazy_terminator"]

_NAMES: Final = (
    (r"^head\.", "out_layer."),
    (r"\.global_net\.", ".slow_net_g.net."),
    (r"\.hci\.net\.", ".hyper_channel.slow_net.net."),
    (r"\.interaction\.channel_net\.", ".hyper_interact.slow_net_c.net."),
    (r"\.interaction\.spatial_net\.", ".hyper_interact.slow_net_s.net."),
    (r"\.local\.(l\d)\.generator\.", r".slow_net_\1.net."),
    (r"\.local\.(l\d)\.mixer\.", r".mixer_\1."),
    (r"\.local\.l(\d)\.offset$", r".bias\1"),
    (r"\.rgu_x\.", ".rgu_1."),
    (r"\.rgu_w\.", ".rgu_2."),
    (r"\.mix\.", ".channel_mixer."),
    (r"(\.rgu_\d)\.(k|v|q)\w+\.", r"\1.linear_\2."),
    (r"(\.rgu_\d)\.output\.", r"\1.linear_y."),
    (r"(\.net|\.rgu_\d)\.offset$", r"\1.bias_p"),
    (r"\.net\.output\.", ".net.output_linear."),
    (r"\.net\.context\.", ".net.modulations."),
    (r"\.filters\.(\d+)\.", r".filters.\1.linear."),
    (r"^(blocks\.\d+)\.offset$", r"\1.bias"),
)
"""Names of the declared model and of this one, in order of replacement."""


class LazyTerminator(nn.Module):
    """The network of a declaration, written in the manner of research code.

    Its output for a batch of one has no batch axis. Call it once, in evaluation or training, before its parameters are
    what they will be: the first forward scales some of them.

    Args:
        spec: a declaration with the dot product on a square grid and the released branches; kernel sizes, widths,
            layers, factors and skips are free.

    Raises:
        InvalidArgumentError: another declaration: this code has its wiring written into it.
    """

    def __init__(self, spec: TerminatorSpec) -> None:
        super().__init__()
        _check(spec)
        self.spec = spec
        self.blocks = nn.ModuleList([LazyBlock(spec, i) for i in range(spec.blocks)])
        # In a plain list: neither in the state dict nor seen by an optimiser, and zero for ever.
        self.between = [nn.Parameter(torch.zeros(1)) for _ in range(spec.blocks - 1)]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out_layer = nn.Linear(spec.channels[-1], spec.classes)
        nn.init.kaiming_normal_(self.out_layer.weight, nonlinearity="relu")
        self.out_layer.bias.data.zero_()
        self.slow_neural_loss: Tensor = torch.zeros(1)

    def forward(self, x: Tensor, train_mode: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits ``(b classes)``, without the batch axis for a batch of one; with ``train_mode`` the slow loss too.

        The slow loss is left on ``slow_neural_loss`` in any case.
        """
        assert x.dim() == 4, f"expected images, got {tuple(x.shape)}"
        self.slow_neural_loss = torch.zeros(1, dtype=x.dtype, device=x.device)
        outputs: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x, *[outputs[j] for j in self.spec.skips_of(i)])
            self.regularise(i)
            if i < len(self.between):
                x = x + self.between[i]
            outputs.append(x)
        logits: Tensor = self.out_layer(self.pool(x).squeeze())
        if train_mode:
            return logits, self.slow_neural_loss
        return logits

    def regularise(self, i: int) -> None:
        """Pull the kernel that block ``i`` has just left behind towards those before it."""
        here = self.kernel_left_by(i).sum(dim=1)
        for j in range(i):
            self.slow_neural_loss += F.mse_loss(self.kernel_left_by(j).sum(dim=1), here)

    def kernel_left_by(self, i: int) -> Tensor:
        block = self.blocks[i]
        assert isinstance(block, LazyBlock)
        return block.slow_net_g.conv_kernel


def lazy_terminator(preset: str = "cifar10", **overrides: Any) -> LazyTerminator:
    """The lazily initialised twin of :func:`tzwc.models.terminator`; the same arguments.

    Raises:
        InvalidArgumentError: the preset's wiring is not the one that is written here.
    """
    return LazyTerminator(terminator_spec(preset, **overrides))


def lazy_name(name: str) -> str:
    """The name here of the parameter ``name`` of a :class:`~tzwc.models.network.Terminator`."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def copy_weights(source: Terminator, target: LazyTerminator) -> None:
    """Give ``target`` the parameters of ``source``, whose kernel networks have been scaled at construction.

    ``target`` then counts as initialised: unlike a checkpoint that is loaded, its weights are not scaled again.

    Raises:
        InvalidArgumentError: the two were made from different declarations.
    """
    if source.spec != target.spec:
        raise InvalidArgumentError("source and target have different declarations: expected equal ones")
    target.load_state_dict({lazy_name(name): value for name, value in source.state_dict().items()})
    for module in target.modules():
        if isinstance(module, (SlowNet, SlowNetLocal)):
            module.initialized[0] = True


def _check(spec: TerminatorSpec) -> None:
    released = TerminatorSpec()
    if spec.form != "dot_product":
        raise InvalidArgumentError(f"form={spec.form!r}: the lazy model has the form 'dot_product' only")
    if spec.concat != released.concat:
        raise InvalidArgumentError(f"concat={spec.concat!r}: the lazy model concatenates {', '.join(released.concat)}")
    wiring = tuple(dataclasses.replace(branch, kernel_size=1) for branch in spec.local)
    if wiring != tuple(dataclasses.replace(branch, kernel_size=1) for branch in released.local):
        raise InvalidArgumentError("local: the lazy model has the released branches l1 … l4; sizes alone may differ")
