"""Answer with the experts that fit: a first pass finds the mixture, a second pass answers (section 3.2).

    python sample.py --adapt prompt "A train leaves at 9 and arrives at 11. How many hours does it take?"
    python sample.py --adapt cem       # find a mixture for an unseen task from three examples, and try it
    python sample.py                   # the base model; one question a line, an empty line ends it
"""
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

import torch

import adapt
import tasks
from checkpoint import DEFAULT_MODEL, load_expert, load_experts, write_hf
from cli import answer_all, bar, open_model, parse_flags, report, run, show
from svf import mix, using

POPULATION, ELITES = 32, 6  # the authors' population and elite share

@dataclass
class Config:
    prompt: str = ""  # what to answer; empty: problems of --task, else asks you
    adapt: str = "none"  # first pass: none, prompt, classifier or cem
    expert: str = ""  # answer with this expert: a name in --experts, or a file
    experts: str = "experts"  # folder of the experts at hand
    task: str = ""  # answer and score problems of this task; cem takes its examples from it, too
    examples: str = ""  # the examples for cem: a jsonl of {"question": "…", "answer": "…"}
    data: str = ""  # folder of the real data sets' jsonl files
    shots: int = 3  # examples for cem
    generations: int = 10  # of cem
    n: int = 128  # problems of the task to answer
    compare: bool = False  # show the base model's answer, too
    export: str = ""  # write the adapted model to this folder, in Hugging Face's format
    max_new_tokens: int = 200  # of an answer to a prompt
    out: str = "out/sample.jsonl"  # scores of a task as JSON objects, added to what is there
    model: str = DEFAULT_MODEL  # a Meta or Hugging Face folder, a .gguf file, or the default model by name
    seed: int = 0  # of the examples, the problems and the search
    device: str = ""  # cuda, mps or cpu; empty: the first of these that is there
    dtype: str = ""  # bfloat16 or float32; empty: bfloat16 where it is native

def example_task(path, cap):
    """A jsonl file of questions as a task: an answer is right if it mentions the given one."""
    problems = tasks.read_rows(Path(path), lambda row: tasks.Problem(row["question"], "", str(row["answer"])),
                               '{"question": "…", "answer": "…"}')
    return tasks.Task("examples", "", "", "", cap, lambda split, n, seed: problems[:n],
                      tasks.graded(tasks.mentions_gold))

def search_mixture(config, model, tokenizer, experts, task, seed):
    """(C): the weights of the task experts that answer the shots best, as a mixture with the base's rest."""
    shots, generations = task.problems("val", config.shots, seed), config.generations
    fitness_of, started = partial(adapt.few_shot_fitness, model, tokenizer, experts, shots=shots), time.time()
    fitness_of(task=replace(task, max_new_tokens=4))(torch.rand(POPULATION, len(experts)))
    seconds = (time.time() - started) * task.max_new_tokens / 4
    print(f"cem on {len(shots)} examples of {task.name}: {generations} generations of "
          f"{POPULATION * len(shots)} answers, at most {seconds:.0f} s each")
    with bar(desc="generations", total=generations) as progress:
        alpha, score = adapt.cem(fitness_of(task=task), len(experts), population=POPULATION, elites=ELITES,
                                 generations=generations, on_generation=lambda _: progress.update(),
                                 generator=torch.Generator().manual_seed(seed))
    print(f"right on {100 * score[0]:.0f} % of the examples with")
    for name, weight in zip(experts, alpha.tolist()):
        print(f"  {name:<14} {weight:5.2f} {'█' * round(30 * weight)}")
    return {**dict(zip(experts, alpha.tolist())), "other": 1 - alpha.sum().item()}

def first_pass(config, model, tokenizer, experts, metadata, task):
    """The strategy as a function: problems -> one mixture each."""
    if config.adapt in ("prompt", "classifier"):
        if config.adapt == "classifier" and not experts["dispatch"]:
            raise ValueError(f"no dispatch expert in {config.experts}; run: python train.py --task dispatch")
        z_c = next(iter(experts["dispatch"].values())) if config.adapt == "classifier" else {}
        dispatch = adapt.dispatcher(model, tokenizer, experts, metadata, z_c)
        return lambda problems: dispatch([p.prompt for p in problems])
    mixture = {next(iter(experts["task"])): 1.0} if config.expert else {"other": 1.0}
    if config.adapt == "cem":
        mixture = search_mixture(config, model, tokenizer, experts["task"], task, config.seed)
    return lambda problems: [mixture] * len(problems)

def streamed(tokenizer):
    """on_token for `generate`: prints an answer as its tokens come."""
    ids, shown = [], 0

    def print_token(row, token):
        nonlocal shown
        ids.append(token)
        text = tokenizer.decode(ids)
        if not text.endswith("\ufffd"):  # a character of several tokens is not whole yet
            print(text[shown:], end="", flush=True)
            shown = len(text)
    return print_token

def answer_prompt(config, tokenizer, metadata, task, pick, ask, prompt):
    """Say which experts answer, then stream the answer (and the base model's to the very same text)."""
    problem = tasks.Problem(prompt, task.prefill if task else "", "", system=task and task.system)
    [mixture] = pick([problem])
    problem = adapt.dressed(problem, mixture, metadata)
    plain = tasks.Task("chat", "", "", "", config.max_new_tokens, None, tasks.graded(lambda p, text: True),
                       stop="```" if problem.prefill.startswith("```") else "")
    print("[" + " + ".join(f"{alpha:.2f} {name}" for name, alpha in mixture.items()) + "]")
    for label, used in [("", mixture), ("the base model: ", {"other": 1.0})][:1 + config.compare]:
        print(label + problem.prefill, end="", flush=True)
        ask(plain, [problem], [used], on_token=streamed(tokenizer))
        print()

def answer_task(config, metadata, task, pick, ask):
    """Answer test problems, show the first few beside the base model's answers, and score all."""
    problems, rows = task.problems("test", config.n, config.seed), {}
    mixtures = pick(problems)
    problems = [adapt.dressed(p, m, metadata) for p, m in zip(problems, mixtures)]
    base = [{"other": 1.0}] * len(problems)
    used_by = {"base": base} | ({config.expert or config.adapt: mixtures} if mixtures != base else {})
    for row, used in used_by.items():
        rows[row] = answer_all(partial(ask, task), problems, used, desc=row)
        report(config.out, task.name, "test", row, problems, rows[row], mixture=used[0], seed=config.seed)
    show(problems, rows)
    print(f"\nwrote {config.out}")

def main():
    config = parse_flags(Config, __doc__)
    if config.adapt not in ("none", "prompt", "classifier", "cem"):
        raise ValueError(f"--adapt {config.adapt} is not known; choose none, prompt, classifier or cem")
    if config.examples and (config.task or config.adapt != "cem"):
        raise ValueError("--examples are for --adapt cem, in place of a --task's")
    if config.expert and config.adapt != "none":
        raise ValueError("--expert answers alone; leave out --adapt")
    if config.export and config.adapt in ("prompt", "classifier") and not config.prompt:
        raise ValueError(f"--adapt {config.adapt} chooses by a prompt; give one, too, to --export its choice")
    if config.export and Path(config.export).exists():
        raise ValueError(f"{config.export} is there already; --export to a new folder")
    task = example_task(config.examples, config.max_new_tokens) if config.examples else None
    if config.task or (config.adapt == "cem" and task is None):
        task = tasks.get_task(config.task or "reasoning_hard", config.data)  # one that no expert has seen
    model, tokenizer = open_model(config.model, "all", config.device, config.dtype)
    experts, metadata = {"task": {}, "dispatch": {}}, {}
    if config.adapt != "none":
        experts, metadata = load_experts(Path(config.experts), model)
    if config.expert:
        known = Path(config.experts, f"{config.expert}.safetensors")
        path = known if known.exists() else Path(config.expert)
        experts["task"][path.stem], metadata[path.stem] = load_expert(path, model)
    pick = first_pass(config, model, tokenizer, experts, metadata, task)
    ask = partial(adapt.second_pass, model, tokenizer, experts["task"], temperature=0)
    if config.export:
        with using(model, mix(experts["task"], pick([tasks.Problem(config.prompt, "", "")])[0])):
            print(write_hf(model, config.export))
    elif task and not config.prompt and not config.examples:
        answer_task(config, metadata, task, pick, ask)
    else:
        if not config.prompt:
            print("one question a line; an empty line ends it")
        for prompt in [config.prompt] if config.prompt else takewhile(str.strip, sys.stdin):
            answer_prompt(config, tokenizer, metadata, task, pick, ask, prompt.strip())

if __name__ == "__main__":
    run(main)
