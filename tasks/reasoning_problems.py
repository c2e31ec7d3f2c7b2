"""The family `reasoning`: closed questions on words, orders, numbers and dates; its variant `reasoning_hard`.

No rule like "take the first candidate" or "always yes" is right more often than chance (tests/test_tasks.py).
"""
from dataclasses import dataclass, replace

from tasks.generated import NAMES, OBJECTS, Generator, fill, templates, words
from tasks.grading import score_options
from tasks.interface import Problem, Task

@dataclass(frozen=True)
class ClosedQuestion:
    question: str
    answer: str  # a formula for the right candidate; without candidates, for whether the answer is yes
    candidates: str = ""  # formulas with commas between

KIND_WORDS = """
animal: dog cat horse cow sheep goat rabbit | lion tiger bear fox | wolf camel zebra monkey
fruit: apple banana orange grape pear lemon cherry | mango peach plum kiwi | melon papaya apricot fig
vehicle: car bus train bicycle truck boat | tram taxi scooter wagon | ferry van helicopter canoe
garment: shirt hat coat sock shoe scarf | dress jacket glove belt | sweater skirt boot tie
tool: hammer saw drill wrench shovel axe | rake pliers ladder file | chisel screwdriver spade crowbar
instrument: piano guitar violin drum flute trumpet | harp cello banjo horn | clarinet organ tuba oboe
drink: water milk tea coffee juice | cocoa lemonade cider punch | soda wine beer smoothie
colour: red blue green yellow black white | purple pink brown gold | gray violet crimson turquoise
"""

def read_kinds(text):
    """{kind: {part: words of that kind}}."""
    kinds = {}
    for line in text.strip().splitlines():
        kind, of_kind = line.split(": ")
        kinds[kind] = words(of_kind)
    return kinds

KINDS = read_kinds(KIND_WORDS)
OPPOSITES = words("hot-cold big-small fast-slow old-young happy-sad light-dark up-down hard-soft | "
                  "early-late rich-poor loud-quiet full-empty | "
                  "strong-weak deep-shallow near-far clean-dirty wide-narrow")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

REASONING = templates(ClosedQuestion, """
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
Which word belongs with {alike[0]} and {alike[1]}: => alike[2] => alike[2], *strays[:2]
Which of these is not a kind of {kind}: => strays[0] => strays[0], *alike[:2]
Which number comes right after {x}: => x + 1 => x + 1, x + 2, x + 10
Which number is closest to {x}: => x + 1 => x + 1, x + 4, x - 6
{A} is taller than {B}. Who is {'taller' if coin else 'shorter'}, => A if coin else B => A, B
{A} has {x} {o} and {B} has {y}. Who has fewer {o}, => A if x < y else B => A, B
Which month comes before {month[1]}: => month[0] => month[0], month[2], month[5]
Today is {day[0]}. Which day will it be in two days: => day[2] => day[2], day[1], day[4]
Which word means the opposite of {pair[0][1]}: => pair[0][0] => pair[0][0], pair[1][0], pair[2][1]
Which name comes last in the alphabet: => max(A, B, C) => A, B, C
Is {x} less than {y}? => x < y
Is {x + y} equal to {x} plus {y if coin else y + 1}? => coin
Is {2 * x if coin else 2 * x + 1} an even number? => coin
Do {alike[0]} and {alike[1] if coin else strays[0]} belong to the same kind of thing? => coin
Does {month[0]} come right before {month[1] if coin else month[2]}? => coin
{A} pays {x} dollars for {o}, and {B} pays {y}. Who pays more, => A if x > y else B => A, B
What comes next after {x}, {x + 10}, {x + 20}: => x + 30 => x + 30, x + 25, x + 40
What comes next after {x + 3 * k}, {x + 2 * k}, {x + k}: => x => x, x - k - 1, x + k + 1
Which price is lower, in dollars: => min(x, y) => x, y
{tell('is faster than', 'is slower than', A, B, C)} Who is the {'fastest' if coin else 'slowest'}, \
=> A if coin else C => A, B, C
{tell('lives above', 'lives below', A, B, C)} Who lives {'highest' if coin else 'lowest'}, \
=> A if coin else C => A, B, C
{A} has {x} points, {B} has {y} and {C} has {z}. Who has the fewest points, \
=> min((x, A), (y, B), (z, C))[1] => A, B, C
The word {alike[0]} names a kind of: => kind => kind, other, third
How many letters does the word {alike[0]} have: => len(alike[0]) => len(alike[0]), len(alike[0]) + 1, 12
Which name begins with the letter {A[0]}: => A => A, B, C

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
{A} finished {x} puzzles and {B} finished {y}. Who finished more, => A if x > y else B => A, B
Is the {alike[0]} a kind of {kind if coin else other}? => coin

Three of these go together. Which one does not: => strays[1] => strays[1], *alike[:3]
Pick the word for a kind of {kind}: => alike[1] => alike[1], strays[0], strays[2]
Which of these numbers is the biggest: => max(x, y, z) => x, y, z
{A} weighs {x} kilos and {B} weighs {y}. Who is lighter, => A if x < y else B => A, B
{tell('woke up before', 'woke up after', A, B, C)} Who woke up {'first' if coin else 'last'}, \
=> A if coin else C => A, B, C
{tell('is stronger than', 'is weaker than', A, B, C)} Who is the {'strongest' if coin else 'weakest'}, \
=> A if coin else C => A, B, C
If tomorrow is {day[1]}, which day is it today: => day[0] => day[0], day[2], day[4]
Which month is two months after {month[0]}: => month[2] => month[2], month[1], month[7]
Choose the opposite of {pair[0][0]}: => pair[0][1] => pair[0][1], pair[1][1], pair[2][0]
In a dictionary, which of these words would come first: => min(strays[:3]) => *strays[:3]
Someone counts down: {x + 3}, {x + 2}, {x + 1}. Which number is next: => x => x, x + 4, x - 2
Every number is {k} more than the last: {x}, {x + k}, {x + 2 * k}. Which number follows: \
=> x + 3 * k => x + 3 * k, x + 3 * k + 1, x + 4 * k
{A} read {x} pages, {B} read {y} and {C} read {z}. Who read the most, \
=> max((x, A), (y, B), (z, C))[1] => A, B, C
{A} paid {x} dollars for lunch, and {B} paid {y}. Who paid less, => A if x < y else B => A, B
Is {y} smaller than {x}? => y < x
Is {2 * x + 1 if coin else 2 * x} an odd number? => coin
Are {alike[0]} and {alike[1] if coin else strays[0]} words for the same kind of thing? => coin
Does {day[0]} come right after {day[6] if coin else day[1]}? => coin
{A} is {x} years old and {B} is {y}. Is {A} younger than {B}? => x < y
{A} stands in front of {B}, who stands in front of {C}. \
Is {A if coin else C} in front of {C if coin else A}? => coin
Under which heading does the word {alike[0]} belong: => kind => kind, other, third
To both {x} and {y} we add {k}. The larger result is: => max(x, y) + k => x + k, y + k
How many letters are in the name {A}: => len(A) => len(A), len(A) + 2, len(A) - 1
{A} scored {x} and {B} scored {y}. {C} scored less than both. Who won, => A if x > y else B => A, B, C
""")

REASONING_HARD = templates(ClosedQuestion, parts=("val", "test"), text="""
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
{tell('sings better than', 'sings worse than', A, B, C, D)} Who sings {'best' if coin else 'worst'}, \
=> A if coin else D => A, B, C, D
Which of these four numbers is the largest: => max(x, y, z, w) => x, y, z, w

{tell('earns more than', 'earns less than', A, B, C, D)} Who earns the {'most' if coin else 'least'}, \
=> A if coin else D => A, B, C, D
{tell('swims faster than', 'swims slower than', A, B, C, D)} Who swims {'fastest' if coin else 'slowest'}, \
=> A if coin else D => A, B, C, D
{tell('parked before', 'parked after', A, B, C, D)} Who parked {'first' if coin else 'last'}, \
=> A if coin else D => A, B, C, D
{tell('camps north of', 'camps south of', A, B, C, D)} Who camps furthest {'north' if coin else 'south'}, \
=> A if coin else D => A, B, C, D
{A} caught {x} fish, {B} {y}, {C} {z} and {D} {w}. Who caught the fewest, \
=> min((x, A), (y, B), (z, C), (w, D))[1] => A, B, C, D
{A} is {x} years old, {B} is {y}, {C} is {z} and {D} is {w}. Who is the oldest, \
=> max((x, A), (y, B), (z, C), (w, D))[1] => A, B, C, D
Which of these five numbers is the smallest: => min(x, y, z, w, v) => x, y, z, w, v
Sorted by size, which number stands in the middle: => sorted((x, y, z))[1] => x, y, z
Yesterday was {day[0]}. Which day will it be tomorrow: => day[2] => day[2], day[1], day[3]
It is {day[0]}. Which day was it three days ago: => day[4] => day[4], day[3], day[5]
Which month comes three months after {month[0]}: => month[3] => month[3], month[2], month[9]
Which month comes two months before {month[2]}: => month[0] => month[0], month[1], month[4]
The gaps grow by one: {x}, {x + 1}, {x + 3}, {x + 6}. What comes next: => x + 10 => x + 10, x + 9, x + 12
Each number is double the one before it: {k}, {2 * k}, {4 * k}, {8 * k}. What follows: \
=> 16 * k => 16 * k, 10 * k, 12 * k
Four of these five words belong together. Which one does not: => strays[0] => strays[0], *alike[:4]
Only one of these is not a kind of {kind}: => strays[2] => strays[2], *alike[:4]
Which word is neither a kind of {kind} nor a kind of {other}: => strays[1] => strays[1], alike[0], strays[0]
{A} has {x} {o}, {B} has {k} {'more' if coin else 'fewer'} than {A}, and {C} has {k} \
{'fewer' if coin else 'more'} than {A}. Who has the most {o}, => B if coin else C => A, B, C
{tell('is louder than', 'is quieter than', A, B, C)} Is {A if coin else C} louder than {C if coin else A}? \
=> coin
{tell('lives west of', 'lives east of', A, B, C)} Does {A if coin else C} live west of {C if coin else A}? \
=> coin
Is {x} plus {y} more than {x + y - k if coin else x + y + k}? => coin
Is {x} closer to {x + k} than to {x - k - 1 if coin else x - k + 1}? => coin
In alphabetical order, which name stands second: => sorted((A, B, C))[1] => A, B, C
Which two words are both kinds of {kind}: => f'{alike[0]} and {alike[1]}' \
=> f'{alike[0]} and {alike[1]}', f'{alike[2]} and {strays[0]}', f'{strays[1]} and {alike[3]}'
""")

@dataclass(frozen=True)
class Telling:
    """Tells an order of people as sentences about neighbours, in random order and direction."""
    rng: object

    def __call__(self, more, less, *people):
        neighbours = list(zip(people, people[1:]))
        sentences = []
        for a, b in self.rng.sample(neighbours, len(neighbours)):
            forward = self.rng.random() < 0.5
            sentences.append(f"{a} {more} {b}." if forward else f"{b} {less} {a}.")
        return " ".join(sentences)

def draw_slots(rng, part):
    """Everything that a template may speak of."""
    kind, *others = rng.sample(sorted(KINDS), 5)
    first_day, first_month = rng.randrange(7), rng.randrange(12)
    slots = dict(zip("ABCD", rng.sample(NAMES[part], 4)))
    slots |= dict(zip("xyzwv", rng.sample(range(10, 99), 5)))
    slots["k"] = rng.randint(2, 9)
    slots["o"] = rng.choice(OBJECTS[part])
    slots["coin"] = rng.random() < 0.5
    slots["tell"] = Telling(rng)
    slots["kind"] = kind
    slots["other"] = others[0]
    slots["third"] = others[1]
    slots["alike"] = rng.sample(KINDS[kind][part], 4)  # words of the kind
    slots["strays"] = [rng.choice(KINDS[other][part]) for other in others]  # words of other kinds
    slots["pair"] = [rng.sample(pair.split("-"), 2) for pair in rng.sample(OPPOSITES[part], 3)]
    slots["day"] = DAYS[first_day:] + DAYS[:first_day]
    slots["month"] = MONTHS[first_month:] + MONTHS[:first_month]
    return slots

def make_reasoning(rng, part, template):
    slots = draw_slots(rng, part)
    question = fill(template.question, slots)
    answer = eval(template.answer, {}, slots)
    if not template.candidates:
        return Problem(question + " Answer yes or no.", "Answer:", "yes" if answer else "no", ("yes", "no"))
    candidates = [str(candidate) for candidate in eval(f"[{template.candidates}]", {}, slots)]
    rng.shuffle(candidates)
    *most, last = candidates
    return Problem(f"{question} {', '.join(most)} or {last}?", "Answer:", str(answer), tuple(candidates))

INSTRUCTIONS = ("Reply with only the right option.",
                "Answer with one word or number only.",
                "Give just the answer, nothing else.",
                "Choose one of the options and write nothing else.")
REASONING_TASK = Task(
    name="reasoning", system="Answer the question.", prefill="Answer:",
    max_new_tokens=24, problems=Generator("reasoning", make_reasoning, REASONING).problems,
    score=score_options, instruction=INSTRUCTIONS[0], instructions=INSTRUCTIONS)
REASONING_HARD_TASK = replace(
    REASONING_TASK, name="reasoning_hard", splits=("val", "test"), variant_of="reasoning",
    problems=Generator("reasoning_hard", make_reasoning, REASONING_HARD).problems)
TASKS = [REASONING_TASK, REASONING_HARD_TASK]
