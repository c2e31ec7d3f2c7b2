"""What every reader of a checkpoint format gives, and the names that weights have in each format."""
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from formats.tokenizer import Tokenizer
from model import ModelArgs

LARGEST = 1e6  # no weight of a working model comes near

@dataclass
class Checkpoint:
    args: ModelArgs
    tensors: dict[str, Callable[[], torch.Tensor]]  # Meta's weight name: a function that reads it
    tokenizer: Tokenizer
    # What stands beside the language model, as eyes do, if anything: beside() builds it, and attach(model,
    # tokenizer, module) puts it in its place. Its tensors have its own names.
    beside: Callable[[], nn.Module] | None = None
    attach: Callable | None = None

# what Python raises where a configuration has another type than it should, or is no JSON at all
DAMAGE = (TypeError, AttributeError, IndexError, json.JSONDecodeError, UnicodeDecodeError, RecursionError,
          ZeroDivisionError, OverflowError)

@contextmanager
def understood(what):
    """Raises ValueError, which begins with `what`, where reading finds no key, or a wrong type."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{what} has no {error}") from error
    except DAMAGE as error:
        raise ValueError(f"{what} is damaged ({error})") from error

def checked(path, args):
    """The ModelArgs, if a model can have this shape. Raises ValueError for one that none has."""
    for field in ("dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "hidden_dim", "vocab_size",
                  "max_seq_len"):
        value = getattr(args, field)
        most = 1000 if field == "n_layers" else 1 << 24
        if type(value) is not int or not 0 < value <= most:
            raise ValueError(f"{path}: {field} = {value!r} must be a whole number from 1 to {most}")
    scaling = args.rope_scaling or ()
    for field, value in [("norm_eps", args.norm_eps), ("rope_theta", args.rope_theta),
                         *[("rope_scaling", value) for value in scaling]]:
        if type(value) not in (int, float) or not 0 < value < 1e12:
            raise ValueError(f"{path}: {field} = {value!r} must be a positive number")
    for field in ("tied_embeddings", "qkv_bias", "qk_norm"):
        if not isinstance(getattr(args, field), bool):
            raise ValueError(f"{path}: {field} = {getattr(args, field)!r} must be true or false")
    if args.n_heads % args.n_kv_heads or args.head_dim % 2:
        raise ValueError(f"{path}: {args.n_heads} heads must be a multiple of {args.n_kv_heads} key heads, "
                         f"and head_dim = {args.head_dim} even")
    return args

# Meta's, Hugging Face's, GGUF's
NAMES = """
tok_embeddings              model.embed_tokens                       token_embd
layers.N.attention_norm     model.layers.N.input_layernorm           blk.N.attn_norm
layers.N.attention.wq       model.layers.N.self_attn.q_proj          blk.N.attn_q
layers.N.attention.wk       model.layers.N.self_attn.k_proj          blk.N.attn_k
layers.N.attention.wv       model.layers.N.self_attn.v_proj          blk.N.attn_v
layers.N.attention.wo       model.layers.N.self_attn.o_proj          blk.N.attn_output
layers.N.attention.q_norm   model.layers.N.self_attn.q_norm          blk.N.attn_q_norm
layers.N.attention.k_norm   model.layers.N.self_attn.k_norm          blk.N.attn_k_norm
layers.N.ffn_norm           model.layers.N.post_attention_layernorm  blk.N.ffn_norm
layers.N.feed_forward.w1    model.layers.N.mlp.gate_proj             blk.N.ffn_gate
layers.N.feed_forward.w2    model.layers.N.mlp.down_proj             blk.N.ffn_down
layers.N.feed_forward.w3    model.layers.N.mlp.up_proj               blk.N.ffn_up
norm                        model.norm                               output_norm
output                      lm_head                                  output
"""

def heads_of(name, args):
    """How many heads' features are in another order in a layout of halves (huggingface.py says which): those
    of wq and wk and of the norms behind them, else 0."""
    weight, _, _ = name.rpartition(".")
    if weight.endswith("wq"):
        return args.n_heads
    if weight.endswith("wk"):
        return args.n_kv_heads
    if weight.endswith(("q_norm", "k_norm")):
        return 1  # all heads share its weight
    return 0

def halves_to_pairs(w, heads):
    """Rows of wq or wk, or numbers of a bias or norm, (heads · head_dim, …) from halves to Meta's pairs; with
    0 heads as they are. Raises ValueError for a weight that the heads cannot divide."""
    if heads == 0:
        return w
    if w.dim() == 0 or w.shape[0] % (2 * heads):
        raise ValueError(f"a weight of shape {tuple(w.shape)} is not one of {heads} heads")
    return w.view(heads, 2, -1, *w.shape[1:]).transpose(1, 2).reshape(w.shape)

def pairs_to_halves(w, heads):
    if heads == 0:
        return w
    return w.view(heads, -1, 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)

def meta_names(kind, n_layers):
    """{a file's name: Meta's} of every weight and bias that a model may have, for kind "hf" or "gguf"."""
    column = {"hf": 1, "gguf": 2}[kind]
    names = {}
    for line in NAMES.strip().splitlines():
        of_format = line.split()
        for i in range(n_layers):
            for number in ("weight", "bias"):
                theirs = f"{of_format[column]}.{number}".replace("N", str(i))
                names[theirs] = f"{of_format[0]}.{number}".replace("N", str(i))
    return names
