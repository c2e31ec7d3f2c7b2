"""Llama and its family in raw PyTorch: what one forward pass computes, and how text is sampled from it.

Names are Meta's, because they are the keys of a Llama checkpoint. From leaf to root: rotary positions,
grouped-query attention, SwiGLU, block, Transformer; then `generate`, which continues a batch of prompts.

Batches are padded on the right everywhere, so a token's index in its row is its position: whole rows need no
mask but the causal one, and a decoded token overwrites the padding at its row's next position. A prompt that
several rows have is read once for all of them, and so is what all prompts begin with, gradient included,
unless each row has a z of its own.

Left out: sliding windows, quantized arithmetic, paged caches. Loading is the business of formats/.

    python sample.py "What is the capital of France?"
"""
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from os.path import commonprefix

import torch
import torch.nn.functional as F
from torch import nn

@dataclass
class ModelArgs:
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_dim: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    max_seq_len: int
    tied_embeddings: bool = False
    qkv_bias: bool = False  # Qwen2: of wq, wk and wv
    qk_norm: bool = False  # Qwen3: queries and keys are normed before they are rotated
    no_rope_layers: tuple[int, ...] = ()  # SmolLM3: layers that do not rotate them
    # factor, low and high frequency factor, original context length of Llama-3.1's and 3.2's scaling
    rope_scaling: tuple[float, float, float, int] | None = None

def stretched(freqs, scaling):
    """Frequencies of rotary positions as Llama-3.1 and 3.2 slow them for a longer context."""
    factor, low, high, context = scaling
    # turns made within the original context: few -> slow feature, stretched; many -> fast feature, kept
    turns = context * freqs / (2 * math.pi)
    kept_share = ((turns - low) / (high - low)).clamp(0, 1)
    return freqs * (kept_share + (1 - kept_share) / factor)

def rope_angles(positions, args):
    """cos and sin of position · θ_i for every pair of features: (..., T) -> two of (..., T, 1, head_dim / 2).

    Computed at each forward: a table made in `__init__` would stay on the meta device after loading.
    """
    pairs = torch.arange(0, args.head_dim, 2, device=positions.device, dtype=torch.float32)
    freqs = args.rope_theta ** (-pairs / args.head_dim)
    if args.rope_scaling is not None:
        freqs = stretched(freqs, args.rope_scaling)
    angles = positions[..., None, None] * freqs  # (..., T, 1, head_dim / 2)
    return angles.cos(), angles.sin()

def rotate(x, cos, sin):
    """Rotate neighbouring pairs of features (Meta's layout), in float32: x (B, T, heads, head_dim)."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).type_as(x)

def kv_cache(args, batch_size, max_len, like):
    """Room for the keys and values of a batch: per layer two tensors (B, n_kv_heads, max_len, head_dim)."""
    shape = (batch_size, args.n_kv_heads, max_len, args.head_dim)
    return [(like.new_zeros(shape), like.new_zeros(shape)) for _ in range(args.n_layers)]

@dataclass
class Continuation:
    """Where new tokens stand, of rows whose beginnings are in the cache."""
    positions: torch.Tensor  # (B, T), where in its row each new token stands
    mask: torch.Tensor  # (B, 1, n_rep · T, places in use), True where a query may look

def attend(q, k, v, **mask):
    if q.device.type == "cpu" and q.requires_grad:
        q, k, v = q.float(), k.float(), v.float()  # its backward is twice as slow in bfloat16
    return F.scaled_dot_product_attention(q, k, v, **mask)

class Attention(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = args.n_heads, args.n_kv_heads, args.head_dim
        self.wq = nn.Linear(args.dim, args.n_heads * args.head_dim, bias=args.qkv_bias)
        self.wk = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=args.qkv_bias)
        self.wv = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=args.qkv_bias)
        self.q_norm = nn.RMSNorm(args.head_dim, args.norm_eps) if args.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(args.head_dim, args.norm_eps) if args.qk_norm else nn.Identity()
        self.wo = nn.Linear(args.n_heads * args.head_dim, args.dim, bias=False)

    def forward(self, x, rope, kv=None, continuation=None):
        """x (B, T, dim) -> (B, T, dim). Whole rows fill the cache `kv` if there is one; continuations read
        and extend it.
        """
        B, T, _ = x.shape
        q = self.q_norm(self.wq(x).view(B, T, self.n_heads, self.head_dim))
        k = self.k_norm(self.wk(x).view(B, T, self.n_kv_heads, self.head_dim))
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        v = self.wv(x).view(B, T, self.n_kv_heads, self.head_dim)
        if continuation is None:
            y = self.attend_to_itself(q, k, v, kv)
        else:
            y = self.attend_to_cache(q, k, v, kv, continuation)
        return self.wo(y.reshape(B, T, -1).type_as(x))

    def attend_to_itself(self, q, k, v, kv):
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, heads, T, head_dim)
        if kv is not None:
            keys, values = kv
            T = q.shape[2]
            keys[:, :, :T] = k
            values[:, :, :T] = v
        y = attend(q, k, v, is_causal=True, enable_gqa=True)
        return y.transpose(1, 2)  # (B, T, n_heads, head_dim)

    def attend_to_cache(self, q, k, v, kv, continuation):
        keys, values = kv
        # rows (B, 1) and positions (B, T) around a slice: what is written to is (B, T, n_kv_heads, head_dim)
        rows = torch.arange(len(q), device=q.device)[:, None]
        keys[rows, :, continuation.positions] = k
        values[rows, :, continuation.positions] = v
        in_use = continuation.mask.shape[-1]
        # The queries that share a key head are rows of one small matrix, T of the first query head, T of the
        # next: the same bits as enable_gqa, which is eight times slower here on a CPU.
        q = q.unflatten(2, (self.n_kv_heads, -1)).permute(0, 2, 3, 1, 4)  # (B, n_kv, n_rep, T, head_dim)
        y = attend(q.flatten(2, 3), keys[:, :, :in_use], values[:, :, :in_use], attn_mask=continuation.mask)
        return y.view(q.shape).permute(0, 3, 1, 2, 4)  # (B, T, n_kv, n_rep, head_dim)

class FeedForward(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.w1 = nn.Linear(args.dim, args.hidden_dim, bias=False)
        self.w2 = nn.Linear(args.hidden_dim, args.dim, bias=False)
        self.w3 = nn.Linear(args.dim, args.hidden_dim, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))

class TransformerBlock(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.attention = Attention(args)
        self.feed_forward = FeedForward(args)
        self.attention_norm = nn.RMSNorm(args.dim, args.norm_eps)
        self.ffn_norm = nn.RMSNorm(args.dim, args.norm_eps)

    def forward(self, x, rope, kv, continuation):
        x = x + self.attention(self.attention_norm(x), rope, kv, continuation)
        return x + self.feed_forward(self.ffn_norm(x))

class Transformer(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args = args
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        self.layers = nn.ModuleList(TransformerBlock(args) for _ in range(args.n_layers))
        self.norm = nn.RMSNorm(args.dim, args.norm_eps)
        self.output = None if args.tied_embeddings else nn.Linear(args.dim, args.vocab_size, bias=False)

    def hidden(self, tokens, cache=None):
        """Whole rows of tokens (B, T) -> normed features of the last layer (B, T, dim); fills `cache`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.through_layers(tokens, rope_angles(positions, self.args), cache, continuation=None)

    def hidden_after_cache(self, tokens, cache, starts, in_use):
        """Tokens (B, T) that continue `cache`, row i at position starts[i] -> (B, T, dim); adds them to it.

        A token sees its own row up to itself; only the first `in_use` places of the cache are looked at.
        """
        positions = starts[:, None] + torch.arange(tokens.shape[1], device=tokens.device)  # (B, T)
        seen = torch.arange(in_use, device=tokens.device) <= positions[..., None]  # (B, T, in_use)
        n_rep = self.args.n_heads // self.args.n_kv_heads
        mask = seen.repeat(1, n_rep, 1)[:, None]  # (B, 1, n_rep · T, in_use): as attend_to_cache has them
        continuation = Continuation(positions, mask)
        return self.through_layers(tokens, rope_angles(positions, self.args), cache, continuation)

    def hidden_sharing_prefix(self, tokens, prefix_length, cache):
        """`hidden` of whole rows (B, T) behind their first `prefix_length` tokens, which are the same in all
        rows and computed once, gradient included -> (B, T − prefix_length, dim). Not if rows have a z each.

        The cache is written in place, and autograd follows, as no place is written over after a query has
        read it.
        """
        if prefix_length == 0:
            return self.hidden(tokens, cache)
        first_row = [(keys[:1], values[:1]) for keys, values in cache]
        self.hidden(tokens[:1, :prefix_length], first_row)
        for keys, values in cache:
            keys[1:, :, :prefix_length] = keys[:1, :, :prefix_length]
            values[1:, :, :prefix_length] = values[:1, :, :prefix_length]
        starts = torch.full((len(tokens),), prefix_length, device=tokens.device)
        return self.hidden_after_cache(tokens[:, prefix_length:], cache, starts, in_use=tokens.shape[1])

    def through_layers(self, tokens, rope, cache, continuation):
        x = self.tok_embeddings(tokens)  # (B, T, dim)
        for i, layer in enumerate(self.layers):
            rope_here = None if i in self.args.no_rope_layers else rope
            x = layer(x, rope_here, None if cache is None else cache[i], continuation)
        return self.norm(x)

    def logits(self, h):
        """(..., dim) -> (..., vocab_size); a tied model reads its embedding table backwards."""
        table = self.tok_embeddings if self.output is None else self.output
        return F.linear(h, table.weight)

    def forward(self, tokens):
        return self.logits(self.hidden(tokens))  # (B, T, vocab_size)

# -- sampling ------------------------------------------------------------------------------------------------

@dataclass
class Sampling:
    """The distribution that tokens are drawn from. REINFORCE scores answers under the very same one."""
    temperature: float = 0.0  # 0 takes the likeliest token
    logit_bias: torch.Tensor | None = None  # (vocab_size,), added to all logits; −∞ forbids a token
    generator: torch.Generator | None = None

@dataclass
class Stopping:
    """When an answer ends: with one of stop_ids (then its last id), by is_finished(ids), or at the cap."""
    max_new_tokens: int
    stop_ids: Collection[int] = ()
    is_finished: Callable[[list[int]], bool] | None = None

    def ends(self, ids):
        """Whether the answer `ids` is whole, as it is and not by the cap."""
        return ids[-1] in self.stop_ids or (self.is_finished is not None and self.is_finished(ids))

def pad(rows, device):
    """Lists of token ids -> one tensor (B, longest), padded on the right, and the lengths (B,)."""
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    return tokens, torch.tensor([len(row) for row in rows], device=device)

def common_prefix_length(prompts):
    """How many first tokens all prompts have in common, not counting the last token of any."""
    return min(len(commonprefix(prompts)), *(len(prompt) - 1 for prompt in prompts))

def draw(logits, sampling):
    """One token a row and its log-probability under the distribution it was drawn from.

    (B, vocab_size) float32 -> (B,), (B,). Temperature 0 takes the likeliest and reports it at temperature 1.
    Inverting the cumulative sum with one uniform a row is forty times faster on a CPU than torch.multinomial.
    """
    if sampling.logit_bias is not None:
        logits = logits + sampling.logit_bias
    p = F.softmax(logits / (sampling.temperature or 1.0), dim=-1)
    if sampling.temperature == 0:
        ids = logits.argmax(dim=-1, keepdim=True)
    else:
        cdf = p.cumsum(dim=-1)
        u = torch.rand(len(p), 1, generator=sampling.generator, device=p.device)
        # the first token whose cumulative probability exceeds u · total, where the total is a little less
        # than the last sum, so that even after rounding no token of probability 0 is drawn
        total = torch.nextafter(cdf[:, -1:], torch.zeros_like(u))
        ids = torch.searchsorted(cdf, u * total, right=True)
    return ids[:, 0], p.gather(1, ids)[:, 0].log()

def read_prompts(model, prompts, new_tokens, one_z=True):
    """Read each different prompt once -> feature (B, dim) of each prompt's last token, a cache with a row for
    each of the B prompts and room for new_tokens behind the longest, lengths (B,).

    Gradients flow through all of it. Without one_z, where each row has its own, it reads each for itself.
    """
    device = model.tok_embeddings.weight.device
    different = list(dict.fromkeys(map(tuple, prompts))) if one_z else prompts
    tokens, lengths = pad(list(map(list, different)), device)  # (P, longest)
    cache = kv_cache(model.args, len(different), tokens.shape[1] + new_tokens, model.tok_embeddings.weight)
    prefix_length = common_prefix_length(different) if one_z and len(different) > 1 else 0
    h = model.hidden_sharing_prefix(tokens, prefix_length, cache)  # (P, longest − prefix_length, dim)
    h = h[torch.arange(len(different), device=device), lengths - prefix_length - 1]  # (P, dim)
    if not one_z:
        return h, cache, lengths
    row_of = {prompt: row for row, prompt in enumerate(different)}
    rows = torch.tensor([row_of[tuple(prompt)] for prompt in prompts], device=device)  # (B,)
    # a copy, even where all prompts differ: what attention saved for its gradient must not be written over
    return h[rows], [(keys[rows], values[rows]) for keys, values in cache], lengths[rows]

@torch.no_grad()
def generate(model, prompts, stopping, sampling, on_token=None, select_rows=None):
    """Continue every prompt: a list of B token lists -> (B lists of sampled ids, B lists of their log-probs).

    on_token(row, id) sees each new token. Finished rows leave the batch once they are an eighth of it.
    select_rows belongs to rows that have a z each (`svf.using` gives it): it is called with the indices of
    the rows that stay, and every row then reads its prompt for itself.
    Raises ValueError for a prompt that is empty, or too long for the model.
    """
    if not all(prompts):
        raise ValueError("every prompt needs at least one token")
    device = model.tok_embeddings.weight.device
    longest = max(map(len, prompts))
    if longest + stopping.max_new_tokens > model.args.max_seq_len:
        raise ValueError(f"{longest} prompt tokens and {stopping.max_new_tokens} new ones do not fit "
                         f"the model's {model.args.max_seq_len}")
    h, cache, lengths = read_prompts(model, prompts, stopping.max_new_tokens, one_z=select_rows is None)
    positions = lengths  # where each row's next token stands

    ids = [[] for _ in prompts]
    logprobs = [[] for _ in prompts]
    in_batch = list(range(len(prompts)))  # the prompts that are rows of the batch, finished ones among them
    unfinished = set(in_batch)
    for step in range(stopping.max_new_tokens):
        new, logp = draw(model.logits(h).float(), sampling)
        for i, token, lp in zip(in_batch, new.tolist(), logp.tolist()):
            if i not in unfinished:
                continue
            ids[i].append(token)
            logprobs[i].append(lp)
            if on_token is not None:
                on_token(i, token)
            if stopping.ends(ids[i]):
                unfinished.remove(i)
        if not unfinished or step + 1 == stopping.max_new_tokens:
            break
        finished = len(in_batch) - len(unfinished)
        if finished >= len(in_batch) / 8:
            staying = [row for row, i in enumerate(in_batch) if i in unfinished]
            rows = torch.tensor(staying, device=device)
            if select_rows is not None:
                select_rows(rows)
            cache = [(keys[rows], values[rows]) for keys, values in cache]
            positions = positions[rows]
            in_batch = [i for i in in_batch if i in unfinished]
        last = torch.tensor([[ids[i][-1]] for i in in_batch], device=device)  # (B, 1)
        h = model.hidden_after_cache(last, cache, positions, in_use=longest + step + 1)[:, 0]
        positions = positions + 1
    return ids, logprobs
