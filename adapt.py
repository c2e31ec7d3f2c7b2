"""Self-adaptation (Transformer², section 3.2 and appendix A.4): a first pass picks a mixture, a second pass answers.

(A) prompt: the model itself is asked which expert a request needs. (B) classifier: the same question under an expert
z_c that was trained to answer it. (C) few-shot: the cross-entropy method (CEM) searches the mixing weights α on a few
examples with answers. All three give mixtures, {expert: weight}, and one second pass answers any batch of them.

Where we differ from the paper: the dispatch question is answered by the likeliest category name, not by free text;
calibrated against empty requests (Zhao et al. 2021), it always has a readable answer. Where we differ from the
authors' code: "other" is the base model; shots are never scored; α = 0 is the base model and not a division by zero;
elites, too, are ranked by likelihood where accuracy ties.
"""
from dataclasses import replace

import torch

from model import generate, pad
from rl import rollout
from svf import load_expert, mix, using
from tasks import CONTENT_FREE, OTHER_EXPERT, dispatch_prompt


def load_experts(folder, model):
    """Every *.safetensors of a folder, made for this model -> ({name: z}, {name: metadata})."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"there are no experts (*.safetensors) in {folder}; train one: python train.py")
    loaded = {path.stem: load_expert(path, model) for path in paths}
    return {name: z for name, (z, _) in loaded.items()}, {name: metadata for name, (_, metadata) in loaded.items()}


def of_kind(kind, experts, metadata):
    """{name: z} of the experts of one kind; only "task" experts are categories of dispatch and coordinates of CEM."""
    return {name: z for name, z in experts.items() if metadata[name]["kind"] == kind}


# -- (A) and (B): ask ------------------------------------------------------------------------------------------------


def dispatch_options(metadata):
    """The categories, as the dispatch question lists them: task experts by name, "other" last."""
    chosen = {name: m for name, m in metadata.items() if m["kind"] == "task"}
    return [{**chosen[name], "task": name} for name in sorted(chosen)] + [OTHER_EXPERT]


def dispatch_ids(tokenizer, options, requests):
    """The dispatch question about each request as token ids, up to where the category's name follows."""
    return [tokenizer.chat([{"role": "user", "content": dispatch_prompt(options, request)}], "Answer:")
            for request in requests]


@torch.no_grad()
def calibrated_bias(model, tokenizer, options):
    """The dispatch policy's logit bias (vocab_size,): −∞ outside the options' first tokens, and on each the mean
    log-probability that the base model gives it after requests that say nothing, subtracted.

    Raises ValueError if two names begin with the same token.
    """
    first = [tokenizer.encode(" " + option["task"])[0] for option in options]
    if len(set(first)) < len(first):
        raise ValueError(f"two of the experts {', '.join(o['task'] for o in options)} begin with the same token; "
                         "rename one")
    device = model.tok_embeddings.weight.device
    tokens, lengths = pad(dispatch_ids(tokenizer, options, CONTENT_FREE), device)
    with using(model, {}):
        h = model.hidden(tokens)[torch.arange(len(tokens), device=device), lengths - 1]
    logp = model.logits(h).float().log_softmax(dim=-1).mean(dim=0)  # (vocab_size,)
    bias = torch.full_like(logp, -torch.inf)
    bias[first] = -logp[first]
    return bias


def dispatch(model, tokenizer, options, bias, requests, z_c):
    """One one-hot mixture a request: {} for z_c asks the base model (A), z_c the classifier expert (B)."""
    names = {tokenizer.encode(" " + option["task"])[0]: option["task"] for option in options}
    with using(model, z_c):
        ids, _ = generate(model, dispatch_ids(tokenizer, options, requests), max_new_tokens=1, stop_ids=(),
                          temperature=0, logit_bias=bias)
    return [{names[row[0]]: 1.0} for row in ids]


# -- (C): search -----------------------------------------------------------------------------------------------------


def cem(fitness, dim, *, start, population, elites, generations, generator, on_generation=None):
    """The cross-entropy method on α in [0, 1]^dim: the best α (dim,) of all generations, and its fitness.

    fitness(α (population, dim)) -> one tuple a member, greater is better, compared from the left. Each generation is
    drawn from N(μ, σ²), at first N(start, 0.5²), then the mean and unbiased deviation of the elites. Member 0 is the
    best so far. Raises ValueError for a fitness of NaN.
    """
    mu, sigma = torch.full((dim,), start), torch.full((dim,), 0.5)
    best, best_score = None, None
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
        if on_generation is not None:
            on_generation(generation, best, best_score)
    return best, best_score


def mixture_of(alpha, names, n_blocks):
    """α (K · n_blocks,) -> {expert: number}, or {expert: n_blocks numbers}."""
    rows = alpha.view(len(names), n_blocks).tolist()
    return {name: row[0] if n_blocks == 1 else row for name, row in zip(names, rows)}


def few_shot_fitness(model, tokenizer, experts, task, shots, n_blocks, on_token=None):
    """fitness for `cem`: accuracy on the shots, ties broken by how likely a member's own right answers are to it.

    A whole generation, population × shots, is one batched generate in which every row carries its own z.
    """
    def fitness(alpha):
        mixtures = [mixture_of(row, list(experts), n_blocks) for row in alpha for _ in shots]
        with using(model, mix(experts, mixtures)) as keep:
            answers = rollout(model, tokenizer, task, shots * len(alpha), temperature=0, on_keep=keep,
                              on_token=on_token)
        scores = []
        for start in range(0, len(mixtures), len(shots)):
            rows = range(start, start + len(shots))
            right = [sum(answers.logprobs[i]) / len(answers.logprobs[i]) for i in rows if answers.rewards[i] > 0]
            scores.append((len(right) / len(shots), sum(right) / len(right) if right else -torch.inf))
        return scores
    return fitness


def search(model, tokenizer, experts, task, shots, *, per_block, population, elites, generations, seed,
           on_generation=None, on_token=None):
    """(C): the mixture of task experts that answers `shots` best, and its fitness. α starts around 1/K."""
    n_blocks = model.args.n_layers if per_block else 1
    fitness = few_shot_fitness(model, tokenizer, experts, task, shots, n_blocks, on_token)
    alpha, score = cem(fitness, len(experts) * n_blocks, start=1 / len(experts), population=population,
                       elites=elites, generations=generations, generator=torch.Generator().manual_seed(seed),
                       on_generation=on_generation)
    return mixture_of(alpha, list(experts), n_blocks), score


# -- the second pass -------------------------------------------------------------------------------------------------


def dressed(problem, mixture, metadata):
    """The problem under the system prompt and prefill that its expert was trained with, if it goes to one expert.

    A prefill that already begins with the expert's (a function's signature after "```python") stays.
    """
    name, *others = mixture
    if others or name == "other":
        return problem
    expert = metadata[name]
    prefill = problem.prefill if problem.prefill.startswith(expert["prefill"]) else expert["prefill"]
    return replace(problem, system=expert["system"], prefill=prefill)


def second_pass(model, tokenizer, experts, task, problems, mixtures, **how):
    """Answer each problem with its own mixture, all in one batch -> Rollout; `how` goes on to rollout.

    If all rows have the same mixture it is merged; else every row carries its z, which is 1 for "other".
    """
    alike = all(mixture == mixtures[0] for mixture in mixtures)
    with using(model, mix(experts, mixtures[0] if alike else mixtures)) as keep:
        return rollout(model, tokenizer, task, problems, on_keep=keep, **how)
