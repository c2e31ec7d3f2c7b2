"""What the generated families share: words and templates by part, and a generator of distinct problems.

Nothing is downloaded: a family makes its problems from templates. Words and templates have three parts, one
to train on, one for validation, one for the test, so test problems come in wordings, names and objects that
training never saw. The split `heldout` uses the training part, but has no problem in common with `train`.

    MATH = templates(WordProblem, '''{A} has {a} {o}. … => a + b''')
"""
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from tasks.interface import random_for

MOST = 5000  # problems in a call: more take long to draw
PART_OF = {"train": "train", "val": "val", "heldout": "train", "test": "test"}

def templates(kind, text, parts=("train", "val", "test")):
    """{part: [kind(*columns)]}: a template per line, its columns parted by ' => ', parts by an empty line."""
    groups = text.strip().split("\n\n")
    return {part: [kind(*line.split(" => ")) for line in group.splitlines()]
            for part, group in zip(parts, groups, strict=True)}

def words(text):
    """'a b c | d e | f g' -> {"train": [a, b, c], "val": [d, e], "test": [f, g]}."""
    return dict(zip(("train", "val", "test"), (group.split() for group in text.split("|")), strict=True))

NAMES = words("Anna Ben Carla David Emma Frank Grace Henry Julia Kevin Laura Martin | "
              "Nora Oscar Paula Quentin Rosa Simon | Tina Umar Vera Walter Yara Zack")
OBJECTS = words("apples books pencils marbles stamps cookies coins shells cards buttons | "
                "plates candles balloons stickers | ribbons tickets lemons bottles magnets")

def fill(text, slots):
    """'{A} has {a + 1}' with {A: 'Ben', a: 2} -> 'Ben has 3'."""
    return re.sub(r"\{(.*?)\}", lambda found: str(eval(found[1], {}, slots)), text)

def is_held_out(problem):
    """One training problem in eight, by its text, belongs to `heldout`."""
    return sha256(problem.prompt.encode()).digest()[0] % 8 == 0

@dataclass(frozen=True)
class Generator:
    """Draws problems of a family; its `problems` is what Task.problems is made of."""
    task_name: str
    make: Callable  # (rng, part, template) -> Problem
    templates: dict[str, list]  # part: templates

    @property
    def splits(self):
        return tuple(split for split, part in PART_OF.items() if part in self.templates)

    def problems(self, split, n, seed):
        """n distinct problems. Raises ValueError if the split is unknown or has fewer, or beyond MOST."""
        if n > MOST:
            raise ValueError(f"{n} problems of {self.task_name} are too many; ask for {MOST} or fewer")
        rng = random_for(self.task_name, self.splits, split, seed)
        part = PART_OF[split]
        found = {}
        draws_in_vain = 0
        while len(found) < n and draws_in_vain < 3000:
            before = len(found)
            template = rng.choice(self.templates[part])
            problem = self.make(rng, part, template)
            problem = replace(problem, template=self.templates[part].index(template))
            if part != "train" or is_held_out(problem) == (split == "heldout"):
                found[problem.prompt] = problem
            draws_in_vain = 0 if len(found) > before else draws_in_vain + 1
        if len(found) < n:
            raise ValueError(f"task {self.task_name} has no {n} distinct problems in split {split!r}; ask "
                             f"for {len(found)} or fewer")
        return list(found.values())
