"""Every manner of writing a model that ``tzwc`` is held to."""

from __future__ import annotations

from tests.idioms import (
    calls,
    composed,
    fourier,
    input_dependent,
    lazy,
    operators,
    ordinary,
    parameters,
    side_effects,
    sizes,
    values,
)
from tests.idioms.idiom import Manner

__all__ = ["CATALOGUE", "Manner"]

CATALOGUE: tuple[Manner, ...] = (
    *lazy.MANNERS,
    *sizes.MANNERS,
    *values.MANNERS,
    *side_effects.MANNERS,
    *parameters.MANNERS,
    *composed.MANNERS,
    *calls.MANNERS,
    *ordinary.MANNERS,
    *fourier.MANNERS,
    *operators.MANNERS,
    *input_dependent.MANNERS,
)
