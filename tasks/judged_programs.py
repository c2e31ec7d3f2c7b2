"""Programs whose set judges them by a `check(candidate)` of its own, as HumanEval does.

Beside the program such a check could be cheated: its expected values read, its verdict forged, its `==` met
by an object that equals everything. So the program never runs in the process of its judge:

1. the check runs with the set's own solution in the candidate's place, which says what calls it makes;
2. the *accused*, in a child of its own, answers these calls, arguments in and literals out;
3. the *judge*, in another, runs the check once more on a candidate that gives these answers.

A check that draws random numbers draws the same ones both times.
"""
from dataclasses import dataclass

from tasks import sandbox
from tasks.grading import SECONDS, program_of, reward

@dataclass(frozen=True)
class JudgedCheck:
    entry: str  # the function that a program must define
    solution: str  # a program that defines it, and all else that the check uses
    check: str  # a program with the function `check(candidate)`

CALLS = """
import copy, random
def calls():
    made = []
    def candidate(*args):
        made.append(copy.deepcopy(args))
        return {entry}(*args)
    random.seed(0)
    check(candidate)
    return made
"""
ANSWERS = """
inf, nan = float("inf"), float("nan")
def answers():
    return [{entry}(*args) for args in {calls!r}]
"""
VERDICT = """
import random
inf, nan = float("inf"), float("nan")
def verdict():
    given = iter({answers!r})
    random.seed(0)
    check(lambda *args: next(given))
    return True
"""

def results_of(programs, entry):
    """{key: program text} -> {key: what its function `entry` returned}, without those that failed, or forged
    another number of results than the one that was asked for."""
    jobs = [sandbox.Program(source, entry, [[]]) for source in programs.values()]
    results = {}
    for key, result in zip(programs, sandbox.run_programs(jobs, SECONDS)):
        if result is not None and len(result) == 1:
            results[key] = result[0]
    return results

def judge_of(check):
    return f"{check.solution}\n{check.check}\n"

def score_judged_programs(problems, texts):
    """Each answer is +1 if the set's own check passes on what its program returns."""
    checks = {problem.prompt: problem.check for problem in problems}
    recorders = {prompt: judge_of(check) + CALLS.format(entry=check.entry)
                 for prompt, check in checks.items()}
    calls = results_of(recorders, "calls")
    accused = {}
    for i, (problem, text) in enumerate(zip(problems, texts)):
        if problem.prompt in calls:
            asked = ANSWERS.format(entry=problem.check.entry, calls=calls[problem.prompt])
            accused[i] = program_of(problem, text) + asked
    answers = results_of(accused, "answers")
    judges = {i: judge_of(problems[i].check) + VERDICT.format(answers=given) for i, given in answers.items()}
    verdicts = results_of(judges, "verdict")
    return [reward(verdicts.get(i) is True) for i in range(len(problems))]
