"""GGUF files of Llamas, Qwen2 and Qwen3, in every type that the `gguf` package can dequantize.

llama.cpp keeps a Llama's wq and wk in Meta's order and a Qwen's in Hugging Face's (checkpoint.py puts those
back). Quantized weights come out as float32, one tensor at a time.
"""
from dataclasses import dataclass

import torch
from gguf import GGUFReader
from gguf.quants import dequantize

from formats import tokenizer as tokenizers_of
from formats.checkpoint import Checkpoint, checked, halves_to_pairs, heads_of, meta_names
from model import ModelArgs, stretched

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# parts of keys that change the computation, and values with which some of them do not
CHANGING = ("rope.scal", "expert", "logit_scale", "attention.scale", "residual_scale", "embedding_scale",
            "softcapping", "clamp_kqv")
HARMLESS = {"rope.scaling.type": "none", "rope.scaling.factor": 1.0, "rope.scale_linear": 1.0,
            "logit_scale": 1.0, "residual_scale": 1.0, "embedding_scale": 1.0}

@dataclass
class GGUFTensor:
    """A tensor of the file, dequantized to float32 and in Meta's order when it is called."""
    tensor: object
    heads: int  # 0 where the order is Meta's already

    def __call__(self):
        try:
            numbers = dequantize(self.tensor.data, self.tensor.tensor_type)
        except (NotImplementedError, KeyError) as error:
            raise ValueError(f"{self.tensor.name} is {self.tensor.tensor_type.name}, which gguf cannot "
                             "dequantize") from error
        return halves_to_pairs(torch.from_numpy(numbers.copy()), self.heads)

def read_gguf(path):
    """A .gguf file -> Checkpoint. Raises ValueError for what is not understood, KeyError for a missing key.
    """
    try:
        reader = GGUFReader(path)
        fields = {key: field.contents() for key, field in reader.fields.items()}
    except (ValueError, KeyError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a whole GGUF file: {error}") from error
    if fields.get("split.count", 1) > 1:  # all but the first lack what follows
        raise ValueError(f"{path} is one of {fields['split.count']} parts; join them by llama-gguf-split "
                         "--merge")
    architecture = fields["general.architecture"]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"{path}: the architecture {architecture!r} is not supported "
                         f"({', '.join(ARCHITECTURES)} are)")
    for key in sorted(fields):
        if not key.startswith(f"{architecture}."):
            continue
        name = key.removeprefix(f"{architecture}.")
        changes = any(part in name for part in CHANGING) and fields[key] and fields[key] != HARMLESS.get(name)
        if changes:
            raise ValueError(f"{path}: {key} = {fields[key]} is not supported; use the model's safetensors "
                             "folder")
    found = {tensor.name: tensor for tensor in reader.tensors}
    factors = found.pop("rope_freqs.weight", None)
    args = checked(path, gguf_args(fields, architecture, tied_embeddings="output.weight" not in found))
    if factors is not None:
        args.rope_scaling = llama3_scaling(GGUFTensor(factors, heads=0)(), args)
    names = meta_names("gguf", args.n_layers)
    tensors = {}
    for theirs, tensor in found.items():
        name = names.get(theirs, theirs)
        tensors[name] = GGUFTensor(tensor, 0 if architecture == "llama" else heads_of(name, args))
    return Checkpoint(args, tensors, tokenizers_of.from_gguf(fields))

def gguf_args(fields, architecture, tied_embeddings):
    """ModelArgs from a file's fields."""

    def field(name):
        return fields[f"{architecture}.{name}"]

    def field_or(name, default):
        return fields.get(f"{architecture}.{name}", default)

    n_heads = field("attention.head_count")
    dim = field("embedding_length")
    head_dim = field_or("attention.key_length", field_or("rope.dimension_count", dim // n_heads))
    return ModelArgs(
        dim=dim, n_layers=field("block_count"), n_heads=n_heads,
        n_kv_heads=field_or("attention.head_count_kv", n_heads), head_dim=head_dim,
        hidden_dim=field("feed_forward_length"),
        vocab_size=field_or("vocab_size", len(fields["tokenizer.ggml.tokens"])),
        norm_eps=round(field("attention.layer_norm_rms_epsilon"), 9),  # a float32: 9.9999997e-6
        rope_theta=field_or("rope.freq_base", 10000.0),
        # within its window a model computes what it would without one; longer rows are refused
        max_seq_len=min(field("context_length"), field_or("attention.sliding_window", 0) or 1 << 24),
        tied_embeddings=tied_embeddings, qkv_bias=architecture == "qwen2", qk_norm=architecture == "qwen3")

def llama3_scaling(factors, args):
    """The rope_scaling of Llama-3.1 and 3.2, which their files hold as a table: by how much each feature is
    slowed, (head_dim / 2,). Raises ValueError for the table of another scaling."""
    scaling = (round(factors.max().item(), 3), 1.0, 4.0, 8192)
    freqs = args.rope_theta ** (-torch.arange(0, args.head_dim, 2) / args.head_dim)
    expected = freqs / stretched(freqs, scaling)
    if factors.shape != expected.shape or (factors / expected - 1).abs().max() > 1e-3:
        raise ValueError("rope_freqs.weight is not the scaling of Llama 3.1 and 3.2; no other is supported")
    return scaling
