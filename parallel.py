"""Data parallel training: several processes, each with the whole model, learn one z together.

torchrun starts the processes. Each samples and scores its share of a step's problems; all see all rewards, so
a baseline is that of the whole step; one all-reduce of dz makes the gradient of the whole step, and every
process takes the same update. Only the first one prints and writes. In one process all of this does nothing.

    torchrun --nproc-per-node 2 train.py --task math

Left out: cutting a model that is too large for one GPU into several (tensor parallel).
"""
import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

PATIENCE = timedelta(seconds=50)  # after which a process that does not answer counts as dead

def start():
    """Join the other processes, if torchrun started several; all but the first fall silent."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    if device():
        torch.cuda.set_device(device())
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")

def device():
    """The GPU of this process; "" where there are none, or one process."""
    if dist.is_initialized() and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return ""

def rank():
    return dist.get_rank() if dist.is_initialized() else 0

def world():
    return dist.get_world_size() if dist.is_initialized() else 1

def share(items):
    """What of a list is this process's to work on: every world-th item."""
    return items[rank()::world()]

def gather(items):
    """[the items of the first process, those of the second, …], in all of them."""
    if world() == 1:
        return [items]
    parts = [None] * world()
    try:
        dist.all_gather_object(parts, items)
    except RuntimeError as error:
        raise lost(error) from error
    return parts

def gather_shares(items):
    """The whole list again, in its order, from what each process made of its `share`."""
    parts = gather(items)
    n = sum(len(part) for part in parts)
    return [parts[i % len(parts)][i // len(parts)] for i in range(n)]

def add_up_gradients(z, weight):
    """z.grad becomes Σ weight · z.grad over the processes: one all-reduce for all of z."""
    if world() == 1:
        return
    grads = [torch.zeros_like(v) if v.grad is None else v.grad for v in z.values()]
    flat = weight * torch.cat([grad.flatten() for grad in grads])
    try:
        dist.all_reduce(flat)
    except RuntimeError as error:
        raise lost(error) from error
    for v, grad in zip(z.values(), flat.split([grad.numel() for grad in grads])):
        v.grad = grad.view_as(v)

def wait():
    """Until every process is here."""
    gather([])

def lost(error):
    said = str(error).splitlines()[0]
    return OSError(f"another process of this run does not answer ({said}); start all again with --resume")
