"""Write a pass and run it in front of the others.

python examples/own_pass.py
"""

from __future__ import annotations

import torch
from torch import fx, nn

import tzwc
from tzwc.ir.graph import insert_call
from tzwc.passes import DEFAULT_PASSES, Pass
from tzwc.rewrite.pass_manager import PassContext
from tzwc.rewrite.patterns import any_, op
from tzwc.rewrite.rules import Match, Rule, apply_rules

relu = torch.ops.aten.relu.default


def _rewrite(match: Match, graph: fx.Graph) -> fx.Node:
    """Make the replacement, with the origin of what it replaces."""
    return insert_call(graph, relu, (match["x"],), like=match.root, made_by="simplify_relu/double_relu")


def _why_not(match: Match) -> str | None:
    """A reason to leave a match alone becomes a remark."""
    inner = match.nodes[1]
    return None if len(inner.users) == 1 else f"{inner.name} is needed elsewhere, so nothing would be saved"


DOUBLE_RELU = Rule(
    name="double_relu",
    equation="relu(relu(x)) -> relu(x)",  # exact, for NaN and -0.0 as well
    pattern=op(relu, op(relu, any_("x"))),
    rewrite=_rewrite,
    check=_why_not,
)


def _run(module: fx.GraphModule, context: PassContext) -> None:
    apply_rules(module.graph, [DOUBLE_RELU], context)


SIMPLIFY_RELU = Pass("simplify_relu", "Drop a relu of a relu.", _run)


class Model(nn.Module):
    """Two candidates, of which one must be left alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rectify twice, twice."""
        first = x.relu().relu()
        inner = (x + 1).relu()
        return first + inner.relu() * inner


def main() -> None:
    """Compile with the pass and print what it did."""
    fast = tzwc.compile(Model(), passes=[SIMPLIFY_RELU, *DEFAULT_PASSES], backend="eager")
    x = torch.randn(4, 8)
    print("equal:", torch.equal(fast(x), Model()(x)))
    for remark in fast.stage("simplify_relu").remarks:
        print(remark)
    print(fast.diff("capture", "simplify_relu"))


if __name__ == "__main__":
    main()
