"""What every reader of a checkpoint format gives, and the names that weights have in each format."""
from collections.abc import Callable
from dataclasses import dataclass

import torch

from formats.tokenizer import Tokenizer
from model import ModelArgs

@dataclass
class Checkpoint:
    args: ModelArgs
    tensors: dict[str, Callable[[], torch.Tensor]]  # Meta's weight name: a function that reads it
    tokenizer: Tokenizer

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
    """Rows of wq or wk, or numbers of a bias or norm, (heads · head_dim, …) from halves to Meta's pairs."""
    return w.view(heads, 2, -1, *w.shape[1:]).transpose(1, 2).reshape(w.shape)

def pairs_to_halves(w, heads):
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
