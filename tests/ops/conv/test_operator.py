"""``tzwc.ops.convolution``: derivatives of every kind, each by its own algorithm, in eager mode and compiled."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from hypothesis import given, settings

from tests.support.convolution_problems import numbers, operands, problems, reference, same
from tests.support.examples import examples
from tzwc.errors import InvalidArgumentError
from tzwc.ops import convolution, normalize_padding, prepare_kernel, prepared_convolution
from tzwc.ops.conv import Problem, all_algorithms, legal_algorithms
from tzwc.ops.conv.error_bounds import error_bound
from tzwc.ops.conv.problem import DIRECTIONS

ROLES = ("algorithm", "input_gradient", "weight_gradient")


def cases():
    long = same(1, 2, 24, 3)
    single = same(2, 2, 5, 1, stride=(2,))
    dense = Problem(2, 4, 2, 2, (4, 3), (2, 3), ((1, 0), (1, 1)), dtype=torch.float64, stride=(2, 1), flip=True)
    own = same(2, 2, 6, 4, per_sample=True, padding_mode="circular")
    for role, direction in zip(ROLES, DIRECTIONS, strict=True):
        for name in all_algorithms():
            for problem in (long, single, dense, own):
                if name in legal_algorithms(problem.with_(direction=direction))[0]:
                    yield pytest.param(problem, role, name, id=f"{name}-{role}-{len(problem.kernel)}d-{problem.kernel}")
                    break


@pytest.mark.parametrize(("problem", "role", "name"), list(cases()))
def test_gradcheck_in_each_role(problem, role, name):
    x, kernel, _ = (t.requires_grad_() for t in operands(problem))

    def function(x, kernel):
        return convolution(x, kernel, **problem.keywords(), **{role: name})

    assert torch.autograd.gradcheck(function, (x, kernel), fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (x, kernel), fast_mode=True)


@settings(max_examples=examples(10))
@given(problems())
def test_transforms_of_functions(problem):
    """``vmap`` over either operand or both, and ``grad``, ``jvp`` inside of it."""
    x, kernel, _ = operands(problem)
    many_x, many_kernels = numbers(3, *x.shape, seed=8), numbers(3, *kernel.shape, seed=9)
    names = dict.fromkeys(ROLES, "fft")

    def function(x, kernel):
        return convolution(x, kernel, **problem.keywords(), **names)

    def energy(x, kernel):
        return function(x, kernel).square().sum()

    def expected_energy(x, kernel):
        return reference(problem, x, kernel).square().sum()

    for axes, pair in (((0, None), (many_x, kernel)), ((None, 0), (x, many_kernels)), ((0, 0), (many_x, many_kernels))):
        rows = [[t[i] if axis == 0 else t for t, axis in zip(pair, axes, strict=True)] for i in range(3)]
        found = torch.func.vmap(function, axes)(*pair)
        torch.testing.assert_close(found, torch.stack([reference(problem, *row) for row in rows]), rtol=0, atol=1e-10)
        gradients = torch.func.vmap(torch.func.grad(energy, (0, 1)), axes)(*pair)
        for i, row in enumerate(rows):
            for ours, theirs in zip(gradients, torch.func.grad(expected_energy, (0, 1))(*row), strict=True):
                torch.testing.assert_close(ours[i], theirs, rtol=1e-9, atol=1e-8)
    tangents = numbers(*x.shape, seed=5), numbers(*kernel.shape, seed=6)
    _, found = torch.func.jvp(function, (x, kernel), tangents)
    expected = reference(problem, tangents[0], kernel) + reference(problem, x, tangents[1])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@settings(max_examples=examples(15))
@given(problems())
def test_the_two_halves_are_the_whole(problem):
    x, kernel, _ = operands(problem)
    bias = numbers(problem.out_channels, seed=3)
    for name in legal_algorithms(problem)[0]:
        whole = convolution(x, kernel, bias, **problem.keywords(), algorithm=name)
        prepared = prepare_kernel(kernel, algorithm=name, lengths=problem.lengths, **problem.keywords())
        sizes = {"kernel_size": problem.kernel, "out_channels": problem.out_channels}
        found = prepared_convolution(x, prepared, bias, algorithm=name, **sizes, **problem.keywords())
        assert found.is_contiguous()
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)
        empty = prepared_convolution(x[:0], prepared, bias, algorithm=name, **sizes, **problem.keywords())
        assert empty.shape == (0, *whole.shape[1:])


@settings(max_examples=examples(10))
@given(problems())
def test_gradients_of_the_second_half_reach_a_normalization_in_a_layout_that_it_reads(problem):
    """ATen's batch normalization on CPU misreads some gradients that are channels-last."""
    x, kernel, _ = operands(problem)
    leaves = [t.requires_grad_() for t in (x, kernel)]
    inputs = [torch.nn.functional.instance_norm(t) if t[0, 0].numel() > 1 else t * 1 for t in leaves]
    weights = numbers(*reference(problem, x, kernel).shape, seed=4)
    expected = torch.autograd.grad((reference(problem, *inputs) * weights).sum(), leaves, retain_graph=True)
    for name in legal_algorithms(problem)[0]:
        prepared = prepare_kernel(inputs[1], algorithm=name, lengths=problem.lengths, **problem.keywords())
        sizes = {"kernel_size": problem.kernel, "out_channels": problem.out_channels}
        y = prepared_convolution(inputs[0], prepared, algorithm=name, **sizes, **problem.keywords())
        found = torch.autograd.grad(y, leaves, weights, retain_graph=True, materialize_grads=True)
        # 1e-16 in sums of up to 1,000 terms, ten times that for transforms; a standardisation's backward divides by at
        # least sqrt(1e-5): 3e-10 in all.
        scale = max(1.0, *(g.abs().max().item() for g in expected))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("name", ["native", "channels_last", "channels_last_prepadded"])
def test_transforms_of_the_second_half(name):
    problem = same(2, 3, 5, 3, per_sample=True)
    x, kernel, _ = (t.requires_grad_() for t in operands(problem))
    sizes = {"kernel_size": problem.kernel, "out_channels": problem.out_channels}

    def function(x, kernel):
        return prepared_convolution(x, kernel, algorithm=name, **sizes, **problem.keywords())

    assert torch.autograd.gradcheck(function, (x, kernel), fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (x, kernel), fast_mode=True)
    many = numbers(3, *x.shape, seed=8)
    mapped = torch.func.vmap(function, (0, None))(many, kernel)
    torch.testing.assert_close(mapped, torch.stack([reference(problem, row, kernel) for row in many]))


def test_nothing_but_the_operands_is_kept():
    kept = []
    problem = same(1, 2, 64, 33)
    x, kernel, _ = (t.requires_grad_() for t in operands(problem))
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        convolution(x, kernel, **problem.keywords(), **dict.fromkeys(ROLES, "fft"))
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), kernel.data_ptr()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_and_autocast(dtype):
    problem = same(2, 3, 40, 9, dtype=torch.float32)
    x, kernel, _ = operands(problem)
    bias = numbers(3, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        found = convolution(x, kernel, bias, **problem.keywords(), algorithm="fft")
    halves = x.to(dtype), kernel.to(dtype)
    torch.testing.assert_close(found, convolution(*halves, bias.to(dtype), **problem.keywords(), algorithm="fft"))
    assert found.dtype == dtype
    truth = reference(problem, *(t.double() for t in halves))
    bound = error_bound(problem.with_(dtype=dtype), "fft", *halves)
    plain = convolution(*halves, **problem.keywords(), algorithm="fft")
    assert ((plain.double() - truth).abs() <= bound).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "matmul"}, "algorithm='matmul' cannot compute this convolution: kernel="),
        ({"input_gradient": "swapped"}, "input_gradient='swapped' cannot"),
        ({"weight_gradient": "toeplitz"}, "weight_gradient='toeplitz' cannot"),
        ({"algorithm": "fft", "exact": True}, "algorithm='fft' cannot compute this convolution: exact=True"),
        ({"algorithm": "dft"}, "algorithm='dft' is unknown"),
        ({"groups": 2}, "input channels"),
        ({"per_sample": True}, "must have the samples and channels"),
        ({"padding_mode": "reflect"}, "padding_mode='reflect'"),
        ({"padding": ((-20, 0),)}, "is longer than lengths"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    x, kernel, _ = operands(same(2, 3, 9, 3))
    with pytest.raises(InvalidArgumentError, match=message):
        convolution(x, kernel, **({"padding": ((1, 1),), "groups": 3} | changes))


@pytest.mark.parametrize(("x", "kernel"), [((9,), (1, 1, 3)), ((2, 9), (1, 3)), ((1, 1, 9), (1, 1, 3, 3))])
def test_numbers_of_axes_that_do_not_fit_are_refused(x, kernel):
    with pytest.raises(InvalidArgumentError, match=r"x=\(.*\) and kernel=\(.*\) must both have two axes and one to"):
        convolution(torch.ones(x), torch.ones(kernel), padding=((1, 1),))


@pytest.mark.parametrize("of_kernel", [False, True])
def test_a_tangent_of_one_operand_alone(of_kernel):
    problem = same(2, 3, 9, 4)
    x, kernel, _ = operands(problem)

    def function(moved):
        both = (x, moved) if of_kernel else (moved, kernel)
        return convolution(*both, **problem.keywords(), **dict.fromkeys(ROLES, "fft"))

    moved = kernel if of_kernel else x
    tangent = numbers(*moved.shape, seed=5)
    found, change = torch.func.jvp(function, (moved,), (tangent,))
    torch.testing.assert_close(found, reference(problem, x, kernel), rtol=0, atol=1e-12)
    expected = reference(problem, x, tangent) if of_kernel else reference(problem, tangent, kernel)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(InvalidArgumentError, match=f"{dtype} is not one of"):
        convolution(torch.ones(1, 1, 5, dtype=dtype), torch.ones(1, 1, 3, dtype=dtype), padding=((1, 1),))
    with pytest.raises(InvalidArgumentError, match="convert one of them"):
        convolution(torch.ones(1, 1, 5), torch.ones(1, 1, 3, dtype=torch.float64), padding=((1, 1),))


def test_padding_words():
    assert normalize_padding("circular", (4, 5)) == ((1, 2), (2, 2))
    x, kernel = numbers(1, 1, 6), numbers(1, 1, 5)
    found = convolution(x, kernel, padding=normalize_padding("circular", (5,)), padding_mode="circular")
    torch.testing.assert_close(found, F.conv1d(F.pad(x, (2, 2), mode="circular"), kernel))


# --- compiled ------------------------------------------------------------------------------------------------------


def compiled_agrees(problem, names, backend, batches=(3, 5), device="cpu"):
    def function(x, kernel):
        return convolution(x, kernel, **problem.keywords(), **dict(zip(ROLES, names, strict=True))).sin()

    torch.compiler.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend(backend)
    fast = torch.compile(function, fullgraph=True, backend=graphs, dynamic=True)
    for batch in batches:
        leaves = [t.to(device).requires_grad_() for t in operands(problem.with_(batch=batch))[:2]]
        seed = torch.ones(batch, problem.out_channels, *problem.out, dtype=problem.dtype, device=device)
        results = []
        for run in (fast, function):
            y = run(*leaves)
            results.append([y, *torch.autograd.grad(y, leaves, seed)])
        torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
    # Inductor guards a size of its own at times: one more graph, with the same numbers.
    assert graphs.frame_count <= (2 if backend == "inductor" else 1)


FAST = [
    ("fft", "fft", "fft"),
    ("overlap_save", "overlap_save", "overlap_save"),
    ("shifts", "shifts", "shifts"),
    ("toeplitz", "unfold", "swapped"),
    ("channels_last", "channels_last", "swapped_channels_last"),
    ("prepadded", "native", "unfold"),
]


@pytest.mark.parametrize("names", FAST)
def test_an_open_batch_size_stays_open(names):
    compiled_agrees(same(3, 2, 40, 5), names, "aot_eager")


@pytest.mark.parametrize("name", ["native", "channels_last", "fft", "shifts", "unfold"])
def test_an_open_batch_size_stays_open_with_a_kernel_for_each_sample(name):
    compiled_agrees(same(3, 2, 12, 4, per_sample=True), (name,) * 3, "aot_eager")


@pytest.mark.parametrize("name", ["fft", "unfold", "native"])
def test_an_open_batch_size_stays_open_where_channels_are_summed(name):
    compiled_agrees(same(3, 4, 12, 4, groups=2, out_channels=6), (name,) * 3, "aot_eager")


@pytest.mark.inductor
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_inductor():
    compiled_agrees(same(3, 2, 40, 5), ("channels_last", "fft", "swapped"), "inductor")


@pytest.mark.gpu
@pytest.mark.parametrize("names", FAST)
def test_on_a_gpu(names):
    problem = same(3, 2, 40, 5)
    leaves = [t.requires_grad_() for t in operands(problem)[:2]]
    there = [t.detach().cuda().requires_grad_() for t in leaves]
    chosen = dict(zip(ROLES, names, strict=True))
    for ours, theirs in zip(there, leaves, strict=True):
        found = torch.autograd.grad(convolution(*there, **problem.keywords(), **chosen).sin().sum(), ours)[0]
        expected = torch.autograd.grad(convolution(*leaves, **problem.keywords()).sin().sum(), theirs)[0]
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)
    compiled_agrees(problem, names, "aot_eager", device="cuda")
