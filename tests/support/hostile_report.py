"""A report whose names are HTML and scripts."""

from __future__ import annotations

from tests.support.viewer_programs import aten, call, report, stages
from tzwc.inspection import Report
from tzwc.ir.remarks import Location, Remark

HOSTILE = "</script><script>window.broken = 1</script><!--<script>\u2028'\"&%%SCRIPT%%\udcff"


def hostile_report() -> Report:
    """A report in which every text tries to break out."""
    where = {"stack_trace": f'File "/{HOSTILE}.py", line 1, in f\n  {HOSTILE}', "tzwc_made_by": HOSTILE}

    def build(graph: object) -> object:
        x = graph.placeholder("x")  # type: ignore[attr-defined]
        stack = {"": (HOSTILE, "")}
        return call(graph, "a", aten.exp.default, x, nn_module_stack=stack, **where)  # type: ignore[arg-type]

    remark = Remark(
        "s0", "applied", HOSTILE, HOSTILE, ("a",), Location(HOSTILE, HOSTILE, 1, HOSTILE), {HOSTILE: HOSTILE}
    )
    made = report(*stages(build, build, remarks={1: (remark,)}), key={HOSTILE: HOSTILE})
    return Report(HOSTILE, made.specialisations, (remark,), (HOSTILE,), {"torch": HOSTILE})
