"""The passes of the library, in the order in which they run."""

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

__all__ = ["DEFAULT_PASSES"]

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
