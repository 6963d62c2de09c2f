"""Contenders that fail in every way, and whether their processes are gone."""

from __future__ import annotations

from pathlib import Path

ONE_BLOCK = """
from tzwc.models import terminator

def model():
    return terminator("digits", factors=(12,))
"""


FAKE = """
import json, os, pathlib, sys, time

name = None
for line in sys.stdin:
    request = json.loads(line)
    reply = {}
    if request["do"] == "build":
        name = request["task"]["contender"]
        pids = pathlib.Path(os.environ["PIDS"])
        (pids / str(os.getpid())).touch()
    elif request["do"] == "first":
        if name is None:
            reply = {"allowed": {"all": 0.1}, "flops": 30, "growing": 20, "operations": 100}
        elif name == "compile":
            time.sleep(600)
        elif name == "max_autotune":
            sys.exit("no compiler")
        elif name == "contiguous":
            reply = {"error": "ValueError: [no] layout"}
        else:
            distance = float("inf") if name == "tzwc" else 0.05
            reply = {"seconds": 2.0, "memory": 5000000, "distances": {"all": distance}}
            reply["note"] = os.environ["TZWC_CACHE_DIR"]
    elif request["do"] == "again":
        reply = {"seconds": 0.1, **({"distances": {"all": 0.07}} if name else {})}
    elif request["do"] == "measure":
        assert request["with"] == [2]
        if name == "freezing":
            os._exit(5)
        seconds = {None: 1.0, "eager": 0.5, "tzwc": 0.25}.get(name, 0.75)
        reply = {"seconds": [seconds] * 2, "memory": 4000000}
    print(json.dumps(reply), flush=True)
"""


def alive(pids: Path) -> list[str]:
    return [entry.name for entry in pids.iterdir() if Path(f"/proc/{entry.name}").exists()]
