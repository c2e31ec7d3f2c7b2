"""The accuracy tables of RESULTS.md: each command prints one, with n and standard errors, and logs it.

    python -m scripts.eval                                      # every strategy on the unseen tasks
    python -m scripts.eval --tasks math,code --split heldout    # the same on problems like those of training
    python -m scripts.eval --tasks math --instructions          # which line helps the base model most
    python -m scripts.eval --dispatch                           # which request goes to which expert
"""
import time
from dataclasses import dataclass, replace
from functools import partial

import torch

import svf
from adapt import ALWAYS, BASE, BY_EXAMPLES, BY_REQUEST, AdaptiveModel, Expert, Search, all_formatted
from formats.eyes import DEFAULT_EYES, open_eyes
from harness.answers import answer_with_mixtures, check_rows
from harness.experts import load_experts
from harness.flags import ModelChoice, changed, find_folder, flag, flag_name, parse_flags, run_main
from harness.logs import append, command_line, machine, open_log
from harness.models import bar, open_model
from harness.report import report, say_found, say_if_programs_run
from harness.scores import TEST_SEED, gains, mean_and_error, templates_of
from tasks.catalog import DEFAULT_CAP, get_task, variants_of
from tasks.dispatch import requests
from tasks.interface import Task, gold_answer

ROWS = ["base", "uninstructed", "random", "expert", "shuffled", *ALWAYS, "examples", *BY_REQUEST,
        *BY_EXAMPLES]
N_SHOWN = 3  # solved examples in the prompt of the row "examples"
# controls stand among the experts under names with a slash, which no file can have: a random z, and an
# expert's numbers in random order
RANDOM, SHUFFLED = "random/", "shuffled/"

@dataclass
class Config(ModelChoice):
    tasks: str = flag("", "with commas between; empty: the harder variants of the experts' tasks")
    split: str = flag("test", "of their problems: test (unseen templates) or heldout (those of training)")
    rows: str = flag("", f"of {', '.join(ROWS)}; empty: all")
    dispatch: bool = flag(False, "the confusion matrices instead; then --n requests of each class")
    instructions: bool = flag(False, "the base model on validation, with each instruction of the tasks")
    n: int = flag(256, "problems of each task")
    shots: int = flag(10, "examples for cem")
    generations: int = flag(Search.generations, "of cem")
    per_block: bool = flag(False, "cem searches one weight per expert and block, not one per expert")
    searches: int = flag(3, "of cem, each with other examples and another seed")
    experts: str = flag("experts", "folder of the experts at hand")
    data: str = flag("", "folder of the real data sets' files")
    max_new_tokens: int = flag(DEFAULT_CAP, "cap of an answer to a question of your own file")
    out: str = flag("out/eval.jsonl", "every line of the tables as a JSON object, added to what is there")
    transfer: bool = flag(False, "take experts that were made for another model of the same shape")
    eyes: str = flag(DEFAULT_EYES, "eyes of a language model that has none of its own (scripts.make_eyes)")
    seed: int = flag(TEST_SEED, "of the problems")

def read_config():
    config = parse_flags(Config, __doc__)
    wrong = set(filter(None, config.rows.split(","))) - set(ROWS)
    if wrong:
        raise ValueError(f"--rows {config.rows}: {min(wrong)} is no row; there are {', '.join(ROWS)}")
    if config.split not in ("test", "heldout"):  # val chose the experts
        raise ValueError(f"--split {config.split}: choose test or heldout")
    if config.instructions and not config.tasks:
        raise ValueError("--instructions compares the instructions of --tasks; name them")
    if config.instructions and (config.rows or config.dispatch or config.split != Config.split):
        raise ValueError("--instructions asks the base model validation problems; leave out --rows, --split "
                         "and --dispatch")
    if config.dispatch:
        without = ["tasks", "rows", "split", "shots", "generations", "per_block", "searches"]
        wrong = changed(config, without)
        if wrong:
            raise ValueError(f"--dispatch asks about all experts, by requests of every split; leave out "
                             f"{flag_name(wrong[0])}")
    return replace(config, experts=str(find_folder(config.experts)))

def named_tasks(config):
    """The tasks of --tasks. Raises ValueError early for one that is unknown or lacks the split."""
    tasks = [get_task(name, config.data, config.max_new_tokens) for name in config.tasks.split(",") if name]
    for task in tasks:
        if config.split not in task.splits:
            known = ", ".join(task.splits)
            raise ValueError(f"task {task.name} has no split {config.split!r}; it has {known}")
    return tasks

def unseen_tasks(config, experts):
    names = variants_of([expert.metadata["task"] for expert in experts.values() if expert.role == "task"])
    if not names:
        raise ValueError(f"no expert in {config.experts} has a harder variant; name --tasks")
    return [get_task(name, config.data) for name in names]

# -- the rows of the accuracy table --------------------------------------------------------------------------

def random_expert(model, experts, seed):
    """z = 1 + noise, in each weight of the root-mean-square size that the task experts have there."""
    generator = torch.Generator().manual_seed(seed)
    expert = {}
    for name, one in svf.start(model).items():
        changes = torch.stack([z.get(name, one) - 1 for z in experts.values()])
        size = changes.square().mean().sqrt()
        expert[name] = one + size * torch.randn(one.shape, generator=generator).to(one)
    return expert

def shuffled_expert(z, seed):
    """The expert's numbers in random order within each weight: as large, but of other singular values."""
    generator = torch.Generator().manual_seed(seed)
    return {name: v[torch.randperm(len(v), generator=generator).to(v.device)] for name, v in z.items()}

@dataclass
class Row:
    """A row of the accuracy table: one of ROWS, and which expert, or which seed of a search."""
    label: str
    kind: str
    expert: str = ""
    seed: int = 0

@dataclass
class Table:
    """One task of the accuracy table: its problems, and how each row asks and answers them."""
    config: Config
    adaptive: AdaptiveModel
    with_controls: AdaptiveModel  # the same, and the controls among its experts
    task: Task
    problems: list
    base: list | None = None  # the base model's answers, once its row is done

    def rows(self):
        """Every row that the flags ask for; a search is a row for each of its seeds."""
        names = self.adaptive.task_experts()
        rows = []
        for kind in ROWS:
            if self.config.rows and kind not in self.config.rows.split(","):
                continue
            if kind == "shuffled":
                rows += [Row(f"shuffled {name}", kind, expert=SHUFFLED + name) for name in names]
            elif kind == "expert":
                rows += [Row(f"expert {name}", kind, expert=name) for name in names]
            elif kind == "classifier" and not self.adaptive.experts_for("dispatch"):
                print(f"no row {kind}: there is no dispatch expert in {self.config.experts}")
            elif kind in BY_EXAMPLES:
                how = f"{kind}, {self.config.shots} shots"
                if self.config.per_block:
                    how += ", per block"
                rows += [Row(f"{how}, seed {seed}", kind, seed=seed) for seed in range(self.config.searches)]
            elif self.has_row(kind):
                rows.append(Row(kind, kind))
        return rows

    def has_row(self, kind):
        if kind == "uninstructed":
            return bool(self.task.instruction)
        if kind == "examples":
            return not self.task.has_images  # a solved example would need an image of its own
        return True

    def first_pass(self, row):
        """(the problems as they are asked, one mixture each) of a row."""
        if row.kind in ("expert", "shuffled"):
            return self.problems, self.all_to(row.expert)
        if row.kind == "random":
            return self.problems, self.all_to(RANDOM)
        if row.kind == "uninstructed":
            return self.uninstructed(), self.all_to("other")
        if row.kind == "examples":
            return self.after_examples(), self.all_to("other")
        if row.kind == "base":
            return self.problems, self.all_to("other")
        mixtures = self.by_strategy(row.kind, row.seed)
        return all_formatted(self.problems, mixtures, self.adaptive.experts), mixtures

    def all_to(self, name):
        return [{name: 1.0}] * len(self.problems)

    def by_strategy(self, name, seed):
        """One mixture for each problem; the seed is that of a search and its examples."""
        if name in BY_REQUEST:
            return BY_REQUEST[name](self.adaptive, [problem.prompt for problem in self.problems])
        if name in ALWAYS:
            return [ALWAYS[name](self.adaptive)] * len(self.problems)
        search = Search(self.config.generations, per_block=self.config.per_block, seed=seed,
                        progress=partial(bar, desc=f"{self.task.name}: generations"))
        shots = self.task.problems("val", self.config.shots, seed)
        mixture, right = BY_EXAMPLES[name](self.adaptive, self.task, shots, search)
        say_found(mixture, right, len(shots))
        return [mixture] * len(self.problems)

    def uninstructed(self):
        """The problems without the line that says what form the answer should have."""
        return [replace(problem, instruction="") for problem in self.problems]

    def after_examples(self):
        """The problems behind a few solved ones."""
        shown = []
        for shot in self.task.problems("val", N_SHOWN, 0):
            shown.append(f"{shot.prompt}\n{shot.prefill}{gold_answer(self.task, shot)}\n\n")
        return [replace(problem, prompt="".join(shown) + problem.prompt) for problem in self.problems]

    def report_row(self, row):
        started = time.time()
        asked, mixtures = self.first_pass(row)
        chosen = time.time()
        desc = f"{self.task.name}: {row.label}"
        answers = answer_with_mixtures(self.with_controls, self.task, asked, mixtures, desc)
        answered = time.time()
        if row.kind == "base":
            self.base = answers
        more = {}
        if all(mixture == mixtures[0] for mixture in mixtures):
            more["mixture"] = mixtures[0]
        if self.base is not None:
            gained = gains(self.base, answers)
            more["gain"], more["gain_se"] = mean_and_error(gained, templates_of(self.problems))
            more["gains"] = gained
        report(self.config.out, self.task.name, self.config.split, row.label, asked, answers,
               kind=row.kind, seed=self.config.seed, first_pass_s=round(chosen - started, 1),
               second_pass_s=round(answered - chosen, 1), **more)

def accuracy_table(config, adaptive, tasks):
    """Every row on every task; the seconds of both passes are in the log."""
    experts = adaptive.task_experts()
    controls = {RANDOM: random_expert(adaptive.model, experts, config.seed)}
    controls |= {SHUFFLED + name: shuffled_expert(z, config.seed) for name, z in experts.items()}
    supplied = {name: Expert(z, {}, role="supplied") for name, z in controls.items()}
    with_controls = replace(adaptive, experts=adaptive.experts | supplied)
    tables = []
    for task in tasks:  # all problems first: a task that has fewer than --n says so before hours of another
        problems = task.problems(config.split, config.n, config.seed)
        tables.append(Table(config, adaptive, with_controls, task, problems))
    for table in tables:
        for row in table.rows():
            table.report_row(row)

# -- the instructions of a task ------------------------------------------------------------------------------

def instruction_table(config, adaptive, tasks):
    """The base model on validation problems with each instruction, and with none."""
    for task in tasks:
        problems = task.problems("val", config.n, config.seed)
        for instruction in ("", *task.instructions):
            asked = [replace(problem, instruction=instruction) for problem in problems]
            answers = answer_with_mixtures(adaptive, task, asked, [BASE] * len(asked), instruction)
            row = "in use" if instruction == task.instruction else "tried"
            report(config.out, task.name, "val", row, asked, answers, instruction=instruction)
            print(f"    {instruction or '(none)'}")

# -- the confusion matrices of dispatch ----------------------------------------------------------------------

@dataclass
class RequestClass:
    """Requests that one category should get."""
    label: str  # what kind of requests they are
    category: str
    requests: list[str]

def request_classes(config, categories):
    """Held-out and test requests of every category, then those of the tasks' harder variants."""
    classes = []
    for split in ("heldout", "test"):
        for category in categories:
            asked = requests(category.task, split, config.n, config.seed, config.data)
            if asked:  # a file of one's own has no split heldout
                classes.append(RequestClass(split, category.name, asked))
    for category in categories:
        for variant in variants_of([category.task]):
            asked = requests(variant, "test", config.n, config.seed, config.data)
            classes.append(RequestClass("unseen", category.name, asked))
    return classes

def confusion_table(config, adaptive, classes, row, strategy):
    """Rows: what a request is; columns: where the strategy, named `row`, sends it."""
    names = [category.name for category in adaptive.categories]
    print(f"\n{row:<12} {'requests':<10} {'class':<12}" + "".join(f"{name:>11}" for name in names))
    right = {}
    for asked in classes:
        chosen = [name for mixture in strategy(adaptive, asked.requests) for name in mixture]
        counts = {name: chosen.count(name) for name in names}
        right.setdefault(asked.label, []).extend(name == asked.category for name in chosen)
        columns = "".join(f"{count:11d}" for count in counts.values())
        print(f"{row:<12} {asked.label:<10} {asked.category:<12}{columns}", flush=True)
        append(config.out, {"row": row, "split": asked.label, "class": asked.category,
                            "n": len(asked.requests), "chosen": counts, "seed": config.seed})
    for label, hits in right.items():
        print(f"{row:<12} {label:<10} right {100 * sum(hits) / len(hits):.1f} %   n {len(hits)}")

def main():
    started = time.time()
    config = read_config()
    tasks = named_tasks(config)
    open_log(config.out)
    model, tokenizer = open_model(config)
    if any(task.has_images for task in tasks):
        open_eyes(find_folder(config.eyes), model, tokenizer)
    for task in tasks:
        check_rows(model, tokenizer, task)
    for task in tasks:
        say_if_programs_run(task)
    if config.instructions:  # of the base model, which may be one that there are no experts of
        experts = {}
    else:
        experts = load_experts(config.experts, model, config.transfer)
    adaptive = AdaptiveModel(model, tokenizer, experts)
    if config.instructions:
        instruction_table(config, adaptive, tasks)
    elif config.dispatch:
        classes = request_classes(config, adaptive.categories)
        for name, strategy in BY_REQUEST.items():
            if name != "classifier" or adaptive.experts_for("dispatch"):
                confusion_table(config, adaptive, classes, name, strategy)
    else:
        accuracy_table(config, adaptive, tasks or unseen_tasks(config, adaptive.experts))
    append(config.out, {"command": command_line(), "machine": machine(model),
                        "seconds": round(time.time() - started)})
    print(f"wrote {config.out}")

if __name__ == "__main__":
    run_main(main)
