"""What every script does first, flags, device and model, and last, ask all problems and print what came out.

All flags and printing are here and in the scripts; the files that these import have none.
"""
import argparse
import json
import os
import platform
import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from checkpoint import kept_bases, load
from rl import accuracy
from svf import MODULES, decompose, wrap
from tasks import mentions_gold

TEST_SEED = 12345  # of validation and comparison problems, whatever the seed of a run
bar = partial(tqdm, leave=False, disable=None, dynamic_ncols=True)  # silent where stderr is no terminal

def parse_flags(Config, doc):
    """A flag for each field of the dataclass, its comment as help; a field named prompt is positional."""
    lines = Path(sys.modules[Config.__module__].__file__).read_text(encoding="utf-8").splitlines()
    comment = {line.split(":")[0].strip(): line.partition("  # ")[2] for line in lines if "  # " in line}
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Config):
        how = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        name = f"--{field.name.replace('_', '-')}"
        if field.name == "prompt":
            name, how["nargs"] = "prompt", "?"
        parser.add_argument(name, default=field.default,
                            help=f"{comment[field.name]} (default: {field.default!r})", **how)
    config = Config(**vars(parser.parse_args()))
    for field in fields(Config):
        if field.type is int and field.name != "seed" and getattr(config, field.name) < 1:
            raise ValueError(f"--{field.name.replace('_', '-')} must be at least 1")
    return config

def run(main):
    """main(); a wrong input is one sentence and exit code 2, Ctrl-C one line and 130."""
    try:
        return main()
    except torch.OutOfMemoryError:
        code, said = 2, "error: out of memory; ask for fewer rows at a time (bench.py --plan says what fits)"
    except (ValueError, OSError) as error:
        code, said = 2, f"error: {error}"
    except KeyboardInterrupt:
        code, said = 130, "\ninterrupted"
    print(said, file=sys.stderr)
    sys.exit(code)

def append(path, record):
    """Add a line of JSON to the log at `path`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")

def peak_memory(device):
    """The most bytes this process has held so far, on a GPU those of its tensors; 0 where nobody counts."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)

def machine(model):
    """What a log must say of where it was made: the processor, its cores, the dtype and PyTorch's version."""
    table, cpuinfo = model.tok_embeddings.weight, Path("/proc/cpuinfo")
    if table.device.type == "cuda":
        chip = torch.cuda.get_device_name(table.device)
    else:
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        chip = next((line.split(": ")[1] for line in lines if line.startswith("model name")),
                    platform.processor())
    return {"chip": chip, "cores": os.cpu_count(), "dtype": str(table.dtype)[6:], "torch": torch.__version__}

def pick_device(device, dtype):
    """(device, dtype) that the flags ask for, or the best there is. Raises ValueError for what is missing."""
    there = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    there = ["cuda"] * bool(there) + ["mps"] * torch.backends.mps.is_available() + ["cpu"] + there
    device = device or there[0]
    if device not in there:
        raise ValueError(f"--device {device} is not available here; there is {', '.join(there)}")
    if dtype not in ("", "float32", "bfloat16"):
        raise ValueError(f"--dtype {dtype} is not supported; choose float32 or bfloat16 (float16 overflows)")
    if device == "cpu":
        cpu = torch.cpu.get_capabilities()
        native = any(cpu.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        native = device != "mps" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.device(device), getattr(torch, dtype or ("bfloat16" if native else "float32"))

def decomposed(model, names):
    """wrap, with a progress bar; the default model takes seconds, an 8B minutes: such bases are kept."""
    kept = {"basis_of": kept_bases(model.fingerprint, decompose)} if model.args.dim > 1024 else {}
    return wrap(model, names, progress=partial(bar, desc="decomposing"), **kept)

def open_model(name, modules, device, dtype):
    """Load, decompose, cast, and say what it is -> (wrapped model on its device, tokenizer)."""
    started = time.time()
    if modules not in MODULES:
        raise ValueError(f"--modules {modules} is not known; choose {', '.join(MODULES)}")
    device, dtype = pick_device(device, dtype)
    model, tokenizer = load(name, device, progress=partial(bar, desc="loading"))
    decomposed(model, MODULES[modules]).to(dtype)
    size = sum(p.numel() for p in model.parameters()) / 1e6
    seconds = time.time() - started
    print(f"{name}: {size:.0f} M parameters on {device} in {str(dtype)[6:]}, ready in {seconds:.0f} s")
    return model, tokenizer

def answer_all(answer, problems, *columns, desc, batch_size=64):
    """list[Answer] to all problems, by answer(problems, …) on batches of like length cut from the columns."""
    order, answers = sorted(range(len(problems)), key=lambda i: len(problems[i].prompt)), {}
    with bar(desc=desc, total=len(problems)) as progress:
        for start in range(0, len(order), batch_size):
            index = order[start:start + batch_size]
            batch = [[column[i] for i in index] for column in (problems, *columns)]
            answers.update(zip(index, answer(*batch), strict=True))
            progress.update(len(index))
    return [answers[i] for i in range(len(problems))]

def report(log, task, split, row, problems, answers, **more):
    """A row of a table, on the screen and in the log: accuracy ± standard error, lenient accuracy (the gold
    answer anywhere in the text), share of finished answers, n."""
    p, se = accuracy(answers)
    lenient = [mentions_gold(problem, a.text) for problem, a in zip(problems, answers)]
    lenient = None if None in lenient else sum(lenient) / len(lenient)
    finished = sum(a.finished for a in answers) / len(answers)
    print(f"{task:<15} {split:<8} {row:<18} {100 * p:5.1f} ± {100 * se:3.1f} %   lenient " +
          ("     -" if lenient is None else f"{100 * lenient:5.1f} %") +
          f"   finished {100 * finished:5.1f} %   n {len(answers)}", flush=True)
    append(log, {"task": task, "split": split, "row": row, "accuracy": p, "se": se, "lenient": lenient,
                 "finished": finished, "n": len(answers), **more})

def show(problems, rows, n=4):
    """The first few problems, and side by side what each row {name: answers} said to them."""
    for i, problem in enumerate(problems[:n]):
        print(f"\n{problem.prompt}   ({problem.gold.strip()})")
        for row, answers in rows.items():
            verdict = "right" if answers[i].r > 0 else "wrong"
            print(f"  {row:<8} {verdict}  {problem.prefill + answers[i].text!r}")
