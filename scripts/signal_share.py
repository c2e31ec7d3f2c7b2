"""How much of a step's gradient is signal: a setting is chosen by it in minutes, in place of whole runs.

At a fixed z, K independent steps give gradients g_1 … g_K. Noise differs between them, the signal does not:

    share = mean of ⟨g_i, g_j⟩ over i ≠ j, divided by the mean of ‖g_i‖²

A share of 0.07 says that a step's direction has a cosine of √0.07 = 0.26 with the true one. The error is
the jackknife's over steps. A setting is problems x answers to each, perhaps a temperature behind "@".

Beside it stands how far such a step moves the policy: KL(π_z ‖ π_z'), in nats an answer, for the z' after
Adam's first step at --lr. Of another model, begin with the rate that moves it as far.

    python -m scripts.signal_share                                    # the default setting and others
    python -m scripts.signal_share --settings 8x8,8x16@0.5 --steps 12
    python -m scripts.signal_share --expert experts/math.safetensors  # where an expert is
"""
import math
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch

import svf
import train
from harness.experts import load_expert
from harness.flags import ModelChoice, flag, parse_flags, run_main
from harness.logs import append, command_line, machine, open_log
from harness.models import open_model
from harness.report import say_if_programs_run
from model import Sampling
from rl import Learner, Settings, answer_logprobs, baseline_of, reinforce, rollout, seed_of_step
from tasks.catalog import DEFAULT_CAP, task_to_learn

N_FRESH = 32  # answers by which the size of a step is measured

@dataclass
class Config(ModelChoice):
    task: str = flag("math", "as for train.py, but for dispatch")
    settings: str = flag("16x4,8x8,8x16", "problems x answers to each, perhaps @temperature; commas between")
    steps: int = flag(8, "independent steps of each setting, K", (3, 10 ** 4))
    lr: float = flag(train.Config.lr, "the rate of the step whose size in nats is measured", (1e-9, 1))
    expert: str = flag("", "the z at which gradients are taken: an expert's file; empty: z = 1")
    seed: int = flag(0, "of problems and answers")
    data: str = flag("", "folder of the real data sets' files")
    max_new_tokens: int = flag(DEFAULT_CAP, "cap of an answer to a question of your own file")
    out: str = flag("out/signal.jsonl", "a line for each setting, added to what is there")

def setting_of(text, seed):
    """'8x16@0.5' -> (Settings, temperature 0.5). Raises ValueError for another text."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?:@(\d+(?:\.\d+)?))?", text.strip())
    if not found or int(found[1]) * int(found[2]) < 2 or float(found[3] or 1) == 0:
        raise ValueError(f"{text!r} is no setting; write problems x answers, as 16x4 or 8x16@0.5")
    settings = Settings(steps=1, n_problems=int(found[1]), group=int(found[2]),
                        micro_batch=train.Config.micro_batch, lr=0.0, lam=0.0, seed=seed, eval_every=1)
    return settings, float(found[3] or train.Config.temperature)

def gradient_of(learner, z, step):
    """(−dJ/dz of one step as one vector, what there is to say of the step)."""
    found = []

    def keep(z, optimizer):
        found.append(torch.cat([torch.zeros_like(v) if v.grad is None else v.grad for v in z.values()]))
        for v in z.values():
            v.grad = None
        return found[0].norm().item()

    seed = seed_of_step(learner.settings, step)
    problems = learner.task.problems("train", learner.settings.n_problems, seed)
    generator = torch.Generator(learner.model.tok_embeddings.weight.device).manual_seed(seed)
    metrics = reinforce(replace(learner, descend=keep), z, None, problems, generator)
    return found[0], metrics

def share_of_signal(gradients):
    """(share, its error) of gradients (K, N): signal over the mean square, error by the jackknife."""

    def share(products):
        k = len(products)
        squares = products.diagonal()
        return ((products.sum() - squares.sum()) / (k - 1) / squares.sum()).item()

    gradients = gradients.cpu().double()  # Apple's GPUs have no float64
    products = gradients @ gradients.T  # (K, K)
    k = len(products)
    without_one = []
    for i in range(k):
        others = [j for j in range(k) if j != i]
        without_one.append(share(products[others][:, others]))
    deviation = sum((value - fmean(without_one)) ** 2 for value in without_one)
    return share(products), math.sqrt(deviation * (k - 1) / k)

def after_first_step(z, gradient, lr):
    """z after Adam's first step, which is lr against the sign of each number's gradient. `gradient` is one
    vector for all of z."""
    sizes = [v.numel() for v in z.values()]
    return {name: v.detach() - lr * of_weight.sign()
            for (name, v), of_weight in zip(z.items(), gradient.split(sizes), strict=True)}

@torch.no_grad()
def nats_between(learner, answers, z):
    """KL(π ‖ π_z) of an answer, estimated from answers that π gave: e^Δ − 1 − Δ, Δ = log π_z − log π, summed
    over the tokens of an answer; the mean of the answers. (E_π[e^Δ − 1] = 0; without it the estimate is far
    noisier.)"""
    with learner.adapter.using(learner.model, z):
        logp, _ = answer_logprobs(learner.model, answers, learner.sampling)
    ids = torch.tensor([token for a in answers for token in a.ids], device=logp.device)
    before = torch.tensor([value for a in answers for value in a.logprobs], device=logp.device)
    change = logp.gather(1, ids[:, None])[:, 0] - before
    return (change.exp() - 1 - change).sum().item() / len(answers)

def fresh_answers(learner, z):
    """Answers under z that no gradient is made of, to judge steps by."""
    problems = learner.task.problems("train", N_FRESH, learner.settings.seed)
    generator = torch.Generator(learner.model.tok_embeddings.weight.device).manual_seed(learner.settings.seed)
    with learner.adapter.using(learner.model, z):
        return rollout(learner.model, learner.tokenizer, learner.task, problems,
                       replace(learner.sampling, generator=generator))

def measure(config, learner, z, text):
    """A line for a setting: share of signal, and what the answers were like."""
    settings, temperature = setting_of(text, config.seed)
    learner = replace(learner, settings=settings, sampling=Sampling(temperature),
                      advantages=baseline_of(settings.group))
    gradients, metrics = [], []
    started = time.time()
    for step in range(1, config.steps + 1):
        gradient, said = gradient_of(learner, z, step)
        gradients.append(gradient)
        metrics.append(said)
    seconds = (time.time() - started) / config.steps
    all_gradients = torch.stack(gradients)  # (K, N)
    if not all_gradients.any():
        raise ValueError(f"{text}: no step says anything, as all answers that are compared earn the same; "
                         "choose an easier task or more answers")
    share, error = share_of_signal(all_gradients)
    answers = fresh_answers(learner, z)
    nats = fmean(nats_between(learner, answers, after_first_step(z, gradient, config.lr))
                 for gradient in gradients)
    mean = {key: fmean(said[key] for said in metrics)
            for key in ("right", "finished", "tokens", "telling", "grad_norm")}
    n = settings.n_problems * settings.group
    print(f"{text:<10} {n:4d} answers a step   share of signal {share:6.3f} ± {error:.3f}   right "
          f"{mean['right']:6.1%}   telling {mean['telling']:6.1%}   {mean['tokens']:5.1f} tokens   "
          f"{seconds:5.1f} s   a step of {config.lr:g} is {nats:.2f} nats", flush=True)
    append(config.out, {"model": config.model, "task": config.task, "seed": config.seed, "setting": text,
                        "expert": config.expert, "answers": n, "steps": config.steps, "share": share,
                        "share_se": error, "seconds": seconds, "lr": config.lr, "nats": nats} | mean)

def main():
    config = parse_flags(Config, __doc__)
    texts = config.settings.split(",")
    for text in texts:
        setting_of(text, config.seed)  # refused now, and not after minutes
    open_log(config.out)
    task = task_to_learn(config.task, config.data, config.max_new_tokens)
    say_if_programs_run(task)
    model, tokenizer = open_model(config)
    z = svf.start(model)
    if config.expert:
        learned, _ = load_expert(Path(config.expert), model)
        z = z | learned
    z = {name: v.clone().requires_grad_() for name, v in z.items()}
    learner = Learner(model, tokenizer, svf, task, Sampling(train.Config.temperature), None, reinforce)
    for text in texts:
        measure(config, learner, z, text)
    append(config.out, {"command": command_line(), "machine": machine(model)})
    print(f"wrote {config.out}")

if __name__ == "__main__":
    run_main(main)
