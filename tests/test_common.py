"""pytest tests/test_common.py: errors that count templates, base answers that are kept while they hold."""
import json
import math
import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import common
import svf
from rl import Answer
from tasks import get_task

def answers(rights):
    return [Answer([], [], [], "", 1 if right else -1, True) for right in rights]

def test_templates_that_stand_or_fall_together_count_once_each():
    """Four templates of 25 problems, two all right and two all wrong: n is 4 and not 100."""
    templates = [i // 25 for i in range(100)]
    values = [float(template < 2) for template in templates]
    assert common.clustered_error(values, templates) == pytest.approx(0.5 / math.sqrt(3))
    assert common.mean_and_error(values, templates) == (0.5, pytest.approx(0.5 / math.sqrt(3)))

def test_where_templates_do_not_matter_the_clustered_error_is_the_binomial_one():
    templates = [i % 50 for i in range(1000)]
    rng = random.Random(0)
    values = [float(rng.random() < 0.3) for _ in templates]
    binomial = math.sqrt(0.21 / 1000)
    assert common.clustered_error(values, templates) == pytest.approx(binomial, rel=0.35)
    assert common.clustered_error(values, [-1] * 1000) == 0

def test_a_gain_is_counted_problem_by_problem():
    base, better = answers([1, 0, 0, 0] * 25), answers([1, 1, 0, 0] * 25)
    mean, error = common.mean_and_error(common.gains(base, better), [-1] * 100)
    assert mean == pytest.approx(0.25) and error == pytest.approx(math.sqrt(0.25 * 0.75 / 100))

def test_layers_choose_blocks_and_nothing_else(tiny_folder):
    from formats.load import load
    from svf import MODULES
    model, _ = load(tiny_folder, "cpu")
    assert common.in_layers(model, MODULES["all"], "0-1") == [name for name, _ in svf.linears(
        model, MODULES["all"])]
    for layers in ("even", "0-0"):
        names = common.in_layers(model, MODULES["attn"], layers)
        assert names == [f"layers.0.attention.{name}" for name in MODULES["attn"]]
    wrapped = svf.wrap(model, common.in_layers(model, MODULES["all"], "1-1"))
    assert {name.split(".")[1] for name in svf.start(wrapped)} == {"1"} and len(svf.start(wrapped)) == 7
    for layers in ("odd", "1-0", "0-2", "2"):
        with pytest.raises(ValueError, match="a range of 0-1"):
            common.in_layers(model, MODULES["all"], layers)

def test_base_answers_are_kept_for_the_same_questions_only(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, tokenizer = tiny
    task = replace(get_task("math"), score=lambda problems, texts: [1, -1])
    made = []

    def answer_them():
        made.append(1)
        return answers([1, 0])
    first = task.problems("val", 2, 0)
    for asked in (first, first, task.problems("val", 2, 1)):
        assert common.kept_or_answered(answer_them, model, tokenizer, task, asked) == answers([1, 0])
    assert len(made) == 2
    tokenizer.use_template("{% for m in messages %}{{ m.content }}{% endfor %}")  # another prompt
    common.kept_or_answered(answer_them, model, tokenizer, task, first)
    assert len(made) == 3
    other_verdicts = replace(task, score=lambda problems, texts: [-1, 1])
    assert common.kept_or_answered(answer_them, model, tokenizer, other_verdicts, first) == answers([0, 1])
    assert len(made) == 3  # a kept answer is graded anew
    assert [path.suffix for path in tmp_path.rglob("*.*")] == [".json"] * 3  # nothing half-written

FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
import common
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # a disk with room for 100 bytes
common.append(sys.argv[2], {"whole": "x" * 50})
try:
    common.append(sys.argv[2], {"half": "y" * 50})
except OSError as error:
    print(error)
"""

def test_a_cache_that_takes_no_file_costs_a_note_and_no_answer(tiny, tmp_path, monkeypatch, capsys):
    model, tokenizer = tiny
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "nano-t2").write_text("a file where the folder should be")
    task = get_task("math")
    problems = task.problems("val", 2, 0)
    kept = common.kept_or_answered(lambda: answers([True, False]), model, tokenizer, task, problems)
    assert [a.r for a in kept] == [1, -1] and "are not kept for the next run" in capsys.readouterr().out

def test_memory_that_is_not_there_is_one_sentence_on_a_cpu_too(capsys):
    def ask_for_a_petabyte():
        torch.empty(1 << 48)

    with pytest.raises(SystemExit) as end:
        common.run_main(ask_for_a_petabyte)
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: out of memory")

@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit on files stands for a full disk")
def test_a_line_that_the_disk_has_no_room_for_leaves_no_half_of_it(tmp_path):
    log = tmp_path / "log.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(common.ROOT), str(log)], capture_output=True,
                          text=True)
    assert "the disk is full" in done.stdout, done.stderr
    assert log.read_text() == json.dumps({"whole": "x" * 50}) + "\n"
