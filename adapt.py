"""Self-adaptation (Transformer², section 3.2, A.4): a first pass finds a mixture, a second pass answers.

(A) prompt: the model is asked which expert a request needs. (B) classifier: the same question under an expert
z_c trained to answer it. (C) few-shot: the cross-entropy method (CEM) searches the weights α on examples with
answers. All three give mixtures, {expert: weight}, and one second pass answers any batch of them. A strategy
is a function and an entry in one of three tables, which say what it looks at: BY_REQUEST, BY_EXAMPLES, or
ALWAYS, for one that looks at nothing.

Where we differ from the paper: the question is answered by the likeliest category name, calibrated on example
requests, not by free text; and CEM begins from what is known, the base model, each expert alone and their
uniform mixture. Where we differ from the authors' code: "other" is the base model, as is α = 0, and elites
are ranked by likelihood where accuracy ties.

    python sample.py --adapt cem
"""
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from model import Sampling, Stopping, generate, read_prompts
from rl import chat_ids, rollout
from svf import mix, using
from tasks.dispatch import DISPATCH, Category, dispatch_problem, other

GREEDY = Sampling(temperature=0.0)
BASE = {"other": 1.0}  # the mixture that is the base model

@dataclass
class Expert:
    """An expert at hand, and what it is there for: its role.

    task      a category of the dispatch question, and a coordinate of CEM
    dispatch  the classifier z_c, which answers nothing but that question
    mixture   what a search found, saved
    supplied  named by the user, from anywhere: it answers, and no more
    """
    z: dict[str, torch.Tensor]  # {weight name: z}
    metadata: dict  # what its file says of it: example requests, the form of its prompts, …
    role: str
    file: Path | None = None

@dataclass
class AdaptiveModel:
    """A model and the experts it can become."""
    model: torch.nn.Module  # wrapped by svf
    tokenizer: object
    experts: dict[str, Expert]  # by name
    transfer: bool = False  # whether experts of another model of the same shape are taken

    def experts_for(self, *roles):
        """{name: z} of the experts with these roles, role by role."""
        return {name: expert.z for role in roles for name, expert in self.experts.items()
                if expert.role == role}

    def task_experts(self):
        return self.experts_for("task")

    def answering(self):
        """All experts but the classifier."""
        return self.experts_for("task", "mixture", "supplied")

    @cached_property
    def categories(self):
        """The categories of the dispatch question: the task experts by name, "other" last."""
        categories = []
        for name in sorted(self.task_experts()):
            metadata = self.experts[name].metadata
            categories.append(Category(name, metadata["examples"], metadata["task"]))
        return [*categories, other()]

    @cached_property
    def dispatch_bias(self):
        return calibrated_bias(self.model, self.tokenizer, self.categories)

# -- (A) and (B): asking which expert a request needs --------------------------------------------------------

def dispatch_ids(tokenizer, categories, request):
    """The question as the model reads it, here and where z_c is trained."""
    return chat_ids(tokenizer, DISPATCH, dispatch_problem(categories, request))

def first_tokens(tokenizer, categories):
    """{token id: category name}, of the token that goes on where the question ends. Raises ValueError where
    two names begin with the same one."""
    question = dispatch_problem(categories, "")
    asked = chat_ids(tokenizer, DISPATCH, question)
    names = {}
    for category in categories:
        answered = replace(question, prefill=f"{question.prefill} {category.name}")
        first = chat_ids(tokenizer, DISPATCH, answered)[len(asked)]
        names[first] = category.name
    if len(names) < len(categories):
        raise ValueError(
            f"two of {[category.name for category in categories]} begin with the same token; rename one")
    return names

def calibration_requests(categories):
    """Example requests that the question does not show, as many of each category."""
    each = min(len(category.examples) for category in categories)
    return [request for category in categories for request in category.examples[1:each]]

@torch.no_grad()
def calibrated_bias(model, tokenizer, categories):
    """The dispatch policy's logit bias (vocab_size,): −∞ but for the categories' first tokens; for these, the
    one with which the base model sends the example requests out in equal shares.

    A model leans to some names whatever is asked; mean_i softmax(log p_i + bias) = 1/K takes that out.
    """
    first = list(first_tokens(tokenizer, categories))
    device = model.tok_embeddings.weight.device
    prompts = [dispatch_ids(tokenizer, categories, request) for request in calibration_requests(categories)]
    with using(model, {}):
        h, _, _ = read_prompts(model, prompts, new_tokens=0)  # (B, dim)
    logp = model.logits(h).float().log_softmax(dim=-1)[:, first]  # (B, K)
    leaning = torch.zeros(len(first), device=device)
    for _ in range(100):  # Sinkhorn's steps: the columns are brought to equal shares, softmax keeps rows at 1
        summed = (logp - leaning).log_softmax(dim=-1).logsumexp(dim=0)  # log of the B shares' sum (K,)
        leaning += math.log(len(first) / len(logp)) + summed
    bias = torch.full((model.args.vocab_size,), -torch.inf, device=device)
    bias[first] = -leaning
    return bias

def dispatch(adaptive, requests, z_c, batch_size=64):
    """One one-hot mixture per request: (A) with z_c = {}, the base model; (B) with the classifier's z."""
    model, tokenizer, categories = adaptive.model, adaptive.tokenizer, adaptive.categories
    names = first_tokens(tokenizer, categories)
    sampling = Sampling(logit_bias=adaptive.dispatch_bias)
    mixtures = []
    with using(model, z_c):
        for start in range(0, len(requests), batch_size):
            prompts = [dispatch_ids(tokenizer, categories, request)
                       for request in requests[start:start + batch_size]]
            ids, _ = generate(model, prompts, Stopping(max_new_tokens=1), sampling)
            mixtures += [{names[answer]: 1.0} for [answer] in ids]
    return mixtures

# -- (C): searching the weights on examples ------------------------------------------------------------------

@dataclass
class Search:
    """The budget of a search."""
    generations: int = 4
    population: int = 12  # members of a generation
    elites: int = 3  # of them, those that the next generation is drawn around; at least 2
    per_block: bool = False  # one α for each expert and block (A.4), not one for each expert
    seed: int = 0
    progress: Callable[[Iterable], Iterable] = iter  # around the generations

def cem(fitness, known, mean, search):
    """The cross-entropy method on α in [0, 1]^dim -> the best α (dim,) of all generations, and its fitness.

    fitness(α (members, dim)) -> a tuple per member, compared from the left, greater is better. The first
    generation holds `known` (m, dim) and members drawn from N(mean, 0.5²); later ones are drawn from the
    elites' mean and unbiased deviation, the best so far counting as a member; all are clamped. No member is
    evaluated twice. One replaces the best only if it is strictly better, so where the fitness cannot tell
    members apart, the first of `known` is returned. Raises ValueError for a fitness of NaN, or one elite.
    """
    if search.elites < 2:
        raise ValueError("a search needs at least 2 elites: one has no deviation")
    dim = known.shape[1]
    mu, sigma = torch.full((dim,), mean), torch.full((dim,), 0.5)
    generator = torch.Generator().manual_seed(search.seed)
    score_of = {}
    best = None
    for generation in search.progress(range(search.generations)):
        drawn = (mu + sigma * torch.randn(search.population, dim, generator=generator)).clamp(0, 1).tolist()
        if generation == 0:
            # `known` takes the place of as many drawn ones
            members = [*known.tolist(), *drawn][:max(search.population, len(known))]
        else:
            members = [best, *drawn]
        # clamping makes corners, such as the base model, come up again and again: each counts once
        members = list(dict.fromkeys(tuple(member) for member in members))
        unknown = [member for member in members if member not in score_of]
        if unknown:
            score_of.update(zip(unknown, fitness(torch.tensor(unknown)), strict=True))
        if any(math.isnan(value) for member in unknown for value in score_of[member]):
            raise ValueError(f"the fitness of a member of generation {generation} is NaN")
        # a stable sort: of members that tie, the first stays first
        ranked = sorted(members, key=score_of.__getitem__, reverse=True)
        best = ranked[0]
        if len(ranked) == 1:
            break  # nothing is left to search
        elite = torch.tensor(ranked[:search.elites])
        mu, sigma = elite.mean(dim=0), elite.std(dim=0)
    return torch.tensor(best), score_of[best]

def mixture_of(names, alpha):
    """{expert: α, or a list of one α per block} from a member's numbers, expert by expert."""
    blocks = len(alpha) // len(names)
    by_expert = [alpha[i:i + blocks] for i in range(0, len(alpha), blocks)]
    return {name: weights[0] if blocks == 1 else weights for name, weights in zip(names, by_expert)}

def fitness_of(answers):
    """(accuracy, mean log-probability per token of the right answers, −∞ if there are none)."""
    likelihoods = [sum(a.logprobs) / len(a.logprobs) for a in answers if a.r > 0]
    if not likelihoods:
        return 0.0, -torch.inf
    return len(likelihoods) / len(answers), sum(likelihoods) / len(likelihoods)

def few_shot_fitness(adaptive, task, shots, alpha):
    """Fitness on the examples of each member of α (members, K), or (members, K · n_layers).

    A generation, members × shots, is one batched generate in which every row carries its own z.
    """
    names = list(adaptive.task_experts())
    mixtures = [mixture_of(names, member) for member in alpha.tolist() for _ in shots]
    answers = second_pass(adaptive, task, shots * len(alpha), mixtures)
    return [fitness_of(answers[i:i + len(shots)]) for i in range(0, len(answers), len(shots))]

def by_cem(adaptive, task, shots, search):
    """The mixture of task experts that answers the shots best (the base model where they cannot tell), and
    the share of them it is right on."""
    names = list(adaptive.task_experts())
    known = torch.cat([torch.zeros(1, len(names)),  # the base model
                       torch.eye(len(names)),  # each expert alone
                       torch.full((1, len(names)), 1 / len(names))])
    if search.per_block:
        known = known.repeat_interleave(adaptive.model.args.n_layers, dim=1)  # (K + 2, K · n_layers)

    def fitness(alpha):
        return few_shot_fitness(adaptive, task, shots, alpha)

    alpha, (right, _) = cem(fitness, known, 1 / len(names), search)
    mixture = mixture_of(names, alpha.tolist())
    if not search.per_block:
        # the base model's share, for whoever reads the mixture: below 0 where Σα > 1, and `mix` does not ask
        mixture["other"] = 1 - alpha.sum().item()
    return mixture, right

# -- strategies, by what they look at ------------------------------------------------------------------------

def by_prompt(adaptive, requests):
    return dispatch(adaptive, requests, z_c={})

def by_classifier(adaptive, requests):
    classifiers = adaptive.experts_for("dispatch")
    if not classifiers:
        raise ValueError("there is no dispatch expert at hand; train one: python train.py --task dispatch")
    [z_c] = classifiers.values()
    return dispatch(adaptive, requests, z_c)

def uniform(adaptive):
    """All task experts in equal parts."""
    names = adaptive.task_experts()
    return {name: 1 / len(names) for name in names}

BY_REQUEST = {"prompt": by_prompt, "classifier": by_classifier}  # (adaptive, requests) -> a mixture for each
BY_EXAMPLES = {"cem": by_cem}  # (adaptive, task, shots, search) -> one mixture for all, share right
ALWAYS = {"uniform": uniform}  # (adaptive) -> one mixture for all

# -- the second pass -----------------------------------------------------------------------------------------

def formatted(problem, mixture, experts):
    """The problem under the system prompt, instruction, solved problems and prefill of the one expert it goes
    to.

    A mix or "other" changes nothing; a prefill that begins with the expert's (a signature behind "```python")
    stays, and so do solved problems where the expert has none.
    """
    if len(mixture) > 1:
        return problem
    [(name, weight)] = mixture.items()
    if weight != 1.0 or name not in experts or experts[name].metadata["kind"] == "mixture":
        return problem
    form = experts[name].metadata
    prefill = problem.prefill if problem.prefill.startswith(form["prefill"]) else form["prefill"]
    solved = tuple(form["solved"]) or problem.solved
    return replace(problem, system=form["system"], instruction=form["instruction"], solved=solved,
                   prefill=prefill)

def all_formatted(problems, mixtures, experts):
    """Each problem as the expert of its mixture reads it."""
    return [formatted(problem, mixture, experts)
            for problem, mixture in zip(problems, mixtures, strict=True)]

def second_pass(adaptive, task, problems, mixtures, on_token=None):
    """Answer each problem greedily under its own mixture, all in one batch -> list[Answer].

    The problems are asked as they are; `formatted` comes first where an expert's own prompt is wanted. One
    mixture for all rows is merged; else every row carries its z, which for "other" is 1.
    """
    alike = all(mixture == mixtures[0] for mixture in mixtures)
    z = mix(adaptive.answering(), mixtures[0] if alike else mixtures)
    with using(adaptive.model, z) as select_rows:
        return rollout(adaptive.model, adaptive.tokenizer, task, problems, GREEDY, select_rows, on_token)
