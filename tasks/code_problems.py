"""The family `code`: one-line Python functions, judged by running them, and its variant `code_hard`."""
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
int => the absolute difference between {x} and {a} => abs({x} - {a})
two => {x} times {y} minus {a} => {x} * {y} - {a}
list => the first number in {x} minus {a} => {x}[0] - {a}
list => the smallest number in {x} plus {a} => min({x}) + {a}
text => the string {x} in upper case followed by {a} dots => {x}.upper() + '.' * {a}
text => the last character of the string {x} repeated {a} times => {x}[-1] * {a}

int => the remainder of {x} divided by {a} => {x} % {a}
two => the difference {x} minus {y} times {a} => ({x} - {y}) * {a}
list => the largest number in {x} times {a} => max({x}) * {a}
list => a list of the numbers in {x} that are not equal to {a} => [i for i in {x} if i != {a}]
text => the last {b} characters of the string {x} => {x}[-{b}:]
text => True if the string {x} has more than {b} characters and False otherwise => len({x}) > {b}
int => {x} multiplied by {a} and then increased by {b} => {x} * {a} + {b}
int => True if {x} is at least {a} and False otherwise => {x} >= {a}
two => {x} plus {a} times {y} => {x} + {a} * {y}
list => a list of the last {b} numbers in {x} => {x}[-{b}:]
list => the number of elements in {x} plus {a} => len({x}) + {a}
text => the string {x} with {b} stars in front of it => '*' * {b} + {x}

int => {x} reduced by {a} and then doubled => ({x} - {a}) * 2
int => half of {x} rounded down plus {a} => {x} // 2 + {a}
int => {x} to the power of {b} => {x} ** {b}
int => True if {x} is an odd number and False otherwise => {x} % 2 == 1
int => the larger of {x} and {a} => max({x}, {a})
int => {a} minus {x} => {a} - {x}
two => the product of {x} and {y} increased by {a} => {x} * {y} + {a}
two => the sum of {x} and {y} multiplied by {a} => ({x} + {y}) * {a}
two => True if {x} is greater than {y} plus {a} and False otherwise => {x} > {y} + {a}
two => the average of {x} and {y} plus {a} => ({x} + {y}) / 2 + {a}
two => {y} divided by {a} and rounded down => {y} // {a}
two => the remainder of the sum of {x} and {y} divided by {b} => ({x} + {y}) % {b}
list => how many numbers in {x} are even => sum(1 for i in {x} if i % 2 == 0)
list => a list with {a} subtracted from every number in {x} => [i - {a} for i in {x}]
list => the sum of the first and the last number in {x} => {x}[0] + {x}[-1]
list => the list {x} in reverse order => {x}[::-1]
list => the list {x} sorted from small to large => sorted({x})
list => the list {x} without its first {b} numbers => {x}[{b}:]
list => True if every number in {x} is greater than {b} and False otherwise => all(i > {b} for i in {x})
list => the largest number in {x} minus {a} => max({x}) - {a}
text => the first character of the string {x} repeated {a} times => {x}[0] * {a}
text => the string {x} with a hash sign on both sides => '#' + {x} + '#'
text => the string {x} written twice with {b} dashes in between => {x} + '-' * {b} + {x}
text => the length of the string {x} plus {a} => len({x}) + {a}
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
list => the sum of the even numbers in {x} plus {a} => sum(i for i in {x} if i % 2 == 0) + {a}
two => the larger of {x} and {y} minus the smaller of the two => max({x}, {y}) - min({x}, {y})

list => the sum of the numbers in {x} that are divisible by {b} => sum(i for i in {x} if i % {b} == 0)
list => the largest number in {x} plus the smallest number in {x} => max({x}) + min({x})
list => the largest of the first {b} numbers in {x} => max({x}[:{b}])
list => a list of the squares of the numbers in {x} that are less than {a} => [i ** 2 for i in {x} if i < {a}]
list => the sum of the numbers in {x} divided by {b} and rounded down => sum({x}) // {b}
list => the sum of the numbers in {x} times {b} minus {a} => sum({x}) * {b} - {a}
list => how many numbers in {x} are greater than the first number in {x} => sum(1 for i in {x} if i > {x}[0])
list => a sorted list of the first {b} numbers in {x} => sorted({x}[:{b}])
list => the list {x} followed by the same numbers in reverse order => {x} + {x}[::-1]
list => True if the sum of the numbers in {x} is divisible by {b} and False otherwise => sum({x}) % {b} == 0
list => the last number in {x} times {a} plus {b} => {x}[-1] * {a} + {b}
int => {x} divided by {b} and rounded down and then increased by {a} => {x} // {b} + {a}
int => the square of {x} minus {a} times {x} => {x} ** 2 - {a} * {x}
int => the string 'yes' if {x} is divisible by {b} and the string 'no' otherwise \
=> 'yes' if {x} % {b} == 0 else 'no'
int => {x} minus {a} if {x} is greater than {a} and {x} plus {a} otherwise \
=> {x} - {a} if {x} > {a} else {x} + {a}
int => the sum of all whole numbers from 0 to {x} => sum(range({x} + 1))
int => a list of the {b} whole numbers that follow {x} => list(range({x} + 1, {x} + {b} + 1))
two => the larger of {x} and {y} times {a} minus {b} => max({x}, {y}) * {a} - {b}
two => the square of {x} plus the square of {y} => {x} ** 2 + {y} ** 2
two => {x} plus {a} if {x} is less than {y} and {y} plus {a} otherwise \
=> {x} + {a} if {x} < {y} else {y} + {a}
two => True if {x} times {y} is greater than {a} and False otherwise => {x} * {y} > {a}
text => the string {x} in upper case and reversed => {x}.upper()[::-1]
text => the string {x} with every letter a replaced by a star => {x}.replace('a', '*')
text => the string {x} repeated {b} times and cut off after {a} characters => ({x} * {b})[:{a}]
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
        if not constant and not handed_back:  # else returning a constant, or the argument, would be right
            break
    signature = f"{function}({', '.join(names)})"
    return Problem(f"Write a Python function `{signature}` that returns {fill(template.returns, slots)}.",
                   f"```python\ndef {signature}:", f"\n    return {body}\n```",
                   check=ProgramCheck(function, calls, expected))

INSTRUCTIONS = ("Use a single return statement.",
                "Write only the function body.",
                "Use one line.",
                "Write only one line: return and an expression.")
CODE_TASK = Task(
    name="code", system="Write Python code.", prefill="```python\n",
    max_new_tokens=64, problems=Generator("code", make_code, CODE).problems, score=score_programs,
    stop="```", runs_programs=True, instruction=INSTRUCTIONS[0], instructions=INSTRUCTIONS)
CODE_HARD_TASK = replace(
    CODE_TASK, name="code_hard", problems=Generator("code_hard", make_code, CODE_HARD).problems,
    splits=("val", "test"), variant_of="code")
TASKS = [CODE_TASK, CODE_HARD_TASK]
