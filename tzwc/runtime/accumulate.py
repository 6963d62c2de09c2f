"""Gradient accumulation that runs the static part once: one forward and one backward for many micro-batches.

Inside ``with fast.accumulate():`` the kept values are evaluated once, with gradients, and cut off from their history.
Every micro-batch differentiates with respect to the cut-off copies, whose gradients add up; when the block ends, the
sums are propagated once. Since a derivative is linear in the gradient that it propagates, the result is the sum of the
micro-batches' gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tzwc._torch.distributed import active_ddp_module
from tzwc.errors import TzwcError
from tzwc.native import TensorWatch, watch_tensors
from tzwc.runtime.specialisation import Specialisation

__all__ = ["Accumulation", "AccumulationError", "outside_checkpoints"]


class AccumulationError(TzwcError, RuntimeError):
    """``accumulate()`` was used in a way that would give wrong gradients; the message says what to do instead."""


def outside_checkpoints() -> saved_tensors_hooks:
    """A context in which what is saved for backward is not counted by an enclosing ``torch.utils.checkpoint``.

    A checkpoint expects its second run to save what its first run saved; what happens once for many calls must not
    be counted. Saved tensors are detached, since one that refers to its own history would never be freed.
    """
    return saved_tensors_hooks(lambda tensor: tensor.detach(), lambda tensor: tensor)


@dataclass(frozen=True)
class _Evaluated:
    watch: TensorWatch
    values: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]


class Accumulation:
    """The state of one ``with fast.accumulate():`` block.

    Args:
        compare_bytes: also notice writes that bypass version counters.
    """

    def __init__(self, compare_bytes: bool) -> None:
        self._compare_bytes = compare_bytes
        self._evaluated: dict[Specialisation, _Evaluated] = {}
        self._open = True

    def leaves(self, specialisation: Specialisation, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The kept values of ``specialisation``, as leaves that collect gradients.

        Raises:
            AccumulationError: a parameter has changed since the first micro-batch, or gradients are being
                synchronised by DistributedDataParallel.
        """
        _refuse_synchronised()
        known = self._evaluated.get(specialisation)
        if known is not None:
            _refuse_changes(specialisation, known)
            return known.leaves
        parameters, _ = specialisation.parameters()
        watch = watch_tensors(parameters, content=True, compare_bytes=self._compare_bytes)
        with outside_checkpoints():
            values = tuple(specialisation.evaluate_static(tensors))
        leaves = tuple(v.detach().requires_grad_(v.requires_grad) for v in values)
        for leaf in leaves:
            if leaf.requires_grad:
                leaf.register_hook(self._refuse_late)  # type: ignore[no-untyped-call]
        self._evaluated[specialisation] = _Evaluated(watch, values, leaves)
        return leaves

    def finish(self) -> None:
        """Propagate the collected gradients to the parameters.

        Raises:
            AccumulationError: a parameter has changed since the first micro-batch.
        """
        for specialisation, known in self._evaluated.items():
            _refuse_changes(specialisation, known)
        self._open = False
        for known in self._evaluated.values():
            reached = [
                (v, leaf.grad) for v, leaf in zip(known.values, known.leaves, strict=True) if leaf.grad is not None
            ]
            if reached:
                torch.autograd.backward([v for v, _ in reached], [g for _, g in reached])
        self._evaluated.clear()

    def discard(self) -> None:
        """Forget what was collected."""
        self._open = False
        self._evaluated.clear()

    def _refuse_late(self, gradient: Tensor) -> Tensor:
        if not self._open:
            raise AccumulationError(
                "backward() of a result from inside accumulate() ran after the block had ended, too late to reach the "
                "slow networks; call backward() for every micro-batch inside the block"
            )
        return gradient


def _refuse_changes(specialisation: Specialisation, known: _Evaluated) -> None:
    parameters, names = specialisation.parameters()
    changed = known.watch.changed(parameters)
    if changed:
        raise AccumulationError(
            f"{names[changed[0]]!r} has changed inside accumulate(), so the micro-batches belong to different "
            "parameters; step the optimiser after the block"
        )


def _refuse_synchronised() -> None:
    active = active_ddp_module()
    if active is not None and active.require_backward_grad_sync:
        raise AccumulationError(
            "accumulate() under DistributedDataParallel must be inside no_sync(): gradients of the slow networks "
            "arrive when the block ends, after the synchronisation. Run the last micro-batch outside of both blocks: "
            "it synchronises everything that was accumulated"
        )
