"""Tensor parallel, for a model too large for one GPU (Shoeybi et al. 2019): each process has a part of it.

wq, wk, wv, w1 and w3 are cut by output rows, wo and w2 by input columns, heads are divided, and the parts of
what wo and w2 give are added up. SVF fits in exactly where the basis stands on the side that is not cut:

    by output:  W'_s = W_s V diag(z) Vᵀ        by input:  W'_s = U diag(z) Uᵀ W_s

so merging needs no other process, dz comes in partial sums, and one all-reduce adds them up. z means what it
means in one process: experts written by one number of processes load in any other.

    torchrun --nproc-per-node 2 -m scripts.train --task math --tensor-parallel --model FOLDER
"""
from dataclasses import replace

import torch
from torch import nn

import svf
from parallel.processes import add_up, add_up_gradients, device, gather, rank, world

BY_OUTPUT, BY_INPUT = ("wq", "wk", "wv", "w1", "w3"), ("wo", "w2")

class ToParts(torch.autograd.Function):
    """The input of a linear cut by output: every part sees it, and their gradients for it are added up."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return add_up(g.contiguous().clone())

class FromParts(torch.autograd.Function):
    """The output of a linear cut by input: the parts' outputs are added up, and each sees its gradient."""

    @staticmethod
    def forward(ctx, y):
        return add_up(y.contiguous().clone())

    @staticmethod
    def backward(ctx, g):
        return g

def hand_out(module, inputs):
    [x] = inputs
    return (ToParts.apply(x),)

def collect(module, inputs, y):
    return FromParts.apply(y)

# A direction whose σ is below this share of the largest: in float64 the eigenvalue σ² is lost in the
# rounding of the largest one (√2.2e-16), so its singular vector is arbitrary, and so is what W makes of it.
NULL = 1.5e-8

def basis_of_side(W, on_output):
    """Singular vectors on one side of W (out, in), the smaller or not: U (out, r) or V (in, r), float64.

    Orthonormal also where W is of less than full rank, as with heads that were pruned or rows that stand
    twice: the vectors of σ ≈ 0 are drawn, the same in all processes, and made orthogonal to the others. What
    z is there is of no consequence, because W makes nothing of these directions.
    """
    W = W.to(device() or W.device, torch.float64)
    basis = svf.decompose(W)
    if on_output == (W.shape[0] <= W.shape[1]):
        return basis
    images = W @ basis if on_output else W.T @ basis  # (out or in, r): column i is σ_i long, longest first
    sigma = images.norm(dim=0)
    null = sigma <= NULL * sigma[0]
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    columns = torch.where(null, drawn.to(images), images / sigma.masked_fill(null, 1.0))
    orthonormal, triangle = torch.linalg.qr(columns)
    return orthonormal * torch.where(triangle.diagonal() < 0, -1.0, 1.0)  # QR may turn a column around

def cut_linear(module, on_output):
    """Leaves this process its part of an SVFLinear or nn.Linear: some columns, if the output side is whole,
    else some rows."""
    linear = module.linear if isinstance(module, svf.SVFLinear) else module
    if isinstance(module, svf.SVFLinear) and module.on_output != on_output:
        module.basis = basis_of_side(linear.weight.data, on_output).to(module.basis)
        module.on_output = on_output
    part = linear.weight.data.chunk(world(), dim=1 if on_output else 0)[rank()]
    linear.weight = nn.Parameter(part.contiguous(), requires_grad=False)
    linear.out_features, linear.in_features = part.shape
    if linear.bias is not None:  # only those cut by output have one
        linear.bias = nn.Parameter(linear.bias.data.chunk(world())[rank()].clone(), requires_grad=False)

def cut(model):
    """Leave this process its part of a wrapped model that was not cast yet, in place. Raises ValueError for a
    shape that the processes cannot divide."""
    args = model.args
    sizes = {"heads": args.n_heads, "key heads": args.n_kv_heads, "hidden features": args.hidden_dim}
    for name, number in sizes.items():
        if number % world():
            raise ValueError(f"{number} {name} cannot be cut into {world()} parts; start another number")
    for layer in model.layers:
        for part in (layer.attention, layer.feed_forward):
            for name, module in part.named_children():
                if name in BY_OUTPUT:
                    cut_linear(module, on_output=False)
                    module.register_forward_pre_hook(hand_out)
                elif name in BY_INPUT:
                    cut_linear(module, on_output=True)
                    module.register_forward_hook(collect)
        layer.attention.n_heads //= world()
        layer.attention.n_kv_heads //= world()
    model.args = replace(args, n_heads=args.n_heads // world(), n_kv_heads=args.n_kv_heads // world())
    return model

def in_parts(learner):
    """The learner of a process that holds a part of the model: all see the same problems and draw the same
    answers, and the first process's verdicts are everyone's, since that on a program depends on the clock."""

    def first_ones_score(problems, texts):
        return gather(learner.task.score(problems, texts))[0]

    def descend_in_parts(z, optimizer):
        add_up_gradients(z, weight=1)
        return learner.descend(z, optimizer)

    return replace(learner, task=replace(learner.task, score=first_ones_score), descend=descend_in_parts)
