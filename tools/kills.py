"""A small run killed with -9 at random moments, each time resumed: do all end with the same expert?

    python tools/kills.py            # 200 kills, a few minutes
    python tools/kills.py --n 20 --seed 3

Every run is a fork of this process, which has imported everything already, so that the moments of the kills
lie in the work and not in the imports.
"""
import argparse
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from conftest import random_state, train_flags, write_meta, write_silence  # noqa: E402

import train  # noqa: E402  so that no fork has to import all that it imports

WHOLE = {"log.jsonl", "state.pt", "silence.safetensors"}  # what a finished run leaves

def start(flags):
    """A run of train.py in a fork -> its process id."""
    child = os.fork()
    if child:
        return child
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.argv = ["train.py", *flags]
    code = 1  # also of what nobody foresaw: an exception that left the fork would remove the parent's folder
    try:
        runpy.run_path(train.__file__, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        os._exit(code)

def finish(flags):
    """The exit code of a run that nobody kills."""
    _, status = os.waitpid(start(flags), 0)
    return os.waitstatus_to_exitcode(status)

def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

def kill_after(child, seconds):
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        model = write_meta(folder / "tiny", [random_state()])
        rows = write_silence(folder / "silence.jsonl")
        flags = [str(flag) for flag in train_flags(model, rows, folder / "run")]
        started = time.time()
        if finish(flags) != 0:
            sys.exit("the run fails without being killed")
        seconds = time.time() - started
        wanted = load_file(folder / "run" / "silence.safetensors")
        different, failed, left_behind, kills_in_work = 0, 0, 0, 0
        for _ in range(chosen.n):
            shutil.rmtree(folder / "run")
            kill_after(start(flags), rng.uniform(0, seconds))
            begun = (folder / "run" / "state.pt").exists()
            kills_in_work += begun
            if finish([*flags, "--resume"] if begun else flags) != 0:
                failed += 1
                continue
            different += not same_tensors(load_file(folder / "run" / "silence.safetensors"), wanted)
            left_behind += {path.name for path in (folder / "run").iterdir()} != WHOLE
    print(f"{chosen.n} kills within the {seconds:.1f} s of a run, {kills_in_work} of them with a state to "
          f"resume from: {failed} runs failed then, {different} experts differ, {left_behind} folders have "
          "leftovers")
    sys.exit(1 if failed or different or left_behind else 0)

if __name__ == "__main__":
    main()
