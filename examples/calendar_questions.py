"""A family of your own, `calendar`: questions on dates and years. It has no harder variant.

    cp examples/calendar_questions.py tasks/      # then add its name to FAMILIES in tasks/catalog.py
    python train.py --task calendar
    cp out/calendar-0/calendar.safetensors experts/
    python -m scripts.eval --dispatch                     # the old classifier, now among five classes
    python train.py --task dispatch               # a new one learns all five
"""
import sys
from dataclasses import dataclass

if __name__ == "__main__":  # before the imports, which need the folder above
    print("a family of problems is not run by itself: copy this file to tasks/, add 'calendar_questions' to "
          "FAMILIES in tasks/catalog.py, then run python train.py --task calendar", file=sys.stderr)
    sys.exit(2)

from tasks.generated import NAMES, Generator, fill, templates
from tasks.grading import score_numbers, score_options
from tasks.interface import Problem, Task
from tasks.reasoning_problems import DAYS, MONTHS

@dataclass(frozen=True)
class DateQuestion:
    question: str
    answer: str

CALENDAR = templates(DateQuestion, """
The meeting is on {d} {month} {y}. In which year is it? => {y}
{A} was born on {d} {month} {y}. In which month was {A} born? => {month}
Which year comes right after {y}? => {y + 1}
Which year came right before {y}? => {y - 1}
{A} was born in {y}. In which year was {A} ten years old? => {y + 10}
The party is on {day}, {d} {month}. On which day of the week is it? => {day}
The concert is on {d} {month} {y}. In which month is it? => {month}
The shop opened in {y} and closed {k} years later. In which year did it close? => {y + k}

{A} married on {d} {month} {y}. In which year did {A} marry? => {y}
The fair is in {month} {y}. In which month is the fair? => {month}
What is the year after {y}? => {y + 1}
A house was built in {y} and sold {k} years later. In which year was it sold? => {y + k}

The ship sailed on {d} {month} {y}. In which year was that? => {y}
{A} arrived on {day}, {d} {month}. Which day of the week was it? => {day}
Name the year that follows {y}. => {y + 1}
A school opened in {y}. In which year had it been open for {k} years? => {y + k}
""")

def make_calendar(rng, part, template):
    slots = {"A": rng.choice(NAMES[part]), "day": rng.choice(DAYS), "d": rng.randint(1, 28),
             "month": rng.choice(MONTHS), "y": rng.randint(1900, 2020), "k": rng.randint(2, 9)}
    gold = fill(template.answer, slots)
    options = ()
    for names in (tuple(DAYS), tuple(MONTHS)):
        if gold in names:
            options = names  # an answer that lists them all is not right
    return Problem(fill(template.question, slots), "Answer:", gold, options)

def score_dates(problems, texts):
    """A year is right if the answer concludes with it, so is a day or a month."""
    rewards = []
    for problem, text in zip(problems, texts):
        score = score_options if problem.options else score_numbers
        rewards += score([problem], [text])
    return rewards

TASKS = [Task(name="calendar", system="Give only the answer.",
              prefill="Answer:", max_new_tokens=16, score=score_dates,
              problems=Generator("calendar", make_calendar, CALENDAR).problems)]
