"""The paper's real sets, read from a folder of jsonl files that the user names with --data.

A set is its files, how their rows become splits, how a row becomes a Problem, and how it is answered.
Training sets are shuffled once and halved into train and validation, as in the paper (section 4.1; MBPP has
the authors' own split); no test row is seen before the test.
"""
import ast
import math
import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

from tasks.grading import score_expressions, score_letters, score_numbers, score_programs
from tasks.interface import Problem, ProgramCheck, Rows, Task
from tasks.jsonl import read_problems
from tasks.judged_programs import JudgedCheck, score_judged_programs
from tasks.math_problems import MATH_TASK
from tasks.numerals import numbers, text_of_number

# -- a row -> a Problem --------------------------------------------------------------------------------------

# Solved problems that stand before each of GSM8K's: small models told to be brief are not, but they imitate.
SOLVED = (
    {"role": "user",
     "content": "A baker sells 12 loaves in the morning and half as many in the afternoon, each for $3. How "
                "much does he earn?"},
    {"role": "assistant",
     "content": f"{MATH_TASK.prefill} In the afternoon he sells 12 / 2 = 6 loaves.\n"
                "Together he sells 12 + 6 = 18 loaves.\nHe earns 18 * 3 = $54.\nThe answer is 54."},
    {"role": "user",
     "content": "Lena has 40 stickers. She gives 5 to each of her 3 friends and buys 8 more. How many "
                "stickers does she have now?"},
    {"role": "assistant",
     "content": f"{MATH_TASK.prefill} She gives away 5 * 3 = 15 stickers.\n"
                "She keeps 40 - 15 = 25 stickers.\n"
                "With the new ones she has 25 + 8 = 33 stickers.\nThe answer is 33."})

def gsm8k_problem(row):
    gold = numbers(row["answer"].split("####")[1])[-1]
    return Problem(row["question"], MATH_TASK.prefill, text_of_number(gold))

def mawps_problem(row):
    if not math.isfinite(float(row["answer"])):
        raise ValueError(f"answer is {row['answer']}")
    return Problem(row["question"], MATH_TASK.prefill, text_of_number(Fraction(str(row["answer"]))))

def math_problem(row):
    if "\\boxed" not in row["solution"]:
        raise ValueError("the solution has no \\boxed answer")
    return Problem(row["problem"], gold=row["solution"])

def arc_problem(row):
    labels, texts = row["choices"]["label"], row["choices"]["text"]
    letters = "ABCDE"[:len(labels)]  # some questions have keys 1-4, some three or five choices
    choices = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    gold = letters[labels.index(row["answerKey"])]
    return Problem(f"{row['question']}\n{choices}", "Answer: (", gold, tuple(letters))

def check_python(source):
    """Raises SyntaxError for text that is no program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some references of the sets have escapes that are none
        ast.parse(source)

def mbpp_problem(row):
    """MBPP+: the calls are those of its asserts; what they should return, the reference says."""
    entry, assertion = row["entry_point"], row["assertion"]
    asserts = [node.test for node in ast.walk(ast.parse(assertion)) if isinstance(node, ast.Assert)]
    # what the asserts look at: a set if they compare sets, the truth if they compare nothing, else the value
    compares_nothing = re.search(rf"^assert (?:not )?{entry}\([^=]*$", assertion, re.MULTILINE)
    if f"set({entry}(" in assertion:
        seen_as = "set"
    elif compares_nothing:
        seen_as = "bool"
    else:
        seen_as = ""
    calls = [f"{seen_as}({ast.unparse(node)})" for test in asserts for node in ast.walk(test)
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == entry]
    # the calls stay source text, run in the child: as JSON, a tuple among the arguments would be a list
    after = f"\ndef seen():\n    return [{', '.join(calls)}]\n"
    reference = row["canonical_solution"]
    check_python(reference)
    return Problem(row["prompt"].replace('"""', "").strip(), "```python\n", reference,
                   check=ProgramCheck("seen", [[]], None, reference, after, float(row["atol"])))

def humaneval_problem(row):
    check_python(row["prompt"] + row["canonical_solution"])
    check_python(row["test"])
    check = JudgedCheck(row["entry_point"], row["prompt"] + row["canonical_solution"], row["test"])
    return Problem(f"Complete this Python function.\n\n{row['prompt']}", f"```python\n{row['prompt']}",
                   row["canonical_solution"], check=check)

# -- the rows of its files -> splits -------------------------------------------------------------------------

def halves(rows):
    """A training set as equal train and validation halves, shuffled once for all."""
    rows = random.Random(0).sample(rows, len(rows))
    middle = len(rows) // 2
    return {"train": rows[:middle], "val": rows[middle:]}

def train_and_test_files(train, test):
    return halves(train) | {"test": test}

def last_thousand_for_test(rows):
    return halves(rows[:-1000]) | {"test": rows[-1000:]}

def first_200_and_100_more(rows):
    return {"train": rows[:200], "val": rows[200:300], "test": rows[300:]}

def dev_and_test_files(dev, test):
    return {"val": dev, "test": test}

def examples_and_test_files(train, test):
    return {"val": train[:10], "test": test}

def first_ten_for_examples(rows):
    return {"val": rows[:10], "test": rows[10:]}

# -- the sets ------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Answered:
    """How a set is answered."""
    system: str
    prefill: str
    max_new_tokens: int
    score: Callable
    stop: str = ""
    runs_programs: bool = False
    instruction: str = ""
    solved: tuple[dict, ...] = ()

AS_MATH = Answered(MATH_TASK.system, MATH_TASK.prefill, MATH_TASK.max_new_tokens, score_numbers,
                   instruction=MATH_TASK.instruction)
IN_STEPS = Answered("Solve the problem step by step. End with the answer.", MATH_TASK.prefill, 256,
                    score_numbers, solved=SOLVED)
BY_EXPRESSION = Answered("Solve the problem step by step. Put the answer in \\boxed{}.", "", 512,
                         score_expressions)
BY_PROGRAM = Answered("Write Python code.", "```python\n", 256, score_programs, "```", runs_programs=True)
BY_JUDGED_PROGRAM = replace(BY_PROGRAM, score=score_judged_programs)
BY_LETTER = Answered("Answer the question.", "Answer:", 8, score_letters, ")",
                     instruction="\nChoose the right answer and write its letter.")  # below the choices

@dataclass(frozen=True)
class RealSet:
    files: tuple[str, ...]
    split: Callable  # (the rows of each file) -> {split: rows}
    problem_of: Callable  # row -> Problem
    answered: Answered
    row: str  # what a row looks like

ARC_ROW = '{"question": "…", "choices": {"label": ["A", …], "text": ["…", …]}, "answerKey": "D"}'
REAL_SETS = {
    "gsm8k": RealSet(("gsm8k_train", "gsm8k_test"), train_and_test_files, gsm8k_problem, IN_STEPS,
                     '{"question": "…", "answer": "… #### 18"}'),
    "mawps": RealSet(("mawps_asdiva_train",), last_thousand_for_test, mawps_problem, AS_MATH,
                     '{"question": "…", "answer": "504"}'),
    "mbpp": RealSet(("mbppplus_v010",), first_200_and_100_more, mbpp_problem, BY_PROGRAM,
                    '{"prompt": "…", "entry_point": "f", "canonical_solution": "…", "assertion": "…", '
                    '"atol": 0}'),
    "math500": RealSet(("math_train", "math500"), examples_and_test_files, math_problem, BY_EXPRESSION,
                       '{"problem": "…", "solution": "… \\\\boxed{…} …"}'),
    "arc_easy": RealSet(("arc_easy_train", "arc_easy_test"), train_and_test_files, arc_problem, BY_LETTER,
                        ARC_ROW),
    "arc_challenge": RealSet(("arc_challenge_dev", "arc_challenge_test"), dev_and_test_files, arc_problem,
                             BY_LETTER, ARC_ROW),
    "humaneval": RealSet(("humaneval",), first_ten_for_examples, humaneval_problem, BY_JUDGED_PROGRAM,
                         '{"prompt": "def …", "canonical_solution": "…", '
                         '"test": "def check(candidate): …", "entry_point": "f"}')}

def real_task(name, folder):
    """The Task of a real set. Raises FileNotFoundError for a missing file, ValueError for a bad row."""
    real = REAL_SETS[name]
    paths = [Path(folder, f"{file}.jsonl") for file in real.files]
    for path in paths:
        if not folder or not path.exists():
            raise FileNotFoundError(f"task {name} needs {path.name} in the folder that --data names "
                                    f"({folder or 'none is named'}); a row is {real.row}")
    if real.answered is BY_EXPRESSION and find_spec("math_verify") is None:
        raise ValueError(f"task {name} needs one more package: pip install math-verify")
    by_split = real.split(*(read_problems(path, real.problem_of, real.row) for path in paths))
    for split, problems in by_split.items():
        if not problems:
            raise ValueError(f"{paths[0]} has too few rows: none is left for the split {split!r} of {name}")
    rows = Rows(name, by_split)
    return Task(name=name, problems=rows.problems, rows=rows.all, files=tuple(map(str, paths)),
                splits=tuple(by_split), **vars(real.answered))
