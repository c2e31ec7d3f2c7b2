"""REINFORCE for z, one vector per weight (Transformer², section 3.2, equation 1).

    J(z) = E[ log π_z(ŷ|x) · (r(ŷ, y) − b) ] − λ KL(π_z ‖ π_1),     r ∈ {−1, +1}

A step: sample answers, score them, follow the gradient. Where we differ from the authors' code:
1. Answers are sampled, not greedy: the gradient is an expectation over π_z.
2. The loss scores the sampled ids, end of turn included, under the weights and temperature that drew them.
   Their text is not tokenized again: it may come back as other ids, which the policy never sampled.
   log π and KL are sums over an answer, means over the batch.
3. KL(π_z ‖ π_1) as the paper writes it (theirs is the reverse), exact over the vocabulary at each sampled
   position. It leaves out how z changes which positions are visited. π_1 is the same model at z = 1: its
   price is one more forward pass without gradient; its weights are there anyway, beside W'.
4. A problem gets several answers, and b is the mean reward of the *other* answers to the same problem (leave
   one out; Kool, van Hoof and Welling 2019). For dispatch, whose answers are one token of a few, b is the
   mean of the other answers of the step. It does not depend on the answer it is subtracted from, and
   E[∇ log π] = 0, so the expected gradient is that of equation 1. Without b, at 10 % right, nine answers in
   ten push their tokens down and drown the tenth; with it, a problem that is answered all right or all
   wrong says nothing.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

import torch
import torch.nn.functional as F

from model import Sampling, Stopping, generate, pad, read_prompts
from svf import Collapse
from tasks.interface import chat_turns

# -- answers and their rewards -------------------------------------------------------------------------------

@dataclass
class Answer:
    prompt: list[int]  # token ids
    ids: list[int]  # sampled token ids, the end of the turn included
    logprobs: list[float]  # of each of them
    text: str
    r: int  # +1 or −1
    finished: bool  # ended by itself; where the cap is one token, it always did

def chat_ids(tokenizer, task, problem):
    """The problem as the model reads it: system prompt, question and instruction, opening of the answer."""
    return tokenizer.chat(chat_turns(task, problem), problem.prefill)

def stopping_of(task, tokenizer):
    """What ends an answer to a problem of the task: the model's end of turn, or the task's own stop text."""

    def is_finished(ids):
        if task.max_new_tokens == 1:
            return True  # a choice, which is whole after its one token
        if not task.stop:
            return False
        # an answer that begins by opening a fenced block of its own is not over there
        return task.stop in tokenizer.decode(ids).lstrip().removeprefix(task.stop)

    return Stopping(task.max_new_tokens, tokenizer.stop_ids, is_finished)

def rollout(model, tokenizer, task, problems, sampling, select_rows=None, on_token=None):
    """list[Problem] -> list[Answer], one to each. An answer that is cut off at the task's cap earns −1."""
    prompts = [chat_ids(tokenizer, task, problem) for problem in problems]
    stopping = stopping_of(task, tokenizer)
    ids, logprobs = generate(model, prompts, stopping, sampling, on_token=on_token, select_rows=select_rows)
    answers = []
    for i, row in enumerate(ids):
        answers.append(Answer(prompts[i], row, logprobs[i], tokenizer.decode(row), r=0,
                              finished=stopping.ends(row)))
    return graded(task, problems, answers)

def graded(task, problems, answers):
    """The answers with what they earn: as the task says, and −1 for one that is cut off."""
    rewards = task.score(problems, [answer.text for answer in answers])
    return [replace(answer, r=r if answer.finished else -1)
            for answer, r in zip(answers, rewards, strict=True)]

def accuracy(answers):
    """Share of answers that earned +1."""
    return sum(a.r > 0 for a in answers) / len(answers)

def finished_share(answers):
    return sum(a.finished for a in answers) / len(answers)

def metrics_of(answers):
    """What there is to say of a step's answers."""
    return {"right": accuracy(answers), "finished": finished_share(answers),
            "tokens": fmean(len(a.ids) for a in answers)}

# -- the gradient of equation 1 ------------------------------------------------------------------------------

def answer_logprobs(model, answers, sampling):
    """log π over the vocabulary where an answer token is predicted: (N, vocab_size) float32 for the N answer
    tokens, answer by answer, and the row (N,) of each."""
    device = model.tok_embeddings.weight.device
    longest = max(len(a.ids) for a in answers)
    h, cache, lengths = read_prompts(model, [a.prompt for a in answers], longest - 1)
    h = h[:, None]  # (B, 1, dim): a prompt's last token predicts the answer's first
    if longest > 1:
        # the last token of an answer predicts nothing that is scored
        tokens, _ = pad([a.ids[:-1] for a in answers], device)  # (B, longest − 1)
        behind = model.hidden_after_cache(tokens, cache, lengths, in_use=cache[0][0].shape[2])
        h = torch.cat([h, behind], dim=1)  # (B, longest, dim)
    where = [(row, t) for row, a in enumerate(answers) for t in range(len(a.ids))]
    rows, columns = torch.tensor(where, device=device).T
    logits = model.logits(h[rows, columns]).float()  # (N, vocab_size)
    if sampling.logit_bias is not None:
        logits = logits + sampling.logit_bias
    return F.log_softmax(logits / sampling.temperature, dim=-1), rows

def policy_loss(logp, ids, rows, advantages, lam, ref_logp):
    """−J, and the sum of the KLs, from log π (N, V), ids and rows (N,), r − b (B,), λ, log π_1 (N, V).

    r − b and λ come divided by the number of answers in the step, since J is their mean.
    """
    chosen = logp.gather(1, ids[:, None])[:, 0]  # (N,)
    loss = -(chosen * advantages[rows]).sum()  # −Σ_rows (r − b) Σ_t log π_z(ŷ_t)
    if ref_logp is None:
        return loss, torch.zeros(())
    # Σ_t Σ_v π_z log(π_z / π_1); where both are 0 (a logit bias of −∞), 0 and not 0 · (∞ − ∞)
    kl = (logp.exp() * torch.where(logp > -torch.inf, logp - ref_logp, 0.0)).sum()
    return loss + lam * kl, kl.detach()

def leave_one_out(rewards, group):
    """r − b of each answer; b is the mean of the others in its group: `group` neighbours, of one problem.

    [1, −1, −1, −1], 4  ->  [2, −2/3, −2/3, −2/3]
    """
    advantages = []
    for start in range(0, len(rewards), group):
        of_problem = rewards[start:start + group]
        advantages += [r - (sum(of_problem) - r) / (group - 1) for r in of_problem]
    return advantages

def leave_one_out_of_all(rewards, group):
    """The same where b is the mean of all other answers of the step, whatever problem they are to."""
    return leave_one_out(rewards, len(rewards))

def baseline_of(group):
    """How advantages are taken where a problem has `group` answers: one alone has no others beside it."""
    return leave_one_out if group > 1 else leave_one_out_of_all

def accumulate_gradient(learner, answers, advantages, sampling):
    """−dJ/dz of all answers into z.grad, within `adapter.using(model, z)` -> mean KL of an answer."""
    model, settings = learner.model, learner.settings
    n = len(answers)
    rows = list(range(n))
    if settings.lam == 0:
        rows = [i for i in rows if advantages[i] != 0]  # the others add nothing
    # answers to one problem side by side, whose prompt is then read once, and like lengths: little padding
    rows.sort(key=lambda i: (len(answers[i].prompt), answers[i].prompt, len(answers[i].ids)))
    kl_sum = 0.0
    for start in range(0, len(rows), settings.micro_batch):
        in_batch = rows[start:start + settings.micro_batch]
        batch = [answers[i] for i in in_batch]
        ref_logp = None
        if settings.lam > 0:
            with torch.no_grad(), learner.adapter.using(model, {}):
                ref_logp, _ = answer_logprobs(model, batch, sampling)
        logp, row_of_token = answer_logprobs(model, batch, sampling)
        ids = torch.tensor([token for a in batch for token in a.ids], device=logp.device)
        share = torch.tensor([advantages[i] / n for i in in_batch], device=logp.device)
        loss, kl = policy_loss(logp, ids, row_of_token, share, settings.lam / n, ref_logp)
        loss.backward()
        kl_sum += kl.item()
    return kl_sum / n

# -- a learner, and one update of z --------------------------------------------------------------------------

@dataclass
class Settings:
    steps: int  # updates of z
    n_problems: int  # of a step
    group: int  # sampled answers to each of them
    micro_batch: int  # answers in one forward and backward pass
    lr: float
    lam: float  # λ of the KL
    seed: int
    eval_every: int  # steps between validations

def descend(z, optimizer):
    """One step of the optimizer along −z.grad, clipped to norm 1 -> the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(z.values(), 1.0).item()
    optimizer.step()
    optimizer.zero_grad()
    return norm

@dataclass
class Learner:
    """Who learns what, and how: a model under an adapter, by the rewards of a task.

    `improve`, `advantages` and `descend` are where other ways to learn plug in. `improve` is one update of z,
    from the problems of a step to what there is to say of it; what it draws, it draws from `generator`. It
    takes r − b from `advantages` and ends in `descend`, once or (as PPO would) several times, outside of any
    `using` block. Several processes learn together by wrapping these three (parallel/data.py).
    """
    model: torch.nn.Module
    tokenizer: object
    adapter: object  # svf, or another module with `start` and `using`
    task: object
    sampling: Sampling  # of the rollouts; its temperature is above 0
    settings: Settings
    improve: Callable  # (learner, z, optimizer, problems, generator) -> metrics: `reinforce`, or another
    advantages: Callable = leave_one_out  # (rewards, group) -> r − b of each answer
    descend: Callable = descend  # (z, optimizer) -> norm of the gradient
    on_token: Callable | None = None  # (row, id), sees each token that is sampled in training

def reinforce(learner, z, optimizer, problems, generator):
    """One update of z by equation 1: sample answers under z, score them, follow the gradient."""
    settings = learner.settings
    problems = [problem for problem in problems for _ in range(settings.group)]
    sampling = replace(learner.sampling, generator=generator)
    with learner.adapter.using(learner.model, z):
        answers = rollout(learner.model, learner.tokenizer, learner.task, problems, sampling,
                          on_token=learner.on_token)
        advantages = learner.advantages([a.r for a in answers], settings.group)
        kl = accumulate_gradient(learner, answers, advantages, learner.sampling)
    metrics = metrics_of(answers)
    metrics["telling"] = fmean(advantage != 0 for advantage in advantages)  # share that says something
    if settings.lam > 0:
        metrics["kl"] = kl
    metrics["grad_norm"] = learner.descend(z, optimizer)
    return metrics

# -- training ------------------------------------------------------------------------------------------------

def learning_rate(settings, step):
    """Cosine decay from lr at step 1 to almost 0 at the last."""
    return settings.lr * (1 + math.cos(math.pi * (step - 1) / settings.steps)) / 2

def distance(z, start):
    """Root of the mean square change of all numbers in z since `start`."""
    changes = [(z[name].detach() - start[name]).flatten() for name in z]
    return torch.cat(changes).square().mean().sqrt().item()

def seed_of_step(settings, step):
    """Of the step alone, so that a resumed run repeats it."""
    return settings.seed * 1_000_003 + step

def train_step(learner, z, optimizer, step):
    """Step number `step` of training -> what there is to say of it. Raises Collapse where z is lost."""
    settings = learner.settings
    step_seed = seed_of_step(settings, step)
    problems = learner.task.problems("train", settings.n_problems, step_seed)
    generator = torch.Generator(learner.model.tok_embeddings.weight.device).manual_seed(step_seed)
    optimizer.param_groups[0]["lr"] = learning_rate(settings, step)
    metrics = learner.improve(learner, z, optimizer, problems, generator)
    metrics["z_change"] = distance(z, learner.adapter.start(learner.model))
    if not math.isfinite(metrics["z_change"]):
        raise Collapse(f"step {step} brought a z that is not finite; lower --lr")
    return metrics

def train_expert(learner, state, validate):
    """Training from `state` ({} begins at the base model); yields the metrics of step 0, 1, … to the last.

    Step 0 is the base model's validation. `state` is updated before each yield and holds all that a run needs
    to go on: saved and handed in again it ends, on a CPU bit for bit, where an unbroken run does.
    validate(z) -> accuracy, z = {} being the base model; the best z is state["best"]. No run ends early, as
    validation may rise only once the rate has gone down.
    """
    settings = learner.settings
    is_new = not state
    begin = learner.adapter.start(learner.model) if is_new else state["z"]
    z = {name: v.clone().requires_grad_() for name, v in begin.items()}
    # AdamW's decay would pull z to 0, and the base model is at 1
    optimizer = torch.optim.AdamW(z.values(), lr=settings.lr, weight_decay=0.0)
    if not is_new:
        optimizer.load_state_dict(state["optimizer"])
    first = 0 if is_new else state["step"] + 1
    for step in range(first, settings.steps + 1):
        metrics = {"step": step}
        if step > 0:
            metrics |= train_step(learner, z, optimizer, step)
        now = {name: v.detach().clone() for name, v in z.items()}
        state.update(step=step, z=now, optimizer=optimizer.state_dict())
        if step % settings.eval_every == 0 or step == settings.steps:
            metrics["val_accuracy"] = validate(now if step > 0 else {})
            if metrics["val_accuracy"] > state.get("best_accuracy", -1.0):
                state.update(best=now, best_step=step, best_accuracy=metrics["val_accuracy"])
        yield metrics
