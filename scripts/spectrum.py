"""Log what an expert changes: the singular values of three weights, and its z for each.

    python -m scripts.spectrum experts/math.safetensors      # writes results/spectrum.jsonl
"""
import json
import sys
from pathlib import Path

from formats.default_model import DEFAULT_MODEL
from formats.load import load
from harness.experts import load_expert
from harness.flags import ROOT
from svf import MODULES, wrap

WEIGHTS = ("layers.0.attention.wq", "layers.15.feed_forward.w1", "layers.29.attention.wo")

def singular_values(W, basis):
    """σ (r,) of W (out, in), in the order of its basis (r, r). SVF itself never needs them: Uᵀ W has them.

    σ_i = ‖u_iᵀ W‖ is good to 1e-11, the root of the eigenvalue is not.
    """
    if W.shape[0] > W.shape[1]:
        W = W.T
    return (basis.T @ W).norm(dim=1)

if __name__ == "__main__":
    model, _ = load(DEFAULT_MODEL, "cpu")
    wrap(model, MODULES["all"])
    z, _ = load_expert(Path(sys.argv[1]), model)
    with open(ROOT / "results" / "spectrum.jsonl", "w") as file:
        for name in WEIGHTS:
            module = model.get_submodule(name)
            sigma = singular_values(module.linear.weight.double(), module.basis.double())  # largest first
            record = {"weight": name, "expert": sys.argv[1], "sigma": [round(s, 4) for s in sigma.tolist()],
                      "z": [round(value, 5) for value in z[name].tolist()]}
            file.write(json.dumps(record) + "\n")
    print("wrote results/spectrum.jsonl")
