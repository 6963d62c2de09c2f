"""What the page is told about nodes, changes, candidates and kernels."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import fx

from tests.support.inspection_cases import case
from tests.support.viewer_programs import aten, call, report, stages
from tzwc.inspection.records import CachedValueInfo
from tzwc.inspection.viewer import page_data
from tzwc.inspection.viewer.candidates import choices
from tzwc.inspection.viewer.modules import CROWDED
from tzwc.inspection.viewer.pictures import CHANNELS, pictures
from tzwc.ir.remarks import Location, Remark


def _data(*made: Any, **facts: Any) -> dict[str, Any]:
    data = page_data(report(*made, **facts))
    json.dumps(data, allow_nan=False)
    return data


def _nodes(data: dict[str, Any], stage: int = -1) -> dict[str, dict[str, Any]]:
    """The records of a stage by name, with texts in place of their numbers, as the page reads them."""
    one = data["specialisations"][0]
    found = {}
    for number in one["stages"][stage]["records"]:
        record = dict(zip(data["fields"], one["records"][number], strict=True))
        record.update({field: one["strings"][record[field]] for field in data["texts"]})
        record["operands"] = [one["strings"][operand] for operand in record["operands"]]
        record["module"] = one["modules"]["paths"][record["module"]]
        found[record["name"]] = record
    return found


def test_every_node_of_every_stage_with_its_facts() -> None:
    it = case("layers_eval")
    data = _data(*it.stages, slots=it.slots, root=it.root)
    for stage, made in enumerate(it.stages):
        assert list(_nodes(data, stage)) == [node.name for node in made.graph.nodes]
    conv = _nodes(data)["conv2d"]
    assert conv["module"] == "features.0"
    assert conv["target"] == "aten.conv2d.padding"
    assert conv["operands"][0] == "x"
    assert conv["value"].startswith("f32[")
    assert conv["call"].startswith("aten.conv2d.padding(x, ")
    assert conv["file"].endswith("cases.py")
    assert conv["code"] == "return self.head(self.dropout(self.features(x)).mean((2, 3)))"
    assert conv["seconds"] > 0
    assert conv["flops"] > 0
    weight = next(record for record in _nodes(data).values() if record["slot"] == "head.weight")
    assert weight["module"] == "head"


def test_records_are_shared_by_stages_that_agree() -> None:
    it = case("indexing")
    first, second = _data(*it.stages)["specialisations"][0]["stages"][:2]
    assert first["records"] == second["records"]


def test_looking_leaves_symbolic_sizes_symbolic() -> None:
    it = case("layers_eval")
    before = [
        str(node.meta["val"].shape) for node in it.stages[0].graph.nodes if hasattr(node.meta.get("val"), "shape")
    ]
    _data(*it.stages, slots=it.slots, root=it.root)
    after = [str(node.meta["val"].shape) for node in it.stages[0].graph.nodes if hasattr(node.meta.get("val"), "shape")]
    assert any("s" in shape for shape in after)
    assert before == after


def _fused(graph: fx.Graph) -> fx.Node:
    x = graph.placeholder("x")
    gate = call(graph, "gate", aten.sigmoid.default, x, tzwc_made_by="fuse/gate")
    return call(graph, "result", aten.relu.default, gate)


def _unfused(graph: fx.Graph) -> fx.Node:
    x = graph.placeholder("x")
    inner = call(graph, "inner", aten.neg.default, x)
    outer = call(graph, "outer", aten.exp.default, inner)
    return call(graph, "result", aten.relu.default, outer)


def test_a_replacement_is_what_the_users_read_now() -> None:
    changes = _data(*stages(_unfused, _fused))["specialisations"][0]["stages"][1]["changes"]
    assert changes == {
        "removed": {"inner": "", "outer": "gate"},
        "added": {"gate": "outer"},
        "altered": ["result"],
        "kept": [],
    }


def test_a_duplicate_is_replaced_by_what_was_there() -> None:
    def twice(graph: fx.Graph) -> fx.Node:
        x = graph.placeholder("x")
        a, b = (call(graph, name, aten.exp.default, x) for name in "ab")
        return call(graph, "sum", aten.add.Tensor, a, b)

    def once(graph: fx.Graph) -> fx.Node:
        a = call(graph, "a", aten.exp.default, graph.placeholder("x"))
        return call(graph, "sum", aten.add.Tensor, a, a)

    changes = _data(*stages(twice, once))["specialisations"][0]["stages"][1]["changes"]
    assert changes["removed"] == {"b": "a"}
    assert changes["added"] == {}


def test_newly_kept_and_newly_classified_nodes_are_not_altered() -> None:
    def plain(graph: fx.Graph) -> fx.Node:
        return call(graph, "a", aten.exp.default, graph.placeholder("x"))

    def kept(graph: fx.Graph) -> fx.Node:
        return call(graph, "a", aten.exp.default, graph.placeholder("x"), tzwc_cached=True, tzwc_binding="static")

    data = _data(*stages(plain, kept))
    assert data["specialisations"][0]["stages"][1]["changes"] == {
        "removed": {},
        "added": {},
        "altered": [],
        "kept": ["a"],
    }
    assert _nodes(data)["a"]["binding"] == "static"


def test_a_crowded_module_is_divided_by_source_line() -> None:
    def long(graph: fx.Graph) -> fx.Node:
        x = graph.placeholder("x")
        for i in range(CROWDED + 1):
            x = call(graph, f"n{i}", aten.exp.default, x, stack_trace=f'File "/a/m.py", line {i % 3}, in f\n  y')
        return x

    paths = _data(*stages(long))["specialisations"][0]["modules"]["paths"]
    assert paths == ["", "m.py:0", "m.py:1", "m.py:2"]


def test_candidates_are_read_from_the_numbers_of_remarks() -> None:
    numbers = {"choice": "fft", "native_us": 9.5, "fft_us": 3, "fft_measured_us": 2.5, "bytes": 4}
    remarks = [Remark("p", "note", "r", "nothing"), Remark("p", "applied", "choose", "because", numbers=numbers)]
    assert choices(remarks) == [
        {
            "remark": 1,
            "choice": "fft",
            "candidates": {"native": {"predicted": 9.5}, "fft": {"predicted": 3.0, "measured": 2.5}},
        }
    ]


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (torch.randn(1, 40, 5, 7), (CHANNELS, 5, 7)),
        (torch.randn(1, 2, 100, 3), (2, 64, 3)),
        (torch.randn(1, 3, 2000), (3, 1, 1024)),
        (torch.randn(1, 3, 9, dtype=torch.complex64), (3, 1, 9)),
        (torch.tensor([[[float("inf"), float("nan"), 1.0]]]), (1, 1, 3)),
        (torch.zeros(1, 1, 4, dtype=torch.bfloat16), (1, 1, 4)),
    ],
)
def test_kernels_become_bytes(value: torch.Tensor, shape: tuple[int, int, int]) -> None:
    info = CachedValueInfo("k", "f32", 4, location=Location("blocks.1.net.output"))
    [picture] = pictures([info], [value])
    assert picture["block"] == "blocks.1"
    assert (picture["shown"], picture["height"], picture["width"]) == shape
    data = base64.b64decode(picture["data"])
    assert len(data) == shape[0] * shape[1] * shape[2]
    if value.isfinite().all() and value[0, : shape[0]].numel() == len(data) and not value.is_complex():
        step = (picture["high"] - picture["low"]) / 255
        back = torch.tensor(list(data)) * step + picture["low"]
        expected = value.float()[0, : shape[0]].flatten()
        assert (back - expected).abs().max() <= step / 2 + 1e-6  # rounding to one of 256 values


def test_what_has_no_taps_is_no_kernel() -> None:
    info = CachedValueInfo("k", "f32", 4)
    values = [torch.ones(3, 4), torch.ones(1, 3, 1, 1), torch.tensor(1.0), torch.ones(1, 0, 3)]
    assert pictures([info] * 4, values) == []
    assert pictures([info], []) == []


def test_kept_values_of_a_real_model(fast: Any) -> None:
    [one] = page_data(fast.report())["specialisations"]
    blocks = {picture["block"] for picture in one["pictures"]}
    assert blocks == {"blocks.0", "blocks.1"}
    assert {picture["node"] for picture in one["pictures"]} <= {value["node"] for value in one["frontier"]}


def test_a_report_holds_no_tensors(fast: Any) -> None:
    report = fast.report()
    assert "kept_values" not in json.dumps(report.to_dict())
    bare = dataclasses.replace(report.specialisations[0], kept_values=None)
    assert bare == report.specialisations[0]
