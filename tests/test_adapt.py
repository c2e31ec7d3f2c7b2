"""pytest tests/test_adapt.py: CEM on a known optimum, one second pass for all, experts that never linger."""
import shutil

import pytest
import torch
from conftest import expert_metadata, random_z

from adapt import (
    GREEDY,
    AdaptiveModel,
    Expert,
    Search,
    by_cem,
    calibrated_bias,
    cem,
    dispatch,
    dispatch_ids,
    few_shot_fitness,
    first_tokens,
    formatted,
    second_pass,
    uniform,
)
from formats.experts import save_expert
from harness.experts import expert_named, load_experts
from harness.report import say_found
from rl import rollout
from svf import using, wrapped
from tasks.catalog import get_task
from tasks.dispatch import Category, requests
from tasks.interface import Problem, Task, chat_turns

def quadratic(optimum):
    return lambda alpha: [(-((row - optimum) ** 2).sum().item(),) for row in alpha]

def search(fitness, dim, seed=0, generations=50, known=None):
    known = torch.zeros(1, dim) if known is None else known
    return cem(fitness, known, 1 / dim, Search(generations, population=32, elites=6, seed=seed))

def solve(dim, seed):
    optimum = torch.rand(dim, generator=torch.Generator().manual_seed(100 + seed))
    alpha, _ = search(quadratic(optimum), dim, seed)
    return alpha, optimum

@pytest.mark.parametrize("seed", range(20))
def test_cem_solves_a_quadratic_of_three_dimensions(seed):
    alpha, optimum = solve(3, seed)
    assert (alpha - optimum).abs().max() < 0.05

def test_cem_halves_the_error_in_ninety_dimensions_and_repeats_with_its_seed():
    alpha, optimum = solve(90, 0)
    assert (alpha - optimum).abs().mean() < 0.5 * (1 / 90 - optimum).abs().mean()
    assert torch.equal(alpha, solve(90, 0)[0]) and not torch.equal(alpha, solve(90, 1)[0])

def test_cem_breaks_ties_with_the_second_number_for_elites_and_best():
    def tied(alpha):
        return [(0.0, -(row[0] - 0.8).abs().item()) for row in alpha]
    alpha, score = search(tied, 1, generations=20)
    assert abs(alpha.item() - 0.8) < 0.01 and score[0] == 0.0

def test_where_nothing_tells_the_members_apart_the_first_known_one_is_returned():
    known = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    for seed in range(5):
        alpha, _ = search(lambda alpha: [(0.0, -float("inf"))] * len(alpha), 2, seed, 4, known)
        assert torch.equal(alpha, known[0])

def test_a_known_member_that_is_best_is_found_in_the_first_generation():
    known = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    alpha, score = search(quadratic(torch.tensor([0.0, 1.0])), 2, generations=1, known=known)
    assert alpha.tolist() == [0.0, 1.0] and score == (0.0,)

def test_the_first_generation_is_drawn_around_the_given_mean():
    for mean in (0.1, 0.9):
        drawn = []

        def fitness(alpha):
            drawn.append(alpha)
            return [(0.0,)] * len(alpha)
        cem(fitness, torch.zeros(0, 90), mean, Search(1, population=32))
        around = 0.5 + 0.5 * torch.randn(10 ** 6, generator=torch.Generator().manual_seed(0))
        expected = (around - 0.5 + mean).clamp(0, 1).mean()
        assert abs(torch.cat(drawn).mean() - expected) < 0.02

def test_no_member_is_evaluated_twice():
    seen = []

    def fitness(alpha):
        seen.extend(tuple(row) for row in alpha.tolist())
        return quadratic(torch.tensor([0.0, 0.0]))(alpha)
    search(fitness, 2, generations=5)
    assert len(seen) == len(set(seen))

def test_an_optimum_in_a_corner_does_not_end_the_search():
    """Half of the draws are clamped to 0; were they ranked one by one, they would be all of the elites."""
    new_members = []

    def fitness(alpha):
        new_members.append(len(alpha))
        return quadratic(torch.tensor([0.0]))(alpha)
    cem(fitness, torch.zeros(1, 1), 1.0, Search(generations=3, population=12, elites=3))
    assert len(new_members) == 3

def test_a_fitness_of_nan_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        search(lambda alpha: [(float("nan"),)] * len(alpha), 2)

@pytest.fixture
def experts(tiny, tmp_path):
    """Two task experts and a dispatcher for the tiny model, on disk and read back."""
    model, _ = tiny
    for seed, (name, kind) in enumerate([("math", "task"), ("code", "task"), ("dispatch", "dispatch")]):
        save_expert(tmp_path / f"{name}.safetensors", random_z(model, seed), expert_metadata(
            model, kind=kind, task=name, examples=[f"do {name}", f"do it, {name}"], system=f"You do {name}.",
            prefill=f"{name}:"))
    return load_experts(tmp_path, model)

@pytest.fixture
def adaptive(tiny, experts):
    return AdaptiveModel(*tiny, experts)

def odd_length_is_right(problems, texts):
    return [1 if len(text) % 2 else -1 for text in texts]

def toy_task(max_new_tokens, score, problems=None):
    return Task("toy", "", "", max_new_tokens, problems, score)

TASK = toy_task(6, odd_length_is_right)
PROBLEMS = [Problem("a"), Problem("bcd"), Problem("ef")]

def test_a_batch_sent_to_different_experts_equals_the_rows_under_theirs(adaptive):
    mixtures = [{"math": 1.0}, {"other": 1.0}, {"code": 0.4, "math": 0.3}]
    together = second_pass(adaptive, TASK, PROBLEMS, mixtures)
    for problem, mixture, answer in zip(PROBLEMS, mixtures, together):
        [alone] = second_pass(adaptive, TASK, [problem], [mixture])
        assert alone.ids == answer.ids
    base = rollout(adaptive.model, adaptive.tokenizer, TASK, PROBLEMS, GREEDY)
    assert base[1].ids == together[1].ids and base[0].ids != together[0].ids

def test_every_row_of_a_generation_is_scored_under_its_own_member(adaptive):
    alpha = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.3, 0.9]])
    reward = {"a": 1, "bcd": -1, "ef": 1}
    task = toy_task(1, lambda problems, texts: [reward[p.prompt] for p in problems])
    scores = few_shot_fitness(adaptive, task, PROBLEMS, alpha)
    for row, score in zip(alpha.tolist(), scores):
        mixture = dict(zip(adaptive.task_experts(), row))
        answers = second_pass(adaptive, task, PROBLEMS, [mixture] * 3)
        likely = (answers[0].logprobs[0] + answers[2].logprobs[0]) / 2  # of the right answers only
        assert score == (2 / 3, pytest.approx(likely, abs=1e-4))
    never = toy_task(1, lambda problems, texts: [-1] * len(texts))
    assert few_shot_fitness(adaptive, never, PROBLEMS, alpha) == [(0.0, -float("inf"))] * 3

def test_examples_that_no_member_answers_return_the_base_model_and_say_so(adaptive, capsys):
    never = toy_task(2, lambda problems, texts: [-1] * len(texts))
    mixture, right = by_cem(adaptive, never, PROBLEMS, Search(2))
    assert mixture == {"code": 0.0, "math": 0.0, "other": 1.0} and right == 0
    say_found(mixture, right, len(PROBLEMS))
    assert "cannot tell" in capsys.readouterr().out

def test_an_expert_that_alone_solves_an_example_is_found_in_the_first_generation(adaptive):

    def texts_of(task, name):
        return [a.text for a in second_pass(adaptive, task, PROBLEMS, [{name: 1.0}] * len(PROBLEMS))]
    one_token = toy_task(1, odd_length_is_right)  # always finished
    others = [texts_of(one_token, name) for name in ("other", "code")]
    [shot, wanted] = next([problem, text] for problem, text, *rest in
                          zip(PROBLEMS, texts_of(one_token, "math"), *others) if text not in rest)

    def as_math_answers(problems, texts):
        return [1 if text == wanted else -1 for text in texts]
    mixture, right = by_cem(adaptive, toy_task(1, as_math_answers), [shot], Search(1, population=4))
    assert right == 1 and mixture == {"code": 0.0, "math": 1.0, "other": 0.0}

def test_per_block_searches_one_alpha_for_each_expert_and_block(adaptive):
    task = toy_task(1, odd_length_is_right)
    mixture, _ = by_cem(adaptive, task, PROBLEMS, Search(2, per_block=True))
    assert {name: len(weights) for name, weights in mixture.items()} == {"code": 2, "math": 2}
    assert second_pass(adaptive, task, PROBLEMS, [mixture] * 3)

def test_categories_are_the_experts_at_hand_by_name_then_other_and_must_begin_differently(adaptive):
    names = [category.name for category in adaptive.categories]
    assert names == ["code", "math", "other"]  # sorted, other last, no dispatcher
    with pytest.raises(ValueError, match="begin with the same token"):
        dispatch(adaptive, ["hi"], {})  # here a space is a token of its own

def test_dispatch_takes_the_likeliest_calibrated_name_and_leaves_the_base_model(real):
    model, tokenizer = real
    z_c = random_z(model, size=0.3)
    experts = {name: Expert({}, {"examples": requests(name, "train", 3, 0), "task": name}, role="task")
               for name in ("math", "code")}
    adaptive = AdaptiveModel(model, tokenizer, experts)
    asked = requests("math", "val", 3, 0)
    chosen = dispatch(adaptive, asked, z_c, batch_size=2)
    assert all(m.z is None for m in wrapped(model).values())
    categories = adaptive.categories
    tokens = {category.name: tokenizer.encode(" " + category.name)[0] for category in categories}
    bias = calibrated_bias(model, tokenizer, categories)
    for request, mixture in zip(asked, chosen):
        with using(model, z_c):
            logits = model(torch.tensor([dispatch_ids(tokenizer, categories, request)]))[0, -1]
        assert mixture == {max(tokens, key=lambda name: (logits + bias)[tokens[name]].item()): 1.0}
    assert chosen != dispatch(adaptive, asked, {})  # z_c had its say

def test_a_problem_has_its_experts_system_and_prefill_but_keeps_a_signature(experts):
    asked = formatted(Problem("p"), {"math": 1.0}, experts)
    assert asked.system == "You do math." and asked.prefill == "math:"
    assert formatted(Problem("p", "math: 1 +"), {"math": 1.0}, experts).prefill == "math: 1 +"
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "math: 2"}]
    experts["math"].metadata["solved"] = turns
    asked = formatted(Problem("p"), {"math": 1.0}, experts)
    contents = [turn["content"] for turn in chat_turns(get_task("reasoning"), asked)]
    assert contents == ["You do math.", "1 + 1?", "math: 2", "p"]
    for mixture in ({"other": 1.0}, {"math": 0.5, "code": 0.5}):
        assert formatted(PROBLEMS[0], mixture, experts) is PROBLEMS[0]
    for weight in (0.0, [0.5, 0.2]):  # one expert, and a search that left some of the base model
        assert formatted(PROBLEMS[0], {"math": weight}, experts) is PROBLEMS[0]

def test_two_classifiers_are_refused(tiny, tmp_path):
    model, _ = tiny
    save_expert(tmp_path / "math.safetensors", random_z(model), expert_metadata(model))
    for name in ("another", "dispatch"):
        save_expert(tmp_path / f"{name}.safetensors", {}, expert_metadata(model, kind="dispatch"))
    with pytest.raises(ValueError, match="another and dispatch are both classifiers"):
        load_experts(tmp_path, model)

def test_a_supplied_expert_answers_and_changes_neither_dispatch_nor_search(adaptive, tmp_path):
    """A classifier was not trained on the question with one more category."""
    before = adaptive.categories, adaptive.task_experts().keys()
    file = tmp_path / "elsewhere" / "math.long.safetensors"
    save_expert(file, random_z(adaptive.model), expert_metadata(adaptive.model))
    assert expert_named(adaptive, str(file), tmp_path) == "math.long"
    assert expert_named(adaptive, "math.long", tmp_path) == "math.long"  # loaded once, named by its name
    assert "math.long" in adaptive.answering()
    again = AdaptiveModel(adaptive.model, adaptive.tokenizer, adaptive.experts)
    assert (again.categories, again.task_experts().keys()) == before
    same_name = shutil.copy(file, tmp_path / "elsewhere" / "math.safetensors")
    with pytest.raises(ValueError, match="there is an expert math already"):
        expert_named(adaptive, same_name, tmp_path / "nowhere")
    adaptive.experts["judge"] = Expert({}, {}, role="dispatch", file=tmp_path / "judge.safetensors")
    with pytest.raises(ValueError, match="is a classifier and does not answer"):
        expert_named(adaptive, "judge", tmp_path)
    save_expert(file, {}, expert_metadata(adaptive.model, kind="dispatch"))
    with pytest.raises(ValueError, match="is a classifier and does not answer"):
        expert_named(AdaptiveModel(adaptive.model, adaptive.tokenizer, {}), str(file), tmp_path)

def test_to_ask_which_expert_fits_no_question_of_its_task_is_needed(real):
    """They lie in folders that another user does not have."""
    _, tokenizer = real
    categories = [Category("gsm8k", ["a", "b"], "gsm8k"), Category("own", ["c", "d"], "gone.jsonl")]
    asked = tokenizer.decode(dispatch_ids(tokenizer, categories, "e"))
    assert "Request: a\nAnswer: gsm8k" in asked and "Request: c\nAnswer: own" in asked
    assert list(first_tokens(tokenizer, categories).values()) == ["gsm8k", "own"]

def test_all_task_experts_in_equal_parts_add_up_to_one(adaptive):
    assert uniform(adaptive) == {"code": 0.5, "math": 0.5}

def test_calibration_sends_the_examples_out_in_equal_shares(real):
    """Mean probability of each category over the example requests, as many of each category: 1 / K."""
    model, tokenizer = real
    categories = [Category(name, requests(name, "train", 5, 0), name) for name in ("code", "math")]
    categories.append(Category("other", ["Sing.", "Dance.", "Tell me a joke."], "other"))
    bias = calibrated_bias(model, tokenizer, categories)
    assert bias.isfinite().sum() == 3 and not bias.isnan().any()
    asked = [request for category in categories for request in category.examples[1:3]]
    logits = torch.stack([model(torch.tensor([dispatch_ids(tokenizer, categories, request)]))[0, -1]
                          for request in asked])
    shares = (logits + bias).softmax(dim=-1).mean(dim=0)
    for category in categories:
        assert shares[tokenizer.encode(" " + category.name)[0]] == pytest.approx(1 / 3, abs=1e-3)

def test_an_empty_folder_says_how_to_train(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="python train.py"):
        load_experts(tmp_path, tiny[0])
