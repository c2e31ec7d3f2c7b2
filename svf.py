"""Singular value fine-tuning (Transformer², section 3.1): W' = U diag(σ ⊙ z) Vᵀ, with only z learned.

Since Uᵀ W = diag(σ) Vᵀ, the same W' needs only the basis on the smaller side of W, r = min(out, in):

    out ≤ in:   W' = U diag(z) Uᵀ W       W' x = y + U ((z − 1) ⊙ (Uᵀ y)),      y = W x
    out > in:   W' = W V diag(z) Vᵀ       W' x = W (x + V ((z − 1) ⊙ (Vᵀ x)))

As a change to the frozen W, z = 1 is the base model bit for bit, r² numbers a weight are stored, and z may
have a batch dimension. One z for all is merged into W', for rollouts and training alike (the loss must score
the policy that sampled); one z a row takes the right-hand form, for inference. Unlike the authors' code, z is
free (no sigmoid) and W' is not rescaled by Σσ / Σσz: neither is in the paper. Biases stay as they are.
"""
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

MODULES = {"attn": ("wq", "wk", "wv", "wo"), "mlp": ("w1", "w2", "w3")}  # the paper's "attention": wq wv
MODULES["all"] = MODULES["attn"] + MODULES["mlp"]

def decompose(W):
    """Singular vectors on the smaller side of W (out, in), columns by descending σ: (r, r), float64."""
    W = W.to(device="cpu" if W.device.type == "mps" else W.device, dtype=torch.float64)  # MPS has no float64
    W = W if W.shape[0] <= W.shape[1] else W.T
    _, basis = torch.linalg.eigh(W @ W.T)  # in float32, a fifth of the vectors would move
    sigma = (basis.T @ W).norm(dim=1)  # σ_i = ‖u_iᵀ W‖: good to 1e-11, the root of the eigenvalue is not
    return basis[:, sigma.argsort(descending=True)]

class MergedLinear(torch.autograd.Function):
    """y = W'x for a W' merged from z: the gradient for z without one of the size of W.

    Uᵀy' = z ⊙ σ ⊙ Vᵀx, so  dz_i = Σ_t (u_i·y'_t)(u_i·g_t) / z_i;  for a tall weight, with gx = W'ᵀg,
    dz_i = Σ_t (v_i·x_t)(v_i·gx_t) / z_i.
    """

    @staticmethod
    def forward(ctx, x, z, W, bias, basis):
        y = F.linear(x, W, bias)
        ctx.tall = W.shape[0] > W.shape[1]
        ctx.save_for_backward(x if ctx.tall else y, z, W, bias, basis)
        return y

    @staticmethod
    def backward(ctx, g):
        kept, z, W, bias, basis = ctx.saved_tensors
        gx = g @ W
        if not ctx.tall and bias is not None:
            kept = kept - bias  # y' is the product without bias
        a, b = kept @ basis, (gx if ctx.tall else g) @ basis  # (B, T, r)
        return gx, (a.float() * b.float()).flatten(0, -2).sum(0) / z, None, None, None

class SVFLinear(nn.Module):
    """A frozen nn.Linear and the basis of its smaller side; `using` sets and clears its z."""

    def __init__(self, linear, basis):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.register_buffer("basis", basis)  # (r, r)
        self.z = None  # (r,) or (B, 1, r), float32 in any model: bfloat16 has no steps of 0.002 near 1
        self.merged = None  # W' while one z serves all rows

    def merge(self, z):
        """W' (out, in) for z (r,), computed in float32 and cast once: at z = 1 it is W bit for bit."""
        W, basis = self.linear.weight.float(), self.basis.float()
        if W.shape[0] <= W.shape[1]:
            return (W + (basis * (z - 1)) @ (basis.T @ W)).to(self.linear.weight)  # W + U diag(z − 1) Uᵀ W
        return (W + ((W @ basis) * (z - 1)) @ basis.T).to(self.linear.weight)  # W + W V diag(z − 1) Vᵀ

    def forward(self, x):
        W, bias, basis = self.linear.weight, self.linear.bias, self.basis
        if self.z is None:
            return self.linear(x)
        if self.merged is not None:
            if self.z.requires_grad and torch.is_grad_enabled():
                return MergedLinear.apply(x, self.z, self.merged, bias, basis)
            return F.linear(x, self.merged, bias)
        if len(x) != len(self.z):
            raise ValueError(f"{len(self.z)} rows of z for a batch of {len(x)} rows")
        change = (self.z - 1).to(x.dtype)  # (B, 1, r)
        if W.shape[0] <= W.shape[1]:
            y = F.linear(x, W)
            y = y + ((y @ basis) * change) @ basis.T  # y + U ((z − 1) ⊙ Uᵀ y)
        else:
            y = F.linear(x + ((x @ basis) * change) @ basis.T, W)  # W (x + V ((z − 1) ⊙ Vᵀ x))
        return y if bias is None else y + bias

def wrap(model, names, progress=iter, basis_of=lambda name, W: decompose(W)):
    """Freeze the model and put an SVFLinear around every nn.Linear whose last name is in `names`, in place.

    Wrap before casting: W rounded to bfloat16 has another basis, in which the same z is another change.
    basis_of(weight name, W) -> (r, r) may keep bases between runs (checkpoint.kept_bases).
    """
    linears = [(name, module) for name, module in model.named_modules()
               if isinstance(module, nn.Linear) and name.split(".")[-1] in names]
    if not linears:
        raise ValueError(f"nothing to wrap: no nn.Linear of this model is named {' or '.join(names)}")
    model.requires_grad_(False)
    for name, linear in progress(linears):
        if linear.weight.dtype != getattr(model, "file_dtype", linear.weight.dtype):
            raise ValueError(f"{name} was cast to {linear.weight.dtype}; wrap the model, then cast it")
        model.set_submodule(name, SVFLinear(linear, basis_of(name, linear.weight.data).to(linear.weight)))
    return model

def wrapped(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, SVFLinear)}

def ones(model):
    """The expert that changes nothing, {weight name: z (r,) of ones}: "other", and where training starts."""
    return {name: torch.ones(len(m.basis), device=m.basis.device) for name, m in wrapped(model).items()}

@contextmanager
def using(model, z):
    """Within the block the model computes with z, {weight name: (r,) or (B, 1, r)}; others are base.

    After it, whatever happened, the model is what it was, bit for bit; blocks nest. Yields the function by
    which rows of z follow the rows of a batch: `with using(model, z) as keep: generate(…, on_keep=keep)`.
    """
    modules = wrapped(model)
    if z.keys() - modules.keys():
        raise ValueError(f"z names {sorted(z.keys() - modules.keys())[0]}, which is not wrapped here")
    before = {name: (module.z, module.merged) for name, module in modules.items()}

    def keep(rows):
        for module in modules.values():
            if module.z is not None and module.z.dim() == 3:
                module.z = module.z[rows]

    try:
        for name, module in modules.items():
            module.z, module.merged = z.get(name), None
            if module.z is not None and module.z.dim() == 1:
                module.merged = module.merge(module.z.detach())
        yield keep
    finally:
        for name, module in modules.items():
            module.z, module.merged = before[name]

def mix(experts, mixtures, normalize=False):
    """z' = 1 + Σ_k α_k (z_k − 1): the paper's Σ α_k z_k, the base being one more expert of weight 1 − Σα.

    experts {name: {weight name: z}}; one mixture {name: α} for all rows -> z of shape (r,), or a list with
    one for each row -> (B, 1, r). normalize=True divides α by Σα, which makes it the paper's formula.
    """
    rows = mixtures if isinstance(mixtures, list) else [mixtures]
    unknown = set().union(*rows) - experts.keys() - {"other"}
    if unknown:
        raise ValueError(f"no expert is named {', '.join(sorted(unknown))}; there is {', '.join(experts)}")
    alpha = torch.tensor([[float(row.get(k, 0)) for k in experts] for row in rows])  # (B, K)
    alpha = alpha / alpha.sum(dim=1, keepdim=True) if normalize else alpha
    if not alpha.isfinite().all():
        raise ValueError(f"mixture weights must be finite, with a sum other than 0 to normalize: {mixtures}")
    mixed = {}
    for name, like in {name: z for expert in experts.values() for name, z in expert.items()}.items():
        changes = [expert.get(name, torch.ones_like(like)) - 1 for expert in experts.values()]
        z = 1 + alpha.to(like.device) @ torch.stack(changes)  # (B, K) @ (K, r) -> (B, r)
        mixed[name] = z[:, None] if isinstance(mixtures, list) else z[0]
    return mixed
