"""pytest tests/test_tasks.py: what is graded right, what cannot be guessed, and what is never shared."""
import collections
import json
import re

import pytest

from harness.scores import chance
from tasks.catalog import cousins_of, family_tasks, get_task
from tasks.code_problems import CODE, CODE_HARD
from tasks.dispatch import Category, dispatch_task, requests
from tasks.grading import (
    chosen_letter,
    chosen_option,
    concluded_number,
    mentioned_options,
    mentions_gold,
    numbers,
    program_of,
    score_expressions,
)
from tasks.interface import Problem
from tasks.jsonl import FEWEST, split_of
from tasks.math_problems import MATH, MATH_HARD
from tasks.real_sets import REAL_SETS
from tasks.reasoning_problems import REASONING, REASONING_HARD

ALL = [*family_tasks()]
TEMPLATES = {"math": (MATH, MATH_HARD), "code": (CODE, CODE_HARD), "reasoning": (REASONING, REASONING_HARD)}

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
    ("1.5 \u00d7 10^3", 1500), ("6 \\times 10^{-2}", 0.06), ("2 * 10^2 = 200", 200), ("5 x 10 = 50", 50),
    ("50%", 50), ("7 days", 7)])
def test_the_last_number_of_a_text(text, value):
    assert numbers(text)[-1:] == ([] if value is None else [value])

@pytest.mark.parametrize("text, verdict", [
    ("3 x 5 = 15 eggs. The cook uses 15 eggs for 5 cakes.", 15), ("3 * 5 = 15", 15), ("15 eggs.", 15),
    ("15 eggs for 5 cakes", 15), ("The cook uses 15 eggs for 5 cakes.", 15), ("3 + 5 = 8", 8),
    ("3 * 5 = 15\nThe answer is 15.\n\nThe answer is 15.", 15), ("The answer is: 15, for 5 cakes", 15),
    ("5 - 3 = 2, and 2 + 4 = 6", 6), ("5 cakes * 3 eggs = 15 eggs * 24 hours = 360", 360),
    ("= $1,200 for 5", 1200), ("so it is #### 15", 15), ("\\boxed{15} for 5 cakes", 15),
    ("3 * 5 = 15 eggs, in 20 minutes", 15), ("The answer is 15, not 16.", 15),
    ("The answer to 3 * 5 is 15", 15), ("The answer for 5 cakes is 15.", 15), ("answer for 5 cakes: 15", 15),
    ("The answer to 1.5 + 2 is 15", 15), ("The answer of 15 is right for 5 cakes", 15),
    ("The answer 15 is for 5 cakes", 15), ("The answer would be 15 for 5 cakes", 15),
    ("To answer this, add 5 and 3 to get 8. Then take 2, which leaves 15.", 15), ("3 - 18 = - 15", -15),
    ("The answer is - 15.", -15), ("The answer:\n- 15 eggs", 15),
    ("Final answer - 15", 15), ("The answer: - 15", 15),
    ("I am happy to answer: 15, for 3 eggs and 5 cakes", 15), ("The answer is fifteen.", 15),
    ("3 eggs and 5 cakes", 5), ("I do not know", None), ("Fifteen.", 15), ("fifteen, not 16", 16),
    ("twenty-five", None), ("one hundred eggs", None), ("No one knows", None), ("8 million", 8)])
def test_the_number_an_answer_concludes_with_is_what_a_person_would_read(text, verdict):
    question = "A cook uses 3 eggs for one cake. How many eggs does the cook use for 5 cakes?"
    assert concluded_number(question, text) == verdict

@pytest.mark.parametrize("text, verdict", [
    ("Ben", "ben"), ("Ben is taller than Anna.", "ben"), ("Of Anna and Ben, the taller is Ben.", "ben"),
    ("It is Ben, not Anna", "ben"), ("Anna is 5. The answer is Ben.", "ben"),
    ("The answer to whether Anna or Ben is taller is Ben", "ben"),
    ("To answer this, compare Anna and Ben: it is Ben", "ben"),
    ("Anna or Ben? Ben", "anna"), ("neither", None), ("BEN!", "ben"), ("Benny", None)])
def test_the_option_an_answer_concludes_with_is_what_a_person_would_read(text, verdict):
    assert chosen_option(("Anna", "Ben"), text) == verdict

@pytest.mark.parametrize("text, letter", [
    ("the answer is (B)", "B"), ("B) a dog", "B"), ("(C)", "C"), ("The answer is: 3.", "C"),
    ("A dog barks", "A"), ("The answer is a chemical reaction", None), ("the answer is (b)", "B"),
    ("I think so", None), ("", None), ("the answer is (A). No: the answer is (D)", "D"),
    ("The answer is **B**.", "B"), ("The Answer is B", "B"), ("Answer is B", "B"), ("Answer: B", "B"),
    ("**B**", "B"), ("[C]", "C"), ("$B$", "B"), ("\\boxed{\\text{D}}", "D"), ("<answer>E</answer>", "E"),
    ("Option C is correct", "C"), ("The correct answer is option B.", "B"), ("I choose B", "B"),
    ("The correct choice is (d)", "D"), ("(B) because (A) is wrong", "B"), ("Plants need light.\n\nB", "B"),
    ("A's", None), ("The answer is Dogs", None), ("a) a dog", None), ("B) sunlight. Option A is wrong", "B"),
    ("The answer is (B). Option A is wrong", "B"), ("The answer is 2.5 km", None), ("I pick 3 apples", None)])
def test_the_letter_an_answer_chooses(text, letter):
    assert chosen_letter(text) == letter

@pytest.mark.parametrize("prefill, text, program", [
    ("```python\n", "x = 1\n```\nDone.", "x = 1\n"), ("```python\n", "```python\nx = 1\n```", "x = 1\n"),
    ("```python\n", "Here it is:\n```python\nx = 1\n```", "x = 1\n"), ("```python\n", "x = 1", "x = 1"),
    ("```python\ndef f():", " return 1\n```", "def f(): return 1\n"),
    ("```python\n", "```\nx = 1\n```", "\nx = 1\n"), ("```python\n", "```Python3\nx = 1\n```", "x = 1\n"),
    ("```python\n", "x = 1\n```\nUse it:\n```python\nprint(x)\n```", "x = 1\n"),
    ("```python\ndef f():", "```python\ndef f(): return 1\n```", "def f(): return 1\n")])
def test_a_program_is_the_answers_own_fenced_block_or_what_the_prefill_opened(prefill, text, program):
    assert program_of(Problem("", prefill), text) == program

def test_an_option_that_is_a_number_does_not_stand_in_another():
    options = ("3", "30", "300")
    assert chosen_option(options, "3.") == "3" and chosen_option(options, "30") == "30"
    assert not any(chosen_option(options, text) for text in ("3.5", "3,000", "-3", "2.3"))
    assert chosen_option(("12", "15"), "It is $12.00.") == "12" and not chosen_option(("12", "15"), "12.05")
    assert chosen_option(("5 km", "10 km"), "It is 5 km") == "5 km"
    assert not chosen_option(("5 km", "10 km"), "It is 2.5 km")

def test_options_are_whole_words():
    assert mentioned_options(("Ann", "Anna"), "ann, no: ANNA.") == ["ann", "anna"]
    assert mentioned_options(("cat", "dog"), "concatenate") == []
    assert mentioned_options(("49", "4"), "It is 49") == ["49"]

@pytest.mark.parametrize("name", ALL)
def test_gold_answers_score_plus_one_and_empty_ones_minus_one(name):
    task = get_task(name)
    for split in task.splits:
        problems = task.problems(split, 12 if task.stop else 200, 1)
        assert task.score(problems, [p.gold for p in problems]) == [1] * len(problems)
        assert task.score(problems, [""] * len(problems)) == [-1] * len(problems)

@pytest.mark.parametrize("name", ALL)
def test_splits_share_no_problem_and_a_seed_repeats(name):
    task = get_task(name)
    prompts = {split: {p.prompt for p in task.problems(split, 500, 3)} for split in task.splits}
    assert all(len(p) == 500 for p in prompts.values())
    for a in task.splits:
        for b in task.splits:
            assert a == b or not prompts[a] & prompts[b]
    assert task.problems("val", 20, 7) == task.problems("val", 20, 7) != task.problems("val", 20, 8)
    with pytest.raises(ValueError, match="no split"):
        task.problems("nonsense", 1, 0)

@pytest.mark.parametrize("name", TEMPLATES)
def test_a_family_has_templates_enough_and_its_cousin_others(name):
    easy, hard = TEMPLATES[name]
    assert len(easy["train"]) >= 40 and len(easy["test"]) >= 24 and len(hard["test"]) >= 24
    assert len(easy["val"]) >= 12 and len(hard["val"]) >= 12
    texts = [template for templates in (easy, hard) for part in templates.values() for template in part]
    assert len(set(texts)) == len(texts)
    assert len({p.prompt for p in get_task(name).problems("train", 2000, 0)}) == 2000
    assert cousins_of([name]) == [f"{name}_hard"]

def mentions(p):
    words = "|".join(re.escape(o) for o in sorted(p.options, key=len, reverse=True))
    return re.findall(rf"(?<!\w)(?:{words})(?!\w)", p.prompt)

@pytest.mark.parametrize("name", ["reasoning", "reasoning_hard"])
def test_no_shortcut_answers_closed_questions(name):
    """First, last and most frequent candidate, the majority answer, always yes: within 5 points of chance."""
    for split in get_task(name).splits:
        problems = get_task(name).problems(split, 700 if split == "heldout" else 2000, 0)
        guessed = chance(problems)
        majority = collections.Counter(p.gold for p in problems).most_common(1)[0][0]
        rules = {"first": lambda p: mentions(p)[0], "last": lambda p: mentions(p)[-1],
                 "most frequent": lambda p: collections.Counter(mentions(p)).most_common(1)[0][0],
                 "majority": lambda p: majority, "yes": lambda p: "yes"}
        for rule, guess in rules.items():
            right = sum(guess(p) == p.gold for p in problems) / len(problems)
            assert right < guessed + 0.05, (split, rule, right, guessed)

@pytest.mark.parametrize("name", ["math", "math_hard"])
def test_no_shortcut_answers_word_problems(name):
    for split in get_task(name).splits:
        problems = get_task(name).problems(split, 700 if split == "heldout" else 2000, 0)
        seen = [re.findall(r"\d+", p.prompt) for p in problems]
        majority = collections.Counter(p.gold for p in problems).most_common(1)[0][0]
        guesses = {"first": [s[0] for s in seen], "last": [s[-1] for s in seen],
                   "most frequent": [collections.Counter(s).most_common(1)[0][0] for s in seen],
                   "majority": [majority] * len(problems)}
        for rule, texts in guesses.items():
            right = sum(r > 0 for r in get_task(name).score(problems, texts)) / len(problems)
            assert right <= 0.08 if rule == "majority" else right == 0, (split, rule, right)

@pytest.mark.parametrize("name", ["code", "code_hard"])
def test_no_shortcut_passes_for_a_program(name):
    task = get_task(name)
    for split in task.splits:
        problems = task.problems(split, 8, 0)
        handed_back = [f"\n    return {re.search(r'[(](.*?)[,)]', p.prefill)[1]}\n```" for p in problems]
        for texts in (handed_back, ["\n    return True\n```"] * 8, ["\n    pass\n```"] * 8):
            assert task.score(problems, texts) == [-1] * 8

def test_lenient_finds_the_gold_anywhere_but_not_inside_a_word_or_number():
    [p] = get_task("math").problems("val", 1, 0)
    assert mentions_gold(p, f"It is {p.gold}, or 99999") and not mentions_gold(p, f"1{p.gold}")
    assert not mentions_gold(p, f"{p.gold}.5") and mentions_gold(p, f"{p.gold}.")
    assert mentions_gold(Problem("", "", "2125"), "so $2,125.00") and mentions_gold(p, f"${p.gold}.00")
    assert mentions_gold(get_task("code").problems("val", 1, 0)[0], "") is None
    assert mentions_gold(Problem("", gold="A"), "a dog") is None
    assert mentions_gold(Problem("What is 3 - 18?", gold="-15"), "3 - 18 = - 15")
    assert mentions_gold(Problem("", gold="15"), "The answer is fifteen.")

def test_dispatch_requests_are_never_test_prompts_and_other_has_200_of_its_own():
    categories = [Category(name, ["e", "f"], name) for name in ("code", "math", "reasoning", "other")]
    train = dispatch_task(categories).problems("train", 400, 0)
    assert collections.Counter(p.gold for p in train) == {
                               name: 100 for name in ("code", "math", "reasoning", "other")}
    asked = {p.prompt.rpartition("Request: ")[2] for p in train}
    for name in ("code", "math", "reasoning", "other"):
        assert not asked & set(requests(name, "test", 200, 1))
    everyday = {split: set(requests("other", split, n, 0)) for split, n in
                (("train", 400), ("val", 64), ("heldout", 128), ("test", 256))}
    assert len(everyday["train"]) == 400
    assert not everyday["train"] & (everyday["val"] | everyday["heldout"] | everyday["test"])

@pytest.mark.parametrize("name", REAL_SETS)
def test_every_reference_of_the_real_sets_scores_plus_one(name, data):
    if name == "math500":
        pytest.importorskip("math_verify")
    task = get_task(name, data)
    for split in task.splits:
        problems = task.problems(split, 60 if task.stop else 10**6, 0)
        assert task.score(problems, [p.gold for p in problems]) == [1] * len(problems)

@pytest.mark.parametrize("text, r", [
    ("so it is $\\boxed{\\frac{1}{2}}$", 1), ("The answer is $0.5$.", 1), ("\\boxed{\\dfrac12}", 1),
    ("2", -1), ("", -1)])
def test_expressions_are_compared_by_what_they_are(text, r):
    pytest.importorskip("math_verify")
    assert score_expressions([Problem("p", gold="we get $\\boxed{\\frac{1}{2}}.$")], [text]) == [r]

def test_real_sets_have_the_papers_splits(data):
    real = {name: get_task(name, data) for name in REAL_SETS if name != "math500"}
    sizes = {name: {split: len(task.problems(split, 10**6, 0)) for split in task.splits}
             for name, task in real.items()}
    assert sizes["gsm8k"] == {"train": 3736, "val": 3737, "test": 1319}
    assert sizes["mbpp"] == {"train": 200, "val": 100, "test": 99}
    assert sizes["mawps"]["test"] == 1000 and sizes["arc_challenge"]["test"] == 1172
    prompts = {split: {p.prompt for p in get_task("gsm8k", data).problems(
        split, 10**6, 0)} for split in ("train", "val")}
    assert not prompts["train"] & prompts["val"]

def test_a_missing_file_and_a_bad_row_say_what_a_row_looks_like(tmp_path):
    for folder in ("", str(tmp_path)):
        with pytest.raises(FileNotFoundError, match='gsm8k_train.jsonl.*"question"'):
            get_task("gsm8k", folder)
    row = json.dumps({"question": "Two?", "answer": "2"})
    (tmp_path / "mawps_asdiva_train.jsonl").write_text(row + "\n" + '{"question": "no answer"}\n')
    with pytest.raises(ValueError, match='line 2.*KeyError.*"question"'):
        get_task("mawps", str(tmp_path))
    with pytest.raises(ValueError, match="no task is named 'mth'; there are math"):
        get_task("mth")

def test_a_program_that_is_equal_to_everything_scores_minus_one():
    task = get_task("code")
    problems = task.problems("val", 8, 0)
    lie = "\n    class E:\n        def __eq__(self, other): return True\n    return E()\n```"
    assert task.score(problems, [lie] * 8) == [-1] * 8

# -- questions of the user's own -----------------------------------------------------------------------------

def write_rows(path, rows, newline="\n"):
    path.write_text(newline.join(json.dumps(row) for row in rows) + newline, encoding="utf-8")
    return str(path)

def test_a_file_of_ones_own_is_graded_by_number_option_or_text(tmp_path):
    rows = [{"question": "2 + 2?", "answer": 4}, {"question": "How much?", "answer": "$1,500"},
            {"question": "How many people?", "answer": 12345678901},
            {"question": "Ice?", "answer": "Cold", "options": ["cold", "hot"]},
            {"question": "Capital of Peru?", "answer": "Lima", "system": "Be brief.", "prefill": "It is"}]
    task = get_task(write_rows(tmp_path / "own.jsonl", rows), max_new_tokens=9)
    problems = {p.prompt: p for p in task.problems("val", 9, 0)}
    assert task.name == "own" and task.max_new_tokens == 9
    assert problems["Capital of Peru?"].system == "Be brief."
    assert problems["Capital of Peru?"].prefill == "It is"
    for question, right, wrong in [("2 + 2?", "it is 4.0", "5"), ("Ice?", "COLD!", "it is hot"),
                                   ("How much?", "1500 dollars", "15"),
                                   ("How many people?", "12,345,678,901", "12,345,678,902"),
                                   ("Capital of Peru?", "  lima. ", "Lima, I think")]:
        assert task.score([problems[question]] * 2, [right, wrong]) == [1, -1]

def test_a_file_is_split_by_its_questions_and_keeps_its_splits_as_it_grows(tmp_path):
    rows = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(200)]
    parts = []
    for n in (100, 200):
        task = get_task(write_rows(tmp_path / "own.jsonl", rows[:n]))
        parts.append({split: {p.prompt for p in task.problems(split, 999, 0)} for split in task.splits})
    assert sum(len(part) for part in parts[0].values()) == 100
    for split in ("train", "val", "test"):
        assert parts[0][split] < parts[1][split] and len(parts[1][split]) >= FEWEST[split]
        assert all(split_of(question) == split for question in parts[1][split])

def test_the_same_question_counts_once_and_with_another_answer_it_is_refused(tmp_path):
    row = {"question": "Is this positive?", "answer": "yes", "context": "I like it."}
    task = get_task(write_rows(tmp_path / "own.jsonl", [row, row]))
    assert len(task.problems("val", 9, 0)) == 1
    with pytest.raises(ValueError, match="'Is this positive.' twice, with the answers 'yes' and 'no'"):
        get_task(write_rows(tmp_path / "own.jsonl", [row, row | {"answer": "no", "context": "I hate it."}]))

def test_a_gold_number_keeps_its_digits(tmp_path):
    task = get_task(write_rows(tmp_path / "own.jsonl", [{"question": "How much?", "answer": 123456789.25}]))
    assert task.score(task.problems("val", 1, 0) * 2, ["123456789.25", "123456789.2"]) == [1, -1]

def test_few_rows_are_examples_and_a_bom_crlf_and_blank_lines_are_read(tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "A?", "answer": "b"}\r\n\r\n'
                     b'{"question": "C?", "answer": "d"}\r\n')
    task = get_task(str(path))
    assert task.splits == ("val",) and len(task.problems("val", 9, 0)) == 2

@pytest.mark.parametrize("written, named", [
    ('{"question": "A?", "answer": "b"}'.encode("utf-16"), "is UTF-16"), (b"\xff\xfe\xfd", "UTF"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "is a Git LFS pointer"),
    ('{"question": "A?", "answer": "b\xfc"}'.encode("latin-1"), "is not UTF-8")])
def test_a_file_of_another_encoding_is_named_with_what_it_is(tmp_path, written, named):
    path = tmp_path / "own.jsonl"
    path.write_bytes(written)
    with pytest.raises(ValueError, match=named):
        get_task(str(path))

@pytest.mark.parametrize("row, named", [
    ('{"question": "A?"}', "answer is None"), ('{"question": "A?", "answer": ""}', "must not be empty"),
    ('{"question": "A?", "answer": "b", "options": ["c"]}', "not among the options"),
    ('{"question": "A?", "answer": ["b"]}', "answer is"), ('["A?", "b"]', "no JSON object"),
    ('{"question": "A?", "answer": NaN}', "answer is nan"), ('{"question": "A?", "answer": 1e999}', "inf"),
    ('{"question": null, "answer": "b"}', "question is None"), ("[" * 20000, "RecursionError"),
    ('{"question": "' + "x" * (10 ** 6 + 1) + '", "answer": "b"}', "characters; 1000000 are the most"),
    ('{"question": "A?", "answer": "b", "options": ["b", " "]}', "an option is empty"),
    ("{", "JSONDecodeError")])
def test_a_bad_row_of_ones_own_is_named_with_its_line(tmp_path, row, named):
    path = tmp_path / "own.jsonl"
    path.write_text('{"question": "A?", "answer": "b"}\n' + row + "\n")
    with pytest.raises(ValueError, match="line 2") as error:
        get_task(str(path))
    assert named in str(error.value)
