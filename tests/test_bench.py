"""pytest tests/test_bench.py: the memory plan against a hand count and against what autograd keeps; bases
that survive a kill; loading that never holds the weights twice."""
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ARGS, PARAMS, random_state, random_z, write_meta

from formats.bases import cached_basis
from formats.load import load
from formats.meta import meta_args
from model import ModelArgs, Transformer
from parallel.tensor import BY_INPUT, basis_of_side
from scripts.bench import Config, basis_numbers, kept_bytes, memory_plan, read_args, weights_of
from svf import MODULES, SVFLinear, decompose, using, wrap, wrapped

ROOT = Path(__file__).parent.parent
LLAMA3_8B = {"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256,
             "multiple_of": 1024, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0}
STEP = Config(rollouts=64, micro_batch=2, prompt_tokens=256, new_tokens=256)

def test_the_plan_of_an_8b_adds_up_and_allocates_nothing(tmp_path):
    (tmp_path / "params.json").write_text(json.dumps(LLAMA3_8B))
    args = read_args(str(tmp_path))
    plan = memory_plan(args, weights_of(args), STEP, b=2, on_cpu=False)
    assert round(plan["W"] / 2 / 1e9, 2) == 8.03
    assert plan["z, its gradient, Adam"] == 16 * 720_896
    assert round(plan["bases"] / 2 / 1e9, 2) == 2.75
    assert round((plan["W"] + plan["bases"] + plan["W'"]) / 1e9, 1) == 35.5
    assert round(plan["rollout: key-value cache"] / 1e9, 1) == 4.3
    assert 35.5e9 < plan["peak"] < 48e9

def test_the_plan_of_a_70b_on_eight_gpus_is_the_hand_count(tmp_path):
    """Megatron's cut, the basis of each weight whole on the side that is not cut."""
    d, kv, hidden, n_layers = 8192, 1024, 28672, 80
    args = ModelArgs(dim=d, n_layers=n_layers, n_heads=64, n_kv_heads=8, head_dim=128, hidden_dim=hidden,
                     vocab_size=128256, norm_eps=1e-5, rope_theta=5e5, max_seq_len=8192)
    step = replace(STEP, gpus=8)
    plan = memory_plan(args, weights_of(args), step, b=2, on_cpu=False)
    linears = n_layers * (2 * d * d + 2 * kv * d + 3 * hidden * d)
    tables = 2 * 128256 * d + (2 * n_layers + 1) * d
    assert plan["W"] == 2 * (linears / 8 + tables)
    assert plan["W'"] == 2 * linears / 8
    # wq, w1, w3 by output and wo, w2 by input: d × d; wk and wv by output: V of r = 1024 columns
    assert plan["bases"] == 2 * n_layers * (5 * d * d + 2 * d * kv)
    assert plan["rollout: key-value cache"] == 64 * 512 * 2 * n_layers * 128 * 2  # one key head of eight
    half = memory_plan(args, weights_of(args, "even"), step, b=2, on_cpu=False)
    assert half["W"] == plan["W"] and half["bases"] == plan["bases"] / 2 and half["W'"] == plan["W'"] / 2
    assert plan["peak"] > 80e9 > half["peak"]

def test_the_plan_of_one_gpu_among_two_is_what_a_cut_linear_holds():
    """basis_numbers against the shape that parallel.tensor.basis_of_side gives."""
    torch.manual_seed(0)
    for name, shape in (("wq", (12, 12)), ("wk", (4, 12)), ("w1", (20, 12)), ("wo", (12, 12)),
                        ("w2", (12, 20))):
        basis = basis_of_side(torch.randn(shape), on_output=name in BY_INPUT)
        assert basis_numbers(name, shape, 2) == basis.numel()

def test_bench_prints_the_plan_of_a_configuration_file(tmp_path):
    (tmp_path / "params.json").write_text(json.dumps(LLAMA3_8B))
    done = subprocess.run([sys.executable, "-m", "scripts.bench", "--plan", tmp_path / "params.json"],
                          capture_output=True, text=True, cwd=ROOT)
    assert "8.03 B parameters, 224 linears, 720,896 z's, 2.75 G basis values" in done.stdout, done.stderr
    wrong = subprocess.run([sys.executable, "-m", "scripts.bench", "--plan", tmp_path / "none"],
                           capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 2 and "none is no params.json" in wrong.stderr

def test_the_plan_counts_what_autograd_keeps_in_a_block(tiny):
    """The bytes that a forward pass saves for the backward pass, block by block, against the formula."""
    model, _ = tiny
    z = {name: v.requires_grad_() for name, v in random_z(model).items()}
    kept, B, T = {}, 4, 32

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor
    with using(model, z):
        weights = {t.untyped_storage()._cdata for m in model.modules() if isinstance(m, SVFLinear)
                   for t in (m.merged, m.linear.weight, m.basis)}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.hidden(torch.ones(B, T, dtype=torch.long))
    total = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
    formula = B * T * ARGS.n_layers * kept_bytes(ARGS, 4, on_cpu=True)
    assert 0.9 < formula / total < 1.1

def test_bases_are_kept_read_again_and_not_made_twice(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, _ = load(tiny_folder, "cpu")
    made = []

    def counted(W):
        made.append(W)
        return decompose(W)

    def basis_of(name, W):
        return cached_basis(model.fingerprint, name, W, counted)
    wrap(model, MODULES["all"], basis_of)
    assert len(made) == 14
    files = sorted(tmp_path.rglob("*.safetensors"))
    files[3].unlink()
    files[8].rename(files[8].with_name(files[8].name + ".part"))  # what an interruption in mid-write leaves
    again, _ = load(tiny_folder, "cpu")
    wrap(again, MODULES["all"], basis_of)
    assert len(made) == 16
    for name, module in wrapped(again).items():
        assert torch.equal(module.basis, wrapped(model)[name].basis)

DECOMPOSE = """
import sys
sys.path.insert(0, sys.argv[1])
import svf
from formats.bases import cached_basis
from formats.load import load
model, _ = load(sys.argv[2], "cpu")
def one(W):
    print("made", flush=True)
    return svf.decompose(W)
def basis_of(name, W):
    return cached_basis(model.fingerprint, name, W, one)
svf.wrap(model, svf.MODULES["all"], basis_of)
"""

def test_a_damaged_basis_is_named(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, _ = load(tiny_folder, "cpu")

    def keep(name, W):
        return cached_basis(model.fingerprint, name, W, decompose)
    W = model.layers[0].attention.wq.weight.data
    basis = keep("layers.0.attention.wq", W)
    [path] = tmp_path.rglob("*.safetensors")
    assert torch.equal(keep("layers.0.attention.wq", W), basis)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is no whole basis .*; delete it"):
        keep("layers.0.attention.wq", W)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="is no basis of this weight"):
        keep("layers.0.attention.wq", W[:, :20])

def test_a_killed_decomposition_goes_on_where_it_was_bit_for_bit(tmp_path):
    # large enough that the kill falls in the middle
    params = {**PARAMS, "dim": 192, "n_layers": 4}
    args = meta_args(write_meta(tmp_path / "model", [{}], params) / "params.json")
    write_meta(tmp_path / "model", [random_state(args=args)], params)

    def start(cache):
        return subprocess.Popen([sys.executable, "-c", DECOMPOSE, ROOT, tmp_path / "model"], text=True,
                                stdout=subprocess.PIPE, env={**os.environ, "XDG_CACHE_HOME": str(cache)})
    child = start(tmp_path / "killed")
    for _ in range(10):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = len(list((tmp_path / "killed").rglob("*.safetensors")))
    assert 0 < there < 28
    assert start(tmp_path / "killed").communicate()[0].count("made") == 28 - there
    assert start(tmp_path / "whole").communicate()[0].count("made") == 28
    for file in (tmp_path / "whole").rglob("*.safetensors"):
        twin = tmp_path / "killed" / file.relative_to(tmp_path / "whole")
        assert twin.read_bytes() == file.read_bytes()

LOAD = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import torch
from formats.load import load
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous() - start)
        time.sleep(0.002)
for dtype in (None, torch.float32):
    start, peak, done = anonymous(), 0, False
    thread = threading.Thread(target=watch)
    thread.start()
    model, _ = load(sys.argv[2], "cpu", dtype)
    done = True
    thread.join()
    print(peak / sum(p.numel() * p.element_size() for p in model.parameters()))
    del model
"""

def test_loading_two_gigabytes_peaks_at_most_a_fifth_above_the_weights(tmp_path):
    """Two shards, which must be joined; in the file's own dtype and, twice as large, in float32."""
    if not Path("/proc/self/status").exists():
        pytest.skip("anonymous memory is read from /proc")
    params = {**PARAMS, "dim": 2048, "n_layers": 20, "n_heads": 16, "n_kv_heads": 16, "multiple_of": 256}
    args = meta_args(write_meta(tmp_path / "large", [{}], params) / "params.json")
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Transformer(args).state_dict().items()}
    axis = {"wo": 1, "w2": 1}
    half = {key: s if len(s) == 1 else [n // 2 if i == axis.get(key.split(".")[-2], 0) else n
                                        for i, n in enumerate(s)] for key, s in shapes.items()}
    shard = {key: torch.zeros(s, dtype=torch.bfloat16) for key, s in half.items()}
    folder = write_meta(tmp_path / "large", [shard], params)
    os.link(folder / "consolidated.00.pth", folder / "consolidated.01.pth")
    assert sum(file.stat().st_size for file in folder.glob("*.pth")) > 1.9e9
    done = subprocess.run([sys.executable, "-c", LOAD, ROOT, folder], capture_output=True, text=True)
    own, float32 = map(float, done.stdout.split())
    assert 0.5 < own <= 1.2 and 0.5 < float32 <= 1.2, done.stderr
