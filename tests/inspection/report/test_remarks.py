"""Remarks can be filtered, and measured reports say where the time goes."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.programs import HyperConv, example
from tzwc.ir.remarks import Location, Remark, select
from tzwc.runtime.compiled_module import CompiledModule


@pytest.fixture(scope="module")
def fast() -> CompiledModule:
    made = tzwc.compile(HyperConv().double(), backend="eager")
    with torch.no_grad():
        made(example())
    return made


def test_select() -> None:
    conv = Remark("cse", "applied", "equal_calls", "a", location=Location("blocks.3.conv.slow"))
    head = Remark("cse", "declined", "other", "b", location=Location("head"))
    both = (conv, head)
    assert select(both) == both
    assert select(both, module="blocks") == (conv,)
    assert select(both, module="blocks.*.conv") == (conv,)
    assert select(both, module="block") == ()
    assert select(both, kind="declined", pass_name="cse") == (head,)
    assert select(both, rule="equal*") == (conv,)


def test_a_filtered_report_has_all_forms(fast: CompiledModule) -> None:
    report = fast.report()
    kept = report.filter(pass_name="hoist_static", kind="applied")
    assert kept.all_remarks
    assert {r.pass_name for r in kept.all_remarks} == {"hoist_static"}
    assert len(report.all_remarks) > len(kept.all_remarks)
    assert "select_convolution/choose" not in str(kept)
    assert json.dumps(kept.to_dict())


def test_measured(fast: CompiledModule) -> None:
    before = {name: value.clone() for name, value in fast.state_dict().items()}
    for wanted in (True, example(3), [example()]):
        [info] = fast.report(measure=wanted).specialisations
        assert {"aten.conv1d.default", "aten.gelu.default"} <= {group.name for group in info.measured_operators}
        assert {"enter", "leave"} <= {group.name for group in info.measured_modules}
        assert sum(g.calls for g in info.measured_operators) == sum(g.calls for g in info.measured_modules)
        assert all(group.seconds > 0 for group in info.measured_operators)
    assert all(torch.equal(value, before[name]) for name, value in fast.state_dict().items())
    report = fast.report(measure=True)
    assert "measured by operators" in str(report)
    assert "measured by modules" in report.to_markdown()
    assert report.to_dict()["specialisations"][0]["measured_operators"][0]["seconds"] > 0
    assert not fast.report().specialisations[0].measured_operators


class _Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, indices: Tensor, x: Tensor) -> Tensor:
        return self.table(indices) + x


def test_indices_are_measured_as_well() -> None:
    fast = tzwc.compile(_Embeds(), backend="eager")
    with torch.no_grad():
        fast(torch.tensor([4, 2, 0]), torch.zeros(3))
    [info] = fast.report(measure=True).specialisations
    assert "aten.embedding.default" in {group.name for group in info.measured_operators}
