"""Learn one SVF expert by REINFORCE and show what it is worth on problems it has not seen.

The main job: load a model (the default one is fetched), decompose it, train z on a task, keep the best z of
the validations, and compare it with the base model on `heldout` problems (of the training templates) and on
`test` problems (of unseen ones). A run writes one folder: the expert, log.jsonl, and the state --resume goes
on from.

    python train.py --task math
"""
import json
import shlex
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

import adapt
import tasks
from checkpoint import DEFAULT_MODEL, load_experts, save_whole
from cli import (TEST_SEED, answer_all, append, bar, machine, open_model, parse_flags, peak_memory, pick_device,
                 report, run, show)
from rl import accuracy, rollout, train_expert
from svf import using

EVAL_EVERY = 5  # steps between validations
PATIENCE = 3  # validations without a better one before training stops
N_VAL = 128  # problems of the `val` split, the same each time; they choose the best z
N_TEST = 256  # problems of each split in the final comparison; they choose nothing
SHOWN = {"right": "right {:6.1%}", "finished": "finished {:6.1%}", "tokens": "{:5.1f} tokens",
         "kl": "kl {:.4f}", "grad_norm": "grad {:6.2f}", "z_change": "rms z-1 {:.4f}",
         "seconds": "{:5.1f} s", "val_accuracy": "validation {:6.1%}"}  # what a step's line shows

@dataclass
class Config:
    task: str = "math"  # math, code, reasoning, dispatch; with --data also gsm8k, mbpp, arc_easy, mawps
    model: str = DEFAULT_MODEL  # a Meta or Hugging Face folder, a .gguf file, or the default model by name
    data: str = ""  # folder of the real data sets' jsonl files
    experts: str = "experts"  # folder of the experts that dispatch chooses among
    out: str = ""  # folder to write to; empty: out/TASK-SEED
    modules: str = "all"  # which linears get a z: attn (wq wk wv wo), mlp (w1 w2 w3) or all
    steps: int = 10  # updates of z
    rollouts: int = 64  # sampled answers a step, each to its own problem
    micro_batch: int = 16  # answers in one forward and backward pass; fewer need less memory
    lr: float = 4e-3  # twice the paper's, for a tenth of its updates
    temperature: float = 0.7  # of rollouts and loss alike
    kl: float = 0.0  # λ; above 0 the gradient of a step costs a third more
    seed: int = 0  # of everything random
    device: str = ""  # cuda, mps or cpu; empty: the first of these that is there
    dtype: str = ""  # bfloat16 or float32; empty: bfloat16 where it is native
    resume: bool = False  # go on from the state in the output folder

def saved_run(folder, config):
    """What a run left there to go on from, {} for a new run. Raises ValueError where the flags do not fit."""
    path = folder / "state.pt"
    if config.resume != path.exists():
        raise ValueError(f"there is nothing to resume in {folder}; leave out --resume" if config.resume else
                         f"{folder} holds a run already; go on with --resume, or choose another --out")
    if not config.resume:
        return {}
    saved = torch.load(path, weights_only=True, map_location=pick_device(config.device, config.dtype)[0])
    for key, value in vars(config).items():
        if key != "resume" and saved["config"].get(key) != value:
            raise ValueError(f"{folder} began with {key} = {saved['config'].get(key)!r}; keep the flags")
    return saved

def main():
    config = parse_flags(Config, __doc__)
    folder, started = Path(config.out or f"out/{config.task}-{config.seed}"), time.time()
    print(json.dumps(vars(config)))
    if config.temperature <= 0 or config.kl < 0:
        raise ValueError("--temperature must be above 0: greedy answers are no REINFORCE; --kl at least 0")
    saved, kind, logit_bias = saved_run(folder, config), "task", None
    task = tasks.get_task(config.task, config.data) if config.task != "dispatch" else None
    if task and "train" not in task.splits:
        raise ValueError(f"--task {task.name} is only for evaluation; train on another")
    model, tokenizer = open_model(config.model, config.modules, config.device, config.dtype)
    if task is None:
        options = adapt.dispatch_options(*load_experts(Path(config.experts), model))
        task, kind = tasks.dispatch_task(options, config.data), "dispatch"
        logit_bias = adapt.calibrated_bias(model, tokenizer, options)
    if task.stop:
        print("note: this task runs programs that the model wrote, in limited child processes (sandbox.py)")
    folder.mkdir(parents=True, exist_ok=True)
    log, state = folder / "log.jsonl", saved.get("state", {})
    with open(log, "a") as file:  # a step that was logged but not saved is done again
        file.truncate(min(saved.get("logged", 0), log.stat().st_size))
    if state:
        print(f"going on after step {state['step']}")

    def greedy(z, problems, desc):
        answer = partial(rollout, model, tokenizer, task, temperature=0, logit_bias=logit_bias, share=True)
        with using(model, z):
            return answer_all(answer, problems, batch_size=config.rollouts, desc=desc)

    val_problems, clock = task.problems("val", N_VAL, TEST_SEED), time.time()
    tokens = bar(desc="rollout", unit="token")

    def on_step(state, metrics):
        nonlocal clock
        metrics["seconds"], clock = round(time.time() - clock, 1), time.time()
        append(log, metrics)
        torch.save({"state": state, "config": vars(config), "logged": log.stat().st_size}, folder / "part")
        (folder / "part").rename(folder / "state.pt")
        tokens.reset()
        shown = [text.format(metrics[key]) for key, text in SHOWN.items() if key in metrics]
        tqdm.write(" | ".join([f"step {metrics['step']:3d}/{config.steps}", *shown]))

    train_expert(model, tokenizer, task, state, steps=config.steps, rollouts=config.rollouts, lr=config.lr,
                 temperature=config.temperature, lam=config.kl, micro_batch=config.micro_batch,
                 seed=config.seed, validate=lambda z: accuracy(greedy(z, val_problems, "validation"))[0],
                 eval_every=EVAL_EVERY, patience=PATIENCE, logit_bias=logit_bias, on_step=on_step,
                 on_token=lambda row, token: tokens.update())
    tokens.close()

    path, example = folder / f"{task.name}.safetensors", task.problems("train", 1, config.seed)[0].prompt
    save_whole(path, state["best"], {
        "fingerprint": model.fingerprint, "base": model.name, "kind": kind, "task": task.name,
        "example": example, "description": task.description, "system": task.system, "prefill": task.prefill,
        "step": state["best_step"], "val_accuracy": state["best_accuracy"], "val_n": len(val_problems),
        "command": shlex.join(["python", *sys.argv])})
    print(f"best in validation: step {state['best_step']}, "
          f"{100 * state['best_accuracy']:.1f} % of {len(val_problems)}\n")

    for split in task.splits[2:]:
        problems, rows = task.problems(split, N_TEST, TEST_SEED), {}
        for row, z in (("base", {}), ("expert", state["best"])):
            rows[row] = greedy(z, problems, f"{row}, {split}")
            report(log, task.name, split, row, problems, rows[row])
    show(problems, rows)
    file, experts = shlex.quote(str(path)), shlex.quote(config.experts)
    use = f"cp {file} {experts}; python sample.py --adapt classifier --experts {experts}" \
        if kind == "dispatch" else f"python sample.py --expert {file}"
    use += f" --model {shlex.quote(model.name)}" if model.name != DEFAULT_MODEL else ""
    append(log, {"command": shlex.join(["python", *sys.argv]), "seconds": round(time.time() - started),
                 "peak_bytes": peak_memory(model.tok_embeddings.weight.device), "machine": machine(model)})
    print(f"\nwrote {path} and {log} in {time.time() - started:.0f} s. Next:\n"
          f"  {use} {shlex.quote(example.splitlines()[-1].removeprefix('Request: '))}")

if __name__ == "__main__":
    run(main)
