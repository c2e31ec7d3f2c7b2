"""GGUF files of Llamas, Qwen2 and Qwen3, in every type that the `gguf` package can dequantize.

llama.cpp keeps a Llama's wq and wk in Meta's order and a Qwen's in Hugging Face's (checkpoint.py puts those
back). Quantized weights come out as float32, one tensor at a time.

Every key of the file's architecture is looked at: used, harmless, or refused by name unless it has the value
at which it does nothing. Keys of other namespaces (general.…, quantize.…) describe, and pass.
"""
from dataclasses import dataclass

import torch
from gguf import GGML_QUANT_VERSION, GGUFEndian, GGUFReader
from gguf.quants import dequantize

from formats.checkpoint import Checkpoint, checked, halves_to_pairs, heads_of, meta_names
from formats.tokenizer_files import from_gguf
from model import ModelArgs, stretched

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# The keys of an architecture, llama.…; one that is in none of the three tables is refused by name. Those that
# are read here:
USED = {"vocab_size", "context_length", "embedding_length", "block_count", "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "attention.layer_norm_rms_epsilon", "attention.sliding_window", "rope.dimension_count",
        "rope.freq_base"}
# Those that compute nothing: about training, about yarn and windows where there is none, about embeddings.
HARMLESS = {"rope.scaling.original_context_length", "rope.scaling.finetuned", "rope.scaling.yarn_beta_fast",
            "rope.scaling.yarn_beta_slow", "attention.sliding_window_pattern", "pooling_type"}
# And those that change what is computed, with the values at which they do nothing.
NEUTRAL = {
    "tensor_data_layout": ("reference", "Meta AI original pth"), "use_parallel_residual": (False,),
    "attention.causal": (True,), "attention.scale": (0,), "attention.output_scale": (0, 1),
    "attention.clamp_kqv": (0,), "attention.max_alibi_bias": (0,), "attention.temperature_length": (0,),
    "attention.temperature_scale": (0,), "attention.shared_kv_layers": (0,),
    "attn_logit_softcapping": (0,), "final_logit_softcapping": (0,), "router_logit_softcapping": (0,),
    "logit_scale": (0, 1), "residual_scale": (0, 1), "embedding_scale": (0, 1), "swin_norm": (False,),
    "rope.scale_linear": (0, 1), "rope.scaling.type": ("none", ""), "rope.scaling.factor": (0, 1),
    "rope.scaling.attn_factor": (0, 1), "rope.scaling.alpha": (0, 1), "rope.scaling.yarn_attn_factor": (0, 1),
    "rope.scaling.yarn_ext_factor": (0,), "rope.scaling.yarn_log_multiplier": (0,),
    "expert_count": (0,), "expert_used_count": (0,), "expert_shared_count": (0,), "expert_group_count": (0,),
    "expert_group_used_count": (0,), "expert_feed_forward_length": (0,), "expert_weights_scale": (0, 1),
    "expert_shared_feed_forward_length": (0,), "expert_chunk_feed_forward_length": (0,),
    "expert_weights_norm": (False,), "expert_gating_func": (0,), "expert_group_scale": (0, 1),
    "experts_per_group": (0,), "moe_every_n_layers": (0,), "interleave_moe_layer_step": (0,),
    "leading_dense_block_count": (0,), "nextn_predict_layers": (0,), "n_deepstack_layers": (0,)}

def check_keys(path, fields, architecture):
    """Raises ValueError for the first key, by the alphabet, that may change what is computed."""
    for key in sorted(fields):
        namespace, _, name = key.partition(".")
        if namespace != architecture or name in USED | HARMLESS:
            continue
        if name not in NEUTRAL:
            raise ValueError(f"{path}: the key {key} is not known here; use the model's safetensors folder")
        if fields[key] not in NEUTRAL[name]:
            raise ValueError(f"{path}: {key} = {fields[key]} is not supported; use the model's safetensors "
                             "folder")

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
    if reader.endianess == GGUFEndian.BIG:
        raise ValueError(f"{path} is big-endian; convert it: gguf-convert-endian {path} little")
    if fields.get("split.count", 1) > 1:  # all but the first lack what follows
        raise ValueError(f"{path} is one of {fields['split.count']} parts; join them by llama-gguf-split "
                         "--merge")
    if fields.get("general.type", "model") != "model":
        raise ValueError(f"{path} holds no model but: {fields['general.type']}")
    if fields.get("general.quantization_version", GGML_QUANT_VERSION) != GGML_QUANT_VERSION:
        raise ValueError(f"{path}: quantization version {fields['general.quantization_version']} is not "
                         f"supported ({GGML_QUANT_VERSION} is)")
    architecture = fields["general.architecture"]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"{path}: the architecture {architecture!r} is not supported "
                         f"({', '.join(ARCHITECTURES)} are)")
    check_keys(path, fields, architecture)
    check_layout(path, reader, is_aligned_otherwise="general.alignment" in fields)
    found = {tensor.name: tensor for tensor in reader.tensors}
    factors = found.pop("rope_freqs.weight", None)
    args = checked(path, gguf_args(fields, architecture, tied_embeddings="output.weight" not in found))
    for name in ("rope.dimension_count", "attention.value_length"):
        size = fields.get(f"{architecture}.{name}", args.head_dim)
        if size != args.head_dim:
            raise ValueError(f"{path}: {architecture}.{name} = {size} is not supported where a head has "
                             f"{args.head_dim} features")
    if factors is not None:
        args.rope_scaling = llama3_scaling(GGUFTensor(factors, heads=0)(), args)
    names = meta_names("gguf", args.n_layers)
    tensors = {}
    for theirs, tensor in found.items():
        name = names.get(theirs, theirs)
        tensors[name] = GGUFTensor(tensor, 0 if architecture == "llama" else heads_of(name, args))
    return Checkpoint(args, tensors, from_gguf(fields))

def check_layout(path, reader, is_aligned_otherwise):
    """Raises ValueError if the tensors do not stand one behind the other, as llama.cpp demands: a header that
    is wrong about them would read one for another, or all of them some bytes off."""
    expected = reader.data_offset
    for tensor in reader.tensors:
        if tensor.data_offset != expected:
            raise ValueError(f"{path} is damaged: {tensor.name} is not where the tensor before it ends")
        expected += -(-int(tensor.n_bytes) // int(reader.alignment)) * int(reader.alignment)
    if is_aligned_otherwise and len(reader.data) > expected:
        raise ValueError(f"{path} is damaged: its tensors end before the file does")

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
