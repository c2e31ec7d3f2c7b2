"""pytest tests/test_compare.py: every method of the comparison runs, chooses a rate, and is not run again."""
import json
import sys

import pytest

import compare
from plot import rows_of

def compared(monkeypatch, tiny_folder, out, *more):
    monkeypatch.setattr(sys, "argv", ["compare.py", "--model", str(tiny_folder), "--steps", "1", "--rollouts",
                                      "16", "--rates", "3", "--n-val", "4", "--n-test", "4", "--dtype",
                                      "float32", "--out", str(out), *more])
    compare.main()
    return [json.loads(line) for line in out.read_text().splitlines()]

@pytest.mark.parametrize("name", ["svf", "lora 16 qv", "svf by es", "lora 1 by sft"])
def test_a_method_has_a_grid_and_three_seeds_and_is_done_once(name, tiny_folder, tmp_path, monkeypatch):
    records = compared(monkeypatch, tiny_folder, tmp_path / "log.jsonl", "--only", name)
    grid, final = rows_of(records, stage="grid"), rows_of(records, stage="final")
    assert len({record["lr"] for record in grid}) == len(grid) == 3  # all equal: the middle is the best
    assert [record["seed"] for record in final] == [0, 1, 2]
    assert {record["lr"] for record in final} == {compare.METHODS[name].rate}
    assert all({"test", "heldout", "code", "reasoning", "parameters"} <= record.keys() for record in final)
    assert compared(monkeypatch, tiny_folder, tmp_path / "log.jsonl", "--only", name) == records

def test_the_grid_grows_until_the_best_rate_is_within_it(monkeypatch, tmp_path):
    """An accuracy that is highest at ten times the expected rate."""
    comparison = compare.Comparison(compare.Config(out=str(tmp_path / "log.jsonl"), rates=3), "svf", None)
    monkeypatch.setattr(compare.Comparison, "budget", lambda self: {"method": "svf"})
    tried = []

    def validated(rate):
        tried.append(rate)
        with open(tmp_path / "log.jsonl", "a") as log:
            val = 1 / (1 + abs(rate - 0.04))
            log.write(json.dumps({"method": "svf", "stage": "grid", "lr": rate, "val": val}) + "\n")
    monkeypatch.setattr(comparison, "validated", validated)
    assert comparison.best_rate() == pytest.approx(0.04)
    assert max(tried) == pytest.approx(0.04 * 10 ** 0.5) and len(tried) == 5
