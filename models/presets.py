"""Named configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from tzwc.errors import SpecError
from tzwc.models.network import Terminator
from tzwc.models.parts import LocalSpec, SlowNetSpec
from tzwc.models.spec import TerminatorSpec
from tzwc.models.validation import closest, known_fields, refuse
from tzwc.util.argument_checks import exact, examined

__all__ = ["FIGURE", "PRESETS", "terminator", "terminator_spec"]


def _wiring(*sizes: int) -> tuple[LocalSpec, ...]:
    """The released local wiring with other kernel sizes."""
    released = TerminatorSpec().local
    return tuple(dataclasses.replace(branch, kernel_size=k) for branch, k in zip(released, sizes, strict=True))


_SEQUENCE: dict[str, Any] = {"axes": "l", "form": "convolution", "local": _wiring(9, 81, 25, 49)}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "cifar10": {},
    "cifar100": {"classes": 100},
    "stl10": {"sizes": (96, 96)},
    "smnist": {**_SEQUENCE, "sizes": (784,), "in_channels": 1, "factors": (12, 3, 2, 2, 2)},
    "pmnist": {**_SEQUENCE, "sizes": (784,), "in_channels": 1, "factors": (12, 3, 2, 2, 2)},
    "scifar10": {**_SEQUENCE, "sizes": (1024,)},
    "digits": {
        "sizes": (8, 8),
        "in_channels": 1,
        "factors": (12, 2, 1),
        "global_net": SlowNetSpec(hidden=32, layers=(3, 2)),
        "local_net": SlowNetSpec(hidden=16),
        "hci_net": SlowNetSpec(hidden=16),
        "interaction_spatial_net": SlowNetSpec(hidden=32),
        "local": _wiring(3, 7, 5, 7),
        "dropout": 0.0,  # 24 channels have none to spare
    },
}
"""Fields of each preset that differ from the defaults of :class:`~tzwc.models.spec.TerminatorSpec`."""

FIGURE: Final[Mapping[str, Any]] = {
    "local": (
        LocalSpec(name="l1", kernel_size=5, kernel_from="x", applied_to="hci"),
        LocalSpec(name="l2", kernel_size=7, kernel_from="x", applied_to="mix"),
        LocalSpec(name="l3", kernel_size=9, kernel_from="mix", applied_to="x"),
    ),
    "concat": ("out", "l1", "skip1", "fast", "out_x", "l2", "glu", "out_h", "l3", "skip2", "hyp"),
}
"""The wiring of the paper's figure: three local branches, nine concatenated ones (and the skips)."""


@examined("preset or overrides", SpecError)
def terminator_spec(preset: str = "cifar10", *, figure: bool = False, **overrides: Any) -> TerminatorSpec:
    """The declaration that :func:`terminator` builds; same arguments and errors."""
    preset = exact(preset)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise refuse("preset", preset, closest(preset, PRESETS))
    fields = dict(PRESETS[preset])
    if figure:
        fields.update(FIGURE)
        if fields.get("axes") == "l":
            fields["local"] = tuple(dataclasses.replace(b, kernel_size=b.kernel_size**2) for b in FIGURE["local"])
    defaults = {field.name: field.default for field in dataclasses.fields(TerminatorSpec)}
    for name, value in known_fields(TerminatorSpec, overrides).items():
        base = fields.get(name, defaults[name])
        if isinstance(base, SlowNetSpec) and isinstance(value, Mapping):
            value = dataclasses.replace(base, **known_fields(SlowNetSpec, {"hidden": base.hidden, **value}, name))
        fields[name] = value
    return TerminatorSpec(**fields)


def terminator(preset: str = "cifar10", *, figure: bool = False, **overrides: Any) -> Terminator:
    """A freshly initialised Terminator.

    ======== ====== ======== ======= =================================================
    preset   grid   channels classes remarks
    ======== ====== ======== ======= =================================================
    cifar10  32×32  3        10      the released model, 1,336,855 parameters
    cifar100 32×32  3        100     as released
    stl10    96×96  3        10      the CIFAR-10 model on a larger grid
    smnist   784    1        10      sequential MNIST
    pmnist   784    1        10      the same model; the permutation belongs to the data
    scifar10 1024   3        10      CIFAR-10 read as a sequence of pixels
    digits   8×8    1        10      three small blocks, trains in about a minute on CPU
    ======== ====== ======== ======= =================================================

    The 1-D configurations were never released. Here they use the convolution form, padding ``"same"``, the widths of
    the CIFAR-10 model (12, 36, 72, 144, 288 channels behind the blocks) and local kernels of 9, 81, 25 and 49 taps, as
    many as the 3×3, 9×9, 5×5 and 7×7 kernels of the 2-D model.

    Args:
        preset: a name of the table.
        figure: the local wiring of the paper's figure, with nine branches, in place of the released one.
        overrides: fields of :class:`~tzwc.models.spec.TerminatorSpec`. For a slow network a mapping replaces only the
            fields that it names: ``terminator("cifar10", global_net={"hidden": 32})``.

    Raises:
        SpecError: unknown preset or field, or fields that contradict each other.
    """
    return Terminator(terminator_spec(preset, figure=figure, **overrides))
