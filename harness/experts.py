"""The experts at hand: files that fit the model, by name, in the order in which `svf.mix` adds them up.

An expert is made for one base model, which its metadata name by a fingerprint; another model refuses it
(unless --transfer says otherwise). It is checked whole when it is loaded: names, lengths, finite numbers.
"""
from pathlib import Path

from adapt import Expert
from formats.experts import LARGEST, read_expert
from svf import start

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

def load_expert(path, model, transfer=False):
    """An expert made for this model -> ({weight name: z}, metadata). Raises ValueError for any other file;
    `transfer` takes one that was made for another model of the same shape (paper, table 5)."""
    if path.stem == "other":
        raise ValueError(f'{path}: "other" is the base model; give the expert another name')
    z, metadata = read_expert(path)
    z = {name: values.to(model.tok_embeddings.weight.device) for name, values in z.items()}
    if metadata["fingerprint"] != model.fingerprint and not transfer:
        raise ValueError(f"{path} was made for {metadata['base']}; for {model.name} "
                         f"train another: python train.py --model {model.name}; or try it all the same, "
                         "with python -m scripts.sample --transfer")
    if metadata["adapter"] != "svf":
        raise ValueError(f"{path} was made by the adapter {metadata['adapter']}; only experts of svf can be "
                         "mixed")
    if metadata.get("basis", "svd") != "svd":
        raise ValueError(f"{path} was learned in the basis {metadata['basis']!r}; experts are mixed in that "
                         "of the singular vectors")
    check_z(path, z, metadata, model)
    return z, metadata

def load_experts(folder, model, transfer=False):
    """Every expert of a folder, {name: Expert}. Raises FileNotFoundError if none of them is of a task,
    ValueError for a second classifier."""
    experts = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        z, metadata = load_expert(path, model, transfer)
        experts[path.stem] = Expert(z, metadata, role=metadata["kind"], file=path.resolve())
    roles = [expert.role for expert in experts.values()]
    if "task" not in roles:
        raise FileNotFoundError(
            f"{folder} has no expert of a task (*.safetensors); train one: python train.py")
    classifiers = [name for name, expert in experts.items() if expert.role == "dispatch"]
    if len(classifiers) > 1:
        raise ValueError(f"{' and '.join(classifiers)} are both classifiers; keep one of them")
    return experts

def expert_named(adaptive, wanted, folder):
    """The name of an expert that is wanted by its name in the folder or by its file, loaded if it was not.
    Raises ValueError for a classifier, or where another file of that name is loaded."""
    known = Path(folder, f"{wanted}.safetensors")
    experts = adaptive.experts
    if known.exists():
        path = known
    elif wanted in experts:
        path = experts[wanted].file
    else:
        path = Path(wanted)
    name = path.stem
    if name not in experts:
        z, metadata = load_expert(path, adaptive.model, adaptive.transfer)
        role = "dispatch" if metadata["kind"] == "dispatch" else "supplied"
        named = Expert(z, metadata, role, file=path.resolve())
    elif experts[name].file == path.resolve():
        named = experts[name]
    else:
        raise ValueError(f"there is an expert {name} already; give the file another name")
    if named.role == "dispatch":
        raise ValueError(f"{path} is a classifier and does not answer; use it by --adapt classifier")
    experts[name] = named
    return name
