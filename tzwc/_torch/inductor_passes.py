"""Passes of one's own inside of Inductor, which imports it: takes seconds to load."""

from __future__ import annotations

from torch._inductor import custom_graph_pass as _custom_graph_pass

CustomGraphPass = _custom_graph_pass.CustomGraphPass
"""Base class of passes that Inductor runs on its graphs, with an identifier that goes into its cache keys."""

get_hash_for_files = _custom_graph_pass.get_hash_for_files
"""Digest of source files, for such an identifier."""
