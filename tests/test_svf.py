"""pytest tests/test_svf.py: the algebra of section 3.2 against torch.linalg.svd and autograd in float64."""
import pytest
import torch
from conftest import expert_metadata, random_state, random_z, write_meta
from torch import nn

from baselines.bases import BASES
from formats.experts import save_expert
from formats.load import load
from formats.safetensors_file import save_whole
from harness.experts import load_expert
from svf import MODULES, Collapse, decompose, mix, singular_basis, start, using, wrap, wrapped

SHAPES = [(12, 31), (31, 12), (17, 17)]  # wide, tall, square (out, in)

def layer(out, in_, bias, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    model = nn.ModuleDict({"w1": nn.Linear(in_, out, bias=bias)})
    return wrap(model, ("w1",)).to(dtype)

@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_merged_and_per_row_agree_with_the_paper_formula(shape, bias):
    """W' = U diag(σ z) Vᵀ with the factors of torch.linalg.svd in float64."""
    model = layer(*shape, bias)
    linear, z = model["w1"].linear, 1 + 0.2 * torch.randn(min(shape))
    U, S, Vt = torch.linalg.svd(linear.weight.double(), full_matrices=False)
    W = U @ torch.diag(S * z) @ Vt
    x = torch.randn(3, 5, shape[1])
    y = x.double() @ W.T + (linear.bias if bias else 0)
    with using(model, {"w1": z}):
        assert (model["w1"].merged - W).norm() / W.norm() < 1e-5
        merged = model["w1"](x)
    with using(model, {"w1": z.expand(3, 1, -1)}):
        delta = model["w1"](x)
    for ours in (merged, delta):
        assert (ours - y).norm() / y.norm() < 1e-5

@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_autograds_through_the_dense_form(shape, bias):
    model = layer(*shape, bias)
    linear, z = model["w1"].linear, (1 + 0.2 * torch.randn(min(shape))).requires_grad_()
    x, g = torch.randn(3, 5, shape[1], requires_grad=True), torch.randn(3, 5, shape[0])
    with using(model, {"w1": z}):
        model["w1"](x).backward(g)
    U, S, Vt = torch.linalg.svd(linear.weight.double(), full_matrices=False)
    z64, x64 = z.detach().double().requires_grad_(), x.detach().double().requires_grad_()
    (x64 @ (U @ torch.diag(S * z64) @ Vt).T).backward(g.double())
    assert (z.grad - z64.grad).norm() / z64.grad.norm() < 1e-5
    assert (x.grad - x64.grad).norm() / x64.grad.norm() < 1e-5

@pytest.mark.parametrize("shape", [(576, 192), (192, 576), (300, 300)])
def test_in_bfloat16_a_merged_weight_is_the_papers_within_a_rounding_of_its_own_weight(shape):
    """z is near 1, so W' is W and a small change, which may be computed in W's own dtype; z − 1 may not."""
    model = layer(*shape, bias=False)
    W, z = model["w1"].linear.weight.double(), 1 + 0.02 * torch.randn(min(shape))
    U, S, Vt = torch.linalg.svd(W, full_matrices=False)
    exact = U @ torch.diag(S * z) @ Vt
    model.to(torch.bfloat16)
    with using(model, {"w1": z}):
        merged = model["w1"].merged.double()
    of_rounding = (exact.bfloat16().double() - exact).norm()
    assert (merged - exact).norm() < 1.5 * of_rounding
    assert (merged - exact).norm() < 0.2 * (exact - W).norm()  # what z changed is there

def test_a_bias_as_large_as_qwens_takes_nothing_from_the_gradient_in_bfloat16():
    """Of wk in Qwen2.5-0.5B the bias has a root mean square of 35, the product one of about 1."""
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = layer(64, 96, bias=True)
        linear = model["w1"].linear
        linear.bias.data = 50 * torch.randn(64)
        model.to(dtype)
        z = (1 + 0.1 * torch.randn(64)).requires_grad_()
        x, g = torch.randn(2, 50, 96), torch.randn(2, 50, 64)
        with using(model, {"w1": z}):
            model["w1"](x.to(dtype)).backward(g.to(dtype))
        gradients[dtype] = z.grad
    exact = gradients[torch.float32]
    assert (gradients[torch.bfloat16] - exact).norm() / exact.norm() < 0.03

def test_a_learned_z_at_0_is_a_collapse_and_a_given_one_is_not():
    """dz is divided by z; an expert that takes a direction out of a weight needs none."""
    model = layer(12, 31, bias=False)
    z = torch.ones(12)
    z[3] = 0.0
    with using(model, {"w1": z}):
        assert model["w1"](torch.randn(2, 31)).isfinite().all()
    with pytest.raises(Collapse, match="lower --lr"), using(model, {"w1": z.requires_grad_()}):
        pass

@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("basis", ["svd", *BASES])
def test_in_any_basis_the_gradient_is_autograds_through_the_dense_form(basis, shape):
    """W' = W + B diag(z − 1) Bᵀ W on the smaller side; identity is a scale for each channel."""
    torch.manual_seed(0)
    model = wrap(nn.ModuleDict({"w1": nn.Linear(shape[1], shape[0])}), ("w1",),
                 basis_of=BASES.get(basis, singular_basis))
    W, B = model["w1"].linear.weight, model["w1"].basis
    r, wide = min(shape), shape[0] <= shape[1]
    assert (B.T @ B - torch.eye(r)).abs().max() < 1e-5
    z = (1 + 0.2 * torch.randn(r)).requires_grad_()
    x, g = torch.randn(3, 5, shape[1]), torch.randn(3, 5, shape[0])
    with using(model, {"w1": z}):
        model["w1"](x).backward(g)
    again = z.detach().clone().requires_grad_()
    change = B @ torch.diag(again - 1) @ B.T
    dense = W + (change @ W if wide else W @ change)
    if basis == "identity":
        torch.testing.assert_close(dense, again[:, None] * W if wide else W * again)
    (x @ dense.T).backward(g)
    assert (z.grad - again.grad).norm() / again.grad.norm() < 1e-4

@pytest.mark.parametrize("shape", SHAPES)
def test_the_basis_is_the_singular_vectors_by_descending_sigma(shape):
    W = torch.randn(*shape, dtype=torch.float64)
    basis = decompose(W)
    U, S, Vt = torch.linalg.svd(W, full_matrices=False)
    wanted = U if shape[0] <= shape[1] else Vt.T
    assert ((basis.T @ wanted).abs() - torch.eye(min(shape))).abs().max() < 1e-8
    small = W if shape[0] <= shape[1] else W.T
    assert ((basis.T @ small).norm(dim=1) - S).abs().max() < 1e-11 * S[0]

@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_z_of_ones_is_the_base_model_bit_for_bit(tiny, dtype):
    model = tiny[0].to(dtype)
    tokens = torch.randint(0, 512, (3, 7), generator=torch.Generator().manual_seed(0))
    base = model(tokens)
    for z in (start(model), {k: v.expand(3, 1, -1) for k, v in start(model).items()}):
        with using(model, z):
            assert torch.equal(model(tokens), base)

def test_rows_with_their_own_z_equal_the_rows_one_by_one(tiny):
    model, _ = tiny
    z, tokens = random_z(model, rows=4), torch.randint(
        0, 512, (4, 9), generator=torch.Generator().manual_seed(0))
    with using(model, z):
        together = model(tokens)
    for row in range(4):
        with using(model, {k: v[row, 0] for k, v in z.items()}):
            assert (model(tokens[row:row + 1])[0] - together[row]).abs().max() < 1e-3

def test_a_batch_of_another_size_is_refused_not_broadcast(tiny):
    model, _ = tiny
    with using(model, random_z(model, rows=4)), pytest.raises(ValueError,
                                                              match="4 rows of z for a batch of 1"):
        model(torch.tensor([[1, 2]]))

def test_the_base_model_is_back_after_an_error_and_blocks_nest(tiny):
    model, tokens = tiny[0], torch.tensor([[1, 2, 3]])
    base, z = model(tokens), random_z(model)
    with pytest.raises(KeyboardInterrupt), using(model, z):
        changed = model(tokens)
        with using(model, {}):
            assert torch.equal(model(tokens), base)
        assert torch.equal(model(tokens), changed) and not torch.equal(changed, base)
        raise KeyboardInterrupt
    assert torch.equal(model(tokens), base)
    assert all(m.z is None and m.merged is None for m in wrapped(model).values())

def test_a_z_for_an_unknown_weight_is_an_error(tiny):
    with pytest.raises(ValueError, match="nonsense"), using(tiny[0], {"nonsense": torch.ones(3)}):
        pass

def test_modules_choose_what_is_wrapped(tiny_folder):
    count = {name: len(wrapped(wrap(load(tiny_folder, "cpu")[0], MODULES[name]))) for name in MODULES}
    assert count == {"attn": 8, "mlp": 6, "all": 14, "qv": 4}

def test_mix_is_the_papers_sum_for_weights_of_sum_one(tiny):
    model, _ = tiny
    a, b = random_z(model, 1), random_z(model, 2)
    experts = {"a": a, "b": b}
    z = mix(experts, {"a": 0.3, "b": 0.7})
    for name in z:
        torch.testing.assert_close(z[name], 0.3 * a[name] + 0.7 * b[name])
    assert all(torch.equal(mix(experts, {"a": 1.0})[n], a[n])
               for n in a)  # one expert of weight 1 is that expert
    rows = mix(experts, [{"a": 1.0}, {"other": 1.0}, {"b": 0.5}])
    for name in a:
        assert rows[name].shape == (3, 1, len(a[name]))
        assert torch.equal(rows[name][0, 0], a[name]) and (rows[name][1] == 1).all()

def test_mix_takes_one_alpha_per_block(tiny):
    model, _ = tiny
    a = random_z(model, 1)
    z = mix({"a": a}, {"a": [0.25, 1.0]})
    for name in a:
        alpha = 0.25 if name.startswith("layers.0.") else 1.0
        torch.testing.assert_close(z[name], 1 + alpha * (a[name] - 1))

@pytest.mark.parametrize("mixture", [{"a": float("nan")}, {"a": [0.5, float("inf")]}])
def test_a_mixture_that_is_no_number_is_an_error(tiny, mixture):
    with pytest.raises(ValueError, match="finite"):
        mix({"a": random_z(tiny[0])}, mixture)

def test_an_expert_survives_the_disk_and_is_refused_by_another_base(tiny, tmp_path):
    model, _ = tiny
    z = random_z(model)
    path = tmp_path / "experts" / "math.safetensors"
    save_expert(path, z, expert_metadata(model))
    again, metadata = load_expert(path, model)
    assert all(torch.equal(again[n], z[n]) for n in z) and metadata["task"] == "math"
    assert [p.name for p in path.parent.iterdir()] == ["math.safetensors"]  # nothing left beside it
    other = load(write_meta(tmp_path / "other", [random_state(seed=1)]), "cpu")[0]
    with pytest.raises(ValueError, match="tiny.*other"):
        load_expert(path, other)
    transferred, _ = load_expert(path, wrap(other, MODULES["all"]), transfer=True)
    assert all(torch.equal(transferred[n], z[n]) for n in z)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not an expert"):
        load_expert(path, model)

NAME = "layers.0.attention.wq"

@pytest.mark.parametrize("damage, said", [
    (lambda z: z.update({NAME: z[NAME] * float("nan")}), "not finite"),
    (lambda z: z.update({NAME: z[NAME] * 1e38}), "not finite, or beyond"),
    (lambda z: z.update({NAME: torch.ones(1)}), r"is \(1,\)"),
    (lambda z: z.update({NAME: z[NAME][None]}), r"is \(1, 48\)"),  # it would broadcast
    (lambda z: z.update({NAME: torch.ones(48, dtype=torch.int64)}), "int64"),
    (lambda z: z.update({"layers.9.attention.wq": torch.ones(48)}), "not wrapped here")])
def test_a_z_that_does_not_fit_names_what_differs(tiny, tmp_path, damage, said):
    model, _ = tiny
    z = random_z(model)
    damage(z)
    save_expert(tmp_path / "math.safetensors", z, expert_metadata(model))
    with pytest.raises(ValueError, match=said):
        load_expert(tmp_path / "math.safetensors", model)

def test_an_expert_of_fewer_tensors_than_it_had_is_not_whole(tiny, tmp_path):
    model, _ = tiny
    z = random_z(model)
    metadata = expert_metadata(model, tensors=len(z))
    for some in ({}, {NAME: z[NAME]}):
        save_whole(tmp_path / "math.safetensors", some, metadata)
        with pytest.raises(ValueError, match=f"has {len(some)} tensors and should have {len(z)}"):
            load_expert(tmp_path / "math.safetensors", model)

def test_an_expert_can_be_read_by_whom_the_user_lets_read_new_files(tiny, tmp_path):
    (tmp_path / "any").touch()
    save_expert(tmp_path / "math.safetensors", random_z(tiny[0]), expert_metadata(tiny[0]))
    assert (tmp_path / "math.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode

@pytest.mark.parametrize("changes, said", [
    ({"fingerprint": None}, "fingerprint = None"), ({"kind": "judge"}, "unknown kind, 'judge'"),
    ({"examples": "1 + 1?"}, "examples = '1"), ({"examples": []}, "example requests are"),
    ({"examples": [3]}, "example requests are"), ({"prefill": 7}, "prefill = 7"),
    ({"solved": [{"role": "system", "content": "Hi"}]}, "its solved problems are"),
    *[({"kind": "mixture", "description": "found", "mixture": {"math": weight}}, "its mixture is")
      for weight in (None, [], [0.5, float("inf")], 10 ** 400)],
    ({"adapter": "lora"}, "only experts of svf")])
def test_metadata_of_another_kind_are_named(tiny, tmp_path, changes, said):
    model, _ = tiny
    save_expert(tmp_path / "math.safetensors", random_z(model), expert_metadata(model, **changes))
    with pytest.raises(ValueError, match=said):
        load_expert(tmp_path / "math.safetensors", model)

def test_no_expert_is_named_as_the_base_model_is(tiny, tmp_path):
    save_expert(tmp_path / "other.safetensors", random_z(tiny[0]), expert_metadata(tiny[0]))
    with pytest.raises(ValueError, match="give the expert another name"):
        load_expert(tmp_path / "other.safetensors", tiny[0])

@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_ones_are_the_base_bit_for_bit_beside_a_large_bias(shape, dtype):
    """A product that is rounded before its bias is added is another y."""
    model = layer(*shape, bias=True)
    model["w1"].linear.bias.data *= 100
    model.to(dtype)
    x = torch.randn(3, 5, shape[1]).to(dtype)
    rows = {"w1": torch.ones(3, 1, min(shape))}
    rows["w1"][1] += 0.2 * torch.randn(min(shape))
    with using(model, rows):
        y = model["w1"](x)
    base = model["w1"](x)
    assert torch.equal(y[0], base[0]) and torch.equal(y[2], base[2]) and not torch.equal(y[1], base[1])

def test_a_z_that_changes_within_its_block_is_an_error_and_not_a_stale_weight():
    model = layer(12, 31, bias=False)
    z = torch.ones(12).requires_grad_()
    optimizer = torch.optim.SGD([z], lr=0.1)
    x = torch.randn(2, 31)
    with using(model, {"w1": z}):
        model["w1"](x).sum().backward()
        optimizer.step()
        with pytest.raises(RuntimeError, match="leave the block before an optimizer's step"):
            model["w1"](x)
    with using(model, {"w1": z}):
        assert model["w1"](x).isfinite().all()
