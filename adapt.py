"""Self-adaptation (Transformer², section 3.2, A.4): a first pass finds a mixture, a second pass answers.

(A) prompt: the model is asked which expert a request needs. (B) classifier: the same question under an expert
z_c trained to answer it. (C) few-shot: the cross-entropy method (CEM) searches the weights α on examples with
answers. All three give one mixture per problem, {expert: weight}, and one second pass answers any batch of
them. A strategy is a function and an entry in STRATEGIES; sample.py and eval.py read that table.

Where we differ from the paper: the question is answered by the likeliest category name, calibrated on example
requests, not by free text; and CEM begins from what is known, the base model, each expert alone and their
uniform mixture. Where we differ from the authors' code: "other" is the base model, as is α = 0, and elites
are ranked by likelihood where accuracy ties.

    python sample.py --adapt cem
"""
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch

from formats.experts import Experts
from model import Sampling, Stopping, common_prefix_length, generate, pad
from rl import chat_ids, rollout
from svf import mix, using
from tasks.dispatch import Category, dispatch_problem, dispatch_task, other
from tasks.interface import Task

GREEDY = Sampling(temperature=0.0)
BASE = {"other": 1.0}  # the mixture that is the base model

@dataclass
class AdaptiveModel:
    """A model and the experts it can become."""
    model: torch.nn.Module  # wrapped by svf
    tokenizer: object
    experts: Experts
    biases: dict = field(default_factory=dict)  # {names of categories: the bias of their dispatch}

    def dispatch_bias(self, categories):
        """calibrated_bias, computed once for the experts at hand."""
        names = tuple(category.name for category in categories)
        if names not in self.biases:
            self.biases[names] = calibrated_bias(self.model, self.tokenizer, categories)
        return self.biases[names]

# -- (A) and (B): asking which expert a request needs --------------------------------------------------------

def categories_of(experts):
    """The categories of the dispatch question: the task experts by name, "other" last."""
    categories = []
    for name in sorted(experts.task):
        metadata = experts.metadata[name]
        categories.append(Category(name, metadata["examples"], metadata["task"]))
    return [*categories, other()]

def dispatch_ids(tokenizer, categories, request):
    """The question as the model reads it, here and where z_c is trained."""
    return chat_ids(tokenizer, dispatch_task(categories), dispatch_problem(categories, request))

def first_tokens(tokenizer, categories):
    """{token id: category name}, of the token that goes on where the question ends. Raises ValueError where
    two names begin with the same one."""
    question, task = dispatch_problem(categories, ""), dispatch_task(categories)
    asked = chat_ids(tokenizer, task, question)
    names = {}
    for category in categories:
        answered = replace(question, prefill=f"{question.prefill} {category.name}")
        first = chat_ids(tokenizer, task, answered)[len(asked)]
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
    tokens, lengths = pad(prompts, device)
    prefix_length = common_prefix_length(prompts)
    last = torch.arange(len(tokens), device=device), lengths - 1 - prefix_length
    with using(model, {}):
        h = model.hidden_sharing_prefix(tokens, prefix_length)[last]  # (B, dim)
    logp = model.logits(h).float().log_softmax(dim=-1)[:, first]  # (B, K)
    leaning = torch.zeros(len(first), device=device)
    for _ in range(100):
        summed = (logp - leaning).log_softmax(dim=-1).logsumexp(dim=0)  # log of the B shares' sum (K,)
        leaning += math.log(len(first) / len(logp)) + summed
    bias = torch.full((model.args.vocab_size,), -torch.inf, device=device)
    bias[first] = -leaning
    return bias

def dispatch(adaptive, requests, z_c, batch_size=64):
    """One one-hot mixture per request: (A) with z_c = {}, the base model; (B) with the classifier's z."""
    model, tokenizer = adaptive.model, adaptive.tokenizer
    categories = categories_of(adaptive.experts)
    names = first_tokens(tokenizer, categories)
    sampling = Sampling(logit_bias=adaptive.dispatch_bias(categories))
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

@dataclass
class FewShot:
    """The examples that a search looks at, and how it searches."""
    task: Task | None = None  # the examples are problems of its split `val`
    shots: int = 10
    per_block: bool = False  # one α for each expert and block (A.4), not one for each expert
    search: Search = field(default_factory=Search)  # its seed draws the examples, too
    say: Callable[[str], None] = print  # what the search found, in a line

    def examples(self):
        """The problems that the search looks at: `shots` of them, or all where there are fewer."""
        return self.task.problems("val", self.shots, self.search.seed)

def mixture_of(names, alpha):
    """{expert: α, or a list of one α per block} from a member's numbers, expert by expert."""
    blocks = len(alpha) // len(names)
    by_expert = [alpha[i:i + blocks] for i in range(0, len(alpha), blocks)]
    return {name: weights[0] if blocks == 1 else weights for name, weights in zip(names, by_expert)}

@dataclass
class FewShotFitness:
    """Fitness for `cem`: (accuracy on the shots, mean log-probability per token of its right answers).

    A generation, members × shots, is one batched generate in which every row carries its own z.
    """
    adaptive: AdaptiveModel
    task: Task
    shots: list

    def __call__(self, alpha):
        names = list(self.adaptive.experts.task)
        mixtures = [mixture_of(names, member) for member in alpha.tolist() for _ in self.shots]
        answers = second_pass(self.adaptive, self.task, self.shots * len(alpha), mixtures)
        return [self.score(answers[i:i + len(self.shots)]) for i in range(0, len(answers), len(self.shots))]

    def score(self, answers):
        likelihoods = [sum(a.logprobs) / len(a.logprobs) for a in answers if a.r > 0]
        if not likelihoods:
            return 0.0, -torch.inf
        return len(likelihoods) / len(answers), sum(likelihoods) / len(likelihoods)

def search_mixture(adaptive, few_shot):
    """The mixture of task experts that answers the shots best; the base model where they cannot tell."""
    names = list(adaptive.experts.task)
    shots = few_shot.examples()
    known = torch.cat([torch.zeros(1, len(names)),  # the base model
                       torch.eye(len(names)),  # each expert alone
                       torch.full((1, len(names)), 1 / len(names))])
    if few_shot.per_block:
        known = known.repeat_interleave(adaptive.model.args.n_layers, dim=1)  # (K + 2, K · n_layers)
    fitness = FewShotFitness(adaptive, few_shot.task, shots)
    alpha, (right, _) = cem(fitness, known, 1 / len(names), few_shot.search)
    if right == 0:
        few_shot.say(f"the {len(shots)} examples cannot tell: no candidate is right on any of them, so the "
                     "base model answers")
    elif not alpha.any():
        few_shot.say(f"no candidate beats the base model on the {len(shots)} examples, so it answers")
    else:
        few_shot.say(f"the best candidate is right on {100 * right:.0f} % of {len(shots)} examples")
    mixture = mixture_of(names, alpha.tolist())
    if not few_shot.per_block:
        mixture["other"] = 1 - alpha.sum().item()  # the base model's share
    return mixture

# -- strategies: (adaptive model, problems, few-shot settings) -> one mixture per problem --------------------

def by_prompt(adaptive, problems, few_shot):
    return dispatch(adaptive, [problem.prompt for problem in problems], z_c={})

def by_classifier(adaptive, problems, few_shot):
    if not adaptive.experts.dispatch:
        raise ValueError("there is no dispatch expert at hand; train one: python train.py --task dispatch")
    [z_c] = adaptive.experts.dispatch.values()
    return dispatch(adaptive, [problem.prompt for problem in problems], z_c)

def by_cem(adaptive, problems, few_shot):
    return [search_mixture(adaptive, few_shot)] * len(problems)

@dataclass
class Strategy:
    first_pass: Callable
    needs_examples: bool = False  # looks at them, not at the problems: found once, it serves all problems
    dispatches: bool = False  # sends each request to one expert; eval.py --dispatch counts to which
    needs_classifier: bool = False

STRATEGIES = {"prompt": Strategy(by_prompt, dispatches=True),
              "classifier": Strategy(by_classifier, dispatches=True, needs_classifier=True),
              "cem": Strategy(by_cem, needs_examples=True)}

def strategies_with(experts):
    """The strategies that these experts allow."""
    return {name: strategy for name, strategy in STRATEGIES.items()
            if experts.dispatch or not strategy.needs_classifier}

# -- the second pass -----------------------------------------------------------------------------------------

def dressed(problem, mixture, metadata):
    """The problem under the system prompt, instruction and prefill of the one expert it goes to.

    A mix or "other" changes nothing; a prefill that begins with the expert's (a signature behind "```python")
    stays.
    """
    if len(mixture) > 1:
        return problem
    [(name, weight)] = mixture.items()
    if weight != 1.0 or name not in metadata or metadata[name]["kind"] == "mixture":
        return problem
    expert = metadata[name]
    prefill = problem.prefill if problem.prefill.startswith(expert["prefill"]) else expert["prefill"]
    return replace(problem, system=expert["system"], instruction=expert["instruction"], prefill=prefill)

def all_dressed(problems, mixtures, metadata):
    """Each problem as the expert of its mixture reads it."""
    return [dressed(problem, mixture, metadata) for problem, mixture in zip(problems, mixtures, strict=True)]

def second_pass(adaptive, task, problems, mixtures, on_token=None):
    """Answer each problem greedily under its own mixture, all in one batch -> list[Answer].

    One mixture for all rows is merged; else every row carries its z, which for "other" is 1.
    """
    alike = all(mixture == mixtures[0] for mixture in mixtures)
    z = mix(adaptive.experts.answering(), mixtures[0] if alike else mixtures)
    with using(adaptive.model, z) as select_rows:
        return rollout(adaptive.model, adaptive.tokenizer, task, problems, GREEDY, select_rows, on_token)
