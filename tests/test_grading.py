"""pytest tests/test_grading.py: answers earn what a teacher would give (verdicts.py: the table)."""
import time
from fractions import Fraction

import pytest
from verdicts import LATEX, VERDICTS, WHO

from tasks.catalog import get_task
from tasks.grading import mentions_gold, program_of, score_letters, score_numbers, score_options, score_texts
from tasks.interface import Problem
from tasks.jsonl import score_own
from tasks.numerals import numbers, text_of_number
from tasks.spelling import one_spelling

def rows():
    """One test for each answer of the table."""
    for verdicts in VERDICTS:
        for reward, answers in ((1, verdicts.right), (-1, verdicts.wrong)):
            for answer in answers:
                name = f"{verdicts.kind}-{verdicts.gold}-{answer}-{reward}"
                yield pytest.param(verdicts, answer, reward, id=name)

@pytest.mark.parametrize("verdicts, answer, reward", rows())
def test_an_answer_earns_what_a_teacher_would_give(verdicts, answer, reward):
    if verdicts in LATEX:
        pytest.importorskip("math_verify")
    problem = Problem(verdicts.question, gold=verdicts.gold, options=verdicts.options)
    assert verdicts.score([problem], [answer]) == [reward]

def test_the_table_has_about_as_many_wrong_answers_as_right_ones():
    right = sum(len(verdicts.right) for verdicts in VERDICTS)
    wrong = sum(len(verdicts.wrong) for verdicts in VERDICTS)
    assert right + wrong >= 200 and 0.4 < wrong / (right + wrong) < 0.6

def test_the_gold_answer_of_every_kind_is_right():
    for verdicts in VERDICTS:
        if verdicts not in LATEX:
            problem = Problem(verdicts.question, gold=verdicts.gold, options=verdicts.options)
            assert verdicts.score([problem], [verdicts.gold]) == [1], verdicts.kind

@pytest.mark.parametrize("text, value", [
    ("so it is 2,125.", 2125), ("-10", -10), ("it costs $18.00", 18), ("20-10 = 10", 10), ("(3)-4", 4),
    ("1,2,3", 3), ("1,234,567 cats", 1234567), ("-$5", -5), ("x = 3.5.", 3.5), ("none", None), ("", None),
    ("\\boxed{9{,}500}", 9500), ("9,\\!500", 9500), (".5", 0.5), ("1/2", 0.5), ("-1/2", -0.5),
    ("1 1/2", 1.5),
    ("\\frac{1}{2}", 0.5), ("2½", 2.5), ("12/4", 4), ("12 / 4 = 3", 3), ("3/4/2020", 2020), ("1/0", 0),
    ("\u221210", -10), ("3\u20135", 5), ("1 000", 1000), ("-½", -0.5),
    ("-\\frac{1}{2}", -0.5), ("1 4/2", 2), ("24 1/2", 24.5), ("1\u00a0000\u202f000", 1000000),
    ("1'000", 1000),
    ("10 120 people", 120), ("100 200 300 400", 400), ("2 100 dollar bills", 100),
    ("2e3", 2000), ("\u20ac5", 5),
    ("1.5 \u00d7 10^3", 1500), ("6 \\times 10^{-2}", Fraction("0.06")), ("2 * 10^2 = 200", 200),
    ("5 x 10 = 50", 50),
    ("50%", 50), ("7 days", 7)])
def test_the_last_number_of_a_text(text, value):
    assert numbers(text)[-1:] == ([] if value is None else [value])

@pytest.mark.parametrize("prefill, text, program", [
    ("```python\n", "x = 1\n```\nDone.", "x = 1\n"), ("```python\n", "```python\nx = 1\n```", "x = 1\n"),
    ("```python\n", "Here it is:\n```python\nx = 1\n```", "x = 1\n"), ("```python\n", "x = 1", "x = 1"),
    ("```python\ndef f():", " return 1\n```", "def f(): return 1\n"),
    ("```python\n", "```\nx = 1\n```", "\nx = 1\n"), ("```python\n", "```Python3\nx = 1\n```", "x = 1\n"),
    ("```python\n", "x = 1\n```\nUse it:\n```python\nprint(x)\n```", "x = 1\n"),
    ("```python\ndef f():", "```python\ndef f(): return 1\n```", "def f(): return 1\n")])
def test_a_program_is_the_answers_own_fenced_block_or_what_the_prefill_opened(prefill, text, program):
    assert program_of(Problem("", prefill), text) == program

def test_lenient_finds_the_gold_anywhere_but_not_inside_a_word_or_number():
    [p] = get_task("math").problems("val", 1, 0)
    assert mentions_gold(p, f"It is {p.gold}, or 99999") and not mentions_gold(p, f"1{p.gold}")
    assert not mentions_gold(p, f"{p.gold}.5") and mentions_gold(p, f"{p.gold}.")
    assert mentions_gold(Problem("", "", "2125"), "so $2,125.00") and mentions_gold(p, f"${p.gold}.00")
    assert mentions_gold(get_task("code").problems("val", 1, 0)[0], "") is None
    assert mentions_gold(Problem("", gold="A"), "a dog") is None
    assert mentions_gold(Problem("What is 3 - 18?", gold="-15"), "3 - 18 = - 15")
    assert mentions_gold(Problem("", gold="15"), "The answer is fifteen.")

@pytest.mark.parametrize("value, text", [
    (12.0, "12"), (0.1 + 0.2, "0.3"), (123456789.25, "123456789.25"), (Fraction(2125), "2125"),
    (Fraction("9007199254740993"), "9007199254740993"), (Fraction("-0.125"), "-0.125"),
    (Fraction("1.5e3"), "1500")])
def test_a_gold_number_is_written_with_all_its_digits(value, text):
    assert text_of_number(value) == text and numbers(text) == [Fraction(text)]

@pytest.mark.parametrize("one, other", [
    ("it’s", "it's"), ("“a”", '"a"'), ("cafe\u0301", "café"), ("１２，５", "12,5"), ("a\u00a0b", "a b"),
    ("x²", "x^2"), ("10⁻³", "10^-3"),
    ("2½", "2 1/2"), ("¹⁄₂", "1/2"), ("a\u2011b", "a-b"), ("\u2212 5", "- 5"), ("ﬁne", "fine"),
    ("so\u00adft", "soft"),     ("٫", ".")])
def test_what_says_the_same_is_spelled_the_same(one, other):
    assert one_spelling(one) == other and one_spelling(one_spelling(one)) == one_spelling(one)

def test_long_and_hostile_answers_are_graded_in_time():
    """Neither a number that would fill the memory nor a text that sends a pattern back and forth."""
    started = time.time()
    for piece in ("1e999999999", "9", "1/", "not ", "A or ", " ", "\n", "(", "is 5, 6 ", "answer ", "1 000 ",
                  "?", "**", "5 = ", "\\frac{", "Ben ", "Ben, ", '"', "5 - ", "1,", "the "):
        text = piece * (1000 // len(piece)) + "x"
        for score, gold in ((score_numbers, "7"), (score_letters, "D"), (score_texts, "Lima"),
                            (score_own, "7 km")):
            assert score([Problem("", gold=gold)], [text]) == [-1]
        assert score_options([Problem("", gold="Carla", options=(*WHO, "Carla"))], [text]) == [-1]
    assert time.time() - started < 20
