"""LoRA (Hu et al. 2021) as a second adapter, to compare with: W' = W + (α / r) B A, with A and B learned.

    A (r, in) uniform in ±1/√in, B (out, r) zero, so training starts at the base model bit for bit
    y = W'x:   dB = (α / r) Σ_t g_t (A x_t)ᵀ,   dA = (α / r) Σ_t (Bᵀ g_t) x_tᵀ

As in svf.py, one set of parameters serves all rows: it is merged into W' for rollouts and training alike, and
no gradient of the size of W is made. rl.py trains it unchanged. Left out: dropout, and parameters per row, so
LoRA's experts are not mixed. α = 32 and one learning rate for A and B ("LoRA without regret", 2025).

    python -m scripts.train --task math --adapter lora --rank 1 --lr 1e-3
"""
from contextlib import contextmanager
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import nn

from svf import linears

class MergedLoRA(torch.autograd.Function):
    """y = W'x for a W' merged from A and B: their gradients from x and g, the way through W' left out."""

    @staticmethod
    def forward(ctx, x, A, B, W, bias, scale):
        ctx.save_for_backward(x, A, B, W)
        ctx.scale = scale
        return F.linear(x, W, bias)

    @staticmethod
    def backward(ctx, g):
        x, A, B, W = ctx.saved_tensors
        rows, grads = x.flatten(0, -2), g.flatten(0, -2)  # (N, in), (N, out)
        dB = grads.T @ (rows @ A.T.to(rows))  # (out, N) @ (N, r)
        dA = (grads @ B.to(grads)).T @ rows  # (r, N) @ (N, in)
        return g @ W, ctx.scale * dA.to(A), ctx.scale * dB.to(B), None, None, None

class LoRALinear(nn.Module):
    """A frozen nn.Linear; `using` sets and clears its A and B."""

    def __init__(self, linear, rank, scale):
        super().__init__()
        self.linear = linear
        self.rank = rank
        self.scale = scale  # α / r
        self.A = None  # (r, in), float32 in any model
        self.B = None  # (out, r)
        self.merged = None  # W' while there are A and B

    def merge(self):
        """W' (out, in), computed in float32 and cast once: with B = 0 it is W bit for bit."""
        W = self.linear.weight
        return (W.float() + self.scale * self.B.detach() @ self.A.detach()).to(W)

    def forward(self, x):
        if self.merged is None:
            return self.linear(x)
        if self.A.requires_grad and torch.is_grad_enabled():
            return MergedLoRA.apply(x, self.A, self.B, self.merged, self.linear.bias, self.scale)
        return F.linear(x, self.merged, self.linear.bias)

def wrap(model, names, rank=1, alpha=32.0):
    """Freeze the model and put a LoRALinear around each nn.Linear with a full or last name in `names`, in
    place."""
    model.requires_grad_(False)
    for name, linear in linears(model, names):
        model.set_submodule(name, LoRALinear(linear, rank, alpha / rank))
    return model

def wrapped(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}

def start(model):
    """The parameters that change nothing, {weight name.A: (r, in), weight name.B: (out, r)}: A is random, the
    same in each run, and B is zero."""
    parameters = {}
    for name, module in wrapped(model).items():
        W = module.linear.weight
        generator = torch.Generator().manual_seed(crc32(name.encode()))
        uniform = 2 * torch.rand(module.rank, W.shape[1], generator=generator) - 1
        parameters[f"{name}.A"] = (uniform / W.shape[1] ** 0.5).to(W.device)
        parameters[f"{name}.B"] = torch.zeros(W.shape[0], module.rank, device=W.device)
    return parameters

@contextmanager
def using(model, parameters):
    """Within the block the model computes with `parameters`; {} is the base model, as is the model after it.

    Blocks nest. Yields None: all rows of a batch have the same parameters. Raises ValueError for parameters
    of a weight that is not wrapped.
    """
    modules = wrapped(model)
    unknown = {name.rpartition(".")[0] for name in parameters} - modules.keys()
    if unknown:
        raise ValueError(f"there are parameters of {min(unknown)}, which is not wrapped here")
    before = {name: (module.A, module.B, module.merged) for name, module in modules.items()}
    try:
        for name, module in modules.items():
            module.A, module.B = parameters.get(f"{name}.A"), parameters.get(f"{name}.B")
            module.merged = None if module.A is None else module.merge()
        yield None
    finally:
        for name, module in modules.items():
            module.A, module.B, module.merged = before[name]
