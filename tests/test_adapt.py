"""pytest tests/test_adapt.py: CEM on a known optimum, one second pass for all, experts that never linger."""
import pytest
import torch
from conftest import random_z

from adapt import (calibrated_bias, cem, dispatch_ids, dispatch_options, dispatcher, dressed,
                   few_shot_fitness, second_pass)
from checkpoint import load_experts, save_whole
from rl import rollout
from svf import using, wrapped
from tasks import CONTENT_FREE, Problem, Task, get_task

def quadratic(optimum):
    return lambda alpha: [(-((row - optimum) ** 2).sum().item(),) for row in alpha]

def solve(dim, seed, generations=50, optimum=None):
    optimum = torch.rand(dim, generator=torch.Generator().manual_seed(
        100 + seed)) if optimum is None else optimum
    alpha, _ = cem(quadratic(optimum), dim, population=32, elites=6, generations=generations,
                   generator=torch.Generator().manual_seed(seed))
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
    tie = lambda alpha: [(0.0, -(row[0] - 0.8).abs().item()) for row in alpha]  # noqa: E731
    alpha, score = cem(tie, 1, population=32, elites=6, generations=20,
                       generator=torch.Generator().manual_seed(0))
    assert abs(alpha.item() - 0.8) < 0.01 and score[0] == 0.0

def test_a_fitness_of_nan_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        cem(lambda alpha: [(float("nan"),)] * len(alpha), 2, population=8, elites=2, generations=1,
            generator=torch.Generator())

@pytest.fixture
def family(tiny, tmp_path):
    """Two task experts and a dispatcher for the tiny model, on disk and read back."""
    model, _ = tiny
    for seed, (name, kind) in enumerate([("math", "task"), ("code", "task"), ("dispatch", "dispatch")]):
        save_whole(tmp_path / f"{name}.safetensors", random_z(model, seed), {
            "fingerprint": model.fingerprint, "base": model.name, "kind": kind, "task": name,
            "example": f"do {name}", "system": f"You do {name}.", "prefill": f"{name}:"})
    return load_experts(tmp_path, model)

TASK = Task("toy", "", "", "", 6, None, lambda problems, texts: [1 if len(t) % 2 else -1 for t in texts])
PROBLEMS = [Problem("a", "", ""), Problem("bcd", "", ""), Problem("ef", "", "")]

def test_a_batch_sent_to_different_experts_equals_the_rows_under_theirs(tiny, family):
    model, tokenizer = tiny
    experts, _ = family
    mixtures = [{"math": 1.0}, {"other": 1.0}, {"code": 0.4, "math": 0.3}]
    together = second_pass(model, tokenizer, experts["task"], TASK, PROBLEMS, mixtures, temperature=0)
    for problem, mixture, answer in zip(PROBLEMS, mixtures, together):
        [alone] = second_pass(model, tokenizer, experts["task"], TASK, [problem], [mixture], temperature=0)
        assert alone.ids == answer.ids
    base = rollout(model, tokenizer, TASK, PROBLEMS, temperature=0)
    assert base[1].ids == together[1].ids and base[0].ids != together[0].ids

def test_every_row_of_a_generation_is_scored_under_its_own_member(tiny, family):
    model, tokenizer = tiny
    experts, _ = family
    alpha = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.3, 0.9]])
    reward = {"a": 1, "bcd": -1, "ef": 1}
    task = Task("toy", "", "", "", 1, None, lambda problems, texts: [reward[p.prompt] for p in problems])
    scores = few_shot_fitness(model, tokenizer, experts["task"], task, PROBLEMS)(alpha)
    for row, score in zip(alpha.tolist(), scores):
        mixture = dict(zip(experts["task"], row))
        answers = second_pass(model, tokenizer, experts["task"], task, PROBLEMS, [mixture] * 3, temperature=0)
        likely = (answers[0].logprobs[0] + answers[2].logprobs[0]) / 2  # of the right answers only
        assert score == (2 / 3, pytest.approx(likely, abs=1e-4))
    never = Task("toy", "", "", "", 1, None, lambda problems, texts: [-1] * len(texts))
    nothing = few_shot_fitness(model, tokenizer, experts["task"], never, PROBLEMS)(alpha)
    assert nothing == [(0.0, -float("inf"))] * 3

def test_options_are_the_experts_at_hand_by_name_then_other_and_must_begin_differently(tiny, family):
    model, tokenizer = tiny
    experts, metadata = family
    options = dispatch_options(experts, metadata)
    assert [o["task"] for o in options] == ["code", "math", "other"]  # sorted, other last, no dispatcher
    with pytest.raises(ValueError, match="begin with the same token"):
        dispatcher(model, tokenizer, experts, metadata, {})  # here a space is a token of its own

def test_dispatch_takes_the_likeliest_calibrated_name_and_leaves_the_base_model(real):
    model, tokenizer = real
    z_c = random_z(model, size=0.3)
    experts = {"task": {"math": {}, "code": {}}}
    metadata = {k: {"example": get_task(k).problems("train", 1, 0)[0].prompt} for k in experts["task"]}
    requests = [p.prompt for p in get_task("math").problems("val", 3, 0)]
    chosen = dispatcher(model, tokenizer, experts, metadata, z_c, batch_size=2)(requests)
    assert all(m.z is None for m in wrapped(model).values())
    options = dispatch_options(experts, metadata)
    names = {o["task"]: tokenizer.encode(" " + o["task"])[0] for o in options}
    bias = calibrated_bias(model, tokenizer, options)
    for request, mixture in zip(requests, chosen):
        with using(model, z_c):
            logits = model(torch.tensor([dispatch_ids(tokenizer, options, request)]))[0, -1]
        assert mixture == {max(names, key=lambda name: (logits + bias)[names[name]].item()): 1.0}
    assert chosen != dispatcher(model, tokenizer, experts, metadata, {})(requests)  # z_c had its say

def test_a_problem_wears_its_experts_system_and_prefill_but_keeps_a_signature(family):
    _, metadata = family
    worn = dressed(Problem("p", "", ""), {"math": 1.0}, metadata)
    assert worn.system == "You do math." and worn.prefill == "math:"
    assert dressed(Problem("p", "math: 1 +", ""), {"math": 1.0}, metadata).prefill == "math: 1 +"
    for mixture in ({"other": 1.0}, {"math": 0.5, "code": 0.5}):
        assert dressed(PROBLEMS[0], mixture, metadata) is PROBLEMS[0]

def test_calibration_takes_the_models_leaning_out(real):
    """After requests that say nothing, every option's mean log-probability and its bias cancel."""
    model, tokenizer = real
    options = [{"task": name, "example": get_task(name).problems("train", 1, 0)[0].prompt}
               for name in ("code", "math")]
    options.append({"task": "other", "example": "Sing."})
    bias = calibrated_bias(model, tokenizer, options)
    assert bias.isfinite().sum() == 3 and not bias.isnan().any()
    for option in options:
        token = tokenizer.encode(" " + option["task"])[0]
        logp = [model(torch.tensor([dispatch_ids(tokenizer, options, text)]))[0, -1].log_softmax(-1)[token]
                for text in CONTENT_FREE]
        assert abs(sum(logp) / len(logp) + bias[token]) < 1e-3

def test_an_empty_folder_says_how_to_train(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="python train.py"):
        load_experts(tmp_path, tiny[0])
