"""What an expert is trained on. Read interface.py first: a Task gives problems of a split and scores answers.

    interface.py            Problem, Task
    grading.py              what counts as right: numbers, options, letters, texts, programs
    conclusion.py           what an answer concludes: not what it asks, denies or leaves open
    numbers.py, spelling.py  numbers and texts as people write them
    judged_programs.py, sandbox.py  running programs that a model wrote
    generated.py            what generated families share
    math_problems.py …      one file per family; each ends with its list TASKS
    jsonl.py, real_sets.py  a user's own questions; the paper's data sets
    easy_vqa.py             questions about pictures
    everyday.py, dispatch.py  which expert does a request need?

A new family is a new file like math_problems.py, and its name in FAMILIES.

    get_task("math").problems("train", n=2, seed=0)
"""
from importlib import import_module

from tasks import sandbox
from tasks.easy_vqa import EASY_VQA, easy_vqa_task
from tasks.jsonl import own_task
from tasks.real_sets import REAL_SETS, real_task

FAMILIES = ["math_problems", "code_problems", "reasoning_problems"]

def family_tasks():
    """{name: Task} of all generated families and their harder cousins."""
    return {task.name: task for family in FAMILIES for task in import_module(f"tasks.{family}").TASKS}

def get_task(name, data="", max_new_tokens=40):
    """The task of that name, or of that .jsonl file; then max_new_tokens is its cap.

    `data` is the folder of the real sets' files. Raises ValueError for an unknown name or a bad row,
    FileNotFoundError for a missing file.
    """
    families = family_tasks()
    if name.endswith(".jsonl"):
        task = own_task(name, max_new_tokens)
    elif name in families:
        task = families[name]
    elif name in REAL_SETS:
        task = real_task(name, data)
    elif name in EASY_VQA:
        task = easy_vqa_task(name, data)
    else:
        known = ", ".join([*families, *REAL_SETS, *EASY_VQA])
        raise ValueError(f"no task is named {name!r}; there are {known}, and jsonl files of your own")
    if task.runs_programs and sandbox.REFUSAL:
        raise ValueError(f"task {name} cannot run here: {sandbox.REFUSAL}")
    if task.runs_programs:
        sandbox.fence()  # raises ValueError where programs cannot be held, or not be run
    return task

def cousins_of(names):
    """The harder cousins, which no expert was trained on, of the tasks with these names."""
    return [task.name for task in family_tasks().values() if task.cousin_of in names]
