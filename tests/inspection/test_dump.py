"""Dumps hold what they promise, replace only their own files, and fail with a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.inspection_cases import case
from tzwc.errors import InvalidArgumentError
from tzwc.inspection import SpecialisationInfo, dump, stage_from_dict
from tzwc.inspection.load import pairs


def _info(name: str = "no grad: x[s0, 3]/cpu") -> SpecialisationInfo:
    it = case("mode")
    return SpecialisationInfo(name, stages=tuple(it.stages), slots=it.slots, root=it.root)


def test_a_dump_has_every_stage_in_every_form(tmp_path: Path) -> None:
    written = dump(tmp_path / "out", [_info()])
    folder = tmp_path / "out" / "no_grad_x_s0_3_cpu"
    stems = ["00_capture", "01_nothing", "02_swap_factors"]
    names = {f"{stem}.{kind}" for stem in stems for kind in ("py", "json", "dot")}
    names |= {"remarks.json", "model_explorer.json", "report.txt", "report.md", "report.json"}
    assert {path.name for path in folder.iterdir()} == names
    reports = {"report.txt", "report.md", "report.json", "report.html"}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, *reports}
    assert set(written) == {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    namespace: dict[str, object] = {}
    exec((folder / "02_swap_factors.py").read_text(), namespace)
    assert callable(namespace["forward"])
    assert stage_from_dict(json.loads((folder / "00_capture.json").read_text())).name == "capture"
    assert json.loads((folder / "remarks.json").read_text())[0]["rule"] == "swap"


def test_foreign_files_stay_and_own_files_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "report.txt").write_text("old")
    dump(tmp_path, [_info("a")])
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "report.txt").read_text().startswith("tzwc report")
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_what_has_no_json_form_does_not_stop_the_dump(tmp_path: Path) -> None:
    from torch import fx

    from tzwc.inspection import Stage

    graph = fx.Graph()
    drawn = graph.call_function(torch.ops.aten.rand.generator, ([2],), {"generator": torch.Generator()})
    graph.output(drawn)
    dump(tmp_path, [SpecialisationInfo("a", stages=(Stage("capture", graph, (), 0.0),))])
    assert "Generator" in json.loads((tmp_path / "a" / "00_capture.json").read_text())["error"]
    assert "value_Generator = None" in (tmp_path / "a" / "00_capture.py").read_text()


def test_unusable_directories_are_refused(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    for directory in (taken, taken / "below", "/proc/nothing"):
        with pytest.raises(InvalidArgumentError, match=r"directory='.*expected a directory"):
            dump(directory, [_info()])
    assert taken.read_text() == ""


def test_two_specialisations_need_two_names(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="unique"):
        dump(tmp_path, [_info("a b"), _info("a/b")])
    assert list(tmp_path.iterdir()) == []


def test_dumps_of_different_calls_have_nothing_to_compare(tmp_path: Path) -> None:
    for name in ("a", "b"):
        dump(tmp_path / name, [_info(f"only {name}")])
    with pytest.raises(InvalidArgumentError, match=r"no specialisation in common: \['only_a'\] and \['only_b'\]"):
        list(pairs(tmp_path / "a", str(tmp_path / "b"), None))
    assert [name for name, *_ in pairs(tmp_path / "a", str(tmp_path / "a"), None)] == ["only_a"]
