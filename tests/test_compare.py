"""pytest tests/test_compare.py: every method of the comparison runs, chooses a rate, and is not run again."""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import compare  # noqa: E402
import plot  # noqa: E402
import results  # noqa: E402
from common import TEST_SEED, rows_of, templates_of  # noqa: E402
from tasks import get_task  # noqa: E402

def compared(monkeypatch, tiny_folder, out, *more):
    monkeypatch.setenv("XDG_CACHE_HOME", str(out.parent / "cache"))  # base answers are not the user's
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
    assert all({"unseen", "heldout", "code", "reasoning", "parameters"} <= record.keys() for record in final)
    assert compared(monkeypatch, tiny_folder, tmp_path / "log.jsonl", "--only", name) == records

def test_another_task_is_learned_and_math_may_be_forgotten(tiny_folder, tmp_path, monkeypatch):
    log = tmp_path / "log.jsonl"
    of_math = compared(monkeypatch, tiny_folder, log, "--only", "svf")
    records = compared(monkeypatch, tiny_folder, log, "--only", "svf", "--task", "reasoning")
    of_reasoning = rows_of(records, task="reasoning")
    assert len(of_reasoning) == len(of_math) == len(records) / 2  # what one task has done is not the other's
    tested = [name for name, value in of_reasoning[-1].items() if isinstance(value, dict) and "gains" in value]
    assert tested == ["heldout", "unseen", "math", "code"]
    assert set(of_reasoning[-1]["unseen"]["templates"]) == set(
        templates_of(get_task("reasoning").problems("test", 4, TEST_SEED)))

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

def test_a_log_becomes_a_table_a_grid_and_a_picture(tiny_folder, tmp_path, monkeypatch):
    log = tmp_path / "compare.jsonl"
    records = compared(monkeypatch, tiny_folder, log, "--only", "svf;lora 1 by sft")
    collapsed = {"method": "lora 16", "stage": "grid", "lr": 1.0, "val": 0.0, "collapsed": "too far"}
    log.write_text("".join(json.dumps(record) + "\n" for record in [*records, collapsed]))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(plot, "RESULTS", tmp_path)
    head, _, *rows = results.compare_table().splitlines()
    assert [row.split(" | ")[0] for row in rows] == ["| the base model, %", "| svf", "| lora 1 by sft"]
    assert all(row.count("|") == head.count("|") for row in rows)
    [of_seeds] = [row for row in rows if "sft" in row]
    [numbers] = {record["parameters"] for record in rows_of(records, method="lora 1 by sft", stage="final")}
    assert f"| {numbers:,} |" in of_seeds
    differences = results.compare_svf_table().splitlines()[2:]
    assert len(differences) == 1 and differences[0].startswith("| lora 1 by sft | ")
    assert "| svf | " in results.compare_costs_table() and " | 1.00 | " in results.compare_costs_table()
    assert "1: collapsed" in results.compare_rates_table()
    pytest.importorskip("matplotlib")
    plot.plot_compare(plot.import_pyplot())
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
