"""pytest tests/test_lora.py: W' = W + (α / r) B A against autograd through the dense W' in float64."""
import pytest
import torch
from conftest import train_flags, write_silence
from safetensors.torch import load_file
from test_formats import write_hf_by_hand
from test_scripts import run
from torch import nn

import svf
from baselines import lora
from formats.load import load

SHAPES = [(12, 31), (31, 12), (17, 17)]  # wide, tall, square (out, in)

def layer(out, in_, bias, rank=3, dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.ModuleDict({"w1": nn.Linear(in_, out, bias=bias)}).to(dtype)
    return lora.wrap(model, ("w1",), rank=rank, alpha=32.0)

def some_parameters(model):
    """A and B as they might be after a while of training; B alone would begin at zero."""
    return {name: (v + 0.1 * torch.randn(v.shape)).double().requires_grad_()
            for name, v in lora.start(model).items()}

@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradients_are_autograds_through_the_dense_form(shape, bias):
    model = layer(*shape, bias)
    parameters = some_parameters(model)
    x = torch.randn(3, 5, shape[1], dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 5, shape[0], dtype=torch.float64)
    model["w1"].merge = lambda: dense().detach()  # in float64, where `merge` computes in float32

    def dense():
        return model["w1"].linear.weight + 32 / 3 * parameters["w1.B"] @ parameters["w1.A"]
    with lora.using(model, parameters):
        y = model["w1"](x)
        y.backward(g)
    ours = [x.grad, parameters["w1.A"].grad, parameters["w1.B"].grad]
    wanted_y = x @ dense().T + (model["w1"].linear.bias if bias else 0)
    wanted = torch.autograd.grad(wanted_y, [x, parameters["w1.A"], parameters["w1.B"]], g)
    assert (y - wanted_y).abs().max() < 1e-12
    for gradient, autograds in zip(ours, wanted, strict=True):
        assert (gradient - autograds).norm() / autograds.norm() < 1e-12

@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_start_is_the_base_model_bit_for_bit_and_it_comes_back(dtype):
    model = layer(12, 31, True, dtype=dtype)
    x = torch.randn(2, 4, 31).to(dtype)
    base = model["w1"](x)
    begin = lora.start(model)
    assert begin["w1.A"].any() and torch.equal(begin["w1.A"], lora.start(model)["w1.A"])
    with lora.using(model, begin):
        assert torch.equal(model["w1"](x), base)
    changes = {name: v + 0.1 for name, v in begin.items()}
    with pytest.raises(KeyboardInterrupt), lora.using(model, changes):
        changed = model["w1"](x)
        with lora.using(model, {}):
            assert torch.equal(model["w1"](x), base)
        assert torch.equal(model["w1"](x), changed) and not torch.equal(changed, base)
        raise KeyboardInterrupt
    assert torch.equal(model["w1"](x), base)

def test_parameters_of_a_weight_that_is_not_wrapped_are_refused():
    model = layer(12, 31, False)
    with pytest.raises(ValueError, match="parameters of w7, which is not wrapped"), \
            lora.using(model, {"w7.A": torch.ones(1, 31), "w7.B": torch.ones(12, 1)}):
        pass

def test_a_rank_has_the_size_it_should():
    sizes = {name: v.shape for name, v in lora.start(layer(12, 31, False, rank=2)).items()}
    assert sizes == {"w1.A": (2, 31), "w1.B": (12, 2)}

def test_a_merged_lora_is_a_base_of_its_own(tmp_path):
    """Trained by scripts.train, merged, and loaded as a base on which svf starts at the merged weights."""
    base = write_hf_by_hand(tmp_path / "base")
    flags = [*train_flags(base, write_silence(tmp_path / "silence.jsonl"), tmp_path / "run"),
             "--adapter", "lora", "--rank", 2, "--alpha", 4.0]
    done = run("scripts.train", *flags)
    assert done.returncode == 0, done.stderr
    done = run("scripts.merge_lora", tmp_path / "run" / "silence.safetensors", tmp_path / "merged")
    assert done.returncode == 0 and "wrote" in done.stdout, done.stderr
    merged, _ = load(tmp_path / "merged", "cpu")
    model, _ = load(base, "cpu")
    parameters = load_file(tmp_path / "run" / "silence.safetensors")
    for name in {name.rpartition(".")[0] for name in parameters}:
        W = model.get_submodule(name).weight
        W += 4.0 / 2 * parameters[f"{name}.B"] @ parameters[f"{name}.A"]
    tokens = torch.tensor([[5, 9, 200, 41]])
    assert (merged(tokens) - model(tokens)).abs().max() < 1e-4
    assert merged.fingerprint != load(base, "cpu")[0].fingerprint
    before = merged(tokens)
    svf.wrap(merged, svf.MODULES["all"])
    with svf.using(merged, svf.start(merged)):
        assert torch.equal(merged(tokens), before)
