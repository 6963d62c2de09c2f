"""Traces a module into a graph by partial evaluation: see :mod:`tzwc.tracing.tracer`."""

from __future__ import annotations

from tzwc.tracing.escapes import escaped_fake, escaped_value, forget_escaped, source_of
from tzwc.tracing.interception import Interception
from tzwc.tracing.source_location import Origins
from tzwc.tracing.stand_ins import Counter, as_plain
from tzwc.tracing.tracer import Read, Tracer

__all__ = [
    "Counter",
    "Interception",
    "Origins",
    "Read",
    "Tracer",
    "as_plain",
    "escaped_fake",
    "escaped_value",
    "forget_escaped",
    "source_of",
]
