"""Supervised fine-tuning (SFT): next-token loss on gold answers, the paper's other objective (table 4).

It is equation 1 with the gold ids for samples, r − b = 1 and temperature 1. As many answers a step, and no
rollouts.

    python -m scripts.train --task math --objective sft
"""
from statistics import fmean

from model import Sampling
from rl import Answer, accumulate_gradient, chat_ids
from tasks.interface import gold_answer

def gold_answers(tokenizer, task, problems):
    """The gold answers of problems, as if the model had sampled them."""
    answers = []
    for problem in problems:
        ids = tokenizer.encode(gold_answer(task, problem))
        if not task.stop:
            ids.append(tokenizer.end_of_turn())
        prompt = chat_ids(tokenizer, task, problem)
        answers.append(Answer(prompt, ids, [], problem.gold, r=1, finished=True))
    return answers

def imitate(learner, z, optimizer, problems, generator):
    """One update of z towards the gold answers; nothing in it is random but the problems."""
    answers = gold_answers(learner.tokenizer, learner.task, problems)
    with learner.adapter.using(learner.model, z):
        kl = accumulate_gradient(learner, answers, [1.0] * len(answers), Sampling(1.0))
    metrics = {"tokens": fmean(len(a.ids) for a in answers)}
    if learner.settings.lam > 0:
        metrics["kl"] = kl
    metrics["grad_norm"] = learner.descend(z, optimizer)
    return metrics
