"""A twin of a run: the same seed, but its first z moved by a millionth at random, too little to be noticed.

Sooner or later one sampled token differs, and then all that follows. So how far apart twins end says how far
apart two machines may end that round differently, with the same command and seed.

    python tools/twin.py --twin 1 --task math --out out/math-0-twin-1
"""
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import svf  # noqa: E402
from harness.flags import flag, run_main  # noqa: E402
from harness.runs import open_run  # noqa: E402
from train import Config, make_expert, make_learner, read_config  # noqa: E402

MOVED_BY = 1e-6

@dataclass
class TwinConfig(Config):
    twin: int = flag(1, "its number, of which the random move is")

def adapter_of_twin(number):
    """svf, but for where training starts."""

    def start(model):
        rng = torch.Generator().manual_seed(number)
        return {name: z + MOVED_BY * torch.randn(z.shape, generator=rng).to(z.device)
                for name, z in svf.start(model).items()}

    return SimpleNamespace(start=start, using=svf.using)

def main():
    config = read_config(TwinConfig, __doc__)
    if "twin" not in config.out:
        raise ValueError("name a folder for the twin, as --out out/math-0-twin-1")
    run = open_run(config)
    learner = replace(make_learner(config), adapter=adapter_of_twin(config.twin))
    make_expert(run, learner)

if __name__ == "__main__":
    run_main(main)
