"""What every script does first and last: flags, device, opening a model; answering many problems, reporting.

All flags and printing are here and in the scripts; the files that these import have none.
"""
import argparse
import hashlib
import importlib
import json
import math
import os
import platform
import shlex
import sys
import time
from dataclasses import asdict, field, fields, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

import svf
from adapt import second_pass
from formats.default_model import cache_folder
from formats.experts import KeptBases
from formats.load import load
from rl import Answer, accuracy, rollout
from tasks.grading import mentions_gold

TEST_SEED = 12345  # of validation and comparison problems, whatever the seed of a run
bar = partial(tqdm, leave=False, disable=None, dynamic_ncols=True)  # silent where stderr is no terminal

# -- flags ---------------------------------------------------------------------------------------------------

def flag(default, help):
    """A field of a script's Config, with the help text of its flag."""
    return field(default=default, metadata={"help": help})

def argument(default, help):
    """The same for what stands on the command line without a flag; at most one field of a Config."""
    return field(default=default, metadata={"help": help, "positional": True})

MODEL_HELP = "a Meta or Hugging Face folder, a .gguf file, or the default model by name"
DATA_HELP = "folder of the real data sets' jsonl files"
DEVICE_HELP = "cuda, mps or cpu; empty: the first of these that is there"
DTYPE_HELP = "bfloat16 or float32; empty: bfloat16 where it is native"

def parse_flags(Config, doc):
    """Config as the command line says, by `flag` and `argument`. Raises ValueError for a count below 1."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for config_field in fields(Config):
        name = "--" + config_field.name.replace("_", "-")
        how = {"default": config_field.default,
               "help": f"{config_field.metadata['help']} (default: {config_field.default!r})"}
        if config_field.type is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how["type"] = config_field.type
        if config_field.metadata.get("positional"):
            name = config_field.name
            how["nargs"] = "?"
        parser.add_argument(name, **how)
    config = Config(**vars(parser.parse_args()))
    for config_field in fields(Config):
        value = getattr(config, config_field.name)
        is_count = config_field.type is int and config_field.name != "seed"
        if is_count and value < 1 and value != config_field.default:
            raise ValueError(f"--{config_field.name.replace('_', '-')} must be at least 1")
    return config

def run_main(main):
    """main(); a wrong input is one sentence and exit code 2, Ctrl-C one line and 130."""
    try:
        main()
        return
    except torch.OutOfMemoryError:
        code = 2
        said = "error: out of memory; ask for fewer rows at a time (bench.py --plan says what fits)"
    except (ValueError, OSError) as error:
        code, said = 2, f"error: {error}"
    except KeyboardInterrupt:
        code, said = 130, "\ninterrupted"
    print(said, file=sys.stderr)
    sys.exit(code)

# -- logs ----------------------------------------------------------------------------------------------------

def command_line():
    """The command that started this script, as a user would type it."""
    return shlex.join(["python", *sys.argv])

def append(path, record):
    """Add a line of JSON to the log at `path`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")

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
    """What a log must say of where it was made: the chip, its cores, the dtype and PyTorch's version."""
    table = model.tok_embeddings.weight
    on_gpu = table.device.type == "cuda"
    return {"chip": torch.cuda.get_device_name(table.device) if on_gpu else processor_name(),
            "cores": os.cpu_count(), "dtype": dtype_name(table.dtype), "torch": torch.__version__}

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

def pick_device(device, dtype):
    """(device, dtype) that the flags ask for, or the best there is. Raises ValueError for what is missing."""
    available = available_devices()
    device = device or available[0]
    if device not in available:
        raise ValueError(f"--device {device} is not available here; there is {', '.join(available)}")
    if dtype not in ("", "float32", "bfloat16"):
        raise ValueError(f"--dtype {dtype} is not supported; choose float32 or bfloat16 (float16 overflows)")
    if not dtype:
        dtype = "bfloat16" if has_native_bfloat16(device) else "float32"
    return torch.device(device), getattr(torch, dtype)

def decomposed(model, names):
    """svf.wrap with a progress bar; the default model takes seconds, an 8B minutes: such bases are kept."""
    progress = partial(bar, desc="decomposing")
    if model.args.dim <= 1024:  # less than a minute
        return svf.wrap(model, names, progress)
    return svf.wrap(model, names, progress, KeptBases(model.fingerprint, svf.decompose))

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

def open_model(name, modules, device, dtype, adapter=svf):
    """Load, decompose, cast, and say what it is -> (wrapped model on its device, tokenizer)."""
    started = time.time()
    if modules not in svf.MODULES:
        raise ValueError(f"--modules {modules} is not known; choose {', '.join(svf.MODULES)}")
    device, dtype = pick_device(device, dtype)
    model, tokenizer = load(name, device, progress=partial(bar, desc="loading"))
    if adapter is svf:
        decomposed(model, svf.MODULES[modules])
    else:
        adapter.wrap(model, svf.MODULES[modules])
    model.to(dtype)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{name}: {millions:.0f} M parameters on {device} in {dtype_name(dtype)}, ready in "
          f"{time.time() - started:.0f} s")
    return model, tokenizer

# -- answering many problems ---------------------------------------------------------------------------------

def answer_all(answer, problems, desc, batch_size=64):
    """list[Answer] to all problems. answer(indices) -> list[Answer] to those; the prompts of a batch are of
    like length."""
    order = sorted(range(len(problems)), key=lambda i: len(problems[i].prompt))
    answers = {}
    with bar(desc=desc, total=len(problems)) as progress:
        for start in range(0, len(order), batch_size):
            indices = order[start:start + batch_size]
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

def kept_answers_file(model, task, problems):
    """Where the base model's greedy answers to these problems are kept. Its name hashes all they depend on:
    the model, the machine, the problems, and the code that answers and grades them."""
    asked = (task.system, task.instruction, task.max_new_tokens, task.stop, problems)
    digest = hashlib.sha256(repr((model.fingerprint, machine(model), asked)).encode())
    folder = Path(__file__).parent
    for source in [folder / "model.py", folder / "rl.py", folder / "common.py",
                   *sorted(folder.glob("tasks/*.py")), *sorted(folder.glob("formats/*.py"))]:
        digest.update(source.read_bytes())
    return cache_folder() / "base-answers" / f"{digest.hexdigest()}.json"

def kept_or_answered(answer_them, model, task, problems):
    """The base model's answers, which no seed of a training run changes: read again, or made by
    answer_them() and kept in the user's cache folder."""
    path = kept_answers_file(model, task, problems)
    if path.exists():
        return [Answer(**kept) for kept in json.loads(path.read_text())]
    answers = answer_them()
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps([asdict(answer) for answer in answers]))
        beside.replace(path)
    except OSError as error:
        print(f"note: the base model's answers are not kept for the next run ({error})")
    return answers

# -- reporting -----------------------------------------------------------------------------------------------

def lenient_accuracy(problems, answers):
    """Share of answers that mention the gold answer anywhere; None for programs."""
    mentioned = [mentions_gold(problem, answer.text) for problem, answer in zip(problems, answers)]
    return None if None in mentioned else sum(mentioned) / len(mentioned)

def clustered_error(values, problems):
    """Standard error of the mean of `values`, one per problem, where those of one template stand or fall
    together: √(Σ_templates (Σ_i (v_i − mean))² · G / (G − 1)) / n. None for problems without templates."""
    templates = [problem.template for problem in problems]
    groups = len(set(templates))
    if -1 in templates or groups < 2:
        return None
    mean = sum(values) / len(values)
    deviation = dict.fromkeys(templates, 0.0)
    for value, template in zip(values, templates):
        deviation[template] += value - mean
    variance = sum(total ** 2 for total in deviation.values()) * groups / (groups - 1)
    return math.sqrt(variance) / len(values)

def report(log, task, split, row, problems, answers, **more):
    """A row of a table, on the screen and in the log: accuracy ± standard error (the larger of the binomial
    one and that clustered by template), lenient accuracy, share of finished answers, n."""
    p = accuracy(answers)
    binomial = math.sqrt(p * (1 - p) / len(answers))
    clustered = clustered_error([float(a.r > 0) for a in answers], problems)
    se = max(binomial, clustered or 0.0)
    lenient = lenient_accuracy(problems, answers)
    finished = sum(a.finished for a in answers) / len(answers)
    lenient_text = "    - " if lenient is None else f"{100 * lenient:5.1f} %"
    print(f"{task:<15} {split:<8} {row:<18} {100 * p:5.1f} ± {100 * se:3.1f} %   lenient {lenient_text}   "
          f"finished {100 * finished:5.1f} %   n {len(answers)}", flush=True)
    append(log, {"task": task, "split": split, "row": row, "accuracy": p, "se": se, "se_binomial": binomial,
                 "lenient": lenient, "finished": finished, "n": len(answers), **more})

def gain(problems, base, answers):
    """(mean gain over the base model's answers to the same problems, its standard error)."""
    gains = [float(a.r > 0) - float(b.r > 0) for a, b in zip(answers, base)]
    mean = sum(gains) / len(gains)
    independent = math.sqrt(sum((g - mean) ** 2 for g in gains)) / len(gains)
    return mean, max(independent, clustered_error(gains, problems) or 0.0)

def show(problems, rows, n=4):
    """The first few problems, and side by side what each row {name: answers} said to them."""
    for i, problem in enumerate(problems[:n]):
        print(f"\n{problem.prompt}   ({problem.gold.strip()})")
        for row, answers in rows.items():
            verdict = "right" if answers[i].r > 0 else "wrong"
            print(f"  {row:<8} {verdict}  {problem.prefill + answers[i].text!r}")
