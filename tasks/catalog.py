"""Every task by its name: the generated families, the paper's sets, pictures, and jsonl files of one's own.

    get_task("math").problems("train", n=2, seed=0)
"""
from importlib import import_module

from tasks import sandbox
from tasks.easy_vqa import EASY_VQA, easy_vqa_task
from tasks.jsonl import FEWEST, own_task
from tasks.real_sets import REAL_SETS, real_task

DEFAULT_CAP = 40  # tokens of an answer to a question of one's own file
FAMILIES = ["math_problems", "code_problems", "reasoning_problems"]

def family_tasks():
    """{name: Task} of all generated families and their harder variants."""
    return {task.name: task for family in FAMILIES for task in import_module(f"tasks.{family}").TASKS}

def get_task(name, data="", max_new_tokens=DEFAULT_CAP):
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

def task_to_learn(name, data="", max_new_tokens=DEFAULT_CAP):
    """The task. Raises ValueError for one that nothing can be learned from."""
    task = get_task(name, data, max_new_tokens)
    if "train" not in task.splits and name.endswith(".jsonl"):
        raise ValueError(f"{name} has too few rows to train on: a hash of the question sends them to "
                         "training, validation and test, 60 : 20 : 20, where at least "
                         f"{', '.join(map(str, FEWEST.values()))} are needed")
    if "train" not in task.splits:
        raise ValueError(f"--task {name} is only for evaluation; train on another")
    if task.name == "other":
        raise ValueError('"other" is the base model among experts; give the file another name')
    return task

def variants_of(names):
    """The harder variants, which no expert was trained on, of the tasks with these names."""
    return [task.name for task in family_tasks().values() if task.variant_of in names]
