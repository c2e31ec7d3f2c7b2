"""What each part of the work costs: time, memory, and its share of what this machine can do at most.

The least time a part can take is the larger of bytes it must move / measured copy bandwidth and operations
it must do / measured matmul rate; the last column is that over the time it took. `--plan` allocates nothing:
it adds up a training step's memory from the configuration alone.

    python bench.py                                     # the default model
    python bench.py --plan FOLDER --prompt-tokens 256 --new-tokens 256
"""
import json
import math
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from checkpoint import DEFAULT_MODEL, hf_args, load, meta_args
from cli import append, decomposed, parse_flags, pick_device, run
from model import Transformer, generate
from rl import Answer, accumulate_gradient
from svf import MODULES, mix, ones, using, wrapped

GB = 1e9

@dataclass
class Config:
    model: str = DEFAULT_MODEL  # a Meta or Hugging Face folder, a .gguf file, or the default model by name
    plan: str = ""  # only the memory plan of a step for this params.json, config.json or folder, on a GPU
    rollouts: int = 64  # rows of a training step
    micro_batch: int = 16  # rows of one forward and backward pass
    prompt_tokens: int = 64  # of each row
    new_tokens: int = 32  # of each row
    members: int = 32  # of a CEM generation
    shots: int = 3  # of a CEM generation: members × shots rows
    repeats: int = 3  # the median of so many
    out: str = "out/bench.jsonl"  # every line as a JSON object, added to what is there
    device: str = ""  # cuda, mps or cpu; empty: the first of these that is there
    dtype: str = ""  # bfloat16 or float32; empty: bfloat16 where it is native

# -- the plan ------------------------------------------------------------------------------------------------

def read_args(path):
    """ModelArgs of a params.json (Meta), a config.json (Hugging Face) or a folder with one of them."""
    for name, read in (("params.json", meta_args), ("config.json", hf_args)):
        file = Path(path) if Path(path).name == name else Path(path, name)
        if file.is_file():
            try:
                return read(file)
            except KeyError as error:
                raise ValueError(f"{file} has no {error}") from error
    raise FileNotFoundError(f"{path} is no params.json or config.json, and no folder with one")

def weights_of(args):
    """(numbers in all weights, [(out, in) of each linear that gets a z]), by a model without memory."""
    with torch.device("meta"):
        model = Transformer(args)
    shapes = [tuple(m.weight.shape) for name, m in model.named_modules()
              if name.split(".")[-1] in MODULES["all"]]
    return sum(p.numel() for p in model.parameters()), shapes

def kept_bytes(args, b, on_cpu):
    """What a token leaves in one block for the backward pass, where a number of the model takes b bytes."""
    heads, kv = args.n_heads * args.head_dim, args.n_kv_heads * args.head_dim
    linears = (heads + 2 * kv + args.dim) + (args.dim + args.dim)  # y of wq wk wv wo; x of w1 and w3, y of w2
    swiglu = 3 * args.hidden_dim  # w1's output, its SiLU, w3's output
    attention = 2 * heads + 2 * kv  # q, k, v and the result: float32 on a CPU
    norms = 2 * args.dim  # their input in float32
    return b * (linears + swiglu) + (4 if on_cpu else b) * attention + 4 * norms

def memory_plan(args, step, *, b, on_cpu):
    """{part: bytes} of a training step with λ = 0; rollout and gradient come one after the other."""
    total, shapes = weights_of(args)
    tokens, r = step.prompt_tokens + step.new_tokens, [min(shape) for shape in shapes]
    plan = {"W": b * total, "bases": b * sum(n * n for n in r), "W'": b * sum(m * n for m, n in shapes),
            "z, its gradient, Adam": 4 * 4 * sum(r)}
    cache = step.rollouts * tokens * 2 * args.n_layers * args.n_kv_heads * args.head_dim * b
    kept = step.micro_batch * tokens * args.n_layers * kept_bytes(args, b, on_cpu)
    logits = 12 * step.micro_batch * step.new_tokens * args.vocab_size  # three float32 copies at a time
    peak = sum(plan.values()) + max(cache, kept + logits)
    return plan | {"rollout: key-value cache": cache, "gradient: activations": kept,
                   "gradient: logits": logits, "peak": peak}

def print_plan(config):
    args, b = read_args(config.plan), 4 if config.dtype == "float32" else 2
    total, shapes = weights_of(args)
    print(f"{config.plan}: {total / 1e9:.2f} B parameters, {len(shapes)} linears, "
          f"{sum(map(min, shapes)):,} z's, {sum(min(s) ** 2 for s in shapes) / 1e9:.2f} G basis values")
    print(f"a training step of {config.rollouts} rollouts of {config.prompt_tokens} + {config.new_tokens} "
          f"tokens, {config.micro_batch} rows at a time, {b} bytes a number:")
    for part, value in memory_plan(args, config, b=b, on_cpu=config.device == "cpu").items():
        print(f"  {part:<26} {value / GB:8.2f} GB")

# -- measuring -----------------------------------------------------------------------------------------------

def proc_status(key):
    """A memory figure of this process in bytes, or 0 where there is no /proc."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)

def timed(run, device, repeats):
    """(median seconds, peak bytes) of run(), after one run to warm up if there are several.

    glibc keeps freed blocks below a threshold that grows with use; only with MALLOC_MMAP_THRESHOLD_=1048576
    in the environment is the peak on a CPU what the work needed.
    """
    seconds = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is in use
    for _ in range(repeats + (repeats > 1)):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else proc_status("VmHWM")
    return statistics.median(seconds[repeats > 1:]), peak

def limits(device, dtype):
    """Bytes a second of a copy of half a gigabyte, in and out; {dtype: operations a second of a @ a}."""
    source = torch.ones(1 << 27, device=device)
    target, side, rates = torch.ones_like(source), 8192 if device.type == "cuda" else 2048, {}
    for kind in {dtype, torch.float32} | ({torch.float64} if device.type != "mps" else set()):
        a = torch.randn(side, side, device=device, dtype=kind)
        rates[kind] = 2 * side ** 3 / timed(lambda: a @ a, device, 5)[0]
    return 2 * source.nbytes / timed(lambda: target.copy_(source), device, 5)[0], rates

def main():
    config = parse_flags(Config, __doc__)
    if config.plan:
        return print_plan(config)
    device, dtype = pick_device(config.device, config.dtype)
    imports = 0 if device.type == "cuda" else proc_status("VmRSS")  # what importing took is not the work's
    print(json.dumps(asdict(config)))
    bandwidth, peak_rate = limits(device, dtype)
    print(f"{device}: copies {bandwidth / GB:.0f} GB/s, multiplies " +
          ", ".join(f"{v / 1e12:.2f} Tflop/s in {str(k)[6:]}" for k, v in peak_rate.items()))
    print(f"{'':<34} {'seconds':>9} {'peak GB':>9} {'of the limit':>13}")

    def measure(what, run, *, least_bytes=0, ops=0, kind=dtype, repeats=config.repeats):
        seconds, peak = timed(run, device, repeats)
        limit = max(least_bytes / bandwidth, ops / peak_rate.get(kind, math.inf))
        share = f"{100 * limit / seconds:11.0f} %" if limit else f"{'-':>13}"
        print(f"{what:<34} {seconds:9.3f} {(peak - imports) / GB:9.2f} {share}", flush=True)
        append(config.out, {"what": what, "device": str(device), "dtype": str(dtype)[6:], "seconds": seconds,
                            "peak_bytes": peak - imports, "limit_seconds": limit})
        return seconds

    loaded = []
    measure("load", lambda: loaded.extend(load(config.model, device)), repeats=1)
    model = loaded[0]
    _, shapes = weights_of(model.args)
    linears, table = sum(m * n for m, n in shapes), model.args.vocab_size * model.args.dim
    r_cubed, rmn = sum(min(s) ** 3 for s in shapes), sum(min(s) * s[0] * s[1] for s in shapes)
    # Gram matrix 2 r mn, and σ as much again; eigenvectors of a symmetric matrix 9 r³
    measure("decompose", lambda: decomposed(model, MODULES["all"]), ops=4 * rmn + 9 * r_cubed,
            kind=torch.float64, repeats=1)
    model.to(dtype)
    z = {name: (v + 0.01).requires_grad_() for name, v in ones(model).items()}
    measure("merge", lambda: [module.merge(z[name].detach()) for name, module in wrapped(model).items()],
            ops=4 * rmn, kind=torch.float32)

    generator = torch.Generator().manual_seed(0)
    rows = max(config.rollouts, config.members * config.shots)
    prompts = torch.randint(model.args.vocab_size, (rows, config.prompt_tokens), generator=generator).tolist()

    def sampled(rows, z):
        with using(model, z) as keep:
            generate(model, rows, max_new_tokens=config.new_tokens, stop_ids=(), temperature=1.0,
                     on_keep=keep)

    def generated(what, rows):
        """Every weight read once a token; 2 operations a weight, prompt and new tokens, the table for new."""
        new, seen = rows * config.new_tokens, rows * (config.prompt_tokens + config.new_tokens)
        return measure(f"{what}, {rows} rows", lambda: sampled(prompts[:rows], {}),
                       least_bytes=config.new_tokens * dtype.itemsize * (linears + table),
                       ops=2 * (seen * linears + new * table))
    generated("generate", 1)
    generated("generate", config.rollouts)

    answers = [Answer(prompt, (prompt * config.new_tokens)[:config.new_tokens], [], "", i % 2 * 2 - 1, True)
               for i, prompt in enumerate(prompts[:config.rollouts])]

    def step():
        with using(model, z):
            accumulate_gradient(model, answers, temperature=1.0, lam=0.0, micro_batch=config.micro_batch)
    # forward and input gradient 2 mn each, Uᵀy' and Uᵀg 2 r² each; the table where an answer is predicted
    new, seen = [config.rollouts * n for n in (config.new_tokens, config.prompt_tokens + config.new_tokens)]
    measure("merge and gradient of a step", step,
            ops=4 * seen * (linears + sum(min(s) ** 2 for s in shapes)) + 4 * new * table + 4 * rmn)
    plan = memory_plan(model.args, config, b=dtype.itemsize, on_cpu=device.type == "cpu")
    print(f"  planned peak {plan['peak'] / GB:.2f} GB")

    experts = {k: {name: v.detach() + 0.01 * k for name, v in z.items()} for k in (1, 2, 3)}
    members = [dict(zip(experts, alpha)) for alpha in torch.rand(config.members, 3).tolist()]
    mixtures = [member for member in members for _ in range(config.shots)]

    def member_by_member():
        for member in members:
            sampled(prompts[:config.shots], mix(experts, member))
    plain = generated("plain generate", len(mixtures))
    cem = measure(f"CEM generation, {len(mixtures)} rows",
                  lambda: sampled(prompts[:len(mixtures)], mix(experts, mixtures)))
    merging = measure("the same, merging for each member", member_by_member)
    print(f"  a CEM generation costs {cem / plain:.2f} plain ones, merging {merging / cem:.2f} times as much")
    print(f"wrote {config.out}")

if __name__ == "__main__":
    run(main)
