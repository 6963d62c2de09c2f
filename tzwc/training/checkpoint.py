"""Checkpoints: one safetensors file with parameters, their average, the optimiser's state, and the declaration.

Nothing is pickled: tensors are tensors, everything else is JSON in the file's metadata. A file is written beside its
place and moved there, so that it is always a whole one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tzwc.data import Normalisation
from tzwc.errors import InvalidArgumentError, TzwcError
from tzwc.models import Terminator, TerminatorSpec
from tzwc.paths import is_folder
from tzwc.training.checks import check_metadata, check_size, read_normalisation
from tzwc.training.logs import Row
from tzwc.training.recipe import Recipe

__all__ = ["Checkpoint", "CheckpointError", "optimizer_state", "restore_optimizer"]

FORMAT = "tzwc-training-1"


class CheckpointError(TzwcError):
    """A checkpoint is missing, damaged or of another kind; the message names the file and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to go on, or to use the model.

    Attributes:
        recipe: how it is trained.
        data: name of the data set.
        normalisation: of its inputs.
        step: steps done.
        spec: the model's declaration; ``None`` for a model that is no Terminator.
        parameters: by name.
        average: moving average by name; empty without one.
        optimizer: as :func:`optimizer_state` gives it: tensors, and what JSON can hold.
        running: what has been added up in the epoch that has begun.
        seconds: spent in training, without evaluation.
        history: a row for each finished epoch.
        mates: some training inputs as they are in the data set, ``(n c …)``: a model that standardises over its batch
            answers for a single sample in their company.
    """

    recipe: Recipe
    data: str
    normalisation: Normalisation
    step: int
    spec: TerminatorSpec | None
    parameters: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: tuple[Mapping[str, Tensor], Any]
    running: Mapping[str, float]
    seconds: float
    history: list[Row]
    mates: Tensor
    format: str = field(default=FORMAT, init=False)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            CheckpointError: the package safetensors is missing.
        """
        package = _safetensors()
        groups = {"parameters": self.parameters, "average": self.average, "optimizer": self.optimizer[0]}
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group, named in groups.items()
            for name, tensor in named.items()
        }
        tensors["mates"] = self.mates.contiguous()
        metadata = {
            "format": self.format,
            "spec": None if self.spec is None else self.spec.to_dict(),
            "recipe": self.recipe.to_dict(),
            "data": self.data,
            "normalisation": [self.normalisation.mean, self.normalisation.std],
            "step": self.step,
            "optimizer": self.optimizer[1],
            "running": dict(self.running),
            "seconds": self.seconds,
            "history": self.history,
        }
        content: bytes = package.torch.save(tensors, metadata={"tzwc": json.dumps(metadata)})
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file, or the checkpoint ``last.safetensors`` of a folder.

        Raises:
            CheckpointError: there is none, it is damaged, or something else wrote it.
        """
        path = path / "last.safetensors" if is_folder(path) else path
        package = _safetensors()
        try:
            with package.safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get("tzwc", "null"))
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such checkpoint; give what 'tzwc train' wrote, or its folder") from error
        except (package.SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: not a whole safetensors file ({error}); take an earlier copy") from error
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: holds no {FORMAT!r} metadata; expected a file that 'tzwc train' wrote")

        def group(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}

        try:
            check_metadata(metadata, tensors["mates"])
            return cls(
                recipe=Recipe.from_dict(metadata["recipe"]),
                data=metadata["data"],
                normalisation=read_normalisation(metadata["normalisation"], tensors["mates"].shape[1]),
                step=metadata["step"],
                spec=None if metadata["spec"] is None else TerminatorSpec.from_dict(metadata["spec"]),
                parameters=group("parameters"),
                average=group("average"),
                optimizer=(group("optimizer"), metadata["optimizer"]),
                running=metadata["running"],
                seconds=metadata["seconds"],
                history=metadata["history"],
                mates=tensors["mates"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: its metadata are not those of {FORMAT!r}: {error}") from error

    def model(self) -> Terminator:
        """The model with its averaged parameters, or the last ones where none were averaged.

        Raises:
            CheckpointError: it is no Terminator, or parameters are missing.
        """
        if self.spec is None:
            raise CheckpointError(
                "the checkpoint holds no declaration: its model is no Terminator; build it, and load parameters"
            )
        stored = dict(self.average or self.parameters)
        try:
            check_size(self.spec, stored, self.mates)
            model = Terminator(self.spec).to(self.recipe.dtype)
            model.load_state_dict(stored)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"parameters and declaration do not belong together: {error}") from error
        return model


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """The state as named tensors, and the rest as JSON knows it."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{key}"] = value
            else:
                values.setdefault(str(index), {})[key] = value
    return tensors, {"values": values, "groups": state["param_groups"]}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Any) -> None:
    """The inverse of :func:`optimizer_state`, on a new optimiser of the same kind.

    Raises:
        InvalidArgumentError: it is of another kind, or of other parameters.
    """
    try:
        _restore_optimizer(optimizer, tensors, rest)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"optimizer: its saved state belongs to another model: {error}") from error


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Any) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in rest["values"].items()}
    for name, tensor in tensors.items():
        index, key = name.split("/", 1)
        if tensor.ndim and tensor.shape != parameters[int(index)].shape:
            raise ValueError(f"{key} has shape {tuple(tensor.shape)}")
        state.setdefault(int(index), {})[key] = tensor
    if len({frozenset(entries) for entries in state.values()}) > 1:
        raise ValueError("it has other entries for some parameters than for others")
    groups = []
    for fresh, saved in zip(optimizer.state_dict()["param_groups"], rest["groups"], strict=True):
        # JSON has no tuples.
        groups.append({k: tuple(v) if isinstance(fresh.get(k), tuple) else v for k, v in saved.items()})
        differing = [k for k in fresh.keys() | saved.keys() if k != "lr" and groups[-1].get(k) != fresh.get(k)]
        if differing:
            raise ValueError(f"{differing[0]} is {saved.get(differing[0])!r}, expected {fresh.get(differing[0])!r}")
        groups[-1]["lr"] = float(saved["lr"])
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _safetensors() -> Any:
    """The package, which only training needs."""
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise CheckpointError("checkpoints are safetensors files: pip install 'tzwc[train]'") from error
    return safetensors
