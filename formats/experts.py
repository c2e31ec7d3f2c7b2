"""Experts on disk, as safetensors with metadata, and bases kept between runs.

An expert is made for one base model, which its metadata name by a fingerprint; another model refuses it.
Metadata: fingerprint and name of the base, adapter, kind (task or dispatch), task, one-line description, an
example request, the system prompt and prefill it was trained under, step, validation accuracy, command.
"""
import json
from dataclasses import dataclass, field

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from formats.default_model import cache_folder

@dataclass
class Experts:
    """The experts at hand, {name: {weight name: z}} by kind, and {name: metadata}."""
    task: dict = field(default_factory=dict)  # the categories of dispatch and the coordinates of CEM
    dispatch: dict = field(default_factory=dict)  # the classifier z_c, one or none
    metadata: dict = field(default_factory=dict)

    def add(self, name, z, metadata):
        experts = {"task": self.task, "dispatch": self.dispatch}
        experts[metadata["kind"]][name] = z
        self.metadata[name] = metadata

def save_whole(path, tensors, metadata):
    """Write {name: tensor} as safetensors, with `metadata` as JSON values; never a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    save_file({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, beside,
              metadata={key: json.dumps(value) for key, value in metadata.items()})
    beside.replace(path)

def load_expert(path, model):
    """An expert made for this model -> ({weight name: z}, metadata). Raises ValueError for another's."""
    try:
        with safe_open(path, framework="pt", device=str(model.tok_embeddings.weight.device)) as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            z = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not an expert: {error}") from error
    if metadata.get("kind") not in ("task", "dispatch"):
        raise ValueError(f"{path} is not an expert: its metadata does not say of which kind")
    if metadata["fingerprint"] != model.fingerprint:
        raise ValueError(f"{path} was made for {metadata['base']}; for {model.name} "
                         f"train another: python train.py --model {model.name}")
    adapter = metadata.get("adapter", "svf")  # files from before there was another do not say
    if adapter != "svf":
        raise ValueError(f"{path} was made by the adapter {adapter}; only experts of svf can be mixed")
    return z, metadata

def load_experts(folder, model):
    """Every expert of a folder. Raises FileNotFoundError if it has no task expert."""
    experts = Experts()
    for path in sorted(folder.glob("*.safetensors")):
        experts.add(path.stem, *load_expert(path, model))
    if not experts.task:
        raise FileNotFoundError(f"{folder} has no experts (*.safetensors); train one: python train.py")
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
