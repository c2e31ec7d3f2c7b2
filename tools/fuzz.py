"""Corrupted inputs, many and from a seed: does each cost one sentence, or is it what it was?

    python tools/fuzz.py               # 1,000 of them, a minute or two
    python tools/fuzz.py --n 100 --seed 7

Files of a small random model are damaged in one to four places: experts, eyes, checkpoints in three formats,
tokenizers, jsonl rows, images, states of a run, flags. Three outcomes count as faults: a traceback (anything
but ValueError and OSError, which the scripts say in one sentence), a hang, and silently wrong: a file that
was taken although what it gives is no number, or of another type.

A damaged checkpoint that is taken must be the model it was, too: the same logits, ids and chats, unless the
damage is in what a model may rightly have otherwise (DEFINING). A tokenizer.json may also be what the
tokenizers package reads in it. A flipped bit in the middle of a weight gives another valid model; no format
here has a checksum that could tell, so such a file counts as taken.
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
from contextlib import suppress
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import Keys

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from conftest import expert_metadata, random_state, random_z, write_meta  # noqa: E402
from test_formats import write_gguf, write_hf_by_hand  # noqa: E402
from test_vision import random_eyes, write_smolvlm  # noqa: E402

from formats.experts import save_expert  # noqa: E402
from formats.eyes import load_eyes  # noqa: E402
from formats.gguf_file import HARMLESS, NEUTRAL, USED  # noqa: E402
from formats.huggingface import CHANGING, FACTORS, HF_KEYS  # noqa: E402
from formats.load import load  # noqa: E402
from formats.safetensors_file import save_whole  # noqa: E402
from formats.tokenizer_files import ADDED_TOKEN, NAMES  # noqa: E402
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
    """A JSON value with one to three things in it changed or left out."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        value = changed_once(rng, value)
    return value

def changed_once(rng, value):
    value = copy.deepcopy(value)
    if not isinstance(value, (dict, list)):
        return rng.choice(VALUES)
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

# keys that formats document; most of them are in no file here and are put in
CONFIG_KEYS = sorted(CHANGING | FACTORS | set(HF_KEYS.values()) | {
    "architectures", "model_type", "hidden_act", "rope_theta", "rope_scaling", "rope_parameters",
    "layer_types", "sliding_window", "use_sliding_window", "max_window_layers", "eos_token_id",
    "bos_token_id", "pad_token_id", "original_max_position_embeddings",
    "attention_dropout", "pretraining_tp", "use_cache", "torch_dtype"})
TOKENIZER_KEYS = ["version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                  "post_processor", "decoder", "model"]
MODEL_KEYS = ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
              "byte_fallback", "ignore_merges"]
ADDED_KEYS = sorted(ADDED_TOKEN)
TOKENIZER_CONFIG_KEYS = [*NAMES, "chat_template", "added_tokens_decoder", "additional_special_tokens",
                         "extra_special_tokens", "add_bos_token", "add_eos_token", "add_prefix_space",
                         "clean_up_tokenization_spaces", "split_special_tokens", "model_max_length",
                         "tokenizer_class", "padding_side", "legacy"]
GGUF_KEYS = sorted(f"llama.{name}" for name in USED | HARMLESS | NEUTRAL.keys()) + [
    key for group in (Keys.General, Keys.Tokenizer) for key in vars(group).values()
    if isinstance(key, str) and "." in key and "{" not in key]
# what a model may rightly have otherwise: {file: keys}
DEFINING = {"config.json": {"rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "text_config",
                            "vision_config", "scale_factor"},
            "params.json": {"norm_eps", "rope_theta", "use_scaled_rope", "rope_scaling_factor"},
            "model.gguf": {"llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"}}
# and what changes only how a text is read, or a chat written
OF_TEXT = {f"tokenizer.ggml.{name}" for name in ("tokens", "merges", "token_type", "pre")}
OF_CHATS = {"chat_template", "added_tokens_decoder", "tokenizer.chat_template", "additional_special_tokens",
            "extra_special_tokens", *NAMES}

def damage_document(rng, path):
    """Damages a JSON file as a whole: one of its documented keys, or any place in it."""
    document = json.loads(path.read_text())
    places = {"config.json": [(document, CONFIG_KEYS)],
              "tokenizer_config.json": [(document, TOKENIZER_CONFIG_KEYS)]}.get(path.name, [])
    if path.name == "tokenizer.json" and isinstance(document.get("model"), dict):
        tokens = [token for token in document.get("added_tokens") or [] if isinstance(token, dict)]
        places = [(document, TOKENIZER_KEYS), (document["model"], MODEL_KEYS),
                  *[(token, ADDED_KEYS) for token in tokens]]
    if places and rng.random() < 0.6:
        place, keys = rng.choice(places)
        key = rng.choice(keys)
        if rng.random() < 0.2:
            place.pop(key, None)
        else:
            place[key] = rng.choice(VALUES)
    else:
        document = damaged_json(rng, document)
    path.write_text(json.dumps(document), encoding="utf-8")

def damage_file(rng, path):
    """Damages a file in place: as JSON or by its fields where it has some, or as bytes."""
    if path.suffix == ".json" and rng.random() < 0.8:
        with suppress(ValueError, AttributeError, TypeError):  # it is no document any more
            damage_document(rng, path)
            return
    if path.suffix == ".gguf" and rng.random() < 0.8:
        with suppress(Exception):  # as the gguf package finds it
            damage_fields(rng, path)
            return
    path.write_bytes(damaged_bytes(rng, path.read_bytes() or b" "))

def damage_fields(rng, path):
    """Writes a GGUF file anew, with a field of its header left out, put in or changed."""
    reader = GGUFReader(path)
    fields = {key: (field.contents(), field.types) for key, field in reader.fields.items()
              if not key.startswith("GGUF.")}
    key = rng.choice([*fields, *GGUF_KEYS])
    if key in fields and rng.random() < 0.25:
        del fields[key]
    else:
        value, kind = rng.choice([
            (0, "UINT32"), (1, "UINT32"), (4, "UINT32"), (7, "UINT32"), (2 ** 32 - 1, "UINT32"),
            (-1, "INT32"), (0.0, "FLOAT32"), (0.5, "FLOAT32"), (1.0, "FLOAT32"), (float("nan"), "FLOAT32"),
            (True, "BOOL"), (False, "BOOL"), ("", "STRING"), ("none", "STRING"), ("yarn", "STRING"),
            ([1, 2], "INT32"), (["a", "b"], "STRING")])
        kinds = [GGUFValueType[kind]]
        fields[key] = (value, [GGUFValueType.ARRAY, *kinds] if isinstance(value, list) else kinds)
    anew = path.parent.parent / "anew.gguf"
    writer = GGUFWriter(anew, "llama")
    for key, (value, kinds) in fields.items():
        writer.kv_data[0].pop(key, None)  # the architecture, which the writer puts in itself
        writer.add_key_value(key, value, kinds[0], kinds[-1] if kinds[0] == GGUFValueType.ARRAY else None)
    if "general.architecture" not in fields:
        del writer.kv_data[0]["general.architecture"]
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    anew.replace(path)

def what_changed(original, damaged):
    """{file: keys} of a folder in which documents differ; None for the keys of one that is no document."""
    changed = {}
    for path in sorted(damaged.iterdir()):
        before = original / path.name
        if path.read_bytes() == before.read_bytes():
            continue
        try:
            old, new = fields_of(before), fields_of(path)
        except (ValueError, KeyError, IndexError, OverflowError, AttributeError, RecursionError):
            changed[path.name] = None
            continue
        changed[path.name] = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return changed

def fields_of(path):
    """{key: value, as text} of a document. Raises what its reader raises; weights are none."""
    if path.suffix == ".json":
        return {key: json.dumps(value) for key, value in json.loads(path.read_text()).items()}
    if path.suffix != ".gguf":
        raise ValueError("no document")
    reader = GGUFReader(path)
    weights = {tensor.name: tensor.data.tobytes() for tensor in reader.tensors}
    return {key: repr(field.contents()) for key, field in reader.fields.items()} | weights

# -- inputs: (rng, originals, folder) -> what is wrong with what was taken, or None --------------------------

TEXTS = ["Hello, 12  ab apples", "  naïve\tcafé\n\n東京"]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]

def loaded(folder):
    return load(folder / "model.gguf" if (folder / "model.gguf").exists() else folder, "cpu")

def chat_of(tokenizer):
    return tokenizer.chat(CHAT, "So") if tokenizer.format is not None else None

def try_checkpoint(rng, originals, folder):
    source = rng.choice([originals / name for name in ("meta", "hf", "sharded", "gguf", "gguf", "with eyes")])
    copied = Path(shutil.copytree(source, folder / source.name))
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        damage_file(rng, rng.choice(sorted(copied.iterdir())))
    model, tokenizer = loaded(copied)
    logits = model(TOKENS)
    if not logits.isfinite().all():
        return "logits that are no numbers"
    if isinstance(model.tok_embeddings, SeeingEmbedding) and not sees_numbers(model.tok_embeddings.eyes):
        return "eyes that see no numbers"
    ids = [tokenizer.encode(text) for text in TEXTS]
    chat = chat_of(tokenizer)
    changed = what_changed(source, copied)
    original, original_tokenizer = loaded(source)
    weights_changed = any(keys is None or keys & DEFINING.get(file, set()) or
                          any("weight" in key for key in keys) for file, keys in changed.items())
    keys = set().union(*[keys or {file} for file, keys in changed.items()])
    if not weights_changed and not torch.equal(logits, original(TOKENS)):
        return f"other logits, by {changed}"
    of_words = OF_TEXT & keys or "tokenizer.model" in changed or changed.get("tokenizer.json", ()) is None
    if ids != [original_tokenizer.encode(text) for text in TEXTS] and not of_words and ids != library(copied):
        return f"other ids, by {changed}"
    may_chat_otherwise = of_words or OF_CHATS & keys or any("token" in key for key in keys) or \
        None in changed.values()
    if not may_chat_otherwise and chat != chat_of(original_tokenizer):
        return f"another chat, by {changed}"
    return None

def library(folder):
    """The ids that the tokenizers package reads in TEXTS, by all of the file that says how text is read; None
    where there is no package, or no tokenizer.json."""
    if not (folder / "tokenizer.json").exists() or not find_spec("tokenizers"):
        return None
    from tokenizers import Tokenizer
    document = json.loads((folder / "tokenizer.json").read_text())
    document |= {"truncation": None, "padding": None}  # which we leave aside, whatever they are
    try:
        tokenizer = Tokenizer.from_str(json.dumps(document))
    except Exception:  # the package raises nothing more precise
        return None
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]

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
    write_hf_by_hand(folder / "sharded", shards=3)
    write_gguf(folder / "gguf")
    write_smolvlm(folder / "with eyes")
    for name in ("hf", "sharded", "with eyes"):
        complete_tokenizer(folder / name / "tokenizer.json")
    if "image" in INPUTS:
        write_images(folder)
    z = {"layers.0.attention.wq": torch.ones(48)}
    torch.save({"state": {"z": z, "best": z, "step": 3, "best_step": 2, "best_accuracy": 0.5,
                          "optimizer": {"state": {}, "param_groups": []}},
                "config": {"task": "math"}, "fingerprint": "f", "inputs": {}, "logged": 100},
               folder / "state.pt")
    read_state(folder / "state.pt", "cpu")  # raises ValueError if it is no state even before it is damaged

def complete_tokenizer(path):
    """Writes all fields that the tokenizers package wants to read, among them a token that is not special."""
    written = json.loads(path.read_text())
    flags = dict.fromkeys(ADDED_TOKEN - {"id", "content", "special"}, False)
    added = [flags | {"special": True} | token for token in written["added_tokens"]]
    added.append(flags | {"id": 256 + len(added), "content": "12", "special": False})
    written["pre_tokenizer"]["trim_offsets"] = True
    written["decoder"] = dict(written["pre_tokenizer"])
    for byte, text in (("þ", "ab"), ("ÿ", "pp")):  # bytes that no text has
        written["model"]["vocab"][text] = written["model"]["vocab"].pop(byte)
    written["model"]["merges"] = ["a b", "p p"]
    path.write_text(json.dumps(written | {"added_tokens": added}))

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
            name = "checkpoint" if rng.random() < 0.5 else rng.choice(sorted(INPUTS))
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
