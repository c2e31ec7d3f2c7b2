"""Learn one expert by REINFORCE and show what it is worth on problems it has not seen.

The main job: load a model (the default one is fetched), decompose it, train z on a task, keep the best z of
the validations, and compare it with the base model on `heldout` problems (of the training templates) and on
`test` problems (of unseen ones). A run writes one folder: the expert, log.jsonl, and the state from which
--resume goes on.

    python train.py --task math --quick       # a first look in minutes
    python train.py --task math
    python train.py --task questions.jsonl    # your own questions (tasks/jsonl.py says what a row is)

Other adapters, other ways to learn, pictures, several processes: python -m scripts.train --help
"""
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

import svf
from adapt import AdaptiveModel
from harness.answers import check_rows, greedy_answers
from harness.experts import load_experts
from harness.flags import ModelChoice, find_folder, flag, parse_flags, run_main
from harness.models import bar, open_model
from harness.report import report_gain, say_if_programs_run, say_what_is_next, show, step_line
from harness.runs import open_run
from harness.scores import TEST_SEED
from model import Sampling
from rl import Learner, Settings, accuracy, baseline_of, reinforce, train_expert
from tasks.catalog import DEFAULT_CAP, task_to_learn
from tasks.dispatch import N_EXAMPLES, dispatch_task

EVAL_EVERY = 16  # steps between validations
QUICK = {"steps": 4, "n_val": 32, "n_test": 64}

@dataclass
class Config(ModelChoice):
    task: str = flag("math", "math, code, reasoning, dispatch, a jsonl file of your own questions; with "
                             "--data also gsm8k, mbpp, arc_easy, mawps")
    quick: bool = flag(False, "a first look: 4 steps, 32 problems to validate and 64 to compare")
    steps: int = flag(64, f"updates of z; every {EVAL_EVERY}th is validated, and so is the last")
    rollouts: int = flag(64, "sampled answers per step")
    group: int = flag(0, "of them, answers to the same problem, compared with each other; 0: as the task "
                         "says, 4 or, for dispatch, 1, where all answers of the step are compared")
    micro_batch: int = flag(16, "answers in one forward and backward pass; fewer need less memory")
    lr: float = flag(1.5e-3, "learning rate; at 4e-3 answers to a problem are soon all alike", (1e-9, 1))
    temperature: float = flag(0.7, "of rollouts and loss alike; greedy answers are no REINFORCE", (0.01, 10))
    kl: float = flag(0.0, "λ; above 0 the gradient of a step costs a third more", (0, 10))
    max_new_tokens: int = flag(DEFAULT_CAP, "cap of an answer to a question of your own file")
    n_val: int = flag(256, "problems that choose the best z, the same each time")
    n_test: int = flag(256, "problems of each split in the final comparison; they choose nothing")
    seed: int = flag(0, "of everything random")
    data: str = flag("", "folder of the real data sets' files")
    experts: str = flag("experts", "for --task dispatch: folder of the experts that it chooses among")
    out: str = flag("", "folder to write to; empty: out/TASK-SEED")
    resume: bool = flag(False, "go on from the state in the output folder")

def read_config(kind=Config, doc=__doc__):
    """The flags, with those that --quick changes, unless they were typed, and the folders filled in."""
    config = parse_flags(kind, doc, quick=QUICK)
    if not config.out:
        name = f"{Path(config.task).stem}-{config.seed}"
        config = replace(config, out=f"out/{name}-quick" if config.quick else f"out/{name}")
    return replace(config, experts=str(find_folder(config.experts)))

# -- what learns, and what from ------------------------------------------------------------------------------

def settings_of(config, usual_group):
    """A run's steps, as the flags say. Raises ValueError for rollouts that cannot be compared in groups."""
    group = config.group or usual_group
    if config.rollouts == 1:
        raise ValueError("--rollouts 1 has no other answer to be compared with; choose more")
    if config.rollouts % group:
        raise ValueError(f"--rollouts {config.rollouts} cannot be shared by {group} answers to each problem; "
                         f"choose a multiple of {group}, or another --group")
    return Settings(steps=config.steps, n_problems=config.rollouts // group, group=group,
                    micro_batch=config.micro_batch, lr=config.lr, lam=config.kl, seed=config.seed,
                    eval_every=EVAL_EVERY)

def make_learner(config, group=None, **how):
    """A model under svf, and what it learns from. `group`: answers to a problem where no flag says it, None
    being the task's own number. `how` goes to open_model."""
    if config.task == "dispatch":  # the classifier z_c of strategy (B) is an expert like any other
        settings = settings_of(config, group or 1)
        model, tokenizer = open_model(config, **how)
        adaptive = AdaptiveModel(model, tokenizer, load_experts(config.experts, model))
        task = dispatch_task(adaptive.categories, config.data)
        sampling = Sampling(config.temperature, logit_bias=adaptive.dispatch_bias)
    else:
        task = task_to_learn(config.task, config.data, config.max_new_tokens)
        settings = settings_of(config, group or task.group)
        model, tokenizer = open_model(config, **how)
        sampling = Sampling(config.temperature)
    return Learner(model, tokenizer, svf, task, sampling, settings, reinforce, baseline_of(settings.group))

# -- from nothing to an expert, and what it is worth ---------------------------------------------------------

def problems_to_judge_by(config, task):
    """{split: its problems, the same each time} of every split but train. They are drawn before anything is
    learned, since a task may have fewer than are asked for, and raise ValueError then."""
    drawn = {}
    for split in task.splits:
        if split == "val":
            drawn[split] = task.problems(split, config.n_val, TEST_SEED)
        elif split != "train":
            drawn[split] = task.problems(split, config.n_test, TEST_SEED)
    return drawn

def train(run, learner, val_problems, answer):
    """All steps, each logged, saved and shown in a line. The best z is run.state["best"]."""

    def validate(z):
        return accuracy(answer(learner, z, val_problems, "validation"))

    with bar(desc="rollout", unit="token") as tokens:

        def count_token(row, token):
            tokens.update()

        learner.on_token = count_token
        for metrics in train_expert(learner, run.state, validate):
            metrics = run.save_step(metrics)
            tokens.reset()
            tqdm.write(step_line(metrics, run.config.steps))
    print(f"best in validation: step {run.state['best_step']}, "
          f"{100 * run.state['best_accuracy']:.1f} % of {len(val_problems)}\n")

def compare_with_base(run, learner, judged_by, answer):
    """Base and expert on problems that neither training nor validation has seen; `judged_by` as above."""
    for split, problems in judged_by.items():
        if split == "val":
            continue
        base = answer(learner, {}, problems, f"base, {split}")
        expert = answer(learner, run.state["best"], problems, f"expert, {split}")
        report_gain(run.log, learner.task.name, split, problems, base, expert)
    show(problems, {"base": (problems, base), "expert": (problems, expert)})  # of the last split

def make_expert(run, learner, answer=greedy_answers, **more):
    """Train, save the best z, and compare it with the base model -> (path of the expert, an example problem).

    answer(learner, z, problems, desc) -> [Answer], greedy. `more` metadata are for the expert's file.
    """
    check_rows(learner.model, learner.tokenizer, learner.task)
    judged_by = problems_to_judge_by(run.config, learner.task)
    run.begin(learner)
    say_if_programs_run(learner.task)
    train(run, learner, judged_by["val"], answer)
    examples = learner.task.problems("train", N_EXAMPLES, run.config.seed)
    path = run.save_expert(learner, examples, **more)
    compare_with_base(run, learner, judged_by, answer)
    run.finish(learner.model)
    return path, examples[0]

def main():
    config = read_config()
    run = open_run(config)
    learner = make_learner(config)
    expert, example = make_expert(run, learner)
    say_what_is_next(config, expert, run.log, example)

if __name__ == "__main__":
    run_main(main)
