"""Checkpoints: one safetensors file with parameters, their average, the optimiser's state, and the declaration.

Nothing is pickled: tensors are tensors, everything else is JSON in the file's metadata. A file is written beside its
place and moved there, so that it is always a whole one.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tzwc.data import Dataset, Normalisation
from tzwc.errors import TzwcError
from tzwc.models import Terminator, TerminatorSpec
from tzwc.training.logs import Row
from tzwc.training.metadata import check_mates, check_metadata, check_size, read_header, read_normalisation
from tzwc.training.recipe import Recipe
from tzwc.util.paths import as_path, is_folder, read_whole
from tzwc.util.system_memory import memory_of

__all__ = ["Checkpoint", "CheckpointError", "optimizer_state", "prepare", "restore_optimizer"]

FORMAT = "tzwc-training-1"

_UNREADABLE = (AssertionError, AttributeError, KeyError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""What reading tensors and JSON raises besides the errors of safetensors, of dtypes that torch has not for example."""


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
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # a full disk, or a second Ctrl-C

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file, or the checkpoint ``last.safetensors`` of a folder.

        Raises:
            CheckpointError: there is none, it is damaged, or something else wrote it.
            InvalidArgumentError: ``path`` is no path.
        """
        path = as_path(path)
        path = path / "last.safetensors" if is_folder(path) else path
        package = _safetensors()
        try:
            # Not safe_open, which maps the file: a tensor would change with it, and end the process when it is cut.
            content = read_whole(path, memory_of(torch.device("cpu")) or sys.maxsize)
            tensors: dict[str, Tensor] = package.torch.load(content)
            metadata = json.loads(read_header(content).get("tzwc", "null"))
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such checkpoint; give what 'tzwc train' wrote, or its folder") from error
        except (package.SafetensorError, *_UNREADABLE) as error:
            raise CheckpointError(f"{path}: not a whole safetensors file ({error}); take an earlier copy") from error
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: holds no {FORMAT!r} metadata; expected a file that 'tzwc train' wrote")

        def group(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}

        try:
            check_metadata(metadata)
            normalisation = read_normalisation(metadata["normalisation"])
            spec = None if metadata["spec"] is None else TerminatorSpec.from_dict(metadata["spec"])
            check_mates(tensors["mates"], normalisation, None if spec is None else (spec.in_channels, *spec.sizes))
            return cls(
                recipe=Recipe.from_dict(metadata["recipe"]),
                data=metadata["data"],
                normalisation=normalisation,
                step=metadata["step"],
                spec=spec,
                parameters=group("parameters"),
                average=group("average"),
                optimizer=(group("optimizer"), metadata["optimizer"]),
                running=metadata["running"],
                seconds=metadata["seconds"],
                history=metadata["history"],
                mates=tensors["mates"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: its metadata are not those of {FORMAT!r}: {error}") from error

    def check(self, recipe: Recipe, data: Dataset, model: nn.Module) -> None:
        """Check that training ``model`` on ``data`` can go on from here.

        Raises:
            CheckpointError: other data, another recipe or another model; the first difference is named.
        """
        differing = [k for k, v in recipe.to_dict().items() if self.recipe.to_dict()[k] != v]
        for name in differing:
            was, now = getattr(self.recipe, name), getattr(recipe, name)
            raise CheckpointError(f"{name} = {now!r}: the checkpoint was made with {was!r}; give that, or start anew")
        if self.data != data.name:
            raise CheckpointError(f"data = {data.name!r}: the checkpoint was made with {self.data!r}")
        if not torch.equal(self.mates, data.train.inputs[: recipe.batch]):
            raise CheckpointError(f"data = {data.name!r}: the checkpoint was made with other samples of that name")
        if isinstance(model, Terminator) and self.spec != model.spec:
            raise CheckpointError("spec: the checkpoint holds another model; start from its own declaration")
        averaged = {} if recipe.ema is None else dict(model.named_parameters())
        for title, mine, saved in (
            ("parameters", model.state_dict(), self.parameters),
            ("average", averaged, self.average),
        ):
            shapes = [{name: tuple(value.shape) for name, value in group.items()} for group in (mine, saved)]
            if shapes[0] != shapes[1]:
                first = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
                raise CheckpointError(f"{title}/{first}: the checkpoint holds another model")

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
            check_size(self.spec, stored)
            model = Terminator(self.spec).to(self.recipe.dtype)
            model.load_state_dict(stored)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"parameters and declaration do not belong together: {error}") from error
        return model


def prepare(folder: Path) -> None:
    """Make sure now that a checkpoint can be written there, rather than when the first epoch is done.

    Raises:
        CheckpointError: the folder cannot be made or written to, or the package safetensors is missing.
    """
    _safetensors()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint can be written there ({error.strerror})") from error


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
        CheckpointError: it belongs to an optimiser of another kind, or to another model.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in rest["values"].items()}
    groups = []
    try:
        for name, tensor in tensors.items():
            index, key = name.split("/", 1)
            state.setdefault(int(index), {})[key] = tensor
        _check_state(optimizer, state)
        for fresh, saved in zip(optimizer.state_dict()["param_groups"], rest["groups"], strict=True):
            # JSON has no tuples.
            groups.append({k: tuple(v) if isinstance(fresh.get(k), tuple) else v for k, v in saved.items()})
            differing = [k for k in fresh.keys() | saved.keys() if k != "lr" and groups[-1].get(k) != fresh.get(k)]
            if differing:
                raise ValueError(f"{differing[0]} is {saved.get(differing[0])!r}, not {fresh.get(differing[0])!r}")
            groups[-1]["lr"] = float(saved["lr"])
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the optimiser's saved state belongs to another model: {error}") from error
    for name, tensor in tensors.items():
        index, key = name.split("/", 1)
        loaded = optimizer.state[parameters[int(index)]]
        # It has given everything the parameters' dtype; NAdam keeps a product in float32, whatever they are.
        loaded[key] = tensor.to(loaded[key].device)


def _check_state(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise unless ``state`` is what a step of ``optimizer`` leaves behind, by the names and shapes of its entries."""
    twin = copy.deepcopy(optimizer)
    parameters = [parameter for group in twin.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    twin.step()
    for index, entries in state.items():
        expected = twin.state[parameters[index]]
        if entries.keys() != expected.keys():
            raise ValueError(f"parameter {index} has the entries {sorted(entries)}, not {sorted(expected)}")
        for name, entry in entries.items():
            found, wanted = (x.shape if isinstance(x, Tensor) else None for x in (entry, expected[name]))
            if found != wanted:
                raise ValueError(f"{name} of parameter {index} has the shape {found}, not {wanted}")


def _safetensors() -> Any:
    """The package, which only training needs."""
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise CheckpointError("checkpoints are safetensors files: pip install 'tzwc[train]'") from error
    return safetensors
