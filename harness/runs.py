"""A run's folder: a log, the state from which --resume goes on, and a lock, so that two runs cannot share it.

State and expert are written beside and then renamed, and what was logged but not saved is cut off and done
again: a run that is killed at any moment goes on as if it had not been.
"""
import hashlib
import os
import pickle
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None
import torch

from formats.experts import read_metadata, save_expert
from harness.flags import find_folder, flag_name, script_name
from harness.logs import append, command_line, machine, peak_memory
from harness.models import pick_device
from harness.scores import TEST_SEED

# -- may this run begin, or go on? ---------------------------------------------------------------------------

# where a run goes on (each of several processes has its own device), and folders, which can be named in more
# than one way: the experts that dispatch chooses among are held against what they were, as files
MAY_DIFFER = ("resume", "device", "out", "experts")

def check_resume(folder, is_begun, resume):
    """Raises ValueError where a run would be begun over another, or there is nothing to go on from."""
    if is_begun and not resume:
        raise ValueError(f"{folder} holds a run already; go on with --resume, or choose another --out")
    if resume and not is_begun:
        raise ValueError(f"there is nothing to resume in {folder}; leave out --resume")

def begun_with(config):
    """What a run begins with: its flags, and its script, as another may learn otherwise by the same flags."""
    return asdict(config) | {"script": Path(script_name()).name}

def check_same_flags(folder, before, config):
    """Raises ValueError for a flag that is not what the run in the folder began with."""
    flags = asdict(config)
    for key in flags:
        if key not in before:
            raise ValueError(f"{folder} was begun by a script without {flag_name(key)}, train.py or an older "
                             "version; go on with that one, or begin again in another --out")
    for key in before:
        if key not in flags and key != "script":
            raise ValueError(f"{folder} was begun by a script with {flag_name(key)}; go on with that one: "
                             "python -m scripts.train")
    for key, value in flags.items():
        if key not in MAY_DIFFER and before[key] != value:
            raise ValueError(f"{folder} began with {key} = {before[key]!r}; keep the flags")
    script = begun_with(config)["script"]
    if before.get("script", script) != script:
        raise ValueError(f"{folder} was begun by {before['script']}; go on with that one")

def check_place(folder):
    """Raises OSError where the folder cannot be made or written to, before hours of work and not after."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is a file; choose another --out")
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"nothing can be written to {nearest}; choose another --out")

def take_lock(file):
    """Lock the open file -> whether we have it now, which we have not if another process had it."""
    if fcntl is None:
        return True  # Windows has none; two runs in one folder are the user's to avoid
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks; there, too
    return True

def lock_log(folder, resume, logged):
    """The folder's log, open and locked until it is closed, cut to the `logged` bytes that belong to the
    state. Raises ValueError where another run is at work in the folder, or has begun there since."""
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / "log.jsonl", "a")
    if not take_lock(log):
        raise ValueError(f"another run is at work in {folder}; choose another --out")
    check_resume(folder, (folder / "state.pt").exists(), resume)
    size = log.seek(0, os.SEEK_END)
    written = (folder / "log.jsonl").read_text(encoding="utf-8")
    has_steps = '{"step": 1,' in written or '{"lesson":' in written  # of an expert, or of eyes
    if not resume and has_steps:
        raise ValueError(f"{folder} has the log of a run but not its state; choose another --out, or move "
                         "the log away")
    log.truncate(min(logged, size))  # logged but not saved is done again
    for half_written in (*folder.glob("state.part"), *folder.glob("*.safetensors.*.part")):
        half_written.unlink()  # by a run that was killed while it saved
    return log

# -- the state on disk ---------------------------------------------------------------------------------------

def save_state(folder, state):
    """What --resume goes on from: written beside, then renamed."""
    beside = folder / "state.part"
    try:
        torch.save(state, beside)
    except RuntimeError as error:  # what torch says where the disk is full
        beside.unlink(missing_ok=True)
        raise OSError(f"{beside} could not be written ({error}); make room and go on with --resume"
                      ) from error
    beside.replace(folder / "state.pt")

@contextmanager
def whole_state(path):
    """Raises ValueError where reading a run's state in this block finds it damaged, or something else."""
    try:
        yield
    except (PermissionError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, OSError, EOFError, LookupError, TypeError, AttributeError, ValueError,
            pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}); begin again in another --out") from error

def read_state(path, device):
    """What `Run.save_step` wrote. Raises ValueError for a file that is damaged, or something else."""
    with whole_state(path):
        saved = torch.load(path, weights_only=True, map_location=device)
        state = saved["state"]
        numbers = [*state["z"].values(), *state["best"].values()]
        is_whole = ("param_groups" in state["optimizer"] and 0 <= state["best_step"] <= state["step"]
                    and saved["logged"] >= 0 and numbers != [] and isinstance(saved["fingerprint"], str)
                    and isinstance(saved["config"], dict) and isinstance(saved["inputs"], dict)
                    and all(values.isfinite().all() for values in numbers))
        if not is_whole:
            raise ValueError("its numbers make no sense")
    return saved

# -- the files that a run reads ------------------------------------------------------------------------------

def inputs_of(config, task):
    """{path: SHA-256} of the files that decide what a run learns: questions and a user's own images, the chat
    template, eyes, the experts among which dispatch chooses. The model has a fingerprint of its own."""
    paths = {Path(file) for file in task.files}
    paths |= {Path(problem.image) for problem in task.rows() if problem.image}
    if config.chat_template:
        paths.add(Path(config.chat_template))
    if task.has_images and hasattr(config, "eyes"):
        paths.add(find_folder(config.eyes))
    if config.task == "dispatch":
        experts = Path(config.experts).glob("*.safetensors")
        paths |= {path for path in experts if read_metadata(path)["kind"] == "task"}
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}

def check_same_inputs(folder, before, inputs):
    """Raises ValueError for a file that is not what the run in the folder began with: the best accuracy so
    far would be held against scores on other questions."""
    for path in sorted(before.keys() | inputs.keys()):
        if before.get(path) != inputs.get(path):
            how = "has changed" if path in before else "was added"
            raise ValueError(f"{path} {how} since {folder} was begun; put back what was there, or begin "
                             "again in another --out")

# -- a run of train.py ---------------------------------------------------------------------------------------

class Run:
    """The folder of a training run: begin, save_step after each step, save_expert, finish.

    state  as rl.train_expert keeps it; {} for a new run
    log    path of log.jsonl
    """
    def __init__(self, config, saved):
        """`saved` is what `save_step` wrote; {} for a new run."""
        self.config = config
        self.folder = Path(config.out)
        self.log = self.folder / "log.jsonl"
        self.state = saved.get("state", {})
        self.logged = saved.get("logged", 0)  # bytes of the log that belong to the state
        self.fingerprint = saved.get("fingerprint", "")  # of the model that the state is of
        self.inputs = saved.get("inputs", {})  # the files it was learned from
        self.lock = None  # the log, open and locked; it is free again when this process ends
        self.seconds_before = saved.get("seconds", 0.0)  # of earlier starts of this run, to the last save
        self.started = time.time()
        self.step_began = self.started

    def take_learner(self, learner):
        """From here on the run is this learner's. Raises ValueError if the state is of another model, or
        learned from other files."""
        model = learner.model
        inputs = inputs_of(self.config, learner.task)
        if self.state and self.fingerprint != model.fingerprint:
            raise ValueError(f"{self.folder} was begun with another model than {model.name} is now")
        if self.state:
            check_same_inputs(self.folder, self.inputs, inputs)
        self.fingerprint = model.fingerprint
        self.inputs = inputs

    def begin(self, learner):
        """From here on the folder is this process's alone. Raises ValueError if another run is at work in it,
        or if the state is of another model or other files; OSError if it cannot be written."""
        self.take_learner(learner)
        self.lock = lock_log(self.folder, self.config.resume, self.logged)
        if not self.state:
            append(self.log, {"config": begun_with(self.config)})
        self.step_began = time.time()

    def save_step(self, metrics):
        """Log the metrics of a step, with its seconds, and save the state -> the metrics with the seconds."""
        now = time.time()
        metrics = metrics | {"seconds": round(now - self.step_began, 1)}
        self.step_began = now
        append(self.log, metrics)
        save_state(self.folder, {"state": self.state, "config": begun_with(self.config),
                                 "fingerprint": self.fingerprint, "inputs": self.inputs,
                                 "logged": self.log.stat().st_size,
                                 "seconds": self.seconds_before + now - self.started})
        return metrics

    def path_of_expert(self, task):
        return self.folder / f"{task.name}.safetensors"

    def save_expert(self, learner, examples, **more):
        """The best z as a file that says what it is -> its path. `examples` are problems of the task; `more`
        metadata say which adapter it is of, where that is not svf."""
        task, model, config = learner.task, learner.model, self.config
        n_val = len(task.problems("val", config.n_val, TEST_SEED))
        metadata = {"fingerprint": model.fingerprint, "base": model.name, "adapter": "svf",
                    "kind": "dispatch" if config.task == "dispatch" else "task", "task": config.task,
                    "examples": [problem.prompt for problem in examples], "system": task.system,
                    "instruction": task.instruction, "solved": list(task.solved), "prefill": task.prefill,
                    "step": self.state["best_step"], "val_accuracy": self.state["best_accuracy"],
                    "val_n": n_val, "command": command_line()}
        save_expert(self.path_of_expert(task), self.state["best"], metadata | more)
        return self.path_of_expert(task)

    def finish(self, model):
        """The last line of the log: what made it, how long it took, pauses aside, and where."""
        seconds = round(self.seconds_before + time.time() - self.started)
        append(self.log, {"command": command_line(), "seconds": seconds, "machine": machine(model),
                          "peak_bytes": peak_memory(model.tok_embeddings.weight.device)})
        print(f"\n{seconds} s in all")

def open_run(config, kind=Run):
    """A new run, or what an earlier one left to go on from. Raises ValueError where the flags do not fit, or
    where torchrun started several processes of a script that is one."""
    if kind is Run and int(os.environ.get("RANK", 0)) > 0:
        raise ValueError("torchrun starts several processes, which learn together by -m scripts.train")
    folder = Path(config.out)
    path = folder / "state.pt"
    check_resume(folder, path.exists(), config.resume)
    check_place(folder)
    if not config.resume:
        return kind(config, {})
    device, _ = pick_device(config.device, config.dtype)
    saved = read_state(path, device)
    check_same_flags(folder, saved["config"], config)
    print(f"going on after step {saved['state']['step']}")
    return kind(config, saved)
