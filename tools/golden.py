"""The state before a migration and the present one compute the same, bit for bit, on this machine.

Runs each command below twice, as it was typed at the commit BEFORE (in a git worktree) and as it is now, on
the tests' tiny model with one thread in float32, and compares what was learned (torch.equal of z, of the
optimizer's moments and of the best z), the metrics of each step, and what was printed. Hashes kept in a file
would not do: another processor rounds otherwise. This script goes when the migration is done.

    python tools/golden.py             # all commands
    python tools/golden.py lora cem    # some
"""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
BEFORE = "80849bf"
OLD = Path(tempfile.gettempdir()) / "golden-before"
WORK = Path(tempfile.gettempdir()) / "golden-work"
TRAIN = "--steps 6 --lr 0.01 --dtype float32 --max-new-tokens 1 --n-val 16 --n-test 16 --rollouts 32"
REAL = "--steps 2 --n-val 4 --n-test 4 --model smollm2-135m"
SAMPLE = "--dtype float32 --max-new-tokens 5"
# name: (as it was typed before, as it is typed now); TINY, SILENCE, EXPERTS and OUT are filled in
COMMANDS = {
    "plain": f"train.py --task SILENCE --out OUT {TRAIN}",
    "kl": f"train.py --task SILENCE --out OUT {TRAIN} --kl 0.1",
    "group-1": f"train.py --task SILENCE --out OUT {TRAIN} --group 1",
    "dispatch": f"train.py --task dispatch --out OUT {REAL} --rollouts 16",
    "real": f"train.py --task math --out OUT {REAL} --rollouts 16",
    "real-code": f"train.py --task code --out OUT {REAL} --rollouts 8 --kl 0.1 --dtype float32",
    "lora": f"train.py --task SILENCE --out OUT {TRAIN} --adapter lora --rank 2",
    "sft": f"train.py --task SILENCE --out OUT {TRAIN} --objective sft",
    "sft-lora": f"train.py --task SILENCE --out OUT {TRAIN} --objective sft --adapter lora --kl 0.1",
    "es": f"train.py --task SILENCE --out OUT {TRAIN} --learner es",
    "random": f"train.py --task SILENCE --out OUT {TRAIN} --basis random",
    "identity": f"train.py --task SILENCE --out OUT {TRAIN} --basis identity",
    "layers": f"train.py --task SILENCE --out OUT {TRAIN} --layers even --modules mlp",
    "channels": f"train.py --task SILENCE --out OUT {TRAIN} --adapter examples.channels",
    "pictures": f"train.py --task PICTURES --out OUT {TRAIN} --eyes EYES",
    "two": f"torchrun train.py --task SILENCE --out OUT {TRAIN} --group 1",
    "two-sft": f"torchrun train.py --task SILENCE --out OUT {TRAIN} --objective sft",
    "cut": f"torchrun train.py --task SILENCE --out OUT {TRAIN} --tensor-parallel",
    "cem": "sample.py --adapt cem --task reasoning_hard --n 8 --experts EXPERTS --out OUT/log.jsonl "
           f"{SAMPLE}",
    "per-block": "sample.py --adapt cem --task SILENCE --per-block --generations 2 --experts EXPERTS "
                 f"--out OUT/log.jsonl {SAMPLE} --max-new-tokens 1 hi",
    "expert": f"sample.py --expert math --experts EXPERTS --compare {SAMPLE} '2 + 2?'",
    "prompt": "sample.py --adapt prompt --model smollm2-135m --task math --n 6 --out OUT/log.jsonl "
              "--dtype float32",
    "chat": f"sample.py --experts EXPERTS {SAMPLE}",
    "eval": "eval.py --tasks math --n 12 --searches 1 --experts EXPERTS --dtype float32 --out OUT/log.jsonl "
            "--rows base,uninstructed,random,expert,shuffled,uniform,examples,cem"}
MOVED = {"eval.py": "-m scripts.eval"}
WITH_EVERY_FLAG = ("--adapter", "--objective", "--learner", "--basis", "--layers", "--eyes", "torchrun",
                   "--tensor-parallel", "--per-block", "--generations")

def as_typed_now(command):
    """The command with the names that scripts have now."""
    for before, now in MOVED.items():
        command = command.replace(before, now)
    if (ROOT / "scripts" / "train.py").exists() and any(flag in command for flag in WITH_EVERY_FLAG):
        command = command.replace("train.py", "-m scripts.train").replace("sample.py", "-m scripts.sample")
    return command

def run(root, command, names, stdin=""):
    for name, path in names.items():
        command = re.sub(rf"\b{name}\b", str(path), command)
    words = shlex.split(command)
    python = [sys.executable]
    if words[0] == "torchrun":
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        words = words[1:]
    if "--model" not in words:
        words += ["--model", str(names["TINY"])]
    done = subprocess.run([*python, *words], cwd=root, input=stdin,
                          capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(names["OUT"])})
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stdout[-500:]} {done.stderr[-3000:]}")
    return done.stdout

def told(text):
    """What was printed of answers and numbers: neither times nor paths nor commands nor the configuration."""
    kept = []
    for line in text.splitlines():
        if re.match(r"\{|.* ready in |wrote|  python|  cp |\d+ s in all|^$|one message a line", line):
            continue
        line = re.sub(r"(\| )?(nothing to learn|most answers run into).*", "", line)
        kept.append(re.sub(r" +[\d.]+ s\b", "", line))
    return sorted(kept)  # what is said in another order is no other computation

def measured(folder):
    """The numbers of a log."""
    log = folder / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    lines = [line for line in lines if "config" not in line]
    left_out = ("seconds", "machine", "command", "peak_bytes", "first_pass_s", "second_pass_s", "config",
                "warning", "telling", "lenient")
    return [{key: value for key, value in line.items() if key not in left_out} for line in lines]

def close(a, b):
    """Metrics that are means of processes may differ in the last digit; all else is equal."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or abs(a - b) <= 1e-12 * abs(a)
    return a == b

def differences(name, before, now):
    """What two runs, (what they printed, their folder), do not agree on."""
    found = []
    (said_before, at_before), (said_now, at_now) = before, now
    if told(said_before) != told(said_now):
        pairs = zip(told(said_before), told(said_now))
        found.append(("printed", next((pair for pair in pairs if pair[0] != pair[1]), "lengths")))
    for line, other in zip(measured(at_before), measured(at_now), strict=True):
        for key in line.keys() & other.keys():
            if not close(line[key], other[key]):
                found.append((key, line[key], other[key]))
    if (at_before / "state.pt").exists():
        a, b = [torch.load(at / "state.pt", weights_only=True)["state"] for at in (at_before, at_now)]
        for key in ("z", "best"):
            if a[key].keys() != b[key].keys() or not all(torch.equal(a[key][w], b[key][w]) for w in a[key]):
                found.append((key, "differs"))
        moments = [[m["exp_avg"] for m in state["optimizer"]["state"].values()] for state in (a, b)]
        if not all(torch.equal(m, n) for m, n in zip(*moments, strict=True)):
            found.append(("optimizer", "differs"))
        if name != "dispatch" and not any((z != 1).any() for z in a["z"].values()):
            found.append(("z", "nothing was learned, so nothing is compared"))
    return found

def prepare():
    """Tiny model, questions, two experts, eyes and pictures, made by the old state."""
    if not OLD.exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(OLD), BEFORE], cwd=ROOT, check=True,
                       capture_output=True)
    names = {"TINY": WORK / "tiny", "SILENCE": WORK / "silence.jsonl", "EXPERTS": WORK / "experts",
             "PICTURES": WORK / "pictures.jsonl", "EYES": WORK / "eyes.safetensors"}
    if names["TINY"].exists():
        return names
    WORK.mkdir(exist_ok=True)
    program = f"""
import sys, json, torch
sys.path[:0] = ["{OLD}", "{OLD}/tests"]
from pathlib import Path
from conftest import *
from test_vision import random_eyes, write_picture
from formats.experts import save_expert
from formats.eyes import save_eyes
from formats.load import load
work = Path("{WORK}")
write_meta(work / "tiny", [random_state()])
write_silence(work / "silence.jsonl")
model, _ = load("{names['TINY']}", "cpu")
wrap(model, MODULES["all"])
for seed, name in enumerate(("math", "reasoning", "code")):
    save_expert(work / "experts" / (name + ".safetensors"), random_z(model, seed, size=0.3),
                expert_metadata(model, task=name, examples=[name + " a?", name + " b?", name + " c?"]))
save_eyes(work / "eyes.safetensors", random_eyes(), model.fingerprint)
rows = []
for i in range(120):
    write_picture(work / f"{{i}}.png", ("red", "blue", "green")[i % 3])
    rows.append(json.dumps({{"question": f"Say nothing, {{i}}.", "answer": ".", "image": f"{{i}}.png"}}))
(work / "pictures.jsonl").write_text("\\n".join(rows))
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return names

def main():
    names = prepare()
    wrong = 0
    for name in sys.argv[1:] or COMMANDS:
        command = COMMANDS[name]
        runs = []
        for when, root, typed in (("before", OLD, command), ("now", ROOT, as_typed_now(command))):
            out = WORK / f"{name}-{when}"
            said = WORK / f"{name}-{when}.txt"
            if when == "now":
                shutil.rmtree(out, ignore_errors=True)
                said.unlink(missing_ok=True)
            if not said.exists():  # the old state does not change
                turns = "hello\n/expert math\n2 + 2?\n/quit\n" if name == "chat" else ""
                said.write_text(run(root, typed, names | {"OUT": out}, turns))
            runs.append((said.read_text().replace(str(out), ""), out))
        found = differences(name, *runs)
        wrong += bool(found)
        print(f"{name:<12} {'equal' if not found else found[:4]}", flush=True)
    sys.exit(1 if wrong else 0)

if __name__ == "__main__":
    main()
