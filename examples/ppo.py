"""A way to learn of your own: PPO's clipped update (Schulman et al. 2017), two passes over each batch.

    ratio_t = π_z(ŷ_t) / π_old(ŷ_t),   J = Σ_t min(ratio_t · (r − b), clip(ratio_t, 1 ± CLIP) · (r − b))

π_old is the policy that sampled, whose log-probabilities came with the answers. In the first pass all ratios
are 1, and the gradient is REINFORCE's; the second goes on until a token's ratio leaves the clip. W' is merged
anew for each pass. Nothing in the six files is changed: `improve` takes reinforce's place in the learner.

    python -m examples.ppo --task math --rollouts 64 --lr 2e-3
"""
from dataclasses import replace
from statistics import fmean

import torch

import train
from harness.flags import run_main
from harness.report import say_what_is_next
from harness.runs import open_run
from rl import answer_logprobs, metrics_of, rollout

PASSES, CLIP = 2, 0.2

def clipped_loss(ratio, advantages):
    """−J of tokens, from their ratios and r − b (N,)."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages).sum()

def follow_batch(learner, z, answers, advantages):
    """−dJ/dz of all answers into z.grad, under the z of now."""
    step = learner.settings.micro_batch
    with learner.adapter.using(learner.model, z):
        for first in range(0, len(answers), step):
            batch = answers[first:first + step]
            logp, rows = answer_logprobs(learner.model, batch, learner.sampling)
            ids = torch.tensor([token for a in batch for token in a.ids], device=logp.device)
            old = torch.tensor([lp for a in batch for lp in a.logprobs], device=logp.device)
            share = torch.tensor(advantages[first:first + step], device=logp.device)[rows] / len(answers)
            ratio = (logp.gather(1, ids[:, None])[:, 0] - old).exp()
            clipped_loss(ratio, share).backward()

def improve(learner, z, optimizer, problems, generator):
    """PASSES updates of z from one batch of answers."""
    group = learner.settings.group
    problems = [problem for problem in problems for _ in range(group)]
    sampling = replace(learner.sampling, generator=generator)
    with learner.adapter.using(learner.model, z):
        answers = rollout(learner.model, learner.tokenizer, learner.task, problems, sampling,
                          on_token=learner.on_token)
    advantages = learner.advantages([a.r for a in answers], group)
    metrics = metrics_of(answers) | {"telling": fmean(a != 0 for a in advantages)}
    for _ in range(PASSES):
        follow_batch(learner, z, answers, advantages)
        metrics["grad_norm"] = learner.descend(z, optimizer)
    return metrics

def main():
    config = train.read_config(doc=__doc__)
    if config.kl > 0:
        raise ValueError("--kl has no part in this PPO, whose clip holds z near the policy that sampled")
    run = open_run(config)
    learner = replace(train.make_learner(config), improve=improve)
    expert, example = train.make_expert(run, learner)
    say_what_is_next(config, expert, run.log, example)

if __name__ == "__main__":
    run_main(main)
