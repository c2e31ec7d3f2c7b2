"""Answers to many problems, in batches of like length; those of the base model are kept between runs.

Kept answers change nothing but time: three passes over 256 problems of each later run on the same model.
"""
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, replace

from adapt import second_pass
from formats.default_model import cache_folder
from harness.flags import ROOT
from harness.logs import machine
from harness.models import bar
from rl import Answer, chat_ids, graded, rollout

AT_ONCE = 64  # answers in one batch

def check_rows(model, tokenizer, task):
    """Every row of a file that the task reads can be read: it is encoded, fits the context beside its answer,
    and its image is whole. Raises ValueError, which names file and line, before hours of work and not after.
    """
    for problem in task.rows():
        try:
            prompt = chat_ids(tokenizer, task, problem)
        except (ValueError, OSError) as error:
            raise ValueError(f"{problem.source}: {error}") from error
        if len(prompt) + task.max_new_tokens > model.args.max_seq_len:
            raise ValueError(f"{problem.source}: {len(prompt)} prompt tokens and {task.max_new_tokens} new "
                             f"ones do not fit the model's {model.args.max_seq_len}; shorten or remove the "
                             "row")

def answer_all(answer, problems, desc):
    """list[Answer] to all problems. answer(indices) -> list[Answer] to those; the prompts of a batch are of
    like length."""
    order = sorted(range(len(problems)), key=lambda i: len(problems[i].prompt))
    answers = {}
    with bar(desc=desc, total=len(problems)) as progress:
        for start in range(0, len(order), AT_ONCE):
            indices = order[start:start + AT_ONCE]
            answers.update(zip(indices, answer(indices), strict=True))
            progress.update(len(indices))
    return [answers[i] for i in range(len(problems))]

def answer_with_mixtures(adaptive, task, problems, mixtures, desc):
    """The second pass on any number of problems, each under its own mixture."""

    def answer(indices):
        return second_pass(adaptive, task, [problems[i] for i in indices], [mixtures[i] for i in indices])

    return answer_all(answer, problems, desc)

def answer_with_adapter(learner, z, problems, desc):
    """Greedy answers of a model in training, with z in place of what is learned."""
    greedy = replace(learner.sampling, temperature=0.0)

    def answer(indices):
        batch = [problems[i] for i in indices]
        return rollout(learner.model, learner.tokenizer, learner.task, batch, greedy)

    with learner.adapter.using(learner.model, z):
        return answer_all(answer, problems, desc)

def greedy_answers(learner, z, problems, desc):
    """Greedy answers under z, {} being the base model. Its answers are kept between runs, unless there are
    the bias of dispatch, which is no part of the model, or images."""
    if z or learner.sampling.logit_bias is not None or learner.task.has_images:
        return answer_with_adapter(learner, z, problems, desc)
    try:
        path = file_of_base_answers(learner, problems)
    except FileNotFoundError as error:
        print(f"note: the base model's answers are not kept for the next run: {error}")
        return answer_with_adapter(learner, z, problems, desc)
    kept = kept_answers(path)
    if kept:
        # graded anew: a program that once ran out of time on a busy machine is not wrong for good
        return graded(learner.task, problems, kept)
    answers = answer_with_adapter(learner, z, problems, desc)
    keep_answers(path, answers)
    return answers

def file_of_base_answers(learner, problems):
    """Where the base model's greedy answers to these problems are kept. Its name hashes all they depend on:
    the model, the machine, what the model reads, and the code that answers and grades it."""
    task, tokenizer, model = learner.task, learner.tokenizer, learner.model
    prompts = [chat_ids(tokenizer, task, problem) for problem in problems]
    asked = (prompts, problems, task.max_new_tokens, task.stop, sorted(tokenizer.stop_ids))
    digest = hashlib.sha256(repr((model.fingerprint, machine(model), asked)).encode())
    for source in [ROOT / "model.py", ROOT / "svf.py", ROOT / "rl.py", ROOT / "harness" / "answers.py",
                   *sorted(ROOT.glob("tasks/*.py")), *sorted(ROOT.glob("formats/*.py"))]:
        digest.update(source.read_bytes())
    return cache_folder() / "base-answers" / f"{digest.hexdigest()}.json"

def kept_answers(path):
    """The answers in the file; none where there is no file, or a damaged one."""
    if not path.exists():
        return []
    try:
        return [Answer(**kept) for kept in json.loads(path.read_text())]
    except (ValueError, TypeError):
        print(f"note: {path} is damaged; the base model answers again")
        return []

def keep_answers(path, answers):
    """Write the answers beside, then rename; a folder that takes none costs a note."""
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps([asdict(answer) for answer in answers]))
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):  # a folder that takes no file has none to remove
            beside.unlink()
        print(f"note: the base model's answers are not kept for the next run ({error})")
