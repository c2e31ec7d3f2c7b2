"""Several processes learn one z together, started by torchrun; in one process all of this does nothing.

Data parallel: each process has the whole model, and samples and scores its share of a step's problems. All
see all rewards, so a baseline is that of the whole step; one all-reduce of dz makes its gradient.

Tensor parallel, for a model too large for one GPU (Shoeybi et al. 2019): wq, wk, wv, w1 and w3 are cut by
output rows, wo and w2 by input columns, heads are divided, and the parts of what wo and w2 give are added up.
SVF fits in exactly where the basis stands on the side that is not cut:

    by output:  W'_s = W_s V diag(z) Vᵀ        by input:  W'_s = U diag(z) Uᵀ W_s

so merging needs no other process, dz comes in partial sums, and the same all-reduce adds them up. z means
what it means in one process: experts written by one number of processes load in any other.

    torchrun --nproc-per-node 2 train.py --task math
    torchrun --nproc-per-node 2 train.py --task math --tensor-parallel --model FOLDER
"""
import atexit
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

import svf

PATIENCE = timedelta(seconds=50)  # after which a process that does not answer counts as dead
BY_OUTPUT, BY_INPUT = ("wq", "wk", "wv", "w1", "w3"), ("wo", "w2")

# -- processes -----------------------------------------------------------------------------------------------

def started():
    """How many processes torchrun started, joined yet or not; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))

def start():
    """Join the other processes, if torchrun started several; all but the first fall silent."""
    if started() == 1:
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"  # --device may say either
    dist.init_process_group(backend, timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)  # a thread of gloo that outlives Python aborts the process
    if int(os.environ["LOCAL_RANK"]) < torch.cuda.device_count():
        torch.cuda.set_device(device())
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")

def rank():
    return dist.get_rank() if dist.is_initialized() else 0

def world():
    return dist.get_world_size() if dist.is_initialized() else 1

def device():
    """The GPU of this process; "" where there are none, or one process."""
    if dist.is_initialized() and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return ""

@contextmanager
def all_answering():
    """Raises OSError where a process does not take part in what is done together."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise OSError(f"another process of this run does not answer ({said}); start all again, with "
                      "--resume if a step was logged") from error

def gather(item):
    """[the item of the first process, that of the second, …], in all of them; it waits for all."""
    if world() == 1:
        return [item]
    parts = [None] * world()
    with all_answering():
        dist.all_gather_object(parts, item)
    return parts

def add_up(x):
    """x becomes the sum of the x of all processes."""
    with all_answering():
        dist.all_reduce(x)
    return x

# -- the shares of a step ------------------------------------------------------------------------------------

@dataclass
class Shares:
    """How the problems of a step are divided: among `n` processes, of which this is number `mine`.

    One for a model that is whole in one process or cut into several; all processes where each has the whole.
    """
    mine: int = 0
    n: int = 1

    def of(self, items):
        """What of a list is this process's to work on: every n-th item."""
        return items[self.mine::self.n]

    def gather(self, items):
        """[the items of the first share, those of the second, …], in all processes. Of a model cut into parts
        they are the first process's: the verdict on a program depends on the clock, and all must have one."""
        return gather(items)[:self.n]

    def joined(self, items):
        """The whole list again, in its order, from what each process made of its share."""
        parts = self.gather(items)
        total = sum(len(part) for part in parts)
        return [parts[i % self.n][i // self.n] for i in range(total)]

def add_up_gradients(z, weight):
    """z.grad becomes Σ weight · z.grad over the processes: one all-reduce for all of z."""
    if world() == 1:
        return
    grads = [torch.zeros_like(v) if v.grad is None else v.grad for v in z.values()]
    flat = add_up(weight * torch.cat([grad.flatten() for grad in grads]))
    if not flat.any():  # nothing was learned; AdamW skips a z without a gradient, and would move one of 0
        for v in z.values():
            v.grad = None
        return
    for v, grad in zip(z.values(), flat.split([grad.numel() for grad in grads])):
        v.grad = grad.view_as(v)

# -- a model cut into parts ----------------------------------------------------------------------------------

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

def basis_of_side(W, on_output):
    """Singular vectors on one side of W (out, in), the smaller or not: U (out, r) or V (in, r), float64."""
    W = W.to(device() or W.device, torch.float64)
    basis = svf.decompose(W)
    if on_output == (W.shape[0] <= W.shape[1]):
        return basis
    sigma = svf.singular_values(W, basis)
    return (W @ basis if on_output else W.T @ basis) / sigma

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
