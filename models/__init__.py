"""Models whose weights are written by other networks: the Terminator family, its losses and optimisers."""

from __future__ import annotations

from tzwc.models.losses import label_smoothing_cross_entropy, norm_penalty, slow_neural_loss
from tzwc.models.network import Terminator
from tzwc.models.operators import convolution, dot_product, gate
from tzwc.models.optim import Kar2, Kar3
from tzwc.models.parts import LocalSpec, SlowNetSpec
from tzwc.models.presets import PRESETS, terminator, terminator_spec
from tzwc.models.released import load_released, released_state
from tzwc.models.spec import TerminatorSpec

__all__ = [
    "PRESETS",
    "Kar2",
    "Kar3",
    "LocalSpec",
    "SlowNetSpec",
    "Terminator",
    "TerminatorSpec",
    "convolution",
    "dot_product",
    "gate",
    "label_smoothing_cross_entropy",
    "load_released",
    "norm_penalty",
    "released_state",
    "slow_neural_loss",
    "terminator",
    "terminator_spec",
]
