"""Logs: a JSON object a line, whole or not at all, and what they must say of the machine that made them."""
import json
import os
import platform
import shlex
import sys
from pathlib import Path

import torch

from harness.flags import script_name

def command_line():
    """The command that started this script, as a user would type it."""
    processes = os.environ.get("WORLD_SIZE", "1")
    start = ["python"] if processes == "1" else ["torchrun", "--nproc-per-node", processes]
    return shlex.join([*start, *script_name().split(" "), *sys.argv[1:]])

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
        raise FileNotFoundError(f"{path} does not exist; train.py and scripts/eval.py write such logs")
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

def gain_record(records, split):
    """What a finished run of train.py says of its gain on a split."""
    [record] = [record for record in rows_of(records, split=split) if "gain" in record]
    return record

# -- where it was made ---------------------------------------------------------------------------------------

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

def dtype_name(dtype):
    return str(dtype).removeprefix("torch.")

def machine(model):
    """What a log must say of where it was made: the chip and its cores, the device that computes, the dtype
    and PyTorch's version."""
    table = model.tok_embeddings.weight
    on_gpu = table.device.type == "cuda"
    return {"chip": torch.cuda.get_device_name(table.device) if on_gpu else processor_name(),
            "cores": os.cpu_count(), "device": table.device.type, "dtype": dtype_name(table.dtype),
            "torch": torch.__version__}
