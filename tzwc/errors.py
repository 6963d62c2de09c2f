"""Every exception that tzwc raises on purpose, in one hierarchy."""

from __future__ import annotations

__all__ = ["CaptureError", "IllFormedGraphError", "InvalidArgumentError", "PassError", "SpecError", "TzwcError"]


class TzwcError(Exception):
    """Base class of all errors that tzwc raises on purpose."""


class InvalidArgumentError(TzwcError, ValueError):
    """An argument has a value that cannot be used; the message names argument, value and remedy."""


class SpecError(InvalidArgumentError):
    """A model declaration is inconsistent; the message names the field, the value and what was expected."""


class CaptureError(TzwcError):
    """A module cannot be captured as a graph. ``tzwc.compile`` answers with the module as it was."""


class PassError(TzwcError):
    """A pass broke an invariant of the graph: a defect of the pass, never of the model."""


class IllFormedGraphError(PassError):
    """A pass left a graph that is none: a node used before it is defined, two placeholders of one name."""
