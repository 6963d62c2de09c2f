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

from tzwc.passes.convolution.select_convolution import SELECT_CONVOLUTION
from tzwc.passes.cse import CSE
from tzwc.passes.fourier.recognise_fft_convolution import RECOGNISE_FFT_CONVOLUTION
from tzwc.passes.hoist_static import HOIST_STATIC
from tzwc.passes.hyperzzw.fuse_hyperzzw import FUSE_HYPERZZW
from tzwc.passes.normalize.normalize import NORMALIZE
from tzwc.passes.pointwise.compose_linear import COMPOSE_LINEAR
from tzwc.passes.pointwise.merge_parallel import MERGE_PARALLEL
from tzwc.passes.pointwise.pointwise_as_product import POINTWISE_AS_PRODUCT
from tzwc.rewrite.pass_manager import Pass

__all__ = ["DEFAULT_PASSES", "Pass", "by_name"]

DEFAULT_PASSES: tuple[Pass, ...] = (
    NORMALIZE,
    CSE,
    RECOGNISE_FFT_CONVOLUTION,
    FUSE_HYPERZZW,
    COMPOSE_LINEAR,
    MERGE_PARALLEL,
    POINTWISE_AS_PRODUCT,
    SELECT_CONVOLUTION,
    HOIST_STATIC,
)
"""The pipeline, in order."""


def by_name(name: str) -> Pass:
    """The pass called ``name``; see :func:`tzwc.passes.registry.find_pass`.

    Raises:
        InvalidArgumentError: there is none; the message lists them.
        TzwcError: an installed package announces it, and it cannot be used.
    """
    from tzwc.passes.registry import find_pass  # which reads the list above

    return find_pass(name)
