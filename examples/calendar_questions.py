"""A task of your own, and how its expert joins the others: dates and years (other tasks have days at most).

Everything is in this file: templates, how a problem is made and scored, and the one line that adds it to
FAMILIES. Then the named script runs with its flags, and knows the task:

    python tests/fourth_expert.py train.py --task calendar
    cp out/calendar-0/calendar.safetensors experts/
    python tests/fourth_expert.py eval.py --dispatch              # the old classifier among five classes
    python tests/fourth_expert.py train.py --task dispatch --out out/dispatch-5   # a new one learns all five
"""
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import tasks  # noqa: E402

CALENDAR = tasks.templates("""
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
    slots = {"A": rng.choice(tasks.NAMES[part]), "day": rng.choice(tasks.DAYS), "d": rng.randint(1, 28),
             "month": rng.choice(tasks.MONTHS), "y": rng.randint(1900, 2020), "k": rng.randint(2, 9)}
    prompt, answer = (tasks.fill(text, slots) for text in template)
    return tasks.Problem(prompt, "Answer:", answer)

def right(problem, text):
    """A year is right if it is the last number, a word if it is there."""
    if problem.gold.isdigit():
        return tasks.score_number([problem], [text]) == [1]
    return tasks.mentions_gold(problem, text)

HOW = ("Give only the answer.", "Answer:", 16, tasks.graded(right), "")
tasks.FAMILIES["calendar"] = ("calendar questions", HOW, make_calendar, CALENDAR, [])

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
