"""Where faults are put, and which tests have to find them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ROOT", "TARGETS", "sources", "test_files"]

ROOT = Path(__file__).parents[2]

# Left out for the time they take: whole models, random histories of changes (tests/partition/test_cache_machine.py),
# Dynamo and threads. Compiling the extension is not part of the cache.
_PIPELINE = ("tests/passes/test_default_passes.py",)
_SINGLE = ("tests/passes/test_reading.py", "tests/passes/test_near_misses.py")
_FOURIER = (
    "tests/passes/fourier/test_misses.py",
    "tests/passes/fourier/test_sizes.py",
    "tests/passes/fourier/test_recognise_fft_convolution.py",
    "tests/passes/fourier/test_properties.py",
    *_SINGLE,
)
_PRODUCTS = (
    "tests/passes/shared/test_sizes_and_terms.py",
    "tests/passes/normalize/test_elementwise_products.py",
    "tests/passes/hyperzzw/test_fuse_hyperzzw.py",
    *_SINGLE,
    *_PIPELINE,
)
_LINEAR = (
    "tests/passes/test_reading.py",
    "tests/passes/pointwise/test_pointwise_as_product.py",
    "tests/passes/pointwise/test_compose_linear.py",
    "tests/passes/pointwise/test_repeated_channels.py",
    *_PIPELINE,
)
_PARALLEL = (
    "tests/passes/pointwise/test_merge_parallel.py",
    "tests/passes/pointwise/test_parallel_batch.py",
    *_PIPELINE,
)
_CHOICE = ("tests/passes/convolution/test_misses.py", "tests/passes/convolution/test_select_convolution.py", *_PIPELINE)
_EVERY_PASS = (
    "tests/passes/shared/test_sizes_and_terms.py",
    "tests/passes/test_cse.py",
    "tests/passes/normalize/test_normalize.py",
    *_LINEAR,
    *_PARALLEL,
    *_CHOICE,
    *_PRODUCTS,
    *_FOURIER,
)
_CACHE = (
    "tests/partition/test_static_cache.py",
    "tests/util/test_rwlock.py",
    "tests/tracing/test_graph_inputs.py",
    "tests/partition/test_min_cut.py",
    "tests/runtime/test_compiled_module.py",
    "tests/runtime/test_compiled_changes.py",
)
_WATCH = (
    "tests/native/test_bytes.py",
    "tests/native/test_dicts.py",
    "tests/native/test_tensors.py",
    "tests/native/test_interim.py",
    "tests/native/test_memory.py",
    "tests/native/test_same_answers.py",
)

# A file, and the test files that belong to it. Of these, the tests that execute the faulty line are run.
TARGETS: dict[str, tuple[str, ...]] = {
    "passes/fourier/circular.py": _FOURIER,
    "passes/pointwise/compose_linear.py": _LINEAR,
    "passes/convolution/convolution_choice.py": _CHOICE,
    "passes/convolution/convolution_calls.py": (*_LINEAR, *_CHOICE, *_PRODUCTS),
    "passes/cse.py": ("tests/passes/test_cse.py", *_PIPELINE),
    "passes/shared/einsum_terms.py": _EVERY_PASS,
    "passes/normalize/elementwise_products.py": _PRODUCTS,
    "passes/fourier/fourier_calls.py": _FOURIER,
    "passes/fourier/fourier_convolution.py": _FOURIER,
    "passes/hyperzzw/fuse_hyperzzw.py": _PRODUCTS,
    "passes/hoist_static.py": (*_CACHE, "tests/passes/test_default_passes.py"),
    "passes/normalize/in_place.py": (
        "tests/passes/normalize/test_in_place.py",
        "tests/passes/normalize/test_normalize.py",
        *_PIPELINE,
    ),
    "passes/pointwise/merge_parallel.py": _PARALLEL,
    "passes/hyperzzw/merge_values.py": _PRODUCTS,
    "passes/normalize/normalize.py": ("tests/passes/normalize/test_normalize.py", *_PIPELINE),
    "passes/shared/ordering.py": _PRODUCTS,
    "passes/pointwise/parallel_batch.py": _PARALLEL,
    "passes/pointwise/parallel_maps.py": _PARALLEL,
    "passes/hyperzzw/peel.py": _EVERY_PASS,
    "passes/pointwise/linear_maps.py": (*_LINEAR, *_PARALLEL),
    "passes/pointwise/pointwise_as_product.py": _LINEAR,
    "passes/normalize/matrix_products.py": _EVERY_PASS,
    "passes/fourier/recognise_fft_convolution.py": _FOURIER,
    "passes/pointwise/repeated_channels.py": _LINEAR,
    "passes/normalize/reshapes.py": ("tests/passes/normalize/test_normalize.py", *_EVERY_PASS),
    "passes/convolution/select_convolution.py": _CHOICE,
    "passes/shared/sizes.py": _EVERY_PASS,
    "passes/fourier/signals.py": _FOURIER,
    "passes/fourier/spectra.py": _FOURIER,
    "passes/fourier/windows.py": (*_FOURIER, *_CHOICE),
    "tzwc/partition/binding_time.py": _CACHE,
    "tzwc/partition/static_cache.py": _CACHE,
    "tzwc/dynamo/static_caches.py": _CACHE,
    "tzwc/partition/min_cut.py": _CACHE,
    "tzwc/util/rwlock.py": _CACHE,
    "tzwc/tracing/graph_inputs.py": ("tests/tracing/test_capture.py", *_CACHE),
    "tzwc/partition/partitioner.py": _CACHE,
    "tzwc/native/tensor_record.py": (*_WATCH, *_CACHE),
    "tzwc/native/watch.py": (*_WATCH, *_CACHE),
    "tzwc/native/python_watch.py": (*_WATCH, *_CACHE),
}


def sources() -> dict[str, str]:
    """The text of every file that gets faults."""
    return {name: (ROOT / name).read_text() for name in TARGETS}


def test_files() -> list[str]:
    """Every test file of the table once, in the order of the table."""
    return list(dict.fromkeys(name for names in TARGETS.values() for name in names))
