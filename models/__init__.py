"""Models whose weights are written by other networks: the Terminator family, its losses and optimisers."""

from __future__ import annotations

from tzwc.models.losses import label_smoothing_cross_entropy, norm_penalty, slow_neural_loss
from tzwc.models.network import Terminator
from tzwc.models.operators import convolution, dot_product, gate
from tzwc.models.presets import PRESETS, terminator, terminator_spec
from tzwc.models.spec import LocalSpec, SlowNetSpec, TerminatorSpec

__all__ = [
    "PRESETS",
    "LocalSpec",
    "SlowNetSpec",
    "Terminator",
    "TerminatorSpec",
    "convolution",
    "dot_product",
    "gate",
    "label_smoothing_cross_entropy",
    "norm_penalty",
    "slow_neural_loss",
    "terminator",
    "terminator_spec",
]
