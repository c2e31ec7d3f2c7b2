"""pytest tests/test_compare.py: methods of each kind choose a rate, are tested, and are not run again."""
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import results  # noqa: E402
from harness.logs import rows_of  # noqa: E402
from harness.scores import TEST_SEED, templates_of  # noqa: E402
from scripts import compare, plot  # noqa: E402
from tasks.catalog import get_task  # noqa: E402

def compared(monkeypatch, tiny_folder, out, *more):
    monkeypatch.setenv("XDG_CACHE_HOME", str(out.parent / "cache"))  # base answers are not the user's
    monkeypatch.setattr(sys, "argv", ["compare.py", "--model", str(tiny_folder), "--steps", "1", "--rollouts",
                                      "16", "--rates", "3", "--n-val", "4", "--n-test", "4", "--dtype",
                                      "float32", "--out", str(out), *more])
    compare.main()
    return [json.loads(line) for line in out.read_text().splitlines()]

@pytest.mark.parametrize("name", ["svf mlp", "svf, random basis", "lora 16 qv", "svf by es", "lora 1 by sft"])
def test_a_method_has_a_grid_and_three_seeds_and_is_done_once(name, tiny_folder, tmp_path, monkeypatch):
    records = compared(monkeypatch, tiny_folder, tmp_path / "log.jsonl", "--only", name)
    grid, final = rows_of(records, stage="grid"), rows_of(records, stage="final")
    assert len({record["lr"] for record in grid}) == len(grid) == 3  # all equal: the middle is the best
    assert [record["seed"] for record in final] == [0, 1, 2]
    assert {record["lr"] for record in final} == {compare.METHODS[name].rate}
    assert all({"unseen", "heldout", "code", "reasoning", "parameters"} <= record.keys() for record in final)
    assert compared(monkeypatch, tiny_folder, tmp_path / "log.jsonl", "--only", name) == records

def test_another_task_is_learned_and_math_may_be_forgotten(tiny_folder, tmp_path, monkeypatch):
    log = tmp_path / "log.jsonl"
    of_math = compared(monkeypatch, tiny_folder, log, "--only", "svf")
    records = compared(monkeypatch, tiny_folder, log, "--only", "svf", "--task", "reasoning")
    of_reasoning = rows_of(records, task="reasoning")
    assert len(of_reasoning) == len(of_math) == len(records) / 2  # what one task has done is not the other's
    final = of_reasoning[-1]
    tested = [name for name, value in final.items() if isinstance(value, dict) and "gains" in value]
    assert tested == ["heldout", "unseen", "math", "code"]
    assert final["unseen"]["templates"] == templates_of(get_task("reasoning").problems("test", 4, TEST_SEED))

def comparison_with(accuracy_at, monkeypatch, log):
    """A Comparison in whose runs the rate alone decides, and the list of the rates that it tries."""
    comparison = compare.Comparison(compare.Config(out=str(log), rates=3), "svf", None)
    monkeypatch.setattr(compare.Comparison, "budget", lambda self: {"method": "svf"})
    tried = []

    def validate_rate(rate):
        tried.append(rate)
        with open(log, "a") as file:
            record = {"method": "svf", "stage": "grid", "lr": rate, "val": accuracy_at(rate)}
            file.write(json.dumps(record) + "\n")
    monkeypatch.setattr(comparison, "validate_rate", validate_rate)
    return comparison, tried

@pytest.mark.parametrize("peak", [0.04, 0.0004])
def test_the_grid_grows_until_the_best_rate_is_within_it(peak, monkeypatch, tmp_path):
    """To ten times the expected rate, and to a tenth of it."""

    def accuracy_at(rate):
        return -abs(math.log(rate / peak))

    comparison, tried = comparison_with(accuracy_at, monkeypatch, tmp_path / "log.jsonl")
    assert comparison.choose_rate() == pytest.approx(peak)
    assert min(tried) < 0.9 * peak and 1.1 * peak < max(tried) and len(tried) == 5
    assert comparison.choose_rate() == pytest.approx(peak) and len(tried) == 5

def test_a_grid_whose_best_rate_stays_at_the_edge_ends(monkeypatch, tmp_path):
    comparison, tried = comparison_with(float, monkeypatch, tmp_path / "log.jsonl")
    assert comparison.choose_rate() == max(tried) and len(tried) == compare.MOST_RATES

def test_an_interrupted_comparison_goes_on_where_it_was(tiny_folder, tmp_path, monkeypatch):
    """The seed that chose the rate is trained once, and a line that stands there is not done again."""
    trained = []
    train = compare.Comparison.train

    def counted(self, rate, seed):
        trained.append((rate, seed))
        return train(self, rate, seed)
    monkeypatch.setattr(compare.Comparison, "train", counted)
    log = tmp_path / "log.jsonl"
    records = compared(monkeypatch, tiny_folder, log, "--only", "svf")
    assert len(trained) == len(set(trained)) == 5  # three rates, and two more seeds
    log.write_text("".join(json.dumps(record) + "\n" for record in records[:-1]))
    assert len(compared(monkeypatch, tiny_folder, log, "--only", "svf")) == len(records)
    assert trained[5:] == [(compare.METHODS["svf"].rate, 2)]

def downwards(learner, z, optimizer, problems, generator):
    """A gradient of one everywhere, which AdamW follows by the whole rate."""
    with learner.adapter.using(learner.model, z):
        for v in z.values():
            v.grad = torch.ones_like(v)
    return {"grad_norm": learner.descend(z, optimizer)}

def test_a_run_that_collapses_is_a_line_and_the_others_go_on(tiny_folder, tmp_path, monkeypatch):
    """At a rate of 1 the first step brings z to 0, where the second finds no gradient."""
    monkeypatch.setitem(compare.METHODS, "svf", replace(compare.METHODS["svf"], rate=1.0, improve=downwards))
    records = compared(monkeypatch, tiny_folder, tmp_path / "log.jsonl", "--only", "svf", "--steps", "2")
    assert [(record["stage"], record["lr"]) for record in records if "collapsed" in record] == [
        ("grid", 1.0), *[("final", 1.0)] * 3]
    assert len(rows_of(records, stage="grid")) == 3

def test_a_log_becomes_a_table_a_grid_and_a_picture(tiny_folder, tmp_path, monkeypatch):
    log = tmp_path / "compare.jsonl"
    records = compared(monkeypatch, tiny_folder, log, "--only", "svf;lora 1 by sft")
    collapsed = records[0] | {"method": "lora 16", "lr": 1.0, "val": 0.0, "collapsed": "too far"}
    log.write_text("".join(json.dumps(record) + "\n" for record in [*records, collapsed]))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(plot, "RESULTS", tmp_path)
    head, _, *rows = results.compare_gains_table("compare").splitlines()
    assert [row.split(" | ")[0] for row in rows] == ["| the base model, %", "| svf", "| lora 1 by sft"]
    assert all(row.count("|") == head.count("|") for row in rows)
    [of_seeds] = [row for row in rows if "sft" in row]
    [numbers] = {record["parameters"] for record in rows_of(records, method="lora 1 by sft", stage="final")}
    assert f"| {numbers:,} |" in of_seeds
    costs = results.compare_costs_table("compare").splitlines()[2:]
    assert [row.split(" | ")[0] for row in costs] == ["| svf", "| lora 1 by sft"]
    assert "| lora 16 | 1: collapsed |" in results.compare_rates_table("compare")
    pytest.importorskip("matplotlib")
    plot.plot_compare(plot.import_pyplot())
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")

def final(method, seed, gains):
    """The line of a seed at the best rate, by which four problems of two templates gained so much."""
    answered = {"accuracy": 0.5, "gains": gains, "templates": [0, 0, 1, 1]}
    budget = {"task": "math", "steps": 1, "rollouts": 16, "n_val": 4, "n_test": 4, "fingerprint": "",
              "dtype": "", "chat_template": ""}
    return {**budget, "method": method, "stage": "final", "lr": 0.1, "seed": seed, "parameters": 9,
            **{name: answered for name in compare.tested_of("math")}}

def test_the_means_of_seeds_and_their_errors_are_those_by_hand(tmp_path, monkeypatch):
    """svf gains 1, 0, 0 and ½ on the four problems, an independent error of √0.6875 / 4 (clustered ⅛), lora 1
    gains 1, 1, ½ and 0, clustered √(2 · 2 · 0.75²) / 4; their difference is 0, 1, ½ and −½, independent
    √1.25 / 4 (clustered ¼). The seeds of svf gained ¼ and ½, those of lora 1 ¾ and ½, which are ½ and 0 more:
    an error of ⅛, of ⅛ and of ¼, whose squares are added."""
    collapse = final("lora 16", 1, []) | {"collapsed": "too far"}
    records = [final("svf", 0, [1, 0, 0, 0]), final("svf", 1, [1, 0, 0, 1]),
               final("lora 1", 0, [1, 1, 1, 0]), final("lora 1", 1, [1, 1, 0, 0]),
               final("lora 16", 0, [1, 1, 1, 1]), collapse]
    (tmp_path / "compare.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    _, _, base, svf, lora, lora_16 = results.compare_gains_table("compare").splitlines()
    assert base.startswith("| the base model, % |  |  | 25.0 | ")  # half right, a quarter more than before
    assert svf.startswith("| svf | 9 | 0.1 | +37.5 ± 24.2 | ")
    assert svf.endswith("| +25.0 +50.0 | +25.0 +50.0 |")
    assert lora.startswith("| lora 1 | 9 | 0.1 | +62.5 ± 39.5 | ")
    assert lora_16.startswith("| lora 16 |  | 0.1 | 1 of 2 seeds collapsed | ")
    [beside] = results.compare_pairs_table("compare").splitlines()[2:]
    assert beside.startswith("| lora 1 | svf | +25.0 ± 37.5 | ")

@pytest.mark.parametrize("other, complaint", [({"steps": 2}, "several steps"),
                                              ({"lr": 0.2}, "at several rates")])
def test_runs_that_cannot_be_compared_make_no_table(other, complaint, tmp_path, monkeypatch):
    records = [final("svf", 0, [1, 0, 0, 0]), final("svf", 1, [1, 0, 0, 0]) | other]
    (tmp_path / "compare.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with pytest.raises(ValueError, match=complaint):
        results.compare_gains_table("compare")
