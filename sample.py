"""Answer with the experts that fit: a first pass finds the mixture, a second pass answers (section 3.2).

    python sample.py --adapt prompt "A train leaves at 9 and arrives at 11. How many hours does it take?"
    python sample.py --adapt cem       # find a mixture for an unseen task from a few examples, and try it
    python sample.py --adapt prompt    # a chat; each turn goes to the expert that fits it
"""
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from adapt import (BASE, STRATEGIES, AdaptiveModel, FewShot, Search, all_dressed, dressed,
                   second_pass)
from common import (DATA_HELP, DEFAULT_EYES, DEVICE_HELP, DTYPE_HELP, EYES_HELP, MODEL_HELP, TEMPLATE_HELP,
                    TRANSFER_HELP, answer_with_mixtures, argument, bar, beside_the_scripts, flag, open_eyes,
                    open_log, open_model, parse_flags, report, run_main, show)
from formats.default_model import DEFAULT_MODEL
from formats.experts import Experts, load_expert, load_experts, read_metadata, save_expert
from formats.huggingface import check_new_folder, write_hf
from formats.tokenizer import read_template
from rl import chat_ids
from svf import mix, using
from tasks import get_task
from tasks.interface import Problem, Task

UNSEEN_TASK = "reasoning_hard"  # for --adapt cem without a --task: one that no expert has seen

@dataclass
class Config:
    prompt: str = argument(None, "what to answer; without one, problems of --task, else a chat")
    image: str = flag("", "an image file that the prompt, or the first message of a chat, is about")
    eyes: str = flag(DEFAULT_EYES, EYES_HELP)
    adapt: str = flag("none", f"first pass: none, {', '.join(STRATEGIES)}")
    expert: str = flag("", "answer with this expert: a name in --experts, or a file")
    experts: str = flag("experts", "folder of the experts at hand")
    task: str = flag("", "answer and score problems of this task, or of this jsonl file of your own; cem "
                         "takes its examples from it, too")
    data: str = flag("", DATA_HELP)
    shots: int = flag(10, "examples for cem")
    generations: int = flag(4, "of cem")
    n: int = flag(128, "problems of the task to answer")
    per_block: bool = flag(False, "cem searches one weight per expert and block, not one per expert")
    save: str = flag("", "keep the mixture that cem finds as an expert of this name in --experts")
    show: str = flag("", "only show the weights of this saved mixture")
    compare: bool = flag(False, "show the base model's answer, too")
    export: str = flag("", "write the adapted model to this folder, in Hugging Face's format")
    show_prompt: bool = flag(False, "print what the model really reads, special tokens and all")
    max_new_tokens: int = flag(200, "of an answer to a prompt, or to a question of your own file")
    out: str = flag("out/sample.jsonl", "scores of a task as JSON objects, added to what is there")
    model: str = flag(DEFAULT_MODEL, MODEL_HELP)
    transfer: bool = flag(False, TRANSFER_HELP)
    chat_template: str = flag("", TEMPLATE_HELP)
    seed: int = flag(0, "of the examples, the problems and the search")
    device: str = flag("", DEVICE_HELP)
    dtype: str = flag("", DTYPE_HELP)

def read_config():
    """The flags, checked, with the folder of the experts found."""
    config = parse_flags(Config, __doc__)
    config = replace(config, experts=str(beside_the_scripts(config.experts)))
    check_flags(config)
    return config

def check_flags(config):
    if config.prompt is not None and not config.prompt.strip():
        raise ValueError("the prompt is empty; leave it out for a chat")
    if config.adapt != "none" and config.adapt not in STRATEGIES:
        raise ValueError(f"--adapt {config.adapt} is not known; choose none, {', '.join(STRATEGIES)}")
    if config.expert and config.adapt != "none":
        raise ValueError("--expert answers alone; leave out --adapt")
    if (config.save or config.per_block) and not needs_examples(config):
        raise ValueError("--save and --per-block belong to a search; add --adapt cem")
    if needs_examples(config) and config.prompt and not config.task:
        raise ValueError(f"--adapt {config.adapt} needs examples like the prompt; name a --task")
    if config.image and not config.prompt and (config.task or needs_examples(config) or config.show):
        raise ValueError("--image belongs to a prompt or a chat; the problems of a task have their own")
    if config.image and not Path(config.image).is_file():
        raise FileNotFoundError(f"the image {config.image} does not exist")
    if config.show_prompt and not config.prompt and (config.task or needs_examples(config)):
        raise ValueError("--show-prompt belongs to a prompt or a chat; add a prompt")
    if config.save == "other":
        raise ValueError('--save other: "other" is the base model; choose another name')
    if config.save and Path(config.experts, f"{config.save}.safetensors").exists():
        raise ValueError(f"there is an expert {config.save} in {config.experts} already; --save another name")
    if config.save and not os.access(config.experts, os.W_OK):
        raise ValueError(f"--save: nothing can be written to {config.experts}; name other --experts")
    chooses_by_prompt = config.adapt != "none" and not needs_examples(config)
    if config.export and chooses_by_prompt and not config.prompt:
        raise ValueError(f"--adapt {config.adapt} chooses by a prompt; give one, too, to --export its choice")
    if config.export and config.prompt and not chooses_by_prompt:
        raise ValueError("--export writes a model and answers nothing; leave out the prompt")
    if config.export:
        check_new_folder(config.export)

def needs_examples(config):
    """Whether the first pass is a search that looks at examples of a task."""
    return config.adapt in STRATEGIES and STRATEGIES[config.adapt].needs_examples

def task_of(config):
    """The task that is named, or one for a search that has none; else None."""
    if config.task:
        task = get_task(config.task, config.data, config.max_new_tokens)
        if "test" not in task.splits and not config.prompt and not config.export:
            raise ValueError(f"{config.task} has too few rows for a test; they serve as examples: add a "
                             "prompt and --adapt cem")
        return task
    if needs_examples(config):
        return get_task(UNSEEN_TASK, config.data)
    return None

def open_adaptive_model(config, task):
    """The model with the experts that the flags ask for, and with eyes where there is something to see."""
    model, tokenizer = open_model(config)
    if config.image or (task is not None and task.has_images):
        open_eyes(config.eyes, model, tokenizer)
    if config.image:
        tokenizer.sight.ids_of(config.image)  # a damaged one is found before the experts are loaded
    experts = Experts()
    if config.adapt != "none":
        experts = load_experts(Path(config.experts), model, config.transfer)
    return AdaptiveModel(model, tokenizer, experts)

def loaded_expert(config, adaptive, wanted):
    """The name of an expert that is wanted by its name in --experts or by its file, loaded if it was not.
    Raises ValueError for a classifier, or where another file of that name is loaded."""
    known = Path(config.experts, f"{wanted}.safetensors")
    experts = adaptive.experts
    path = known if known.exists() else experts.files.get(wanted, Path(wanted))
    if experts.files.get(path.stem) != path.resolve():
        experts.add_guest(path, *load_expert(path, adaptive.model, config.transfer))
    return path.stem

# -- the first pass ------------------------------------------------------------------------------------------

@dataclass
class FirstPass:
    """The strategy that the flags choose, ready to be asked: problems -> one mixture each."""
    config: Config
    adaptive: AdaptiveModel
    task: Task | None
    expert: str = ""  # the name of one that answers alone
    found: dict | None = None  # the mixture of a search, which is done once

    def __call__(self, problems):
        config = self.config
        if self.expert:
            return [{self.expert: 1.0}] * len(problems)
        if config.adapt == "none":
            return [BASE] * len(problems)
        search = Search(config.generations, seed=config.seed, progress=partial(bar, desc="generations"))
        few_shot = FewShot(self.task, config.shots, config.per_block, search)
        strategy = STRATEGIES[config.adapt]
        if not strategy.needs_examples:
            return strategy.first_pass(self.adaptive, problems, few_shot)
        if self.found is None:
            print(f"{config.adapt}: {len(few_shot.examples())} examples of {self.task.name}, "
                  f"{config.generations} generations of {search.population} candidates")
            [self.found] = strategy.first_pass(self.adaptive, problems[:1], few_shot)
            show_mixture(self.found)
            if config.save:
                save_mixture(config, self.adaptive, few_shot, self.found)
        return [self.found] * len(problems)

def in_words(mixture):
    """'0.62 code + 1.00 math', the rest being the base model, "other"; of weights per block, their mean."""
    words = []
    for name, weight in mixture.items():
        mean = sum(weight) / len(weight) if isinstance(weight, list) else weight
        if name != "other" and mean != 0:
            words.append(f"{mean:.2f} {name}")
    return " + ".join(words) or "1.00 other"

def show_mixture(mixture):
    """A bar for each expert's weight; one character per block where each block has its own."""
    for name, weight in mixture.items():
        if isinstance(weight, list):
            blocks = "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * w))] for w in weight)
            print(f"  {name:<14} {sum(weight) / len(weight):5.2f} {blocks}")
        elif name != "other":
            print(f"  {name:<14} {weight:5.2f} {'█' * round(30 * weight)}")

def save_mixture(config, adaptive, few_shot, mixture):
    """Keep a mixture as an expert of its own, which --expert answers with and --show shows."""
    path = Path(config.experts, f"{config.save}.safetensors")
    description = f"a mixture found on {len(few_shot.examples())} examples"
    save_expert(path, mix(adaptive.experts.task, mixture), {
        "fingerprint": adaptive.model.fingerprint, "base": adaptive.model.name, "adapter": "svf",
        "kind": "mixture", "task": few_shot.task.name, "description": description, "mixture": mixture,
        "seed": config.seed})
    print(f"wrote {path}")

def show_saved(config):
    """The weights of a saved mixture, from its metadata alone."""
    path = Path(config.experts, f"{config.show}.safetensors")
    metadata = read_metadata(path)
    if metadata.get("kind") != "mixture":
        raise ValueError(f"{path} is no mixture; --adapt cem --save NAME makes one")
    print(f"{config.show}: {metadata['description']} of {metadata['task']}")
    show_mixture(metadata["mixture"])

# -- the second pass -----------------------------------------------------------------------------------------

class Stream:
    """Prints an answer as its tokens come; `generate` calls it with each."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.ids = []
        self.shown = 0  # characters

    def __call__(self, row, token):
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        if not text.endswith("\ufffd"):  # a character of several tokens is not whole yet
            print(text[self.shown:], end="", flush=True)
            self.shown = len(text)

def score_nothing(problems, texts):
    return [1] * len(texts)

def chat_task(config, problem):
    """A free answer to a prompt, which nobody scores; one that opened a fence ends with it."""
    return Task(name="chat", description="", system="", prefill="", max_new_tokens=config.max_new_tokens,
                problems=None, score=score_nothing, stop="```" if problem.prefill.startswith("```") else "")

def answer_prompt(config, adaptive, task, first_pass):
    """Answer the prompt of the command line, in the form of the task if there is one."""
    problem = Problem(config.prompt, image=config.image)
    if task is not None:
        problem = replace(problem, prefill=task.prefill, system=task.system, instruction=task.instruction)
    [mixture] = first_pass([problem])
    problem = dressed(problem, mixture, adaptive.experts.metadata)
    answer_as(config, adaptive, problem, mixture, Stream(adaptive.tokenizer))

def answer_as(config, adaptive, problem, mixture, stream):
    """Say which experts answer, then stream the answer (and the base model's to the very same text)."""
    print(f"[{in_words(mixture)}]")
    stream_answer(config, adaptive, problem, mixture, stream)
    if config.compare:
        print("the base model: ", end="")
        stream_answer(config, adaptive, problem, BASE, Stream(adaptive.tokenizer))

def stream_answer(config, adaptive, problem, mixture, stream):
    task = chat_task(config, problem)
    if config.show_prompt:
        print(adaptive.tokenizer.as_read(chat_ids(adaptive.tokenizer, task, problem)))
    print(problem.prefill, end="", flush=True)
    second_pass(adaptive, task, [problem], [mixture], stream)
    print()

# -- a chat --------------------------------------------------------------------------------------------------

HELP = ("one message a line; /image FILE, /expert NAME (or none), /compare, /reset, /quit; Ctrl-C ends an "
        "answer")

class Chat:
    """A conversation that remembers its turns; each turn is sent to an expert anew."""

    def __init__(self, config, adaptive, first_pass):
        self.config = config
        self.adaptive = adaptive
        self.first_pass = first_pass
        self.history = []  # messages of earlier turns, the oldest first
        self.image = config.image  # what the next message is about

    def obey(self, command):
        """/compare, /reset, /image FILE or /expert NAME. Raises ValueError for another command, an unknown
        expert or a damaged image, FileNotFoundError for a missing one."""
        word, _, name = command.partition(" ")
        if word == "/compare":
            self.config.compare = not self.config.compare
            print("[the base model answers, too]" if self.config.compare else "[no comparison]")
        elif word == "/reset":
            self.history = []
            self.image = ""
            print("[forgotten]")
        elif word == "/image":
            open_eyes(self.config.eyes, self.adaptive.model, self.adaptive.tokenizer)
            self.adaptive.tokenizer.sight.ids_of(name)
            self.image = name
            print("[the next message is about it]")
        elif word == "/expert":
            alone = name not in ("", "none")
            self.choose(loaded_expert(self.config, self.adaptive, name) if alone else "")
        else:
            raise ValueError(f"{word} is no command: {HELP}")

    def choose(self, name):
        """From now on this expert answers; with "" the first pass of the command line chooses again."""
        self.first_pass = replace(self.first_pass, expert=name)
        answering = name or self.config.adapt
        print("[the base model answers]" if answering == "none" else f"[{answering} answers]")

    def room_for(self, problem):
        """The problem with as many earlier turns as the context holds; the oldest leave, and it is said."""
        most = self.adaptive.model.args.max_seq_len - self.config.max_new_tokens
        task = chat_task(self.config, problem)
        forgotten = 0
        while len(chat_ids(self.adaptive.tokenizer, task, problem)) > most:
            if not problem.history:
                raise ValueError(f"the message alone is longer than the {most} tokens that the context holds "
                                 "beside an answer")
            problem = replace(problem, history=problem.history[2:])
            forgotten += 1
        if forgotten:
            self.history = list(problem.history)
            print(f"[the context is full: the {forgotten} oldest turns are forgotten]")
        return problem

    def say(self, message):
        """Answer a message, and remember both."""
        problem = Problem(message, image=self.image, history=tuple(self.history))
        [mixture] = self.first_pass([problem])
        problem = self.room_for(dressed(problem, mixture, self.adaptive.experts.metadata))
        stream = Stream(self.adaptive.tokenizer)
        try:
            answer_as(self.config, self.adaptive, problem, mixture, stream)
        except KeyboardInterrupt:
            print(" [stopped]", flush=True)
        answer = problem.prefill + self.adaptive.tokenizer.decode(stream.ids)  # as far as it came
        answer = answer.lstrip(" ")  # templates write the space between a turn's head and its text
        self.history += [{"role": "user", "content": message, "image": self.image},
                         {"role": "assistant", "content": answer}]
        self.image = ""

    def run(self):
        """Answer line after line, until /quit or the end of the input."""
        print(HELP, flush=True)
        while True:
            try:
                line = sys.stdin.readline()
                if line == "" or line.strip() == "/quit":
                    return
                self.take(line.strip())
            except (ValueError, OSError) as error:  # a turn that cannot be answered does not end the chat
                print(f"[{error}]", flush=True)
            except KeyboardInterrupt:
                print("[/quit ends the chat]", flush=True)

    def take(self, line):
        if line.startswith("/"):
            self.obey(line)
        elif line:
            self.say(line)

def answer_task(config, adaptive, task, first_pass):
    """Answer test problems, show the first few beside the base model's answers, and score all."""
    open_log(config.out)
    problems = task.problems("test", config.n, config.seed)
    answers = answer_with_mixtures(adaptive, task, problems, [BASE] * len(problems), "base")
    report(config.out, task.name, "test", "base", problems, answers, seed=config.seed)
    rows = {"base": (problems, answers)}
    mixtures = first_pass(problems)
    if any(mixture != BASE for mixture in mixtures):
        row = first_pass.expert or config.adapt
        asked = all_dressed(problems, mixtures, adaptive.experts.metadata)
        answers = answer_with_mixtures(adaptive, task, asked, mixtures, row)
        report(config.out, task.name, "test", row, asked, answers, seed=config.seed)
        rows[row] = asked, answers
    show(problems, rows)
    print(f"\nwrote {config.out}")

def export(config, adaptive, first_pass):
    """Write the model with the mixture of the first pass merged into its weights."""
    [mixture] = first_pass([Problem(config.prompt or "")])
    template = read_template(config.chat_template) if config.chat_template else ""
    with using(adaptive.model, mix(adaptive.experts.answering(), mixture)):
        print(write_hf(adaptive.model, config.export, template))

def main():
    config = read_config()
    if config.show:
        show_saved(config)
        return
    task = task_of(config)
    adaptive = open_adaptive_model(config, task)
    expert = loaded_expert(config, adaptive, config.expert) if config.expert else ""
    first_pass = FirstPass(config, adaptive, task, expert)
    if config.export:
        export(config, adaptive, first_pass)
    elif config.prompt:
        answer_prompt(config, adaptive, task, first_pass)
    elif task is not None:
        answer_task(config, adaptive, task, first_pass)
    else:
        Chat(config, adaptive, first_pass).run()

if __name__ == "__main__":
    run_main(main)
