"""Answer a prompt with experts that fit it: pick a mixture in a first pass, answer in a second (section 3.2).

    python sample.py --adapt prompt "A train leaves at 9 and arrives at 11. How many hours does it take?"
    python sample.py --adapt cem                # search a mixture on three examples of an unseen task
    python sample.py --inspect math             # where an expert differs from the base model
Without a prompt or a task it is a chat.
"""
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import adapt
import tasks
from checkpoint import DEFAULT_MODEL, write_hf
from rl import accuracy, evaluate
from svf import load_expert, mix, save_expert, using, wrapped
from train import bar, open_model, parse_flags, percent, run

UNSEEN = "reasoning_hard"  # what --adapt cem adapts to when nothing else is said
POPULATION, ELITES = 32, 6  # the authors' population and elite share


@dataclass
class Config:
    prompt: str = ""  # what to answer; empty: a task if one is named, else a chat
    adapt: str = "none"  # first pass: none, prompt, classifier or cem
    expert: str = ""  # use this expert instead: a name in --experts or a file
    experts: str = "experts"  # folder of the experts at hand
    task: str = ""  # sample problems of this task and score them; for cem also where the examples come from
    examples: str = ""  # for cem: a jsonl of {"question": …, "answer": …} instead of a task
    data: str = ""  # folder of the real data sets' jsonl files
    shots: int = 3  # examples for cem
    generations: int = 10  # of cem
    per_block: bool = False  # cem: one α per expert and block instead of one per expert
    n: int = 32  # problems of the task to answer and score
    compare: bool = False  # show the base model's answer, too
    inspect: str = ""  # draw |z - 1| of this expert and stop
    save: str = ""  # write the mixture as an expert to this file
    export: str = ""  # write the adapted model as a Hugging Face folder
    max_new_tokens: int = 200  # of an answer to a prompt
    temperature: float = 0.0
    model: str = DEFAULT_MODEL  # a Meta or Hugging Face folder, a .gguf file, or the default model by name
    seed: int = 0
    device: str = ""  # cuda, mps or cpu; empty: the first of these that is there
    dtype: str = ""  # bfloat16 or float32; empty: bfloat16 where it is native


def draw_expert(z):
    """Mean |z − 1| by block and matrix: the darker, the more the expert changes the weight."""
    leaves = list(dict.fromkeys(name.split(".")[-1] for name in z))
    size = {tuple(name.split(".")[1::2]): (v - 1).abs().mean().item() for name, v in z.items()}
    top = max(size.values()) or 1.0
    print(f"mean |z − 1|, █ = {top:.4f}\nblock  " + "  ".join(leaves))
    for block in sorted({int(block) for block, _ in size}):
        shades = ["·░▒▓█"[min(4, int(5 * size[str(block), leaf] / top))] * 2 for leaf in leaves]
        print(f"{block:5d}  " + "  ".join(shades))


def draw_mixture(mixture):
    for name, alpha in mixture.items():
        rows = [alpha] if isinstance(alpha, float) else alpha
        for block, a in enumerate(rows):
            label = name if len(rows) == 1 else f"{name} {block}"
            print(f"  {label:<14} {a:5.2f} {'█' * round(30 * a)}")


def example_task(path):
    """A jsonl of questions and answers as a task whose answers count if they mention the gold one."""
    try:
        rows = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
        problems = [tasks.Problem(row["question"], "", str(row["answer"])) for row in rows]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: a row is {{"question": …, "answer": …}} ({error!r})') from error
    return tasks.Task("examples", "", "", "", 64, lambda split, n, seed: problems[:n],
                      lambda asked, texts: [1 if tasks.mentions_gold(p, t) else -1 for p, t in zip(asked, texts)])


def search_mixture(config, model, tokenizer, experts, task):
    """--adapt cem: the mixture of the task experts that answers a few examples of `task` best."""
    shots = task.problems("val", config.shots, config.seed)
    started = time.time()
    brief = adapt.few_shot_fitness(model, tokenizer, experts, replace(task, max_new_tokens=4), shots, 1)
    brief(torch.rand(POPULATION, len(experts)))
    seconds = (time.time() - started) * task.max_new_tokens / 4
    print(f"cem on {len(shots)} examples of {task.name}: {config.generations} generations of "
          f"{POPULATION * len(shots)} answers, each at most {seconds:.0f} s")
    with bar(desc="generations", total=config.generations) as progress:
        mixture, score = adapt.search(
            model, tokenizer, experts, task, shots, per_block=config.per_block, population=POPULATION, elites=ELITES,
            generations=config.generations, seed=config.seed, on_generation=lambda *_: progress.update())
    print(f"right on {percent(score[0])} % of the examples with")
    draw_mixture(mixture)
    return mixture


def first_pass(config, model, tokenizer, experts, metadata, task):
    """The strategy as a function, problems -> one mixture each."""
    if config.adapt in ("prompt", "classifier"):
        z_c = {}
        if config.adapt == "classifier":
            z_c = next(iter(adapt.of_kind("dispatch", experts, metadata).values()), None)
            if z_c is None:
                raise ValueError(f"no dispatch expert in {config.experts}; train one: python train.py --task dispatch")
        options = adapt.dispatch_options(metadata)
        bias = adapt.calibrated_bias(model, tokenizer, options)
        return lambda problems: adapt.dispatch(model, tokenizer, options, bias, [p.prompt for p in problems], z_c)
    mixture = {Path(config.expert).stem: 1.0} if config.expert else {"other": 1.0}
    if config.adapt == "cem":
        mixture = search_mixture(config, model, tokenizer, adapt.of_kind("task", experts, metadata), task)
    return lambda problems: [mixture] * len(problems)


def write_mixture(config, model, experts, mixture, task):
    """--save and --export: what one mixture makes of the model, as an expert or as a Hugging Face folder."""
    z = mix(experts, mixture)
    if config.save:
        save_expert(Path(config.save), z, {
            "fingerprint": model.fingerprint, "base": model.name, "kind": "mixture", "task": "mixture",
            "description": str(mixture), "system": task.system if task else "", "prefill": task.prefill if task else ""})
        print(f"wrote {config.save}")
    if config.export:
        with using(model, z):
            print(write_hf(model, config.export, {f"{n}.weight": m.merged for n, m in wrapped(model).items()}))


class Stream:
    """Prints one row's answer as its tokens come."""

    def __init__(self, tokenizer):
        self.tokenizer, self.ids, self.shown = tokenizer, [], ""

    def __call__(self, row, token):
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        if not text.endswith("\ufffd"):  # a character made of several tokens is not whole yet
            print(text[len(self.shown):], end="", flush=True)
            self.shown = text


def prompts(first):
    """The prompt of the command line, or a chat's, until an empty line."""
    if first:
        yield first
    else:
        print("a chat; an empty line ends it")
        while line := input("\nyou: "):
            yield line


def talk(config, tokenizer, metadata, task, pick, ask):
    """Answer typed prompts token by token, after saying which experts do it and with what weights."""
    plain = tasks.Task("chat", "", "", "", config.max_new_tokens, None, lambda problems, texts: [1] * len(texts))
    history = ()
    for prompt in prompts(config.prompt):
        problem = tasks.Problem(prompt, task.prefill if task else "", "", system=task and task.system, history=history)
        [mixture] = pick([problem])
        print(f"[{' + '.join(f'{alpha} {name}' for name, alpha in mixture.items())}]")
        worn = adapt.dressed(problem, mixture, metadata)
        rows = [("", mixture)] + [("the base model: ", {"other": 1.0})] * config.compare
        for label, used in rows:
            print(label + worn.prefill, end="", flush=True)
            answers = ask(plain, [worn], [used], on_token=Stream(tokenizer))
            print()
            if not label:
                history += ({"role": "user", "content": prompt},
                            {"role": "assistant", "content": worn.prefill + answers.texts[0]})


def show_task(config, metadata, task, pick, ask):
    """Answer n test problems, score them, and show the first few with the base model's answers beside them."""
    problems = task.problems("test", config.n, config.seed)
    mixtures = pick(problems)
    worn = [adapt.dressed(p, m, metadata) for p, m in zip(problems, mixtures)]
    rows = {}
    for row, used in (("base", [{"other": 1.0}] * len(worn)), ("adapted", mixtures)):
        with bar(desc=row, total=len(worn)) as progress:
            rows[row] = evaluate(lambda i: ask(task, [worn[k] for k in i], [used[k] for k in i]), worn,
                                 batch_size=64, on_rows=progress.update)
    for i, problem in enumerate(worn[:4]):
        print(f"\n{problem.prompt}   ({problem.gold.strip()})   {mixtures[i]}")
        for row, answers in rows.items():
            print(f"  {row:<8} {'right' if answers.rewards[i] > 0 else 'wrong'}  {problem.prefill}{answers.texts[i]!r}")
    for row, answers in rows.items():
        p, se = accuracy(answers.rewards)
        print(f"{task.name:<14} {row:<8} {percent(p)} ± {100 * se:.1f} %   n {len(worn)}")


def main():
    config = parse_flags(Config, __doc__)
    if config.adapt not in ("none", "prompt", "classifier", "cem"):
        raise ValueError(f"--adapt {config.adapt} is not known; choose none, prompt, classifier or cem")
    model, tokenizer, what = open_model(config.model, "all", config.device, config.dtype)
    print(what)
    experts, metadata = {}, {}
    if config.adapt != "none":
        experts, metadata = adapt.load_experts(Path(config.experts), model)
    for name in filter(None, (config.expert, config.inspect)):
        path = Path(name) if name.endswith(".safetensors") else Path(config.experts, f"{name}.safetensors")
        experts[path.stem], metadata[path.stem] = load_expert(path, model)
    if config.inspect:
        return draw_expert(experts[Path(config.inspect).stem])

    task = example_task(config.examples) if config.examples else None
    if config.task or (config.adapt == "cem" and task is None):
        task = tasks.get_task(config.task or UNSEEN, config.data)
    pick = first_pass(config, model, tokenizer, experts, metadata, task)
    if config.save or config.export:
        write_mixture(config, model, experts, pick([tasks.Problem(config.prompt, "", "")])[0], task)
    generator = torch.Generator(model.tok_embeddings.weight.device).manual_seed(config.seed)
    ask = partial(adapt.second_pass, model, tokenizer, experts, temperature=config.temperature, generator=generator)
    if config.prompt or task is None:
        talk(config, tokenizer, metadata, task, pick, ask)
    else:
        show_task(config, metadata, task, pick, ask)


if __name__ == "__main__":
    run(main)
