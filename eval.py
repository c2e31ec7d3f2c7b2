"""The accuracy tables of the README, one command each, with n, standard error and seed; also as jsonl.

    python eval.py --table format       # the base model with a one-line instruction: what is only format?
    python eval.py --table unseen       # every strategy on tasks that no expert was trained on
    python eval.py --table trained      # the same on test problems of the experts' own tasks
    python eval.py --table dispatch     # which expert prompt and classifier choose: a confusion matrix
"""
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import adapt
import tasks
from checkpoint import DEFAULT_MODEL, load_experts
from rl import evaluate, rollout
from sample import search_mixture
from svf import ones
from cli import TEST_SEED, bar, open_model, parse_flags, result_line, run, summary

BATCH = 64
INSTRUCTIONS = {  # one line behind the prompt: how far is format what an expert learned?
    "math": ("Write one short calculation, then stop.", "Write only the equation and its result.",
             "Answer with one number only."),
    "reasoning": ("Answer with one word or number only.", "Reply with only the right option.",
                  "Give just the answer, nothing else."),
    "code": ("Reply with one return statement.", "Write only the function body.", "Use one line.")}


@dataclass
class Config:
    table: str = "unseen"  # format, unseen, trained or dispatch
    tasks: str = ""  # only these, with commas between
    n: int = 256  # problems of each task; requests of each class for dispatch
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


def write(config, record):
    Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    with open(config.out, "a") as file:
        file.write(json.dumps(record) + "\n")


def random_expert(model, experts, seed):
    """z = 1 + noise, in each weight of the root-mean-square size that the task experts have there."""
    generator = torch.Generator().manual_seed(seed)
    size = {name: torch.stack([z[name] - 1 for z in experts.values()]).square().mean().sqrt()
                              for name in ones(model)}
    return {name: v + size[name] * torch.randn(v.shape, generator=generator).to(v) for name,
            v in ones(model).items()}


def dispatched(model, tokenizer, experts, metadata, requests, z_c):
    """One mixture a request, asked in batches."""
    options = adapt.dispatch_options(experts, metadata)
    bias = adapt.calibrated_bias(model, tokenizer, options)
    return [mixture for i in range(0, len(requests), BATCH)
            for mixture in adapt.dispatch(model, tokenizer, options, bias, requests[i:i + BATCH], z_c)]


def dispatchers(experts):
    return {"prompt": {}} | {"classifier": z for z in experts["dispatch"].values()}


def rows_of(config, model, tokenizer, experts, metadata, task, problems):
    """Each row of an accuracy table: (name, seconds of its first pass, problems as asked, a mixture for
    each)."""
    base, n = {"other": 1.0}, len(problems)
    yield "base", 0.0, problems, [base] * n
    shots = task.problems("val", config.shots, 0)
    shown = "".join(f"{s.prompt}\n{s.prefill}{'' if s.check else ' '}{s.gold}\n\n" for s in shots)
    yield f"base, {len(shots)} examples", 0.0, [replace(p,
                                                        prompt=shown + p.prompt)
                                                for p in problems], [base] * n
    yield "random z", 0.0, problems, [{"random": 1.0}] * n
    for name in experts["task"]:
        yield f"expert {name}", 0.0, problems, [{name: 1.0}] * n
    for name, z_c in dispatchers(experts).items():
        started = time.time()
        mixtures = dispatched(model, tokenizer, experts, metadata, [p.prompt for p in problems], z_c)
        seconds = time.time() - started
        yield name, seconds, [adapt.dressed(p, m, metadata) for p, m in zip(problems, mixtures)], mixtures
    for seed in range(config.searches):
        started, search = time.time(), replace(config, seed=seed)
        mixture = search_mixture(search, model, tokenizer, experts["task"], task,
                                 task.problems("val", config.shots, seed))
        yield f"cem, seed {seed}", time.time() - started, problems, [mixture] * n


def accuracy_table(config, model, tokenizer, experts, metadata, names):
    at_hand = {**experts["task"], "random": random_expert(model, experts["task"], config.seed)}
    for name in names:
        task = tasks.get_task(name, config.data)
        problems = task.problems("test", config.n, config.seed)
        for row, first, asked, mixtures in rows_of(config, model, tokenizer, experts, metadata, task,
                                                   problems):
            def answer(index):
                return adapt.second_pass(model, tokenizer, at_hand, task, [asked[i] for i in index],
                                         [mixtures[i] for i in index], temperature=0)
            started = time.time()
            with bar(desc=f"{name}: {row}", total=len(asked)) as progress:
                result = summary(problems, evaluate(answer, asked, batch_size=BATCH, on_rows=progress.update))
            second = time.time() - started
            print(f"{result_line(name, 'test', row, result)}   passes {first:.0f} s + {second:.0f} s",
                  flush=True)
            write(config, {"table": config.table, "task": name, "row": row, **result, "seed": config.seed,
                           "first_pass_s": first, "second_pass_s": second, "mixture": mixtures[0]})


def format_table(config, model, tokenizer, names):
    """The base model under the one-line instruction that validation likes best."""
    for name in names:
        task = tasks.get_task(name, config.data)

        def told(split, n, line):
            problems = [replace(p, prompt=f"{p.prompt} {line}") for p in task.problems(split, n, config.seed)]
            answers = evaluate(lambda index: rollout(model, tokenizer, task, [problems[i] for i in index],
                                                     temperature=0), problems, batch_size=BATCH)
            return summary(problems, answers)
        val = {line: told("val", 128, line)["accuracy"] for line in INSTRUCTIONS[name]}
        best = max(val, key=val.get)
        for line, p in val.items():
            print(f"{name:<15} val      {100 * p:5.1f} %   {line}{'   (best)' * (line == best)}", flush=True)
        for split in ("heldout", "test"):
            result = told(split, config.n, best)
            print(result_line(name, split, "base, instruction", result), flush=True)
            write(config, {"table": "format", "task": name, "split": split, "instruction": best, **result})


def confusion_table(config, model, tokenizer, experts, metadata):
    """Rows: what a request is; columns: where it goes. Held-out and test requests, then those of unseen
    tasks."""
    options = [option["task"] for option in adapt.dispatch_options(experts, metadata)]
    sources = [(split, name, name) for split in ("heldout", "test") for name in options]
    sources += [("unseen", name, tasks.COUSIN[name]) for name in options if name in tasks.COUSIN]
    for row, z_c in dispatchers(experts).items():
        print(f"\n{row:<12} {'requests':<10} {'class':<12}" + "".join(f"{option:>11}" for option in options))
        right = {}
        for split, name, source in sources:
            requests = tasks.requests(source, "test" if split == "unseen" else split,
                                      config.n, config.seed, config.data)
            chosen = [next(iter(m)) for m in dispatched(model, tokenizer, experts, metadata, requests, z_c)]
            right.setdefault(split, []).extend(choice == name for choice in chosen)
            print(f"{row:<12} {split:<10} {name:<12}" + \
                  "".join(f"{chosen.count(o):11d}" for o in options), flush=True)
            write(config, {"table": "dispatch", "row": row, "split": split, "class": name, "n": len(requests),
                           "chosen": {o: chosen.count(o) for o in options}, "seed": config.seed})
        for split, hits in right.items():
            print(f"{row:<12} {split:<10} right {100 * sum(hits) / len(hits):.1f} %   n {len(hits)}")


def main():
    config = parse_flags(Config, __doc__)
    if config.table not in ("format", "unseen", "trained", "dispatch"):
        raise ValueError(f"--table {config.table} is not known; choose format, unseen, trained or dispatch")
    model, tokenizer = open_model(config.model, "all", config.device, config.dtype)
    if config.table == "format":
        names = config.tasks.split(",") if config.tasks else list(INSTRUCTIONS)
        return format_table(config, model, tokenizer, names)
    experts, metadata = load_experts(Path(config.experts), model)
    if config.table == "dispatch":
        confusion_table(config, model, tokenizer, experts, metadata)
    else:
        trained = list(experts["task"])
        unseen = [tasks.COUSIN[name] for name in trained if name in tasks.COUSIN]
        names = config.tasks.split(",") if config.tasks else trained if config.table == "trained" else unseen
        accuracy_table(config, model, tokenizer, experts, metadata, names)
    print(f"wrote {config.out}")


if __name__ == "__main__":
    run(main)
