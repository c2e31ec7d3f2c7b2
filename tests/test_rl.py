"""pytest tests/test_rl.py: the gradient of equation (1) by hand, and that it finds what is rewarded."""
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import random_z

import svf
from baselines import es
from baselines.sft import imitate
from model import Sampling
from rl import (
    Answer,
    Learner,
    Settings,
    accumulate_gradient,
    answer_logprobs,
    chat_ids,
    leave_one_out,
    leave_one_out_of_all,
    policy_loss,
    reinforce,
    rollout,
    train_expert,
)
from svf import start, using, wrapped
from tasks.interface import Problem, Task

REWARDS = (1, -1, 1)

def answers(prefix=()):
    prompts, ids = [[5, 9, 200], [7], [300, 3, 8, 100]], [[4, 4], [17, 3, 9, 250], [2]]
    return [Answer([*prefix, *p], a, [], "", r, True) for p, a, r in zip(prompts, ids, REWARDS)]

def settings(**changes):
    return Settings(**{"steps": 25, "n_problems": 16, "group": 4, "micro_batch": 32, "lr": 3e-2, "lam": 0.0,
                       "seed": 0, "eval_every": 100} | changes)

def gradient(model, z, batch, lam, micro_batch=3, logit_bias=None, rewards=REWARDS):
    z = {name: v.clone().requires_grad_() for name, v in z.items()}
    advantages = leave_one_out(rewards, len(rewards))
    with using(model, z):
        learner = Learner(model, None, svf, None, Sampling(0.7, logit_bias),
                          settings(lam=lam, micro_batch=micro_batch), reinforce)
        kl = accumulate_gradient(learner, batch, advantages, learner.sampling)
    return torch.cat([torch.zeros_like(v) if v.grad is None else v.grad for v in z.values()]), kl

def by_hand(model, z, batch, temperature, lam):
    """−J written out answer by answer, without padding, on dense weights W' that autograd sees through."""
    from torch.func import functional_call
    dense = {}
    for name, m in wrapped(model).items():
        W, basis = m.linear.weight, m.basis
        wide = W.shape[0] <= W.shape[1]
        dense[f"{name}.linear.weight"] = basis * \
            z[name] @ basis.T @ W if wide else W @ basis * z[name] @ basis.T
    loss = 0.0
    for i, a in enumerate(batch):
        others = [other.r for j, other in enumerate(batch) if j != i]
        advantage = a.r - sum(others) / len(others)
        tokens = torch.tensor([a.prompt + a.ids])
        logp, ref = ((functional_call(model, weights,
                                      (tokens,))[0] / temperature).log_softmax(-1)[len(a.prompt) - 1:-1]
                     for weights in (dense, {}))
        chosen = logp[torch.arange(len(a.ids)), a.ids].sum()
        loss += (-advantage * chosen + lam * (logp.exp() * (logp - ref)).sum()) / len(batch)
    return loss

@pytest.mark.parametrize("prefix", [(), (11, 12, 13)])  # what all prompts share is computed once
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_the_gradient_is_that_of_equation_1(tiny, lam, prefix):
    model, _ = tiny
    z, batch = {n: v.requires_grad_() for n, v in random_z(model).items()}, answers(prefix)
    flat, _ = gradient(model, {n: v.detach() for n, v in z.items()}, batch, lam)
    by_hand(model, z, batch, 0.7, lam).backward()
    wanted = torch.cat([v.grad for v in z.values()])
    assert (flat - wanted).norm() < 1e-3 * wanted.norm()

@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_a_prompt_is_read_once_for_all_its_answers_and_the_gradient_stays(tiny, lam):
    """Three different prompts of five answers, two of them of one token."""
    model, _ = tiny
    prompts = [[5, 9, 200], [7], [5, 9, 200], [5, 9, 200, 41], [7]]
    ids = [[4, 4], [17, 3, 9, 250], [2], [8, 8, 100], [30]]
    batch = [Answer(p, a, [], "", r, True) for p, a, r in zip(prompts, ids, (1, -1, 1, -1, -1))]
    z = {n: v.requires_grad_() for n, v in random_z(model).items()}
    by_hand(model, z, batch, 0.7, lam).backward()
    wanted = torch.cat([v.grad for v in z.values()])
    shapes = []
    hook = model.tok_embeddings.register_forward_hook(lambda _, inputs, h: shapes.append(inputs[0].shape))
    z = {n: v.detach() for n, v in z.items()}
    for micro_batch in (5, 2):
        flat, _ = gradient(model, z, batch, lam, micro_batch, rewards=[a.r for a in batch])
        assert (flat - wanted).norm() < 1e-5 * wanted.norm()
    hook.remove()
    assert shapes[:2] == [(3, 4), (5, 3)]  # the prompts, then what stands behind them

def test_padding_and_micro_batches_do_not_change_the_gradient(tiny):
    model, _ = tiny
    whole, kl = gradient(model, random_z(model), answers(), 0.3)
    rows, kl_rows = gradient(model, random_z(model), answers(), 0.3, micro_batch=1)
    assert (whole - rows).abs().max() < 1e-4 * whole.abs().max()
    assert kl == pytest.approx(kl_rows, rel=1e-4)

def test_the_baseline_of_an_answer_is_the_mean_of_the_others_to_its_problem():
    advantages = leave_one_out([1, -1, -1, -1, 1, 1, 1, 1], 4)
    assert advantages == pytest.approx([2, -2 / 3, -2 / 3, -2 / 3, 0, 0, 0, 0])
    assert leave_one_out_of_all([1, -1, -1, -1], 1) == leave_one_out([1, -1, -1, -1], 4)

def test_equal_rewards_teach_nothing_and_prompts_are_not_learned(tiny):
    model, _ = tiny
    for lam in (0.0, 0.5):
        silent, _ = gradient(model, start(model), answers(), lam, rewards=(1, 1, 1))
        assert silent.abs().max() < 1e-6  # at z = 1 the KL is at its least
    _, rows = answer_logprobs(model, answers(), Sampling(1.0))
    # one row of log π for each answer token, none for the prompts
    assert rows.tolist() == [0, 0, 1, 1, 1, 1, 2]

def test_kl_is_of_the_policy_to_the_base_and_not_the_reverse():
    p, q = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    _, kl = policy_loss(p, torch.tensor([0]), torch.tensor([0]), torch.zeros(1), 1.0, q)
    assert kl.item() == pytest.approx(F.kl_div(q, p, log_target=True, reduction="sum").item())
    assert kl.item() != pytest.approx(F.kl_div(p, q, log_target=True, reduction="sum").item(), rel=0.1)

def test_a_logit_bias_of_minus_infinity_leaves_kl_and_gradient_finite(tiny):
    model, _ = tiny
    bias = torch.full((512,), -torch.inf)
    bias[[4, 17, 3, 9, 250, 2]] = 0.5
    flat, kl = gradient(model, random_z(model), answers(), 1.0, logit_bias=bias)
    assert flat.isfinite().all() and flat.abs().max() > 0 and kl > 0

def first_byte_is_a_multiple_of_four(problems, texts):
    return [1 if text and ord(text[0]) % 4 == 0 else -1 for text in texts]

def some_problems(split, n, seed):
    return [Problem(f"say {i}") for i in range(n)]

def toy_task(max_new_tokens=4):
    """Right is something that a random model does now and then."""
    return Task("toy", "", "", max_new_tokens, some_problems, first_byte_is_a_multiple_of_four)

def test_an_answer_cut_off_at_the_cap_earns_minus_one(tiny):
    model, tokenizer = tiny
    task = toy_task()
    sampling = Sampling(1.0, generator=torch.Generator().manual_seed(0))
    batch = rollout(model, tokenizer, task, task.problems("train", 40, 0), sampling)
    assert any(task.score([None], [a.text]) == [1] and not a.finished for a in batch)
    assert all(a.r == -1 for a in batch if not a.finished)
    assert all(len(a.ids) == len(a.logprobs) for a in batch)

def learner(tiny, improve=reinforce, **changes):
    """Answers of one token, which always count as finished."""
    return Learner(*tiny, svf, toy_task(1), Sampling(1.0), settings(**changes), improve)

def validate(z):
    return 0.5

def test_reinforce_raises_the_reward_of_a_toy_task(tiny):
    right = [metrics.get("right") for metrics in train_expert(learner(tiny), {}, validate)]
    assert sum(right[-5:]) / 5 > sum(right[1:6]) / 5 + 0.2

def test_evolution_strategies_raise_it_too(tiny):
    learns = learner(tiny, es.evolve, steps=60, n_problems=4)
    right = [metrics.get("right") for metrics in train_expert(learns, {}, validate)]
    assert sum(right[-10:]) / 10 > sum(right[1:11]) / 10 + 0.1

def test_a_z_that_is_not_finite_is_a_collapse(tiny):

    def endless(learner, z, optimizer, problems, generator):
        for v in z.values():
            v.grad = torch.full_like(v, torch.nan)
        return {"grad_norm": learner.descend(z, optimizer)}

    with pytest.raises(svf.Collapse, match="step 1 brought a z that is not finite"):
        list(train_expert(learner(tiny, endless), {}, lambda z: 0.5))

def test_es_estimates_the_gradient_of_a_linear_reward():
    c = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([0.5])}
    half = {name: torch.randn(20_000, len(of), generator=torch.Generator().manual_seed(0))
            for name, of in c.items()}
    noise = {name: torch.cat([epsilon, -epsilon]) for name, epsilon in half.items()}
    rewards = 3 + es.SIGMA * sum(noise[name] @ of for name, of in c.items())  # J(z + σ ε) = 3 + σ c · ε
    for name, estimate in es.minus_gradient(rewards, noise).items():
        assert (estimate + c[name]).abs().max() < 0.05

def test_es_leaves_z_where_it_is_when_all_members_earn_the_same(tiny):
    """After steps that were rewarded AdamW has momentum, which must not move z on its own."""
    learns = learner(tiny, es.evolve, steps=5, n_problems=4)
    state = {}
    for metrics in train_expert(learns, state, lambda z: 0.5):
        if metrics["step"] == 2:
            assert metrics["z_change"] > 0
            learns.task = replace(learns.task, score=lambda problems, texts: [-1] * len(texts))
            then = state["z"]
    assert metrics["telling"] == 0
    assert all(torch.equal(v, then[name]) for name, v in state["z"].items())

def test_the_gradient_of_sft_is_that_of_next_token_loss_on_the_gold_answers(tiny):
    model, tokenizer = tiny
    gold = [Problem("2 + 2?", gold="4"), Problem("Say it.", "It:", gold="good day")]
    task = Task("toy", "", "", 8, lambda split, n, seed: gold, None)
    z = {name: v.requires_grad_() for name, v in random_z(model).items()}
    ours = []

    def keep_gradient(z, optimizer):
        ours.append(torch.cat([v.grad for v in z.values()]))
        return 0.0
    learner = Learner(model, tokenizer, svf, task, Sampling(0.7), settings(n_problems=2, group=1), imitate,
                      descend=keep_gradient)
    imitate(learner, z, None, gold, None)
    [ours] = ours
    loss = 0.0
    for v in z.values():
        v.grad = None
    with using(model, z):
        for problem in gold:
            prompt = chat_ids(tokenizer, task, problem)
            space = " " if problem.prefill else ""
            ids = [*tokenizer.encode(space + problem.gold), tokenizer.end_of_turn()]
            assert ids[-1] in tokenizer.stop_ids
            logits = model(torch.tensor([prompt + ids]))[0, len(prompt) - 1:-1]
            loss += F.cross_entropy(logits, torch.tensor(ids), reduction="sum") / 2
        loss.backward()
    wanted = torch.cat([v.grad for v in z.values()])
    assert (ours - wanted).norm() / wanted.norm() < 1e-4

def test_going_on_from_a_saved_state_ends_bit_for_bit_the_same(tiny, tmp_path):
    whole, stopped = {}, {}
    for metrics in train_expert(learner(tiny, steps=6), whole, validate):
        pass
    for metrics in train_expert(learner(tiny, steps=6), stopped, validate):
        if metrics["step"] == 3:
            torch.save(stopped, tmp_path / "state.pt")
            break
    resumed = torch.load(tmp_path / "state.pt", weights_only=True)
    steps = [metrics["step"] for metrics in train_expert(learner(tiny, steps=6), resumed, validate)]
    assert steps == [4, 5, 6]
    assert all(torch.equal(whole["z"][n], resumed["z"][n]) for n in start(tiny[0]))

def test_the_base_model_is_validated_as_the_base_model(tiny):
    seen = []

    def validate_and_note(z):
        seen.append(z)
        return 0.5
    for _ in train_expert(learner(tiny, steps=1), {}, validate_and_note):
        pass
    assert seen[0] == {} and seen[1].keys() == start(tiny[0]).keys()
