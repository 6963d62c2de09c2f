"""Where faults are put, and which tests have to find them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ROOT", "TARGETS", "sources", "test_files"]

ROOT = Path(__file__).parents[2]

# Left out for the time they take: whole models, random histories of changes (tests/tzwc/test_cache_machine.py), Dynamo
# and threads. Compiling the extension is not part of the cache.
_PIPELINE = ("tests/passes/test_pipeline_of_passes.py",)
_SINGLE = ("tests/passes/test_reading.py", "tests/passes/test_near_misses.py")
_FOURIER = (
    "tests/passes/test_recognise_fft_convolution_misses.py",
    "tests/passes/test_recognise_fft_convolution_sizes.py",
    "tests/passes/test_recognise_fft_convolution.py",
    "tests/passes/test_recognise_fft_convolution_properties.py",
    *_SINGLE,
)
_PRODUCTS = (
    "tests/passes/test_sizes_and_terms.py",
    "tests/passes/test_elementwise_products.py",
    "tests/passes/test_fuse_hyperzzw.py",
    *_SINGLE,
    *_PIPELINE,
)
_LINEAR = (
    "tests/passes/test_reading.py",
    "tests/passes/test_pointwise_as_product.py",
    "tests/passes/test_compose_linear.py",
    "tests/passes/test_repeated_channels.py",
    *_PIPELINE,
)
_PARALLEL = ("tests/passes/test_merge_parallel.py", "tests/passes/test_merge_parallel_batch.py", *_PIPELINE)
_CHOICE = ("tests/passes/test_select_convolution_misses.py", "tests/passes/test_select_convolution.py", *_PIPELINE)
_EVERY_PASS = (
    "tests/passes/test_sizes_and_terms.py",
    "tests/passes/test_cse.py",
    "tests/passes/test_normalize.py",
    *_LINEAR,
    *_PARALLEL,
    *_CHOICE,
    *_PRODUCTS,
    *_FOURIER,
)
_CACHE = (
    "tests/tzwc/test_cache.py",
    "tests/tzwc/test_gate.py",
    "tests/tzwc/test_slots.py",
    "tests/tzwc/test_frontier.py",
    "tests/tzwc/test_compiled.py",
    "tests/tzwc/test_compiled_changes.py",
)
_WATCH = (
    "tests/watch/test_bytes.py",
    "tests/watch/test_dicts.py",
    "tests/watch/test_tensors.py",
    "tests/watch/test_interim.py",
    "tests/watch/test_memory.py",
    "tests/watch/test_same_answers.py",
)

# A file, and the test files that belong to it. Of these, the tests that execute the faulty line are run.
TARGETS: dict[str, tuple[str, ...]] = {
    "passes/circular.py": _FOURIER,
    "passes/compose_linear.py": _LINEAR,
    "passes/convolution_choice.py": _CHOICE,
    "passes/convolutions.py": (*_LINEAR, *_CHOICE, *_PRODUCTS),
    "passes/cse.py": ("tests/passes/test_cse.py", *_PIPELINE),
    "passes/einsum_terms.py": _EVERY_PASS,
    "passes/elementwise_products.py": _PRODUCTS,
    "passes/fourier_calls.py": _FOURIER,
    "passes/fourier_convolution.py": _FOURIER,
    "passes/fuse_hyperzzw.py": _PRODUCTS,
    "passes/hoist_static.py": (*_CACHE, "tests/passes/test_pipeline_of_passes.py"),
    "passes/in_place.py": ("tests/passes/test_in_place.py", "tests/passes/test_normalize.py", *_PIPELINE),
    "passes/merge_parallel.py": _PARALLEL,
    "passes/merge_values.py": _PRODUCTS,
    "passes/normalize.py": ("tests/passes/test_normalize.py", *_PIPELINE),
    "passes/ordering.py": _PRODUCTS,
    "passes/parallel_batch.py": _PARALLEL,
    "passes/parallel_maps.py": _PARALLEL,
    "passes/peel.py": _EVERY_PASS,
    "passes/pointwise.py": (*_LINEAR, *_PARALLEL),
    "passes/pointwise_as_product.py": _LINEAR,
    "passes/products.py": _EVERY_PASS,
    "passes/recognise_fft_convolution.py": _FOURIER,
    "passes/repeated_channels.py": _LINEAR,
    "passes/reshapes.py": ("tests/passes/test_normalize.py", *_EVERY_PASS),
    "passes/select_convolution.py": _CHOICE,
    "passes/shapes.py": _EVERY_PASS,
    "passes/signals.py": _FOURIER,
    "passes/spectra.py": _FOURIER,
    "passes/windows.py": (*_FOURIER, *_CHOICE),
    "tzwc/binding_time.py": _CACHE,
    "tzwc/cache.py": _CACHE,
    "tzwc/dynamo/kept.py": _CACHE,
    "tzwc/frontier.py": _CACHE,
    "tzwc/gate.py": _CACHE,
    "tzwc/slots.py": ("tests/tzwc/test_capture.py", *_CACHE),
    "tzwc/split.py": _CACHE,
    "tzwc/watch/description.py": (*_WATCH, *_CACHE),
    "tzwc/watch/factory.py": (*_WATCH, *_CACHE),
    "tzwc/watch/interim.py": _WATCH,
    "tzwc/watch/native_watch.py": (*_WATCH, *_CACHE),
    "tzwc/watch/python_watch.py": (*_WATCH, *_CACHE),
}


def sources() -> dict[str, str]:
    """The text of every file that gets faults."""
    return {name: (ROOT / name).read_text() for name in TARGETS}


def test_files() -> list[str]:
    """Every test file of the table once, in the order of the table."""
    return list(dict.fromkeys(name for names in TARGETS.values() for name in names))
