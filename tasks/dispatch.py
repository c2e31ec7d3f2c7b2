"""The question that both dispatchers ask: which expert does a request need? (Section 3.2, A and B.)

One example request per category, then the request. The answer is the likeliest category name (adapt.py),
so options come from the experts at hand and every answer is readable. "other" is the base model.
"""
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.catalog import get_task
from tasks.everyday import EVERYDAY
from tasks.grading import score_options
from tasks.interface import Problem, Task

N_EXAMPLES = 13  # requests of a category: the first is shown in the question, the others calibrate

@dataclass(frozen=True)
class Category:
    name: str
    examples: list[str]  # requests, at least two
    task: str  # where its requests come from: the name of a task, or a jsonl file

def source_of(task_name, data=""):
    """What the requests of a category are drawn from: its task, or everyday requests for "other". Raises
    FileNotFoundError where the questions of an expert are no longer where they were."""
    if task_name == "other":
        return EVERYDAY
    if task_name.endswith(".jsonl") and not Path(task_name).exists():
        raise FileNotFoundError(f"an expert was trained on {task_name}, which is not here; start where that "
                                "file is, or take the expert out of --experts")
    return get_task(task_name, data)

def requests(task_name, split, n, seed, data=""):
    """n prompts of a task, or everyday requests for "other"; none of a task that lacks the split."""
    source = source_of(task_name, data)
    if split not in source.splits:
        return []
    return [problem.prompt for problem in source.problems(split, n, seed)]

def other():
    """The category of the base model: everyday requests."""
    return Category("other", requests("other", "train", N_EXAMPLES, seed=0), "other")

# how the question is asked, whatever the categories are
DISPATCH = Task(name="dispatch", system="", prefill="Answer:", max_new_tokens=1, group=1, score=score_options,
                problems=None)

def dispatch_problem(categories, request, gold=""):
    """What both dispatchers are asked: one example request per category, then the request."""
    shown = [f"Request: {category.examples[0]}\nAnswer: {category.name}\n\n" for category in categories]
    names = tuple(category.name for category in categories)
    return Problem("".join(shown) + f"Request: {request}", DISPATCH.prefill, gold, names)

@dataclass(frozen=True)
class DispatchProblems:
    """Requests of all categories in equal shares; `problems` and `all` are what Task.problems and Task.rows
    are made of."""
    categories: list[Category]
    data: str

    def problems(self, split, n, seed):
        share = math.ceil(n / len(self.categories))
        found = []
        for category in self.categories:
            for request in requests(category.task, split, share, seed, self.data):
                found.append(dispatch_problem(self.categories, request, category.name))
        return random.Random(seed).sample(found, min(n, len(found)))

    def all(self):
        """The question about every row of a user's own file."""
        asked = []
        for category in self.categories:
            if category.task.endswith(".jsonl"):
                for row in get_task(category.task).rows():
                    question = dispatch_problem(self.categories, row.prompt, category.name)
                    asked.append(replace(question, source=row.source))
        return asked

def dispatch_task(categories, data=""):
    """The dispatcher's task, on which z_c is trained; "other" is the last of the categories. Its splits are
    those that all categories have: real sets and files of one's own have no `heldout`."""
    problems = DispatchProblems(categories, data)
    splits = EVERYDAY.splits
    files = []
    for category in categories:
        source = source_of(category.task, data)
        splits = tuple(split for split in splits if split in source.splits)
        if source is not EVERYDAY:
            files += source.files
    return replace(DISPATCH, problems=problems.problems, rows=problems.all, splits=splits, files=tuple(files))
