"""REINFORCE for one vector z (Transformer², section 3.2, equation 1).

    J(z) = E[ log π_z(ŷ|x) · (r(ŷ, y) − b) ] − λ KL(π_z ‖ π_1),     r ∈ {−1, +1}

A step: merge z, sample answers, score them, follow the gradient. Where we differ from the authors' code:
1. Answers are sampled, not greedy: the gradient is an expectation over π_z.
2. The loss scores the sampled ids, end of turn included, under the weights and temperature that drew
   them; nothing is tokenized again. log π and KL are sums over an answer, means over the batch.
3. KL(π_z ‖ π_1) as the paper writes it (theirs is the reverse), exact over the vocabulary at each sampled
   position, without the gradient through the positions visited. π_1 is the same model at z = 1.
4. b is the batch mean. E[∇ log π] = 0, so all it does to the expected gradient is a factor 1 − 1/B, a row's
   own share. Without it, at 10 % right, nine answers in ten push their tokens down and drown the tenth.
"""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from model import beginning, generate, pad
from svf import ones, using

@dataclass
class Answer:
    prompt: list  # token ids
    ids: list  # sampled token ids, the end of the turn included
    logprobs: list  # of each of them
    text: str
    r: int  # +1 or −1
    finished: bool  # ended before the task's cap

def rollout(model, tokenizer, task, problems, **how):
    """list[Problem] -> list[Answer]: prompt, generate(**how), score. One cut off at the cap earns −1."""
    prompts = []
    for p in problems:
        system = task.system if p.system is None else p.system
        turns = [{"role": "system", "content": system}] if system else []
        prompts.append(tokenizer.chat([*turns, {"role": "user", "content": p.prompt}], p.prefill))

    def is_finished(ids):
        # the last four tokens: a stop like ``` may be cut into several
        return task.max_new_tokens == 1 or bool(task.stop) and task.stop in tokenizer.decode(ids[-4:])

    answers, logprobs = generate(model, prompts, max_new_tokens=task.max_new_tokens,
                                 stop_ids=tokenizer.stop_ids, is_finished=is_finished, **how)
    texts = [tokenizer.decode(ids) for ids in answers]
    finished = [ids[-1] in tokenizer.stop_ids or is_finished(ids) for ids in answers]
    rewards = [r if f else -1 for r, f in zip(task.score(problems, texts), finished)]
    return [Answer(*row) for row in zip(prompts, answers, logprobs, texts, rewards, finished)]

def accuracy(answers):
    """Share of answers that earned +1, and its standard error √(p (1 − p) / n)."""
    p = sum(a.r > 0 for a in answers) / len(answers)
    return p, math.sqrt(p * (1 - p) / len(answers))

def answer_logprobs(model, answers, temperature, logit_bias=None):
    """log π over the vocabulary where an answer token is predicted: (N, vocab_size) float32 for the N answer
    tokens, answer by answer, and the row (N,) of each."""
    tokens, _ = pad([(a.prompt + a.ids)[:-1] for a in answers], model.tok_embeddings.weight.device)
    shared = beginning([a.prompt for a in answers])
    where = [(row, len(a.prompt) - 1 + t) for row, a in enumerate(answers) for t in range(len(a.ids))]
    rows, columns = torch.tensor(where, device=tokens.device).T
    logits = model.logits(model.read(tokens, shared)[rows, columns - shared]).float()
    logits = logits if logit_bias is None else logits + logit_bias
    return F.log_softmax(logits / temperature, dim=-1), rows

def policy_loss(logp, ids, rows, advantages, lam, ref_logp):
    """−J, and the sum of the KLs, from log π (N, V), ids and rows (N,), r − b (B,), λ, log π_1 (N, V)."""
    chosen = logp.gather(1, ids[:, None])[:, 0]  # (N,)
    loss = -(chosen * advantages[rows]).sum()  # −Σ_rows (r − b) Σ_t log π_z(ŷ_t)
    if ref_logp is None:
        return loss, torch.zeros(())
    # Σ_t Σ_v π_z log(π_z / π_1); where both are 0 (a logit bias of −∞), 0 and not 0 · (∞ − ∞)
    kl = (logp.exp() * torch.where(logp > -torch.inf, logp - ref_logp, 0.0)).sum()
    return loss + lam * kl, kl.detach()

def accumulate_gradient(model, answers, *, temperature, lam, micro_batch, logit_bias=None):
    """−dJ/dz of all answers into z.grad, within `using(model, z)` -> mean KL of an answer."""
    n, baseline, kl_sum = len(answers), sum(a.r for a in answers) / len(answers), 0.0
    answers = sorted(answers, key=lambda a: len(a.prompt) + len(a.ids))  # like lengths: little padding
    for start in range(0, n, micro_batch):
        part, ref_logp = answers[start:start + micro_batch], None
        if lam > 0:
            with torch.no_grad(), using(model, {}):
                ref_logp, _ = answer_logprobs(model, part, temperature, logit_bias)
        logp, rows = answer_logprobs(model, part, temperature, logit_bias)
        ids = torch.tensor([token for a in part for token in a.ids], device=logp.device)
        advantages = torch.tensor([(a.r - baseline) / n for a in part], device=logp.device)
        loss, kl = policy_loss(logp, ids, rows, advantages, lam / n, ref_logp)
        loss.backward()
        kl_sum += kl.item()
    return kl_sum / n

def train_expert(model, tokenizer, task, state, *, steps, rollouts, lr, temperature, lam, micro_batch, seed,
                 validate, eval_every, patience, logit_bias=None, on_token=lambda row, token: None,
                 on_step=lambda state, metrics: None):
    """REINFORCE on z from `state` ({} begins at 1) to `steps`; the best by validate(z) is state["best"].

    Draws depend on (seed, step) alone and `state` holds the rest: going on from a saved one ends, on a CPU
    bit for bit, where an unbroken run does. `patience` validations without a better one end it early.
    """
    z = {name: v.clone().requires_grad_() for name, v in state.get("z", ones(model)).items()}
    optimizer = torch.optim.AdamW(z.values(), lr=lr, weight_decay=0.0)  # decay pulls to 0; the base is at 1
    if state:
        optimizer.load_state_dict(state["optimizer"])
    for step in range(state.get("step", -1) + 1, steps + 1):
        metrics = {"step": step}
        if step > 0:
            if step - 1 - state["best_step"] >= patience * eval_every:
                break
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * (step - 1) / steps)) / 2
            draw = seed * 1_000_003 + step
            generator = torch.Generator(model.tok_embeddings.weight.device).manual_seed(draw)
            with using(model, z):
                answers = rollout(model, tokenizer, task, task.problems("train", rollouts, draw),
                                  generator=generator, temperature=temperature, logit_bias=logit_bias,
                                  on_token=on_token, share=True)
                kl = accumulate_gradient(model, answers, temperature=temperature, lam=lam,
                                         micro_batch=micro_batch, logit_bias=logit_bias)
            grad_norm = torch.nn.utils.clip_grad_norm_(z.values(), 1.0).item()
            optimizer.step()
            optimizer.zero_grad()
            flat = torch.cat([v.detach() for v in z.values()])
            if not (flat.abs() >= 1e-3).all():  # NaN fails, too
                raise ValueError(f"step {step} brought a z within 0.001 of 0, where dz is 0/0; lower --lr")
            metrics |= {"right": accuracy(answers)[0], "grad_norm": grad_norm,
                        "finished": sum(a.finished for a in answers) / len(answers),
                        "tokens": sum(len(a.ids) for a in answers) / len(answers),
                        "z_change": (flat - 1).square().mean().sqrt().item()} | ({"kl": kl} if lam else {})
        now = {name: v.detach().clone() for name, v in z.items()}
        state.update(step=step, z=now, optimizer=optimizer.state_dict())
        if step % eval_every == 0 or step == steps:
            p = metrics["val_accuracy"] = validate(now)
            if p > state.get("best_accuracy", -1.0):
                state.update(best=now, best_step=step, best_accuracy=p)
        on_step(state, metrics)
    return state
