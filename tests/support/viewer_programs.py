"""Graphs written by hand, as stages of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from tzwc.inspection import Report, SpecialisationInfo, Stage
from tzwc.ir.remarks import Remark

Build = Callable[[fx.Graph], Any]


def graph(build: Build) -> fx.Graph:
    """A graph that returns what ``build`` does."""
    made = fx.Graph()
    made.output(build(made))
    return made


def stages(*builds: Build, remarks: Mapping[int, tuple[Remark, ...]] | None = None) -> tuple[Stage, ...]:
    """Stages ``s0``, ``s1``… with these graphs."""
    spoken = remarks or {}
    return tuple(Stage(f"s{i}", graph(build), spoken.get(i, ()), 0.001 * i) for i, build in enumerate(builds))


def report(*made: Stage, **facts: Any) -> Report:
    """A report on one specialisation."""
    return Report("model", (SpecialisationInfo("00-inference", stages=made, **facts),))


def call(graph: fx.Graph, name: str, target: Any, *args: Any, **meta: Any) -> fx.Node:
    """A call node with a name and metadata."""
    node = graph.create_node("call_function", target, args, name=name)
    node.meta.update(meta)
    return node


aten = torch.ops.aten
