"""Parts of a declaration: slow networks, local branches, and the branches that every block has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from tzwc.errors import SpecError
from tzwc.models.validation import per_block, positive_int, positive_ints, positive_number, require
from tzwc.util.argument_checks import examined, make_exact

__all__ = ["BRANCHES", "LocalSpec", "SlowNetSpec"]

BRANCHES: Final[Mapping[str, tuple[str, ...]]] = {
    "x": (),
    "fast": ("x",),
    "mix": ("x",),
    "hci": ("x",),
    "out": ("fast",),
    "out_x": ("mix",),
    "out_h": ("hci",),
    "glu": ("out",),
    "hyp": ("x", "out"),
}
"""The branches every block can compute, each with those it is computed from, in order of evaluation."""


@dataclass(frozen=True, kw_only=True)
class SlowNetSpec:
    """A slow network: a multiplicative sine network from coordinates in ``[-1, 1]^d`` to hyper-kernels.

    Attributes:
        hidden: hidden channels.
        layers: layers after the first filter; a tuple gives one value a block, its last value holding for the rest.
        omega_0: frequency scale of the sine filters.
    """

    hidden: int
    layers: int | tuple[int, ...] = 2
    omega_0: float = 2000.0

    @examined("a field of SlowNetSpec", SpecError)
    def __post_init__(self) -> None:
        make_exact(self)
        positive_int("hidden", self.hidden)
        layers = (self.layers,) if isinstance(self.layers, int) else self.layers
        compact = cast("tuple[int, ...]", per_block(positive_ints("layers", layers)))
        object.__setattr__(self, "layers", compact[0] if len(compact) == 1 else compact)
        object.__setattr__(self, "omega_0", positive_number("omega_0", self.omega_0))

    def layers_of(self, block: int) -> int:
        """The number of layers in block ``block``."""
        return self.layers if isinstance(self.layers, int) else self.layers[min(block, len(self.layers) - 1)]


@dataclass(frozen=True, kw_only=True)
class LocalSpec:
    """A local branch: a depthwise convolution of one branch with a hyper-kernel generated from another.

    Attributes:
        name: the branch's name, for the concatenation and for later branches to refer to.
        kernel_size: taps along every grid axis; odd, so that a kernel has a centre.
        kernel_from: the branch from which the kernel is generated.
        applied_to: the branch that is convolved with it.
    """

    name: str
    kernel_size: int
    kernel_from: str
    applied_to: str

    @examined("a field of LocalSpec", SpecError)
    def __post_init__(self) -> None:
        make_exact(self)
        for field in ("name", "kernel_from", "applied_to"):
            value = getattr(self, field)
            require(isinstance(value, str) and value.isidentifier(), field, value, "an identifier")
        require(
            self.name not in BRANCHES and not self.name.startswith("skip"),
            "name",
            self.name,
            f"a name other than the built-in {', '.join(BRANCHES)} and skip…",
        )
        positive_int("kernel_size", self.kernel_size)
        require(self.kernel_size % 2 == 1, "kernel_size", self.kernel_size, "an odd integer")
