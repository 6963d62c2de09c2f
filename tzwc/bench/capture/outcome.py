"""What tzwc made of a model, as a few figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tzwc.runtime.compiled_module import CompiledModule

__all__ = ["Outcome", "outcome_of"]


@dataclass(frozen=True)
class Outcome:
    """What tzwc made of a model.

    Attributes:
        level: of its fall-backs, the one it stopped at.
        graphs: that it captured, for all kinds of calls together.
        assumptions: recorded ones, of all graphs together.
        remarks: of the capture, why it declined something.
    """

    level: str
    graphs: int
    assumptions: int
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "level": self.level,
            "graphs": self.graphs,
            "assumptions": self.assumptions,
            "remarks": list(self.remarks),
        }


def outcome_of(fast: nn.Module) -> Outcome | None:
    """What became of the module that ``fast``, made by :func:`tzwc.compile`, stands for; ``None`` for any other."""
    if not isinstance(fast, CompiledModule):
        return None
    infos = fast.report().specialisations
    captures = [info.capture for info in infos if info.capture is not None]
    assumptions = sum(len(capture.assumptions) for capture in captures)
    remarks = tuple(remark.reason for remark in fast.remarks if remark.kind == "declined")
    return Outcome(fast.level, len(infos), assumptions, remarks)
