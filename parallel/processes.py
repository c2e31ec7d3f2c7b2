"""The processes that torchrun started: who is here, and what they tell each other.

In one process all of this does nothing. A process that dies is torchrun's to notice: it ends the others. A
process that is only slow is waited for, as long as PyTorch waits by itself (half an hour with gloo).
"""
import atexit
import gc
import os
import sys
from contextlib import contextmanager

import torch
import torch.distributed as dist

def started():
    """How many processes torchrun started, joined yet or not; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))

def start():
    """Join the other processes, if torchrun started several; all but the first fall silent."""
    if started() == 1:
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"  # --device may say either
    dist.init_process_group(backend)
    atexit.register(leave)
    if int(os.environ["LOCAL_RANK"]) < torch.cuda.device_count():
        torch.cuda.set_device(device())
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")

def leave():
    """Leave the other processes, with all that still refers to the group: a thread of gloo that outlives
    Python aborts the process."""
    dist.destroy_process_group()
    gc.collect()

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

def wait_for_all():
    gather(None)

def add_up(x):
    """x becomes the sum of the x of all processes."""
    if world() == 1:
        return x
    with all_answering():
        dist.all_reduce(x)
    return x

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
