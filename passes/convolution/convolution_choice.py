"""Ask which algorithm computes a convolution of the graph fastest, and say what came out."""

from __future__ import annotations

from torch import fx

from tzwc.autotune import Choice, choose
from tzwc.errors import InvalidArgumentError
from tzwc.ops.conv import Problem, all_algorithms, find_algorithm, legal_algorithms
from tzwc.ops.conv.problem import DIRECTIONS, Direction
from tzwc.rewrite.pass_manager import PassContext

__all__ = ["choose_algorithm", "decide", "padded_first"]

AUTO = "auto"


def _describe(problem: Problem) -> str:
    """The sizes that a choice depends on most."""
    taps, lengths = "×".join(map(str, problem.kernel)), "×".join(map(str, problem.lengths))
    return f"{taps} taps on {lengths}"


def padded_first(problem: Problem) -> str:
    """The name for a native convolution of an input that is padded in advance; ``native`` pads so where it has to."""
    return "native" if find_algorithm("prepadded").objection(problem) else "prepadded"


def choose_algorithm(problem: Problem, context: PassContext) -> Choice:
    """The algorithm for ``problem`` under the options ``convolution``, ``tune`` and ``exact`` of the pipeline.

    Raises:
        InvalidArgumentError: the option ``convolution`` names no algorithm.
    """
    mode, exact = str(context.options.get("convolution", AUTO)), bool(context.options.get("exact", False))
    if mode == AUTO:
        return choose(problem, tune=context.options.get("tune", "model"), exact=exact)
    if mode not in all_algorithms():
        raise InvalidArgumentError(
            f"convolution={mode!r} is unknown; choose one of auto, {', '.join(all_algorithms())}"
        )
    legal, declined = legal_algorithms(problem, exact=exact)
    if mode in legal:
        return Choice(mode, {}, declined, "off", f"convolution={mode!r} was asked for")
    return Choice("native", {}, declined, "off", f"{mode} was asked for, but {declined[mode]}")


def decide(
    problem: Problem, node: fx.Node, context: PassContext, *, unchanged: str, gradients: bool
) -> dict[str, str] | None:
    """Choose for ``problem`` and, with ``gradients``, for its two gradients; one remark for each.

    Args:
        problem: the forward convolution.
        node: the call in the graph.
        unchanged: the algorithm that the call as it stands amounts to; choosing it is no rewrite.
        gradients: whether the call is differentiated with respect to input and kernel.

    Returns:
        The algorithms as :func:`tzwc.ops.convolution` takes them; ``None`` when the call is to stay.
    """
    directions: tuple[Direction, ...] = DIRECTIONS if gradients else ("forward",)
    found = {direction: choose_algorithm(problem.with_(direction=direction), context) for direction in directions}
    differs = any(choice.algorithm != unchanged for choice in found.values())
    admitted = differs and context.admits("choose", (node,))
    for direction, choice in found.items():
        suffix = "" if direction == "forward" else f", {direction.replace('_', ' ')}"
        context.remark(
            "applied" if admitted and choice.algorithm != unchanged else "declined",
            "choose" if direction == "forward" else f"choose_{direction}",
            f"{choice.algorithm} for {_describe(problem)}{suffix}: {choice.why}",
            (node,),
            choice=choice.algorithm,
            source=choice.source,
            **choice.costs(),
        )
    if not admitted:
        return None
    return {"algorithm" if name == "forward" else name: choice.algorithm for name, choice in found.items()}
