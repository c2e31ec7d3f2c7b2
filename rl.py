"""REINFORCE for one vector z (Transformer², section 3.2, equation 1).

    J(z) = E[ log π_z(ŷ|x) · (r(ŷ, y) − b) ] − λ KL(π_z ‖ π_1),     r ∈ {−1, +1}

A step is: merge z, sample answers, score them, follow the gradient. Where we differ from the authors' code:
1. Answers are sampled, not greedy: the gradient is an expectation over π_z.
2. The loss scores the sampled token ids, end of turn included, under the very weights and temperature that drew
   them; text is never tokenized again. log π and the KL are sums over an answer, means over the batch.
3. KL(π_z ‖ π_1) as the paper writes it (theirs is the reverse), exact over the vocabulary at each sampled position;
   it leaves out the gradient through the positions visited. π_1 is the same model at z = 1: no second copy.
4. b is the batch mean. Any constant leaves the gradient unbiased, E[∇ log π] = 0; without one, at 10 % right, nine
   answers in ten push their own tokens down and the noise of that drowns the tenth.
"""
import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from model import generate, pad
from svf import ones, using


@dataclass
class Rollout:
    prompts: list  # token ids of each row
    answers: list  # token ids sampled, the end of the turn included
    logprobs: list  # and the log-probability of each
    texts: list
    rewards: list  # +1 or -1
    finished: list  # ended before the task's cap


def rollout(model, tokenizer, task, problems, *, temperature, generator=None, logit_bias=None, on_token=None,
            on_keep=None):
    """Prompt, generate and score: list[Problem] -> Rollout. An answer cut off at the cap earns −1: it rambles."""
    prompts = []
    for problem in problems:
        system = task.system if problem.system is None else problem.system
        turns = [{"role": "system", "content": system}] if system else []
        prompts.append(tokenizer.chat([*turns, *problem.history, {"role": "user", "content": problem.prompt}],
                                      problem.prefill))

    def is_finished(ids):
        return task.max_new_tokens == 1 or (task.stop and task.stop in tokenizer.decode(ids[-4:]))

    answers, logprobs = generate(model, prompts, max_new_tokens=task.max_new_tokens, stop_ids=tokenizer.stop_ids,
                                 temperature=temperature, generator=generator, logit_bias=logit_bias,
                                 is_finished=is_finished, on_token=on_token, on_keep=on_keep)
    texts = [tokenizer.decode(ids) for ids in answers]
    finished = [bool(ids[-1] in tokenizer.stop_ids or is_finished(ids)) for ids in answers]
    rewards = [r if f else -1 for r, f in zip(task.score(problems, texts), finished)]
    return Rollout(prompts, answers, logprobs, texts, rewards, finished)


def evaluate(answer, problems, *, batch_size, on_rows=None):
    """All problems in batches of like length, each answered by answer(indices) -> Rollout; one Rollout in order."""
    order = sorted(range(len(problems)), key=lambda i: len(problems[i].prompt))
    total = Rollout(*([None] * len(problems) for _ in fields(Rollout)))
    for start in range(0, len(order), batch_size):
        index = order[start:start + batch_size]
        part = answer(index)
        for column in fields(Rollout):
            for i, value in zip(index, getattr(part, column.name), strict=True):
                getattr(total, column.name)[i] = value
        if on_rows is not None:
            on_rows(len(index))
    return total


def accuracy(rewards):
    """Share of +1, and its standard error √(p (1 − p) / n)."""
    p = sum(r > 0 for r in rewards) / len(rewards)
    return p, math.sqrt(p * (1 - p) / len(rewards))


# -- the gradient ----------------------------------------------------------------------------------------------------


def answer_logprobs(model, prompts, answers, temperature, logit_bias=None):
    """log π over the vocabulary where each answer token is predicted, and nowhere else.

    -> (N, vocab_size) float32 for the N answer tokens of the batch, row by row, and the row (N,) of each.
    """
    tokens, _ = pad([p + a for p, a in zip(prompts, answers)], model.tok_embeddings.weight.device)
    rows = torch.tensor([i for i, a in enumerate(answers) for _ in a], device=tokens.device)
    columns = torch.tensor([len(p) - 1 + t for p, a in zip(prompts, answers) for t in range(len(a))],
                           device=tokens.device)
    logits = model.logits(model.hidden(tokens[:, :-1])[rows, columns]).float()
    if logit_bias is not None:
        logits = logits + logit_bias
    return F.log_softmax(logits / temperature, dim=-1), rows


def policy_loss(logp, ids, rows, advantages, lam, ref_logp):
    """−J for a micro-batch, summed over its rows: (N, V), (N,), (N,), (B,), float, (N, V) or None -> loss, KL.

    loss = −Σ_rows (r − b) Σ_t log π(ŷ_t) + λ Σ_rows Σ_t KL_t
    """
    chosen = logp.gather(1, ids[:, None])[:, 0]  # (N,)
    loss = -(chosen * advantages[rows]).sum()
    if ref_logp is None:
        return loss, torch.zeros(())
    # an option of probability 0 under both (logit bias −∞) adds nothing, but would be 0 · (∞ − ∞)
    ratio = torch.where(logp > -torch.inf, logp - ref_logp, 0.0)
    kl = (logp.exp() * ratio).sum()  # Σ_t Σ_v π_z (log π_z − log π_1)
    return loss + lam * kl, kl.detach()


def micro_batches(batch, size):
    """Row indices in groups of `size`, rows of like length together, so that little is padding."""
    order = sorted(range(len(batch.answers)), key=lambda i: len(batch.prompts[i]) + len(batch.answers[i]))
    return [order[i:i + size] for i in range(0, len(order), size)]


def accumulate_gradient(model, batch, *, temperature, lam, micro_batch, logit_bias=None):
    """dJ/dz of a whole rollout into z.grad, within `using(model, z)` -> mean KL of an answer."""
    device = model.tok_embeddings.weight.device
    rewards = torch.tensor(batch.rewards, dtype=torch.float32, device=device)
    advantages = (rewards - rewards.mean()) / len(rewards)
    kl_sum = 0.0
    for index in micro_batches(batch, micro_batch):
        prompts, answers = [batch.prompts[i] for i in index], [batch.answers[i] for i in index]
        reference = None
        if lam > 0:
            with torch.no_grad(), using(model, {}):
                reference, _ = answer_logprobs(model, prompts, answers, temperature, logit_bias)
        logp, rows = answer_logprobs(model, prompts, answers, temperature, logit_bias)
        ids = torch.tensor([token for answer in answers for token in answer], device=device)
        loss, kl = policy_loss(logp, ids, rows, advantages[index], lam / len(rewards), reference)
        loss.backward()
        kl_sum += kl.item()
    return kl_sum / len(rewards)


# -- training ------------------------------------------------------------------------------------------------------


def new_state(model):
    """Where training starts: z = 1, and the base model as the best so far once it has been evaluated."""
    return {"step": 0, "z": ones(model), "optimizer": None, "best": None, "best_step": 0, "best_accuracy": -1.0}


def train_expert(model, tokenizer, task, state, *, steps, rollouts, lr, temperature, lam, micro_batch, eval_every,
                 val_problems, patience, seed, logit_bias=None, on_step=None):
    """REINFORCE on z from `state` to `steps`, which leaves the best z on validation in state["best"].

    Every random draw depends on (seed, step) only and `state` holds the rest, so a run that goes on from a saved
    state ends bit for bit where an uninterrupted one does. on_step(state, metrics) comes after every step. Stops
    early after `patience` evaluations without a better one.
    """
    z = {name: v.clone().requires_grad_() for name, v in state["z"].items()}
    # AdamW's decay pulls z towards 0, not towards the base at 1, so there is none
    optimizer = torch.optim.AdamW(z.values(), lr=lr, weight_decay=0.0)
    if state["optimizer"] is not None:
        optimizer.load_state_dict(state["optimizer"])

    def validate(step):
        def answer(index):
            return rollout(model, tokenizer, task, [val_problems[i] for i in index], temperature=0,
                           logit_bias=logit_bias)
        with using(model, {name: v.detach() for name, v in z.items()}):
            answers = evaluate(answer, val_problems, batch_size=rollouts)
        p, _ = accuracy(answers.rewards)
        if p > state["best_accuracy"]:
            state.update(best={k: v.detach().clone() for k, v in z.items()}, best_step=step, best_accuracy=p)
        return p

    def finish_step(metrics):
        state.update(step=metrics["step"], z={k: v.detach().clone() for k, v in z.items()},
                     optimizer=optimizer.state_dict())
        if on_step is not None:
            on_step(state, metrics)

    if state["best"] is None:
        finish_step({"step": 0, "val_accuracy": validate(0)})
    for step in range(state["step"] + 1, steps + 1):
        if step - 1 - state["best_step"] >= patience * eval_every:
            break
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        generator = torch.Generator(model.tok_embeddings.weight.device).manual_seed(seed * 1_000_003 + step)
        problems = task.problems("train", rollouts, seed * 1_000_003 + step)
        with using(model, z):
            batch = rollout(model, tokenizer, task, problems, temperature=temperature, generator=generator,
                            logit_bias=logit_bias)
            kl = accumulate_gradient(model, batch, temperature=temperature, lam=lam, micro_batch=micro_batch,
                                     logit_bias=logit_bias)
        grad_norm = torch.nn.utils.clip_grad_norm_(z.values(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad()
        if any((v.abs() < 1e-3).any() for v in z.values()):
            raise ValueError(f"a z came within 0.001 of 0 in step {step}, where its gradient is 0/0; lower the lr")
        change = torch.cat([v.detach() - 1 for v in z.values()]).square().mean().sqrt().item()
        metrics = {"step": step, "reward_rate": accuracy(batch.rewards)[0], "kl": kl, "grad_norm": grad_norm,
                   "finished": sum(batch.finished) / rollouts, "tokens": sum(map(len, batch.answers)) / rollouts,
                   "z_change": change}
        if step % eval_every == 0 or step == steps:
            metrics["val_accuracy"] = validate(step)
        finish_step(metrics)
    return state
