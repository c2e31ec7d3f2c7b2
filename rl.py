"""REINFORCE for one vector z (Transformer², section 3.2, equation 1).

    J(z) = E[ log π_z(ŷ|x) · (r(ŷ, y) − b) ] − λ KL(π_z ‖ π_1),     r ∈ {−1, +1}

A step: sample answers, score them, follow the gradient. Where we differ from the authors' code:
1. Answers are sampled, not greedy: the gradient is an expectation over π_z.
2. The loss scores the sampled ids, end of turn included, under the weights and temperature that drew them.
   Their text is not tokenized again: it may come back as other ids, which the policy never sampled.
   log π and KL are sums over an answer, means over the batch.
3. KL(π_z ‖ π_1) as the paper writes it (theirs is the reverse), exact over the vocabulary at each sampled
   position. It leaves out how z changes which positions are visited. π_1 is the same model at z = 1.
4. A problem gets several answers, and b is the mean reward of the *other* answers to the same problem (leave
   one out; Kool, van Hoof and Welling 2019). For dispatch, whose answers are one token of a few, b is the
   mean of the other answers of the step. It does not depend on the answer it is subtracted from, and
   E[∇ log π] = 0, so the expected gradient is that of equation 1. Without b, at 10 % right, nine answers in
   ten push their tokens down and drown the tenth; with it, a problem that is answered all right or all
   wrong says nothing.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F

import parallel
from model import Sampling, Stopping, common_prefix_length, generate, pad
from svf import Collapse

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
    system = task.system if problem.system is None else problem.system
    instruction = task.instruction if problem.instruction is None else problem.instruction
    question = f"{problem.prompt} {instruction}" if instruction else problem.prompt
    turns = [*problem.history, {"role": "user", "content": question, "image": problem.image}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    return tokenizer.chat(turns, problem.prefill)

def stopping_of(task, tokenizer):
    """What ends an answer to a problem of the task: the model's end of turn, or the task's own stop text."""

    def is_finished(ids):
        if task.max_new_tokens == 1:
            return True  # a choice, which is whole after its one token
        # the last four tokens: a stop text like ``` may be cut into several
        if not task.stop or task.stop not in tokenizer.decode(ids[-4:]):
            return False
        # an answer that begins by opening a fenced block of its own is not over there
        return task.stop in tokenizer.decode(ids).lstrip().removeprefix(task.stop)

    return Stopping(task.max_new_tokens, tokenizer.stop_ids, is_finished)

def rollout(model, tokenizer, task, problems, sampling, select_rows=None, on_token=None):
    """list[Problem] -> list[Answer], one to each. An answer that is cut off at the task's cap earns −1."""
    prompts = [chat_ids(tokenizer, task, problem) for problem in problems]
    stopping = stopping_of(task, tokenizer)
    ids, logprobs = generate(model, prompts, stopping, sampling, on_token, select_rows)
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
    """What a step's line says of sampled answers."""
    return {"right": accuracy(answers), "finished": finished_share(answers),
            "tokens": sum(len(a.ids) for a in answers) / len(answers)}

# -- the gradient of equation 1 ------------------------------------------------------------------------------

def answer_logprobs(model, answers, sampling):
    """log π over the vocabulary where an answer token is predicted: (N, vocab_size) float32 for the N answer
    tokens, answer by answer, and the row (N,) of each."""
    # the last token of a row predicts nothing that is scored
    tokens, _ = pad([(a.prompt + a.ids)[:-1] for a in answers], model.tok_embeddings.weight.device)
    prefix_length = common_prefix_length([a.prompt for a in answers])
    where = [(row, len(a.prompt) - 1 + t) for row, a in enumerate(answers) for t in range(len(a.ids))]
    rows, columns = torch.tensor(where, device=tokens.device).T
    h = model.hidden_sharing_prefix(tokens, prefix_length)  # (B, T − prefix_length, dim)
    logits = model.logits(h[rows, columns - prefix_length]).float()  # (N, vocab_size)
    if sampling.logit_bias is not None:
        logits = logits + sampling.logit_bias
    return F.log_softmax(logits / sampling.temperature, dim=-1), rows

def policy_loss(logp, ids, rows, advantages, lam, ref_logp):
    """−J, and the sum of the KLs, from log π (N, V), ids and rows (N,), r − b (B,), λ, log π_1 (N, V).

    r − b and λ come divided by the number of answers in the step.
    """
    chosen = logp.gather(1, ids[:, None])[:, 0]  # (N,)
    loss = -(chosen * advantages[rows]).sum()  # −Σ_rows (r − b) Σ_t log π_z(ŷ_t)
    if ref_logp is None:
        return loss, torch.zeros(())
    # Σ_t Σ_v π_z log(π_z / π_1); where both are 0 (a logit bias of −∞), 0 and not 0 · (∞ − ∞)
    kl = (logp.exp() * torch.where(logp > -torch.inf, logp - ref_logp, 0.0)).sum()
    return loss + lam * kl, kl.detach()

def leave_one_out(rewards, group):
    """r − b of each answer; b is the mean of the others in its group: `group` neighbours, of one problem, or,
    where each problem has one answer, the whole batch.

    [1, −1, −1, −1], 4  ->  [2, −2/3, −2/3, −2/3]
    """
    if group == 1:
        group = len(rewards)
    advantages = []
    for start in range(0, len(rewards), group):
        of_problem = rewards[start:start + group]
        advantages += [r - (sum(of_problem) - r) / (group - 1) for r in of_problem]
    return advantages

def accumulate_gradient(model, adapter, answers, advantages, sampling, settings):
    """−dJ/dz of all answers into z.grad, within `adapter.using(model, z)` -> mean KL of an answer."""
    n, lam = len(answers), settings.lam
    rows = list(range(n))
    if lam == 0:
        rows = [i for i in rows if advantages[i] != 0]  # the others add nothing
    rows.sort(key=lambda i: len(answers[i].prompt) + len(answers[i].ids))  # like lengths: little padding
    kl_sum = 0.0
    for start in range(0, len(rows), settings.micro_batch):
        in_batch = rows[start:start + settings.micro_batch]
        batch = [answers[i] for i in in_batch]
        ref_logp = None
        if lam > 0:
            with torch.no_grad(), adapter.using(model, {}):
                ref_logp, _ = answer_logprobs(model, batch, sampling)
        logp, row_of_token = answer_logprobs(model, batch, sampling)
        ids = torch.tensor([token for a in batch for token in a.ids], device=logp.device)
        share = torch.tensor([advantages[i] / n for i in in_batch], device=logp.device)
        loss, kl = policy_loss(logp, ids, row_of_token, share, lam / n, ref_logp)
        loss.backward()
        kl_sum += kl.item()
    return kl_sum / n

# -- training ------------------------------------------------------------------------------------------------

@dataclass
class Settings:
    steps: int  # updates of z
    rollouts: int  # sampled answers per step
    group: int  # of them, answers to the same problem
    micro_batch: int  # answers in one forward and backward pass
    lr: float
    lam: float  # λ of the KL
    seed: int
    eval_every: int  # steps between validations
    patience: int  # validations without a better one before training stops

@dataclass
class Learner:
    """Who learns what: a model under an adapter (svf or another), by the rewards of a task."""
    model: torch.nn.Module
    tokenizer: object
    adapter: object  # a module with `start` and `using`
    task: object
    sampling: Sampling  # of the rollouts; its temperature is above 0
    settings: Settings
    gradient: Callable  # (learner, z, step, on_token) -> metrics, and −dJ/dz in z.grad: reinforce, or another
    shares: parallel.Shares = field(default_factory=parallel.Shares)  # where several processes learn together

    def problems(self, step, n):
        """This process's share of n problems to train on, and a generator of random numbers. They depend on
        (seed, step) alone, so a resumed run repeats its answers."""
        step_seed = self.settings.seed * 1_000_003 + step
        generator = torch.Generator(self.model.tok_embeddings.weight.device)
        generator.manual_seed(step_seed + 10 ** 12 * self.shares.mine)
        return self.shares.of(self.task.problems("train", n, step_seed)), generator

def learning_rate(settings, step):
    """Cosine decay from lr at step 1 to almost 0 at the last."""
    return settings.lr * (1 + math.cos(math.pi * (step - 1) / settings.steps)) / 2

def distance(z, start):
    """Root of the mean square change of all numbers in z since `start`."""
    changes = [(z[name].detach() - start[name]).flatten() for name in z]
    return torch.cat(changes).square().mean().sqrt().item()

def warning_of(answers, advantages):
    """The usual reasons why a step teaches nothing, or the wrong thing, in a few words; "" if all is well."""
    if not any(advantages):
        return "nothing to learn: all answers to a problem earn the same (task too hard or too easy?)"
    if finished_share(answers) < 0.2:
        return "most answers run into the cap, which earns -1 (prompt without a form, or z too far?)"
    return ""

def reinforce(learner, z, step, on_token):
    """The gradient of equation 1, from answers sampled under z."""
    settings = learner.settings
    problems, generator = learner.problems(step, settings.rollouts // settings.group)
    problems = [problem for problem in problems for _ in range(settings.group)]
    sampling = replace(learner.sampling, generator=generator)
    with learner.adapter.using(learner.model, z):
        answers = rollout(learner.model, learner.tokenizer, learner.task, problems, sampling,
                          on_token=on_token)
        shares = learner.shares.gather(answers)
        answers = shares[learner.shares.mine]
        everyones = [answer for share in shares for answer in share]
        advantages = leave_one_out([a.r for a in everyones], settings.group)
        first = sum(len(share) for share in shares[:learner.shares.mine])  # where this process's begin
        kl = accumulate_gradient(learner.model, learner.adapter, answers,
                                 advantages[first:first + len(answers)], learner.sampling, settings)
    parallel.add_up_gradients(z, weight=len(answers) / len(everyones))
    metrics = metrics_of(everyones)
    if settings.lam > 0:
        metrics["kl"] = sum(learner.shares.joined([kl])) / learner.shares.n
    warning = warning_of(everyones, advantages)
    if warning:
        metrics["warning"] = warning
    return metrics

def gold_answers(tokenizer, task, problems):
    """The gold answers of problems, as if the model had sampled them."""
    end_of_turn = None if task.stop else tokenizer.end_of_turn()
    answers = []
    for problem in problems:
        if task.stop:  # a program goes on where its prefill ends
            ids = tokenizer.encode(f"{problem.gold.removesuffix(task.stop).rstrip()}\n{task.stop}")
        else:
            space = " " if problem.prefill[-1:].isalnum() or problem.prefill.endswith(":") else ""
            ids = [*tokenizer.encode(space + problem.gold), end_of_turn]
        prompt = chat_ids(tokenizer, task, problem)
        answers.append(Answer(prompt, ids, [], problem.gold, r=1, finished=True))
    return answers

def imitate(learner, z, step, on_token):
    """The gradient of supervised fine-tuning (SFT): next-token loss on gold answers, which is equation 1 with
    the gold ids for samples, r − b = 1 and temperature 1. As many answers a step, and no rollouts."""
    problems, _ = learner.problems(step, learner.settings.rollouts)
    answers = gold_answers(learner.tokenizer, learner.task, problems)
    with learner.adapter.using(learner.model, z):
        kl = accumulate_gradient(learner.model, learner.adapter, answers, [1.0] * len(answers), Sampling(1.0),
                                 learner.settings)
    parallel.add_up_gradients(z, weight=1 / learner.shares.n)
    metrics = {"tokens": sum(len(a.ids) for a in answers) / len(answers)}
    if learner.settings.lam > 0:
        metrics["kl"] = sum(learner.shares.joined([kl])) / learner.shares.n
    return metrics

def update(learner, z, optimizer, step, on_token):
    """One update of z -> what there is to say about the step."""
    optimizer.param_groups[0]["lr"] = learning_rate(learner.settings, step)
    metrics = learner.gradient(learner, z, step, on_token)
    metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(z.values(), 1.0).item()
    optimizer.step()
    optimizer.zero_grad()
    metrics["z_change"] = distance(z, learner.adapter.start(learner.model))
    if not math.isfinite(metrics["z_change"]):
        raise Collapse(f"step {step} brought a z that is not finite; lower --lr")
    return metrics

def no_validation(z):
    """For `train_expert` where nothing is chosen during training: the last z counts."""
    return 0.0

def train_expert(learner, state, validate, on_token=None):
    """Training from `state` ({} begins at the base model); yields the metrics of step 0, 1, … to the last.

    `state` is updated before each yield and holds all that a run needs to go on: saved and handed in again it
    ends, on a CPU bit for bit, where an unbroken run does. validate(z) -> accuracy, z = {} being the base
    model; the best z is state["best"]. `patience` validations without a better one end training early.
    """
    settings = learner.settings
    begin = state["z"] if state else learner.adapter.start(learner.model)
    z = {name: v.clone().requires_grad_() for name, v in begin.items()}
    # AdamW's decay would pull z to 0, and the base model is at 1
    optimizer = torch.optim.AdamW(z.values(), lr=settings.lr, weight_decay=0.0)
    if state:
        optimizer.load_state_dict(state["optimizer"])
    for step in range(state.get("step", -1) + 1, settings.steps + 1):
        metrics = {"step": step}
        if step > 0:
            if step - 1 - state["best_step"] >= settings.patience * settings.eval_every:
                return
            metrics |= update(learner, z, optimizer, step, on_token)
        now = {name: v.detach().clone() for name, v in z.items()}
        state.update(step=step, z=now, optimizer=optimizer.state_dict())
        if step % settings.eval_every == 0 or step == settings.steps:
            metrics["val_accuracy"] = validate(now if step > 0 else {})
            if metrics["val_accuracy"] > state.get("best_accuracy", -1.0):
                state.update(best=now, best_step=step, best_accuracy=metrics["val_accuracy"])
        yield metrics
