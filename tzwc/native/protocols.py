"""What every watch can do, whichever language it is written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

__all__ = ["DictWatch", "TensorWatch"]


class TensorWatch(Protocol):
    """Remembers some tensors as they were when it was made."""

    def changed(self, tensors: Sequence[Tensor]) -> list[int]:
        """Indices, ascending, of the tensors that differ from those recorded; ``[]`` when none does.

        Args:
            tensors: what stands now where the recorded tensors stood, in the same order.

        Raises:
            ValueError: there are more or fewer tensors than were recorded.
            TypeError: an entry is not a tensor; the message names its position.
        """
        ...


class DictWatch(Protocol):
    """Remembers some dicts as they were when it was made."""

    def changed(self) -> bool:
        """Whether an entry may have been added, removed, moved or bound to another object since.

        May be True though everything was put back as it was; is never False when an entry is now bound to another
        object. What happens inside the values is not looked at.
        """
        ...
