"""SVF against LoRA, other bases, supervised learning and evolution strategies: one loop, one budget.

Every method learns a task by the same rollouts, steps, seeds, clipping and schedule; only what is learned,
and how, differs. Each has a learning rate of its own, chosen on validation over a grid of factors of √10 that
grows until the best rate is not at its edge (seed 0). At that rate it runs with three seeds, and only these
runs see test problems. A run is a line of the log, and a run that stands there is not done again, so the
comparison can be interrupted and started again at will.

    python -m scripts.compare                       # all of it: hours on two cores
    python -m scripts.compare --only "svf;lora 1"   # some methods
    python -m scripts.compare --task reasoning --out out/compare-reasoning.jsonl
"""
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import svf
import train
from baselines import lora
from baselines.bases import BASES
from baselines.es import POPULATION, evolve
from baselines.sft import imitate
from harness.answers import answer_with_adapter, greedy_answers
from harness.flags import ModelChoice, flag, parse_flags, run_main
from harness.logs import append, machine, open_log, peak_memory, read_log, rows_of
from harness.models import open_model, wrap_in_svf
from harness.scores import TEST_SEED, gains, hits, mean_and_error, templates_of
from model import Sampling
from rl import Learner, Settings, accuracy, reinforce, train_expert
from scripts.train import ANSWERS_EACH
from tasks.catalog import get_task

@dataclass(frozen=True)
class Method:
    rate: float  # the second of the first grid, about where the best is expected
    adapter: ModuleType = svf
    modules: str = "all"
    options: dict = field(default_factory=dict)  # what the adapter's `wrap` takes
    improve: Callable = reinforce

    def wrap(self, model, names, device):
        """The adapter around the linears, as open_model takes it."""
        if self.adapter is svf and not self.options:
            wrap_in_svf(model, names, device)
        else:
            self.adapter.wrap(model, names, **self.options)

METHODS = {
    "svf": Method(4e-3),
    "svf attn": Method(4e-3, modules="attn"),
    "svf mlp": Method(4e-3, modules="mlp"),
    "svf, random basis": Method(4e-3, options={"basis_of": BASES["random"]}),
    "svf, identity basis": Method(4e-3, options={"basis_of": BASES["identity"]}),
    "lora 1": Method(1e-3, lora, options={"rank": 1}),
    "lora 16": Method(1e-3, lora, options={"rank": 16}),
    "lora 16 qv": Method(2e-3, lora, "qv", {"rank": 16}),  # the paper's; its rates are 2e-4 to 5e-2
    "svf by sft": Method(4e-3, improve=imitate),
    "lora 1 by sft": Method(1e-3, lora, options={"rank": 1}, improve=imitate),
    "svf by es": Method(4e-3, improve=evolve)}
TASKS = ("math", "code", "reasoning")  # one is learned, and the others may be forgotten
SEEDS = (0, 1, 2)
MOST_RATES = 8  # in the grid of a method

@dataclass
class Config(ModelChoice):
    task: str = flag("math", "what is learned: " + ", ".join(TASKS))
    only: str = flag("", "of the methods, with ; between: " + "; ".join(METHODS))
    steps: int = flag(16, "updates of a run")
    rollouts: int = flag(64, "answers per step")
    rates: int = flag(4, "learning rates of the first grid")
    n_val: int = flag(192, "problems that choose the rate")
    n_test: int = flag(192, "problems of a split for the three seeds at that rate; of other tasks half",
                       (2, 10 ** 6))
    out: str = flag("out/compare.jsonl", "a line for each run, added to what is there")

def read_config():
    config = parse_flags(Config, __doc__)
    for name in chosen(config):
        if name not in METHODS:
            raise ValueError(f"--only {name} is no method; there are {'; '.join(METHODS)}")
    if config.rollouts % POPULATION:
        raise ValueError(f"--rollouts {config.rollouts} is no multiple of {POPULATION}, the population of ES")
    if config.task not in TASKS:
        raise ValueError(f"--task {config.task} is not compared; there are {', '.join(TASKS)}")
    for task_name in TASKS:
        get_task(task_name)  # refused now, where programs cannot be run, and not after an hour
    return config

def chosen(config):
    """The names of the methods to run."""
    if not config.only:
        return list(METHODS)
    return [name.strip() for name in config.only.split(";") if name.strip()]

def tested_of(learned):
    """{what the log calls it: (task, split)}: what a run that learned a task is tested on."""
    forgotten = {task: (task, "heldout") for task in TASKS if task != learned}
    return {"heldout": (learned, "heldout"), "unseen": (learned, "test")} | forgotten

# -- a run ---------------------------------------------------------------------------------------------------

def settings_of(config, method, rate, seed):
    """Of a run: only rate and seed differ between the runs of a method; nothing is chosen during one."""
    group = ANSWERS_EACH.get(method.improve, get_task(config.task).group)
    return Settings(steps=config.steps, n_problems=config.rollouts // group, group=group, micro_batch=16,
                    lr=rate, lam=0.0, seed=seed, eval_every=10 ** 6)

def no_validation(z):
    """For `train_expert` where nothing is chosen during training: the last z counts."""
    return 0.0

@dataclass
class Comparison:
    """One method, its model open, and the log of what it has done."""
    config: Config
    name: str
    learner: Learner
    trained: dict = field(default_factory=dict)  # by this process: {(rate, seed): what `train` returned}

    def budget(self):
        """What two runs must have in common to be compared."""
        return {"task": self.config.task, "method": self.name,
                "steps": self.config.steps, "rollouts": self.config.rollouts,
                "n_val": self.config.n_val, "n_test": self.config.n_test,
                "fingerprint": self.learner.model.fingerprint,
                "chat_template": self.config.chat_template,
                "dtype": machine(self.learner.model)["dtype"]}

    def records_of(self, stage):
        """What the log has of a stage, grid or final, of this method at this budget."""
        if not Path(self.config.out).exists():
            return []
        return rows_of(read_log(Path(self.config.out)), stage=stage, **self.budget())

    def log(self, record):
        model = self.learner.model
        append(self.config.out, record | {"machine": machine(model),
                                          "peak_bytes": peak_memory(model.tok_embeddings.weight.device)})

    def train(self, rate, seed):
        """(what was learned, what there is to say of the run); (None, …) where it collapsed."""
        learner = replace(self.learner, settings=settings_of(self.config, METHODS[self.name], rate, seed))
        state, right = {}, []
        started = time.time()
        record = self.budget() | {"lr": rate, "seed": seed, "right": right}
        try:
            for metrics in train_expert(learner, state, no_validation):
                right.append(metrics.get("right"))
        except svf.Collapse as error:
            return None, record | {"collapsed": str(error)}
        record |= {"seconds_a_step": (time.time() - started) / self.config.steps,
                   "parameters": sum(v.numel() for v in state["z"].values())}
        return state["z"], record

    def train_once(self, rate, seed):
        """What `train` returns. The run that chose the rate is one of the three at that rate, and is not done
        twice."""
        if (rate, seed) not in self.trained:
            self.trained[rate, seed] = self.train(rate, seed)
        z, record = self.trained[rate, seed]
        return z, dict(record)

    # -- the learning rate, on validation --------------------------------------------------------------------

    def validate_rate(self, rate):
        """One run of the grid, and its line."""
        z, record = self.train_once(rate, seed=0)
        record |= {"stage": "grid", "val": 0.0, "val_se": 0.0}
        if z is not None:
            problems = self.learner.task.problems("val", self.config.n_val, TEST_SEED)
            answers = answer_with_adapter(self.learner, z, problems, f"{self.name}: validation")
            record["val"], record["val_se"] = mean_and_error(hits(answers), templates_of(problems))
        self.log(record)
        right = f"{100 * record['val']:.1f} ± {100 * record['val_se']:.1f} %"
        print(f"{self.name:<20} lr {rate:.2g}: {right} on validation", flush=True)

    def choose_rate(self):
        """The rate of the best validation, the nearest to where it was expected among equals; the grid grows
        while that is at its edge, to MOST_RATES. Runs what the log lacks."""
        expected = METHODS[self.name].rate

        def distance_from_expected(rate):
            return abs(math.log(rate / expected))

        wanted = [expected * 10 ** (k / 2) for k in range(-1, self.config.rates - 1)]
        while True:
            accuracy_at = {record["lr"]: record["val"] for record in self.records_of("grid")}
            missing = [rate for rate in wanted if not any(math.isclose(rate, done) for done in accuracy_at)]
            if missing:
                self.validate_rate(missing[0])
                continue
            nearest_first = sorted(accuracy_at, key=distance_from_expected)
            best = max(nearest_first, key=accuracy_at.get)
            if len(accuracy_at) >= MOST_RATES or min(accuracy_at) < best < max(accuracy_at):
                return best
            wanted = [best * 10 ** 0.5 if best == max(accuracy_at) else best / 10 ** 0.5]

    # -- three seeds at that rate, on problems that chose nothing --------------------------------------------

    def test_seed(self, rate, seed):
        """One of the three runs, and its line."""
        z, record = self.train_once(rate, seed)
        record["stage"] = "final"
        if z is None:
            self.log(record)
            print(f"{self.name:<20} lr {rate:.2g}, seed {seed}: collapsed", flush=True)
            return
        for name, (task_name, split) in tested_of(self.config.task).items():
            record[name] = self.test_on(z, task_name, split)
        self.log(record)
        unseen = record["unseen"]["accuracy"]
        print(f"{self.name:<20} lr {rate:.2g}, seed {seed}: unseen {100 * unseen:.1f} %", flush=True)

    def test_on(self, z, task_name, split):
        """What there is to say of the answers under z to test problems of a task."""
        learner = replace(self.learner, task=get_task(task_name))
        n = self.config.n_test if task_name == self.config.task else self.config.n_test // 2
        problems = learner.task.problems(split, n, TEST_SEED)

        base = greedy_answers(learner, {}, problems, f"base: {task_name} {split}")
        answers = answer_with_adapter(learner, z, problems, f"{self.name}: {task_name} {split}")
        return {"accuracy": accuracy(answers), "gains": gains(base, answers),
                "templates": templates_of(problems)}

    def run_what_is_missing(self):
        rate = self.choose_rate()
        seeds_done = {record["seed"] for record in self.records_of("final")
                      if math.isclose(record["lr"], rate)}
        for seed in SEEDS:
            if seed not in seeds_done:
                self.test_seed(rate, seed)

def compare(config, name):
    """All runs of a method that the log lacks."""
    method = METHODS[name]
    model, tokenizer = open_model(config, method.modules, method.wrap)
    sampling = Sampling(train.Config.temperature)
    learner = Learner(model, tokenizer, method.adapter, get_task(config.task), sampling,
                      settings_of(config, method, method.rate, seed=0), method.improve)
    Comparison(config, name, learner).run_what_is_missing()

def main():
    config = read_config()
    open_log(config.out)
    names = chosen(config)
    if len(names) == 1:
        compare(config, names[0])
        return
    for name in names:  # each in a process of its own, whose peak of memory is the method's
        command = [sys.executable, "-m", "scripts.compare", *sys.argv[1:], "--only", name]
        print(f"\n{shlex.join(command[1:])}", flush=True)
        if subprocess.run(command).returncode != 0:
            raise ValueError(f"{name} failed; what is done stands in {config.out}")
    print(f"\nwrote {config.out}")

if __name__ == "__main__":
    run_main(main)
