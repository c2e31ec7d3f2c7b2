"""pytest tests/test_tasks.py: what is graded right, what cannot be guessed, and what is never shared."""
import collections
import json
import re

import pytest

from tasks import (COUSIN, FAMILIES, REAL, Problem, chosen_letter, dispatch_task, get_task, last_option,
                   mentions_gold, numbers, requests)

ALL = [*FAMILIES, *COUSIN.values()]

@pytest.mark.parametrize("text, value", [
    ("so it is 2,125.", 2125), ("-10", -10), ("it costs $18.00", 18), ("20-10 = 10", 10), ("(3)-4", 4),
    ("1,2,3", 3), ("1,234,567 cats", 1234567), ("-$5", -5), ("x = 3.5.", 3.5), ("none", None), ("", None)])
def test_the_last_number_of_a_text(text, value):
    assert numbers(text)[-1:] == ([] if value is None else [value])

@pytest.mark.parametrize("text, letter", [
    ("the answer is (B)", "B"), ("B) a dog", "B"), ("(C)", "C"), ("The answer is: 3.", "C"),
    ("A dog barks", "A"), ("The answer is a chemical reaction", None), ("the answer is (b)", "B"),
    ("I think so", None), ("", None), ("the answer is (A). No: the answer is (D)", "D")])
def test_the_letter_an_answer_chooses(text, letter):
    assert chosen_letter(text) == letter

def test_options_are_whole_words_and_the_last_one_counts():
    assert last_option(("Ann", "Anna"), "ann, no: ANNA.") == "anna"
    assert last_option(("cat", "dog"), "concatenate") is None
    assert last_option(("49", "4"), "It is 49") == "49"

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

@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_templates_enough_and_its_cousin_others(name):
    train, val, test = FAMILIES[name][3]
    _, hard_val, hard_test = FAMILIES[name][4]
    assert len(train) >= 12 and min(map(len, (val, test, hard_val, hard_test))) >= 4
    texts = [template[:2] for part in (train, val, test, hard_val, hard_test) for template in part]
    assert len(set(texts)) == len(texts)
    assert len({p.prompt for p in get_task(name).problems("train", 2000, 0)}) == 2000

def mentions(p):
    words = "|".join(re.escape(o) for o in sorted(p.options, key=len, reverse=True))
    return re.findall(rf"(?<!\w)(?:{words})(?!\w)", p.prompt)

@pytest.mark.parametrize("name", ["reasoning", "reasoning_hard"])
def test_no_shortcut_answers_closed_questions(name):
    """First, last and most frequent candidate, the majority answer, always yes: within 5 points of chance."""
    for split in get_task(name).splits:
        problems = get_task(name).problems(split, 700 if split == "heldout" else 2000, 0)
        chance = sum(1 / len(p.options) for p in problems) / len(problems)
        majority = collections.Counter(p.gold for p in problems).most_common(1)[0][0]
        rules = {"first": lambda p: mentions(p)[0], "last": lambda p: mentions(p)[-1],
                 "most frequent": lambda p: collections.Counter(mentions(p)).most_common(1)[0][0],
                 "majority": lambda p: majority, "yes": lambda p: "yes"}
        for rule, guess in rules.items():
            right = sum(guess(p) == p.gold for p in problems) / len(problems)
            assert right < chance + 0.05, (split, rule, right, chance)

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

def test_dispatch_requests_are_never_test_prompts_and_other_has_200_of_its_own():
    options = [{"task": name, "example": "e"} for name in ("code", "math", "reasoning", "other")]
    train = dispatch_task(options).problems("train", 400, 0)
    assert collections.Counter(p.gold for p in train) == {
                               name: 100 for name in ("code", "math", "reasoning", "other")}
    asked = {p.prompt.rpartition("Request: ")[2] for p in train}
    for name in ("code", "math", "reasoning", "other"):
        assert not asked & set(requests(name, "test", 200, 1))
    everyday = {split: set(requests("other", split, n, 0)) for split, n in
                (("train", 400), ("val", 64), ("heldout", 128), ("test", 256))}
    assert len(everyday["train"]) == 400
    assert not everyday["train"] & (everyday["val"] | everyday["heldout"] | everyday["test"])

@pytest.mark.parametrize("name", REAL)
def test_every_reference_of_the_real_sets_scores_plus_one(name, data):
    task = get_task(name, data)
    for split in task.splits:
        problems = task.problems(split, 60 if task.stop else 10**6, 0)
        assert task.score(problems, [p.gold for p in problems]) == [1] * len(problems)

def test_real_sets_have_the_papers_splits(data):
    real = {name: get_task(name, data) for name in REAL}
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
