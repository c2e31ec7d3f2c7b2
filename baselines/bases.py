"""Other bases for svf.wrap, to compare with: W' = W + B diag(z − 1) Bᵀ W for any orthogonal B.

The adapter has the same size and cost. They ask what matters, the singular vectors or the diagonal.

    python -m scripts.train --task math --basis identity
"""
from zlib import crc32

import torch

def random_basis(name, W):
    """An orthogonal matrix drawn from the weight's name, the same in each run."""
    r = min(W.shape)
    generator = torch.Generator().manual_seed(crc32(name.encode()))
    return torch.linalg.qr(torch.randn(r, r, generator=generator, dtype=torch.float64)).Q

def identity_basis(name, W):
    """No change of basis: z scales the channels on the smaller side of W."""
    return torch.eye(min(W.shape))

BASES = {"random": random_basis, "identity": identity_basis}
