"""What a command is worth: the mean of its runs, how far they differ, and the worst of them.

One run says little: most of a step is noise, and a token that is rounded otherwise leads another way. The
error of the mean adds the variance of the runs, divided by their number, to that of problems and templates,
which are the same for all runs (harness/scores.py).

    for s in 0 1 2 3 4; do python train.py --task math --seed $s; done
    python -m scripts.runs 'out/math-?'
"""
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from harness.flags import argument, parse_flags, run_main
from harness.logs import gain_record, read_log
from harness.scores import over_runs

OF_ONE_RUN = ("seed", "out", "resume", "device", "dtype")  # flags in which runs of a command may differ

@dataclass
class Config:
    folders: str = argument("out/math-?", "the runs' folders, as a quoted pattern")

# -- which runs ----------------------------------------------------------------------------------------------

def finished_runs(pattern):
    """{folder: records} of the runs that are done. Raises ValueError where there is none."""
    runs = {}
    for folder in sorted(glob(pattern)):
        log = Path(folder) / "log.jsonl"
        records = read_log(log) if log.exists() else []
        if any("command" in record for record in records):
            runs[folder] = records
        else:
            print(f"{folder} has no finished run; left out (if it collapsed, what follows is too good)")
    if not runs:
        raise ValueError(f"{pattern!r} is no folder of a finished run of train.py; quote a pattern, as "
                         "'out/math-?'")
    return runs

def config_of(folder, records):
    """The flags of a run. Raises ValueError for a log that does not say them."""
    for record in records:
        if "config" in record:
            return record["config"]
    raise ValueError(f"{folder}/log.jsonl does not say its flags, so it is of another script or an older "
                     "version; leave it out")

def what_ran(folder, records):
    """What runs of one command have in common: flags, and the dtype that was computed in."""
    flags = {key: value for key, value in config_of(folder, records).items() if key not in OF_ONE_RUN}
    [end] = [record for record in records if "command" in record]
    return flags | {"dtype": end["machine"]["dtype"]}

def check_alike(runs):
    """Raises ValueError where two runs are of different commands, or of one seed."""
    first, *others = runs
    expected = what_ran(first, runs[first])
    for folder in others:
        found = what_ran(folder, runs[folder])
        for key in sorted(expected.keys() | found.keys()):
            if expected.get(key) != found.get(key):
                raise ValueError(f"{first} and {folder} differ in {key} ({expected.get(key)!r} and "
                                 f"{found.get(key)!r}), so they are no runs of one command")
    seeds = [config_of(folder, records)["seed"] for folder, records in runs.items()]
    if len(set(seeds)) < len(seeds):
        raise ValueError("two of the folders are of one seed, which is one run twice; leave one out")

# -- what they gained ----------------------------------------------------------------------------------------

def in_one_line(of_runs):
    """An OverRuns in words."""
    said = f"{100 * of_runs.mean:+.1f} ± {100 * of_runs.error:.1f} points"
    if len(of_runs.of_run) == 1:
        return f"{said}, one run, whose luck the error does not count"
    each = " ".join(f"{100 * value:+.1f}" for value in of_runs.of_run)
    return (f"{said}, mean of {len(of_runs.of_run)} runs; their standard deviation {100 * of_runs.sd:.1f}, "
            f"worst {100 * of_runs.worst:+.1f} (each: {each})")

def show_split(runs, split):
    """A line for what the runs gained on a split. Raises ValueError where they were asked other problems."""
    records = [gain_record(of_run, split) for of_run in runs.values()]
    templates = records[0]["templates"]
    if any(record["templates"] != templates for record in records):
        raise ValueError(f"the runs were not asked the same {split} problems; run them again on one file")
    gained = over_runs([record["gains"] for record in records], templates)
    print(f"{records[0]['task']} {split}: {in_one_line(gained)}")

def main():
    config = parse_flags(Config, __doc__)
    runs = finished_runs(config.folders)
    check_alike(runs)
    first_run = next(iter(runs.values()))
    for split in [record["split"] for record in first_run if "gain" in record]:
        show_split(runs, split)

if __name__ == "__main__":
    run_main(main)
