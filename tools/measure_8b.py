"""All that needs a GPU, in one go: a checkpoint of Llama-3-8B's exact shape with random weights, and what it
costs to load, decompose, train and adapt it; then the default model on the same GPU.

    python tools/measure_8b.py /scratch/llama-3-8b-random          # 16 GB there, 6 GB in the cache folder
    python tools/measure_8b.py FOLDER --data FOLDER                # and gsm8k, arc_easy at the paper's batch
    python tools/measure_8b.py FOLDER --layers 2 --dim 256         # a dry run of a few minutes on a CPU
"""
import argparse
import base64
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from formats.default_model import cache_folder  # noqa: E402
from formats.load import load  # noqa: E402
from formats.meta import meta_args  # noqa: E402
from model import Transformer  # noqa: E402
from scripts.spectrum import singular_values  # noqa: E402
from svf import decompose  # noqa: E402

def make_checkpoint(folder, dim, n_layers):
    """Meta's format, bfloat16, the scale of a fresh initialization: 1 / √(inputs)."""
    folder.mkdir(parents=True, exist_ok=True)
    params = {"dim": dim, "n_layers": n_layers, "n_heads": dim // 128, "n_kv_heads": max(1, dim // 512),
              "vocab_size": 128256, "multiple_of": 1024 if dim == 4096 else 64, "ffn_dim_multiplier": 1.3,
              "norm_eps": 1e-05, "rope_theta": 500000.0}
    (folder / "params.json").write_text(json.dumps(params))
    words = itertools.chain(*(itertools.product(range(256), repeat=n) for n in (1, 2, 3)))
    lines = [f"{base64.b64encode(bytes(word)).decode()} {i}" for i, word in
             enumerate(itertools.islice(words, 128000))]
    (folder / "tokenizer.model").write_text("\n".join(lines))
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in Transformer(meta_args(folder / "params.json")).state_dict().items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)

    def weight(shape):
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        w = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
        return (w / shape[-1] ** 0.5).to(torch.bfloat16).cpu()
    torch.save({k: weight(s) for k, s in shapes.items()}, folder / "consolidated.00.part")
    (folder / "consolidated.00.part").rename(folder / "consolidated.00.pth")

def check_decomposition(folder):
    """σ by our decomposition against torch.linalg.svd in float64, on one weight of each shape."""
    model, _ = load(folder, "cuda" if torch.cuda.is_available() else "cpu")
    seen = set()
    for name, module in model.named_modules():
        W = getattr(module, "weight", None)
        if not isinstance(module, torch.nn.Linear) or name == "output" or tuple(W.shape) in seen:
            continue
        seen.add(tuple(W.shape))
        basis, W = decompose(W), W.double()
        sigma = singular_values(W, basis)
        wanted = torch.linalg.svdvals(W)
        print(f"{name} {tuple(W.shape)}: max |σ − σ_ref| / σ_1 = "
              f"{((sigma - wanted).abs().max() / wanted[0]).item():.1e}   (aim 1e-6)", flush=True)

FAILED = []

def run(*command):
    if "--out" in command:  # a run of before
        shutil.rmtree(ROOT / command[command.index("--out") + 1], ignore_errors=True)
    print("\n$ python " + " ".join(map(str, command)), flush=True)
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT)  # "train.py", or "-m", "scripts.…"
    print(f"exit code {done.returncode}", flush=True)
    if done.returncode != 0:
        FAILED.append(" ".join(map(str, command[:2])))

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--dim", type=int, default=4096)
    flags = parser.parse_args()
    flags.folder = flags.folder.resolve()  # the scripts are started in this repository
    flags.data = flags.data and str(Path(flags.data).resolve())
    if not (flags.folder / "consolidated.00.pth").exists():
        make_checkpoint(flags.folder, flags.dim, flags.layers)
    print(f"bases are kept in {cache_folder() / 'bases'}")
    lengths = ("--prompt-tokens", 256, "--new-tokens", 256) if flags.dim == 4096 else ("--rollouts", 4)
    run("-m", "scripts.bench", "--plan", flags.folder, "--micro-batch", 2, *lengths)
    check_decomposition(flags.folder)
    run("-m", "scripts.bench", "--model", flags.folder, "--micro-batch", 2, "--repeats", 1, *lengths)
    run("-m", "scripts.bench", "--model", flags.folder, "--shots", 10, "--rollouts", 1, "--repeats", 1)
    run("train.py", "--model", flags.folder, "--task", "math", "--steps", 1, "--micro-batch", 2, "--out",
        flags.folder / "run")
    if torch.cuda.is_available():
        run("train.py", "--task", "math", "--out", "out/gpu-math")
    for task in ("gsm8k", "arc_easy") if flags.data else ():
        run("train.py", "--task", task, "--data", flags.data, "--rollouts", 256, "--out", f"out/gpu-{task}")
    if FAILED:
        sys.exit(f"failed: {', '.join(FAILED)}")
