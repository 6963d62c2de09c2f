"""A checkpoint of any bytes or metadata is one that can be used, or a documented error; nothing is unpickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from tests.support.checkpoint_files import trainer, valid
from tests.support.examples import examples
from tests.support.hostile_input import answer, damaged, data, mutated
from tzwc.errors import TzwcError
from tzwc.training import Checkpoint, CheckpointError
from tzwc.training.prediction import predict


def metadata() -> dict[str, Any]:
    length = int.from_bytes(valid()[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(valid()[8 : 8 + length])["__metadata__"]["tzwc"])
    return found


def used(path: Path) -> None:
    """Load, build the model, predict and go on."""
    saved = answer(lambda: Checkpoint.load(path))
    if isinstance(saved, TzwcError):
        assert isinstance(saved, CheckpointError)
        assert str(path) in str(saved)
        return
    array = path.with_suffix(".npy")
    np.save(array, np.zeros((4, 4), np.float32))
    answer(lambda: predict(saved, [array]))
    resumed = trainer()
    if not isinstance(answer(lambda: resumed.resume(saved)), TzwcError):
        resumed.fit(steps=min(saved.step + 1, resumed.steps))


@settings(max_examples=examples(12))
@given(st.data())
def test_damaged_bytes(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    path.write_bytes(draw.draw(damaged(valid(), [pickle.dumps({"a": 1})])))
    used(path)


@settings(max_examples=examples(12))
@given(st.data())
def test_mutated_metadata(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    found = draw.draw(mutated(metadata(), data))
    path.write_bytes(save_tensors(load_tensors(valid()), {"tzwc": json.dumps(found)}))
    used(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", '{"format": "tzwc-training-1"}', "null", "1e999"])
def test_foreign_metadata(tmp_path: Path, text: str) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(save_tensors(load_tensors(valid()), {"tzwc": text}))
    assert isinstance(answer(lambda: Checkpoint.load(path)), CheckpointError)


@settings(max_examples=examples(12))
@given(st.data())
def test_mutated_tensors(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    tensors: dict[str, Tensor] = load_tensors(valid())
    for name in draw.draw(st.lists(st.sampled_from([*tensors]), min_size=1, max_size=2, unique=True)):
        what = draw.draw(st.sampled_from(["remove", "rename", "shape", "dtype", "nan", "empty"]))
        value = tensors.pop(name)
        if what == "rename":
            tensors[name + ".x"] = value
        elif what == "shape":
            tensors[name] = value.flatten()[:1].clone()
        elif what == "dtype":
            tensors[name] = value.to(
                draw.draw(st.sampled_from([torch.complex64, torch.bool, torch.int8, torch.float16]))
            )
        elif what == "nan":
            tensors[name] = torch.full_like(value, 255 if value.dtype == torch.uint8 else float("nan"))
        elif what == "empty":
            tensors[name] = value.new_empty(0)
    path.write_bytes(save_tensors(tensors, {"tzwc": json.dumps(metadata())}))
    used(path)
