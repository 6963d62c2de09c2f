"""Checkpoints of the author's released 2-D implementation: names, shapes, and the declaration that follows from them.

The released state is saved after its one-off scaling of the slow networks' output weights, as the weights here are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.models.extent import parameter_count
from tzwc.models.network import Terminator
from tzwc.models.parts import SlowNetSpec
from tzwc.models.spec import TerminatorSpec
from tzwc.util.argument_checks import exact, examined, shown

__all__ = ["load_released", "released_state"]

_LATER_NAMES: Final = (
    (re.compile(r"\.fast_bias_p$"), ".bias_p"),
    (re.compile(r"\.hyper_interact\.slow_net_g([cs])\."), r".hyper_interact.slow_net_g\1_hi."),
)
"""Spellings of later releases, with the first release's."""

_SINE = (("offset", "bias_p"), ("output.", "output_linear."))
_GENERATOR = (
    ("offset", "bias_pk"),
    ("output.", "output_linear."),
    ("reduce.", "fast_reduce."),
    ("fc.", "fast_fc1."),
    ("context.", "fast_linears_x."),
)
_UNIT = (
    ("offset", "bias_p"),
    ("key.", "fast_linear_k."),
    ("value.", "fast_linear_v."),
    ("query.", "fast_linear_q."),
    ("output.", "fast_linear_y."),
)
_PARTS: Final = (
    (r"offset$", "bias", ()),
    (r"bottleneck\.", "fast_multi_branch.bottleneck_layer.", ()),
    (r"mix\.", "fast_multi_branch.channel_mixer_mlp.", ()),
    (r"global_net\.", "fast_multi_branch.slow_net_g.Kernel.", _SINE),
    (r"rgu_x\.", "fast_multi_branch.Fast_Kernel_rgu.", _UNIT),
    (r"rgu_w\.", "fast_multi_branch.Fast_Kernel_rgu_2.", _UNIT),
    (r"hci\.net\.", "fast_multi_branch.channel_mixer_hci.slow_net_gc.Kernel.", _SINE),
    (r"interaction\.channel_net\.", "fast_multi_branch.hyper_interact.slow_net_gc_hi.Kernel.", _SINE),
    (r"interaction\.spatial_net\.", "fast_multi_branch.hyper_interact.slow_net_gs_hi.Kernel.", _SINE),
    (r"local\.l(\d+)\.offset$", r"fast_multi_branch.bias\1", ()),
    (r"local\.l(\d+)\.mixer\.", r"fast_multi_branch.local_interact_conv_\1.channel_mixer.", ()),
    (r"local\.l(\d+)\.generator\.", r"fast_multi_branch.slow_net_l\1.Kernel.", _GENERATOR),
)
"""Prefixes inside a block: ours, the released one, and how the remainder begins in either."""


def _released_name(name: str) -> str:
    """The released name of the parameter ``name`` of a :class:`~tzwc.models.network.Terminator`."""
    if name.startswith("head."):
        return name.replace("head.", "out_layer.", 1)
    _, block, rest = name.split(".", 2)
    for ours, released, remainders in _PARTS:
        match = re.match(ours, rest)
        if match is None:
            continue
        tail = rest[match.end() :]
        for here, there in remainders:
            if tail.startswith(here):
                tail = there + tail[len(here) :]
                break
        tail = re.sub(r"^filters\.(\d+)\.", r"filters.\1.linear.", tail)
        return f"blocks.{block}.{match.expand(released)}{tail}"
    raise InvalidArgumentError(f"parameter {name!r} has no released name: expected the released wiring, l1 … l4")


def _first_spelling(key: str) -> str:
    for pattern, name in _LATER_NAMES:
        key = pattern.sub(name, key)
    return key


class _Shapes:
    """The sizes that a released state implies, with errors that name the entry they were read from."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.blocks = len({key.split(".")[1] for key in state if re.match(r"blocks\.\d+\.", key)})

    def shape(self, key: str, rank: int) -> torch.Size:
        if key not in self.state:
            raise InvalidArgumentError(f"released state lacks {key!r}: expected a tensor of rank {rank}")
        shape = self.state[key].shape
        if len(shape) != rank:
            raise InvalidArgumentError(f"{key!r} has shape {tuple(shape)}: expected rank {rank}")
        return shape

    def net(self, path: str, rank: int = 4) -> SlowNetSpec:
        """The slow network at ``path`` inside every block; ``omega_0`` is inside the stored weights."""
        prefixes = [f"blocks.{i}.fast_multi_branch.{path}.Kernel." for i in range(self.blocks)]
        hidden = [self.shape(prefix + "filters.0.linear.weight", rank)[0] for prefix in prefixes]
        if len(set(hidden)) > 1:
            raise InvalidArgumentError(f"{path!r} has hidden channels {hidden} in its blocks: expected equal numbers")
        layers = []
        for prefix in prefixes:
            found = re.compile(re.escape(prefix) + r"linears\.(\d+)\.weight$")
            layers.append(sum(found.match(key) is not None for key in self.state))
        return SlowNetSpec(hidden=hidden[0], layers=tuple(layers))

    def same_for_locals(self, locals_: int) -> SlowNetSpec:
        nets = [self.net(f"slow_net_l{n}") for n in range(1, locals_ + 1)]
        for n, net in enumerate(nets, start=1):
            if net != nets[0]:
                raise InvalidArgumentError(f"'slow_net_l{n}' is {net}: expected {nets[0]}, as 'slow_net_l1'")
        return nets[0]


def _declaration(state: Mapping[str, Tensor]) -> TerminatorSpec:
    shapes = _Shapes(state)
    default = TerminatorSpec()
    sizes = tuple(shapes.shape("blocks.0.fast_multi_branch.slow_net_g.Kernel.bias_p", 4)[2:])
    branches = sum(not name.startswith("skip") for name in default.concat)
    channels, factors, skips = [], [], []
    for block in range(shapes.blocks):
        prefix = f"blocks.{block}.fast_multi_branch."
        here = shapes.shape(prefix + "channel_mixer_mlp.weight", 4)[0]
        out, concatenated = shapes.shape(prefix + "bottleneck_layer.weight", 4)[:2]
        extra = concatenated // here - branches
        if out % here or concatenated % here or not 0 <= extra <= 2:
            raise InvalidArgumentError(
                f"{prefix + 'bottleneck_layer.weight'!r} has shape ({out}, {concatenated}, 1, 1): expected a multiple "
                f"of {here} channels out, and {here} × {branches} to {branches + 2} channels in"
            )
        channels.append(here)
        factors.append(out // here)
        skips.append(tuple(block - 2 - n for n in range(extra)))
    local = tuple(
        dataclasses.replace(
            branch, kernel_size=shapes.shape(f"blocks.0.fast_multi_branch.slow_net_{branch.name}.Kernel.bias_pk", 4)[2]
        )
        for branch in default.local
    )
    return TerminatorSpec(
        sizes=sizes,
        in_channels=channels[0],
        factors=tuple(factors),
        classes=shapes.shape("out_layer.weight", 2)[0],
        global_net=shapes.net("slow_net_g"),
        local_net=shapes.same_for_locals(len(local)),
        hci_net=shapes.net("channel_mixer_hci.slow_net_gc", rank=3),
        interaction_channel_net=shapes.net("hyper_interact.slow_net_gc_hi", rank=3),
        interaction_spatial_net=shapes.net("hyper_interact.slow_net_gs_hi"),
        local=local,
        skips=tuple(skips),
    )


@examined("state")
def load_released(state: Mapping[str, Tensor | np.ndarray[Any, Any]]) -> Terminator:
    """A model with the parameters of a released checkpoint, in their dtype.

    Sizes, channels, factors, layers, hidden widths, kernel sizes, classes and the number of skips are read off the
    shapes; wiring, concatenation order, skip sources, the twelve groups and dropout (which leaves no trace) are those
    released.

    Args:
        state: released names, in the spelling of the first or of later releases, to tensors or numpy arrays.

    Returns:
        The model on the CPU, in training mode, its parameters copies of the entries.

    Raises:
        InvalidArgumentError: an entry is missing, unexpected, of the wrong shape or of another dtype than the rest;
            a :class:`~tzwc.errors.SpecError` where the sizes contradict each other.
    """
    tensors: dict[str, Tensor] = {}
    if not isinstance(state, Mapping):
        raise InvalidArgumentError(f"state is a {type(state).__name__}: expected a mapping from names to tensors")
    for given, value in state.items():
        key = exact(given)
        name = _first_spelling(key) if isinstance(key, str) else ""
        if not name or name in tensors:
            raise InvalidArgumentError(f"{shown(key)} is no name, or appears in both spellings: expected one of them")
        tensors[name] = _tensor(key, value)
    if not any(key.startswith("blocks.0.") for key in tensors):
        raise InvalidArgumentError(f"released state of {len(tensors)} entries: expected names such as 'blocks.0.bias'")
    dtype = next(iter(tensors.values())).dtype
    for key, tensor in tensors.items():
        if tensor.dtype != dtype or not dtype.is_floating_point:
            expected = dtype if dtype.is_floating_point else "a floating dtype"
            raise InvalidArgumentError(f"{key!r} has dtype {tensor.dtype}: expected {expected} throughout")
    spec = _declaration(tensors)
    declared, stored = parameter_count(spec), sum(tensor.numel() for tensor in tensors.values())
    if declared > 2 * stored + 2**20:  # sizes from several entries, multiplied; of fewer, what is missing is named
        raise InvalidArgumentError(f"released state of {stored:,} numbers: its shapes declare {declared:,} parameters")
    try:
        model = Terminator(spec).to(dtype)
    except (RuntimeError, MemoryError) as error:
        raise InvalidArgumentError(
            f"released state: its entries declare a model that cannot be made: {error}"
        ) from error
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            key = _released_name(name)
            if key not in tensors:
                raise InvalidArgumentError(f"released state lacks {key!r}: expected shape {tuple(parameter.shape)}")
            value = tensors.pop(key)
            if value.shape != parameter.shape:
                raise InvalidArgumentError(
                    f"{key!r} has shape {tuple(value.shape)}: expected {tuple(parameter.shape)}, by the other entries"
                )
            parameter.copy_(value)
    if tensors:
        key, value = next(iter(tensors.items()))
        raise InvalidArgumentError(
            f"released state has {len(tensors)} unexpected entries, such as {key!r} of shape {tuple(value.shape)}"
        )
    return model


def _tensor(key: str, value: object) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise InvalidArgumentError(f"{key!r} is a {type(value).__name__}: expected a tensor or a numpy array")
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{key!r} is an array that torch has no tensor for: {error}") from error


def released_state(model: Terminator) -> dict[str, Tensor]:
    """The parameters of ``model`` under the names of the first release, detached, not copied.

    Raises:
        InvalidArgumentError: the model's local branches are not named as the released ones.
    """
    return {_released_name(name): parameter.detach() for name, parameter in model.named_parameters()}
