"""The accuracy tables of the README, one command each: n and standard error; with the seed also as jsonl.

    python eval.py                                              # every strategy on the unseen tasks
    python eval.py --tasks math,code,reasoning --split heldout  # the same on problems like those of training
    python eval.py --tasks math --rows base,instructed          # what is only format?
    python eval.py --dispatch                                   # which request goes to which expert
"""
import shlex
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import adapt
import tasks
from checkpoint import DEFAULT_MODEL, load_experts
from cli import TEST_SEED, answer_all, append, machine, open_model, parse_flags, report, run
from rl import accuracy
from sample import search_mixture
from svf import ones

INSTRUCTIONS = {  # one line behind the prompt: how far is format what an expert learned?
    "math": ("Write one short calculation, then stop.", "Write only the equation and its result.",
             "Answer with one number only."),
    "reasoning": ("Answer with one word or number only.", "Reply with only the right option.",
                  "Give just the answer, nothing else."),
    "code": ("Reply with one return statement.", "Write only the function body.", "Use one line.")}

ROWS = "base random expert instructed examples prompt classifier cem".split()

@dataclass
class Config:
    tasks: str = ""  # with commas between; empty: the unseen cousins of the experts' tasks
    split: str = "test"  # of their problems: test (unseen templates) or heldout (those of training)
    rows: str = ""  # of base, random, expert, instructed, examples, prompt, classifier, cem; empty: all
    dispatch: bool = False  # the confusion matrices instead; then --n requests of each class
    n: int = 256  # problems of each task
    shots: int = 3  # examples for cem and for the row with examples in the prompt
    generations: int = 10  # of cem
    searches: int = 3  # of cem, each with other examples and another seed
    experts: str = "experts"  # folder of the experts at hand
    data: str = ""  # folder of the real data sets' jsonl files
    out: str = "out/eval.jsonl"  # every line of the tables as a JSON object, added to what is there
    model: str = DEFAULT_MODEL  # a Meta or Hugging Face folder, a .gguf file, or the default model by name
    seed: int = TEST_SEED  # of the problems
    device: str = ""  # cuda, mps or cpu; empty: the first of these that is there
    dtype: str = ""  # bfloat16 or float32; empty: bfloat16 where it is native

def random_expert(model, experts, seed):
    """z = 1 + noise, in each weight of the root-mean-square size that the task experts have there."""
    generator = torch.Generator().manual_seed(seed)

    def noise(name, like):
        size = torch.stack([z.get(name, like) - 1 for z in experts.values()]).square().mean().sqrt()
        return size * torch.randn(like.shape, generator=generator).to(like)
    return {name: like + noise(name, like) for name, like in ones(model).items()}

def classifiers(experts):
    """{row: z_c}: none for the prompt strategy, and the dispatch expert's if there is one."""
    return {"prompt": {}} | {"classifier": z for z in list(experts["dispatch"].values())[:1]}

def rows_of(config, model, tokenizer, experts, metadata, task, ask):
    """{row: its first pass}, a function from problems to (problems as they are asked, their mixtures)."""
    def under(name, problems, before="", after=""):
        asked = [replace(p, prompt=f"{before}{p.prompt}{after}") for p in problems]
        return asked, [{name: 1.0}] * len(problems)

    def instructed(problems):
        val, right = task.problems("val", 128, config.seed), {}
        for line in INSTRUCTIONS[task.name]:
            right[line], _ = accuracy(ask(*under("other", val, after=f" {line}"), desc=line))
            print(f"{task.name:<15} val      {100 * right[line]:5.1f} % of {len(val)} with '{line}'")
        return under("other", problems, after=f" {max(right, key=right.get)}")

    def after_examples(problems):
        shots = task.problems("val", config.shots, 0)
        shown = [f"{s.prompt}\n{s.prefill}{'' if s.check else ' '}{s.gold}\n\n" for s in shots]
        return under("other", problems, before="".join(shown))

    def dispatched(z_c, problems):
        dispatch = adapt.dispatcher(model, tokenizer, experts, metadata, z_c)
        mixtures = dispatch([p.prompt for p in problems])
        return [adapt.dressed(p, m, metadata) for p, m in zip(problems, mixtures)], mixtures

    def searched(seed, problems):
        mixture = search_mixture(config, model, tokenizer, experts["task"], task, seed)
        return problems, [mixture] * len(problems)

    rows = {"base": partial(under, "other"), "random z": partial(under, "random")}
    rows |= {f"expert {name}": partial(under, name) for name in experts["task"]}
    rows |= {"instructed": instructed} if task.name in INSTRUCTIONS else {}
    rows |= {"examples": after_examples}
    rows |= {row: partial(dispatched, z_c) for row, z_c in classifiers(experts).items()}
    return rows | {f"cem {seed}": partial(searched, seed) for seed in range(config.searches)}

def accuracy_table(config, model, tokenizer, experts, metadata, chosen):
    """Every row on every task; the seconds of both passes are in the log."""
    at_hand = {**experts["task"], "random": random_expert(model, experts["task"], config.seed)}
    for task in chosen:
        second_pass = partial(adapt.second_pass, model, tokenizer, at_hand, task, temperature=0)
        ask, problems = partial(answer_all, second_pass), task.problems(config.split, config.n, config.seed)
        for row, mixtures_for in rows_of(config, model, tokenizer, experts, metadata, task, ask).items():
            if config.rows and row.split()[0] not in config.rows.split(","):
                continue
            clock = [time.time()]
            asked, mixtures = mixtures_for(problems)
            clock.append(time.time())
            answers = ask(asked, mixtures, desc=f"{task.name}: {row}")
            first, second = clock[1] - clock[0], time.time() - clock[1]
            report(config.out, task.name, config.split, row, asked, answers, mixture=mixtures[0],
                   seed=config.seed, first_pass_s=round(first, 1), second_pass_s=round(second, 1))

def confusion_table(config, model, tokenizer, experts, metadata):
    """Rows: what a request is; columns: where it goes. Held-out and test requests, then unseen tasks'."""
    options = [option["task"] for option in adapt.dispatch_options(experts, metadata)]
    sources = [(split, name, name, split) for split in ("heldout", "test") for name in options]
    sources += [("unseen", name, tasks.COUSIN[name], "test") for name in options if name in tasks.COUSIN]
    asked = [(label, name, tasks.requests(source, split, config.n, config.seed, config.data))
             for label, name, source, split in sources]
    for row, z_c in classifiers(experts).items():
        dispatch = adapt.dispatcher(model, tokenizer, experts, metadata, z_c)
        print(f"\n{row:<12} {'requests':<10} {'class':<12}" + "".join(f"{o:>11}" for o in options))
        right = {}
        for label, name, requests in asked:
            chosen = [next(iter(m)) for m in dispatch(requests)]
            right.setdefault(label, []).extend(choice == name for choice in chosen)
            counts = {o: chosen.count(o) for o in options}
            print(f"{row:<12} {label:<10} {name:<12}" + "".join(f"{c:11d}" for c in counts.values()),
                  flush=True)
            append(config.out, {"row": row, "split": label, "class": name, "n": len(requests),
                                "chosen": counts, "seed": config.seed})
        for label, hits in right.items():
            print(f"{row:<12} {label:<10} right {100 * sum(hits) / len(hits):.1f} %   n {len(hits)}")

def main():
    config, started = parse_flags(Config, __doc__), time.time()
    wrong = set(filter(None, config.rows.split(","))) - set(ROWS)
    if wrong or config.split not in ("test", "heldout"):  # val chose the experts
        raise ValueError(f"--rows {config.rows} --split {config.split}: rows are of {', '.join(ROWS)}; "
                         "splits are test and heldout")
    if config.dispatch and (config.tasks or config.rows):
        raise ValueError("--dispatch asks about all experts; leave out --tasks and --rows")
    chosen = [tasks.get_task(name, config.data) for name in config.tasks.split(",") if name]
    for task in chosen:
        task.problems(config.split, 1, 0)  # refuses a split that is not there, early
    model, tokenizer = open_model(config.model, "all", config.device, config.dtype)
    experts, metadata = load_experts(Path(config.experts), model)
    if config.dispatch:
        confusion_table(config, model, tokenizer, experts, metadata)
    else:
        unseen = [tasks.COUSIN[name] for name in experts["task"] if name in tasks.COUSIN]
        chosen = chosen or [tasks.get_task(name, config.data) for name in unseen]
        if not chosen:
            raise ValueError(f"no expert in {config.experts} has an unseen cousin; name --tasks")
        accuracy_table(config, model, tokenizer, experts, metadata, chosen)
    append(config.out, {"command": shlex.join(["python", *sys.argv]), "seconds": round(time.time() - started),
                        "machine": machine(model)})
    print(f"wrote {config.out}")

if __name__ == "__main__":
    run(main)
