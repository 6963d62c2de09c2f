"""The smallest Terminator."""

from __future__ import annotations

from tzwc.models import LocalSpec, SlowNetSpec, TerminatorSpec


def one_block() -> TerminatorSpec:
    """Every kind of branch once, in one block on a 6×6 grid."""
    net = SlowNetSpec(hidden=4, layers=1)
    return TerminatorSpec(
        axes="h w", sizes=(6, 6), in_channels=2, factors=(6,), classes=3, groups=4, dropout=0.0, skips=((),),
        global_net=net, local_net=net, hci_net=net, interaction_channel_net=net, interaction_spatial_net=net,
        local=(LocalSpec(name="l1", kernel_size=3, kernel_from="x", applied_to="hci"),),
        concat=("out", "fast", "l1", "glu", "hyp"),
    )  # fmt: skip
