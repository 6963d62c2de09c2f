"""Matrix products of lowered graphs by the fastest library there is: ATen's, or oneDNN called directly.

In float32 on CPU, ATen hands matrix products to MKL (or OpenBLAS), and to oneDNN only where bfloat16 may stand in for
float32. Which of the two is faster depends on the processor: on an AVX-512 core of AMD (Zen 5, torch 2.13) MKL ran its
kernel for Zen, at 105 GFLOP/s of the 270 that the core can do, and oneDNN 1.7 to 2.2 times as fast, in the same
precision. So the two are measured against each other, product by product, and what was measured is remembered
(:mod:`tzwc.autotune`).

- :mod:`tzwc.ops.matmul`: ``tzwc::product``, which calls oneDNN;
- :mod:`tzwc.autotune.matmul_choice`: the faster library for one product;
- :mod:`tzwc.lowering.matmul_pass`: puts the operator into graphs that Inductor is about to lower, forward and backward.
"""
