"""Learn one expert by REINFORCE and show what it is worth on problems it has not seen.

The main job: load a model (the default one is fetched), decompose it, train z on a task, keep the best z of
the validations, and compare it with the base model on `heldout` problems (of the training templates) and on
`test` problems (of unseen ones). A run writes one folder: the expert, log.jsonl, and the state from which
--resume goes on.

    python train.py --task math --quick       # a first look in a minute or a few
    python train.py --task math
    python train.py --task questions.jsonl    # your own questions (tasks/jsonl.py says what a row is)
"""
import json
import os
import shlex
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

import adapt
import es
import parallel
import svf
from common import (DATA_HELP, DEFAULT_EYES, DEVICE_HELP, DTYPE_HELP, EYES_HELP, MODEL_HELP, TEMPLATE_HELP,
                    TEST_SEED, answer_with_adapter, append, bar, beside_the_scripts, check_resume,
                    check_same_flags, command_line, flag, flag_name, gains, kept_or_answered, load_adapter,
                    lock_log, machine, mean_and_error, model_flags, open_eyes, open_model, parse_flags,
                    peak_memory, pick_device, report, run_main, save_state, show, templates_of, whole_state)
from formats.default_model import DEFAULT_MODEL
from formats.experts import load_experts, save_expert
from model import Sampling
from rl import Learner, Settings, accuracy, imitate, reinforce, train_expert
from tasks import get_task, sandbox
from tasks.dispatch import N_EXAMPLES, dispatch_task
from tasks.jsonl import FEWEST

EVAL_EVERY = 8  # steps between validations
SHOWN = {"right": "right {:6.1%}", "finished": "finished {:6.1%}", "tokens": "{:5.1f} tokens",
         "kl": "kl {:.4f}", "grad_norm": "grad {:6.2f}", "z_change": "change {:.4f}",
         "seconds": "{:5.1f} s", "val_accuracy": "validation {:6.1%}", "warning": "{}"}  # in a step's line

@dataclass
class Config:
    task: str = flag("math", "math, code, reasoning, dispatch, a jsonl file of your own questions; with "
                             "--data also gsm8k, mbpp, arc_easy, mawps, easy_vqa")
    quick: bool = flag(False, "a first look: 4 steps, 32 problems to validate and 64 to compare")
    model: str = flag(DEFAULT_MODEL, MODEL_HELP)
    chat_template: str = flag("", TEMPLATE_HELP)
    eyes: str = flag(DEFAULT_EYES, EYES_HELP)
    data: str = flag("", DATA_HELP)
    experts: str = flag("experts", "folder of the experts that dispatch chooses among")
    out: str = flag("", "folder to write to; empty: out/TASK-SEED")
    adapter: str = flag("svf", "what is learned: svf, lora, or the name of an adapter file of your own")
    basis: str = flag("svd", "of svf: svd or, to compare with, random or identity (a scale per channel)")
    rank: int = flag(1, "of lora")
    alpha: float = flag(32.0, "of lora, whose change is scaled by alpha / rank", (1e-6, 1e6))
    objective: str = flag("reward", "reward, or sft: next-token loss on the gold answers")
    learner: str = flag("reinforce", "how z follows the reward: reinforce, or es (evolution strategies)")
    modules: str = flag("all", "which linears are adapted: attn (wq wk wv wo), mlp (w1 w2 w3), qv or all")
    layers: str = flag("", "of them, those of some blocks: even, or a range as 8-15; empty: all")
    steps: int = flag(32, "updates of z")
    rollouts: int = flag(64, "sampled answers per step")
    group: int = flag(0, "of them, answers to the same problem, compared with each other; 0: as the task "
                         "says, 4 or, for dispatch, 1, where all answers of the step are compared")
    micro_batch: int = flag(16, "answers in one forward and backward pass; fewer need less memory")
    lr: float = flag(4e-3, "learning rate, twice the paper's for a tenth of its updates", (1e-9, 1))
    temperature: float = flag(0.7, "of rollouts and loss alike; greedy answers are no REINFORCE", (0.01, 10))
    kl: float = flag(0.0, "λ; above 0 the gradient of a step costs a third more", (0, 10))
    max_new_tokens: int = flag(40, "cap of an answer to a question of your own; other tasks have theirs")
    patience: int = flag(3, f"validations, one every {EVAL_EVERY} steps, without a better one before the end")
    n_val: int = flag(256, "problems that choose the best z, the same each time")
    n_test: int = flag(256, "problems of each split in the final comparison; they choose nothing")
    seed: int = flag(0, "of everything random, but for LoRA's first A and the random basis: these are fixed")
    device: str = flag("", DEVICE_HELP)
    dtype: str = flag("", DTYPE_HELP)
    tensor_parallel: bool = flag(False, "the processes of torchrun hold one model, each a part of it")
    resume: bool = flag(False, "go on from the state in the output folder")

def changed(config, names):
    """Those of the flags that are not at their defaults."""
    return [name for name in names if getattr(config, name) != getattr(Config, name)]

def check_flags(config):
    """Raises ValueError for flags that do not go together."""
    if config.quick:
        for name in changed(config, ["steps", "n_val", "n_test"]):
            raise ValueError(f"--quick sets {flag_name(name)}; leave one of them out")
    check_learner(config)
    if config.basis not in svf.BASES:
        raise ValueError(f"--basis {config.basis} is not known; choose {', '.join(svf.BASES)}")
    for name, adapter in (("basis", "svf"), ("rank", "lora"), ("alpha", "lora")):
        if config.adapter != adapter and changed(config, [name]):
            raise ValueError(f"--{name} belongs to --adapter {adapter}, not to {config.adapter}")
    for name in changed(config, unused_flags(config)):
        raise ValueError(f"{flag_name(name)} has no part in --objective {config.objective} "
                         f"--learner {config.learner}; leave it out")
    if config.tensor_parallel and config.adapter != "svf":
        raise ValueError(f"--tensor-parallel cuts models under --adapter svf, not {config.adapter}")
    if config.tensor_parallel and config.basis != "svd":
        raise ValueError("--tensor-parallel moves z from one side of a weight to the other, which --basis "
                         f"{config.basis} does not allow; leave one of them out")
    if config.task == "dispatch":
        for name in changed(config, ["adapter", "basis", "objective"]):
            raise ValueError("--task dispatch learns by rewards the classifier that sample.py uses, an "
                             f"expert of svf; leave out --{name}")

def check_learner(config):
    """Raises ValueError for an objective and a learner that are not known or do not go together."""
    if config.objective not in ("reward", "sft"):
        raise ValueError(f"--objective {config.objective} is not known; choose reward or sft")
    if config.learner not in ("reinforce", "es"):
        raise ValueError(f"--learner {config.learner} is not known; choose reinforce or es")
    if config.learner == "reinforce":
        return
    if config.objective == "sft":
        raise ValueError("--learner es follows rewards, and --objective sft has none; leave one of them out")
    if config.adapter != "svf":
        raise ValueError(f"--learner es learns the z of --adapter svf, not {config.adapter}")
    es.check_rollouts(config.rollouts)
    if parallel.world() > 1:
        raise ValueError("--learner es runs in one process; leave out torchrun")

def unused_flags(config):
    if config.learner == "es":
        return ["kl", "group", "temperature", "micro_batch"]
    if config.objective == "sft":
        return ["group", "temperature"]
    return []

def read_config():
    """The flags, checked, with --quick and the folders filled in."""
    config = parse_flags(Config, __doc__)
    check_flags(config)
    if config.quick:
        config = replace(config, steps=4, n_val=32, n_test=64)
    if not config.out:
        name = f"{Path(config.task).stem}-{config.seed}"
        config = replace(config, out=f"out/{name}-quick" if config.quick else f"out/{name}")
    config = replace(config, experts=str(beside_the_scripts(config.experts)))
    print(json.dumps(asdict(config), ensure_ascii=False))
    return config

# -- a run's folder ------------------------------------------------------------------------------------------

@dataclass
class Run:
    """The folder of a run: its log, and the state that --resume goes on from."""
    config: Config
    folder: Path
    state: dict  # as rl.train_expert keeps it; {} for a new run
    logged: int  # bytes of the log that belong to the state
    fingerprint: str  # of the model that the state is of; "" for a new run
    lock: object = None  # the log, open and locked; it is free again when this process ends

    @property
    def log(self):
        return self.folder / "log.jsonl" if parallel.rank() == 0 else Path(os.devnull)

    def begin(self, model):
        """From here on the folder is this process's alone. Raises ValueError if another run is at work in it,
        or if the state is of another model; OSError if it cannot be written."""
        if self.state and self.fingerprint != model.fingerprint:
            raise ValueError(f"{self.folder} was begun with another model than {model.name} is now")
        self.fingerprint = model.fingerprint
        if parallel.rank() > 0:
            return  # the first process writes
        self.lock = lock_log(self.folder, self.config.resume, self.logged)

    def save_step(self, metrics):
        append(self.log, metrics)
        if parallel.rank() > 0:
            return
        save_state(self.folder, {"state": self.state, "config": asdict(self.config),
                                 "fingerprint": self.fingerprint, "logged": self.log.stat().st_size})

def open_run(config):
    """A new run, or what an earlier one left to go on from. Raises ValueError where the flags do not fit."""
    folder = Path(config.out)
    path = folder / "state.pt"
    check_resume(folder, path.exists(), config.resume)
    if not config.resume:
        return Run(config, folder, state={}, logged=0, fingerprint="")
    device, _ = pick_device(config.device, config.dtype)
    saved = read_state(path, device)
    check_same_flags(folder, saved["config"], config)
    print(f"going on after step {saved['state']['step']}")
    return Run(config, folder, saved["state"], saved["logged"], saved["fingerprint"])

def read_state(path, device):
    """What `save_step` wrote. Raises ValueError for a file that is damaged, or something else."""
    with whole_state(path):
        saved = torch.load(path, weights_only=True, map_location=device)
        state = saved["state"]
        numbers = [*state["z"].values(), *state["best"].values()]
        is_whole = ("param_groups" in state["optimizer"] and 0 <= state["best_step"] <= state["step"]
                    and saved["logged"] >= 0 and numbers != [] and isinstance(saved["fingerprint"], str)
                    and isinstance(saved["config"], dict)
                    and all(values.isfinite().all() for values in numbers))
        if not is_whole:
            raise ValueError("its numbers make no sense")
    return saved

# -- what learns, and what from ------------------------------------------------------------------------------

def shares_of(config):
    """Each process has problems of its own, unless they hold one model together."""
    if config.tensor_parallel:
        return parallel.Shares()
    return parallel.Shares(parallel.rank(), parallel.world())

def training_task(config):
    """The task, or None for dispatch, whose task depends on the experts. Raises ValueError for one that
    nothing can be learned from."""
    if config.task == "dispatch":
        check_rollouts(config, usual_group=1)
        return None
    task = get_task(config.task, config.data, config.max_new_tokens)
    if "train" not in task.splits and config.task.endswith(".jsonl"):
        raise ValueError(f"{config.task} has too few rows to train on: a hash of the question sends them to "
                         "training, validation and test, 60 : 20 : 20, where at least "
                         f"{', '.join(map(str, FEWEST.values()))} are needed")
    if "train" not in task.splits:
        raise ValueError(f"--task {config.task} is only for evaluation; train on another")
    if task.name == "other":
        raise ValueError('"other" is the base model among experts; give the file another name')
    check_rollouts(config, task.group)
    return task

def check_rollouts(config, usual_group):
    """Raises ValueError for rollouts that cannot be compared in groups, or shared by the processes."""
    n_problems = config.rollouts
    if "group" not in unused_flags(config):
        group = config.group or usual_group
        if config.rollouts % group:
            raise ValueError(f"--group {group} must divide --rollouts {config.rollouts}")
        if config.rollouts == 1:
            raise ValueError("--rollouts 1 has no other answer to be compared with; choose more")
        n_problems //= group
    if n_problems % shares_of(config).n:
        raise ValueError(f"{parallel.world()} processes cannot share the {n_problems} problems of a step "
                         "evenly; choose other --rollouts")

def adapter_options(config):
    """What the flags say to the adapter's `wrap`."""
    if config.adapter == "svf":
        return {"basis": config.basis}
    if config.adapter == "lora":
        return {"rank": config.rank, "alpha": config.alpha}
    return {}

def gradient_of(config):
    """The function by which z is learned."""
    if config.objective == "sft":
        return imitate
    if config.learner == "es":
        return es.evolve
    return reinforce

def make_learner(config, task):
    adapter = load_adapter(config.adapter)
    model, tokenizer = open_model(config, config.modules, config.layers, adapter, config.tensor_parallel,
                                  **adapter_options(config))
    if task is not None and task.has_images:
        open_eyes(config.eyes, model, tokenizer)
    sampling = Sampling(config.temperature)
    if task is None:
        categories = adapt.categories_of(load_experts(Path(config.experts), model))
        task = dispatch_task(categories, config.data)
        sampling.logit_bias = adapt.calibrated_bias(model, tokenizer, categories)
    if task.runs_programs:
        print("note: this task runs programs that the model wrote, in limited child processes held by "
              f"{sandbox.fence()} (tasks/sandbox.py)")
    settings = Settings(steps=config.steps, rollouts=config.rollouts, group=config.group or task.group,
                        micro_batch=config.micro_batch, lr=config.lr, lam=config.kl, seed=config.seed,
                        eval_every=EVAL_EVERY, patience=config.patience)
    return Learner(model, tokenizer, adapter, task, sampling, settings, gradient_of(config),
                   shares_of(config))

def greedy_answers(learner, z, problems, desc):
    """Answers at temperature 0 under z, each process answering its share; {} is the base model, whose answers
    are kept between runs, unless there are several processes (one that reads them would wait for one that
    answers), the bias of dispatch, or images."""
    mine = learner.shares.of(problems)

    def answer_them():
        return answer_with_adapter(learner, z, mine, desc)

    is_alone = parallel.world() == 1
    is_biased = learner.sampling.logit_bias is not None  # the dispatcher's, which is no part of the model
    if not z and is_alone and not is_biased and not learner.task.has_images:
        answers = kept_or_answered(answer_them, learner.model, learner.tokenizer, learner.task, mine)
    else:
        answers = answer_them()
    return learner.shares.joined(answers)

# -- the steps of main ---------------------------------------------------------------------------------------

def train(run, learner):
    """All steps, each logged, saved and shown in a line. The best z is run.state["best"]."""
    val_problems = learner.task.problems("val", run.config.n_val, TEST_SEED)

    def validate(z):
        return accuracy(greedy_answers(learner, z, val_problems, "validation"))

    with bar(desc="rollout", unit="token") as tokens:

        def count_token(row, token):
            tokens.update()

        clock = time.time()
        for metrics in train_expert(learner, run.state, validate, count_token):
            metrics["seconds"] = round(time.time() - clock, 1)
            clock = time.time()
            run.save_step(metrics)
            tokens.reset()
            shown = [text.format(metrics[key]) for key, text in SHOWN.items() if key in metrics]
            tqdm.write(" | ".join([f"step {metrics['step']:3d}/{run.config.steps}", *shown]))
    print(f"best in validation: step {run.state['best_step']}, "
          f"{100 * run.state['best_accuracy']:.1f} % of {len(val_problems)}\n")

def save_best(run, learner, examples):
    """The best z as a file that says what it is -> its path."""
    task, model = learner.task, learner.model
    path = run.folder / f"{task.name}.safetensors"
    if parallel.rank() > 0:
        return path
    save_expert(path, run.state["best"], {
        "fingerprint": model.fingerprint, "base": model.name, "adapter": run.config.adapter,
        **adapter_options(run.config), "kind": "dispatch" if run.config.task == "dispatch" else "task",
        "task": run.config.task, "examples": examples, "description": task.description, "system": task.system,
        "instruction": task.instruction, "prefill": task.prefill, "step": run.state["best_step"],
        "val_accuracy": run.state["best_accuracy"], "val_n": run.config.n_val, "command": command_line()})
    return path

def compare_with_base(run, learner):
    """Base and expert on problems that neither training nor validation has seen."""
    for split in learner.task.splits:
        if split in ("train", "val"):
            continue
        problems = learner.task.problems(split, run.config.n_test, TEST_SEED)
        answers = {}
        for row, z in (("base", {}), ("expert", run.state["best"])):
            answers[row] = greedy_answers(learner, z, problems, f"{row}, {split}")
            report(run.log, learner.task.name, split, row, problems, answers[row])
        by_problem = gains(answers["base"], answers["expert"])
        templates = templates_of(problems)
        mean, error = mean_and_error(by_problem, templates)
        print(f"{'':<43} {100 * mean:+5.1f} ± {100 * error:3.1f} points, problem by problem")
        append(run.log, {"task": learner.task.name, "split": split, "gain": mean, "gain_se": error,
                         "gains": by_problem, "templates": templates})
    # of the last split, the one of unseen problems
    show(problems, {row: (problems, answers_of_row) for row, answers_of_row in answers.items()})

def say_what_is_next(run, expert, example):
    """What to type, with an example problem of the task."""
    config = run.config
    file, experts = shlex.quote(str(expert)), shlex.quote(config.experts)
    request = example.prompt
    if config.task == "dispatch":  # its problems are a long question about a request, which is its last line
        request = request.splitlines()[-1].removeprefix("Request: ")
    if example.instruction:  # that of a problem; the task's own stands in the expert's metadata
        request += f" {example.instruction}"
    request = shlex.quote(request)
    on_model = model_flags(config)
    print(f"\nwrote {expert} and {run.log}. Next:")
    if example.image:
        on_model += f" --image {shlex.quote(example.image)}"
        if config.eyes != DEFAULT_EYES:
            on_model += f" --eyes {shlex.quote(config.eyes)}"
    can_answer = config.adapter == "svf" and config.basis == "svd"  # sample.py computes with no other
    if config.task == "dispatch" and can_answer:
        print(f"  cp {file} {experts}")
        print(f"  python sample.py --adapt classifier --experts {experts}{on_model} {request}")
    elif can_answer:
        print(f"  python sample.py --expert {file} --compare{on_model} {request}")
    print(f"  python plot.py {shlex.quote(str(run.folder))}")

def main():
    started = time.time()
    parallel.start()
    config = read_config()
    run = open_run(config)
    parallel.gather(None)  # nobody writes before all have looked at what is there
    learner = make_learner(config, training_task(config))
    run.begin(learner.model)
    train(run, learner)
    examples = learner.task.problems("train", N_EXAMPLES, config.seed)
    expert = save_best(run, learner, [problem.prompt for problem in examples])
    compare_with_base(run, learner)
    seconds = round(time.time() - started)
    append(run.log, {"command": command_line(), "seconds": seconds, "machine": machine(learner.model),
                     "peak_bytes": peak_memory(learner.model.tok_embeddings.weight.device)})
    print(f"\n{seconds} s in all")
    say_what_is_next(run, expert, examples[0])

if __name__ == "__main__":
    run_main(main)
