"""GGUF files of Llamas, as llama.cpp reads them; their weights are in Meta's order."""
from dataclasses import dataclass

import torch
from gguf import GGUFReader
from gguf.quants import dequantize

from formats import tokenizer as tokenizers_of
from formats.checkpoint import Checkpoint, meta_names
from model import ModelArgs

READABLE = ("F32", "Q8_0", "Q4_1")

@dataclass
class GGUFTensor:
    """A tensor of the file, dequantized to float32 when it is called."""
    tensor: object

    def __call__(self):
        return torch.from_numpy(dequantize(self.tensor.data, self.tensor.tensor_type).copy())

def read_gguf(path):
    """A .gguf file -> Checkpoint. Raises ValueError for what is not understood, KeyError for a missing key.
    """
    try:
        reader = GGUFReader(path)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is not a whole GGUF file: {error}") from error
    fields = {key: field.contents() for key, field in reader.fields.items()}
    if fields["general.architecture"] != "llama":
        raise ValueError(f"{path}: the architecture {fields['general.architecture']!r} is not supported")
    unsupported = [key for key in fields if "rope.scaling" in key or "sliding" in key or "expert" in key]
    if unsupported:
        raise ValueError(f"{path}: {unsupported[0]} is not supported; use the model's safetensors folder")
    names = meta_names("gguf", fields["llama.block_count"])
    tensors = {}
    for tensor in reader.tensors:
        kind = tensor.tensor_type.name
        if kind not in READABLE:
            raise ValueError(f"{path}: {tensor.name} is {kind}; {', '.join(READABLE)} can be read")
        tensors[names.get(tensor.name, tensor.name)] = GGUFTensor(tensor)
    args = gguf_args(fields, tied_embeddings="output.weight" not in tensors)
    return Checkpoint(args, tensors, tokenizers_of.from_gguf(fields))

def gguf_args(fields, tied_embeddings):
    n_heads = fields["llama.attention.head_count"]
    dim = fields["llama.embedding_length"]
    return ModelArgs(
        dim=dim, n_layers=fields["llama.block_count"], n_heads=n_heads,
        n_kv_heads=fields.get("llama.attention.head_count_kv", n_heads),
        head_dim=fields.get("llama.rope.dimension_count", dim // n_heads),
        hidden_dim=fields["llama.feed_forward_length"], vocab_size=fields["llama.vocab_size"],
        norm_eps=round(fields["llama.attention.layer_norm_rms_epsilon"], 9),  # a float32: 9.9999997e-6
        rope_theta=fields.get("llama.rope.freq_base", 10000.0), max_seq_len=fields["llama.context_length"],
        tied_embeddings=tied_embeddings)
