"""pytest tests/test_signal_share.py: shares of signal that are known, the size of a step by an exact KL."""
from statistics import fmean, stdev

import pytest
import torch
from conftest import random_z

import svf
from model import Sampling, Stopping, generate
from rl import Answer, Learner, answer_logprobs, reinforce
from scripts.signal_share import after_first_step, nats_between, share_of_signal

def noisy(rng, k, squared_signal, squared_noise, n=400):
    """k gradients of n numbers: one signal of that square, and noise of their own."""
    direction = torch.randn(n, generator=rng)
    signal = squared_signal ** 0.5 * direction / direction.norm()
    return signal + torch.randn(k, n, generator=rng) * (squared_noise / n) ** 0.5

@pytest.mark.parametrize("signal, noise", [(1, 9), (1, 1), (0, 1)])
def test_the_share_is_that_of_the_signal_and_its_error_covers_how_far_it_strays(signal, noise):
    """The jackknife is about right where some is signal, and up to twice too careful where none is."""
    rng = torch.Generator().manual_seed(0)
    found = [share_of_signal(noisy(rng, 8, signal, noise)) for _ in range(200)]
    shares = [share for share, _ in found]
    assert fmean(shares) == pytest.approx(signal / (signal + noise), abs=0.02)
    assert 0.75 < fmean(error for _, error in found) / stdev(shares) < 2

def test_the_first_step_is_that_of_adam(tiny):
    model, _ = tiny
    z = {name: v.clone().requires_grad_() for name, v in random_z(model).items()}
    gradient = torch.randn(sum(v.numel() for v in z.values()), generator=torch.Generator().manual_seed(0))
    expected = after_first_step(z, gradient, 1e-3)
    optimizer = torch.optim.AdamW(z.values(), lr=1e-3, weight_decay=0.0)
    for v, of_weight in zip(z.values(), gradient.split([v.numel() for v in z.values()])):
        v.grad = of_weight
    optimizer.step()
    assert all(torch.allclose(z[name], expected[name], atol=1e-7) for name in z)

def test_a_step_in_nats_is_the_divergence_of_the_two_policies(tiny):
    """By 1,500 answers, against Σ_v π log(π / π_z) over the whole vocabulary at each token of the same."""
    model, _ = tiny
    learner = Learner(model, None, svf, None, Sampling(0.7), None, reinforce)
    before = svf.start(model)
    after = {name: v + 0.02 * torch.randn(v.shape, generator=torch.Generator().manual_seed(1))
             for name, v in before.items()}
    sampling = Sampling(0.7, generator=torch.Generator().manual_seed(0))
    prompts = [[5, 9, 200]] * 1500
    ids, logprobs = generate(model, prompts, Stopping(4), sampling)
    answers = [Answer(*row, "", 1, True) for row in zip(prompts, ids, logprobs)]
    with torch.no_grad():
        old, _ = answer_logprobs(model, answers, learner.sampling)
        with svf.using(model, after):
            new, _ = answer_logprobs(model, answers, learner.sampling)
    exact = (old.exp() * (old - new)).sum().item() / len(answers)
    assert exact > 0.01
    assert nats_between(learner, answers, after) == pytest.approx(exact, rel=0.1)
    assert nats_between(learner, answers, before) == pytest.approx(0.0, abs=1e-5)
