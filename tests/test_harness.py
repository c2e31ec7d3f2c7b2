"""pytest tests/test_harness.py: errors that count templates, base answers that are kept while they hold."""
import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

import svf
import train
from formats.load import load
from harness import answers as answers_room
from harness.answers import greedy_answers
from harness.flags import ROOT, find_folder, run_main
from harness.report import warning_of
from harness.scores import clustered_error, gains, mean_and_error, over_runs
from model import Sampling
from rl import Answer, Learner, reinforce
from scripts.adapters import in_layers
from tasks.catalog import get_task

def answers(rights):
    return [Answer([], [], [], "", 1 if right else -1, True) for right in rights]

def test_templates_that_stand_or_fall_together_count_once_each():
    """Four templates of 25 problems, two all right and two all wrong: n is 4 and not 100."""
    templates = [i // 25 for i in range(100)]
    values = [float(template < 2) for template in templates]
    assert clustered_error(values, templates) == pytest.approx(0.5 / math.sqrt(3))
    assert mean_and_error(values, templates) == (0.5, pytest.approx(0.5 / math.sqrt(3)))

def test_the_error_of_several_runs_counts_runs_and_templates():
    """Drawn anew many times, with runs and templates of known variance, the mean lies about as far from the
    truth as its error says; an error over problems alone says less than half of that."""
    rng = random.Random(0)
    templates = [i // 8 for i in range(96)]
    means, errors, of_problems = [], [], []
    for _ in range(400):
        of_template = [rng.gauss(0, 0.1) for _ in range(12)]
        runs = []
        for _ in range(4):
            luck = rng.gauss(0, 0.2)
            runs.append([luck + of_template[t] + rng.gauss(0, 0.3) for t in templates])
        found = over_runs(runs, templates)
        means.append(found.mean)
        errors.append(found.error ** 2)
        of_problems.append(mean_and_error([fmean(values) for values in zip(*runs)], templates)[1] ** 2)
    truth = fmean(mean ** 2 for mean in means)
    assert fmean(errors) == pytest.approx(truth, rel=0.15)
    assert fmean(of_problems) < 0.25 * truth

def test_one_run_says_nothing_of_others():
    found = over_runs([[1, 0, 1, 0]], [0, 0, 1, 1])
    assert (found.mean, found.worst, math.isnan(found.sd)) == (0.5, 0.5, True)

def test_where_templates_do_not_matter_the_clustered_error_is_the_binomial_one():
    templates = [i % 50 for i in range(1000)]
    rng = random.Random(0)
    values = [float(rng.random() < 0.3) for _ in templates]
    binomial = math.sqrt(0.21 / 1000)
    assert clustered_error(values, templates) == pytest.approx(binomial, rel=0.35)
    assert clustered_error(values, [-1] * 1000) == 0

def test_a_gain_is_counted_problem_by_problem():
    base, better = answers([1, 0, 0, 0] * 25), answers([1, 1, 0, 0] * 25)
    mean, error = mean_and_error(gains(base, better), [-1] * 100)
    assert mean == pytest.approx(0.25) and error == pytest.approx(math.sqrt(0.25 * 0.75 / 100))

def test_layers_choose_blocks_and_nothing_else(tiny_folder):
    model, _ = load(tiny_folder, "cpu")
    assert in_layers(model, svf.MODULES["all"], "0-1") == [name for name, _ in svf.linears(
        model, svf.MODULES["all"])]
    for layers in ("even", "0-0"):
        names = in_layers(model, svf.MODULES["attn"], layers)
        assert names == [f"layers.0.attention.{name}" for name in svf.MODULES["attn"]]
    wrapped = svf.wrap(model, in_layers(model, svf.MODULES["all"], "1-1"))
    assert {name.split(".")[1] for name in svf.start(wrapped)} == {"1"} and len(svf.start(wrapped)) == 7
    for layers in ("odd", "1-0", "0-2", "2"):
        with pytest.raises(ValueError, match="a range of 0-1"):
            in_layers(model, svf.MODULES["all"], layers)

def test_base_answers_are_kept_for_the_same_questions_only(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = replace(get_task("math"), score=lambda problems, texts: [1, -1])
    learner = Learner(*tiny, svf, task, Sampling(0.7), None, reinforce)
    made = []

    def counted(*_):
        made.append(1)
        return answers([1, 0])
    monkeypatch.setattr(answers_room, "answer_with_adapter", counted)
    first = task.problems("val", 2, 0)
    for asked in (first, first, task.problems("val", 2, 1)):
        assert greedy_answers(learner, {}, asked, "") == answers([1, 0])
    assert len(made) == 2
    learner.tokenizer.use_template("{% for m in messages %}{{ m.content }}{% endfor %}")  # another prompt
    greedy_answers(learner, {}, first, "")
    assert len(made) == 3
    learner.task = replace(task, score=lambda problems, texts: [-1, 1])
    assert greedy_answers(learner, {}, first, "") == answers([0, 1])
    assert len(made) == 3  # a kept answer is graded anew
    greedy_answers(learner, {"w": torch.ones(1)}, first, "")
    assert len(made) == 4  # an expert's answers are never read from what the base model said
    files = list(tmp_path.rglob("*.*"))
    assert [path.suffix for path in files] == [".json"] * 3  # nothing half-written
    for file in files:
        file.write_text("")
    assert greedy_answers(learner, {}, first, "") == answers([1, 0])  # answered, as the file is damaged
    assert len(made) == 5

FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from harness.logs import append
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # a disk with room for 100 bytes
append(sys.argv[2], {"whole": "x" * 50})
try:
    append(sys.argv[2], {"half": "y" * 50})
except OSError as error:
    print(error)
"""

def test_a_cache_that_takes_no_file_costs_a_note_and_no_answer(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "nano-t2").write_text("a file where the folder should be")
    task = replace(get_task("math"), max_new_tokens=3)
    learner = Learner(*tiny, svf, task, Sampling(0.7), None, reinforce)
    kept = greedy_answers(learner, {}, task.problems("val", 2, 0), "")
    assert len(kept) == 2 and "are not kept for the next run" in capsys.readouterr().out

def test_memory_that_is_not_there_is_one_sentence_on_a_cpu_too(capsys):
    def ask_for_a_petabyte():
        torch.empty(1 << 48)

    with pytest.raises(SystemExit) as end:
        run_main(ask_for_a_petabyte)
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: out of memory")

@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit on files stands for a full disk")
def test_a_line_that_the_disk_has_no_room_for_leaves_no_half_of_it(tmp_path):
    log = tmp_path / "log.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(ROOT), str(log)], capture_output=True,
                          text=True)
    assert "the disk is full" in done.stdout, done.stderr
    assert log.read_text() == json.dumps({"whole": "x" * 50}) + "\n"

def test_default_folders_are_found_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_folder("experts") == ROOT / "experts"
    (tmp_path / "experts").mkdir()
    assert find_folder("experts") == Path("experts")

def test_a_step_that_teaches_nothing_says_so():
    assert "nothing to learn" in warning_of({"telling": 0.0, "finished": 1.0})
    assert warning_of({"telling": 0.5, "finished": 1.0}) == ""
    assert "run into the cap" in warning_of({"telling": 0.5, "finished": 0.1})

def test_quick_gives_way_to_what_was_typed_even_a_default(monkeypatch):
    for typed, steps in (([], 4), (["--steps", "32"], 32), (["--steps", "7"], 7)):
        monkeypatch.setattr("sys.argv", ["train.py", "--quick", *typed])
        assert train.read_config().steps == steps and train.read_config().n_val == 32
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert train.read_config().n_val == 256
