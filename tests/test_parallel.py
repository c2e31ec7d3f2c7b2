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
from conftest import train_flags

ROOT = Path(__file__).parent.parent
TOGETHER = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
import torch
import parallel, svf
from conftest import random_z
from formats.load import load
from model import Sampling
from rl import Learner, reinforce, train_expert
from test_rl import settings, toy_task

parallel.start()
model, tokenizer = load(sys.argv[2], "cpu")
svf.wrap(model, svf.MODULES["all"])

def reinforce_and_save(learner, z, step, on_token):
    metrics = reinforce(learner, z, step, on_token)
    torch.save({name: v.grad for name, v in z.items()}, f"{sys.argv[3]}-{parallel.rank()}.pt")
    return metrics

learner = Learner(model, tokenizer, svf, toy_task(1), Sampling(0.01), settings(steps=1, rollouts=16, group=1),
                  reinforce_and_save)
state = {}
for metrics in train_expert(learner, state, lambda z: 0.5):
    print(metrics)
torch.save(state["z"], f"{sys.argv[3]}-{parallel.rank()}-z.pt")
"""

def torchrun(n, *arguments):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n),
            *map(str, arguments)]

def one_thread():
    return {**os.environ, "OMP_NUM_THREADS": "1"}

def test_two_processes_have_the_gradient_of_one_and_the_same_z(tiny_folder, tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    for n in (1, 2):
        done = subprocess.run(torchrun(n, script, ROOT, tiny_folder, tmp_path / f"of{n}"),
                              capture_output=True, text=True, env=one_thread())
        assert done.returncode == 0, done.stderr
    [one, first, second] = [torch.load(tmp_path / f"{name}.pt") for name in ("of1-0", "of2-0", "of2-1")]
    assert any(grad.abs().max() > 0 for grad in one.values())
    for name, grad in one.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-8
    z = [torch.load(tmp_path / f"{name}-z.pt") for name in ("of2-0", "of2-1")]
    assert all(torch.equal(z[0][name], z[1][name]) for name in z[0])

def test_one_of_two_that_dies_ends_the_run_and_it_goes_on_with_one(tiny_folder, silence, tmp_path):
    flags = [*train_flags(tiny_folder, silence, tmp_path / "run"), "--steps", "300"]
    child = subprocess.Popen(torchrun(2, ROOT / "train.py", *flags), stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.STDOUT, env=one_thread())
    log = tmp_path / "run" / "log.jsonl"
    while child.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 3):
        time.sleep(0.02)
    workers = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    started = time.time()
    assert child.wait(timeout=60) != 0 and time.time() - started < 60
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(len(steps)))
    saved = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    saved["config"]["steps"] = saved["state"]["step"] + 2
    torch.save(saved, tmp_path / "run" / "state.pt")
    flags[-1] = saved["config"]["steps"]
    done = subprocess.run([sys.executable, ROOT / "train.py", *map(str, flags), "--resume"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and "going on after step" in done.stdout, done.stderr
    assert (tmp_path / "run" / "silence.safetensors").exists()

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pgrep and gloo as on Linux")
