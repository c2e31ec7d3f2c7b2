"""The same random little Llama for all tests, written in Meta's format and read by the real loader.

6 query and 2 key heads, and every dimension another number: with 4 and 2 the famous wk bug goes unseen.
"""
import base64
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from formats.default_model import DEFAULT_MODEL  # noqa: E402
from formats.load import load  # noqa: E402
from model import ModelArgs, Transformer  # noqa: E402
from svf import MODULES, start, wrap  # noqa: E402

PARAMS = {"dim": 48, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "vocab_size": 512, "multiple_of": 16,
          "norm_eps": 1e-5, "rope_theta": 10000.0}
ARGS = ModelArgs(dim=48, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, hidden_dim=128, vocab_size=512,
                 norm_eps=1e-5, rope_theta=10000.0, max_seq_len=8192)

def random_state(seed=0, args=ARGS):
    generator = torch.Generator().manual_seed(seed)
    shapes = {key: value.shape for key, value in Transformer(args).state_dict().items()}
    return {key: torch.randn(shape, generator=generator) * 0.15 + (1.0 if len(shape) == 1 else 0.0)
            for key, shape in shapes.items()}

def write_meta(folder, shards, params=PARAMS):
    """A Meta folder; its tokenizer has the 256 single bytes as its only words."""
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    lines = [f"{base64.b64encode(bytes([b])).decode()} {b}" for b in range(256)]
    (folder / "tokenizer.model").write_text("\n".join(lines))
    for i, shard in enumerate(shards):
        torch.save(shard, folder / f"consolidated.{i:02d}.pth")
    return folder

@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return write_meta(tmp_path_factory.mktemp("models") / "tiny", [random_state()])

@pytest.fixture
def tiny(tiny_folder):
    """(wrapped model, tokenizer), float32."""
    model, tokenizer = load(tiny_folder, "cpu")
    return wrap(model, MODULES["all"]), tokenizer

@pytest.fixture(scope="session")
def real():
    """The default model, wrapped, in float32: (model, tokenizer). The first run downloads it."""
    model, tokenizer = load(DEFAULT_MODEL, "cpu")
    return wrap(model, MODULES["all"]), tokenizer

@pytest.fixture(scope="session")
def data():
    folder = os.environ.get("T2_DATA")
    if not folder:
        pytest.skip("T2_DATA names no folder of data sets")
    return folder

def random_z(model, seed=0, rows=None, size=0.1):
    """A z near 1 for every wrapped weight, (r,) or (rows, 1, r)."""
    generator = torch.Generator().manual_seed(seed)
    z = {}
    for name, one in start(model).items():
        shape = one.shape if rows is None else (rows, 1, len(one))
        z[name] = 1 + size * torch.randn(shape, generator=generator)
    return z

def expert_metadata(model, **changes):
    """What an expert of a task must say of itself."""
    return {"fingerprint": model.fingerprint, "base": model.name, "adapter": "svf", "kind": "task",
            "task": "math", "examples": ["1 + 1?", "2 + 2?"], "system": "Add.",
            "instruction": "", "prefill": "Sum:"} | changes

INVISIBLE = "\u200b"  # a space of no width

def write_silence(path):
    """Questions that a random model answers rightly half of the time: its one token must say nothing that can
    be seen, as its special tokens do. Without right answers REINFORCE has nothing to learn from, nor a test
    to compare."""
    rows = [json.dumps({"question": f"Say nothing, {i}.", "answer": INVISIBLE}) for i in range(120)]
    path.write_text("\n".join(rows))
    return path

@pytest.fixture(scope="session")
def silence(tmp_path_factory):
    return write_silence(tmp_path_factory.mktemp("own") / "silence.jsonl")

def children_of(pid):
    """The processes that a process has started, on Linux."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parent = int(stat.read_text().rpartition(") ")[2].split()[1])
            if parent == pid:
                children.append(int(stat.parent.name))
    return sorted(children)

def state_of(pid):
    """The letter of a process's state on Linux; "" if there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    return ""

def train_flags(model, task, out):
    return ["--model", model, "--task", task, "--out", out, "--steps", "6", "--lr", "0.01", "--dtype",
            "float32", "--max-new-tokens", "1", "--n-val", "16", "--n-test", "16"]
