"""Singular value fine-tuning (Transformer², section 3.2): W' = U diag(σ ⊙ z) Vᵀ, with only z learned.

Since Uᵀ W = diag(σ) Vᵀ, the same W' needs only the basis on the smaller side of W, r = min(out, in):

    out ≤ in:   W' = U diag(z) Uᵀ W       W' x = y + U ((z − 1) ⊙ (Uᵀ y)),      y = W x
    out > in:   W' = W V diag(z) Vᵀ       W' x = W (x + V ((z − 1) ⊙ (Vᵀ x)))

As a change to the frozen W, z = 1 is the base model bit for bit, and r² numbers are stored per weight. One z
for all rows is merged into W', for rollouts and training alike: the two forms round differently, and the loss
must score the very policy that sampled. One z per row, which has a batch dimension, takes the right-hand
form, for inference. Unlike the authors' code, z is free (no sigmoid) and W' is not rescaled by Σσ / Σσz:
neither is in the paper. Biases stay as they are.

This module is an *adapter*, and rl.py trains any module that keeps the same three promises:

    wrap(model, names)   before the model is cast and moved: freezes it, and changes it in place. What must
                         follow the model to its device is a registered buffer.
    start(model)         -> {name: tensor}, float32 on the model's device, the same in each call: parameters
                         that change nothing. Training begins there.
    using(model, z)      a block in which the model computes with z. {} is the base model, within another
                         block too; nothing made from z outlives its block, and z does not change within it.
                         Yields select_rows, or None where all rows of a batch share z.
"""
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

ATTENTION = ("wq", "wk", "wv", "wo")  # the paper's "attention" is qv, wq and wv only
MLP = ("w1", "w2", "w3")
MODULES = {"attn": ATTENTION, "mlp": MLP, "all": ATTENTION + MLP, "qv": ("wq", "wv")}

# -- one weight ----------------------------------------------------------------------------------------------

def decompose(W):
    """Singular vectors on the smaller side of W (out, in), columns by descending σ: (r, r), float64."""
    W = W.double()  # float32 gets a fifth of the vectors wrong
    if W.shape[0] > W.shape[1]:
        W = W.T
    _, basis = torch.linalg.eigh(W @ W.T)
    return basis.flip(1)  # eigh gives them by ascending σ²

class Collapse(ValueError):
    """Training went so far that z, or its gradient, is no number."""

class MergedLinear(torch.autograd.Function):
    """y' = W'x for a W' merged from z: the gradient for z without one of the size of W.

    W' = U diag(z σ) Vᵀ gives dz_i = Σ_t (u_i·g_t) σ_i (v_i·x_t), where g is the gradient for y'. Where the
    basis is U, the output holds the right-hand factor already: u_i·y' = z_i σ_i (v_i·x), so

        dz_i = Σ_t (u_i·g_t) (u_i·y'_t) / z_i

    Where it is V, the gradient for the input, gx = W'ᵀg, holds the other: v_i·gx = z_i σ_i (u_i·g), so

        dz_i = Σ_t (v_i·gx_t) (v_i·x_t) / z_i
    """

    @staticmethod
    def forward(ctx, x, z, merged, bias, basis, on_output):
        y = F.linear(x, merged, bias)
        ctx.on_output = on_output
        # y' is the product alone: beside a bias as large as Qwen2.5's, bfloat16 keeps little of it in y
        ctx.saves_y = on_output and bias is None
        ctx.save_for_backward(y if ctx.saves_y else x, z, merged, basis)
        return y

    @staticmethod
    def backward(ctx, g):
        x_or_y, z, merged, basis = ctx.saved_tensors
        gx = g @ merged
        if ctx.on_output:
            y = x_or_y if ctx.saves_y else F.linear(x_or_y, merged)
            a, b = y @ basis, g @ basis  # (B, T, r)
        else:
            a, b = x_or_y @ basis, gx @ basis  # (B, T, r)
        dz = (a.float() * b.float()).flatten(0, -2).sum(0) / z
        return gx, dz, None, None, None, None

def is_per_row(z):
    """Whether z has a batch dimension, (B, 1, r), and is not one (r,) for all rows."""
    return z is not None and z.dim() == 3

class SVFLinear(nn.Module):
    """A frozen nn.Linear and the basis of its smaller side; `using` sets and clears its z."""

    def __init__(self, linear, basis):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.register_buffer("basis", basis)  # (r, r)
        self.on_output = linear.out_features <= linear.in_features  # the basis is U; else it is V
        self.z = None  # (r,) or (B, 1, r), float32 in any model: bfloat16 has no steps of 0.002 near 1
        self.merged = None  # W' while one z serves all rows
        self.version = 0  # of the z that W' was merged from

    def use(self, z):
        """From now on compute with this z; None is the base model."""
        self.z = z
        self.merged = None
        if z is not None and not is_per_row(z):
            self.merged = self.merge(z)
            self.version = z._version

    def merge(self, z):
        """W' (out, in) for z (r,): W and a change, which is small beside it, so W' is as exact as its dtype
        allows. At z = 1 the change is 0, and W' is W bit for bit.

        Raises Collapse where a z to be learned is too near to 0.
        """
        if z.requires_grad and (z.abs() < 1e-3).any():
            raise Collapse("a learned z came within 0.001 of 0, where its gradient is 0/0; lower --lr")
        W, basis = self.linear.weight, self.basis
        change_of_z = (z.detach() - 1).to(W.dtype)  # after the difference: bfloat16 has no steps near 1
        if self.on_output:
            change = (basis * change_of_z) @ (basis.T @ W)  # U diag(z − 1) Uᵀ W
        else:
            change = ((W @ basis) * change_of_z) @ basis.T  # W V diag(z − 1) Vᵀ
        return W + change

    def forward(self, x):
        if self.z is None:
            return self.linear(x)
        if self.merged is None:
            return self.forward_by_row(x)
        if self.z._version != self.version:
            raise RuntimeError("z changed within a block of `using`, whose W' is still that of the old z; "
                               "leave the block before an optimizer's step")
        if self.z.requires_grad and torch.is_grad_enabled():
            return MergedLinear.apply(x, self.z, self.merged, self.linear.bias, self.basis, self.on_output)
        return F.linear(x, self.merged, self.linear.bias)

    def forward_by_row(self, x):
        """x (B, T, in) -> (B, T, out), each row under its own z (B, 1, r); a row of ones is the base."""
        W, bias, basis = self.linear.weight, self.linear.bias, self.basis
        if len(x) != len(self.z):
            raise ValueError(f"{len(self.z)} rows of z for a batch of {len(x)} rows")
        change = (self.z - 1).to(x.dtype)  # (B, 1, r)
        if not self.on_output:
            return F.linear(x + ((x @ basis) * change) @ basis.T, W, bias)  # W (x + V ((z − 1) ⊙ Vᵀ x))
        product = F.linear(x, W)
        # a product that is rounded before its bias is added would not be the base model's y
        y = product if bias is None else F.linear(x, W, bias)
        return y + ((product @ basis) * change) @ basis.T  # y + U ((z − 1) ⊙ Uᵀ W x)

# -- a model under z: the three functions of an adapter ------------------------------------------------------

def linears(model, names):
    """[(full name, nn.Linear)] of those with a full or last name in `names`. ValueError if there is none."""
    found = [(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.Linear) and (name in names or name.split(".")[-1] in names)]
    if not found:
        raise ValueError(f"nothing to adapt: no nn.Linear of this model is named {' or '.join(names)}")
    return found

def singular_basis(name, W):
    """The basis of a weight: its singular vectors. Another function like this may keep bases between runs
    (harness/models.py) or take other ones (baselines/bases.py)."""
    return decompose(W)

def wrap(model, names, basis_of=singular_basis):
    """Freeze the model and put an SVFLinear around the linears named by `names`, in place.

    Wrap before casting: W rounded to bfloat16 has another basis, in which the same z is another change.
    basis_of(weight name, W) -> (r, r), orthogonal.
    """
    model.requires_grad_(False)
    for name, linear in linears(model, names):
        basis = basis_of(name, linear.weight.data).to(linear.weight)
        model.set_submodule(name, SVFLinear(linear, basis))
    return model

def wrapped(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, SVFLinear)}

def start(model):
    """The expert that changes nothing, {weight name: z (r,) of ones}: "other", and where training starts."""
    return {name: torch.ones(m.basis.shape[1], device=m.basis.device) for name, m in wrapped(model).items()}

@contextmanager
def using(model, z):
    """Within the block the model computes with z, {weight name: (r,) or (B, 1, r)}; other weights are base.

    After it, whatever happened, the model is what it was, bit for bit; blocks nest. Yields select_rows, by
    which rows of z follow the rows of a batch, or None where one z serves all rows:

        with using(model, z) as select_rows:
            generate(model, prompts, stopping, sampling, select_rows=select_rows)
    """
    modules = wrapped(model)
    unknown = sorted(z.keys() - modules.keys())
    if unknown:
        raise ValueError(f"z names {unknown[0]}, which is not wrapped here")
    before = {name: (module.z, module.merged, module.version) for name, module in modules.items()}

    def select_rows(rows):
        """`generate` lets finished rows leave its batch; their rows of z leave with them."""
        for module in modules.values():
            if is_per_row(module.z):
                module.z = module.z[rows]

    try:
        for name, module in modules.items():
            module.use(z.get(name))
        yield select_rows if any(is_per_row(v) for v in z.values()) else None
    finally:
        for name, module in modules.items():
            module.z, module.merged, module.version = before[name]

# -- several experts -----------------------------------------------------------------------------------------

def alpha_at(alpha, weight_name):
    """α of an expert at a weight: one number for all, or one per block, of which "layers.7.attention.wq"
    takes the eighth."""
    if isinstance(alpha, (list, tuple)):
        alpha = alpha[int(weight_name.split(".")[1])]
    return float(alpha)

def mix(experts, mixtures):
    """z' = 1 + Σ_k α_k (z_k − 1): the paper's Σ α_k z_k, the base being one more expert of weight 1 − Σα.

    experts {name: {weight name: z}}; one mixture {name: α, or one α per block} for all rows -> z of shape
    (r,), or a list with one mixture per row -> (B, 1, r). {"math": 0.3, "code": 0.7} is the paper's formula.
    Raises ValueError for an unknown expert, or weights that are not finite.
    """
    per_row = isinstance(mixtures, list)
    rows = mixtures if per_row else [mixtures]
    unknown = set().union(*rows) - experts.keys() - {"other"}
    if unknown:
        raise ValueError(f"no expert is named {', '.join(sorted(unknown))}; there is {', '.join(experts)}")
    ones = {name: torch.ones_like(z) for expert in experts.values() for name, z in expert.items()}
    mixed = {}
    for name, one in ones.items():
        alpha = torch.tensor([[alpha_at(row.get(k, 0), name) for k in experts] for row in rows])  # (B, K)
        if not alpha.isfinite().all():
            raise ValueError(f"mixture weights must be finite: {mixtures}")
        changes = torch.stack([expert.get(name, one) - 1 for expert in experts.values()])  # (K, r)
        z = 1 + alpha.to(one.device) @ changes  # (B, r)
        mixed[name] = z[:, None] if per_row else z[0]
    return mixed
