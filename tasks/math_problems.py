"""The family `math`: word problems of one or two steps with small numbers, and its cousin `math_hard`."""
import re
from dataclasses import dataclass, replace

from tasks.generated import NAMES, OBJECTS, Generator, fill, templates
from tasks.grading import score_numbers
from tasks.interface import Problem, Task

@dataclass(frozen=True)
class WordProblem:
    question: str  # {A} and {B} are names, {o} is a thing, {a} to {c} are numbers
    answer: str  # a formula

MATH = templates(WordProblem, """
{A} has {a} {o}. {B} gives {A} {b} more {o}. How many {o} does {A} have now? => a + b
{A} had {a} {o} and gave {b} of them to {B}. How many {o} does {A} have left? => a - b
One box holds {a} {o}. How many {o} are there in {b} boxes? => a * b
{A} shares {a * b} {o} equally among {b} friends. How many {o} does each friend get? => a
{A} has {a} {o} and {B} has {b} {o}. How many {o} do they have together? => a + b
{A} reads {a} pages every day. How many pages does {A} read in {b} days? => a * b
There are {a} people on a bus. {b} people get off and {c} people get on. How many are on it now? => a - b + c
{A} found {a} {o} in the morning and {b} {o} in the evening, then lost {c}. How many are left? => a + b - c
{A} has {a} bags with {b} {o} each and {c} loose {o}. How many {o} does {A} have? => a * b + c
A jar has {a} red, {b} blue and {c} green {o}. How many {o} are in the jar? => a + b + c
{A} needs {a} {o} and already has {b}. How many more {o} does {A} need? => a - b
{A} has {a} {o}. {B} has {b} times as many. How many {o} does {B} have? => a * b
{A} made {a * c + b} {o}, kept {b} and packed the rest into bags of {c}. How many bags are there? => a
{A} pays {a * b} dollars for {b} {o}. All cost the same. How many dollars does one cost? => a

{A} walks {a} miles on Monday and {b} miles on Tuesday. How many miles is that in all? => a + b
{A} is {a} years old. {B} is {b} years younger. How old is {B}? => a - b
{A} swims {a} laps on each of {b} days. How many laps does {A} swim altogether? => a * b
{A} buys {a} {o} and {B} buys {b} {o}. How many {o} do they buy in all? => a + b

A shop sold {a} {o} on Friday and {b} on Saturday. How many {o} did it sell on both days? => a + b
A rope is {a} feet long. {A} cuts off {b} feet. How many feet long is the rest? => a - b
A ticket costs {a} dollars. How many dollars do {A} and {B} pay for {b} tickets? => a * b
{A} works {a} hours a day and earns {b} dollars an hour. How many dollars does {A} earn a day? => a * b
A class has {a} boys and {b} girls. How many pupils are in the class? => a + b
A cook uses {a} eggs for one cake. How many eggs does the cook use for {b} cakes? => a * b
""")

# each with a number that has nothing to do with the question
MATH_HARD = templates(WordProblem, parts=("val", "test"), text="""
{A} reads {a} pages every night and sleeps {c} hours. How many pages does {A} read in {b} nights? => a * b
{A} has {c} sisters. {A} buys {a} {o} and then {b} more {o}. How many {o} does {A} buy in all? => a + b
A truck brings {a} boxes with {b} {o} in every box, on {c} wheels. How many {o} does it bring? => a * b
{A} is {c} years old and had {a} {o}. {B} took {b} of the {o}. How many {o} does {A} have left? => a - b

{A} has {c} pens and types {a} letters a minute. How many letters does {A} type in {b} minutes? => a * b
{A} is {c} years old and has {a} {o}. {B} brings {A} {b} more {o}. How many {o} does {A} have? => a + b
A hotel has {a} floors and {c} doors. Each floor has {b} rooms. How many rooms does the hotel have? => a * b
A pack of {a} {o} weighs {c} pounds. {A} orders {b} packs. How many {o} does {A} get? => a * b
{A} drove {a} miles before lunch and {b} miles after it, with {c} friends. How many miles is that? => a + b
A train with {c} cars carries {a} people. Then {b} people get off. How many people are left on it? => a - b
""")

def make_math(rng, part, template):
    while True:
        A, B = rng.sample(NAMES[part], 2)
        slots = {"A": A, "B": B}
        for letter in "abc":
            slots[letter] = rng.randint(2, 12)
        slots["o"] = rng.choice(OBJECTS[part])
        prompt = fill(template.question, slots)
        answer = eval(template.answer, {}, slots)
        if answer > 1 and str(answer) not in re.findall(r"\d+", prompt):  # no number of the question itself
            return Problem(prompt, "Calculation:", str(answer))

MATH_TASK = Task(
    name="math", description="arithmetic word problems",
    system="Give a short calculation and then the answer as one number.", prefill="Calculation:",
    max_new_tokens=40, problems=Generator("math", make_math, MATH).problems, score=score_numbers,
    instructions=("Write one short calculation, then stop.", "Write only the equation and its result.",
                  "Answer with one number only."))
MATH_HARD_TASK = replace(
    MATH_TASK, name="math_hard", problems=Generator("math_hard", make_math, MATH_HARD).problems,
    splits=("val", "test"), cousin_of="math")
TASKS = [MATH_TASK, MATH_HARD_TASK]
