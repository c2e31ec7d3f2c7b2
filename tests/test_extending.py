"""pytest tests/test_extending.py: a family, a strategy and an adapter of one's own join everything else."""
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import adapt
import tasks
from conftest import random_z
from examples import channels
from formats.experts import Experts
from model import Sampling
from rl import Learner, Settings, reinforce, train_expert
from svf import MODULES
from formats.load import load
from tasks import cousins_of, get_task
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
    monkeypatch.setattr(tasks, "FAMILIES", [*tasks.FAMILIES, "calendar_questions"])

def test_a_family_without_a_cousin_is_a_task_and_a_category(calendar):
    task = get_task("calendar")
    for split in task.splits:
        problems = task.problems(split, 30, 0)
        assert task.score(problems, [p.gold for p in problems]) == [1] * 30
    assert cousins_of(["calendar", "math"]) == ["math_hard"]
    categories = [Category(name, ["e", "f"], name) for name in ("calendar", "math", "other")]
    golds = [p.gold for p in dispatch_task(categories).problems("train", 30, 0)]
    assert golds.count("calendar") == 10

def test_a_strategy_is_a_function_and_an_entry(tiny, monkeypatch):

    def by_average(adaptive, problems, few_shot):
        names = adaptive.experts.task
        return [{name: 1 / len(names) for name in names}] * len(problems)
    monkeypatch.setitem(adapt.STRATEGIES, "average", adapt.Strategy(by_average))
    model, tokenizer = tiny
    experts = Experts({"a": random_z(model, 0), "b": random_z(model, 1)})
    mixtures = adapt.strategies_with(experts)["average"].first_pass(
        adapt.AdaptiveModel(model, tokenizer, experts), [Problem("hi")], None)
    assert mixtures == [{"a": 0.5, "b": 0.5}] and "classifier" not in adapt.strategies_with(experts)

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
    task = Task("toy", "", "", "", 1, some_problems, first_byte_is_a_multiple_of_four)
    settings = Settings(steps=25, rollouts=64, group=4, micro_batch=32, lr=3e-2, lam=0.0, seed=0,
                        eval_every=100, patience=100)
    learner = Learner(*scaled, channels, task, Sampling(1.0), settings, reinforce)
    right = [metrics.get("right") for metrics in train_expert(learner, {}, lambda z: 0.5)]
    assert sum(right[-5:]) / 5 > sum(right[1:6]) / 5 + 0.2
