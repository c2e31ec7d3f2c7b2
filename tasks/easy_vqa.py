"""Questions about pictures: easy-VQA (Zhou 2019), one coloured shape in each image of 64 × 64 pixels.

    train/questions.json  [["what color is the shape?", "blue", 0], …], the last number naming
    train/images/0.png    and the same for test

`easy_vqa` asks about shapes, and an expert learns from it; `easy_vqa_color` asks about colours, and that
expert was never asked. The last images of `train` are for validation, of eyes and z alike.

    pip download --no-deps easy-vqa==1.0 && python -m zipfile -e easy_vqa-1.0-py3-none-any.whl .
    python -m scripts.train --task easy_vqa --data easy_vqa/data
"""
import json
import re
from functools import cache
from pathlib import Path

from tasks.grading import score_options
from tasks.interface import Problem, Rows, Task

SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
YES_OR_NO = ("yes", "no")
VALIDATION = 3500  # the first image of `train` that nothing is trained on
ROW = '["what color is the shape?", "blue", 0]'

def words_of(question):
    return set(re.findall(r"\w+", question))

def property_of(question, answer):
    """What a question asks about: "shape" or "color"."""
    if answer in YES_OR_NO:
        return "color" if words_of(question) & set(COLORS) else "shape"
    return "color" if answer in COLORS else "shape"

def options_of(answer):
    """The answers that such a question can have. Raises ValueError for an answer of no kind."""
    for options in (YES_OR_NO, SHAPES, COLORS):
        if answer in options:
            return options
    raise ValueError(f"the answer {answer!r} is none of easy-VQA's")

def instruction_for(options):
    """The line with which the base model is right most often on validation, of four for each kind."""
    if options == YES_OR_NO:
        return "Say only yes or no."
    return f"Choose from {', '.join(options)}."

def picture_problem(row, images):
    """Problems of one image stand or fall together: the image counts as their template."""
    question, answer, image = row
    path = images / f"{int(image)}.png"
    options = options_of(answer)
    return Problem(question[0].upper() + question[1:], "Answer:", answer, options,
                   instruction=instruction_for(options), image=str(path), template=int(image))

@cache
def read_part(folder, part):
    """All problems of "train" or "test". Raises FileNotFoundError or ValueError for a file that is missing or
    damaged, naming it."""
    path = Path(folder, part, "questions.json")
    if not folder or not path.is_file():
        raise FileNotFoundError(f"the pictures need {part}/questions.json and {part}/images in the folder "
                                f"that --data names ({folder or 'none is named'}); tasks/easy_vqa.py says "
                                "where to get them")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        problems = [picture_problem(row, path.parent / "images") for row in rows]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}); a row is {ROW}") from error
    missing = [problem.image for problem in problems if not Path(problem.image).is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is missing, and {path} asks about it")
    return problems

def easy_vqa_task(name, folder):
    """The Task of that name, "easy_vqa" or "easy_vqa_color"."""
    about = "color" if name == "easy_vqa_color" else "shape"

    def asks(problem):
        return property_of(problem.prompt.lower(), problem.gold) == about

    from_train = list(filter(asks, read_part(folder, "train")))
    by_split = {"train": [problem for problem in from_train if problem.template < VALIDATION],
                "val": [problem for problem in from_train if problem.template >= VALIDATION],
                "test": list(filter(asks, read_part(folder, "test")))}
    if about == "color":
        del by_split["train"]
    for split, problems in by_split.items():
        if not problems:
            raise ValueError(f"{folder} has too few images: none is left for the split {split!r} of {name}")
    files = tuple(str(Path(folder, part, "questions.json")) for part in ("train", "test"))
    return Task(name=name, system="Answer the question about the picture.", prefill="Answer:",
                max_new_tokens=12, problems=Rows(name, by_split).problems, files=files, score=score_options,
                splits=tuple(by_split), has_images=True)

EASY_VQA = ("easy_vqa", "easy_vqa_color")
