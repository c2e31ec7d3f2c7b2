"""What an expert is trained on: problems as text in, a score of +1 or −1 out. No tensors here.

A Task gives problems of a split and scores answer texts. Three families are generated, so nothing is downloaded;
each has `train`, `val`, `heldout` (training templates, no problem in common) and `test` (other templates, names and
objects), and a harder cousin, with `val` and `test` only, that training never sees. The paper's real sets are read
from a folder of jsonl files. `dispatch` asks which of these experts a request needs.

    get_task("math").problems("train", n=2, seed=0)
"""
import json
import random
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Callable

import sandbox


@dataclass(frozen=True)
class Problem:
    prompt: str
    prefill: str  # opens the answer; scored texts are what follows it
    gold: str  # an answer text that scores +1
    options: tuple = ()  # a closed question's candidates
    system: str | None = None  # instead of the task's own
    history: tuple = ()  # earlier turns of a chat
    check: tuple = ()  # code: (function to call, calls as JSON, expected values, program text after the answer)


@dataclass(frozen=True)
class Task:
    name: str
    description: str
    system: str
    prefill: str  # opens answers to prompts that are not problems of the task
    max_new_tokens: int
    problems: Callable  # (split, n, seed) -> list[Problem], n None for all of a real set's
    score: Callable  # (problems, texts) -> list of +1 or -1
    splits: tuple = ("train", "val", "heldout", "test")
    stop: str = ""  # the answer is over at this text
    needs: str = ""  # why it cannot run here, in one sentence


# -- grading -------------------------------------------------------------------------------------------------------

# a minus is a sign unless it stands behind a digit or a bracket; commas belong to a number in threes
NUMBER = re.compile(r"((?:(?<![\d)])-)?)\$?((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)")


def last_number(text):
    """The last number of a text: 'so $2,125.00.' -> 2125.0, 'it is -10' -> -10.0, none -> None."""
    found = NUMBER.findall(text)
    return float("".join(found[-1]).replace(",", "")) if found else None


def last_option(options, text):
    """The candidate word mentioned last, in lower case, or None."""
    words = "|".join(re.escape(option.lower()) for option in sorted(options, key=len, reverse=True))
    found = re.findall(rf"(?<!\w)(?:{words})(?!\w)", text.lower())
    return found[-1] if found else None


def chosen_letter(text):
    """ARC: 'the answer is (B)' -> 'B'; else the letter the text begins with. Keys 1-5 mean A-E."""
    found = re.findall(r"answer is:?\s*\(?([A-Ea-e1-5])\b", text) or re.findall(r"^\W*([A-E1-5])\b", text)
    return found[-1].upper().translate(str.maketrans("12345", "ABCDE")) if found else None


def score_number(problems, texts):
    return [1 if last_number(t) == float(p.gold) else -1 for p, t in zip(problems, texts)]


def score_option(problems, texts):
    return [1 if last_option(p.options, t) == p.gold.lower() else -1 for p, t in zip(problems, texts)]


def score_letter(problems, texts):
    return [1 if chosen_letter(t) == p.gold else -1 for p, t in zip(problems, texts)]


def score_code(problems, texts):
    """Run every program on its hidden calls; the values it gives are compared here, not beside it."""
    programs = []
    for problem, text in zip(problems, texts):
        entry, calls, _, after = problem.check
        answer = problem.prefill.partition("```python\n")[2] + text.split("```")[0]
        programs.append(sandbox.Program(answer + after, entry, calls))
    given = sandbox.run(programs, seconds=4)
    return [1 if got is not None and sandbox.same(got, p.check[2]) else -1 for got, p in zip(given, problems)]


def mentions_gold(problem, text):
    """Lenient: the gold answer stands somewhere in the text. None for code, where it would mean nothing."""
    if problem.check:
        return None
    return re.search(rf"(?<![\w.,]){re.escape(problem.gold)}(?!\w|[.,]\d)", text, re.IGNORECASE) is not None


# -- generated families: splits ------------------------------------------------------------------------------------

PART = {"train": 0, "heldout": 0, "val": 1, "test": 2}  # which templates, names and objects a split draws from


def generated(name, make, splits):
    """problems(split, n, seed) from make(rng, part): distinct, and none both in train and in heldout."""
    def problems(split, n, seed):
        if split not in splits:
            raise ValueError(f"task {name} has no split {split!r}; it has {', '.join(splits)}")
        rng, found = random.Random(f"{name} {split} {seed}"), {}
        for _ in range(500 * n):
            problem = make(rng, PART[split])
            eighth = sha256(problem.prompt.encode()).digest()[0] % 8 == 0
            if split in ("val", "test") or eighth == (split == "heldout"):
                found[problem.prompt] = problem
            if len(found) == n:
                return list(found.values())
        raise ValueError(f"task {name} has no {n} distinct problems in split {split!r}; ask for fewer")
    return problems


def pools(text):
    """'a b c | d e | f g' -> the words of each part."""
    return [part.split() for part in text.split("|")]


NAMES = pools("Anna Ben Carla David Emma Frank Grace Henry Julia Kevin Laura Martin | Nora Oscar Paula Quentin Rosa "
              "Simon | Tina Umar Vera Walter Yara Zack")
OBJECTS = pools("apples books pencils marbles stamps cookies coins shells cards buttons | plates candles balloons "
                "stickers | ribbons tickets lemons bottles magnets")

# -- math ------------------------------------------------------------------------------------------------------------

MATH = [[
    ("{A} has {a} {o}. {B} gives {A} {b} more {o}. How many {o} does {A} have now?", "a + b"),
    ("{A} had {a} {o} and gave {b} of them to {B}. How many {o} does {A} have left?", "a - b"),
    ("One box holds {a} {o}. How many {o} are there in {b} boxes?", "a * b"),
    ("{A} shares {a} {o} equally among {b} friends. How many {o} does each friend get?", "a / b"),
    ("{A} has {a} {o} and {B} has {b} {o}. How many {o} do they have together?", "a + b"),
    ("{A} reads {a} pages every day. How many pages does {A} read in {b} days?", "a * b"),
    ("There are {a} people on a bus. {b} people get off and {c} people get on. How many are on it now?", "a - b + c"),
    ("{A} found {a} {o} in the morning and {b} {o} in the evening, then lost {c}. How many are left?", "a + b - c"),
    ("{A} has {a} bags with {b} {o} each and {c} loose {o}. How many {o} does {A} have?", "a * b + c"),
    ("A jar has {a} red, {b} blue and {c} green {o}. How many {o} are in the jar?", "a + b + c"),
    ("{A} needs {a} {o} and already has {b}. How many more {o} does {A} need?", "a - b"),
    ("{A} has {a} {o}. {B} has {b} times as many. How many {o} does {B} have?", "a * b"),
    ("{A} made {a} {o}, kept {b} and packed the rest into bags of {c}. How many bags are there?", "(a - b) / c"),
    ("{A} pays {a} dollars for {b} {o}. All cost the same. How many dollars does one cost?", "a / b"),
], [
    ("{A} walks {a} miles on Monday and {b} miles on Tuesday. How many miles is that in all?", "a + b"),
    ("{A} is {a} years old. {B} is {b} years younger. How old is {B}?", "a - b"),
    ("{A} swims {a} laps on each of {b} days. How many laps does {A} swim altogether?", "a * b"),
    ("{A} buys {a} {o} and {B} buys {b} {o}. How many {o} do they buy in all?", "a + b"),
], [
    ("A shop sold {a} {o} on Friday and {b} on Saturday. How many {o} did it sell on both days?", "a + b"),
    ("A rope is {a} feet long. {A} cuts off {b} feet. How many feet long is the rest?", "a - b"),
    ("A ticket costs {a} dollars. How many dollars do {A} and {B} pay for {b} tickets?", "a * b"),
    ("{A} works {a} hours a day and earns {b} dollars an hour. How many dollars does {A} earn a day?", "a * b"),
    ("A class has {a} boys and {b} girls. How many pupils are in the class?", "a + b"),
    ("A cook uses {a} eggs for one cake. How many eggs does the cook use for {b} cakes?", "a * b"),
]]
MATH_HARD = [[], [  # each with a number that has nothing to do with the question
    ("{A} sleeps {c} hours and reads {a} pages every night. How many pages does {A} read in {b} nights?", "a * b"),
    ("{A} has {c} sisters. {A} buys {a} {o} and then {b} more {o}. How many {o} does {A} buy in all?", "a + b"),
    ("A truck with {c} wheels brings {a} boxes. In every box are {b} {o}. How many {o} does it bring?", "a * b"),
    ("{A} is {c} years old and had {a} {o}. {B} took {b} of the {o}. How many {o} does {A} have left?", "a - b"),
], [
    ("{A} has {c} pens and types {a} letters a minute. How many letters does {A} type in {b} minutes?", "a * b"),
    ("{A} is {c} years old and has {a} {o}. {B} brings {A} {b} more {o}. How many {o} does {A} have?", "a + b"),
    ("A hotel has {a} floors and {c} doors. Each floor has {b} rooms. How many rooms does the hotel have?", "a * b"),
    ("A pack of {a} {o} weighs {c} pounds. {A} orders {b} packs. How many {o} does {A} get?", "a * b"),
    ("{A} drove {a} miles before lunch and {b} miles after it, with {c} friends. How many miles is that?", "a + b"),
    ("A train with {c} cars carries {a} people. Then {b} people get off. How many people are left on it?", "a - b"),
]]
MATH_SYSTEM = "Give a short calculation and then the answer as one number."


def make_math(templates):
    def make(rng, part):
        text, formula = rng.choice(templates[part])
        while True:
            numbers = {letter: rng.randint(2, 12) for letter in "abcd"}
            answer = eval(formula, {}, numbers)
            if answer == int(answer) > 0 and not any(answer == numbers[x] for x in "abcd" if x in formula):
                break
        first, second = rng.sample(NAMES[part], 2)
        prompt = text.format(A=first, B=second, o=rng.choice(OBJECTS[part]), **numbers)
        return Problem(prompt, "Calculation:", str(int(answer)))
    return make


# -- reasoning -------------------------------------------------------------------------------------------------------

KINDS = {
    "animal": pools("dog cat horse cow sheep goat rabbit | lion tiger bear | wolf camel zebra monkey"),
    "fruit": pools("apple banana orange grape pear lemon cherry | mango peach plum | melon papaya apricot fig"),
    "vehicle": pools("car bus train bicycle truck boat | tram taxi scooter | ferry van helicopter canoe"),
    "garment": pools("shirt hat coat sock shoe scarf | dress jacket glove | sweater skirt boot tie"),
    "tool": pools("hammer saw drill wrench shovel axe | rake pliers ladder | chisel screwdriver spade crowbar"),
    "instrument": pools("piano guitar violin drum flute trumpet | harp cello banjo | clarinet organ tuba oboe"),
    "drink": pools("water milk tea coffee juice | cocoa lemonade cider | soda wine beer smoothie"),
    "colour": pools("red blue green yellow black white | purple pink brown | gray violet crimson turquoise")}
OPPOSITES = [["hot cold", "big small", "fast slow", "old young", "happy sad", "light dark", "up down", "hard soft"],
             ["early late", "rich poor", "loud quiet", "full empty"],
             ["strong weak", "deep shallow", "near far", "clean dirty", "wide narrow"]]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()


def listed(words, joint="or"):
    return ", ".join(words[:-1]) + f" {joint} {words[-1]}"


def choose(rng, question, gold, others):
    """A question that ends in its candidates in random order: -> (text, gold, candidates)."""
    options = [gold, *others]
    rng.shuffle(options)
    return f"{question} {listed(options)}?", gold, options


def kinds(rng, part, n):
    """n random kinds, as (name, its words in this part)."""
    return [(kind, KINDS[kind][part]) for kind in rng.sample(sorted(KINDS), n)]


def odd_one_out(question, same, others=1):
    def make(rng, part):
        (_, many), (_, few) = kinds(rng, part, 2)
        return choose(rng, question, rng.choice(few), rng.sample(many, same))
    return make


def which_kind(question, wrong):
    def make(rng, part):
        (kind, words), *rest = kinds(rng, part, 1 + wrong)
        a = "an" if kind[0] in "aeiou" else "a"
        return choose(rng, question.format(f"{a} {kind}"), rng.choice(words), [rng.choice(w) for _, w in rest])
    return make


def kind_of(question, wrong):
    def make(rng, part):
        (kind, words), *rest = kinds(rng, part, 1 + wrong)
        return choose(rng, question.format(rng.choice(words)), kind, [k for k, _ in rest])
    return make


def numbers(question, n, pick, low=10, high=99):
    """A question about n different numbers, of which `pick` takes one."""
    def make(rng, part):
        options = rng.sample(range(low, high), n)
        gold = pick(options)
        return choose(rng, question, str(gold), [str(x) for x in options if x != gold])
    return make


def chain(more, less, most, least, n=3):
    """Who comes first or last in an order told by neighbours: sentences and directions are shuffled."""
    def make(rng, part):
        people = rng.sample(NAMES[part], n)
        facts = [f"{a} {more} {b}." if rng.random() < 0.5 else f"{b} {less} {a}." for a, b in zip(people, people[1:])]
        rng.shuffle(facts)
        question, gold = rng.choice([(most, people[0]), (least, people[-1])])
        return choose(rng, " ".join(facts) + f" {question},", gold, [x for x in people if x != gold])
    return make


def two_amounts(fact, question, n=2):
    def make(rng, part):
        people, amounts = rng.sample(NAMES[part], n), rng.sample(range(2, 60), n)
        facts = " ".join(fact.format(p, x) for p, x in zip(people, amounts))
        gold = people[amounts.index(max(amounts))]
        return choose(rng, f"{facts} {question},", gold, [p for p in people if p != gold])
    return make


def sequence(question, step):
    def make(rng, part):
        start, by = rng.randint(2, 30), rng.randint(2, 9)
        terms = [step(start, by, i) for i in range(5)]
        wrong = rng.sample([x for x in range(terms[4] - 9, terms[4] + 10) if x not in terms], 2)
        shown = ", ".join(map(str, terms[:4]))
        return choose(rng, question.format(shown), str(terms[4]), [str(x) for x in wrong])
    return make


def calendar(question, names, steps):
    def make(rng, part):
        today, by = rng.randrange(len(names)), rng.choice(steps)
        gold = names[(today + by) % len(names)]
        wrong = rng.sample([x for x in names if x not in (gold, names[today])], 2)
        return choose(rng, question.format(names[today], abs(by)), gold, wrong)
    return make


def opposite(question, wrong):
    def make(rng, part):
        pairs = [rng.sample(pair.split(), 2) for pair in rng.sample(OPPOSITES[part], 1 + wrong)]
        return choose(rng, question.format(pairs[0][0]), pairs[0][1], [rng.choice(pair) for pair in pairs[1:]])
    return make


def names_by(question, n, key):
    def make(rng, part):
        while True:
            people = rng.sample(NAMES[part], n)
            ranked = sorted(people, key=key)
            if key(ranked[0]) != key(ranked[1]):
                return choose(rng, question, ranked[0], ranked[1:])
    return make


def yes_no(make_fact):
    """make_fact(rng, part, truth) -> text of a question whose answer is yes if truth else no."""
    def make(rng, part):
        truth = rng.random() < 0.5
        return make_fact(rng, part, truth) + " Answer yes or no.", "yes" if truth else "no", ["yes", "no"]
    return make


def is_greater(rng, part, truth):
    low, high = sorted(rng.sample(range(10, 99), 2))
    return "Is {} greater than {}?".format(*((high, low) if truth else (low, high)))


def is_kind(rng, part, truth):
    (kind, words), (other, _) = kinds(rng, part, 2)
    return f"Is the word {rng.choice(words)} the name of a kind of {kind if truth else other}?"


def all_are(rng, part, truth):
    name, ((_, things), (_, colours)) = rng.choice(NAMES[part]), (kinds(rng, part, 1)[0], ("", KINDS["colour"][part]))
    thing, colour, other = rng.choice(things), *rng.sample(colours, 2)
    return f"Every {thing} of {name} is {colour}. {name} has one {thing}. Is it {colour if truth else other}?"


def has_more(rng, part, truth):
    a, b = rng.sample(NAMES[part], 2)
    low, high = sorted(rng.sample(range(2, 60), 2))
    x, y = (high, low) if truth else (low, high)
    thing = rng.choice(OBJECTS[part])
    return f"{a} has {x} {thing} and {b} has {y}. Does {a} have more {thing} than {b}?"


def must_be(rng, part, truth):
    a, b, c = rng.sample(NAMES[part], 3)
    first, last = (a, c) if truth else (c, a)
    return f"{a} lives north of {b}. {b} lives north of {c}. Does {first} live north of {last}?"


REASONING = [[
    odd_one_out("Which word does not belong with the others:", 3),
    which_kind("Which of these is {}:", 2),
    numbers("Which number is larger:", 2, max),
    numbers("Which number is the smallest:", 3, min),
    chain("is taller than", "is shorter than", "Who is the tallest", "Who is the shortest"),
    chain("finished before", "finished after", "Who finished first", "Who finished last"),
    two_amounts("{} is {} years old.", "Who is older"),
    two_amounts("{} has {} coins.", "Who has the most coins", 3),
    sequence("What comes next after {}:", lambda start, by, i: start + by * i),
    calendar("Today is {0}. Which day is it tomorrow:", DAYS, [1]),
    calendar("Which month comes {1} months after {0}:", MONTHS, [2, 3]),
    opposite("What is the opposite of {}:", 2),
    names_by("Which name comes first in the alphabet:", 3, lambda name: name[0]),
    yes_no(is_greater),
    yes_no(is_kind),
], [
    kind_of("What kind of thing is a {}:", 2),
    numbers("Which of these numbers is even:", 2, lambda xs: next((x for x in xs if x % 2 == 0), xs[0])),
    calendar("Today is {0}. Which day was it yesterday:", DAYS, [-1]),
    yes_no(all_are),
], [
    two_amounts("The bag of {} weighs {} pounds.", "Whose bag is heavier"),
    chain("sits left of", "sits right of", "Who sits furthest left", "Who sits furthest right"),
    odd_one_out("Three of these words are of one kind. Which one is of another:", 3),
    sequence("The numbers go down: {}. The next one is:", lambda start, by, i: start + 40 - by * i),
    yes_no(has_more),
    opposite("Which word means the reverse of {}:", 2),
]]
REASONING_HARD = [[], [
    chain("is richer than", "is poorer than", "Who is the richest", "Who is the poorest", 4),
    which_kind("Only one of these words is the name of {}:", 4),
    calendar("Today is {0}. Which day is it in {1} days:", DAYS, [2, 3, 4]),
    numbers("Which of these numbers is the greatest:", 5, max, 100, 999),
], [
    chain("is older than", "is younger than", "Who is the oldest", "Who is the youngest", 4),
    two_amounts("{} ran {} miles.", "Who ran the furthest", 4),
    calendar("It was {0} {1} days ago. Which day is it today:", DAYS, [2, 3, 5]),
    odd_one_out("One of these words is unlike all the others. Which one:", 4),
    sequence("Each number is a little further from the last: {}. What follows:",
             lambda start, by, i: start + by * i + i * (i - 1) // 2),
    yes_no(must_be),
]]
REASONING_SYSTEM = "Answer the question."


def make_reasoning(templates):
    def make(rng, part):
        prompt, gold, options = rng.choice(templates[part])(rng, part)
        return Problem(prompt, "Answer:", gold, tuple(options))
    return make


# -- code ------------------------------------------------------------------------------------------------------------

CODE = [[  # (kind of argument, what the function returns, the reference), a and b being numbers
    ("int", "{x} plus {a}", "{x} + {a}"),
    ("int", "{a} times {x} minus {b}", "{a} * {x} - {b}"),
    ("int", "True if {x} is divisible by {a} and False otherwise", "{x} % {a} == 0"),
    ("int", "the square of {x} plus {a}", "{x} ** 2 + {a}"),
    ("two", "the sum of {x} and {y} plus {a}", "{x} + {y} + {a}"),
    ("two", "the larger of {x} and {y} plus {a}", "max({x}, {y}) + {a}"),
    ("list", "the sum of the numbers in {x} plus {a}", "sum({x}) + {a}"),
    ("list", "a list of the numbers in {x} that are greater than {a}", "[i for i in {x} if i > {a}]"),
    ("list", "a list with every number in {x} multiplied by {a}", "[i * {a} for i in {x}]"),
    ("list", "how many numbers in {x} are less than {a}", "sum(1 for i in {x} if i < {a})"),
    ("list", "the length of {x} plus {a}", "len({x}) + {a}"),
    ("text", "the string {x} repeated {a} times", "{x} * {a}"),
    ("text", "the first {b} characters of the string {x}", "{x}[:{b}]"),
    ("text", "the length of the string {x} times {a}", "len({x}) * {a}"),
], [
    ("two", "the product of {x} and {y} plus {a}", "{x} * {y} + {a}"),
    ("list", "the smallest number in {x} minus {a}", "min({x}) - {a}"),
    ("list", "a list with {a} subtracted from every number in {x}", "[i - {a} for i in {x}]"),
    ("text", "the string {x} in upper case repeated {a} times", "{x}.upper() * {a}"),
], [
    ("int", "the remainder of {x} divided by {a}", "{x} % {a}"),
    ("two", "the difference {x} minus {y} times {a}", "({x} - {y}) * {a}"),
    ("list", "the largest number in {x} times {a}", "max({x}) * {a}"),
    ("list", "a list of the numbers in {x} that are not equal to {a}", "[i for i in {x} if i != {a}]"),
    ("text", "the last {b} characters of the string {x}", "{x}[-{b}:]"),
    ("text", "True if the string {x} has more than {b} characters and False otherwise", "len({x}) > {b}"),
]]
CODE_HARD = [[], [
    ("list", "the sum of the numbers in {x} that are greater than {a}", "sum(i for i in {x} if i > {a})"),
    ("text", "the string {x} reversed and repeated {a} times", "{x}[::-1] * {a}"),
    ("int", "{x} doubled if {x} is less than {a} and {x} plus {b} otherwise", "{x} * 2 if {x} < {a} else {x} + {b}"),
    ("two", "True if {x} plus {y} is greater than {a} and False otherwise", "{x} + {y} > {a}"),
], [
    ("list", "the sum of the squares of the numbers in {x} plus {a}", "sum(i ** 2 for i in {x}) + {a}"),
    ("list", "a sorted list of the numbers in {x} that are divisible by {b}", "sorted(i for i in {x} if i % {b} == 0)"),
    ("list", "the difference between the largest and the smallest number in {x} plus {a}", "max({x}) - min({x}) + {a}"),
    ("text", "how many vowels the string {x} has plus {a}", "sum(c in 'aeiou' for c in {x}) + {a}"),
    ("int", "the string 'big' if {x} is greater than {a} and the string 'small' otherwise",
     "'big' if {x} > {a} else 'small'"),
    ("two", "the sum of all whole numbers from 1 to {x} plus {y} plus {a}", "sum(range(1, {x} + 1)) + {y} + {a}"),
]]
FUNCTIONS = pools("compute solve process convert handle | evaluate derive build | work_out produce find_it apply_rule")
ARGUMENTS = {"int": pools("n x number value | k num | count m"), "two": pools("x,y a1,a2 first,second | p,q m,n | u,v s,t"),
             "list": pools("items numbers values data | nums xs | entries series"),
             "text": pools("text s word string | phrase line | name msg")}
WORDS = pools("hello banana window | river kitten planet | garden yellow pepper")
CODE_SYSTEM = "Write Python code."


def make_code(templates):
    def make(rng, part):
        kind, what, reference = rng.choice(templates[part])
        function, names = rng.choice(FUNCTIONS[part]), rng.choice(ARGUMENTS[kind][part]).split(",")
        inputs = {"int": lambda: [rng.randint(0, 40)], "two": lambda: [rng.randint(0, 20), rng.randint(0, 20)],
                  "list": lambda: [[rng.randint(0, 20) for _ in range(rng.randint(4, 8))]],
                  "text": lambda: [rng.choice(WORDS[part])[:rng.randint(1, 7)] + rng.choice("abcdefgh")]}[kind]
        while True:
            filled = {"x": names[0], "y": names[-1], "a": rng.randint(2, 15), "b": rng.randint(2, 5)}
            calls = [inputs() for _ in range(8)]
            body = reference.format(**filled)
            expected = [eval(body, dict(zip(names, call))) for call in calls]
            # neither a constant nor the argument handed back may be right
            if any(e != expected[0] for e in expected) and any(e != call[0] for e, call in zip(expected, calls)):
                break
        signature = f"def {function}({', '.join(names)}):"
        prompt = f"Write a Python function `{function}({', '.join(names)})` that returns {what.format(**filled)}."
        return Problem(prompt, f"```python\n{signature}", f"\n    return {body}\n```",
                       check=(function, calls, expected, ""))
    return make


# -- the paper's real sets -------------------------------------------------------------------------------------------

ROW = {"gsm8k": '{"question": "…", "answer": "… #### 18"}',
       "mawps": '{"question": "…", "answer": "504"}',
       "arc": '{"question": "…", "choices": {"label": ["A", …], "text": ["…", …]}, "answerKey": "D"}',
       "mbpp": '{"prompt": "…", "entry_point": "f", "canonical_solution": "…", "base_input": [[…], …], "atol": 0}',
       "humaneval": '{"prompt": "def …", "canonical_solution": "…", "test": "def check(candidate): …", '
                    '"entry_point": "f"}'}


def gsm8k_problem(row):
    gold = last_number(row["answer"].split("####")[1])
    return Problem(row["question"], "", f"{gold:g}" if gold % 1 else str(int(gold)))


def mawps_problem(row):
    return Problem(row["question"], "Calculation:", f"{float(row['answer']):g}")


def arc_problem(row):
    letters = [label.translate(str.maketrans("12345", "ABCDE")) for label in row["choices"]["label"]]
    choices = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, row["choices"]["text"], strict=True))
    return Problem(f"{row['question']}\n{choices}", "Answer: (",
                   letters[row["choices"]["label"].index(row["answerKey"])], tuple(letters))


def mbpp_problem(row):
    calls, entry = row["base_input"], row["entry_point"]
    # where the visible test compares sets, the order of a list means nothing: both sides are made sets
    as_set = f"assert set({entry}(" in row["prompt"]
    after = f"\ndef as_set(*args):\n    return set({entry}(*args))\n" if as_set else ""
    check = ("as_set" if as_set else entry, calls, (row["canonical_solution"], row["atol"]), after)
    signature = re.search(rf"^def {entry}\(.*$", row["canonical_solution"], re.MULTILINE).group()
    before, _, body = row["canonical_solution"].partition(signature + "\n")
    return Problem(row["prompt"].replace('"""', "").strip(), f"```python\n{before}{signature}\n", body, check=check)


def humaneval_problem(row):
    # its own `check` runs beside the program, in the child: the one place where expected values are not kept back
    after = f"\n{row['test']}\ndef checked():\n    check({row['entry_point']})\n    return True\n"
    return Problem(f"Complete this Python function.\n\n{row['prompt']}", f"```python\n{row['prompt']}",
                   row["canonical_solution"], check=("checked", [[]], [True], after))


def score_mbpp(problems, texts):
    """Expected values come from running the reference in a child of its own, once for all texts."""
    references = [sandbox.Program(p.check[2][0] + p.check[3], p.check[0], p.check[1]) for p in problems]
    programs = [sandbox.Program(p.prefill.partition("```python\n")[2] + t.split("```")[0] + p.check[3], *p.check[:2])
                for p, t in zip(problems, texts)]
    given = sandbox.run(references + programs, seconds=4)
    return [1 if got is not None and sandbox.same(got, want, p.check[2][1]) else -1
            for p, want, got in zip(problems, given, given[len(problems):])]


def halves(rows):
    """A training set as equal train and validation halves, shuffled once for all (paper, section 4.1)."""
    rows = random.Random(0).sample(rows, len(rows))
    return {"train": rows[:len(rows) // 2], "val": rows[len(rows) // 2:]}


REAL = {  # name: (files, rows of the files -> {split: rows}, row -> Problem, row shown in errors)
    "gsm8k": (("gsm8k_train", "gsm8k_test"), lambda a, b: halves(a) | {"test": b}, gsm8k_problem),
    "mawps": (("mawps_asdiva_train",), lambda a: halves(a[:-1000]) | {"test": a[-1000:]}, mawps_problem),
    "mbpp": (("mbppplus_v010",), lambda a: {"train": a[:200], "val": a[200:300], "test": a[300:]}, mbpp_problem),
    "arc_easy": (("arc_easy_train", "arc_easy_test"), lambda a, b: halves(a) | {"test": b}, arc_problem),
    "arc_challenge": (("arc_challenge_dev", "arc_challenge_test"), lambda a, b: {"val": a, "test": b}, arc_problem),
    "humaneval": (("humaneval",), lambda a: {"val": a[:10], "test": a[10:]}, humaneval_problem)}


def read_rows(name, folder):
    """{split: [Problem]} of a real set. A missing file or a bad row is one sentence that says what a row looks like."""
    files, split, problem_of = REAL[name]
    shape = ROW["arc" if name.startswith("arc") else name]
    tables = []
    for file in files:
        path = Path(folder or "") / f"{file}.jsonl"
        if folder is None or not path.exists():
            raise FileNotFoundError(f"task {name} reads {file}.jsonl from --data FOLDER, and {folder or 'no folder'} "
                                    f"{'does not hold it' if folder else 'was named'}; a row is {shape}")
        tables.append([])
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                try:
                    tables[-1].append(problem_of(json.loads(line)))
                except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                    raise ValueError(f"{path} line {number} cannot be read ({error!r}); a row is {shape}") from error
    return split(*tables)


def real(name, folder):
    """problems(split, n, seed) of a real set: n of its rows, drawn by the seed; all of them for n None."""
    rows = read_rows(name, folder)

    def problems(split, n, seed):
        if split not in rows:
            raise ValueError(f"task {name} has no split {split!r}; it has {', '.join(rows)}")
        return random.Random(f"{name} {split} {seed}").sample(rows[split], min(n or len(rows[split]), len(rows[split])))
    return problems, tuple(rows)


# -- dispatch --------------------------------------------------------------------------------------------------------

OTHER = [[
    "Write a short poem about {t}.", "Tell me a story about {t}.", "Suggest a name for {t}.", "Describe {t} to a child.",
    "Translate '{t}' into {l}.", "What is a good gift for someone who loves {t}?", "Say hello to {t} in {l}.",
    "Give me three tips for taking care of {t}.", "Write an email to a friend about {t}.", "Tell me a joke about {t}.",
], [
    "Compose a song about {t}.", "Recommend a film that has to do with {t}.", "How do you say '{t}' in {l}?",
    "Draft a birthday card that mentions {t}.",
], [
    "Invent a fairy tale in which {t} appears.", "Put '{t}' into {l} for me.", "Make up a riddle about {t}.",
    "What should I know before I paint a picture of {t}?", "Write a letter to my grandmother about {t}.",
]]
THINGS = [["a lazy cat", "the sea", "my garden", "an old house", "a rainy day", "a small village", "spring", "the moon",
           "a lost key", "a busy kitchen", "winter evenings", "a puppy", "good coffee", "a long journey", "the forest"],
          ["a quiet lake", "autumn leaves", "a wooden boat", "the night sky", "a family dinner", "a street market"],
          ["a snowy mountain", "a brave sailor", "summer rain", "the old lighthouse", "a friendly dragon", "a red kite"]]
LANGUAGES = pools("French German Spanish Italian | Dutch Polish | Swedish Turkish")


def make_other(rng, part):
    text = rng.choice(OTHER[part])
    return Problem(text.format(t=rng.choice(THINGS[part]), l=rng.choice(LANGUAGES[part])), "", "other")


OTHER_EXPERT = {"task": "other", "description": "anything else", "example": "Write a short poem about the sea."}
CONTENT_FREE = ("N/A", "", "Hello.")


def dispatch_prompt(options, request):
    """The question that both dispatchers ask: one example request a category, then the request (design: calibrated)."""
    shown = "".join(f"Request: {o['example']}\nAnswer: {o['task']}\n\n" for o in options)
    return f"What kind of request is this: {listed([o['task'] for o in options])}?\n\n{shown}Request: {request}"


def dispatch_task(experts):
    """The dispatcher's task: which of `experts` (their metadata: task, description, example) a request needs, or other.

    Options are sorted by name, "other" last. Requests come from the same split of each expert's own task.
    """
    options = [*sorted(experts, key=lambda expert: expert["task"]), OTHER_EXPERT]
    names = tuple(option["task"] for option in options)
    sources = {name: get_task(name).problems for name in names[:-1]}
    sources["other"] = generated("other", make_other, TRAINABLE)

    def problems(split, n, seed):
        each = -(-n // len(names))
        found = [Problem(dispatch_prompt(options, request.prompt), "Answer:", name, names)
                 for name in names for request in sources[name](split, each, seed)]
        return random.Random(seed).sample(found, n)
    return Task("dispatch", "which expert a request needs", "", "Answer:", 1, problems, score_option)


# -- by name ---------------------------------------------------------------------------------------------------------

TRAINABLE, UNSEEN = ("train", "val", "heldout", "test"), ("val", "test")
DATE_SYSTEM = "Answer with a number of days."
NAMES_OF_TASKS = ("math", "math_hard", "code", "code_hard", "reasoning", "reasoning_hard", *REAL, "dispatch")
COUSIN = {"math": "math_hard", "code": "code_hard", "reasoning": "reasoning_hard"}


def get_task(name, data=None):
    """The task of that name. Raises ValueError for an unknown one, FileNotFoundError where --data lacks its file."""
    stop = "```"
    family = name.removesuffix("_hard")
    if family in COUSIN:
        hard = name != family
        splits = UNSEEN if hard else TRAINABLE
        if family == "math":
            make = make_math(MATH_HARD if hard else MATH)
            return Task(name, "arithmetic word problems", MATH_SYSTEM, "Calculation:", 40, generated(name, make, splits),
                        score_number, splits)
        if family == "code":
            make = make_code(CODE_HARD if hard else CODE)
            return Task(name, "writing Python functions", CODE_SYSTEM, "```python\n", 64, generated(name, make, splits), score_code,
                        splits, stop, sandbox.refusal() or "")
        make = make_reasoning(REASONING_HARD if hard else REASONING)
        return Task(name, "short closed questions", REASONING_SYSTEM, "Answer:", 24, generated(name, make, splits),
                    score_option, splits)
    if name not in REAL:
        raise ValueError(f"no task is named {name!r}; there are {', '.join(NAMES_OF_TASKS)}")
    problems, splits = real(name, data)
    if name == "gsm8k":
        system = "Solve the problem step by step. End with 'The answer is' and the number."
        return Task(name, "grade-school math", system, "", 256, problems, score_number, splits)
    if name == "mawps":
        return Task(name, "one-step word problems", MATH_SYSTEM, "Calculation:", 40, problems, score_number, splits)
    if name.startswith("arc"):
        return Task(name, "science questions", REASONING_SYSTEM, "Answer: (", 16, problems, score_letter, splits)
    score = score_mbpp if name == "mbpp" else score_code
    return Task(name, "writing Python functions", CODE_SYSTEM, "```python\n", 256, problems, score, splits, stop,
                sandbox.refusal() or "")
