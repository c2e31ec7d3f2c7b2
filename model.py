"""Llama in raw PyTorch: what one forward pass computes, and how text is sampled from it.

Names are Meta's, because they are the keys of a Llama checkpoint. From leaf to root: rotary positions,
grouped-query attention, SwiGLU, block, Transformer; then the key-value cache's user, `generate`.

Batches are padded on the right everywhere, so a token's index in its row is its position: whole rows need no
mask but the causal one, and a decoded token overwrites padding at its row's next position. What all rows
begin with can be computed once, gradient included (`read`), unless each row has a z of its own.

Left out: sliding windows, biases, quantized arithmetic, paged caches. Loading is checkpoint.py's business.

    python sample.py "What is the capital of France?"
"""
import math
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
    rope_scaling: tuple[float, float, float, int] | None = None  # factor, low, high, original context length

def rope_angles(positions, args):
    """cos and sin of position · θ_i for every pair of features: (..., T) -> two of (..., T, 1, head_dim / 2).

    Computed at each forward: a table made in `__init__` would stay on the meta device after loading.
    """
    pairs = torch.arange(0, args.head_dim, 2, device=positions.device, dtype=torch.float32)
    freqs = args.rope_theta ** (-pairs / args.head_dim)
    if args.rope_scaling is not None:  # Llama-3.1 and 3.2
        factor, low, high, context = args.rope_scaling
        # turns made within the original context: few -> slow feature, stretched; many -> fast feature, kept
        turns = context * freqs / (2 * math.pi)
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        freqs = freqs * (keep + (1 - keep) / factor)
    angles = positions[..., None, None] * freqs  # (..., T, 1, head_dim / 2)
    return angles.cos(), angles.sin()

def rotate(x, cos, sin):
    """Rotate neighbouring pairs of features (Meta's layout), in float32: x (B, T, heads, head_dim)."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).type_as(x)

def kv_cache(args, batch_size, max_len, like):
    """Room for the keys and values of a batch: for each layer two of (B, n_kv_heads, max_len, head_dim)."""
    shape = (batch_size, args.n_kv_heads, max_len, args.head_dim)
    return [(like.new_zeros(shape), like.new_zeros(shape)) for _ in range(args.n_layers)]

def attend(q, k, v, **mask):
    if q.device.type == "cpu" and q.requires_grad:
        q, k, v = q.float(), k.float(), v.float()  # its backward is twice as slow in bfloat16
    return F.scaled_dot_product_attention(q, k, v, **mask)

class Attention(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = args.n_heads, args.n_kv_heads, args.head_dim
        self.wq = nn.Linear(args.dim, args.n_heads * args.head_dim, bias=False)
        self.wk = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wv = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wo = nn.Linear(args.n_heads * args.head_dim, args.dim, bias=False)

    def forward(self, x, rope, kv, cached):
        B, T, _ = x.shape
        q = rotate(self.wq(x).view(B, T, self.n_heads, self.head_dim), *rope)
        k = rotate(self.wk(x).view(B, T, self.n_kv_heads, self.head_dim), *rope)
        v = self.wv(x).view(B, T, self.n_kv_heads, self.head_dim)
        if cached is not None:
            positions, mask = cached  # (B, T), (B, 1, n_rep · T, in_use)
            rows, in_use = torch.arange(B, device=x.device)[:, None], mask.shape[-1]
            kv[0][rows, :, positions], kv[1][rows, :, positions] = k, v
            # The queries that share a key head are rows of one small matrix: the same bits as enable_gqa,
            # which is eight times slower here on a CPU.
            q = q.view(B, T, self.n_kv_heads, -1, self.head_dim).permute(0, 2, 3, 1, 4)  # (B, kv, rep, T, hd)
            y = attend(q.flatten(2, 3), kv[0][:, :, :in_use], kv[1][:, :, :in_use], attn_mask=mask)
            return self.wo(y.view(q.shape).permute(0, 3, 1, 2, 4).reshape(B, T, -1).type_as(x))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, heads, T, head_dim)
        if kv is not None:
            kv[0][:, :, :T], kv[1][:, :, :T] = k, v
        y = attend(q, k, v, is_causal=True, enable_gqa=True)
        return self.wo(y.transpose(1, 2).reshape(B, T, -1).type_as(x))

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

    def forward(self, x, rope, kv, cached):
        x = x + self.attention(self.attention_norm(x), rope, kv, cached)
        return x + self.feed_forward(self.ffn_norm(x))

class Transformer(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args = args
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        self.layers = nn.ModuleList(TransformerBlock(args) for _ in range(args.n_layers))
        self.norm = nn.RMSNorm(args.dim, args.norm_eps)
        self.output = None if args.tied_embeddings else nn.Linear(args.dim, args.vocab_size, bias=False)

    def hidden(self, tokens, cache=None, positions=None, in_use=None):
        """Tokens (B, T) -> the last layer's normed features (B, T, dim); fills `cache` if given.

        Without `positions` the tokens are whole rows, from position 0 on. With `positions` (B,) a row's
        begin there and see its cache up to themselves; the cache's first `in_use` places are looked at.
        """
        x = self.tok_embeddings(tokens)  # (B, T, dim)
        cached = None
        if positions is None:
            rope = rope_angles(torch.arange(tokens.shape[1], device=tokens.device), self.args)
        else:
            positions = positions[:, None] + torch.arange(tokens.shape[1], device=tokens.device)  # (B, T)
            rope = rope_angles(positions, self.args)
            seen = torch.arange(in_use, device=tokens.device) <= positions[..., None]  # (B, T, in_use)
            cached = positions, seen.repeat(1, self.args.n_heads // self.args.n_kv_heads, 1)[:, None]
        for i, layer in enumerate(self.layers):
            x = layer(x, rope, cache and cache[i], cached)
        return self.norm(x)

    def read(self, tokens, shared, cache=None):
        """`hidden` of whole rows (B, T) but for their first `shared` tokens -> (B, T − shared, dim). Those,
        the same in all rows, are computed once, gradient included (not if rows have a z each)."""
        if not shared:
            return self.hidden(tokens, cache)
        cache = cache or kv_cache(self.args, *tokens.shape, self.tok_embeddings.weight)
        self.hidden(tokens[:1, :shared], [(k[:1], v[:1]) for k, v in cache])
        for k, v in cache:
            k[1:, :, :shared], v[1:, :, :shared] = k[:1, :, :shared], v[:1, :, :shared]
        start = torch.full((len(tokens),), shared, device=tokens.device)
        return self.hidden(tokens[:, shared:], cache, start, tokens.shape[1])

    def logits(self, h):
        """(..., dim) -> (..., vocab_size); a tied model reads its embedding table backwards."""
        return F.linear(h, (self.tok_embeddings if self.output is None else self.output).weight)

    def forward(self, tokens):
        return self.logits(self.hidden(tokens))  # (B, T, vocab_size)

# -- sampling ------------------------------------------------------------------------------------------------

def pad(rows, device):
    """Lists of token ids -> one tensor (B, longest), padded on the right, and the lengths (B,)."""
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    return tokens, torch.tensor([len(row) for row in rows], device=device)

def beginning(prompts):
    """How many first tokens all prompts have in common, not counting the last token of any."""
    return min(len(commonprefix(prompts)), *(len(prompt) - 1 for prompt in prompts))

def sample(logits, temperature, generator):
    """One token a row and its log-probability under the distribution it was drawn from.

    (B, vocab_size) float32 -> (B,), (B,). Temperature 0 takes the likeliest and reports it at temperature 1.
    Inverting the cumulative sum with one uniform a row is forty times faster on a CPU than torch.multinomial.
    """
    logp = F.log_softmax(logits / (temperature or 1.0), dim=-1)
    if temperature == 0:
        ids = logp.argmax(dim=-1, keepdim=True)
    else:
        cdf = logp.exp().cumsum(dim=-1)
        u = torch.rand(len(logp), 1, generator=generator, device=logp.device)
        # below the total even after rounding: a token of probability 0 is never drawn
        below = torch.nextafter(cdf[:, -1:], torch.zeros_like(u))
        ids = torch.searchsorted(cdf, u * below, right=True)
    return ids[:, 0], logp.gather(1, ids)[:, 0]

@torch.no_grad()
def generate(model, prompts, *, max_new_tokens, stop_ids, temperature, generator=None, logit_bias=None,
             is_finished=lambda ids: False, on_token=lambda row, token: None, drop_finished=True,
             on_keep=lambda rows: None, share=False):
    """Continue every prompt: a list of B token lists -> (B lists of sampled ids, B lists of their log-probs).

    A row ends with the first of `stop_ids` (its last id), when `is_finished(ids)` says so, or at
    max_new_tokens. logit_bias (vocab_size,) is added to all logits. `on_token(row, id)` sees each new token.
    Finished rows leave once they are an eighth of the batch, after `on_keep(indices of those that stay)`;
    without drop_finished they stay and are fed their last token. With `share`, what all prompts begin with is
    read once (not if rows have a z each). Raises ValueError for a prompt that is empty or too long.
    """
    if not all(prompts):
        raise ValueError("every prompt needs at least one token")
    table = model.tok_embeddings.weight
    tokens, positions = pad(prompts, table.device)
    longest, most = tokens.shape[1], model.args.max_seq_len
    if longest + max_new_tokens > most:
        raise ValueError(f"{longest} + {max_new_tokens} tokens do not fit the model's {most}")
    cache = kv_cache(model.args, len(prompts), longest + max_new_tokens, table)
    shared = beginning(prompts) if share else 0
    h = model.read(tokens, shared, cache)
    h = h[torch.arange(len(prompts), device=table.device), positions - shared - 1]  # (B, dim)

    ids, logprobs = [[] for _ in prompts], [[] for _ in prompts]
    rows, open_rows = list(range(len(prompts))), set(range(len(prompts)))
    for step in range(max_new_tokens):
        logits = model.logits(h).float()  # (B, vocab_size)
        if logit_bias is not None:
            logits = logits + logit_bias
        new, logp = sample(logits, temperature, generator)
        for row, token, lp in zip(rows, new.tolist(), logp.tolist()):
            if row in open_rows:
                ids[row].append(token)
                logprobs[row].append(lp)
                on_token(row, token)
                if token in stop_ids or is_finished(ids[row]):
                    open_rows.remove(row)
        if not open_rows or step + 1 == max_new_tokens:
            break
        if drop_finished and len(open_rows) <= 7 / 8 * len(rows):
            keep = torch.tensor([i for i, row in enumerate(rows) if row in open_rows], device=table.device)
            on_keep(keep)
            for i, (k, v) in enumerate(cache):
                cache[i] = k[keep], v[keep]
            rows, positions = [row for row in rows if row in open_rows], positions[keep]
        new = torch.tensor([[ids[row][-1]] for row in rows], device=table.device)  # (B, 1)
        h = model.hidden(new, cache, positions, in_use=longest + step + 1)[:, 0]
        positions = positions + 1
    return ids, logprobs
