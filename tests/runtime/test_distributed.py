"""Compiled modules in several processes: replicas with gradients averaged, and sharded parameters."""

from __future__ import annotations

import gc
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import tzwc
from tests.support.gradients import BATCHES, compiled, eager_gradients, hyper_conv, square
from tests.support.processes import spawn


def _worker(rank: int, rendezvous: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    fast = compiled(hyper_conv())
    parallel = DistributedDataParallel(fast)
    own = BATCHES[2 * rank : 2 * rank + 2]
    square(parallel(own[0])).backward()  # every step synchronised
    plain = [p.grad.clone() for p in fast.parameters() if p.grad is not None]
    parallel.zero_grad()
    with parallel.no_sync(), fast.accumulate():
        square(parallel(own[0])).backward()
    square(parallel(own[1])).backward()
    accumulated = [p.grad.clone() for p in fast.parameters() if p.grad is not None]
    refused = ""
    try:
        with fast.accumulate():
            parallel(own[0])
    except tzwc.AccumulationError as error:
        refused = str(error)
    torch.save((plain, accumulated, refused), f"{results}{rank}")
    del parallel  # before the group: its destructor must not run under Python's lock
    gc.collect()
    dist.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    assert spawn(_worker, str(tmp_path / "rendezvous"), str(tmp_path / "result")) == [0, 0]
    for rank in range(2):
        plain, accumulated, refused = torch.load(tmp_path / f"result{rank}", weights_only=True)
        for a, b in zip(plain, eager_gradients([BATCHES[0], BATCHES[2]]), strict=True):
            torch.testing.assert_close(a, b / 2, rtol=1e-12, atol=1e-12)
        for a, b in zip(accumulated, eager_gradients(BATCHES), strict=True):
            torch.testing.assert_close(a, b / 2, rtol=1e-12, atol=1e-12)
        assert "no_sync()" in refused


def _fsdp_worker(rank: int, rendezvous: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fast = compiled(hyper_conv())
    optimizer_steps = []
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(fast, mesh=mesh)
    optimizer = torch.optim.SGD(fast.parameters(), 0.1)
    for _ in range(2):
        with torch.no_grad():
            optimizer_steps.append(fast(BATCHES[0]).clone())
        square(fast(BATCHES[0])).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        optimizer_steps.append(fast(BATCHES[0]).clone())
    torch.save((optimizer_steps, [str(r) for r in fast.remarks]), f"{results}{rank}")
    del fast, optimizer, mesh  # as above
    gc.collect()
    dist.destroy_process_group()


def test_sharded_parameters_give_right_results_and_a_remark(tmp_path: Path) -> None:
    assert spawn(_fsdp_worker, str(tmp_path / "rendezvous"), str(tmp_path / "result")) == [0, 0]
    model = hyper_conv()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected = []
    for _ in range(2):
        expected.append(model(BATCHES[0]).detach())
        square(model(BATCHES[0])).backward()
        optimizer.step()
        optimizer.zero_grad()
    expected.append(model(BATCHES[0]).detach())
    for rank in range(2):
        found, remarks = torch.load(tmp_path / f"result{rank}", weights_only=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        assert any("manages parameters on its own" in remark for remark in remarks)
