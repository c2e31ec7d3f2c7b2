"""What an expert is trained on: problems as text in, a score of +1 or −1 out. No tensors here.

A Task gives problems of a split and scores answers. Three families are generated, so nothing is downloaded;
each has `train`, `val`, `heldout` (training templates, no problem in common) and `test` (other templates,
names and objects), and a harder cousin, with `val` and `test` only, that training never sees. The paper's
real sets are read from a folder of jsonl files. `dispatch` asks which of these experts a request needs.

    get_task("math").problems("train", n=2, seed=0)
"""
import ast
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import sandbox

@dataclass(frozen=True)
class Problem:
    prompt: str
    prefill: str  # opens the answer; scored texts are what follows it
    gold: str  # an answer text that scores +1
    options: tuple = ()  # a closed question's candidates
    system: str | None = None  # instead of the task's own
    check: tuple = ()  # code: (function, calls, expected values, program text after the answer, tolerance)

@dataclass(frozen=True)
class Task:
    name: str
    description: str
    system: str
    prefill: str  # opens answers to requests that are not problems of the task
    max_new_tokens: int
    problems: Callable  # (split, n, seed) -> list[Problem]
    score: Callable  # (problems, texts) -> list of +1 or -1
    splits: tuple = ("train", "val", "heldout", "test")
    stop: str = ""  # the answer is over at this text

def drawn(name, splits, draw):
    """Task.problems from draw(rng, split, n): the same problems for the same (split, seed)."""
    def problems(split, n, seed):
        if split not in splits:
            raise ValueError(f"task {name} has no split {split!r}; it has {', '.join(splits)}")
        return draw(random.Random(f"{name} {split} {seed}"), split, n)
    return problems

# -- grading -------------------------------------------------------------------------------------------------

# a minus is a sign unless it stands behind a digit or a bracket; commas belong to a number in threes
NUMBER = re.compile(r"((?:(?<![\d)])-)?)\$?((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)")

def numbers(text):
    """'from $2,125.00 to -10' -> [2125.0, -10.0]."""
    return [float("".join(found).replace(",", "")) for found in NUMBER.findall(text)]

def last_option(options, text):
    """The candidate mentioned last, in lower case, or None."""
    words = "|".join(re.escape(option.lower()) for option in sorted(options, key=len, reverse=True))
    found = re.findall(rf"(?<!\w)(?:{words})(?!\w)", text.lower())
    return found[-1] if found else None

def chosen_letter(text):
    """'the answer is (B)' -> 'B'; else the letter the text begins with. Keys 1-5 mean A-E."""
    found = re.findall(r"answer is:?\s*(?:(?=\([A-Ea-e1-5]\))\(|(?=[A-E1-5]\b))(.)", text) or \
        re.findall(r"^\W*([A-E1-5])\b", text)
    return found[-1].upper().translate(str.maketrans("12345", "ABCDE")) if found else None

def graded(right):
    """Task.score from right(problem, text)."""
    return lambda problems, texts: [1 if right(p, text) else -1 for p, text in zip(problems, texts)]

score_number = graded(lambda p, text: numbers(text)[-1:] == [float(p.gold)])
score_option = graded(lambda p, text: last_option(p.options, text) == p.gold.lower())
score_letter = graded(lambda p, text: chosen_letter(text) == p.gold)

def score_code(problems, texts):
    """Run each program on its hidden calls; a reference that gives the expected values has its own child."""
    programs, references = [], {}
    for p, text in zip(problems, texts):
        entry, calls, expected, after, _ = p.check
        source = p.prefill.partition("```python\n")[2] + text.split("```")[0]
        programs.append(sandbox.Program(source + after, entry, calls))
        if isinstance(expected, str):
            references[p.prompt] = sandbox.Program(expected + after, entry, calls)
    results = sandbox.run(programs + list(references.values()), seconds=4)
    wanted = dict(zip(references, results[len(programs):]))
    return [1 if got is not None and sandbox.same(got, wanted.get(p.prompt, p.check[2]), p.check[4]) else -1
            for p, got in zip(problems, results)]

def mentions_gold(problem, text):
    """Lenient: the gold answer stands somewhere in the text. None for code, where it would mean nothing."""
    if problem.check:
        return None
    if NUMBER.fullmatch(problem.gold):
        return numbers(problem.gold)[0] in numbers(text)
    return re.search(rf"(?<![\w.,]){re.escape(problem.gold)}(?!\w|[.,]\d)", text, re.IGNORECASE) is not None

# -- generated problems --------------------------------------------------------------------------------------

def templates(text):
    """A template a line, its columns apart by ' => '; an empty line parts those of train, val and test."""
    return [[tuple(line.split(" => ")) for line in part.splitlines()] for part in text.strip().split("\n\n")]

def pools(text):
    """'a b c | d e | f g' -> the words of train, val and test."""
    return [part.split() for part in text.split("|")]

NAMES = pools("Anna Ben Carla David Emma Frank Grace Henry Julia Kevin Laura Martin | "
              "Nora Oscar Paula Quentin Rosa Simon | Tina Umar Vera Walter Yara Zack")
OBJECTS = pools("apples books pencils marbles stamps cookies coins shells cards buttons | "
                "plates candles balloons stickers | ribbons tickets lemons bottles magnets")
PART = {"train": 0, "heldout": 0, "val": 1, "test": 2}

def fill(text, slots):
    """'{A} has {a + 1}' with {A: 'Ben', a: 2} -> 'Ben has 3'."""
    return re.sub(r"\{(.*?)\}", lambda found: str(eval(found[1], {}, slots)), text)

def generated(name, make, parts):
    """draw for `drawn` from make(rng, part, template): distinct problems, none in both train and heldout."""
    def draw(rng, split, n):
        found, part = {}, PART[split]
        for _ in range(500 * n):
            problem = make(rng, part, rng.choice(parts[part]))
            eighth = sha256(problem.prompt.encode()).digest()[0] % 8 == 0
            if part > 0 or eighth == (split == "heldout"):
                found[problem.prompt] = problem
            if len(found) == n:
                return list(found.values())
        raise ValueError(f"task {name} has no {n} distinct problems in split {split!r}; ask for fewer")
    return draw

# -- math: question => answer --------------------------------------------------------------------------------

MATH = templates("""
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
MATH_HARD = [[], *templates("""
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
""")]  # each with a number that has nothing to do with the question

def make_math(rng, part, template):
    text, formula = template
    while True:
        slots = dict(zip("AB", rng.sample(NAMES[part], 2))) | {letter: rng.randint(2, 12) for letter in "abc"}
        slots["o"] = rng.choice(OBJECTS[part])
        prompt, answer = fill(text, slots), eval(formula, {}, slots)
        if answer > 1 and str(answer) not in re.findall(r"\d+", prompt):  # no number of the question itself
            return Problem(prompt, "Calculation:", str(answer))

# -- reasoning: question => right answer => candidates, or a yes/no question => when the answer is yes -------

KINDS = {line.split(": ")[0]: pools(line.split(": ")[1]) for line in """\
animal: dog cat horse cow sheep goat rabbit | lion tiger bear fox | wolf camel zebra monkey
fruit: apple banana orange grape pear lemon cherry | mango peach plum kiwi | melon papaya apricot fig
vehicle: car bus train bicycle truck boat | tram taxi scooter wagon | ferry van helicopter canoe
garment: shirt hat coat sock shoe scarf | dress jacket glove belt | sweater skirt boot tie
tool: hammer saw drill wrench shovel axe | rake pliers ladder file | chisel screwdriver spade crowbar
instrument: piano guitar violin drum flute trumpet | harp cello banjo horn | clarinet organ tuba oboe
drink: water milk tea coffee juice | cocoa lemonade cider punch | soda wine beer smoothie
colour: red blue green yellow black white | purple pink brown gold | gray violet crimson turquoise
""".splitlines()}
OPPOSITES = pools("hot-cold big-small fast-slow old-young happy-sad light-dark up-down hard-soft | "
                  "early-late rich-poor loud-quiet full-empty | "
                  "strong-weak deep-shallow near-far clean-dirty wide-narrow")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

REASONING = templates("""
Which word does not belong with the others: => strays[0] => strays[0], *alike[:3]
Which of these is a kind of {kind}: => alike[0] => alike[0], *strays[:2]
Which number is larger: => max(x, y) => x, y
Which number is the smallest: => min(x, y, z) => x, y, z
{tell('is taller than', 'is shorter than', A, B, C)} Who is the {'tallest' if coin else 'shortest'}, \
=> A if coin else C => A, B, C
{tell('finished before', 'finished after', A, B, C)} Who finished {'first' if coin else 'last'}, \
=> A if coin else C => A, B, C
{A} is {x} years old. {B} is {y} years old. Who is older, => A if x > y else B => A, B
{A} has {x} {o}. {B} has {y}. {C} has {z}. Who has the most {o}, => max((x, A), (y, B), (z, C))[1] => A, B, C
What comes next after {x}, {x + k}, {x + 2 * k}, {x + 3 * k}: \
=> x + 4 * k => x + 4 * k, x + 5 * k, x + 4 * k + 1
Today is {day[0]}. Which day is it tomorrow: => day[1] => day[1], day[3], day[6]
Which month comes after {month[0]}: => month[1] => month[1], month[4], month[11]
What is the opposite of {pair[0][0]}: => pair[0][1] => pair[0][1], pair[1][0], pair[2][1]
Which name comes first in the alphabet: => min(A, B, C) => A, B, C
Is {x} greater than {y}? => x > y
Is the word {alike[0]} the name of a kind of {kind if coin else other}? => coin

What kind of thing is a {alike[0]}: => kind => kind, other, third
Which of these numbers is even: => 2 * x => 2 * x, 2 * y + 1
Today is {day[1]}. Which day was it yesterday: => day[0] => day[0], day[2], day[5]
{A} lives north of {B}. {B} lives north of {C}. Does {A if coin else C} live north of {C if coin else A}? \
=> coin

The bag of {A} weighs {x} pounds. The bag of {B} weighs {y} pounds. Whose bag is heavier, \
=> A if x > y else B => A, B
{tell('sits left of', 'sits right of', A, B, C)} Who sits furthest {'left' if coin else 'right'}, \
=> A if coin else C => A, B, C
Three of these words are of one kind. Which one is of another: => strays[0] => strays[0], *alike[:3]
The numbers go down: {x + 4 * k}, {x + 3 * k}, {x + 2 * k}, {x + k}. The next one is: \
=> x => x, x - 1, x + 5 * k
{A} has {x} {o} and {B} has {y}. Does {A} have more {o} than {B}? => x > y
Which word means the reverse of {pair[0][0]}: => pair[0][1] => pair[0][1], pair[1][0], pair[2][1]
""")
REASONING_HARD = [[], *templates("""
{tell('is richer than', 'is poorer than', A, B, C, D)} Who is the {'richest' if coin else 'poorest'}, \
=> A if coin else D => A, B, C, D
Only one of these words is the name of a kind of {kind}: => alike[0] => alike[0], *strays
Today is {day[0]}. Which day is it in three days: => day[3] => day[3], day[1], day[5]
Which of these numbers is the greatest: => max(x, y, z, w, v) => x, y, z, w, v

{tell('is older than', 'is younger than', A, B, C, D)} Who is the {'oldest' if coin else 'youngest'}, \
=> A if coin else D => A, B, C, D
{A} ran {x} miles, {B} {y}, {C} {z} and {D} {w}. Who ran the furthest, \
=> max((x, A), (y, B), (z, C), (w, D))[1] => A, B, C, D
It was {day[0]} two days ago. Which day is it today: => day[2] => day[2], day[1], day[4]
One of these words is unlike all the others. Which one: => strays[0] => strays[0], *alike[:4]
Each step is one larger than the last: {x}, {x + k}, {x + 2 * k + 1}, {x + 3 * k + 3}. What follows: \
=> x + 4 * k + 6 => x + 4 * k + 6, x + 4 * k, x + 4 * k + 3
{tell('is heavier than', 'is lighter than', A, B, C)} Is {A if coin else C} heavier than {C if coin else A}? \
=> coin
""")]

def make_reasoning(rng, part, template):
    def tell(more, less, *people):
        """Neighbours of an order, as sentences in random order and direction."""
        pairs = rng.sample(list(zip(people, people[1:])), len(people) - 1)
        return " ".join(f"{a} {more} {b}." if rng.random() < 0.5 else f"{b} {less} {a}." for a, b in pairs)

    text, gold, *options = template
    kind, *others = rng.sample(sorted(KINDS), 5)
    start, month = rng.randrange(7), rng.randrange(12)
    slots = dict(zip("ABCD", rng.sample(NAMES[part], 4))) | dict(zip("xyzwv", rng.sample(range(10, 99), 5)))
    slots |= {"k": rng.randint(2, 9), "o": rng.choice(OBJECTS[part]), "coin": rng.random() < 0.5,
              "tell": tell, "kind": kind, "other": others[0], "third": others[1],
              "alike": rng.sample(KINDS[kind][part], 4),
              "strays": [rng.choice(KINDS[k][part]) for k in others],
              "pair": [rng.sample(p.split("-"), 2) for p in rng.sample(OPPOSITES[part], 3)],
              "day": DAYS[start:] + DAYS[:start], "month": MONTHS[month:] + MONTHS[:month]}
    prompt, answer = fill(text, slots), eval(gold, {}, slots)
    if not options:
        return Problem(prompt + " Answer yes or no.", "Answer:", "yes" if answer else "no", ("yes", "no"))
    choices = [str(choice) for choice in eval(f"[{options[0]}]", {}, slots)]
    rng.shuffle(choices)
    *most, last = choices
    return Problem(f"{prompt} {', '.join(most)} or {last}?", "Answer:", str(answer), tuple(choices))

# -- code: kind of arguments => what the function returns => the reference -----------------------------------

CODE = templates("""
int => {a} times {x} minus {b} => {a} * {x} - {b}
int => {x} minus {a} => {x} - {a}
int => {x} divided by {b} and rounded down => {x} // {b}
int => True if {x} is less than {a} and False otherwise => {x} < {a}
int => True if {x} is divisible by {a} and False otherwise => {x} % {a} == 0
int => the square of {x} plus {a} => {x} ** 2 + {a}
two => the sum of {x} and {y} plus {a} => {x} + {y} + {a}
two => {x} minus {y} plus {a} => {x} - {y} + {a}
two => {a} times {x} plus {y} => {a} * {x} + {y}
two => the larger of {x} and {y} plus {a} => max({x}, {y}) + {a}
list => the sum of the numbers in {x} plus {a} => sum({x}) + {a}
list => a list of the numbers in {x} that are greater than {a} => [i for i in {x} if i > {a}]
list => a list with every number in {x} multiplied by {a} => [i * {a} for i in {x}]
list => how many numbers in {x} are less than {a} => sum(1 for i in {x} if i < {a})
list => the sum of the first {b} numbers in {x} => sum({x}[:{b}])
list => a list of the first {b} numbers in {x} => {x}[:{b}]
list => the last number in {x} plus {a} => {x}[-1] + {a}
list => True if {a} is in {x} and False otherwise => {a} in {x}
list => a list of the numbers in {x} that are less than {a} => [i for i in {x} if i < {a}]
list => the sum of the numbers in {x} that are less than {a} => sum(i for i in {x} if i < {a})
text => the string {x} repeated {a} times => {x} * {a}
text => the first {b} characters of the string {x} => {x}[:{b}]
text => the length of the string {x} times {a} => len({x}) * {a}
text => the string {x} without its first {b} characters => {x}[{b}:]
text => the string {x} followed by {a} exclamation marks => {x} + '!' * {a}
int => {a} if {x} is greater than {b} and 0 otherwise => {a} if {x} > {b} else 0
int => {x} plus {b} if {x} is even and {x} minus {b} otherwise => {x} + {b} if {x} % 2 == 0 else {x} - {b}
two => {x} if {y} is less than {a} and {y} otherwise => {x} if {y} < {a} else {y}
two => True if {x} minus {y} is less than {b} and False otherwise => {x} - {y} < {b}
text => the string {x} reversed and followed by a question mark => {x}[::-1] + '?'

two => the smaller of {x} and {y} times {a} => min({x}, {y}) * {a}
list => how many numbers in {x} are greater than {a} => sum(1 for i in {x} if i > {a})
list => the sum of the last {b} numbers in {x} => sum({x}[-{b}:])
text => the string {x} in upper case repeated {a} times => {x}.upper() * {a}

int => the remainder of {x} divided by {a} => {x} % {a}
two => the difference {x} minus {y} times {a} => ({x} - {y}) * {a}
list => the largest number in {x} times {a} => max({x}) * {a}
list => a list of the numbers in {x} that are not equal to {a} => [i for i in {x} if i != {a}]
text => the last {b} characters of the string {x} => {x}[-{b}:]
text => True if the string {x} has more than {b} characters and False otherwise => len({x}) > {b}
""")
CODE_HARD = [[], *templates("""
list => the sum of the numbers in {x} that are greater than {a} => sum(i for i in {x} if i > {a})
text => the string {x} reversed and repeated {a} times => {x}[::-1] * {a}
int => {x} doubled if {x} is less than {a} and {x} plus {b} otherwise => {x} * 2 if {x} < {a} else {x} + {b}
two => True if {x} plus {y} is greater than {a} and False otherwise => {x} + {y} > {a}

list => the sum of the squares of the numbers in {x} plus {a} => sum(i ** 2 for i in {x}) + {a}
list => a sorted list of the numbers in {x} that are divisible by {b} \
=> sorted(i for i in {x} if i % {b} == 0)
list => the difference between the largest and smallest number in {x} plus {a} => max({x}) - min({x}) + {a}
text => how many vowels the string {x} has plus {a} => sum(c in 'aeiou' for c in {x}) + {a}
int => the string 'big' if {x} is greater than {a} and the string 'small' otherwise \
=> 'big' if {x} > {a} else 'small'
two => the sum of all whole numbers from 1 to {x} plus {y} plus {a} => sum(range(1, {x} + 1)) + {y} + {a}
""")]
FUNCTIONS = pools("compute solve process convert handle | evaluate derive build prepare change work | "
                  "work_out produce find_it apply_rule transform make")
ARGUMENTS = {"int": pools("n x number value | k num z i | count m given size"),
             "two": pools("x,y a1,a2 first,second | p,q m,n c,d one,two | u,v s,t left,right f,g"),
             "list": pools("items numbers values data | nums xs array row | entries series elements sample"),
             "text": pools("text s word string | phrase line sentence w | name t label title")}
WORDS = pools("hello banana window | river kitten planet | garden yellow pepper")

def make_code(rng, part, template):
    kind, what, reference = template
    function, names = rng.choice(FUNCTIONS[part]), rng.choice(ARGUMENTS[kind][part]).split(",")
    draw = {"int": lambda: [rng.randint(0, 60)], "two": lambda: [rng.randint(0, 30), rng.randint(0, 30)],
            "list": lambda: [[rng.randint(0, 40) for _ in range(rng.randint(4, 8))]],
            "text": lambda: [rng.choice(WORDS[part])[:rng.randint(1, 7)] + rng.choice("abcdefgh")]}[kind]
    while True:
        slots = {"x": names[0], "y": names[-1], "a": rng.randint(2, 30), "b": rng.randint(2, 6)}
        calls, body = [draw() for _ in range(8)], fill(reference, slots)
        expected = [eval(body, dict(zip(names, call))) for call in calls]
        # neither a constant nor an argument handed back may be right
        if any(e != expected[0] for e in expected) and any(e != call[0] for e, call in zip(expected, calls)):
            break
    signature = f"{function}({', '.join(names)})"
    return Problem(f"Write a Python function `{signature}` that returns {fill(what, slots)}.",
                   f"```python\ndef {signature}:", f"\n    return {body}\n```",
                   check=(function, calls, expected, "", 0.0))

# -- the paper's real sets: one row of a file -> Problem -----------------------------------------------------

def gsm8k(row):
    return Problem(row["question"], "", f"{numbers(row['answer'].split('####')[1])[-1]:.10g}")

def mawps(row):
    return Problem(row["question"], "Calculation:", f"{float(row['answer']):.10g}")

def arc(row):
    labels, texts = row["choices"]["label"], row["choices"]["text"]
    letters = "ABCDE"[:len(labels)]  # some questions have keys 1-4, some three or five choices
    choices = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    return Problem(f"{row['question']}\n{choices}", "Answer: (", letters[labels.index(row["answerKey"])],
                   tuple(letters))

def mbpp(row):
    entry, reference = row["entry_point"], row["canonical_solution"]
    asserts = [a.test for a in ast.walk(ast.parse(row["assertion"])) if isinstance(a, ast.Assert)]
    # what the asserts look at: a set if they compare sets, the truth if they compare nothing, else the value
    bare = re.search(rf"^assert (?:not )?{entry}\([^=]*$", row["assertion"], re.MULTILINE)
    seen = "set" if f"set({entry}(" in row["assertion"] else "bool" if bare else ""
    # the calls stay source text, run in the child: as JSON, a tuple among the arguments would be a list
    calls = [f"{seen}({ast.unparse(call)})" for test in asserts for call in ast.walk(test)
             if isinstance(call, ast.Call) and getattr(call.func, "id", "") == entry]
    after = f"\ndef seen():\n    return [{', '.join(calls)}]\n"
    return Problem(row["prompt"].replace('"""', "").strip(), "```python\n", reference,
                   check=("seen", [[]], reference, after, float(row["atol"])))

def humaneval(row):
    # its own `check` runs beside the program: the one place where the child knows the expected values
    after = f"\n{row['test']}\ndef checked():\n    check({row['entry_point']})\n    return True\n"
    return Problem(f"Complete this Python function.\n\n{row['prompt']}", f"```python\n{row['prompt']}",
                   row["canonical_solution"], check=("checked", [[]], [True], after, 0.0))

def halves(rows):
    """A training set as equal train and validation halves, shuffled once for all (paper, section 4.1)."""
    rows = random.Random(0).sample(rows, len(rows))
    return {"train": rows[:len(rows) // 2], "val": rows[len(rows) // 2:]}

# how a task is answered: (system, prefill, most new tokens, score, stop)
NUMBER_AT_ONCE = ("Give a short calculation and then the answer as one number.", "Calculation:", 40,
                  score_number, "")
NUMBER_IN_STEPS = ("Solve the problem step by step. End with the answer.", "", 256, score_number, "")
SHORT_PROGRAM = ("Write Python code.", "```python\n", 64, score_code, "```")
PROGRAM = ("Write Python code.", "```python\n", 256, score_code, "```")
OPTION = ("Answer the question.", "Answer:", 24, score_option, "")
LETTER = ("Answer the question.", "Answer:", 24, score_letter, "")
ARC_ROW = '{"question": "…", "choices": {"label": ["A", …], "text": ["…", …]}, "answerKey": "D"}'
REAL = {  # name: (files, their problems -> {split: problems}, row -> Problem, how, what a row looks like)
    "gsm8k": (["gsm8k_train", "gsm8k_test"], lambda a, b: {**halves(a), "test": b}, gsm8k, NUMBER_IN_STEPS,
              '{"question": "…", "answer": "… #### 18"}'),
    "mawps": (["mawps_asdiva_train"], lambda a: {**halves(a[:-1000]), "test": a[-1000:]}, mawps,
              NUMBER_AT_ONCE, '{"question": "…", "answer": "504"}'),
    "mbpp": (["mbppplus_v010"], lambda a: {"train": a[:200], "val": a[200:300], "test": a[300:]}, mbpp,
             PROGRAM, '{"prompt": "…", "entry_point": "f", "canonical_solution": "…", '
                      '"assertion": "…", "atol": 0}'),
    "arc_easy": (["arc_easy_train", "arc_easy_test"], lambda a, b: {**halves(a), "test": b}, arc, LETTER,
                 ARC_ROW),
    "arc_challenge": (["arc_challenge_dev", "arc_challenge_test"], lambda a, b: {"val": a, "test": b}, arc,
                      LETTER, ARC_ROW),
    "humaneval": (["humaneval"], lambda a: {"val": a[:10], "test": a[10:]}, humaneval, PROGRAM,
                  '{"prompt": "def …", "canonical_solution": "…", "test": "def check(candidate): …", '
                  '"entry_point": "f"}')}

def read_rows(path, problem_of, shape):
    """The problems of a jsonl file. Raises ValueError for a bad row and says what a row looks like."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a jsonl file in which a row is {shape}")
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
        try:
            problems.append(problem_of(json.loads(line)))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} line {number} cannot be read ({error!r}); a row is {shape}") from error
    return problems

def read_real(name, folder):
    """{split: problems} of a real set. Raises FileNotFoundError for a missing file."""
    files, split_up, problem_of, _, shape = REAL[name]
    paths = [Path(folder, f"{file}.jsonl") for file in files]
    missing = [path.name for path in paths if not folder or not path.exists()]
    if missing:
        raise FileNotFoundError(f"task {name} needs {missing[0]} in the folder that --data names "
                                f"({folder or 'none is named'}); a row is {shape}")
    rows = split_up(*(read_rows(path, problem_of, shape) for path in paths))
    for split in rows:
        if not rows[split]:
            raise ValueError(f"{paths[0]} has too few rows: none is left for the split {split!r} of {name}")
    return rows

# -- tasks by name -------------------------------------------------------------------------------------------

FAMILIES = {  # name: (description, how, (rng, part, template) -> Problem, templates, the harder cousin's)
    "math": ("arithmetic word problems", NUMBER_AT_ONCE, make_math, MATH, MATH_HARD),
    "code": ("writing Python functions", SHORT_PROGRAM, make_code, CODE, CODE_HARD),
    "reasoning": ("short closed questions", OPTION, make_reasoning, REASONING, REASONING_HARD)}
COUSIN = {name: f"{name}_hard" for name in FAMILIES}

def get_task(name, data=""):
    """The task of that name. Raises ValueError if unknown, FileNotFoundError if `data` lacks its file."""
    family = name.removesuffix("_hard")
    if family in FAMILIES and (name == family or FAMILIES[family][4]):
        description, how, make, easy, hard = FAMILIES[family]
        splits = Task.splits if name == family else ("val", "test")
        draw = generated(name, make, easy if name == family else hard)
    elif name in REAL:
        rows, description, how = read_real(name, data), name, REAL[name][3]
        splits, draw = tuple(rows), lambda rng, split, n: rng.sample(rows[split], min(n, len(rows[split])))
    else:
        known = ", ".join([*FAMILIES, *COUSIN.values(), *REAL])
        raise ValueError(f"no task is named {name!r}; there are {known}")
    system, prefill, cap, score, stop = how
    if score is score_code and sandbox.REFUSAL:
        raise ValueError(f"task {name} cannot run here: {sandbox.REFUSAL}")
    return Task(name, description, system, prefill, cap, drawn(name, splits, draw), score, splits, stop)

# -- dispatch: which expert does a request need? -------------------------------------------------------------

OTHER = templates("""
Write a short poem about {t}.
Tell me a story about {t}.
Suggest a name for {t}.
Describe {t} to a child.
Translate '{t}' into {l}.
What is a good gift for someone who loves {t}?
Say hello to {t} in {l}.
Give me three tips for taking care of {t}.
Write an email to a friend about {t}.
Tell me a joke about {t}.

Compose a song about {t}.
Recommend a film that has to do with {t}.
How do you say '{t}' in {l}?
Draft a birthday card that mentions {t}.

Invent a fairy tale in which {t} appears.
Put '{t}' into {l} for me.
Make up a riddle about {t}.
What should I know before I paint a picture of {t}?
Write a letter to my grandmother about {t}.
""")
ADJECTIVES = pools("lazy old quiet busy small happy lost golden | sleepy empty wooden famous tiny | "
                   "snowy brave friendly ancient crooked silver")
NOUNS = pools("cat sea garden house village moon key kitchen puppy forest train teacher | "
              "lake boat market dinner sky bridge | "
              "mountain sailor lighthouse dragon kite castle island baker")
LANGUAGES = pools("French German Spanish Italian | Dutch Polish | Swedish Turkish")
OTHER_EXPERT = {"task": "other", "example": "Write a short poem about the sea."}
CONTENT_FREE = ("N/A", "", "Hello.")

def make_other(rng, part, template):
    thing = f"the {rng.choice(ADJECTIVES[part])} {rng.choice(NOUNS[part])}"
    slots = {"t": thing, "l": rng.choice(LANGUAGES[part])}
    return Problem(fill(template[0], slots), "", "other")

def requests(name, split, n, seed, data=""):
    """n prompts of a task, or everyday requests for "other"; a set without the split gives its test's."""
    if name == "other":
        return [p.prompt for p in
                drawn("other", Task.splits, generated("other", make_other, OTHER))(split, n, seed)]
    task = get_task(name, data)
    return [p.prompt for p in task.problems(split if split in task.splits else "test", n, seed)]

def dispatch_prompt(options, request):
    """What both dispatchers are asked: one example request a category, then the request."""
    shown = "".join(f"Request: {option['example']}\nAnswer: {option['task']}\n\n" for option in options)
    return f"{shown}Request: {request}"

def dispatch_task(options, data=""):
    """The dispatcher's task: which of the options (task and example each; "other" last) a request needs."""
    names = tuple(option["task"] for option in options)

    def problems(split, n, seed):
        found = [Problem(dispatch_prompt(options, request), "Answer:", name, names)
                 for name in names for request in requests(name, split, -(-n // len(names)), seed, data)]
        return random.Random(seed).sample(found, min(n, len(found)))
    return Task("dispatch", "which expert a request needs", "", "Answer:", 1, problems, score_option)
