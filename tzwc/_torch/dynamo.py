"""TorchDynamo. Takes seconds to load."""

from __future__ import annotations

from torch._dynamo import exc as _exc
from torch._dynamo import source as _source
from torch._dynamo import utils as _utils
from torch._dynamo.backends import registry as _registry

lookup_backend = _registry.lookup_backend
"""The function behind the name of a backend; ``torch.compiler`` lists names only."""

ConstantSource = _source.ConstantSource
"""A name for where a symbolic size comes from, with no guard behind it."""

RestartAnalysis = _exc.RestartAnalysis
"""Raised through a backend to let Dynamo trace the frame again."""

SkipFrame = _exc.SkipFrame
"""Raised through a backend to let Dynamo run the frame as it is."""

ShortenTraceback = _exc.ShortenTraceback
"""Base class of errors from which Dynamo removes its own frames before users see them."""

COUNTERS = _utils.counters
"""How often something happened, by kind and then by reason; ``"unimplemented"`` has the reasons of graph breaks."""

get_compilation_metrics = _utils.get_compilation_metrics
"""A record of each compilation, with the reason when it was not the first of its code."""

clear_compilation_metrics = _utils.clear_compilation_metrics
"""Forget these records."""

set_compilation_metrics_limit = _utils.set_compilation_metrics_limit
"""How many of these records are held."""
