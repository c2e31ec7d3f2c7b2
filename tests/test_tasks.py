"""pytest tests/test_tasks.py: what gold answers earn, what cannot be guessed, and what is never shared."""
import collections
import json
import re

import pytest

from harness.scores import chance
from tasks.catalog import family_tasks, get_task, variants_of
from tasks.code_problems import CODE, CODE_HARD
from tasks.dispatch import Category, dispatch_task, requests
from tasks.interface import chat_turns, gold_answer
from tasks.jsonl import FEWEST, split_of
from tasks.math_problems import MATH, MATH_HARD
from tasks.real_sets import REAL_SETS
from tasks.reasoning_problems import REASONING, REASONING_HARD

ALL = [*family_tasks()]
TEMPLATES = {"math": (MATH, MATH_HARD), "code": (CODE, CODE_HARD), "reasoning": (REASONING, REASONING_HARD)}

@pytest.mark.parametrize("name", ALL)
def test_gold_answers_score_plus_one_and_empty_ones_minus_one(name):
    task = get_task(name)
    for split in task.splits:
        problems = task.problems(split, 12 if task.stop else 200, 1)
        assert task.score(problems, [p.gold for p in problems]) == [1] * len(problems)
        assert task.score(problems, [""] * len(problems)) == [-1] * len(problems)

def ends_by_itself(task, text):
    return not task.stop or task.stop in text.lstrip().removeprefix(task.stop)

@pytest.mark.parametrize("name", ALL)
def test_a_gold_answer_is_right_as_the_model_would_write_it(name):
    task = get_task(name)
    problems = task.problems(task.splits[-1], 12, 1)
    answers = [gold_answer(task, p) for p in problems]
    assert task.score(problems, answers) == [1] * 12
    assert all(ends_by_itself(task, answer) for answer in answers)

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
    assert variants_of([name]) == [f"{name}_hard"]

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
        problems = task.problems(split, 60 if task.runs_programs else 10**6, 0)
        assert task.score(problems, [p.gold for p in problems]) == [1] * len(problems)
        answers = [gold_answer(task, p) for p in problems]
        assert all(ends_by_itself(task, answer) for answer in answers)
        if not task.runs_programs:  # twice as many programs would take minutes
            assert task.score(problems, answers) == [1] * len(problems)

def test_an_answer_to_arc_is_a_letter_behind_the_bracket_that_the_prompt_opens(tmp_path):
    row = {"question": "What do plants need?", "choices": {"label": ["1", "2"], "text": ["sand", "light"]},
           "answerKey": "2"}
    for name in ("arc_challenge_dev", "arc_challenge_test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    task = get_task("arc_challenge", str(tmp_path))
    [problem] = task.problems("test", 1, 0)
    lines = [line.strip() for line in chat_turns(task, problem)[-1]["content"].splitlines()]
    assert lines[1:] == ["A. sand", "B. light", task.instruction.strip()]
    assert problem.prefill + gold_answer(task, problem) == "Answer: (B)"
    assert task.score([problem] * 3, ["B)", "A)", ")"]) == [1, -1, -1]

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
