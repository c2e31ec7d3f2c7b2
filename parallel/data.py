"""Data parallel: each process has the whole model, and samples and scores its share of a step's problems.

All see all rewards, so a baseline is that of the whole step, and one all-reduce of dz makes its gradient. A
learner learns together with those of the other processes by wrapping the three functions that it is made of;
REINFORCE, SFT and every adapter go through unchanged.

    torchrun --nproc-per-node 2 -m scripts.train --task math
"""
import os
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from harness.answers import answer_with_adapter
from harness.runs import Run
from parallel.processes import add_up_gradients, gather, rank, world

def my_share(items):
    """What of a list is this process's to work on: every n-th item."""
    return items[rank()::world()]

def joined(parts):
    """The whole list again, in its order, from what each process made of its share."""
    total = sum(len(part) for part in parts)
    return [parts[i % world()][i // world()] for i in range(total)]

def check_shares(n_problems):
    """Raises ValueError for a step whose problems the processes cannot share evenly."""
    if n_problems % world():
        raise ValueError(f"{world()} processes cannot share the {n_problems} problems of a step evenly; "
                         "choose other --rollouts")

def together(learner):
    """The learner of this process, which learns one z with those of all others."""

    def improve_together(learner_here, z, optimizer, problems, generator):
        check_shares(len(problems))  # a small file may have fewer than were asked for
        generator.manual_seed(generator.initial_seed() + 10 ** 12 * rank())  # each draws its own answers
        metrics = learner.improve(learner_here, z, optimizer, my_share(problems), generator)
        everyones = gather(metrics)
        return {key: fmean(of_one[key] for of_one in everyones) for key in metrics}

    def advantages_among_all(rewards, group):
        everyones = gather(rewards)
        of_all = learner.advantages([r for share in everyones for r in share], group)
        mine_begin = sum(len(share) for share in everyones[:rank()])
        return of_all[mine_begin:mine_begin + len(rewards)]

    def descend_together(z, optimizer):
        add_up_gradients(z, weight=1 / world())
        return learner.descend(z, optimizer)

    return replace(learner, improve=improve_together, advantages=advantages_among_all,
                   descend=descend_together)

def answer_together(learner, z, problems, desc):
    """Greedy answers to all problems, each process answering its share. Those of the base model are not kept:
    a process that reads them would wait for one that answers."""
    return joined(gather(answer_with_adapter(learner, z, my_share(problems), desc)))

class SilentRun(Run):
    """The run of a process that writes nothing: the first one does."""

    def __init__(self, config, saved):
        super().__init__(config, saved)
        self.log = Path(os.devnull)

    def begin(self, learner):
        self.take_learner(learner)

    def save_step(self, metrics):
        return metrics

    def save_expert(self, learner, examples, **more):
        return self.path_of_expert(learner.task)

    def finish(self, model):
        pass
