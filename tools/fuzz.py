"""Corrupted inputs, many and from a seed: does each cost one sentence, or is it what it was?

    python tools/fuzz.py               # 1,000 of them, a minute or two
    python tools/fuzz.py --n 100 --seed 7

Files of a small random model are damaged in one place each: experts, eyes, checkpoints in three formats,
tokenizers, jsonl rows, images, states of a run, flags. Three outcomes count as faults: a traceback (anything
but ValueError and OSError, which the scripts say in one sentence), a hang, and silently wrong: a file that
was taken although what it gives is no number, or of another type. A flipped bit in the middle of a weight
gives another valid model; no format here has a checksum that could tell, so such a file counts as taken.
"""
import argparse
import collections
import copy
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from conftest import expert_metadata, random_state, random_z, write_meta  # noqa: E402
from test_formats import write_gguf, write_hf_by_hand  # noqa: E402
from test_vision import random_eyes, write_smolvlm  # noqa: E402

from formats.experts import save_expert  # noqa: E402
from formats.eyes import load_eyes  # noqa: E402
from formats.load import load  # noqa: E402
from formats.safetensors_file import save_whole  # noqa: E402
from harness.experts import load_expert  # noqa: E402
from harness.flags import parse_flags  # noqa: E402
from harness.runs import read_state  # noqa: E402
from scripts import train  # noqa: E402
from svf import MODULES, mix, using, wrap  # noqa: E402
from tasks.jsonl import own_task  # noqa: E402
from vision.images import read_image  # noqa: E402
from vision.seeing import SeeingEmbedding  # noqa: E402

SECONDS = 20  # after which an input counts as a hang
TOKENS = torch.tensor([[5, 9, 200, 41]])
VALUES = [None, True, False, 0, -1, 1, 7, 2 ** 40, 1e308, float("nan"), float("inf"), "", "yes", "7", [], [1],
          {}, {"a": 1}, "\ud800", "x" * 5000]  # what may stand where something else should

class Hang(BaseException):
    pass

def raise_hang(*_):
    raise Hang

# -- damage --------------------------------------------------------------------------------------------------

def damaged_bytes(rng, written):
    """The bytes truncated, with a few of them changed, repeated, or replaced by nothing or nonsense."""
    how = rng.choice(["truncate", "flip", "flip", "flip at the head", "repeat", "empty", "nonsense"])
    written = bytearray(written)
    if how == "truncate":
        return bytes(written[:rng.randrange(len(written))])
    if how.startswith("flip"):
        most = min(400, len(written)) if how == "flip at the head" else len(written)
        for _ in range(rng.choice([1, 1, 4])):
            written[rng.randrange(most)] = rng.randrange(256)
        return bytes(written)
    if how == "repeat":
        return bytes(written + written[rng.randrange(len(written)):])
    return b"" if how == "empty" else rng.randbytes(200)

def damaged_json(rng, value):
    """A JSON value with one thing in it changed, left out or added."""
    value = copy.deepcopy(value)
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return rng.choice(VALUES)
        key = rng.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        if rng.random() < 0.25:
            del place[key]
        else:
            place[key] = rng.choice(VALUES)
        return value

def damage_file(rng, path):
    """Damages a file in place: as JSON where it is some, or as bytes."""
    if path.suffix == ".json" and rng.random() < 0.8:
        changed = damaged_json(rng, json.loads(path.read_text()))
        path.write_text(json.dumps(changed), encoding="utf-8")
    else:
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))

# -- inputs: (rng, originals, folder) -> what is wrong with what was taken, or None --------------------------

def try_checkpoint(rng, originals, folder):
    source = rng.choice([originals / name for name in ("meta", "hf", "gguf", "with eyes")])
    copied = Path(shutil.copytree(source, folder / source.name))
    damage_file(rng, rng.choice(sorted(copied.iterdir())))
    model, tokenizer = load(copied / "model.gguf" if source.name == "gguf" else copied, "cpu")
    if not model(TOKENS).isfinite().all():
        return "logits that are no numbers"
    if isinstance(model.tok_embeddings, SeeingEmbedding) and not sees_numbers(model.tok_embeddings.eyes):
        return "eyes that see no numbers"
    tokenizer.encode("Hello, 12 apples")
    if tokenizer.format is not None:
        tokenizer.chat([{"role": "user", "content": "Hi"}], "So")
    return None

def sees_numbers(eyes):
    size = eyes.args.image_size
    return eyes(torch.zeros(1, 3, size, size).to(eyes.projection.weight)).isfinite().all()

def try_eyes(rng, originals, folder):
    model, _ = load(originals / "meta", "cpu")
    eyes = random_eyes()
    path = folder / "eyes.safetensors"
    how = rng.choice(["bytes", "metadata", "weights"])
    args = damaged_json(rng, vars(eyes.args)) if how == "metadata" else vars(eyes.args)
    if how == "weights":
        eyes.projection.weight.data[0] = rng.choice([float("nan"), float("inf"), 1e38])
    save_whole(path, eyes.state_dict(), {"fingerprint": model.fingerprint, "args": args})
    if how == "bytes":
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    return None if sees_numbers(load_eyes(path, model)) else "eyes that see no numbers"

def try_image(rng, originals, folder):
    path = folder / "picture"
    path.write_bytes(damaged_bytes(rng, rng.choice(sorted(originals.glob("picture.*"))).read_bytes()))
    pixels = read_image(path, 32)
    return None if pixels.shape == (3, 32, 32) and pixels.abs().max() <= 1 else "no pixels"

def try_expert(rng, originals, folder):
    model, _ = load(originals / "meta", "cpu")
    wrap(model, MODULES["all"])
    z, metadata = random_z(model), expert_metadata(model)
    path = folder / "math.safetensors"
    how = rng.choice(["bytes", "metadata", "z"])
    if how == "metadata":
        metadata = damaged_json(rng, metadata)
        metadata = metadata if isinstance(metadata, dict) else {}
    if how == "z":
        name = rng.choice(sorted(z))
        wrong = [z[name] * float("nan"), z[name] * 1e38, z[name][:1], z[name][None], z[name].long(),
                 torch.zeros(0), -z[name] / 0]
        z[name] = rng.choice(wrong)
        if rng.random() < 0.3:
            z = {name: z[name]}
    save_expert(path, z, metadata)
    if how == "bytes":
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    z, metadata = load_expert(path, model)
    with using(model, mix({"math": z}, {"math": 1.0})):
        if not model(TOKENS).isfinite().all():
            return "logits that are no numbers"
    return None if isinstance(metadata["system"], str) else "a system prompt that is no text"

def try_rows(rng, originals, folder):
    path = folder / "own.jsonl"
    row = {"question": "Is ice cold?", "answer": "yes", "options": ["yes", "no"], "system": "Answer."}
    lines = [json.dumps({**row, "question": f"{row['question']} {i}"}).encode() for i in range(60)]
    if rng.random() < 0.6:
        lines[rng.randrange(60)] = json.dumps(damaged_json(rng, row)).encode()
        path.write_bytes(b"\n".join(lines))
    else:
        path.write_bytes(damaged_bytes(rng, b"\n".join(lines)))
    task = own_task(path, 40)
    for split in task.splits:
        for problem in task.problems(split, 99, 0):
            if task.score([problem], [problem.gold]) != [1]:
                return f"a row whose own answer is wrong: {problem.gold!r}"
    return None

def try_state(rng, originals, folder):
    path = folder / "state.pt"
    if rng.random() < 0.5:
        path.write_bytes(damaged_bytes(rng, (originals / "state.pt").read_bytes()))
    else:
        torch.save(damaged_json(rng, torch.load(originals / "state.pt", weights_only=True)), path)
    saved = read_state(path, "cpu")
    if not all(values.isfinite().all() for values in saved["state"]["z"].values()):
        return "a z that is no number"
    return None

def try_flags(rng, originals, folder):
    field = rng.choice([f for f in fields(train.Config) if f.type in (int, float)])
    value = rng.choice(["nan", "inf", "-inf", "-1", "0", "1e30", "1" + "0" * 30, "", "x", "1e-400", "0x10"])
    sys.argv = ["train.py", f"--{field.name.replace('_', '-')}={value}"]
    config = parse_flags(train.Config, "")
    return None if abs(getattr(config, field.name)) <= 1e9 else "a number that hangs"

INPUTS = {"checkpoint": try_checkpoint, "expert": try_expert, "eyes": try_eyes, "rows": try_rows,
          "state": try_state, "flags": try_flags}
if find_spec("PIL"):
    INPUTS["image"] = try_image

def write_originals(folder):
    write_meta(folder / "meta", [random_state()])
    write_hf_by_hand(folder / "hf")
    write_gguf(folder / "gguf")
    write_smolvlm(folder / "with eyes")
    if "image" in INPUTS:
        write_images(folder)
    z = {"layers.0.attention.wq": torch.ones(48)}
    torch.save({"state": {"z": z, "best": z, "step": 3, "best_step": 2, "best_accuracy": 0.5,
                          "optimizer": {"state": {}, "param_groups": []}},
                "config": {"task": "math"}, "fingerprint": "f", "logged": 100}, folder / "state.pt")

def write_images(folder):
    """A picture in each format, with EXIF that turns it where there can be some."""
    from PIL import Image
    image = Image.frombytes("RGB", (24, 20), random.Random(0).randbytes(24 * 20 * 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by a quarter
    for kind in ("png", "jpeg", "webp", "gif", "bmp"):
        image.save(folder / f"picture.{kind}", exif=exif)

def outcome_of(attempt, rng, originals):
    """(outcome, what was said) of one damaged input."""
    signal.signal(signal.SIGALRM, raise_hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        try:
            wrong = attempt(rng, originals, Path(folder))
            return ("silently wrong", wrong) if wrong else ("taken", "")
        except (ValueError, OSError) as error:
            return "sentence", str(error)
        except Hang:
            return "hang", ""
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever else, a panic in Rust included: what this script looks for
            return "traceback", "".join(traceback.format_exception(error)[-3:])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

def fuzz(n, seed, show=print):
    """Counter of (input, outcome) over n damaged inputs; faults are shown."""
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        originals = Path(folder)
        write_originals(originals)
        for i in range(n):
            rng = random.Random(f"{seed} {i}")
            name = rng.choice(sorted(INPUTS))
            outcome, said = outcome_of(INPUTS[name], rng, originals)
            counts[name, outcome] += 1
            if outcome not in ("sentence", "taken"):
                show(f"{i} {name}: {outcome} {said}")
    return counts

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    counts = fuzz(flags.n, flags.seed)
    for (name, outcome), count in sorted(counts.items()):
        print(f"{name:<12} {outcome:<16} {count}")
    faults = sum(count for (_, outcome), count in counts.items() if outcome not in ("sentence", "taken"))
    print(f"{flags.n} damaged inputs, seed {flags.seed}: {faults} faults")
    sys.exit(1 if faults else 0)

if __name__ == "__main__":
    main()
