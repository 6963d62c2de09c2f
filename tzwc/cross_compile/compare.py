"""What tzwc saves on a GPU, by the model of :mod:`tzwc.cross_compile.cost`, against plain torch.compile."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tzwc.cross_compile.cost import Cost, modelled
from tzwc.cross_compile.program import Program
from tzwc.errors import InvalidArgumentError

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison:
    """Two programs for one model and target.

    Attributes:
        model: class of the module.
        target: name of the GPU.
        device: the device whose data sheet is used.
        plain: cost of plain torch.compile's program.
        tzwc: cost of tzwc's, per call, kept values being there.
    """

    model: str
    target: str
    device: str
    plain: Cost
    tzwc: Cost

    @classmethod
    def of(cls, plain: Program, tzwc: Program, *, tf32: bool = False) -> Comparison:
        """Compare two lowered programs.

        Raises:
            InvalidArgumentError: they are for different targets.
        """
        if plain.target != tzwc.target:
            names = f"plain is for {plain.target.name} and tzwc for {tzwc.target.name}"
            raise InvalidArgumentError(f"{names}: lower both for the same target")
        costs = (modelled(p.launches, p.target, tf32=tf32) for p in (plain, tzwc))
        return cls(tzwc.model, tzwc.target.name, tzwc.target.device, *costs)

    @property
    def ratios(self) -> dict[str, float]:
        """tzwc's launches, bytes and modelled seconds as fractions of plain torch.compile's."""
        return {
            "launches": self.tzwc.launches / max(self.plain.launches, 1),
            "bytes": self.tzwc.bytes / max(self.plain.bytes, 1),
            "seconds": self.tzwc.seconds / max(self.plain.seconds, 1e-12),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe data; times are modelled, none is measured."""
        return {**asdict(self), "ratios": self.ratios, "measured": False}
