"""The family `code`: one-line Python functions, judged by running them, and the harder cousin `code_hard`."""
from dataclasses import dataclass, replace

from tasks.generated import Generator, fill, templates, words
from tasks.grading import score_programs
from tasks.interface import Problem, ProgramCheck, Task

@dataclass(frozen=True)
class FunctionTemplate:
    arguments: str  # their kind: int, two (integers), list or text
    returns: str  # what the function returns, in words
    reference: str  # the same as an expression

CODE = templates(FunctionTemplate, """
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

CODE_HARD = templates(FunctionTemplate, parts=("val", "test"), text="""
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
""")
FUNCTIONS = words("compute solve process convert handle | evaluate derive build prepare change work | "
                  "work_out produce find_it apply_rule transform make")
ARGUMENTS = {  # names of the arguments, by kind
    "int": words("n x number value | k num z i | count m given size"),
    "two": words("x,y a1,a2 first,second | p,q m,n c,d one,two | u,v s,t left,right f,g"),
    "list": words("items numbers values data | nums xs array row | entries series elements sample"),
    "text": words("text s word string | phrase line sentence w | name t label title")}
WORDS = words("hello banana window | river kitten planet | garden yellow pepper")

def draw_arguments(rng, part, kind):
    """The arguments of one call."""
    if kind == "int":
        return [rng.randint(0, 60)]
    if kind == "two":
        return [rng.randint(0, 30), rng.randint(0, 30)]
    if kind == "list":
        return [[rng.randint(0, 40) for _ in range(rng.randint(4, 8))]]
    return [rng.choice(WORDS[part])[:rng.randint(1, 7)] + rng.choice("abcdefgh")]

def make_code(rng, part, template):
    function = rng.choice(FUNCTIONS[part])
    names = rng.choice(ARGUMENTS[template.arguments][part]).split(",")
    while True:
        slots = {"x": names[0], "y": names[-1], "a": rng.randint(2, 30), "b": rng.randint(2, 6)}
        calls = [draw_arguments(rng, part, template.arguments) for _ in range(8)]
        body = fill(template.reference, slots)
        expected = [eval(body, dict(zip(names, call))) for call in calls]
        constant = all(value == expected[0] for value in expected)
        handed_back = all(value == call[0] for value, call in zip(expected, calls))
        if not constant and not handed_back:  # neither may be right
            break
    signature = f"{function}({', '.join(names)})"
    return Problem(f"Write a Python function `{signature}` that returns {fill(template.returns, slots)}.",
                   f"```python\ndef {signature}:", f"\n    return {body}\n```",
                   check=ProgramCheck(function, calls, expected))

CODE_TASK = Task(
    name="code", description="writing Python functions", system="Write Python code.", prefill="```python\n",
    max_new_tokens=64, problems=Generator("code", make_code, CODE).problems, score=score_programs,
    stop="```", runs_programs=True,
    instructions=("Reply with one return statement.", "Write only the function body.", "Use one line."))
CODE_HARD_TASK = replace(
    CODE_TASK, name="code_hard", problems=Generator("code_hard", make_code, CODE_HARD).problems,
    splits=("val", "test"), cousin_of="code")
TASKS = [CODE_TASK, CODE_HARD_TASK]
