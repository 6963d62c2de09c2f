"""What the compiler did, in forms for people and for programs: Python text, JSON, DOT, networkx, reports and diffs."""

from __future__ import annotations

from tzwc.inspection.diff import diff
from tzwc.inspection.dump import dump
from tzwc.inspection.formats.dot import to_dot
from tzwc.inspection.formats.json_graph import graph_from_dict, graph_to_dict
from tzwc.inspection.formats.networkx_graph import to_graphml, to_networkx
from tzwc.inspection.formats.svg import to_svg
from tzwc.inspection.records import CachedValueInfo, CacheStatistics, CaptureInfo, MeasuredGroup, SpecialisationInfo
from tzwc.inspection.report.report import Report
from tzwc.inspection.stage import Stage, stage_from_dict, stage_to_dict
from tzwc.inspection.text.python_source import PythonText, render_python, to_python

__all__ = [
    "CacheStatistics",
    "CachedValueInfo",
    "CaptureInfo",
    "MeasuredGroup",
    "PythonText",
    "Report",
    "SpecialisationInfo",
    "Stage",
    "diff",
    "dump",
    "graph_from_dict",
    "graph_to_dict",
    "render_python",
    "stage_from_dict",
    "stage_to_dict",
    "to_dot",
    "to_graphml",
    "to_networkx",
    "to_python",
    "to_svg",
]
