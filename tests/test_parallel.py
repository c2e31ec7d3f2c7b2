"""pytest tests/test_parallel.py: two processes learn what one learns; one that dies ends the run."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import children_of, random_state, train_flags, write_meta

from parallel.tensor import basis_of_side

ROOT = Path(__file__).parent.parent
TOGETHER = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
import torch
import svf
from formats.load import load
from model import Sampling
from parallel.data import together
from parallel.processes import rank, start, world
from rl import Learner, descend, leave_one_out_of_all, reinforce, train_expert
from test_rl import settings, toy_task

start()
model, tokenizer = load(sys.argv[2], "cpu")
svf.wrap(model, svf.MODULES["all"])

def save_and_descend(z, optimizer):
    torch.save({name: v.grad for name, v in z.items()}, f"{sys.argv[3]}-{rank()}.pt")
    return descend(z, optimizer)

learner = Learner(model, tokenizer, svf, toy_task(1), Sampling(0.01),
                  settings(steps=1, n_problems=16, group=1),
                  reinforce, leave_one_out_of_all, save_and_descend)
if world() > 1:
    learner = together(learner)
state = {}
for metrics in train_expert(learner, state, lambda z: 0.5):
    print(metrics)
torch.save(state["z"], f"{sys.argv[3]}-{rank()}-z.pt")
"""

CUT = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
import torch
from dataclasses import replace
import svf
from conftest import random_z
from formats.load import load
from model import Sampling, Stopping, generate
from parallel.processes import add_up_gradients, gather, rank, start, world
from parallel.tensor import cut, in_parts
from rl import Learner, accumulate_gradient, leave_one_out, reinforce
from test_rl import answers, settings, toy_task

start()
model, _ = load(sys.argv[2], "cpu")
svf.wrap(model, svf.MODULES["all"])
z = random_z(model)
rows = {name: v.view(1, 1, -1).repeat(2, 1, 1) for name, v in z.items()}
learner = Learner(model, None, svf, toy_task(1), Sampling(0.7), settings(), reinforce)
if world() > 1:
    cut(model)

def score(problems, texts):
    return [rank()]
of_first = in_parts(replace(learner, task=replace(learner.task, score=score)))
assert of_first.task.score([], []) == [0]  # the first process's verdicts are everyone's
tokens = torch.tensor([[5, 9, 300, 41], [7, 0, 0, 1]])
with torch.no_grad(), svf.using(model, z):
    logits = model(tokens)
    merged = {name: m.merged for name, m in svf.wrapped(model).items()}
    decoded, _ = generate(model, [[5, 9, 300], [7]], Stopping(6), Sampling())
with torch.no_grad(), svf.using(model, rows):
    by_row = model(tokens)
with torch.no_grad():
    base = model(tokens)
batch = answers((11, 12))
z = {name: v.requires_grad_() for name, v in z.items()}
with svf.using(model, z):
    accumulate_gradient(learner, batch, leave_one_out([a.r for a in batch], 3), learner.sampling)
add_up_gradients(z, weight=1)
optimizer = torch.optim.AdamW(z.values(), lr=0.01, weight_decay=0.0)
optimizer.step()
of_no_answer = {"w": torch.ones(3, requires_grad=True)}
add_up_gradients(of_no_answer, weight=1)
assert of_no_answer["w"].grad is None  # by a gradient of 0 AdamW would move it
torch.save({"logits": logits, "merged": merged, "decoded": decoded, "by_row": by_row, "base": base,
            "dz": {name: v.grad for name, v in z.items()}, "z": {name: v.detach() for name, v in z.items()}},
           f"{sys.argv[3]}-{rank()}.pt")
"""

ENDING = """
import atexit, os, sys
sys.path.insert(0, sys.argv[1])
import torch.distributed as dist
from parallel.processes import gather, start

@atexit.register
def no_group_is_left():  # registered first, so called last
    if dist.is_initialized():
        os._exit(1)

start()
gather(None)
"""

def torchrun(n, *arguments):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n),
            *map(str, arguments)]

def one_thread():
    return {**os.environ, "OMP_NUM_THREADS": "1"}

def run_in_one_and_in_two(program, tiny_folder, tmp_path):
    """The program saves what it computes as tmp_path/ofN-RANK…pt, N being the number of processes."""
    script = tmp_path / "program.py"
    script.write_text(program)
    for n in (1, 2):
        done = subprocess.run(torchrun(n, script, ROOT, tiny_folder, tmp_path / f"of{n}"),
                              capture_output=True, text=True, env=one_thread())
        assert done.returncode == 0, done.stderr

def test_two_processes_have_the_gradient_of_one_and_the_same_z(tiny_folder, tmp_path):
    run_in_one_and_in_two(TOGETHER, tiny_folder, tmp_path)
    [one, first, second] = [torch.load(tmp_path / f"{name}.pt") for name in ("of1-0", "of2-0", "of2-1")]
    assert any(grad.abs().max() > 0 for grad in one.values())
    for name, grad in one.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-8
    z = [torch.load(tmp_path / f"{name}-z.pt") for name in ("of2-0", "of2-1")]
    assert all(torch.equal(z[0][name], z[1][name]) for name in z[0])

def test_a_model_cut_in_two_is_the_model(tiny_folder, tmp_path):
    """Logits, merged weights, greedy tokens, dz and one step of AdamW: those of one process."""
    run_in_one_and_in_two(CUT, tiny_folder, tmp_path)
    one, first, second = [torch.load(tmp_path / f"{name}.pt") for name in ("of1-0", "of2-0", "of2-1")]
    for kind in ("base", "logits", "by_row"):
        assert torch.equal(first[kind], second[kind])
        assert (first[kind] - one[kind]).abs().max() <= 1e-5 * one[kind].abs().max()
    assert first["decoded"] == second["decoded"] == one["decoded"]
    for name, whole in one["merged"].items():
        cut_at = 1 if name.endswith(("wo", "w2")) else 0
        joined = torch.cat([first["merged"][name], second["merged"][name]], dim=cut_at)
        assert (joined - whole).norm() <= 1e-5 * whole.norm()
        for kind in ("dz", "z"):
            assert torch.equal(first[kind][name], second[kind][name])
            # AdamW's first step is the sign of dz, so a dz of almost nothing may go either way
            moved = one["dz"][name].abs() > 1e-4 * one["dz"][name].abs().max()
            difference = (first[kind][name] - one[kind][name])[moved]
            assert difference.norm() <= 1e-4 * one[kind][name].norm()

def full_rank(out, into):
    return torch.randn(out, into, generator=torch.Generator().manual_seed(out)) / 10

def without_a_head(out, into):
    W = full_rank(out, into)
    W[:8] = 0
    return W

def rows_twice(out, into):
    W = full_rank(out, into).double()
    W[1::2] = W[::2]
    W[1] += 1e-13  # σ of 1e-14 and not of 0
    return W

def of_rank_3(out, into):
    return full_rank(out, 3) @ full_rank(into, 3).T  # in float32: the other σ are some 1e-8

@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (48, 48), (128, 48)])
@pytest.mark.parametrize("make", [full_rank, without_a_head, rows_twice, of_rank_3, torch.zeros])
def test_both_bases_of_a_weight_of_any_rank_merge_to_the_same(shape, make):
    W = make(*shape).double()
    z = 1 + 0.3 * full_rank(min(shape), 1)[:, 0].double()
    U, V = basis_of_side(W, on_output=True), basis_of_side(W, on_output=False)
    one = torch.eye(len(z), dtype=torch.float64)
    for basis in (U, V):
        torch.testing.assert_close(basis.T @ basis, one, rtol=0, atol=1e-12)
    by_output, by_input = (U * z) @ U.T @ W, (W @ V * z) @ V.T
    # what z scales is in the span of both bases; W itself is there whole
    torch.testing.assert_close(by_output, by_input, rtol=0, atol=1e-8 * max(W.norm().item(), 1e-300))
    assert torch.equal(U, basis_of_side(W, on_output=True))  # as another process finds it

def test_a_cut_model_without_a_key_head_is_the_model(tmp_path):
    state = random_state()
    state["layers.0.attention.wk.weight"][:8] = 0
    state["layers.1.attention.wq.weight"][8:16] = state["layers.1.attention.wq.weight"][:8]
    run_in_one_and_in_two(CUT, write_meta(tmp_path / "model", [state]), tmp_path)
    one, first, second = [torch.load(tmp_path / f"{name}.pt") for name in ("of1-0", "of2-0", "of2-1")]
    assert torch.equal(first["logits"], second["logits"]) and one["decoded"] == first["decoded"]
    torch.testing.assert_close(first["logits"], one["logits"], rtol=1e-4, atol=1e-4)
    for name, dz in one["dz"].items():
        assert (first["dz"][name] - dz).norm() <= 1e-4 * dz.norm() + 1e-7

def test_no_group_is_left_when_python_ends(tmp_path):
    """A thread of gloo that outlived Python aborted 8 of 30 runs after their last line."""
    script = tmp_path / "program.py"
    script.write_text(ENDING)
    done = subprocess.run(torchrun(2, script, ROOT), capture_output=True, text=True, env=one_thread())
    assert done.returncode == 0, done.stderr

def test_one_of_two_that_dies_ends_the_run_and_it_goes_on_with_one(tiny_folder, silence, tmp_path):
    flags = [*train_flags(tiny_folder, silence, tmp_path / "run"), "--steps", "300"]
    child = subprocess.Popen(torchrun(2, "-m", "scripts.train", *flags), text=True, cwd=ROOT,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=one_thread())
    log = tmp_path / "run" / "log.jsonl"
    while child.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 4):
        time.sleep(0.02)
    os.kill(children_of(child.pid)[-1], signal.SIGKILL)
    started = time.time()
    assert child.wait(timeout=60) != 0 and time.time() - started < 60
    steps = [record["step"] for record in map(json.loads, log.read_text().splitlines()) if "step" in record]
    assert steps == list(range(len(steps)))
    saved = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    saved["config"]["steps"] = saved["state"]["step"] + 2
    torch.save(saved, tmp_path / "run" / "state.pt")
    flags[-1] = saved["config"]["steps"]
    done = subprocess.run([sys.executable, "-m", "scripts.train", *map(str, flags), "--resume"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "going on after step" in done.stdout, done.stderr
    assert (tmp_path / "run" / "silence.safetensors").exists()

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and gloo as on Linux")
