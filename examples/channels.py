"""An adapter of your own: y' = s ⊙ y, one learned scale for each output channel of each linear.

An adapter is three functions, `wrap`, `start` and `using`; svf.py says what each promises.

    python -m scripts.train --task math --adapter examples.channels
"""
import sys
from contextlib import contextmanager
from dataclasses import dataclass

if __name__ == "__main__":  # before the imports, which need the folder above
    print("an adapter is not run by itself; type python -m scripts.train --adapter examples.channels",
          file=sys.stderr)
    sys.exit(2)

import torch
from torch import nn

from svf import linears

@dataclass
class ScaleOutput:
    """The forward hook of one linear: multiplies its output by the scales in use, if there are any."""
    model: nn.Module
    name: str

    def __call__(self, linear, inputs, y):
        s = self.model.scales.get(self.name)  # (out,)
        if s is None:
            return y
        return (y.float() * s).to(y.dtype)  # bfloat16 has no scale between 1 and 1.008

def wrap(model, names):
    """Freeze the model and hook every nn.Linear with a full or last name in `names`."""
    model.requires_grad_(False)
    model.scales = {}  # {weight name: s}, what `using` sets and clears
    model.scaled = dict(linears(model, names))
    for name, linear in model.scaled.items():
        linear.register_forward_hook(ScaleOutput(model, name))

def start(model):
    """The scales that change nothing."""
    return {name: torch.ones(linear.out_features, device=linear.weight.device)
            for name, linear in model.scaled.items()}

@contextmanager
def using(model, scales):
    """Within the block the model computes with the scales, {weight name: (out,)}; after it, as before."""
    before = model.scales
    model.scales = scales
    try:
        yield None  # one set of scales serves all rows
    finally:
        model.scales = before
