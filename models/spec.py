"""The declaration from which a whole Terminator network follows.

Source of the architecture: H. Zhang, "HyperZ·Z·W Operator Connects Slow-Fast Networks for Full Context Interaction",
arXiv 2401.17948 (2024), and the behaviour of its released 2-D implementation.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, cast, get_args

from tzwc.errors import SpecError
from tzwc.models.parts import BRANCHES, LocalSpec, SlowNetSpec
from tzwc.models.validation import (
    LARGEST,
    closest,
    fraction,
    known_fields,
    one_of,
    per_block,
    plain,
    positive_int,
    positive_ints,
    require,
)
from tzwc.util.argument_checks import examined, make_exact

__all__ = ["Form", "Padding", "Resample", "TerminatorSpec"]

Form = Literal["dot_product", "convolution"]
Padding = Literal["same", "causal"]
Resample = Literal["evaluate", "interpolate"]

_RESERVED_AXES = frozenset({"b", "c", "g", "p", "n", "k"})
_RELEASED_CONCAT = ("out", "l2", "skip1", "fast", "out_x", "l1", "glu", "l3", "out_h", "l4", "skip2", "hyp")


@dataclass(frozen=True, kw_only=True)
class TerminatorSpec:
    """A Terminator network: blocks of slow-fast neural encoding (SFNE) on a 1-D or 2-D grid, and a linear head.

    The defaults are the released CIFAR-10 configuration. Lists are accepted for tuples. A value given per block may be
    shorter than the number of blocks: its last entry then holds for the rest. It may be longer, too, so that overriding
    ``factors`` alone makes a network of fewer blocks.

    Attributes:
        axes: names of the grid axes, ``"h w"`` or ``"l"``; their number decides between 2-D and 1-D layers.
        sizes: grid points along each axis, at least 2.
        in_channels: channels of the input.
        factors: bottleneck factor of each block; block ``i`` maps ``channels[i]`` to ``channels[i] · factors[i]``.
        classes: number of logits.
        form: the global operator, ``"dot_product"`` (two equal axes) or ``"convolution"``.
        padding: of the convolution form: ``"same"`` or ``"causal"`` (``Y[i]`` sees ``V[j]``, ``W[j]`` for ``j ≤ i``
            only; this holds for the operator: means and standardisations in a block still see the whole grid).
        global_net, local_net: slow networks of the global kernel and of every local kernel.
        hci_net: slow network over channels of the hyper-channel interaction.
        interaction_channel_net, interaction_spatial_net: slow networks of the hyper interaction.
        local: the local branches, in order of evaluation.
        concat: the branches that the bottleneck concatenates, in order. ``skip1``, ``skip2``, … stand for the
            block's skips and are passed over where a block has fewer.
        skips: for each block the earlier blocks whose outputs it takes, ``skip1`` first; outputs are tiled along
            channels. By default block ``i ≥ 2`` takes block ``i − 2`` and block ``i ≥ 4`` also block ``i − 3``.
        groups: even number of channel groups in G-IBS (batch standardisation for groups 0, 2, …, instance
            standardisation for groups 1, 3, …).
        dropout: probability of dropping a channel of a block's output, one number or one a block.
        trained_sizes: the grid on which the parameters were trained, where it is another one, finer or coarser by the
            same factor along every axis; see :meth:`tzwc.models.Terminator.at_resolution`.
        resample: with ``trained_sizes``: ``"evaluate"`` the slow networks at the new coordinates, or ``"interpolate"``
            the kernels that they write on the trained grid.

    Raises:
        SpecError: a field has a value that cannot be used, or contradicts another field.
    """

    axes: str = "h w"
    sizes: tuple[int, ...] = (32, 32)
    in_channels: int = 3
    factors: tuple[int, ...] = (4, 3, 2, 2, 2)
    classes: int = 10
    form: Form = "dot_product"
    padding: Padding = "same"
    global_net: SlowNetSpec = SlowNetSpec(hidden=64, layers=(3, 2))
    local_net: SlowNetSpec = SlowNetSpec(hidden=32)
    hci_net: SlowNetSpec = SlowNetSpec(hidden=32)
    interaction_channel_net: SlowNetSpec = SlowNetSpec(hidden=16)
    interaction_spatial_net: SlowNetSpec = SlowNetSpec(hidden=64)
    local: tuple[LocalSpec, ...] = (
        LocalSpec(name="l1", kernel_size=3, kernel_from="x", applied_to="hci"),
        LocalSpec(name="l2", kernel_size=9, kernel_from="hci", applied_to="x"),
        LocalSpec(name="l3", kernel_size=5, kernel_from="mix", applied_to="x"),
        LocalSpec(name="l4", kernel_size=7, kernel_from="x", applied_to="mix"),
    )
    concat: tuple[str, ...] = _RELEASED_CONCAT
    skips: tuple[tuple[int, ...], ...] | None = None
    groups: int = 12
    dropout: float | tuple[float, ...] = (0.0, 0.05)
    trained_sizes: tuple[int, ...] | None = None
    resample: Resample = "evaluate"

    @examined("a field of TerminatorSpec", SpecError)
    def __post_init__(self) -> None:
        make_exact(self)
        self._check_grid()
        self._check_channels()
        self._check_nets()
        self._check_branches()
        self._check_skips()

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.factors)

    @property
    def channels(self) -> tuple[int, ...]:
        """Input channels of every block, then the channels that enter the head."""
        return tuple(accumulate(self.factors, operator.mul, initial=self.in_channels))

    @property
    def branches(self) -> frozenset[str]:
        """The branches that the concatenation needs, directly or through others; no other is computed."""
        sources = {**BRANCHES, **{branch.name: (branch.kernel_from, branch.applied_to) for branch in self.local}}
        needed: set[str] = set()
        pending = [name for name in self.concat if name in sources]
        while pending:
            name = pending.pop()
            if name not in needed:
                needed.add(name)
                pending.extend(sources[name])
        return frozenset(needed)

    def skips_of(self, block: int) -> tuple[int, ...]:
        """The blocks whose outputs block ``block`` takes."""
        assert self.skips is not None  # resolved at construction
        return self.skips[block]

    def concat_of(self, block: int) -> tuple[str, ...]:
        """What block ``block`` concatenates: ``concat`` without the skips that the block lacks."""
        present = {f"skip{n + 1}" for n in range(len(self.skips_of(block)))}
        return tuple(name for name in self.concat if name in present or not name.startswith("skip"))

    def dropout_of(self, block: int) -> float:
        """Dropout probability of block ``block``."""
        return self.dropout if isinstance(self.dropout, float) else self.dropout[min(block, len(self.dropout) - 1)]

    def to_dict(self) -> dict[str, Any]:
        """The declaration as plain dicts, lists, strings and numbers, as JSON knows them."""
        return cast("dict[str, Any]", plain(dataclasses.asdict(self)))

    @classmethod
    @examined("fields", SpecError)
    def from_dict(cls, fields: Mapping[str, Any]) -> TerminatorSpec:
        """The inverse of :meth:`to_dict`; absent fields take their defaults.

        Raises:
            SpecError: an unknown field, or a value that the declaration refuses.
        """
        return cls(**known_fields(cls, fields))

    @property
    def scale(self) -> float:
        """Grid points along an axis for each one of the trained grid."""
        return 1.0 if self.trained_sizes is None else self.sizes[0] / self.trained_sizes[0]

    @property
    def spacing(self) -> float:
        """What a term of the global operator's sum weighs: one over :attr:`scale` for each axis that is summed over."""
        axes = 1 if self.form == "dot_product" else len(self.sizes)
        return self.scale**-axes

    def taps_of(self, branch: LocalSpec) -> int:
        """Taps that the kernel of ``branch`` needs to reach as far as it did on the trained grid; odd."""
        return 2 * max(1, round((branch.kernel_size - 1) / 2 * self.scale)) + 1 if branch.kernel_size > 1 else 1

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    def _check_grid(self) -> None:
        require(isinstance(self.axes, str), "axes", self.axes, "a string such as 'h w' or 'l'")
        names = self.axes.split()
        usable = len(set(names)) == len(names) and all(name.isidentifier() and name.islower() for name in names)
        require(usable and len(names) in (1, 2), "axes", self.axes, "one or two distinct lower-case names")
        reserved = sorted(_RESERVED_AXES & set(names))
        require(not reserved, "axes", self.axes, f"names other than the reserved {', '.join(sorted(_RESERVED_AXES))}")
        self._set("axes", " ".join(names))
        self._set("sizes", positive_ints("sizes", self.sizes, minimum=2))
        require(len(self.sizes) == len(names), "sizes", self.sizes, f"one size for each axis of {self.axes!r}")
        one_of("form", self.form, get_args(Form))
        one_of("padding", self.padding, get_args(Padding))
        one_of("resample", self.resample, get_args(Resample))
        if self.trained_sizes is not None:
            self._set("trained_sizes", positive_ints("trained_sizes", self.trained_sizes, minimum=2))
            factors = {new / old for new, old in zip(self.sizes, self.trained_sizes, strict=False)}
            alike = len(self.sizes) == len(self.trained_sizes) and len(factors) == 1
            require(alike, "sizes", self.sizes, f"the sizes {self.trained_sizes}, times the same factor on every axis")
        if self.form == "dot_product":
            square = len(names) == 2 and self.sizes[0] == self.sizes[1]
            require(square, "sizes", self.sizes, "two equal axes for the form 'dot_product' (or form 'convolution')")
            require(self.padding == "same", "padding", self.padding, "'same': the form 'dot_product' has no padding")

    def _check_channels(self) -> None:
        positive_int("in_channels", self.in_channels)
        positive_int("classes", self.classes)
        self._set("factors", positive_ints("factors", self.factors))
        positive_int("groups", self.groups, minimum=2)
        require(self.groups % 2 == 0, "groups", self.groups, "an even integer: half the groups use batch statistics")
        require(max(self.channels) <= LARGEST, "factors", self.factors, f"at most {LARGEST} channels")
        for block, channels in enumerate(self.channels[1:]):
            expected = f"a divisor of the {channels} channels that block {block} gives"
            require(channels % self.groups == 0, "groups", self.groups, expected)
        given = self.dropout if isinstance(self.dropout, (tuple, list)) else (self.dropout,)
        require(len(given) > 0, "dropout", self.dropout, "a number or a non-empty sequence of them")
        values = per_block(tuple(fraction("dropout", value) for value in given))
        self._set("dropout", values[0] if len(values) == 1 else values)

    def _check_nets(self) -> None:
        for field in dataclasses.fields(self):
            if not field.name.endswith("_net"):
                continue
            net = getattr(self, field.name)
            if isinstance(net, Mapping):
                net = SlowNetSpec(**known_fields(SlowNetSpec, net, field.name))
                self._set(field.name, net)
            require(isinstance(net, SlowNetSpec), field.name, net, "a SlowNetSpec or a mapping of its fields")

    def _check_branches(self) -> None:
        require(isinstance(self.local, (tuple, list)), "local", self.local, "a sequence of LocalSpec")
        local = []
        defined = list(BRANCHES)
        for n, branch in enumerate(self.local):
            entry = (
                LocalSpec(**known_fields(LocalSpec, branch, f"local[{n}]")) if isinstance(branch, Mapping) else branch
            )
            require(isinstance(entry, LocalSpec), f"local[{n}]", branch, "a LocalSpec or a mapping of its fields")
            require(entry.name not in defined, f"local[{n}].name", entry.name, "a name that is not taken yet")
            for field in ("kernel_from", "applied_to"):
                source = getattr(entry, field)
                require(
                    source in defined,
                    f"local[{n}].{field}",
                    source,
                    f"a branch defined before: {closest(source, defined)}",
                )
            defined.append(entry.name)
            local.append(entry)
        self._set("local", tuple(local))
        require(isinstance(self.concat, (tuple, list)), "concat", self.concat, "a sequence of branch names")
        for name in self.concat:
            require(isinstance(name, str), "concat", name, "the name of a branch")
        self._set("concat", tuple(self.concat))
        require(len(set(self.concat)) == len(self.concat), "concat", self.concat, "each branch once")
        for name in self.concat:
            known = name in defined or (name[:4] == "skip" and name[4:].isdigit())
            require(known, "concat", name, f"{closest(name, defined)}, or skip1, skip2, …")
        require(bool(self.branches), "concat", self.concat, "at least one branch that is not a skip")
        for n, entry in enumerate(local):
            require(entry.name in self.branches, f"local[{n}].name", entry.name, "a branch that 'concat' needs")

    def _check_skips(self) -> None:
        slots = sum(name.startswith("skip") for name in self.concat)
        if self.skips is None:
            rule = [tuple(i - 1 - n for n in range(1, 3) if i >= 2 * n)[:slots] for i in range(self.blocks)]
            self._set("skips", tuple(rule))
        require(isinstance(self.skips, (tuple, list)), "skips", self.skips, "one sequence of block indices a block")
        assert self.skips is not None
        require(len(self.skips) == self.blocks, "skips", self.skips, f"{self.blocks} entries, one a block")
        channels = self.channels
        for block, sources in enumerate(self.skips):
            field = f"skips[{block}]"
            require(isinstance(sources, (tuple, list)), field, sources, "a sequence of block indices")
            for n, source in enumerate(sources):
                require(f"skip{n + 1}" in self.concat, field, sources, f"'concat' to name 'skip{n + 1}'")
                earlier = isinstance(source, int) and not isinstance(source, bool) and 0 <= source < block
                require(earlier, field, source, f"the index of a block before block {block}")
                have, want = channels[source + 1], channels[block]
                require(want % have == 0, field, source, f"a block whose {have} channels divide the block's {want}")
        self._set("skips", tuple(tuple(sources) for sources in self.skips))
