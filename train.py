"""Learn one SVF expert by REINFORCE and show what it is worth on problems it has not seen.

The main job: fetch or load a model, decompose it, train z on a task, pick the best z by validation, and compare it
with the base model on held-out problems (of the training templates) and on test problems (of unseen ones).
Everything a run writes is in one folder: the expert, log.jsonl, and the state from which --resume goes on exactly.

    python train.py --task math
"""
import argparse
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

import adapt
import tasks
from checkpoint import DEFAULT_MODEL, load
from rl import accuracy, evaluate, new_state, rollout, train_expert
from svf import MODULES, save_expert, using, wrap

EVAL_EVERY = 4  # steps between validations
N_VAL = 128  # problems of the validation split, the same ones each time; they choose the best z
N_TEST = 512  # problems of each split in the final comparison; nothing is chosen on them
PATIENCE = 3  # validations without a better one before training stops early
TEST_SEED = 12345  # of the problems in final comparisons, whatever the seed of the run


@dataclass
class Config:
    task: str = "math"  # what to learn: math, code, reasoning, dispatch, or with --data gsm8k, mbpp, arc_easy, mawps
    model: str = DEFAULT_MODEL  # a Meta or Hugging Face folder, a .gguf file, or the default model by name
    data: str = ""  # folder of the real data sets' jsonl files
    experts: str = "experts"  # folder of the experts that dispatch chooses among
    out: str = ""  # folder to write to; empty: out/TASK-SEED
    modules: str = "all"  # which linears get a z: attn (wq wk wv wo), mlp (w1 w2 w3) or all
    steps: int = 14
    rollouts: int = 64  # sampled answers a step, each to its own problem
    micro_batch: int = 16  # answers per forward and backward pass; fewer need less memory
    lr: float = 4e-3  # twice the paper's: a tenth of its updates
    temperature: float = 0.7  # of rollouts and loss alike
    kl: float = 0.0  # λ; above 0 a step costs half as much again
    seed: int = 0
    device: str = ""  # cuda, mps or cpu; empty: the first of these that is there
    dtype: str = ""  # bfloat16 or float32; empty: bfloat16 where it is native
    resume: bool = False  # go on from the state in the output folder


# -- what every script does ----------------------------------------------------------------------------------------


def parse_flags(Config, description):
    """An argparse flag for every field of the dataclass, its default and its comment's text as help."""
    source = {line.split(":")[0].strip(): line.partition("#")[2].strip()
              for line in Path(sys.modules[Config.__module__].__file__).read_text().splitlines() if ": " in line}
    parser = argparse.ArgumentParser(description=description.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in fields(Config):
        if field.name == "prompt":
            parser.add_argument("prompt", nargs="?", default=field.default, help=source[field.name])
            continue
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, help=source[field.name] or " ",
                            **kind)
    return Config(**vars(parser.parse_args()))


def run(main):
    """main(), with a wrong input told in one sentence (exit code 2) and Ctrl-C in one line (130)."""
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, EOFError):
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


bar = partial(tqdm, leave=False, disable=None, dynamic_ncols=True)  # silent where stderr is no terminal


def pick_device_and_dtype(device, dtype):
    """(device, dtype) from the flags, or the best there is; raises ValueError for what is not there."""
    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    device = device or there[0]
    if device.split(":")[0] not in there:
        raise ValueError(f"--device {device} is not available here; there is {', '.join(there)}")
    if dtype not in ("", "float32", "bfloat16"):
        raise ValueError(f"--dtype {dtype} is not supported; choose float32 or bfloat16 (float16 overflows)")
    cpu = torch.cpu.get_capabilities()
    native = {"cuda": torch.cuda.is_available() and torch.cuda.is_bf16_supported(), "mps": False,
              "cpu": bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16") or cpu.get("bf16"))}
    name = dtype or ("bfloat16" if native[device.split(":")[0]] else "float32")
    return torch.device(device), getattr(torch, name)


def open_model(name, modules, device, dtype):
    """Load, decompose, then cast: (model wrapped and on its device, tokenizer, a line that says what it is)."""
    if modules not in MODULES:
        raise ValueError(f"--modules {modules} is not known; choose {', '.join(MODULES)}")
    device, dtype = pick_device_and_dtype(device, dtype)
    model, tokenizer = load(name, device, progress=partial(bar, desc="loading"), download_bar=lambda total: bar(
        total=total, desc="downloading", unit="B", unit_scale=True))
    wrap(model, MODULES[modules], progress=partial(bar, desc="decomposing"))
    model.to(dtype)
    count = sum(p.numel() for p in model.parameters())
    return model, tokenizer, f"{name}, {count / 1e6:.0f} M parameters, on {device} in {str(dtype)[6:]}"


def compare(model, tokenizer, task, split, rows, *, n, batch_size, logit_bias=None):
    """Greedy accuracy of each row, {name: z or None for the base model}, on the same n problems of a split.

    -> {name: (Rollout, a dict of accuracy, its standard error, lenient accuracy, share of finished answers)}
    """
    problems, results = task.problems(split, n, TEST_SEED), {}

    def answer(index):
        return rollout(model, tokenizer, task, [problems[i] for i in index], temperature=0, logit_bias=logit_bias)
    for name, z in rows.items():
        with using(model, z) if z else nullcontext(), bar(desc=f"{name} on {split}", total=len(problems)) as progress:
            answers = evaluate(answer, problems, batch_size=batch_size, on_rows=progress.update)
        p, se = accuracy(answers.rewards)
        lenient = [tasks.mentions_gold(problem, text) for problem, text in zip(problems, answers.texts)]
        results[name] = answers, {
            "task": task.name, "split": split, "row": name, "n": len(problems), "accuracy": p, "se": se,
            "lenient": None if None in lenient else sum(lenient) / len(lenient),
            "finished": sum(answers.finished) / len(problems)}
    return problems, results


def percent(value):
    return "    -" if value is None else f"{100 * value:5.1f}"


def result_line(r):
    return (f"{r['task']:<14} {r['split']:<8} {r['row']:<12} {percent(r['accuracy'])} ± {100 * r['se']:3.1f} %   "
            f"lenient {percent(r['lenient'])}   finished {percent(r['finished'])}   n {r['n']}")


# -- the main job ----------------------------------------------------------------------------------------------------


def choose_task(config, model, tokenizer):
    """(task, logit bias or None): the dispatcher chooses among the experts at hand, calibrated on the base model."""
    if config.task != "dispatch":
        return tasks.get_task(config.task, config.data), None
    _, metadata = adapt.load_experts(Path(config.experts), model)
    options = adapt.dispatch_options(metadata)
    return tasks.dispatch_task(options, config.data), adapt.calibrated_bias(model, tokenizer, options)


def read_state(folder, config):
    """The state of an interrupted run with the same flags."""
    try:
        saved = torch.load(folder / "state.pt", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"there is nothing to resume in {folder}; run without --resume first") from None
    changed = [k for k, v in asdict(config).items() if k != "resume" and saved["config"][k] != v]
    if changed:
        raise ValueError(f"{folder} was started with {changed[0]} = {saved['config'][changed[0]]!r}; use the same "
                         "flags, or another --out")
    return saved["state"]


def write_state(folder, state, config):
    torch.save({"state": state, "config": asdict(config)}, folder / "state.part")
    (folder / "state.part").rename(folder / "state.pt")


def main():
    config = parse_flags(Config, __doc__)
    folder = Path(config.out or f"out/{config.task}-{config.seed}")
    started = time.time()
    print(json.dumps(asdict(config)))
    state = read_state(folder, config) if config.resume else None
    if state is None and (folder / "state.pt").exists():
        raise ValueError(f"{folder} holds an earlier run; go on with --resume, or choose another --out")
    model, tokenizer, what = open_model(config.model, config.modules, config.device, config.dtype)
    print(f"{what}; {time.time() - started:.0f} s to load and decompose")
    task, logit_bias = choose_task(config, model, tokenizer)
    if task.stop:
        print("note: this task runs programs that the model wrote, in limited child processes (see sandbox.py)")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.jsonl"
    if state is None:
        state = new_state(model)
        log.write_text("")
    else:  # a step that was logged but not saved is done again
        kept = [line for line in log.read_text().splitlines() if json.loads(line).get("step", 1e9) <= state["step"]]
        log.write_text("".join(line + "\n" for line in kept))
        print(f"resuming after step {state['step']}")

    def write(record):
        with open(log, "a") as file:
            file.write(json.dumps(record) + "\n")

    clock = time.time()

    def on_step(state, metrics):
        nonlocal clock
        metrics["seconds"], clock = round(time.time() - clock, 1), time.time()
        write_state(folder, state, config)
        write(metrics)
        if metrics["step"] == 0:
            print(f"step   0/{config.steps} | the base model | val {percent(metrics['val_accuracy'])} %")
            return
        val = f" | val {percent(metrics['val_accuracy'])} %" if "val_accuracy" in metrics else ""
        print(f"step {metrics['step']:3d}/{config.steps} | right {percent(metrics['reward_rate'])} % | finished "
              f"{percent(metrics['finished'])} % | tokens {metrics['tokens']:5.1f} | kl {metrics['kl']:6.4f} | |∇| "
              f"{metrics['grad_norm']:6.2f} | rms z−1 {metrics['z_change']:.4f} | {metrics['seconds']:5.1f} s{val}",
              flush=True)

    train_expert(model, tokenizer, task, state, steps=config.steps, rollouts=config.rollouts, lr=config.lr,
                 temperature=config.temperature, lam=config.kl, micro_batch=config.micro_batch,
                 eval_every=EVAL_EVERY, val_problems=task.problems("val", N_VAL, TEST_SEED), patience=PATIENCE,
                 seed=config.seed, logit_bias=logit_bias, on_step=on_step)
    path = folder / f"{task.name}.safetensors"
    example = task.problems("train", 1, config.seed)[0].prompt
    metadata = {"fingerprint": model.fingerprint, "base": model.name, "task": task.name,
                "kind": "dispatch" if config.task == "dispatch" else "task", "description": task.description,
                "example": example, "system": task.system, "prefill": task.prefill, "step": state["best_step"],
                "val_accuracy": state["best_accuracy"], "val_n": N_VAL, "config": asdict(config),
                "command": "python " + " ".join(sys.argv)}
    save_expert(path, state["best"], metadata)
    print(f"best on validation: step {state['best_step']}, {percent(state['best_accuracy'])} % of {N_VAL}; "
          f"{time.time() - started:.0f} s so far\n")

    for split in task.splits[2:] if "heldout" in task.splits else task.splits[-1:]:
        problems, results = compare(model, tokenizer, task, split, {"base": None, "expert": state["best"]},
                                    n=N_TEST, batch_size=config.rollouts, logit_bias=logit_bias)
        for _, result in results.values():
            print(result_line(result), flush=True)
            write(result)
    print("\nthe last split's first answers, base model and expert:")
    for problem, before, after in list(zip(problems, results["base"][0].texts, results["expert"][0].texts))[:4]:
        print(f"\n  {problem.prompt}   ({problem.gold.strip()})\n  base:   {problem.prefill}{before!r}"
              f"\n  expert: {problem.prefill}{after!r}")
    print(f"\nwrote {path} and {log} in {time.time() - started:.0f} s. Next:\n"
          f"  python sample.py --expert {path} \"{example}\"")


if __name__ == "__main__":
    run(main)
