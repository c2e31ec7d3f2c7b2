"""An expert's file: safetensors with metadata that say what it is, for which base model, and how it was made.

METADATA is what every expert says of itself; step, validation accuracy and command stand beside it. Whether
an expert fits the model at hand is asked in harness/experts.py.
"""
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from formats.safetensors_file import save_whole

KINDS = ("task", "dispatch", "mixture")
METADATA = {"fingerprint": str, "base": str, "adapter": str, "kind": str, "task": str, "tensors": int}
# and what an expert of a task shows of itself: example requests, and the form of its prompts
FORM_OF_TASK = {"examples": list, "system": str, "instruction": str, "prefill": str}
# "solved", turns that stand before every question, is part of the form, too; older files do not have it
FORM_OF_MIXTURE = {"description": str, "mixture": dict}
LARGEST = 100  # no z or α that answers anything comes near

def save_expert(path, z, metadata):
    """An expert, {weight name: z}, with the metadata of METADATA and more; loading checks it again."""
    save_whole(Path(path), z, metadata | {"tensors": len(z)})

def open_expert(path):
    """The open safetensors file. Raises ValueError if it is none."""
    try:
        return safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise ValueError(f"{path} is not an expert: {error}") from error

def are_weights(mixture):
    """Whether these are α, one of each expert or one per block."""
    alphas = []
    for weight in mixture.values():
        alphas += weight if isinstance(weight, list) and weight else [weight]
    return all(isinstance(alpha, (int, float)) and abs(alpha) < LARGEST for alpha in alphas)

def are_requests(examples):
    """Whether these can stand for a category: one is shown in the question, the others calibrate it."""
    return len(examples) > 1 and all(isinstance(example, str) for example in examples)

def are_turns(solved):
    """Whether these can stand before a question, as earlier turns of a chat."""
    return isinstance(solved, list) and all(
        isinstance(turn, dict) and turn.keys() == {"role", "content"}
        and turn["role"] in ("user", "assistant") and isinstance(turn["content"], str) for turn in solved)

def metadata_of(path, file):
    """{key: value}, of the right types. Raises ValueError for metadata that are none of an expert."""
    try:
        metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not an expert: its metadata is no JSON ({error})") from error
    expected = dict(METADATA)
    if metadata.get("kind") == "task":
        expected |= FORM_OF_TASK
    if metadata.get("kind") == "mixture":
        expected |= FORM_OF_MIXTURE
    for key, kind in expected.items():
        if not isinstance(metadata.get(key), kind):
            raise ValueError(f"{path} is not an expert: its metadata say {key} = {metadata.get(key)!r}")
    if metadata["kind"] not in KINDS:
        raise ValueError(f"{path} is an expert of an unknown kind, {metadata['kind']!r}")
    if metadata["kind"] == "mixture" and not are_weights(metadata["mixture"]):
        raise ValueError(f"{path} is not an expert: its mixture is {metadata['mixture']!r}")
    if metadata["kind"] == "task" and not are_requests(metadata["examples"]):
        raise ValueError(f"{path} is not an expert: its example requests are {metadata['examples']!r}")
    if not are_turns(metadata.setdefault("solved", [])):
        raise ValueError(f"{path} is not an expert: its solved problems are {metadata['solved']!r}")
    return metadata

def read_expert(path):
    """({name: tensor}, metadata) of an expert of any adapter, which is not held against a model yet."""
    with open_expert(path) as file:
        metadata = metadata_of(path, file)
        return {name: file.get_tensor(name) for name in file.keys()}, metadata

def read_metadata(path):
    """{key: value} of an expert's file, without its tensors."""
    with open_expert(path) as file:
        return metadata_of(path, file)
