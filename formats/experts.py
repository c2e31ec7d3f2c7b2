"""Experts on disk, as safetensors with metadata, and bases kept between runs.

An expert is made for one base model, which its metadata name by a fingerprint; another model refuses it.
Metadata: fingerprint and name of the base, adapter, kind (task, dispatch or mixture), task, one-line
description, example request, the system prompt, instruction and prefill it was trained under, step,
validation accuracy, command.
"""
import json
import os
from dataclasses import dataclass, field

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from formats.default_model import cache_folder

@dataclass
class Experts:
    """The experts at hand, {name: {weight name: z}} by kind, and {name: metadata}."""
    task: dict = field(default_factory=dict)  # the categories of dispatch and the coordinates of CEM
    dispatch: dict = field(default_factory=dict)  # the classifier z_c, one or none
    mixture: dict = field(default_factory=dict)  # what a search found, saved
    metadata: dict = field(default_factory=dict)

    def add(self, name, z, metadata):
        of_kind = {"task": self.task, "dispatch": self.dispatch, "mixture": self.mixture}
        of_kind[metadata["kind"]][name] = z
        self.metadata[name] = metadata

    def answering(self):
        """The experts that can answer: all but the classifier."""
        return self.task | self.mixture

def save_whole(path, tensors, metadata):
    """Write {name: tensor} as safetensors, with `metadata` as JSON values; never a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write the same basis
    save_file({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, beside,
              metadata={key: json.dumps(value) for key, value in metadata.items()})
    beside.replace(path)

def open_expert(path, device="cpu"):
    """The open safetensors file. Raises ValueError if it is none."""
    try:
        return safe_open(path, framework="pt", device=device)
    except SafetensorError as error:
        raise ValueError(f"{path} is not an expert: {error}") from error

def metadata_of(path, file):
    try:
        return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not an expert: its metadata is no JSON ({error})") from error

def read_metadata(path):
    """{key: value} of an expert's file, without its tensors."""
    with open_expert(path) as file:
        return metadata_of(path, file)

def load_expert(path, model):
    """An expert made for this model -> ({weight name: z}, metadata). Raises ValueError for another's."""
    with open_expert(path, str(model.tok_embeddings.weight.device)) as file:
        metadata = metadata_of(path, file)
        z = {name: file.get_tensor(name) for name in file.keys()}
    missing = [key for key in ("kind", "fingerprint", "base", "task") if key not in metadata]
    if missing:
        raise ValueError(f"{path} is not an expert: its metadata has no {missing[0]}")
    if metadata["kind"] not in ("task", "dispatch", "mixture"):
        raise ValueError(f"{path} is an expert of an unknown kind, {metadata['kind']!r}")
    if metadata["fingerprint"] != model.fingerprint:
        raise ValueError(f"{path} was made for {metadata['base']}; for {model.name} "
                         f"train another: python train.py --model {model.name}")
    adapter = metadata.get("adapter", "svf")  # files from before there was another do not say
    if adapter != "svf":
        raise ValueError(f"{path} was made by the adapter {adapter}; only experts of svf can be mixed")
    return z, metadata

def load_experts(folder, model):
    """Every expert of a folder. Raises FileNotFoundError if none of them is of a task."""
    experts = Experts()
    for path in sorted(folder.glob("*.safetensors")):
        experts.add(path.stem, *load_expert(path, model))
    if not experts.task:
        raise FileNotFoundError(
            f"{folder} has no expert of a task (*.safetensors); train one: python train.py")
    return experts

@dataclass
class KeptBases:
    """basis_of for `svf.wrap`: each basis, once made, stays in the user's cache folder, a file per weight.

    An interrupted decomposition of a large model goes on where it was, and the next run only reads.
    """
    fingerprint: str
    decompose: object  # W -> basis

    def __call__(self, name, W):
        dtype = str(W.dtype).removeprefix("torch.")
        path = cache_folder() / "bases" / self.fingerprint / dtype / f"{name}.safetensors"
        if not path.exists():
            save_whole(path, {"basis": self.decompose(W).to(W.dtype)}, {"fingerprint": self.fingerprint})
        with safe_open(path, framework="pt", device=str(W.device)) as file:
            return file.get_tensor("basis")
