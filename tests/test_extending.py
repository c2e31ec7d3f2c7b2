"""pytest tests/test_extending.py: a family, a strategy, an adapter, a way to learn of one's own join in."""
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import random_z

import adapt
import sample
import svf
from examples import channels, ppo
from formats.load import load
from model import Sampling
from rl import Learner, Settings, reinforce, train_expert
from svf import MODULES
from tasks import catalog
from tasks.catalog import get_task, variants_of
from tasks.dispatch import Category, dispatch_task
from tasks.interface import Problem, Task

ROOT = Path(__file__).parent.parent

@pytest.fixture
def calendar(monkeypatch):
    """The example family, as if it had been copied to tasks/ and its name added to FAMILIES."""
    spec = importlib.util.spec_from_file_location("tasks.calendar_questions",
                                                  ROOT / "examples" / "calendar_questions.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(catalog, "FAMILIES", [*catalog.FAMILIES, "calendar_questions"])

def test_a_family_without_a_cousin_is_a_task_and_a_category(calendar):
    task = get_task("calendar")
    for split in task.splits:
        problems = task.problems(split, 30, 0)
        assert task.score(problems, [p.gold for p in problems]) == [1] * 30
    assert variants_of(["calendar", "math"]) == ["math_hard"]
    categories = [Category(name, ["e", "f"], name) for name in ("calendar", "math", "other")]
    golds = [p.gold for p in dispatch_task(categories).problems("train", 30, 0)]
    assert golds.count("calendar") == 10

def test_a_strategy_is_a_function_and_an_entry(tiny, monkeypatch):
    """One that looks at requests, and sends long ones half and half."""

    def by_length(adaptive, requests):
        return [{"a": 0.5, "b": 0.5} if len(request) > 10 else adapt.BASE for request in requests]
    monkeypatch.setitem(adapt.BY_REQUEST, "length", by_length)
    model, tokenizer = tiny
    experts = {name: adapt.Expert(random_z(model, seed), {}, role="task") for seed, name in enumerate("ab")}
    adaptive = adapt.AdaptiveModel(model, tokenizer, experts)
    first_pass = sample.choose_first_pass(sample.Config(adapt="length"), adaptive, None, adapt.Search())
    assert first_pass(["hi", "a longer request"]) == [{"other": 1.0}, {"a": 0.5, "b": 0.5}]

@pytest.fixture
def scaled(tiny_folder):
    model, tokenizer = load(tiny_folder, "cpu")
    channels.wrap(model, MODULES["all"])
    return model, tokenizer

def test_channel_scales_multiply_outputs_and_leave_the_base_model(scaled):
    model, _ = scaled
    tokens = torch.tensor([[1, 2, 3]])
    base = model(tokens)
    scales = {name: s + 0.1 * torch.randn_like(s) for name, s in channels.start(model).items()}
    with channels.using(model, channels.start(model)):
        assert torch.equal(model(tokens), base)
    with channels.using(model, scales):
        changed = model(tokens)
        with channels.using(model, {}):
            assert torch.equal(model(tokens), base)
        assert torch.equal(model(tokens), changed)
    assert torch.equal(model(tokens), base)
    for name, s in scales.items():  # the same scales in the weights themselves
        weight = model.get_submodule(name).weight
        weight.data *= s[:, None]
    assert (model(tokens) - changed).abs().max() < 1e-4

def first_byte_is_a_multiple_of_four(problems, texts):
    return [1 if text and ord(text[0]) % 4 == 0 else -1 for text in texts]

def some_problems(split, n, seed):
    return [Problem(f"say {i}") for i in range(n)]

def test_reinforce_trains_an_adapter_that_it_does_not_know(scaled):
    task = Task("toy", "", "", 1, some_problems, first_byte_is_a_multiple_of_four)
    settings = Settings(steps=25, n_problems=16, group=4, micro_batch=32, lr=3e-2, lam=0.0, seed=0,
                        eval_every=100)
    learner = Learner(*scaled, channels, task, Sampling(1.0), settings, reinforce)
    right = [metrics.get("right") for metrics in train_expert(learner, {}, lambda z: 0.5)]
    assert sum(right[-5:]) / 5 > sum(right[1:6]) / 5 + 0.2

def toy_learner(tiny, improve, **changes):
    task = Task("toy", "", "", 1, some_problems, first_byte_is_a_multiple_of_four)
    settings = Settings(**{"steps": 12, "n_problems": 16, "group": 4, "micro_batch": 32, "lr": 3e-2,
                           "lam": 0.0, "seed": 0, "eval_every": 100} | changes)
    return Learner(*tiny, svf, task, Sampling(1.0), settings, improve)

def test_a_way_to_learn_may_take_several_steps_for_one_batch_of_answers(tiny):
    learner = toy_learner(tiny, ppo.improve)
    right = [metrics.get("right") for metrics in train_expert(learner, {}, lambda z: 0.5)]
    assert sum(right[-3:]) / 3 > sum(right[1:4]) / 3 + 0.2

def test_the_first_pass_of_ppo_is_reinforce(tiny):
    """All ratios are 1 there, so its gradient is that of equation 1."""
    gradients = {}
    for name, improve in (("ppo", ppo.improve), ("reinforce", reinforce)):

        def keep(z, optimizer, name=name):
            gradients.setdefault(name, torch.cat([v.grad for v in z.values()]))
            for v in z.values():
                v.grad = None
            return 0.0
        learner = replace(toy_learner(tiny, improve), descend=keep)
        z = {name: v.requires_grad_() for name, v in random_z(tiny[0]).items()}
        improve(learner, z, None, some_problems("train", 16, 0), torch.Generator().manual_seed(0))
    difference = gradients["ppo"] - gradients["reinforce"]
    assert difference.norm() < 1e-4 * gradients["reinforce"].norm()

def test_a_ratio_beyond_the_clip_has_no_gradient_where_it_would_go_further():
    ratio = torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5], requires_grad=True)
    ppo.clipped_loss(ratio, torch.tensor([2.0, 2.0, -2.0, 2.0, -2.0])).backward()
    assert ratio.grad.tolist() == [-2.0, 0.0, 2.0, -2.0, 0.0]
