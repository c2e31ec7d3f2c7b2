"""A model from disk, whatever its format, built without memory (meta device) and filled tensor by tensor.

Weights are mapped from disk and go to their device one at a time. Loading is strict: a tensor, an
architecture, a quantization, or a key that changes the computation and is not understood is an error that
names it, and so are two files of a folder that contradict each other (folder.py). Keys that only describe
pass: of a GGUF file those outside its architecture, of a config.json those that no supported family reads.

    model, tokenizer = load("smollm2-135m", device="cpu", dtype=torch.float32)
"""
import hashlib
from pathlib import Path

import torch

from formats.checkpoint import LARGEST, understood
from formats.default_model import DEFAULT_MODEL, fetch_default
from formats.folder import check_one_model
from formats.gguf_file import read_gguf
from formats.huggingface import read_hf
from formats.meta import read_meta
from model import Transformer

LFS_POINTER = b"version https://git-lfs"  # how the small file begins that Git leaves for a large one

def open_checkpoint(path):
    """The Checkpoint at `path`, read by the reader of its format."""
    refuse_pointers(path)
    if path.is_dir():
        check_one_model(path)
    if path.suffix.lower() == ".gguf" and path.is_file():
        read = read_gguf
    elif (path / "params.json").exists() and any(path.glob("consolidated.*.pth")):
        read = read_meta
    elif (path / "config.json").exists():
        read = read_hf
    elif path.is_dir():
        raise FileNotFoundError(f"the model {path} has neither params.json with consolidated.*.pth (Meta) "
                                "nor config.json (Hugging Face); name a folder, a .gguf file, or "
                                f"{DEFAULT_MODEL}")
    elif path.exists():
        raise ValueError(f"the model {path} is no .gguf file; of another format, name the folder it is in")
    else:
        raise FileNotFoundError(
            f"the model {path} does not exist; name a folder, a .gguf file, or {DEFAULT_MODEL}")
    with understood(f"{path}: its configuration or tokenizer"):
        return read(path)

def refuse_pointers(path):
    """Raises ValueError if the model's file, or one of its folder, is a Git LFS pointer."""
    for file in [path] if path.is_file() else path.glob("*.*"):
        if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(LFS_POINTER):
            raise ValueError(f"{file} is a Git LFS pointer; fetch the real file")

class Fingerprint:
    """Tells one base model from another: SHA-256 over its shape and 64 evenly spaced numbers of a tensor."""

    def __init__(self, args):
        rope_scaling = args.rope_scaling and tuple(map(float, args.rope_scaling))
        shape = (args.dim, args.n_layers, args.n_heads, args.n_kv_heads, args.head_dim, args.hidden_dim,
                 args.vocab_size, args.norm_eps, float(args.rope_theta), rope_scaling)
        families = (args.qkv_bias, args.qk_norm, args.no_rope_layers)
        if any(families):  # a Llama's fingerprint is older than these
            shape += families
        self.digest = hashlib.sha256(repr(shape).encode())

    def add(self, name, tensor):
        """The tensor as it is in the file, before any cast."""
        spaced = tensor.flatten()[::max(1, tensor.numel() // 64)].float()
        self.digest.update(f"{name} {tuple(tensor.shape)}".encode() + spaced.numpy().tobytes())

    def hexdigest(self):
        return self.digest.hexdigest()

def check_names(path, expected, found):
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing:
        raise ValueError(f"{path}: the tensor {missing[0]} is missing")
    if unknown:
        raise ValueError(f"{path}: the tensor {unknown[0]} is unknown")

def check_tensor(path, name, tensor, shape):
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{path}: {name} is {tuple(tensor.shape)}, the configuration says {shape}")
    if not tensor.is_floating_point() or tensor.element_size() < 2:
        raise ValueError(f"{path}: {name} is {tensor.dtype}; quantized weights are not supported")
    largest = tensor.abs().max().item()
    if not largest < LARGEST:  # NaN is not less either
        raise ValueError(f"{path}: {name} holds the number {largest}; the file is damaged")

def load(name, device, dtype=None, progress=iter):
    """(Transformer, Tokenizer) from a Meta folder, a Hugging Face folder, a .gguf file or DEFAULT_MODEL.

    dtype None keeps the file's own (GGUF: float32), as wrapping needs. Raises ValueError or FileNotFoundError
    with one sentence that names what is wrong. The model knows its `name`, `stop_ids` and `fingerprint`.
    """
    path = fetch_default() if str(name) == DEFAULT_MODEL else Path(name)
    checkpoint = open_checkpoint(path)
    if checkpoint.tokenizer.vocab_size > checkpoint.args.vocab_size:
        raise ValueError(f"{path}: the tokenizer has {checkpoint.tokenizer.vocab_size} words, the model "
                         f"only {checkpoint.args.vocab_size}")
    checkpoint.tokenizer.leave_out(checkpoint.args.vocab_size)
    with torch.device("meta"):
        model = Transformer(checkpoint.args)
        beside = checkpoint.beside() if checkpoint.beside else None
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    more_shapes = {key: tuple(value.shape) for key, value in beside.state_dict().items()} if beside else {}
    check_names(path, shapes.keys() | more_shapes.keys(), checkpoint.tensors.keys())
    fingerprint = Fingerprint(checkpoint.args)
    state = {}
    for key, shape in progress((shapes | more_shapes).items()):
        tensor = checkpoint.tensors[key]()
        check_tensor(path, key, tensor, shape)
        if key in shapes:  # an expert is made for the language model
            fingerprint.add(key, tensor)
        state[key] = tensor.to(device=device, dtype=dtype)
    model.load_state_dict({key: state[key] for key in shapes}, strict=True, assign=True)
    if beside is not None:
        beside.load_state_dict({key: state[key] for key in more_shapes}, strict=True, assign=True)
        checkpoint.attach(model, checkpoint.tokenizer, beside)
    model.name = str(name)
    model.stop_ids = checkpoint.tokenizer.stop_ids
    model.fingerprint = fingerprint.hexdigest()
    return model.requires_grad_(False), checkpoint.tokenizer
