"""Two processes: the loss and a whole run equal one process with the joined batch."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from btoks.training import train
from items import fresh, python
from training import records
from training.by_hand import NEGATIVES, POSITIVES, QUERIES, assert_close, by_hand, gradients
from training.runs import environment, metrics, script

if TYPE_CHECKING:
    from pathlib import Path

_TWO = """
import os, sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from btoks.training.loss import CondensationLoss
from items import features, fresh
from training.by_hand import NEGATIVES, POSITIVES, QUERIES, gradients

folder, other = sys.argv[1], os.fork()
rank = 0 if other else 1
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
model = fresh("qwen3_vl").double()
wrapped = DistributedDataParallel(model, find_unused_parameters=True)
half = slice(2 * rank, 2 * rank + 2)
hashes = torch.tensor([7, 8, 7, 9])[half]
for chunk in (1, 2):
    loss = CondensationLoss(model, side="both", temperature=0.05, learn_temperature=True, mini_batch_size=chunk,
                            gather_across_devices=True)
    loss.model = loss.loss.model = wrapped
    value = loss([features(model, *column[half]) for column in (QUERIES, POSITIVES, NEGATIVES)], hashes)
    value.backward()
    total = value.detach().clone()
    dist.all_reduce(total)
    torch.save([total / 2, gradients(model), loss.log_temperature.grad], f"{folder}/{chunk}-{rank}.pt")
dist.destroy_process_group()
if other:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


def test_two_processes_equal_one_with_the_joined_batch(tmp_path: Any) -> None:
    """Negatives and hashes come from both, every parameter gets the joined batch's gradient on both."""
    done = python(_TWO, tmp_path)
    assert done.returncode == 0, done.stderr
    model = fresh("qwen3_vl").double()
    log = torch.tensor(0.05, dtype=torch.float64).log().requires_grad_()
    hashes = torch.tensor([7, 8, 7, 9, 0, 1, 2, 3])
    columns = [column[:4] for column in (QUERIES, POSITIVES, NEGATIVES)]
    same = hashes[:4, None] == hashes
    wanted = by_hand(model, *columns[:2], (columns[2],), side="both", temperature=log.exp(), same=same)
    wanted.backward()
    right = gradients(model)
    for name in ("1-0", "1-1", "2-0", "2-1"):
        value, grads, slope = torch.load(tmp_path / f"{name}.pt")
        assert value.item() == pytest.approx(wanted.item(), rel=1e-10)
        assert_close(grads, right, 1e-10)
        assert slope.item() == pytest.approx(log.grad.item(), rel=1e-9)


_SHARDED = """
import os, sys, torch
from pathlib import Path
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from btoks.bottleneck import generator
from btoks.training import state
from btoks.training.loss import CondensationLoss
from items import features, fresh
from training.test_devices import ASKED, TOLD

folder, other = Path(sys.argv[1]), os.fork()
rank = 0 if other else 1
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
model, mesh = fresh("qwen3_vl").double(), init_device_mesh("cpu", (2,))
for layer in generator(model).get_decoder().layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
half = slice(2 * rank, 2 * rank + 2)
loss = CondensationLoss(model, mini_batch_size=1, gather_across_devices=True)
value = loss([features(model, *column[half]) for column in (ASKED, TOLD)])
value.backward()
dist.all_reduce(value.detach())
grads = {name: each.grad.full_tensor() for name, each in model.named_parameters() if each.grad is not None}
before = state.whole(state.trained(model, {"a": loss}))
if rank == 0:
    torch.save([value.detach() / 2, grads], folder / "sharded.pt")
    state.write(folder, before)
dist.barrier()
with torch.no_grad():
    for weight in model.parameters():
        weight.zero_()
state.read(folder, state.trained(model, {"a": loss}))
after = state.whole(state.trained(model, {"a": loss}))
assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
dist.destroy_process_group()
if other:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""
ASKED = [{**QUERIES[0], "text": text} for text in "abcd"]
TOLD = [{"text": "a red bus"}, {"text": "fox"}, {"text": ""}, {"text": ""}]


def test_a_model_spread_over_two_processes_equals_a_whole_one(tmp_path: Path) -> None:
    """Parameters are sharded, and one process has no target at all: the same loss, gradients and saved weights."""
    done = python(_SHARDED, tmp_path)
    assert done.returncode == 0, done.stderr
    model = fresh("qwen3_vl").double()
    wanted = by_hand(model, ASKED, TOLD)
    wanted.backward()
    value, grads = torch.load(tmp_path / "sharded.pt")
    assert value.item() == pytest.approx(wanted.item(), rel=1e-10)
    assert_close(grads, gradients(model), 1e-10)


def test_two_processes_train_like_one(data: Path, tmp_path: Path) -> None:
    """`torchrun` shares every batch: the same losses and weights as one process with the whole of it."""
    file = script(tmp_path / "mine.py", f"small(Path({str(data)!r}), steps=3, save_every=2)")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "btoks"]
    run = [*launch, "train", str(file), "--out", str(tmp_path / "two")]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    train(records.recipe(data, steps=3, save_every=2), out=tmp_path / "one")
    for two, one in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["dataset"] == one["dataset"]
    assert (tmp_path / "two" / "checkpoint-3" / "rng_state_1.pth").is_file()
