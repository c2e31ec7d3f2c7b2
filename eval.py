"""The accuracy tables of the README, one command a table, with n, standard error and seed; a jsonl beside them.

    python eval.py --table unseen       # every strategy on tasks that no expert was trained on
    python eval.py --table trained      # the same on test problems of the experts' own tasks
    python eval.py --table dispatch     # which expert prompt and classifier choose: a confusion matrix
"""
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import adapt
import tasks
from checkpoint import DEFAULT_MODEL
from rl import accuracy, evaluate
from sample import ELITES, POPULATION
from svf import ones
from train import TEST_SEED, bar, open_model, parse_flags, percent, run

BATCH = 64
# the best of a few one-line instructions on validation problems: what an expert adds to it is more than format
INSTRUCTION = {"math": "Write one short calculation, then stop.", "reasoning": "Answer with one word or number only.",
               "code": "Reply with one return statement."}


@dataclass
class Config:
    table: str = "unseen"  # unseen, trained or dispatch
    tasks: str = ""  # only these, with commas between
    n: int = 256  # problems of each task
    shots: int = 3  # examples for cem and for the row with examples in the prompt
    generations: int = 10  # of cem
    cem_seeds: int = 3  # searches, each with other examples
    per_block: bool = False  # cem: one α per expert and block instead of one per expert
    experts: str = "experts"  # folder of the experts at hand
    data: str = ""  # folder of the real data sets' jsonl files
    out: str = "out/eval.jsonl"  # every line of every table, one JSON object each
    model: str = DEFAULT_MODEL  # a Meta or Hugging Face folder, a .gguf file, or the default model by name
    seed: int = TEST_SEED  # of the problems
    device: str = ""  # cuda, mps or cpu; empty: the first of these that is there
    dtype: str = ""  # bfloat16 or float32; empty: bfloat16 where it is native


def write(config, record):
    Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    with open(config.out, "a") as file:
        file.write(json.dumps(record) + "\n")


def with_examples(problem, shots):
    """The problem with solved examples before it."""
    shown = "".join(f"{s.prompt}\n{s.prefill}{' ' * (not s.check)}{s.gold}\n\n" for s in shots)
    return replace(problem, prompt=shown + problem.prompt)


def random_expert(model, experts, seed):
    """z = 1 + noise, of the same root-mean-square size in each weight as the task experts' mean."""
    generator = torch.Generator().manual_seed(seed)
    size = {name: torch.stack([z[name] - 1 for z in experts.values()]).square().mean().sqrt() for name in ones(model)}
    return {name: v + size[name] * torch.randn(v.shape, generator=generator).to(v) for name, v in ones(model).items()}


def strategies(config, model, tokenizer, experts, metadata, task, problems):
    """(row name, seconds of its first pass, problems as asked, their mixtures) for each row of the accuracy tables."""
    def all_get(mixture):
        return [mixture] * len(problems)

    base = {"other": 1.0}
    family = task.name.removesuffix("_hard")
    yield "base", 0.0, problems, all_get(base)
    shots = task.problems("val", config.shots, 0)
    yield f"base, {len(shots)} examples", 0.0, [with_examples(p, shots) for p in problems], all_get(base)
    if family in INSTRUCTION:
        told = [replace(p, prompt=f"{p.prompt} {INSTRUCTION[family]}") for p in problems]
        yield "base, instruction", 0.0, told, all_get(base)
    yield "random z", 0.0, problems, all_get({"random": 1.0})
    for name in experts:
        if metadata[name]["kind"] == "task":
            yield f"expert {name}", 0.0, problems, all_get({name: 1.0})
    for name, z_c in dispatchers(experts, metadata).items():
        started = time.time()
        mixtures = dispatched(model, tokenizer, metadata, [p.prompt for p in problems], z_c)
        seconds = time.time() - started
        yield name, seconds, [adapt.dressed(p, m, metadata) for p, m in zip(problems, mixtures)], mixtures
    for seed in range(config.cem_seeds):
        started = time.time()
        with bar(desc="cem generations", total=config.generations) as progress:
            mixture, _ = adapt.search(
                model, tokenizer, adapt.of_kind("task", experts, metadata), task,
                task.problems("val", config.shots, seed), per_block=config.per_block, population=POPULATION,
                elites=ELITES, generations=config.generations, seed=seed, on_generation=lambda *_: progress.update())
        yield f"cem, seed {seed}", time.time() - started, problems, all_get(mixture)


def dispatchers(experts, metadata):
    """{"prompt": {}, "classifier": z_c}: the two that ask, the second if its expert is at hand."""
    return {"prompt": {}} | {"classifier": z for z in adapt.of_kind("dispatch", experts, metadata).values()}


def dispatched(model, tokenizer, metadata, requests, z_c):
    options = adapt.dispatch_options(metadata)
    bias = adapt.calibrated_bias(model, tokenizer, options)
    return [mixture for i in range(0, len(requests), BATCH)
            for mixture in adapt.dispatch(model, tokenizer, options, bias, requests[i:i + BATCH], z_c)]


def accuracy_table(config, model, tokenizer, experts, metadata, names):
    for name in names:
        task = tasks.get_task(name, config.data)
        problems = task.problems("test", config.n, config.seed)
        at_hand = {**experts, "random": random_expert(model, adapt.of_kind("task", experts, metadata), config.seed)}
        for row, first, asked, mixtures in strategies(config, model, tokenizer, experts, metadata, task, problems):
            started = time.time()

            def answer(index):
                return adapt.second_pass(model, tokenizer, at_hand, task, [asked[i] for i in index],
                                         [mixtures[i] for i in index], temperature=0)
            with bar(desc=f"{name}: {row}", total=len(asked)) as progress:
                answers = evaluate(answer, asked, batch_size=BATCH, on_rows=progress.update)
            second = time.time() - started
            p, se = accuracy(answers.rewards)
            lenient = [tasks.mentions_gold(problem, text) for problem, text in zip(problems, answers.texts)]
            lenient = None if None in lenient else sum(lenient) / len(lenient)
            finished = sum(answers.finished) / len(problems)
            print(f"{name:<16} {row:<18} {percent(p)} ± {100 * se:.1f} %   lenient {percent(lenient)}   finished "
                  f"{percent(finished)}   first pass {first:6.1f} s, second {second:6.1f} s   n {len(problems)}",
                  flush=True)
            write(config, {"table": config.table, "task": name, "row": row, "accuracy": p, "se": se,
                           "lenient": lenient, "finished": finished, "n": len(problems), "seed": config.seed,
                           "first_pass_s": first, "second_pass_s": second, "mixture": mixtures[0]})


def confusion_table(config, model, tokenizer, experts, metadata):
    """Rows: what a request is; columns: where it was sent. Held-out requests, then those of the unseen tasks."""
    options = [option["task"] for option in adapt.dispatch_options(metadata)]
    sources = {(split, name): tasks.requests(name, split, config.n // len(options), config.seed)
               for split in ("heldout", "test") for name in options}
    sources |= {("unseen", name): tasks.requests(tasks.COUSIN[name], "test", config.n // len(options), config.seed)
                for name in options if name in tasks.COUSIN}
    for row, z_c in dispatchers(experts, metadata).items():
        print(f"{row:<12} {'requests':<10} {'class':<12} " + " ".join(f"{o:>10}" for o in options))
        right = {}
        for (split, name), requests in sources.items():
            chosen = [next(iter(m)) for m in dispatched(model, tokenizer, metadata, requests, z_c)]
            counts = [chosen.count(option) for option in options]
            right[split] = right.get(split, []) + [1 if c == name else -1 for c in chosen]
            print(f"{row:<12} {split:<10} {name:<12} " + " ".join(f"{c:10d}" for c in counts), flush=True)
            write(config, {"table": "dispatch", "row": row, "split": split, "class": name, "n": len(requests),
                           "counts": dict(zip(options, counts)), "seed": config.seed})
        for split, rewards in right.items():
            p, se = accuracy(rewards)
            print(f"{row:<12} {split:<10} right {percent(p)} ± {100 * se:.1f} %   n {len(rewards)}")


def main():
    config = parse_flags(Config, __doc__)
    if config.table not in ("unseen", "trained", "dispatch"):
        raise ValueError(f"--table {config.table} is not known; choose unseen, trained or dispatch")
    model, tokenizer, what = open_model(config.model, "all", config.device, config.dtype)
    print(what)
    experts, metadata = adapt.load_experts(Path(config.experts), model)
    if config.table == "dispatch":
        return confusion_table(config, model, tokenizer, experts, metadata)
    trained = [name for name in adapt.of_kind("task", experts, metadata)]
    unseen = [tasks.COUSIN[name] for name in trained if name in tasks.COUSIN]
    names = config.tasks.split(",") if config.tasks else trained if config.table == "trained" else unseen
    accuracy_table(config, model, tokenizer, experts, metadata, names)
    print(f"wrote {config.out}")


if __name__ == "__main__":
    run(main)
