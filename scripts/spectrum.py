"""Log what an expert changes: the singular values of three weights, and its z for each.

    python -m scripts.spectrum --expert experts/math.safetensors
"""
from dataclasses import dataclass

from formats.default_model import DEFAULT_MODEL
from formats.load import load
from harness.experts import load_expert
from harness.flags import find_folder, flag, parse_flags, run_main
from harness.logs import append, open_log
from svf import MODULES, wrap

WEIGHTS = ("layers.0.attention.wq", "layers.15.feed_forward.w1", "layers.29.attention.wo")

@dataclass
class Config:
    expert: str = flag("experts/math.safetensors", "an expert of the default model")
    out: str = flag("out/spectrum.jsonl", "a line for each weight, added to what is there")

def singular_values(W, basis):
    """σ (r,) of W (out, in), in the order of its basis (r, r). SVF itself never needs them: Uᵀ W has them.

    σ_i = ‖u_iᵀ W‖ is good to 1e-11, the root of the eigenvalue is not.
    """
    if W.shape[0] > W.shape[1]:
        W = W.T
    return (basis.T @ W).norm(dim=1)

def main():
    config = parse_flags(Config, __doc__)
    open_log(config.out)
    model, _ = load(DEFAULT_MODEL, "cpu")
    wrap(model, MODULES["all"])
    z, _ = load_expert(find_folder(config.expert), model)
    for name in WEIGHTS:
        module = model.get_submodule(name)
        sigma = singular_values(module.linear.weight.double(), module.basis.double())  # largest first
        append(config.out, {"weight": name, "expert": config.expert,
                            "sigma": [round(s, 4) for s in sigma.tolist()],
                            "z": [round(value, 5) for value in z[name].tolist()]})
    print(f"wrote {config.out}")

if __name__ == "__main__":
    run_main(main)
