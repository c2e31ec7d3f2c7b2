"""What each part of the work costs: time, memory, and its share of what this machine can do at most.

The least time a part can take is the larger of bytes it must move / measured copy bandwidth and operations
it must do / measured matmul rate; the last column is that over the time it took. `--plan` allocates nothing:
it adds up a training step's memory from the configuration alone.

    python -m scripts.bench                                     # the default model
    python -m scripts.bench --plan FOLDER --prompt-tokens 256 --new-tokens 256
    python -m scripts.bench --plan FOLDER --gpus 8 --layers even    # of each GPU; half of the layers get a z
"""
import json
import math
import os
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import svf
from formats.checkpoint import checked, understood
from formats.default_model import DEFAULT_MODEL
from formats.huggingface import hf_args
from formats.load import load
from formats.meta import meta_args
from harness.flags import flag, parse_flags, run_main
from harness.logs import append, dtype_name, open_log, peak_memory, proc_status
from harness.models import check_dtype, pick_device, place_to_decompose
from model import Sampling, Stopping, Transformer, generate
from parallel.tensor import BY_OUTPUT
from rl import Answer, Learner, Settings, accumulate_gradient, reinforce
from scripts.adapters import in_layers

GB = 1e9

@dataclass
class Config:
    model: str = flag(DEFAULT_MODEL, "a Meta or Hugging Face folder, a .gguf file, or the default by name")
    plan: str = flag("", "only the memory plan of a step on a GPU, for this params.json or config.json")
    gpus: int = flag(1, "of the plan: how many hold one model together (scripts.train --tensor-parallel)")
    layers: str = flag("", "of the plan: those that get a z, even or a range as 8-15; empty: all")
    rollouts: int = flag(64, "rows of a training step")
    micro_batch: int = flag(16, "rows of one forward and backward pass")
    prompt_tokens: int = flag(64, "of each row")
    new_tokens: int = flag(32, "of each row")
    members: int = flag(32, "of a CEM generation")
    shots: int = flag(3, "of a CEM generation: members × shots rows")
    repeats: int = flag(3, "runs of each measurement; the median is reported")
    device: str = flag("", "cuda, mps or cpu; empty: the first of these that is there")
    dtype: str = flag("", "bfloat16 or float32; empty: bfloat16 where it is native")
    out: str = flag("out/bench.jsonl", "every line as a JSON object, added to what is there")

# -- the plan ------------------------------------------------------------------------------------------------

def read_args(path):
    """ModelArgs of a config.json (Hugging Face), a params.json (Meta) or a folder with one of them; of both,
    the first, which says all: Mistral's params.json does not."""
    for name, read in (("config.json", hf_args), ("params.json", meta_args)):
        file = Path(path)
        if file.name != name:
            file = file / name
        if file.is_file():
            with understood(file):
                return checked(file, read(file))
    raise FileNotFoundError(f"{path} is no params.json or config.json, and no folder with one")

@dataclass
class Weights:
    """The numbers in a model's weights, counted in a model without memory."""
    total: int
    in_linears: int  # of wq wk wv wo w1 w2 w3, which several GPUs divide among them
    adapted: list  # [(last name, (out, in))] of the linears that get a z

def weights_of(args, layers=""):
    """Weights of a model of this shape; layers as for train.py, "" being all."""
    with torch.device("meta"):
        model = Transformer(args)
    names = svf.MODULES["all"]
    found = svf.linears(model, names)
    adapted = svf.linears(model, in_layers(model, names, layers)) if layers else found
    return Weights(sum(p.numel() for p in model.parameters()), sum(m.weight.numel() for _, m in found),
                   [(name.split(".")[-1], tuple(m.weight.shape)) for name, m in adapted])

def kept_bytes(args, b, on_cpu):
    """What a token leaves in one block for the backward pass, where a number of the model takes b bytes."""
    heads, kv = args.n_heads * args.head_dim, args.n_kv_heads * args.head_dim
    linears = (heads + 2 * kv + args.dim) + (args.dim + args.dim)  # y of wq wk wv wo; x of w1 and w3, y of w2
    swiglu = 3 * args.hidden_dim  # w1's output, its SiLU, w3's output
    attention = 2 * heads + 2 * kv  # q, k, v and the result: float32 on a CPU
    norms = 2 * args.dim  # their input in float32
    return b * (linears + swiglu) + (4 if on_cpu else b) * attention + 4 * norms

def basis_numbers(name, shape, gpus):
    """How many numbers the basis of a weight (out, in) has on each GPU: the whole one of the smaller side,
    or, in a model cut into parts, of the side that is not cut."""
    r = min(shape)
    if gpus == 1:
        return r * r
    n_out, n_in = shape
    return r * (n_in if name in BY_OUTPUT else n_out)

def memory_plan(args, weights, config, *, b, on_cpu):
    """{part: bytes} of a training step with λ = 0, on each of config.gpus that hold one model together;
    rollout and gradient come one after the other."""
    adapted = weights.adapted
    gpus = config.gpus
    tokens = config.prompt_tokens + config.new_tokens
    part = replace(args, n_heads=args.n_heads / gpus, n_kv_heads=args.n_kv_heads / gpus,
                   hidden_dim=args.hidden_dim / gpus)  # what a GPU computes of a block
    plan = {"W": b * (weights.total - weights.in_linears + weights.in_linears / gpus),
            "bases": b * sum(basis_numbers(name, shape, gpus) for name, shape in adapted),
            "W'": b * sum(m * n for _, (m, n) in adapted) / gpus,
            "z, its gradient, Adam": 4 * 4 * sum(min(shape) for _, shape in adapted)}
    cache = config.rollouts * tokens * 2 * part.n_layers * part.n_kv_heads * part.head_dim * b
    kept = config.micro_batch * tokens * part.n_layers * kept_bytes(part, b, on_cpu)
    logits = 12 * config.micro_batch * config.new_tokens * args.vocab_size  # three float32 copies at a time
    peak = sum(plan.values()) + max(cache, kept + logits)
    return plan | {"rollout: key-value cache": cache, "gradient: activations": kept,
                   "gradient: logits": logits, "peak": peak}

def print_plan(config):
    check_dtype(config.dtype)
    args = read_args(config.plan)
    if args.n_kv_heads % config.gpus or args.hidden_dim % config.gpus:
        raise ValueError(f"--gpus {config.gpus}: {args.n_kv_heads} key heads and {args.hidden_dim} hidden "
                         "features cannot be cut into as many parts")
    b = 4 if config.dtype == "float32" else 2
    weights = weights_of(args, config.layers)
    z = sum(min(shape) for _, shape in weights.adapted)
    bases = sum(basis_numbers(name, shape, config.gpus) for name, shape in weights.adapted)
    print(f"{config.plan}: {weights.total / 1e9:.2f} B parameters, {len(weights.adapted)} linears, "
          f"{z:,} z's, {bases / 1e9:.2f} G basis values")
    where = f", on each of {config.gpus} GPUs that hold one model" if config.gpus > 1 else ""
    print(f"a training step of {config.rollouts} rollouts of {config.prompt_tokens} + {config.new_tokens} "
          f"tokens, {config.micro_batch} rows at a time, {b} bytes a number{where}:")
    for part, value in memory_plan(args, weights, config, b=b, on_cpu=config.device == "cpu").items():
        print(f"  {part:<26} {value / GB:8.2f} GB")

# -- measuring -----------------------------------------------------------------------------------------------

def finish(device):
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

def timed(work, device, repeats):
    """(median seconds, peak bytes) of work(), after one run to warm up if there are several.

    glibc keeps freed blocks below a threshold that grows with use; only with MALLOC_MMAP_THRESHOLD_=1048576
    in the environment is the peak on a CPU what the work needed.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is in use
    if repeats > 1:
        work()
    finish(device)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        finish(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), peak_memory(device)

@dataclass
class Limits:
    """What this machine can do at most."""
    bandwidth: float  # bytes a second of a copy of half a gigabyte, in and out
    rates: dict[torch.dtype, float]  # operations a second of a @ a

    def least_seconds(self, bytes_moved, operations, dtype):
        return max(bytes_moved / self.bandwidth, operations / self.rates.get(dtype, math.inf))

def measure_limits(device, dtype):
    source = torch.ones(1 << 27, device=device)
    target = torch.ones_like(source)

    def copy():
        target.copy_(source)

    seconds, _ = timed(copy, device, 5)
    bandwidth = 2 * source.nbytes / seconds
    side = 8192 if device.type == "cuda" else 2048
    kinds = {dtype, torch.float32}
    if device.type != "mps":
        kinds.add(torch.float64)
    rates = {}
    for kind in kinds:
        a = torch.randn(side, side, device=device, dtype=kind)

        def multiply(a=a):
            a @ a

        seconds, _ = timed(multiply, device, 5)
        rates[kind] = 2 * side ** 3 / seconds
    return Limits(bandwidth, rates)

class Bench:
    """Measures one part after another and prints a line for each."""

    def __init__(self, config):
        self.config = config
        self.device, self.dtype = pick_device(config.device, config.dtype)
        # what importing took is not the work's
        self.imports = 0 if self.device.type == "cuda" else proc_status("VmRSS")
        self.limits = measure_limits(self.device, self.dtype)

    def measure(self, what, work, repeats, bytes_moved=0, operations=0, dtype=None):
        """Seconds of work(); the operations are in `dtype`, by default the model's."""
        seconds, peak = timed(work, self.device, repeats)
        limit = self.limits.least_seconds(bytes_moved, operations, dtype or self.dtype)
        share = f"{100 * limit / seconds:11.0f} %" if limit else f"{'-':>13}"
        print(f"{what:<34} {seconds:9.3f} {(peak - self.imports) / GB:9.2f} {share}", flush=True)
        append(self.config.out, {"what": what, "device": str(self.device), "dtype": dtype_name(self.dtype),
                                 "seconds": seconds, "peak_bytes": peak - self.imports,
                                 "limit_seconds": limit})
        return seconds

    def print_limits(self):
        rates = ", ".join(f"{rate / 1e12:.2f} Tflop/s in {dtype_name(dtype)}"
                          for dtype, rate in self.limits.rates.items())
        print(f"{self.device}: copies {self.limits.bandwidth / GB:.0f} GB/s, multiplies {rates}")
        print(f"{'':<34} {'seconds':>9} {'peak GB':>9} {'of the limit':>13}")

    def load_and_decompose(self):
        """Measures both and keeps the model."""

        def load_model():
            self.model, _ = load(self.config.model, self.device)

        def basis_of(name, W):  # computed, where one that was kept could be read
            return svf.decompose(W.to(place_to_decompose(self.device)))

        def decompose():
            svf.wrap(self.model, svf.MODULES["all"], basis_of)

        self.measure("load", load_model, repeats=1)
        self.weights = weights_of(self.model.args)
        self.shapes = [shape for _, shape in self.weights.adapted]
        self.linears = sum(m * n for m, n in self.shapes)
        self.table = self.model.args.vocab_size * self.model.args.dim
        r_cubed = sum(min(shape) ** 3 for shape in self.shapes)
        self.rmn = sum(min(m, n) * m * n for m, n in self.shapes)
        # Gram matrix 2 r mn, and σ as much again; eigenvectors of a symmetric matrix 9 r³
        self.measure("decompose", decompose, repeats=1, operations=4 * self.rmn + 9 * r_cubed,
                     dtype=torch.float64)
        self.model.to(self.dtype)
        self.z = {name: (v + 0.01).requires_grad_() for name, v in svf.start(self.model).items()}

    def merge(self):

        def merge_all():
            for name, module in svf.wrapped(self.model).items():
                module.merge(self.z[name].detach())

        self.measure("merge", merge_all, self.config.repeats, operations=4 * self.rmn, dtype=torch.float32)

    def random_prompts(self, rows):
        generator = torch.Generator().manual_seed(0)
        shape = (rows, self.config.prompt_tokens)
        return torch.randint(self.model.args.vocab_size, shape, generator=generator).tolist()

    def sample(self, prompts, z):
        with svf.using(self.model, z) as select_rows:
            generate(self.model, prompts, Stopping(self.config.new_tokens), Sampling(temperature=1.0),
                     select_rows=select_rows)

    def generate(self, what, rows):
        """Every weight is read once a token; 2 operations a weight, the table for new tokens only."""
        prompts = self.random_prompts(rows)
        new = rows * self.config.new_tokens
        seen = rows * (self.config.prompt_tokens + self.config.new_tokens)

        def sample_base():
            self.sample(prompts, {})

        return self.measure(
            f"{what}, {rows} rows", sample_base, self.config.repeats,
            bytes_moved=self.config.new_tokens * self.dtype.itemsize * (self.linears + self.table),
            operations=2 * (seen * self.linears + new * self.table))

    def training_step(self):
        config = self.config
        answers = []
        for i, prompt in enumerate(self.random_prompts(config.rollouts)):
            ids = (prompt * config.new_tokens)[:config.new_tokens]
            answers.append(Answer(prompt, ids, [], "", 1 if i % 2 else -1, True))
        advantages = [answer.r for answer in answers]
        settings = Settings(steps=1, n_problems=config.rollouts // 2, group=2, micro_batch=config.micro_batch,
                            lr=0.0, lam=0.0, seed=0, eval_every=1)
        learner = Learner(self.model, None, svf, None, Sampling(1.0), settings, reinforce)

        def merge_and_gradient():
            with svf.using(self.model, self.z):
                accumulate_gradient(learner, answers, advantages, learner.sampling)

        # forward and input gradient 2 mn each, Uᵀy' and Uᵀg 2 r² each; the table where an answer is predicted
        new = config.rollouts * config.new_tokens
        seen = config.rollouts * (config.prompt_tokens + config.new_tokens)
        r_squared = sum(min(shape) ** 2 for shape in self.shapes)
        self.measure("merge and gradient of a step", merge_and_gradient, config.repeats,
                     operations=4 * seen * (self.linears + r_squared) + 4 * new * self.table + 4 * self.rmn)
        plan = memory_plan(self.model.args, self.weights, config, b=self.dtype.itemsize,
                           on_cpu=self.device.type == "cpu")
        print(f"  planned peak {plan['peak'] / GB:.2f} GB")

    def cem_generation(self):
        """A generation in which every row has its own z, beside a plain one and one merged per member."""
        config = self.config
        experts = {k: {name: v.detach() + 0.01 * k for name, v in self.z.items()} for k in (1, 2, 3)}
        members = [dict(zip(experts, alpha)) for alpha in torch.rand(config.members, 3).tolist()]
        prompts = self.random_prompts(config.members * config.shots)
        z_per_row = [member for member in members for _ in range(config.shots)]

        def row_by_row():
            self.sample(prompts, svf.mix(experts, z_per_row))

        def member_by_member():
            for member in members:
                self.sample(prompts[:config.shots], svf.mix(experts, member))

        plain = self.generate("plain generate", len(prompts))
        cem = self.measure(f"CEM generation, {len(prompts)} rows", row_by_row, config.repeats)
        merging = self.measure("the same, merging for each member", member_by_member, config.repeats)
        print(f"  a CEM generation costs {cem / plain:.2f} plain ones, "
              f"merging {merging / cem:.2f} times as much")

def main():
    config = parse_flags(Config, __doc__)
    if config.plan:
        print_plan(config)
        return
    if config.gpus > 1 or config.layers:
        raise ValueError("--gpus and --layers belong to the plan; add --plan FOLDER")
    print(json.dumps(asdict(config)))
    open_log(config.out)
    bench = Bench(config)
    bench.print_limits()
    bench.load_and_decompose()
    bench.merge()
    bench.generate("generate", 1)
    bench.generate("generate", config.rollouts)
    bench.training_step()
    bench.cem_generation()
    print(f"wrote {config.out}")

if __name__ == "__main__":
    run_main(main)
