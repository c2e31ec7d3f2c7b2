"""The accuracy tables of the README, one command each, with n, standard error and seed; also as jsonl.

    python eval.py --table format       # the base model with a one-line instruction: what is only format?
    python eval.py --table unseen       # every strategy on tasks that no expert was trained on
    python eval.py --table trained      # the same on test problems of the experts' own tasks
    python eval.py --table dispatch     # which expert prompt and classifier choose: a confusion matrix
"""
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import adapt
import tasks
from checkpoint import DEFAULT_MODEL, load_experts
from cli import TEST_SEED, append, bar, open_model, parse_flags, result_line, run, summary
from rl import evaluate, rollout
from sample import search_mixture
from svf import ones

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
    append(config.out, {"table": config.table, "seed": config.seed, **record})


def format_table(config, model, tokenizer, names):
    """The base model under the one-line instruction that validation likes best."""
    for name in names:
        task = tasks.get_task(name, config.data)
        answer = partial(rollout, model, tokenizer, task, temperature=0)

        def told(split, n, line):
            problems = [replace(p, prompt=f"{p.prompt} {line}") for p in task.problems(split, n, config.seed)]
            return summary(problems, evaluate(answer, problems, batch_size=BATCH))
        val = {line: told("val", 128, line)["accuracy"] for line in INSTRUCTIONS[name]}
        best = max(val, key=val.get)
        for line, p in val.items():
            print(f"{name:<15} val      {100 * p:5.1f} %   {line}{'   (best)' * (line == best)}", flush=True)
        for split in ("heldout", "test"):
            result = told(split, config.n, best)
            print(result_line(name, split, "base, instruction", result), flush=True)
            write(config, {"task": name, "split": split, "instruction": best, **result})


def random_expert(model, experts, seed):
    """z = 1 + noise, in each weight of the root-mean-square size that the task experts have there."""
    generator = torch.Generator().manual_seed(seed)

    def noise(name, like):
        size = torch.stack([z.get(name, like) - 1 for z in experts.values()]).square().mean().sqrt()
        return size * torch.randn(like.shape, generator=generator).to(like)
    return {name: like + noise(name, like) for name, like in ones(model).items()}


def dispatchers(model, tokenizer, experts, metadata):
    """{row: requests -> mixtures}: the prompt strategy and, if there is a dispatch expert, the classifier."""
    z_of = {"prompt": {}} | {"classifier": z for z in list(experts["dispatch"].values())[:1]}
    return {row: adapt.dispatcher(model, tokenizer, experts, metadata, z_c) for row, z_c in z_of.items()}


def rows_of(config, model, tokenizer, experts, metadata, task, problems):
    """The rows of an accuracy table: (name, seconds of its first pass, problems as asked, their mixtures)."""
    def one(name):
        return [{name: 1.0}] * len(problems)
    shots = task.problems("val", config.shots, 0)
    shown = "".join(f"{s.prompt}\n{s.prefill}{'' if s.check else ' '}{s.gold}\n\n" for s in shots)
    yield "base", 0.0, problems, one("other")
    yield f"{len(shots)} examples", 0.0, [replace(p, prompt=shown + p.prompt) for p in problems], one("other")
    yield "random z", 0.0, problems, one("random")
    for name in experts["task"]:
        yield f"expert {name}", 0.0, problems, one(name)
    for row, dispatch in dispatchers(model, tokenizer, experts, metadata).items():
        started = time.time()
        mixtures = dispatch([p.prompt for p in problems])
        seconds = time.time() - started
        yield row, seconds, [adapt.dressed(p, m, metadata) for p, m in zip(problems, mixtures)], mixtures
    for seed in range(config.searches):
        started, examples = time.time(), task.problems("val", config.shots, seed)
        mixture = search_mixture(model, tokenizer, experts["task"], task, examples, config.generations, seed)
        yield f"cem, seed {seed}", time.time() - started, problems, [mixture] * len(problems)


def accuracy_table(config, model, tokenizer, experts, metadata, names):
    at_hand = {**experts["task"], "random": random_expert(model, experts["task"], config.seed)}
    for name in names:
        task = tasks.get_task(name, config.data)
        answer = partial(adapt.second_pass, model, tokenizer, at_hand, task, temperature=0)
        problems = task.problems("test", config.n, config.seed)
        rows = rows_of(config, model, tokenizer, experts, metadata, task, problems)
        for row, first, asked, mixtures in rows:
            started = time.time()
            with bar(desc=f"{name}: {row}", total=len(asked)) as progress:
                answers = evaluate(answer, asked, mixtures, batch_size=BATCH, on_rows=progress.update)
            second, result = time.time() - started, summary(problems, answers)
            print(f"{result_line(name, 'test', row, result)}   passes {first:.0f} s + {second:.0f} s",
                  flush=True)
            write(config, {"task": name, "row": row, **result, "first_pass_s": first, "second_pass_s": second,
                           "mixture": mixtures[0]})


def confusion_table(config, model, tokenizer, experts, metadata):
    """Rows: what a request is; columns: where it goes. Held-out and test requests, then unseen tasks'."""
    options = [option["task"] for option in adapt.dispatch_options(experts, metadata)]
    sources = [(split, name, name, split) for split in ("heldout", "test") for name in options]
    sources += [("unseen", name, tasks.COUSIN[name], "test") for name in options if name in tasks.COUSIN]
    asked = [(label, name, tasks.requests(source, split, config.n, config.seed, config.data))
             for label, name, source, split in sources]
    for row, dispatch in dispatchers(model, tokenizer, experts, metadata).items():
        print(f"\n{row:<12} {'requests':<10} {'class':<12}" + "".join(f"{o:>11}" for o in options))
        right = {}
        for split, name, requests in asked:
            chosen = [next(iter(m)) for m in dispatch(requests)]
            right.setdefault(split, []).extend(choice == name for choice in chosen)
            counts = {o: chosen.count(o) for o in options}
            print(f"{row:<12} {split:<10} {name:<12}" + "".join(f"{c:11d}" for c in counts.values()),
                  flush=True)
            write(config, {"row": row, "split": split, "class": name, "n": len(requests), "chosen": counts})
        for split, hits in right.items():
            print(f"{row:<12} {split:<10} right {100 * sum(hits) / len(hits):.1f} %   n {len(hits)}")


def main():
    config = parse_flags(Config, __doc__)
    if config.table not in ("format", "unseen", "trained", "dispatch"):
        raise ValueError(f"--table {config.table} is not known; choose format, unseen, trained or dispatch")
    named = config.tasks.split(",") if config.tasks else []
    if config.table == "format" and not set(named) <= INSTRUCTIONS.keys():
        raise ValueError(f"--table format is for {', '.join(INSTRUCTIONS)}, not for {config.tasks}")
    model, tokenizer = open_model(config.model, "all", config.device, config.dtype)
    if config.table == "format":
        return format_table(config, model, tokenizer, named or list(INSTRUCTIONS))
    experts, metadata = load_experts(Path(config.experts), model)
    trained = list(experts["task"])
    if config.table == "dispatch":
        confusion_table(config, model, tokenizer, experts, metadata)
    elif config.table == "trained":
        accuracy_table(config, model, tokenizer, experts, metadata, named or trained)
    else:
        unseen = [tasks.COUSIN[name] for name in trained if name in tasks.COUSIN]
        accuracy_table(config, model, tokenizer, experts, metadata, named or unseen)
    print(f"wrote {config.out}")


if __name__ == "__main__":
    run(main)
