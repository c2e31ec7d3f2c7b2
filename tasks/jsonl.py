"""Problems from a jsonl file: the rows of a real set, or questions of the user's own.

    {"question": "What is the capital of Peru?", "answer": "Lima"}
    {"question": "What is 3 + 4?", "answer": "7", "prefill": "Calculation:"}
    {"question": "Is ice cold, yes or no?", "answer": "yes", "options": ["yes", "no"], "system": "Be brief."}
    {"question": "What is this?", "answer": "a cat", "image": "photos/7.jpg"}

An image's path begins at the folder of the jsonl file. Other keys of a row are left alone. It is graded as an
option if it has options, as a number if its answer is one, perhaps with a unit ("5 km", "50%"), else as a
text. A hash of the question, or of its image's name, says which split it is in, so a file of enough rows
keeps its splits as it grows. The model reads only the question, which must name the options.
"""
import codecs
import json
import math
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tasks.grading import score_numbers, score_options, score_quantities, score_texts
from tasks.interface import Problem, Rows, Task
from tasks.numerals import is_one_number, quantity, text_of_number

OWN_ROW = ('{"question": "…", "answer": "…"} and, if you like, "options": ["…", …], "system", "prefill", '
           '"image"')
SYSTEM, PREFILL = "Answer the question.", "Answer:"  # where a row says nothing else
LFS_POINTER = b"version https://git-lfs"  # how the file begins that stands for a large one
LONGEST = 1_000_000  # characters of a text; no context holds more
FEWEST = {"train": 20, "val": 10, "test": 10}  # rows that training needs in each split

def refuse_pointer(path, written):
    """Raises ValueError for the small file that Git leaves where a large one was not fetched."""
    if written.startswith(LFS_POINTER):
        raise ValueError(f"{path} is a Git LFS pointer; fetch the real file")

def read_problems(path, problem_of, row_looks_like):
    """problem_of(row) for each row of a jsonl file. Raises ValueError for a bad row: its line, and what a row
    looks like. A byte order mark, CRLF and blank lines are allowed."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; name a jsonl file in which a row is {row_looks_like}")
    written = path.read_bytes()
    if written.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path} is UTF-16 text; save it as UTF-8")
    refuse_pointer(path, written)
    try:
        text = written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            problem = problem_of(json.loads(line))
            problems.append(replace(problem, source=f"{path} line {number}"))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, SyntaxError, RecursionError,
                MemoryError) as error:
            raise ValueError(
                f"{path} line {number} cannot be read ({error!r}); a row is {row_looks_like}") from error
    return problems

def text_of(row, key, default=None):
    """The text at `key`; a number is taken as its text. Raises ValueError for anything else."""
    value = row.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}")
        value = text_of_number(value)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}, not a text")
    if len(value) > LONGEST:
        raise ValueError(f"{key} has {len(value)} characters; {LONGEST} are the most")
    return value

def own_problem(row):
    """{"question", "answer", …} -> Problem. Raises ValueError, which names the key, for a bad row."""
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    question = text_of(row, "question").strip()
    gold = text_of(row, "answer").strip()
    if not question or not gold:
        raise ValueError("question and answer must not be empty")
    options = row.get("options", [])
    if not isinstance(options, list):
        raise ValueError(f"options is {options!r}, not a list of texts")
    options = tuple(text_of({"option": option}, "option").strip() for option in options)
    if "" in options:
        raise ValueError("an option is empty")
    if options and gold.lower() not in [option.lower() for option in options]:
        raise ValueError(f"the answer {gold!r} is not among the options")
    return Problem(question, text_of(row, "prefill", PREFILL), gold, options, text_of(row, "system", SYSTEM),
                   image=text_of(row, "image") if row.get("image") else "")

def score_own(problems, texts):
    """Each answer as its row asks: an option, a quantity, a number or a text."""
    rewards = []
    for problem, text in zip(problems, texts):
        if problem.options:
            score = score_options
        elif quantity(problem.gold):
            score = score_quantities
        elif is_one_number(problem.gold):
            score = score_numbers
        else:
            score = score_texts
        rewards += score([problem], [text])
    return rewards

def split_of(name):
    """train, val or test, 60 : 20 : 20, by a hash of the question or of the image's name."""
    tenth = sha256(name.encode()).digest()[0] * 10 // 256
    if tenth < 6:
        return "train"
    return "val" if tenth < 8 else "test"

def of_images(problems):
    """Problems about one image stand or fall together: it counts as their template."""
    number_of = {}
    numbered = []
    for problem in problems:
        if problem.image:
            template = number_of.setdefault(problem.image, len(number_of))
            problem = replace(problem, template=template)
        numbered.append(problem)
    return numbered

def each_once(path, problems):
    """Each question once, about each image. Raises ValueError where the same question has another answer,
    or other options."""
    found = {}
    for problem in problems:
        first = found.setdefault((problem.prompt, problem.image), problem)
        if first.gold != problem.gold:
            raise ValueError(f"{path} asks {problem.prompt[:200]!r} twice, with the answers {first.gold!r} "
                             f"and {problem.gold!r}; the text that differs belongs in the question")
        if set(first.options) != set(problem.options):
            raise ValueError(f"{path} asks {problem.prompt[:200]!r} twice, with other options; the model "
                             "sees only the question, so they belong there")
    return list(found.values())

def own_task(path, max_new_tokens):
    """The Task of a user's jsonl file. With too few rows to train on, all are examples, in the split `val`.

    Raises FileNotFoundError or ValueError for a file or row that cannot be read.
    """
    path = Path(path)

    def problem_of(row):
        problem = own_problem(row)
        if problem.image:
            image = path.parent / problem.image
            if not image.is_file():
                raise ValueError(f"there is no image {image}")
            problem = replace(problem, image=str(image))
        return problem

    problems = read_problems(path, problem_of, OWN_ROW)
    if not problems:
        raise ValueError(f"{path} has no rows; a row is {OWN_ROW}")
    problems = of_images(each_once(path, problems))
    by_split = {"train": [], "val": [], "test": []}
    for problem in problems:
        by_split[split_of(Path(problem.image).name or problem.prompt)].append(problem)
    if any(len(by_split[split]) < fewest for split, fewest in FEWEST.items()):
        by_split = {"val": problems}
    first = problems[0]
    rows = Rows(path.stem, by_split)
    return Task(name=path.stem, system=first.system,
                prefill=first.prefill, max_new_tokens=max_new_tokens, score=score_own,
                problems=rows.problems, rows=rows.all, files=(str(path),), splits=tuple(by_split),
                has_images=any(problem.image for problem in problems))
