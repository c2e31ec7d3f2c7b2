"""pytest tests/test_rl.py: the gradient of equation (1) by hand, and that it finds what is rewarded."""
import pytest
import torch
import torch.nn.functional as F
from conftest import random_z

from rl import Answer, accumulate_gradient, answer_logprobs, policy_loss, rollout, train_expert
from svf import ones, using, wrapped
from tasks import Problem, Task

def answers(rewards=(1, -1, 1), beginning=()):
    prompts, ids = [[5, 9, 200], [7], [300, 3, 8, 100]], [[4, 4], [17, 3, 9, 250], [2]]
    return [Answer([*beginning, *p], a, [], "", r, True) for p, a, r in zip(prompts, ids, rewards)]

def gradient(model, z, batch, **how):
    z = {name: v.clone().requires_grad_() for name, v in z.items()}
    with using(model, z):
        kl = accumulate_gradient(model, batch, **{"temperature": 0.7, "lam": 0.0, "micro_batch": 3} | how)
    return torch.cat([v.grad for v in z.values()]), kl

def by_hand(model, z, batch, temperature, lam):
    """−J written out answer by answer, without padding, on dense weights W' that autograd sees through."""
    from torch.func import functional_call
    dense = {}
    for name, m in wrapped(model).items():
        W, basis = m.linear.weight, m.basis
        wide = W.shape[0] <= W.shape[1]
        dense[f"{name}.linear.weight"] = basis * \
            z[name] @ basis.T @ W if wide else W @ basis * z[name] @ basis.T
    mean, loss = sum(a.r for a in batch) / len(batch), 0.0
    for a in batch:
        tokens = torch.tensor([a.prompt + a.ids])
        logp, ref = ((functional_call(model, weights,
                                      (tokens,))[0] / temperature).log_softmax(-1)[len(a.prompt) - 1:-1]
                     for weights in (dense, {}))
        chosen = logp[torch.arange(len(a.ids)), a.ids].sum()
        loss += (-(a.r - mean) * chosen + lam * (logp.exp() * (logp - ref)).sum()) / len(batch)
    return loss

@pytest.mark.parametrize("beginning", [(), (11, 12, 13)])  # what all prompts share is computed once
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_the_gradient_is_that_of_equation_1(tiny, lam, beginning):
    model, _ = tiny
    z, batch = {n: v.requires_grad_() for n, v in random_z(model).items()}, answers(beginning=beginning)
    flat, _ = gradient(model, {n: v.detach() for n, v in z.items()}, batch, temperature=0.7, lam=lam)
    by_hand(model, z, batch, 0.7, lam).backward()
    wanted = torch.cat([v.grad for v in z.values()])
    assert (flat - wanted).norm() < 1e-3 * wanted.norm()

def test_padding_and_micro_batches_do_not_change_the_gradient(tiny):
    model, _ = tiny
    whole, kl = gradient(model, random_z(model), answers(), lam=0.3)
    rows, kl_rows = gradient(model, random_z(model), answers(), lam=0.3, micro_batch=1)
    assert (whole - rows).abs().max() < 1e-4 * whole.abs().max()
    assert kl == pytest.approx(kl_rows, rel=1e-4)

def test_equal_rewards_teach_nothing_and_prompts_are_not_learned(tiny):
    model, _ = tiny
    flat, _ = gradient(model, random_z(model), answers((1, 1, 1)))
    assert flat.abs().max() == 0
    _, rows = answer_logprobs(model, answers(), 1.0)
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
    flat, kl = gradient(model, random_z(model), answers(), lam=1.0, logit_bias=bias)
    assert flat.isfinite().all() and flat.abs().max() > 0 and kl > 0

def toy_task(cap=4):
    """Right is an answer whose first byte is a vowel-like small code: something a random model does now and
    then."""
    def score(problems, texts):
        return [1 if text and ord(text[0]) % 4 == 0 else -1 for text in texts]
    return Task("toy", "", "", "", cap, lambda split, n,
                seed: [Problem(f"say {i}", "", "") for i in range(n)], score, stop="")

def test_an_answer_cut_off_at_the_cap_earns_minus_one(tiny):
    model, tokenizer = tiny
    task = toy_task()
    batch = rollout(model, tokenizer, task, task.problems("train", 40, 0), temperature=1.0,
                    generator=torch.Generator().manual_seed(0))
    assert any(task.score([None], [a.text]) == [1] and not a.finished for a in batch)
    assert all(a.r == -1 for a in batch if not a.finished)
    assert all(len(a.ids) == len(a.logprobs) for a in batch)

HOW = dict(rollouts=64, lr=3e-2, temperature=1.0, lam=0.0, micro_batch=32, seed=0, validate=lambda z: 0.5,
           eval_every=100, patience=100)

def test_reinforce_raises_the_reward_of_a_toy_task(tiny):
    right = []
    train_expert(*tiny, toy_task(cap=1), {}, steps=25, **HOW,  # one token, which always counts as finished
                 on_step=lambda state, metrics: right.append(metrics.get("right")))
    assert sum(right[-5:]) / 5 > sum(right[1:6]) / 5 + 0.2

def test_going_on_from_a_saved_state_ends_bit_for_bit_the_same(tiny, tmp_path):
    class Stop(Exception):
        pass

    def stop_after_3(state, metrics):
        if metrics["step"] == 3:
            torch.save(state, tmp_path / "state.pt")
            raise Stop
    model, tokenizer = tiny
    whole = train_expert(model, tokenizer, toy_task(1), {}, steps=6, **HOW)
    with pytest.raises(Stop):
        train_expert(model, tokenizer, toy_task(1), {}, steps=6, on_step=stop_after_3, **HOW)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    again = train_expert(model, tokenizer, toy_task(1), saved, steps=6, **HOW)
    assert all(torch.equal(whole["z"][n], again["z"][n]) for n in ones(model))
