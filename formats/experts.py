"""Experts on disk, as safetensors with metadata, and bases kept between runs.

An expert is made for one base model, which its metadata name by a fingerprint; another model refuses it
(unless --transfer says otherwise). It is checked whole when it is loaded: metadata, names, lengths, finite
numbers. METADATA says what every expert knows of itself; how it was made stands beside (step, validation
accuracy, command).
"""
import json
import os
from dataclasses import dataclass, field

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from formats.default_model import cache_folder
from svf import start

KINDS = ("task", "dispatch", "mixture")
METADATA = {"fingerprint": str, "base": str, "adapter": str, "kind": str, "task": str, "tensors": int}
# and what an expert of a task wears and shows of itself
FORM_OF_TASK = {"description": str, "examples": list, "system": str, "instruction": str, "prefill": str}
FORM_OF_MIXTURE = {"description": str, "mixture": dict}
LARGEST = 100  # no z that answers anything comes near

@dataclass
class Experts:
    """The experts at hand, {name: {weight name: z}} by what they are for; {name: metadata}, {name: file}."""
    task: dict = field(default_factory=dict)  # the categories of dispatch and the coordinates of CEM
    dispatch: dict = field(default_factory=dict)  # the classifier z_c, one or none
    mixture: dict = field(default_factory=dict)  # what a search found, saved
    guests: dict = field(default_factory=dict)  # named by the user, from anywhere: they answer, and no more
    metadata: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)

    def add(self, path, z, metadata):
        """An expert of the folder. Raises ValueError for a name that is taken, or a second classifier."""
        if metadata["kind"] == "dispatch" and self.dispatch:
            raise ValueError(f"{path.stem} and {', '.join(self.dispatch)} are both classifiers; keep one of "
                             "them")
        of_kind = {"task": self.task, "dispatch": self.dispatch, "mixture": self.mixture}
        self.add_to(of_kind[metadata["kind"]], path, z, metadata)

    def add_guest(self, path, z, metadata):
        """Another that is named by the user. Raises ValueError for a name that is taken, or a classifier."""
        if metadata["kind"] == "dispatch":
            raise ValueError(f"{path} is a classifier and does not answer; use it by --adapt classifier")
        self.add_to(self.guests, path, z, metadata)

    def add_to(self, experts, path, z, metadata):
        name = path.stem
        if name in self.metadata:
            raise ValueError(f"there is an expert {name} already; give the file another name")
        experts[name] = z
        self.metadata[name] = metadata
        self.files[name] = path.resolve()

    def answering(self):
        """The experts that can answer: all but the classifier."""
        return self.task | self.mixture | self.guests

def write_safetensors(path, tensors, metadata):
    """{name: tensor} and {key: text} as a file; where the disk is full, OSError and no file."""
    try:
        save_file({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, path, metadata)
    except SafetensorError as error:  # which is no OSError
        path.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written: {error}") from error

def save_whole(path, tensors, metadata):
    """Write {name: tensor} as safetensors, with `metadata` as JSON values; never a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write the same basis
    write_safetensors(beside, tensors, {key: json.dumps(value) for key, value in metadata.items()})
    beside.replace(path)

def save_expert(path, z, metadata):
    """An expert, {weight name: z}, with the metadata of METADATA and more; loading checks it again."""
    save_whole(path, z, metadata | {"tensors": len(z)})

def open_expert(path, device="cpu"):
    """The open safetensors file. Raises ValueError if it is none."""
    try:
        return safe_open(path, framework="pt", device=device)
    except SafetensorError as error:
        raise ValueError(f"{path} is not an expert: {error}") from error

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
    return metadata

def are_weights(mixture):
    """Whether these are α, one of each expert or one per block."""
    alphas = []
    for weight in mixture.values():
        alphas += weight if isinstance(weight, list) and weight else [weight]
    return all(isinstance(alpha, (int, float)) and abs(alpha) < LARGEST for alpha in alphas)

def are_requests(examples):
    """Whether these can stand for a category: one is shown in the question, the others calibrate it."""
    return len(examples) > 1 and all(isinstance(example, str) for example in examples)

def check_z(path, z, metadata, model):
    """Raises ValueError for a z that this model cannot compute with, naming what differs."""
    ones = start(model)
    if len(z) != metadata["tensors"]:
        raise ValueError(f"{path} has {len(z)} tensors and should have {metadata['tensors']}")
    for name, values in z.items():
        if name not in ones:
            raise ValueError(f"{path} has a z for {name}, which is not wrapped here")
        if values.shape != ones[name].shape or not values.is_floating_point():
            raise ValueError(f"{path}: z of {name} is {tuple(values.shape)} {values.dtype}, and not "
                             f"{tuple(ones[name].shape)} {ones[name].dtype}")
        if not (values.abs() < LARGEST).all():  # NaN is not less either
            raise ValueError(f"{path}: z of {name} is not finite, or beyond {LARGEST}")

def read_expert(path, device="cpu"):
    """({name: tensor}, metadata) of an expert of any adapter, which is not held against a model yet."""
    with open_expert(path, device) as file:
        metadata = metadata_of(path, file)
        return {name: file.get_tensor(name) for name in file.keys()}, metadata

def read_metadata(path):
    """{key: value} of an expert's file, without its tensors."""
    with open_expert(path) as file:
        return metadata_of(path, file)

def load_expert(path, model, transfer=False):
    """An expert made for this model -> ({weight name: z}, metadata). Raises ValueError for any other file;
    `transfer` takes one that was made for another model of the same shape (paper, table 5)."""
    if path.stem == "other":
        raise ValueError(f'{path}: "other" is the base model; give the expert another name')
    z, metadata = read_expert(path, str(model.tok_embeddings.weight.device))
    if metadata["fingerprint"] != model.fingerprint and not transfer:
        raise ValueError(f"{path} was made for {metadata['base']}; for {model.name} "
                         f"train another: python train.py --model {model.name}; or try it all the same, "
                         "with --transfer")
    if metadata["adapter"] != "svf":
        raise ValueError(f"{path} was made by the adapter {metadata['adapter']}; only experts of svf can be "
                         "mixed")
    if metadata.get("basis", "svd") != "svd":
        raise ValueError(f"{path} was learned in the basis {metadata['basis']!r}; experts are mixed in that "
                         "of the singular vectors")
    check_z(path, z, metadata, model)
    return z, metadata

def load_experts(folder, model, transfer=False):
    """Every expert of a folder. Raises FileNotFoundError if none of them is of a task."""
    experts = Experts()
    for path in sorted(folder.glob("*.safetensors")):
        experts.add(path, *load_expert(path, model, transfer))
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
        try:
            with safe_open(path, framework="pt", device=str(W.device)) as file:
                made_for = json.loads(file.metadata()["fingerprint"])
                basis = file.get_tensor("basis")
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no whole basis ({error}); delete it") from error
        r = min(W.shape)
        if made_for != self.fingerprint or basis.shape != (r, r) or not basis.isfinite().all():
            raise ValueError(f"{path} is no basis of this weight; delete it")
        return basis
