"""Self-adaptation (Transformer², section 3.2, A.4): a first pass finds a mixture, a second pass answers.

(A) prompt: the model is asked which expert a request needs. (B) classifier: the same question under an expert
z_c trained to answer it. (C) few-shot: the cross-entropy method (CEM) searches the weights α on examples with
answers. All give mixtures, {expert: weight}; one second pass answers any batch of them. Where we differ from
the paper: the question is answered by the likeliest category name, calibrated on empty requests (Zhao et al.
2021), not by free text. From the authors' code: "other" is the base model, as is α = 0, and elites are ranked
by likelihood where accuracy ties.
"""
from dataclasses import replace

import torch

from model import generate, pad
from rl import rollout
from svf import mix, using
from tasks import CONTENT_FREE, OTHER_EXPERT, dispatch_prompt

def dispatch_options(experts, metadata):
    """The categories of the dispatch question: name and example request of each task expert, "other" last."""
    return [{"task": k, "example": metadata[k]["example"]} for k in sorted(experts["task"])] + [OTHER_EXPERT]

def dispatch_ids(tokenizer, options, request):
    return tokenizer.chat([{"role": "user", "content": dispatch_prompt(options, request)}], "Answer:")

@torch.no_grad()
def calibrated_bias(model, tokenizer, options):
    """The dispatch policy's logit bias (vocab_size,): −∞ outside the options' first tokens; there, minus the
    mean log-probability that the base model gives them after requests that say nothing."""
    first = [tokenizer.encode(" " + option["task"])[0] for option in options]
    if len(set(first)) < len(first):
        raise ValueError(f"two of {[o['task'] for o in options]} begin with the same token; rename one")
    device = model.tok_embeddings.weight.device
    tokens, lengths = pad([dispatch_ids(tokenizer, options, text) for text in CONTENT_FREE], device)
    with using(model, {}):
        h = model.hidden(tokens)[torch.arange(len(tokens), device=device), lengths - 1]
    logp = model.logits(h).float().log_softmax(dim=-1).mean(dim=0)  # (vocab_size,)
    bias = torch.full_like(logp, -torch.inf)
    bias[first] = -logp[first]
    return bias

def dispatcher(model, tokenizer, experts, metadata, z_c, batch_size=64):
    """(A) with z_c = {}, (B) with the classifier's z: the function requests -> one one-hot mixture each."""
    options = dispatch_options(experts, metadata)
    bias = calibrated_bias(model, tokenizer, options)
    names = {tokenizer.encode(" " + option["task"])[0]: option["task"] for option in options}

    def dispatch(requests):
        mixtures = []
        with using(model, z_c):
            for start in range(0, len(requests), batch_size):
                prompts = [dispatch_ids(tokenizer, options, r) for r in requests[start:start + batch_size]]
                ids, _ = generate(model, prompts, max_new_tokens=1, stop_ids=(), temperature=0,
                                  logit_bias=bias, share=True)  # all begin with the options
                mixtures += [{names[row[0]]: 1.0} for row in ids]
        return mixtures
    return dispatch

def cem(fitness, dim, *, population, elites, generations, generator, on_generation=lambda generation: None):
    """The cross-entropy method on α in [0, 1]^dim -> the best α (dim,) of all generations, and its fitness.

    fitness(α (population, dim)) -> a tuple a member, compared from the left, greater is better. A generation
    is drawn from N(μ, σ²), at first N(1/dim, 0.5²), then the elites' mean and unbiased deviation, and
    clamped; member 0 is the best so far. Raises ValueError for a fitness of NaN.
    """
    mu, sigma, best, best_score = torch.full((dim,), 1 / dim), torch.full((dim,), 0.5), None, None
    for generation in range(generations):
        alpha = (mu + sigma * torch.randn(population, dim, generator=generator)).clamp(0, 1)
        if best is not None:
            alpha[0] = best
        scores = fitness(alpha)
        if any(value != value for score in scores for value in score):
            raise ValueError(f"the fitness of a member of generation {generation} is NaN")
        ranked = sorted(range(population), key=lambda i: scores[i], reverse=True)
        if best is None or scores[ranked[0]] > best_score:
            best, best_score = alpha[ranked[0]].clone(), scores[ranked[0]]
        mu, sigma = alpha[ranked[:elites]].mean(dim=0), alpha[ranked[:elites]].std(dim=0)
        on_generation(generation)
    return best, best_score

def few_shot_fitness(model, tokenizer, experts, task, shots):
    """fitness for `cem`: (accuracy on the shots, mean log-probability a token of its right answers). A whole
    generation, population × shots, is one batched generate in which every row carries its own z."""
    def fitness(alpha):
        mixtures = [dict(zip(experts, row)) for row in alpha.tolist() for _ in shots]
        with using(model, mix(experts, mixtures)) as keep:
            answers = rollout(model, tokenizer, task, shots * len(alpha), temperature=0, on_keep=keep)
        scores = []
        for i in range(0, len(answers), len(shots)):
            right = [sum(a.logprobs) / len(a.logprobs) for a in answers[i:i + len(shots)] if a.r > 0]
            scores.append((len(right) / len(shots), sum(right) / len(right) if right else -torch.inf))
        return scores
    return fitness

def dressed(problem, mixture, metadata):
    """The problem under the system prompt and prefill of the one expert it goes to; a mix or "other" changes
    nothing, and a prefill that begins with the expert's (a signature behind "```python") stays."""
    expert = metadata.get(next(iter(mixture))) if len(mixture) == 1 else None
    if expert is None:
        return problem
    fits = problem.prefill.startswith(expert["prefill"])
    return replace(problem, system=expert["system"], prefill=problem.prefill if fits else expert["prefill"])

def second_pass(model, tokenizer, experts, task, problems, mixtures, **how):
    """Answer each problem under its own mixture, all in one batch -> list[Answer]; `how` goes on to rollout.

    One mixture for all rows is merged; else every row carries its z, which for "other" is 1.
    """
    alike = all(mixture == mixtures[0] for mixture in mixtures)
    with using(model, mix(experts, mixtures[0] if alike else mixtures)) as keep:
        return rollout(model, tokenizer, task, problems, on_keep=keep, share=alike, **how)
