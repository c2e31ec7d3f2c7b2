"""The family `math`: word problems of one or two steps with small numbers, and its variant `math_hard`."""
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
{A} collects {a} {o}. {B} collects {b} more than {A}. How many {o} does {B} collect? => a + b
A bakery makes {a} trays of {b} rolls. How many rolls does it make? => a * b
{A} had {a} {o}. After buying some more, {A} has {a + b}. How many {o} did {A} buy? => b
A book has {a + b} pages, and {A} has read {a} of them. How many pages are left to read? => b
{A} saves {a} dollars a week. How many dollars will {A} have saved after {b} weeks? => a * b
A teacher divides {a * b} pupils into {a} equal groups. How many pupils are in each group? => b
{A} runs {a} miles a day for {b} days and then {c} miles on the last day. How many miles is that? => a * b + c
There are {a} rows of seats with {b} seats in each row. How many seats are there? => a * b
{A} buys a pen for {a} dollars and a notebook for {b} dollars. How many dollars does {A} spend? => a + b
{A} uses a voucher of {a + b} dollars to pay for {o} that cost {a}. How many dollars are left on it? => b
A farmer has {a} cows, {b} sheep and {c} goats. How many animals does the farmer have? => a + b + c
{A} gave away {a} {o} and still has {b}. How many {o} did {A} have at first? => a + b
{A} is {a} years old. How old will {A} be in {b} years? => a + b
{B} is {a} years older than {A}, who is {b}. How old is {B}? => a + b
A machine fills {a} bottles a minute. How many bottles does it fill in {b} minutes? => a * b
{A} packs {a * b} {o} into boxes of {b}. How many boxes does {A} need? => a
{A} cooks {a} eggs for breakfast and {b} for lunch, and {c} of them are eaten. How many are left? => a + b - c
{A} buys {a} packs of {b} {o} and gives {c} {o} to {B}. How many {o} does {A} keep? => a * b - c
A plant was {a} inches tall and has grown {b} inches. How tall is it now, in inches? => a + b
A bucket holds {a + b} liters of water, and {a} liters leak out. How many liters are left? => b
{A} and {B} share a bill of {2 * a} dollars equally. How many dollars does each of them pay? => a
{A} earns {a} dollars for each of {b} lawns and spends {c} dollars. How many dollars are left? => a * b - c
A shelf holds {a} {o} on top and {b} below. {A} adds {c} more. How many {o} are on the shelf? => a + b + c
{A} needs {a * b} {o} and gets {a} every day. How many days does that take? => b
A game has {a} levels, and {A} has finished {b} of them. How many levels remain? => a - b
Each of {a} children brings {b} {o}. How many {o} do they bring in all? => a * b

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
{A} had {a + b} dollars and spent {a}. How many dollars are left? => b
{A} packs {a} lunches with {b} grapes each. How many grapes does {A} need? => a * b

At the fair {A} won {a} {o} and {B} won {b}. How many did the two of them win altogether? => a + b
A hose fills a tub with {a} gallons a minute. How many gallons are in the tub after {b} minutes? => a * b
{A} baked {a + b} muffins and sold {a}. How many muffins were not sold? => b
A pizza is cut into {a} slices. How many slices do {b} pizzas give? => a * b
{B} has {a} fewer {o} than {A}, who has {a + b}. How many does {B} have? => b
{a * b} passengers travel in {b} vans, the same number in each. How many passengers are in one van? => a
The temperature was {a} degrees at dawn and has risen by {b} degrees since. What is it now? => a + b
{A} planted {a} rows of {b} tulips, but {c} tulips died. How many tulips are alive? => a * b - c
A library lent {a} books on Monday, {b} on Tuesday and {c} on Wednesday. How many books is that? => a + b + c
{A} typed {a} pages before noon and {b} after it, and threw {c} away. How many pages are left? => a + b - c
A bus ride costs {a} dollars. How much do {b} rides cost, in dollars? => a * b
{A} is {a + b} years old, and {B} is {a}. By how many years is {A} older? => b
There were {a} ducks on the pond. Then {b} flew in and {c} flew off. How many are there now? => a + b - c
It takes {A} {a} minutes to wash one car. How many minutes does it take to wash {b} cars? => a * b
{A} folded {a * b} towels into piles of {a}. How many piles did that make? => b
{A} hung {a} pictures upstairs and twice as many downstairs. How many hang downstairs? => 2 * a
A string of {a + b} beads broke, and {b} beads rolled away. How many are still on the string? => a
{A} drinks {a} glasses of water a day. How many glasses does {A} drink in a week? => 7 * a
The zoo costs {a} dollars for an adult, {b} for a child. What do an adult and {c} children pay? => a + b * c
{A} has {a} dollars and earns {b} dollars more each day. How many dollars is that after {c} days? => a + b * c
Of {a + b + c} eggs, a baker used {a} for bread and {b} for cake. How many eggs are left? => c
{A} splits {a * b} {o} evenly between {b} bags. How many {o} go into each bag? => a
A team scored {a} points, and after the break {b} more than that. How many was that after the break? => a + b
{A} had {a} {o}, doubled them, and then lost {b}. How many {o} does {A} have now? => 2 * a - b
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
{A} is number {c} in line and buys {a} bags of {b} {o}. How many {o} does {A} buy? => a * b
In {c} hours {A} sells {a + b} {o}, and {B} sells {a}. How many fewer does {B} sell? => b

{A}, who has {c} cousins, picks {a} pears and then {b} more. How many pears does {A} pick? => a + b
A dog that is {c} years old eats {a} biscuits a day. How many biscuits does it eat in {b} days? => a * b
After {c} minutes {A} takes {b} {o} out of a jar with {a}. How many are left in it? => a - b
{A} lives on floor {c} and carries {a} boxes of {b} {o} upstairs. How many {o} is that? => a * b
A turkey of {c} pounds costs {a} dollars and a pie costs {b}. How many dollars do they cost together? => a + b
At {c} o'clock {a * b} guests sit down at {b} equal tables. How many guests sit at each table? => a
{A} hikes with {c} friends, {a} miles on the first day and {b} on the second. How many miles is that? => a + b
Room {c} has {a} desks, and {b} of them are broken. How many desks in it are not broken? => a - b
{A} has a frame of {c} inches and buys {a} posters for {b} dollars each. What do the posters cost? => a * b
{B}'s team of {c} players won {a} games in spring and {b} in autumn. How many games did it win? => a + b
A ferry with {c} decks makes {a} trips a day. How many trips does it make in {b} days? => a * b
{A} had {a} {o} and {c} empty boxes. {B} borrowed {b} of the {o}. How many {o} does {A} still have? => a - b
On page {c}, {A} finds {a} short words and {b} long ones. How many words does {A} find there? => a + b
{A} left at {c} o'clock, drove {a} miles, rested, and drove {b} more. How many miles is that? => a + b
{A} pours {a} cups of juice into each of {b} jugs for {c} guests. How many cups is that? => a * b
{c} hens live in a barn. They laid {a} eggs, and {b} eggs broke. How many eggs are whole? => a - b
A show of {c} songs is seen by {a} adults and {b} children. How many people see it? => a + b
{A} paid {a} dollars for each of {b} shirts and waited {c} minutes. How many dollars did {A} pay? => a * b
{A}'s {c} brothers are asleep. {A} eats {a} of the {a + b} cookies. How many cookies are left? => b
A tower of {c} floors has {a} lifts for {b} people each. How many people fit in the lifts? => a * b
{A} sent {a} letters and {b} postcards on a trip of {c} days. How many pieces of mail is that? => a + b
With {c} dollars in hand, {A} counts {a} {o} on one shelf and {b} on another. How many {o} is that? => a + b
{A} owns {c} pots. Each of {a} plants needs {b} cups of water. How many cups do the plants need? => a * b
{A} counted {a} {o} in {c} minutes, but {b} of them twice. How many {o} are there really? => a - b
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
        if answer > 1 and str(answer) not in re.findall(r"\d+", prompt):  # copying a number is never right
            return Problem(prompt, "Calculation:", str(answer))

INSTRUCTIONS = ("Write only the equation and its result.",
                "Write one short calculation, then stop.",
                "Answer with one equation only.",
                "Write one equation like 3 + 4 = 7 and nothing else.")
MATH_TASK = Task(
    name="math",
    system="Give a short calculation and then the answer as one number.", prefill="Calculation:",
    instruction=INSTRUCTIONS[0], instructions=INSTRUCTIONS,
    max_new_tokens=40, problems=Generator("math", make_math, MATH).problems, score=score_numbers)
MATH_HARD_TASK = replace(
    MATH_TASK, name="math_hard", problems=Generator("math_hard", make_math, MATH_HARD).problems,
    splits=("val", "test"), variant_of="math")
TASKS = [MATH_TASK, MATH_HARD_TASK]
