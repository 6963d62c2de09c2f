"""What tensor watches notice, each case with both implementations."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import return_and_correct_aliasing

from tests.support.watch_twins import Twin
from tzwc.native.tensor_record import is_plain


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.arange(12.0).reshape(3, 4))


def _assign_in_place(p: Tensor) -> None:
    with torch.no_grad():
        p.add_(1)


def _set_storage(p: Tensor) -> None:
    with torch.no_grad():
        p.set_(torch.arange(12.0).reshape(3, 4))


NOTICED: dict[str, Callable[[nn.Parameter], object]] = {
    "in place": _assign_in_place,
    "in place, same values": lambda p: p.detach().copy_(p.detach()),
    "data": lambda p: setattr(p, "data", p.detach().clone()),
    "data, other shape": lambda p: setattr(p, "data", torch.ones(2)),
    "data, other strides": lambda p: setattr(p, "data", p.detach().T.contiguous().T),
    "data, other dtype": lambda p: setattr(p, "data", p.detach().double()),
    "set_": _set_storage,
    "requires_grad_": lambda p: p.requires_grad_(False),
    "storage resized away": lambda p: p.untyped_storage().resize_(0),
    "swapped": lambda p: torch.utils.swap_tensors(p, parameter()),
    "swapped with another class": lambda p: torch.utils.swap_tensors(p, torch.ones(3)),
    "negated lazily": lambda p: setattr(p, "data", torch._neg_view(p.detach())),
}
ONLY_BYTES: dict[str, Callable[[nn.Parameter], object]] = {
    "data in place": lambda p: p.data.mul_(2),
    "numpy": lambda p: p.detach().numpy().__setitem__((1, 2), -1.0),
    "sign of zero": lambda p: p.detach().numpy().__setitem__((0, 0), -0.0),
}


@pytest.mark.parametrize("compare_bytes", [False, True])
@pytest.mark.parametrize("case", NOTICED)
def test_notices(twin: Twin, case: str, compare_bytes: bool) -> None:
    tensors = [torch.ones(2), parameter(), torch.zeros(3)]
    watch = twin.tensors(tensors, compare_bytes=compare_bytes)
    assert watch.changed(tensors) == []
    NOTICED[case](tensors[1])
    assert watch.changed(tensors) == [1]
    assert twin.tensors(tensors, compare_bytes=compare_bytes).changed(tensors) == []


@pytest.mark.parametrize("case", ONLY_BYTES)
def test_bytes_tell_what_versions_do_not(twin: Twin, case: str) -> None:
    p = parameter()
    versions, contents = twin.tensors([p]), twin.tensors([p], compare_bytes=True)
    ONLY_BYTES[case](p)
    assert versions.changed([p]) == []
    assert contents.changed((p,)) == [0]


def test_identity_counts_with_content_only(twin: Twin) -> None:
    p, q = parameter(), parameter()
    alias = p.detach().requires_grad_()
    assert twin.tensors([p]).changed([alias]) == [0]
    assert twin.tensors([p], content=False).changed([q]) == []
    assert twin.tensors([p], content=False).changed([alias]) == []
    assert twin.tensors([p], content=False).changed([q.detach()]) == [0]  # requires_grad
    assert twin.tensors([p], content=False, compare_bytes=True).changed([q]) == []
    q.data[0, 0] = 7
    assert twin.tensors([p], content=False, compare_bytes=True).changed([q]) == [0]


def test_freed_memory_cannot_pass_for_the_old_one(twin: Twin) -> None:
    p = nn.Parameter(torch.zeros(1 << 10))
    for turn in range(20):
        watch = twin.tensors([p])
        # Whatever the allocator does with the memory that p lets go of: it is still ours.
        p.data = torch.full((1 << 10,), float(turn))
        p.data = torch.full((1 << 10,), -1.0)
        assert watch.changed([p]) == [0]


def test_put_back_is_unchanged(twin: Twin) -> None:
    p = parameter()
    old = p.data
    watch = twin.tensors([p], compare_bytes=True)
    p.data = torch.ones(3, 4)
    assert watch.changed([p]) == [0]
    p.data = old
    assert watch.changed([p]) == []


def test_storage_cut_short_is_not_read(twin: Twin) -> None:
    p = nn.Parameter(torch.ones(1000))
    bytes_only = twin.tensors([p], content=False, compare_bytes=True)
    p.untyped_storage().resize_(16)
    assert bytes_only.changed([p]) == [0]
    short = twin.tensors([p], compare_bytes=True)
    assert short.changed([p]) == []
    assert p.untyped_storage().nbytes() == 16


def test_the_bytes_read_are_those_of_the_tensor_now(twin: Twin) -> None:
    """Also where its storage has been replaced by another at the same address."""
    p = nn.Parameter(torch.ones(1000))
    memory = torch.ones(1000)
    p.data = torch.from_numpy(memory.numpy())
    watch = twin.tensors([p], compare_bytes=True)
    p.data = torch.from_numpy(memory.numpy())  # another storage, the same memory
    assert watch.changed([p]) == []
    memory.numpy()[7] = 2
    assert watch.changed([p]) == [0]


def test_lazy_conjugation_is_a_change(twin: Twin) -> None:
    t = torch.ones(3, dtype=torch.complex64)
    watch = twin.tensors([t], compare_bytes=True)
    t.data = t.data.conj()
    assert watch.changed([t]) == [0]
    assert twin.tensors([t], compare_bytes=True).changed([t]) == []


def test_inference_tensors(twin: Twin) -> None:
    with torch.inference_mode():
        t = torch.ones(3)
    watch, contents = twin.tensors([t]), twin.tensors([t], compare_bytes=True)
    assert watch.changed([t]) == contents.changed([t]) == []
    with torch.inference_mode():
        assert contents.changed([t]) == []
        t.mul_(2)
    assert contents.changed([t]) == [0]
    assert watch.changed([torch.ones(3)]) == [0]


class _Subclass(Tensor):
    pass


class _Wrapper(Tensor):
    """Delegates everything to another tensor."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> _Wrapper:
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        unwrapped = [a.inner if isinstance(a, _Wrapper) else a for a in args]
        return return_and_correct_aliasing(func, args, kwargs or {}, _Wrapper(func(*unwrapped, **(kwargs or {}))))


def others() -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "subclass": torch.ones(3).as_subclass(_Subclass),
            "wrapper": _Wrapper(torch.ones(3)),
            "fake": FakeTensorMode().from_tensor(torch.ones(3)),
            "meta": torch.ones(3, device="meta"),
            "sparse": torch.eye(3).to_sparse(),
            "csr": torch.eye(3).to_sparse_csr(),
            "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            "zero": torch._efficientzerotensor(3),
            "uninitialised": nn.parameter.UninitializedParameter(),
        }


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("kind", others())
def test_other_tensors_are_watched_as_far_as_they_tell(twin: Twin, kind: str, content: bool) -> None:
    other, plain = others()[kind], torch.ones(3)
    assert not is_plain(other)
    tensors = [plain, other, plain]
    watch = twin.tensors(tensors, content=content, compare_bytes=True)
    assert watch.changed(tensors) == []
    assert watch.changed([plain, plain, plain]) == [1]
    assert watch.changed([other, other, other]) == [0, 2]
    assert watch.changed([other, plain, other]) == [0, 1, 2]
    if kind in ("meta", "zero"):  # the same layout, and yet another kind
        assert twin.tensors([plain], content=False).changed([other]) == [0]
    if content:
        assert watch.changed([plain, others()[kind], plain]) == [1]


@pytest.mark.parametrize("kind", ["subclass", "wrapper", "fake", "sparse", "meta"])
def test_other_tensors_written_in_place(twin: Twin, kind: str) -> None:
    other = others()[kind]
    watch = twin.tensors([other])
    other.mul_(2)
    assert watch.changed([other]) == [0]


def test_subclass_with_memory_of_its_own(twin: Twin) -> None:
    other = others()["subclass"]
    watch = twin.tensors([other])
    other.data = torch.zeros(3)
    assert watch.changed([other]) == [0]


def test_both_agree_on_what_is_plain(native: Twin) -> None:
    plain = [parameter(), torch.ones(3), torch.ones(3)[:0], torch.ones(2, dtype=torch.cfloat).conj(), torch.ones(1)]
    tensors = [*plain, *others().values(), torch._neg_view(torch.ones(1)), nn.Buffer(torch.ones(1))]
    seen = []
    torch.vmap(lambda x: seen.append((is_plain(x), native.module.TensorWatch((x,), True, True).others())) or x)(
        plain[1]
    )
    assert seen == [(False, [0])]
    with torch.inference_mode():
        tensors.append(torch.ones(3))
    found = native.module.TensorWatch(tuple(tensors), True, True).others()
    assert found == [i for i, t in enumerate(tensors) if not is_plain(t)]


def test_swapped_while_watched_by_two(twin: Twin) -> None:
    p, q = parameter(), parameter()
    watches = [twin.tensors([p, q]), twin.tensors([p, q], compare_bytes=True), twin.tensors([p, q], content=False)]
    torch.utils.swap_tensors(p, q)  # refuses weak references, and more than one owner in C++
    assert [w.changed([p, q]) for w in watches] == [[0, 1], [0, 1], []]


@pytest.mark.parametrize("wrong", [None, 3, "x", [torch.ones(1)]], ids=str)
def test_wrong_arguments(twin: Twin, wrong: object) -> None:
    t = torch.ones(1)
    with pytest.raises(TypeError, match="entry 1 is not a tensor"):
        twin.tensors([t, wrong])
    watch = twin.tensors([t, t])
    with pytest.raises(TypeError, match="entry 1 is not a tensor"):
        watch.changed([t, wrong])
    with pytest.raises(ValueError, match="2 tensors are watched, 1 were given"):
        watch.changed([t])


def test_nothing_to_watch(twin: Twin) -> None:
    assert twin.tensors([]).changed([]) == []
    assert twin.tensors((), content=False).changed(()) == []


def test_other_devices_are_watched_without_bytes(twin: Twin) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is available")
    t = torch.ones(3, device="cuda")
    watch = twin.tensors([t], compare_bytes=True)
    assert watch.changed([t]) == []
    t.mul_(2)
    assert watch.changed([t]) == [0]
