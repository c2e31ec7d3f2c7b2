"""Evolution strategies (ES): z learned from the same rewards without a gradient through the model.

    ε_i ~ N(0, I),   F_i = mean reward of greedy answers under z + σ ε_i
    −∇J(z) ≈ −1/(P σ) Σ_i (F_i − F̄) ε_i

A whole population is one batched `generate`, in which every row carries the z of its member. Members come in
mirrored pairs, ε and −ε (Salimans et al. 2017), and all answer the same problems. The update is that of
REINFORCE: AdamW, clipping and schedule stay. σ is as large as thirteen updates of z at the default rate:
below, greedy answers rarely change.

    python -m scripts.train --task math --learner es
"""
from dataclasses import replace

import torch

from rl import metrics_of, rollout

POPULATION = 16  # members; as many answers to each problem
SIGMA = 0.02

def minus_gradient(F, noise):
    """−∇J(z) from the rewards F (P,) of the members and their noise {name: ε (P, r)} -> {name: (r,)}."""
    weights = (F - F.mean()) / (len(F) * SIGMA)
    return {name: -weights.to(epsilon.device) @ epsilon for name, epsilon in noise.items()}

def evolve(learner, z, optimizer, problems, generator):
    """One update of z (svf only) along the estimate of ∇J from a population around it, whose members all
    answer the same problems."""
    noise, rows = {}, {}
    for name, v in z.items():
        half = torch.randn(POPULATION // 2, len(v), generator=generator, device=v.device)
        noise[name] = torch.cat([half, -half])  # (P, r)
        members = v.detach() + SIGMA * noise[name]
        rows[name] = members.repeat_interleave(len(problems), dim=0)[:, None]  # (P · problems, 1, r)
    greedy = replace(learner.sampling, temperature=0.0)
    with learner.adapter.using(learner.model, rows) as select_rows:
        answers = rollout(learner.model, learner.tokenizer, learner.task, problems * POPULATION, greedy,
                          select_rows, learner.on_token)
    F = torch.tensor([float(a.r) for a in answers]).view(POPULATION, -1).mean(dim=1)  # (P,)
    tells = bool((F != F[0]).any())
    if tells:  # else z is left without a gradient: by one of 0 AdamW would still move it
        for name, gradient in minus_gradient(F, noise).items():
            z[name].grad = gradient
    metrics = metrics_of(answers)
    metrics["telling"] = float(tells)
    metrics["grad_norm"] = learner.descend(z, optimizer)
    return metrics
