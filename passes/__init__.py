"""The passes, one rewrite a file, in the order in which ``tzwc.compile`` runs them.

1. ``normalize``: few canonical forms for many spellings
2. ``cse``: equal expressions once
3. ``recognise_fft_convolution``: convolutions that a program writes with transforms of its own
4. ``fuse_hyperzzw``: the operator of the library, recognised in any graph
5. ``compose_linear``: one 1×1 convolution for two in a row, repeated channels folded into its weight
6. ``merge_parallel``: one product of those that run next to each other, where starting kernels is dear
7. ``pointwise_as_product``: 1×1 convolutions as matrix products
8. ``select_convolution``: the fastest algorithm, for each convolution and each of its gradients
9. ``hoist_static``: last, so that the spectrum of a static kernel is static too
"""

from __future__ import annotations

from tzwc.passes.default_passes import DEFAULT_PASSES
from tzwc.passes.registry import find_pass as by_name
from tzwc.rewrite.pass_manager import Pass

__all__ = ["DEFAULT_PASSES", "Pass", "by_name"]
