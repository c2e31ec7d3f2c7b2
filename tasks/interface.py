"""What a task is: problems as text in, a score of +1 or −1 out. No tensors here."""
import random
from collections.abc import Callable
from dataclasses import dataclass

@dataclass(frozen=True)
class ProgramCheck:
    """How a program is judged: one function is called, and what it returns is compared."""
    entry: str  # the function to call
    calls: list  # its arguments, one list per call
    expected: list | None  # what the calls should return; None: what they return in `reference`
    reference: str = ""  # a program that is right
    after: str = ""  # program text to put behind the answer, and behind the reference
    tolerance: float = 0.0  # of floats; 1e-6 at least

@dataclass(frozen=True)
class Problem:
    prompt: str
    prefill: str = ""  # opens the answer; scored texts are what follows it
    gold: str = ""  # an answer text that scores +1
    options: tuple[str, ...] = ()  # the candidates of a closed question
    system: str | None = None  # instead of the task's own
    instruction: str | None = None  # instead of the task's own
    check: object = None  # how a program is judged: ProgramCheck, or JudgedCheck of judged_programs.py
    image: str = ""  # the path of a file: what the question is about
    solved: tuple[dict, ...] | None = None  # instead of the task's own
    history: tuple[dict, ...] = ()  # earlier turns of a chat, {"role": user or assistant, "content": text}
    template: int = -1  # which template of its part made it, for honest errors; -1: none
    source: str = ""  # "FILE line N", of a problem that stands in one

def no_rows():
    return []

@dataclass(frozen=True)
class Task:
    name: str
    system: str
    prefill: str  # opens answers to requests that are not problems of the task
    max_new_tokens: int  # for base and expert alike; an answer cut off there is wrong
    problems: Callable  # (split, n, seed) -> list[Problem], at most n, the same for the same arguments
    score: Callable  # (problems, texts) -> list of +1 or −1
    splits: tuple[str, ...] = ("train", "val", "heldout", "test")
    stop: str = ""  # an answer is over at this text
    runs_programs: bool = False  # that the model wrote
    has_images: bool = False  # its problems are about images, so that the model needs eyes
    rows: Callable = no_rows  # () -> every Problem that stands in a file: a user's row may be any text
    files: tuple[str, ...] = ()  # that its problems are read from
    group: int = 4  # answers to each problem in a step of training, which are compared with each other
    instruction: str = ""  # a line behind every question that says what form the answer should have
    solved: tuple[dict, ...] = ()  # problems with answers in that form, as turns before every question
    variant_of: str = ""  # the task whose harder variant this is; no expert is trained on it
    # Form by the prompt, skill by z: `instruction` is the one of these with which the base model is right
    # most often on validation (scripts/eval.py --instructions).
    instructions: tuple[str, ...] = ()

def chat_turns(task, problem):
    """The problem as messages of a chat, {"role", "content"} and, of the question, "image": the system
    prompt, solved problems, earlier turns, the question with its instruction."""
    system = task.system if problem.system is None else problem.system
    instruction = task.instruction if problem.instruction is None else problem.instruction
    solved = task.solved if problem.solved is None else problem.solved
    question = f"{problem.prompt} {instruction}" if instruction else problem.prompt
    turns = [*solved, *problem.history, {"role": "user", "content": question, "image": problem.image}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    return turns

def gold_answer(task, problem):
    """The text behind the problem's prefill that is right, with the text at which an answer ends."""
    if task.runs_programs:
        # a program goes on where its prefill ends, and the fence is a line of its own
        return f"{problem.gold.removesuffix(task.stop).rstrip()}\n{task.stop}"
    begins_a_word = problem.prefill[-1:].isalnum() or problem.prefill.endswith(":")
    space = " " if begins_a_word else ""
    return f"{space}{problem.gold}{task.stop}"

def random_for(task_name, splits, split, seed):
    """The random numbers of a split. Raises ValueError for a split that the task does not have."""
    if split not in splits:
        raise ValueError(f"task {task_name} has no split {split!r}; it has {', '.join(splits)}")
    return random.Random(f"{task_name} {split} {seed}")

@dataclass(frozen=True)
class Rows:
    """Problems that stand in a file, by split; `problems` and `all` are what Task.problems and Task.rows are
    made of."""
    task_name: str
    by_split: dict[str, list[Problem]]

    def all(self):
        return [problem for rows in self.by_split.values() for problem in rows]

    def problems(self, split, n, seed):
        rng = random_for(self.task_name, tuple(self.by_split), split, seed)
        rows = self.by_split[split]
        return rng.sample(rows, min(n, len(rows)))
