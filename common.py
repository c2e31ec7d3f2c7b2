"""What every script does first and last: flags, device, opening a model; answering many problems, reporting.

All flags and printing are here and in the scripts; the files that these import have none.
"""
import argparse
import hashlib
import importlib
import json
import math
import os
import pickle
import platform
import re
import shlex
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None
import torch
from tqdm import tqdm

import parallel
import svf
from adapt import second_pass
from formats.default_model import DEFAULT_MODEL, cache_folder
from formats.experts import KeptBases
from formats.eyes import give_sight, load_eyes
from formats.load import load
from formats.tokenizer import read_template
from rl import Answer, chat_ids, finished_share, graded, rollout
from tasks.grading import mentions_gold

ROOT = Path(__file__).parent
TEST_SEED = 12345  # of validation and comparison problems, whatever the seed of a run
bar = partial(tqdm, leave=False, disable=None, dynamic_ncols=True)  # silent where stderr is no terminal

# -- flags ---------------------------------------------------------------------------------------------------

def flag(default, help, between=None):
    """A field of a script's Config, with the help text of its flag, and what a number must lie between."""
    return field(default=default, metadata={"help": help, "between": between})

def argument(default, help):
    """The same for what stands on the command line without a flag; at most one field of a Config."""
    return field(default=default, metadata={"help": help, "positional": True})

MODEL_HELP = "a Meta or Hugging Face folder, a .gguf file, or the default model by name"
TRANSFER_HELP = "take experts that were made for another model of the same shape"
TEMPLATE_HELP = "a file with a Jinja chat template; empty: the model's own"
DATA_HELP = "folder of the real data sets' files"
EYES_HELP = "eyes of a language model that has none of its own, made by train_eyes.py"
DEFAULT_EYES = "experts/eyes/smollm2-135m.safetensors"
DEVICE_HELP = "cuda, mps or cpu; empty: the first of these that is there"
DTYPE_HELP = "bfloat16 or float32; empty: bfloat16 where it is native"

class Parser(argparse.ArgumentParser):
    """argparse, with errors of one sentence."""
    takes_a_prompt = False

    def error(self, message):
        if self.takes_a_prompt:
            message += "; a prompt that begins with a dash goes behind --"
        raise ValueError(f"{message}; --help lists the flags")

def flag_name(field_name):
    return "--" + field_name.replace("_", "-")

def check_number(config_field, value):
    """Raises ValueError for a number that a flag cannot have; counts may be 1 to a million, and a default is
    always allowed."""
    between = config_field.metadata.get("between")
    if between is None and config_field.type is int:
        between = (-10 ** 9, 10 ** 9) if config_field.name == "seed" else (1, 10 ** 6)
    if between is None or value == config_field.default:
        return
    least, most = between
    if not least <= value <= most:  # NaN does not lie between either
        name = flag_name(config_field.name)
        raise ValueError(f"{name} must be between {least:g} and {most:g}, not {value:g}")

def parse_flags(Config, doc):
    """Config as the command line says, by `flag` and `argument`. Raises ValueError for a wrong value."""
    parser = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for config_field in fields(Config):
        name = flag_name(config_field.name)
        how = {"default": config_field.default,
               "help": f"{config_field.metadata['help']} (default: {config_field.default!r})"}
        if config_field.type is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how["type"] = config_field.type
        if config_field.metadata.get("positional"):
            name = config_field.name
            how["nargs"] = "?"
            parser.takes_a_prompt |= name == "prompt"
        parser.add_argument(name, **how)
    config = Config(**vars(parser.parse_args()))
    for config_field in fields(Config):
        if config_field.type in (int, float):
            check_number(config_field, getattr(config, config_field.name))
    return config

def beside_the_scripts(folder):
    """The folder, or the one of that name beside the scripts where the current folder has none."""
    if not Path(folder).exists() and (ROOT / folder).exists():
        return ROOT / folder
    return Path(folder)

def open_streams():
    """Every stream leads somewhere, and a character that it lacks becomes "?": no output ends the work."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

def run_main(main):
    """main(); a wrong input is one sentence and exit code 2, Ctrl-C one line and 130."""
    open_streams()
    try:
        main()
        sys.stdout.flush()
        return
    except BrokenPipeError:
        code, said = 2, "error: whoever read the output has closed it; what was logged and saved is whole"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    except RuntimeError as error:
        # on a GPU a class of its own; on a CPU PyTorch only says so
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        code = 2
        said = "error: out of memory; ask for fewer rows at a time (bench.py --plan says what fits)"
    except (ValueError, OSError) as error:
        process = f"process {parallel.rank()}: " if parallel.rank() > 0 else ""
        code, said = 2, f"{process}error: {error}"
    except KeyboardInterrupt:
        code, said = 130, "\ninterrupted"
    print(said, file=sys.stderr)
    sys.exit(code)

# -- a run's state -------------------------------------------------------------------------------------------

def check_resume(folder, is_begun, resume):
    """Raises ValueError where a run would be begun over another, or there is nothing to go on from."""
    if is_begun and not resume:
        raise ValueError(f"{folder} holds a run already; go on with --resume, or choose another --out")
    if resume and not is_begun:
        raise ValueError(f"there is nothing to resume in {folder}; leave out --resume")

def check_same_flags(folder, begun_with, config):
    """Raises ValueError for a flag that is not what the run in the folder began with."""
    for key, value in asdict(config).items():
        if key not in begun_with:
            raise ValueError(f"{folder} was begun by a version without {flag_name(key)}; begin again in "
                             "another --out")
        if key != "resume" and begun_with[key] != value:
            raise ValueError(f"{folder} began with {key} = {begun_with[key]!r}; keep the flags")

def locked(file):
    """Whether no other process has a lock on the open file; from here on this one has."""
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
    if not locked(log):
        raise ValueError(f"another run is at work in {folder}; choose another --out")
    check_resume(folder, (folder / "state.pt").exists(), resume)
    size = log.seek(0, os.SEEK_END)
    log.truncate(min(logged, size))  # logged but not saved is done again
    for half_written in (*folder.glob("state.part"), *folder.glob("*.safetensors.*.part")):
        half_written.unlink()  # by a run that was killed while it saved
    return log

@contextmanager
def whole_state(path):
    """Raises ValueError where reading a run's state in this block finds it damaged, or something else."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, LookupError, TypeError, AttributeError, ValueError,
            pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}); begin again in another --out") from error

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

def model_flags(config):
    """The flags by which another script opens the same model, as a user would type them behind a command."""
    flags = "" if config.model == DEFAULT_MODEL else f" --model {shlex.quote(config.model)}"
    if config.chat_template:
        flags += f" --chat-template {shlex.quote(config.chat_template)}"
    return flags

# -- logs ----------------------------------------------------------------------------------------------------

def command_line():
    """The command that started this script, as a user would type it."""
    if parallel.world() > 1:
        return shlex.join(["torchrun", "--nproc-per-node", str(parallel.world()), *sys.argv])
    return shlex.join(["python", *sys.argv])

def open_log(path):
    """Make sure, before the work begins, that its results can be written. Raises OSError if not."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a"):
        pass

def append(path, record):
    """Add a line of JSON to the log at `path`: the whole line, or, where the disk is full, nothing of it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record) + "\n").encode()
    with open(path, "ab", buffering=0) as file:
        whole = file.tell()
        if file.write(line) < len(line):
            file.truncate(whole)
            raise OSError(f"{path}: the disk is full")

def read_log(path):
    """The records of a jsonl log. Raises ValueError for a line that is no JSON object."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; train.py and eval.py write such logs")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path} line {number} is no JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path} line {number} is no JSON object")
        records.append(record)
    return records

def rows_of(records, **wanted):
    """The records that have all the wanted values."""
    return [record for record in records if all(record.get(key) == value for key, value in wanted.items())]

def proc_status(key):
    """A memory figure of this process in bytes, or 0 where there is no /proc."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)

def peak_memory(device):
    """The most bytes this process has held so far, on a GPU those of its tensors; 0 where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return proc_status("VmHWM")

def processor_name():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

def machine(model):
    """What a log must say of where it was made: the chip and its cores, the device that computes, the dtype
    and PyTorch's version."""
    table = model.tok_embeddings.weight
    on_gpu = table.device.type == "cuda"
    return {"chip": torch.cuda.get_device_name(table.device) if on_gpu else processor_name(),
            "cores": os.cpu_count(), "device": table.device.type, "dtype": dtype_name(table.dtype),
            "torch": torch.__version__}

# -- device and model ----------------------------------------------------------------------------------------

def dtype_name(dtype):
    return str(dtype).removeprefix("torch.")

def available_devices():
    """Names that --device takes here, the preferred one first."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    devices = ["cuda"] if gpus else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu", *gpus]

def has_native_bfloat16(device):
    if device == "cpu":
        cpu = torch.cpu.get_capabilities()
        return any(cpu.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return device != "mps" and torch.cuda.is_bf16_supported(including_emulation=False)

def check_dtype(dtype):
    if dtype not in ("", "float32", "bfloat16"):
        raise ValueError(f"--dtype {dtype} is not supported; choose float32 or bfloat16 (float16 overflows)")

def pick_device(device, dtype):
    """(device, dtype) that the flags ask for, or the best there is. Raises ValueError for what is missing."""
    available = available_devices()
    device = device or parallel.device() or available[0]
    if device not in available:
        raise ValueError(f"--device {device} is not available here; there is {', '.join(available)}")
    check_dtype(dtype)
    if not dtype:
        dtype = "bfloat16" if has_native_bfloat16(device) else "float32"
    return torch.device(device), getattr(torch, dtype)

def decomposed(model, names, device, basis="svd"):
    """svf.wrap with a progress bar; the default model takes seconds, an 8B minutes on `device`, wherever its
    weights are: such bases are kept."""

    def decompose_there(W):
        return svf.decompose(W.to(device))

    basis_of = svf.BASES[basis]
    if basis == "svd" and model.args.dim > 1024:  # more than a minute
        basis_of = KeptBases(model.fingerprint, decompose_there)
    return svf.wrap(model, names, partial(bar, desc="decomposing"), basis_of)

def in_layers(model, names, layers):
    """Full names of the linears of some layers: "even", or "8-15", both ends included. Raises ValueError for
    layers that the model does not have."""
    n_layers = model.args.n_layers
    found = re.fullmatch(r"(\d+)-(\d+)", layers)
    if layers == "even":
        chosen = range(0, n_layers, 2)
    elif found and int(found[1]) <= int(found[2]) < n_layers:
        chosen = range(int(found[1]), int(found[2]) + 1)
    else:
        raise ValueError(f"--layers {layers}: choose even, or a range of 0-{n_layers - 1}")
    return [name for name, _ in svf.linears(model, names) if int(name.split(".")[1]) in chosen]

def load_adapter(name):
    """The adapter module of that name: svf, or a file NAME.py of your own beside the scripts.

    Raises ValueError if there is none, or if it lacks one of the three functions of an adapter.
    """
    try:
        adapter = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ValueError(f"--adapter {name} needs a package that is missing: {error.name}") from error
        raise ValueError(f"--adapter {name}: there is no {name}.py beside the scripts") from error
    missing = [function for function in ("wrap", "start", "using") if not hasattr(adapter, function)]
    if missing:
        raise ValueError(
            f"--adapter {name} has no function {missing[0]}; svf.py shows the three that an adapter needs")
    return adapter

@dataclass
class ModelChoice:
    """Which model, and how it computes: the four fields that every script's Config has."""
    model: str = DEFAULT_MODEL
    chat_template: str = ""  # a file; "" is the model's own
    device: str = ""
    dtype: str = ""

def load_for_chat(choice, device, dtype=None):
    """The model that the flags name, in its file's dtype or another, and a tokenizer with its chat template.
    Raises ValueError for a model that has none."""
    model, tokenizer = load(choice.model, device, dtype, progress=partial(bar, desc="loading"))
    if choice.chat_template:
        tokenizer.use_template(read_template(choice.chat_template))
    if tokenizer.format is None:
        raise ValueError(f"{choice.model} has no chat template; name a file with one: --chat-template FILE")
    return model, tokenizer

def open_model(choice, modules="all", layers="", adapter=svf, cut=False, **options):
    """Load, decompose, cast, and say what it is -> (wrapped model on its device, tokenizer).

    choice is a Config or a ModelChoice; layers "" are all; cut leaves this process its part of the model
    (parallel.py), which alone goes to its GPU: the whole stays mapped from disk. The options are the
    adapter's: the basis of svf, rank and alpha of lora. Raises ValueError, before the decomposition, for a
    model that cannot chat.
    """
    started = time.time()
    if modules not in svf.MODULES:
        raise ValueError(f"--modules {modules} is not known; choose {', '.join(svf.MODULES)}")
    device, dtype = pick_device(choice.device, choice.dtype)
    model, tokenizer = load_for_chat(choice, "cpu" if cut else device)
    names = svf.MODULES[modules]
    if layers:
        names = in_layers(model, names, layers)
    if adapter is svf:
        decomposed(model, names, device, **options)
    else:
        adapter.wrap(model, names, **options)
    if cut:
        parallel.cut(model)
    model.to(device=device, dtype=dtype)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{choice.model}: {millions:.0f} M parameters on {device} in {dtype_name(dtype)}, ready in "
          f"{time.time() - started:.0f} s")
    return model, tokenizer

def open_eyes(path, model, tokenizer):
    """Make sure that the model sees: by its own eyes, or by those at `path`."""
    if tokenizer.sight is None:
        give_sight(model, tokenizer, load_eyes(beside_the_scripts(path), model))

# -- answering many problems ---------------------------------------------------------------------------------

AT_ONCE = 64  # answers in one batch

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

def kept_answers_file(model, tokenizer, task, problems):
    """Where the base model's greedy answers to these problems are kept. Its name hashes all they depend on:
    the model, the machine, what the model reads, and the code that answers and grades it."""
    prompts = [chat_ids(tokenizer, task, problem) for problem in problems]
    asked = (prompts, problems, task.max_new_tokens, task.stop, sorted(tokenizer.stop_ids))
    digest = hashlib.sha256(repr((model.fingerprint, machine(model), asked)).encode())
    for source in [ROOT / "model.py", ROOT / "svf.py", ROOT / "rl.py", ROOT / "common.py",
                   *sorted(ROOT.glob("tasks/*.py")), *sorted(ROOT.glob("formats/*.py"))]:
        digest.update(source.read_bytes())
    return cache_folder() / "base-answers" / f"{digest.hexdigest()}.json"

def kept_or_answered(answer_them, model, tokenizer, task, problems):
    """The base model's answers, which no seed of a training run changes: read again, or made by
    answer_them() and kept in the user's cache folder."""
    path = kept_answers_file(model, tokenizer, task, problems)
    if path.exists():
        answers = [Answer(**kept) for kept in json.loads(path.read_text())]
        # graded anew: a program that once ran out of time on a busy machine is not wrong for good
        return graded(task, problems, answers)
    answers = answer_them()
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps([asdict(answer) for answer in answers]))
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):  # a folder that takes no file has none to remove
            beside.unlink()
        print(f"note: the base model's answers are not kept for the next run ({error})")
    return answers

# -- reporting -----------------------------------------------------------------------------------------------

def lenient_accuracy(problems, answers):
    """Share of answers that mention the gold answer anywhere; None for programs."""
    mentioned = [mentions_gold(problem, answer.text) for problem, answer in zip(problems, answers)]
    return None if None in mentioned else sum(mentioned) / len(mentioned)

def chance(problems):
    """Share of closed questions that a choice at random among their options would get right; None for open
    ones."""
    if not all(problem.options for problem in problems):
        return None
    return sum(1 / len(problem.options) for problem in problems) / len(problems)

def clustered_error(values, templates):
    """Standard error of the mean of `values`, one per problem, where those of one template stand or fall
    together: √(Σ_templates (Σ_i (v_i − mean))² · G / (G − 1)) / n. 0 for problems without templates."""
    groups = len(set(templates))
    if -1 in templates or groups < 2:
        return 0.0
    mean = sum(values) / len(values)
    deviation = dict.fromkeys(templates, 0.0)
    for value, template in zip(values, templates):
        deviation[template] += value - mean
    variance = sum(total ** 2 for total in deviation.values()) * groups / (groups - 1)
    return math.sqrt(variance) / len(values)

def mean_and_error(values, templates):
    """The mean of one value per problem, and its standard error: the larger of the one for independent
    problems (of hits, the binomial one) and the one clustered by template."""
    mean = sum(values) / len(values)
    independent = math.sqrt(sum((value - mean) ** 2 for value in values)) / len(values)
    return mean, max(independent, clustered_error(values, templates))

def templates_of(problems):
    return [problem.template for problem in problems]

def hits(answers):
    """1 for each right answer, 0 for each wrong one."""
    return [int(a.r > 0) for a in answers]

def gains(base, answers):
    """What each problem gained over the base model's answer to it: 1, 0 or −1."""
    return [hit - base_hit for hit, base_hit in zip(hits(answers), hits(base), strict=True)]

def report(log, task, split, row, problems, answers, **more):
    """A row of a table, on the screen and in the log: accuracy ± standard error, lenient accuracy, share of
    finished answers, n."""
    p, se = mean_and_error(hits(answers), templates_of(problems))
    lenient = lenient_accuracy(problems, answers)
    finished = finished_share(answers)
    lenient_text = "    - " if lenient is None else f"{100 * lenient:5.1f} %"
    print(f"{task:<15} {split:<8} {row:<18} {100 * p:5.1f} ± {100 * se:3.1f} %   lenient {lenient_text}   "
          f"finished {100 * finished:5.1f} %   n {len(answers)}", flush=True)
    append(log, {"task": task, "split": split, "row": row, "accuracy": p, "se": se, "lenient": lenient,
                 "finished": finished, "n": len(answers), **more})

def show(problems, rows, n=4):
    """The first few problems, and side by side what each row said to them. rows {name: (the problems as this
    row read them, its answers)}."""
    for i, problem in enumerate(problems[:n]):
        print(f"\n{problem.prompt}   ({problem.gold.strip()})")
        for row, (asked, answers) in rows.items():
            verdict = "right" if answers[i].r > 0 else "wrong"
            print(f"  {row:<8} {verdict}  {asked[i].prefill + answers[i].text!r}")
