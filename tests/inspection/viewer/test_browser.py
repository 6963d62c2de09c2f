"""The page as a person uses it: by clicking, in a browser, without one error on its console."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_report import hostile_report
from tests.support.viewer_programs import aten, call, report, stages
from tzwc.inspection import Report
from tzwc.inspection.viewer import render_page

pytestmark = pytest.mark.browser

Visit = Callable[..., Any]


def _boxes(page: Any) -> int:
    return int(page.get_attribute("body", "data-boxes"))


def _stage(page: Any, name: str) -> None:
    page.locator("#timeline button", has=page.get_by_text(name, exact=True)).click()
    page.wait_for_function("name => document.querySelector('#details h2').textContent === name", arg=name)


def test_it_opens_collapsed_with_both_sides(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    assert page.locator("svg.pane").count() == 2
    assert page.locator("#timeline li").count() >= 6
    assert 3 <= _boxes(page) <= 40
    assert "Terminator" in page.inner_text("h1")


def test_modules_open_and_close_where_they_are(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    before = _boxes(page)
    module = page.locator("svg[data-side=after] g.module:not(.open)").first
    place, number = module.bounding_box(), module.get_attribute("data-id")
    module.click()
    page.wait_for_function("before => Number(document.body.dataset.boxes) > before", arg=before)
    opened = page.locator(f"svg[data-side=after] g[data-id='{number}']")
    assert "open" in opened.get_attribute("class").split()
    assert abs(opened.locator("> .frame").bounding_box()["x"] - place["x"]) < 3
    assert page.inner_text("#details .kind").lower() == "module"
    opened.locator(".header").click(position={"x": 30, "y": 8})
    page.wait_for_function("before => Number(document.body.dataset.boxes) === before", arg=before)


def test_search_leads_to_a_node_with_source_and_history(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    _stage(page, "fuse_hyperzzw")
    page.keyboard.press("/")
    page.keyboard.type("hyperzzw_gate")
    page.wait_for_selector("#results .match")
    page.locator("#results .match").first.click()
    page.wait_for_selector("svg[data-side=after] g.node.selected")
    details = page.inner_text("#details")
    assert "fuse_hyperzzw/gate" in details
    assert "made by fuse_hyperzzw/gate" in details
    assert ".py:" in page.inner_text("#details .source")
    assert "hyperzzw_gate(" in page.inner_text("#details .call")
    assert "in place of mul" in " ".join(details.split())
    assert "hyperzzw_gate(k, z)" in details  # the rule's remark
    assert page.locator("svg[data-side=after] path.tie.in").count() >= 1
    page.locator(".history button.link:not(.stage)").first.click()
    page.wait_for_function("document.querySelector('#details .kind').textContent.includes('replaced')")
    assert page.locator("svg[data-side=before] g.node.selected").count() == 1
    page.locator(".history button.stage", has_text="capture").first.click()
    page.wait_for_selector("#timeline li:first-child button[aria-current=true]")


def test_changes_are_marked_and_walked_through(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    _stage(page, "fuse_hyperzzw")
    page.click("#show-changes")
    page.wait_for_selector("svg[data-side=after] g.node.replacement")
    assert page.locator("svg[data-side=before] g.node.replaced:not(.absent)").count() >= 1
    assert page.locator("svg[data-side=before] g.node.replacement.absent").count() >= 1
    page.click("#next-change")
    page.wait_for_selector("g.node.selected")
    first = page.inner_text("#details h2")
    page.keyboard.press("n")
    page.wait_for_function("first => document.querySelector('#details h2').textContent !== first", arg=first)
    page.click("#close-all")
    page.wait_for_selector("g.module:not(.open) .badge.added")


def test_the_frontier_is_marked(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    _stage(page, "hoist_static")
    page.click("#show-changes")
    page.wait_for_selector("svg[data-side=after] g.node.kept circle.pin")
    assert page.locator("svg[data-side=after] path.line.kept").count() >= 1
    page.click("#next-change")
    page.wait_for_selector(".keptbox")
    assert "renewed when" in page.inner_text("#details")
    page.locator("#with-slots").check()
    page.wait_for_selector("g.node.placeholder.static")


def test_panes_move_together(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    transforms = "[...document.querySelectorAll('.world')].map((world) => world.getAttribute('transform'))"
    start = page.evaluate(transforms)
    box = page.locator("svg[data-side=before]").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + box["height"] - 30)
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"start => ({transforms})[0] !== start", arg=start[0])
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + box["height"] - 90, steps=4)
    page.mouse.up()
    moved = page.evaluate(transforms)
    assert moved[0] == moved[1] != start[0]
    page.keyboard.press("f")
    assert page.evaluate(transforms) == start
    page.locator("#side-by-side").uncheck()
    page.wait_for_function("document.querySelectorAll('svg.pane').length === 1")


def test_remarks_are_filtered_and_lead_to_nodes(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    page.click("[data-tab=remarks]")
    rows = page.locator("#remarks tbody tr")
    everything = rows.count()
    page.select_option("#filter-pass", "fuse_hyperzzw")
    assert 0 < rows.count() < everything
    page.fill("#filter-text", "hyperzzw_dot")
    page.wait_for_function("before => document.querySelectorAll('#remarks tbody tr').length < before", arg=rows.count())
    assert page.inner_text("#remark-count").startswith(f"{rows.count()} of {everything} ")
    rows.first.locator("button.link").first.click()
    page.wait_for_selector("g.node.selected")
    assert "fuse_hyperzzw" in page.inner_text("#timeline button[aria-current=true]")


def test_candidates_kernels_and_kept_values(visit: Visit, dumped: Path) -> None:
    page = visit(dumped / "report.html")
    page.click("[data-tab=convolutions]")
    assert page.locator(".choice .candidate.chosen").count() == page.locator(".choice").count() > 0
    page.click("[data-tab=kernels]")
    assert page.locator(".block").count() == 2
    drawn = """canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"""
    assert page.locator("canvas.map").first.evaluate(drawn) > 10
    page.click("[data-tab=kept]")
    page.locator("#kept tbody button.link").first.click()
    page.wait_for_selector(".keptbox")


def test_hostile_texts_are_only_shown(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render_page(hostile_report()), encoding="utf-8")
    page = visit(tmp_path / "page.html")
    for tab in ("remarks", "kept", "kernels", "convolutions", "graph"):
        page.click(f"[data-tab={tab}]")
    page.click("#open-all")
    page.locator("g.node").first.click()
    assert page.evaluate("window.broken") is None
    assert "</script>" in page.inner_text("h1")


@pytest.mark.parametrize("case", ["no call yet", "not captured", "one stage"])
def test_little_to_show(case: str, visit: Visit, tmp_path: Path) -> None:
    made = {
        "no call yet": Report("model", notes=("Call the module once.",)),
        "not captured": report(),
        "one stage": report(*stages(lambda graph: call(graph, "a", aten.exp.default, graph.placeholder("x")))),
    }[case]
    (tmp_path / "page.html").write_text(render_page(made), encoding="utf-8")
    page = visit(tmp_path / "page.html")
    assert page.locator("svg.pane").count() == (case == "one stage")
