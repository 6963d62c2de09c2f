"""What the compiler did, in forms for people and for programs: Python text, JSON, DOT, networkx, reports and diffs."""

from __future__ import annotations

from tzwc.inspection.diff import diff
from tzwc.inspection.dot import to_dot
from tzwc.inspection.dump import dump
from tzwc.inspection.model import CachedValueInfo, CacheStatistics, CaptureInfo, MeasuredGroup, SpecialisationInfo
from tzwc.inspection.networks import to_graphml, to_networkx
from tzwc.inspection.report import Report
from tzwc.inspection.serialize import graph_from_dict, graph_to_dict, stage_from_dict, stage_to_dict
from tzwc.inspection.svg import to_svg
from tzwc.inspection.text import PythonText, render_python, to_python

__all__ = [
    "CacheStatistics",
    "CachedValueInfo",
    "CaptureInfo",
    "MeasuredGroup",
    "PythonText",
    "Report",
    "SpecialisationInfo",
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
