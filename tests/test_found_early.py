"""pytest tests/test_found_early.py: a run that will fail says so before its first step, and why."""
import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import INVISIBLE, expert_metadata, train_flags, write_silence
from test_scripts import ROOT, run
from test_vision import random_eyes, write_picture, write_rows_with_pictures

import parallel.processes
from formats.default_model import cache_folder
from formats.experts import save_expert
from formats.eyes import save_eyes
from formats.load import load
from harness.answers import check_rows
from harness.runs import check_same_inputs, inputs_of
from scripts.sample import unquoted
from tasks.catalog import get_task
from tasks.dispatch import Category, dispatch_task
from train import Config
from vision.seeing import give_eyes

def with_row(path, row):
    """A file of good rows and, as the 121st, this one."""
    write_silence(path)
    path.write_text(path.read_text() + "\n" + json.dumps(row))
    return path

@pytest.mark.parametrize("question, said", [
    ("x" * 9000, "do not fit the model's 8192; shorten or remove the row"),
    ("a\ue000b\U000f0001", "private planes")])
def test_a_row_that_cannot_be_read_is_named_before_the_first_step(tiny_folder, tmp_path, question, said):
    rows = with_row(tmp_path / "own.jsonl", {"question": question, "answer": INVISIBLE})
    done = run("train.py", *train_flags(tiny_folder, rows, tmp_path / "run"))
    assert done.returncode == 2 and f"{rows} line 121" in done.stderr and said in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()

def test_more_problems_than_a_task_has_are_refused_before_the_first_step(tiny_folder, tmp_path):
    flags = ["--model", tiny_folder, "--dtype", "float32", "--out", tmp_path / "run"]
    for asked in (["--n-test", 6000], ["--n-val", 6000]):
        done = run("train.py", *flags, *asked)
        assert done.returncode == 2 and "6000 problems of math are too many" in done.stderr, done.stderr
        assert not (tmp_path / "run").exists()
    done = run("sample.py", "--adapt", "cem", "--n", 6000)
    assert done.returncode == 2 and "6000 problems of reasoning_hard are too many" in done.stderr

def test_rows_of_every_split_and_of_real_sets_are_read(tiny, tmp_path):
    model, tokenizer = tiny
    rows = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(50)]
    long = {"question": "x" * 9000, "answer": "#### 3"}
    for name, of_file in (("gsm8k_train", rows), ("gsm8k_test", [*rows, long])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, of_file)))
    with pytest.raises(ValueError, match="gsm8k_test.jsonl line 51: 9.* prompt tokens and 256 new ones"):
        check_rows(model, tokenizer, get_task("gsm8k", str(tmp_path)))
    assert get_task("math").rows() == []  # generated problems are ours, and short

def test_the_question_of_dispatch_is_read_with_every_row_of_a_file(real, tmp_path):
    """What fits alone may not fit behind the examples of the categories."""
    model, tokenizer = real
    file = with_row(tmp_path / "own.jsonl", {"question": "word " * 8110, "answer": INVISIBLE})
    check_rows(model, tokenizer, get_task(str(file)))
    categories = [Category("own", ["a " * 40, "b"], str(file)), Category("math", ["c", "d"], "math")]
    with pytest.raises(ValueError, match="own.jsonl line 121"):
        check_rows(model, tokenizer, dispatch_task(categories))

def test_an_image_that_is_damaged_is_named_before_the_first_step(tiny_folder, tmp_path):
    model, _ = load(tiny_folder, "cpu")
    save_eyes(tmp_path / "eyes.safetensors", random_eyes(), model.fingerprint)
    write_rows_with_pictures(tmp_path)
    (tmp_path / "77.png").write_bytes((tmp_path / "77.png").read_bytes()[:60])
    done = run("scripts.train", *train_flags(tiny_folder, tmp_path / "own.jsonl", tmp_path / "run"), "--eyes",
               tmp_path / "eyes.safetensors")
    assert done.returncode == 2 and "own.jsonl line 78" in done.stderr and "77.png" in done.stderr
    assert not (tmp_path / "run").exists()

def test_questions_that_were_edited_do_not_resume(tiny_folder, tmp_path):
    rows = write_silence(tmp_path / "own.jsonl")
    flags = train_flags(tiny_folder, rows, tmp_path / "run")
    assert run("train.py", *flags).returncode == 0
    rows.write_text(rows.read_text() + "\n" + json.dumps({"question": "One more?", "answer": INVISIBLE}))
    done = run("train.py", *flags, "--resume")
    assert done.returncode == 2 and f"{rows} has changed since" in done.stderr, done.stderr

def test_a_log_whose_state_is_gone_is_not_cut_away(tiny_folder, silence, tmp_path):
    flags = train_flags(tiny_folder, silence, tmp_path / "run")
    assert run("train.py", *flags).returncode == 0
    (tmp_path / "run" / "state.pt").unlink()
    log = (tmp_path / "run" / "log.jsonl").read_text()
    done = run("train.py", *flags)
    assert done.returncode == 2 and "the log of a run but not its state" in done.stderr
    assert (tmp_path / "run" / "log.jsonl").read_text() == log

def test_a_run_goes_on_on_another_device_and_in_another_place(tiny_folder, silence, tmp_path):
    """As one that several processes, each with a GPU of its own, have begun; and from another folder, where
    the repository's experts have another path."""
    flags = train_flags(tiny_folder, silence, tmp_path / "run")
    assert run("train.py", *flags, "--device", "cpu").returncode == 0
    (tmp_path / "run").rename(tmp_path / "moved")
    done = run("train.py", *train_flags(tiny_folder, silence, tmp_path / "moved"), "--resume",
               cwd=tmp_path)
    assert done.returncode == 0, done.stderr

def test_every_file_that_decides_what_is_learned_is_an_input(tiny, tmp_path):
    write_picture(tmp_path / "a.png")
    rows = [{"question": f"{i}?", "answer": "yes", "image": "a.png"} for i in range(20)]
    own, template = tmp_path / "own.jsonl", tmp_path / "t.jinja"
    own.write_text("\n".join(map(json.dumps, rows)))
    template.write_text("{{ messages }}")
    config = Config(task=str(own), chat_template=str(template))
    before = inputs_of(config, get_task(str(own)))
    assert before.keys() == {str(own), str(template), str(tmp_path / "a.png")}
    write_picture(tmp_path / "a.png", "blue")
    with pytest.raises(ValueError, match="a.png has changed since here was begun"):
        check_same_inputs("here", before, inputs_of(config, get_task(str(own))))
    save_expert(tmp_path / "math.safetensors", {}, expert_metadata(tiny[0]))
    save_expert(tmp_path / "mixed.safetensors", {}, expert_metadata(
        tiny[0], kind="mixture", description="found", mixture={"math": 0.5}))  # dispatch does not choose it
    dispatch = Config(task="dispatch", experts=str(tmp_path))
    categories = [Category("own", ["a", "b"], str(own))]
    assert dispatch_task(categories).splits == get_task(str(own)).splits  # which lacks heldout
    assert inputs_of(dispatch, dispatch_task(categories)).keys() == {
        str(own), str(tmp_path / "math.safetensors")}  # it asks about requests, and looks at no image

def test_without_a_home_folder_answers_are_not_kept_and_nothing_fails(tiny_folder, silence, tmp_path,
                                                                      monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", classmethod(no_home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(FileNotFoundError, match="name another one by XDG_CACHE_HOME"):
        cache_folder()
    program = ("import pathlib, runpy, sys\n"
               "def no_home(cls): raise RuntimeError('Could not determine home directory.')\n"
               "pathlib.Path.home = classmethod(no_home)\n"
               f"sys.argv[0] = 'train.py'\nsys.path.insert(0, {str(ROOT)!r})\n"
               f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n")
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    flags = map(str, train_flags(tiny_folder, silence, tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, text=True,
                          env=environment)
    assert done.returncode == 0, done.stderr
    assert "not kept for the next run: there is no home folder" in done.stdout
    assert (tmp_path / "run" / "silence.safetensors").exists()

def no_home(cls):
    raise RuntimeError("Could not determine home directory.")

def test_a_process_that_is_slow_is_not_taken_for_a_dead_one(monkeypatch):
    """No patience of our own: PyTorch's is half an hour, and torchrun notices the dead."""
    asked = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **how: asked.update(how))
    monkeypatch.setattr(parallel.processes.atexit, "register", lambda *_: None)
    parallel.processes.start()
    assert "timeout" not in asked

# -- images in a chat ----------------------------------------------------------------------------------------

def test_an_image_that_was_saved_anew_is_another_image(tiny, tmp_path):
    model, tokenizer = tiny
    give_eyes(model, tokenizer, random_eyes())
    path = write_picture(tmp_path / "a.png", "red")
    red = tokenizer.image_ids(path)
    assert tokenizer.image_ids(path) == red
    write_picture(tmp_path / "a.png", "blue")
    os.utime(path, ns=(1, 1))  # even where a clock is too coarse to tell
    blue = tokenizer.image_ids(path)
    assert blue != red
    assert not torch.equal(model.tok_embeddings(torch.tensor(red)), model.tok_embeddings(torch.tensor(blue)))
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match="a.png does not exist"):
        tokenizer.image_ids(path)

@pytest.mark.parametrize("typed", ["'{}/a cat.png'", '"{}/a cat.png"', "{}/a\\ cat.png", "{}/a cat.png",
                                   "  {}/a cat.png  ", "file://{}/a%20cat.png"])
def test_a_path_is_read_as_terminals_paste_it(tmp_path, typed):
    (tmp_path / "a cat.png").write_text("")
    assert unquoted(typed.format(tmp_path)) == str(tmp_path / "a cat.png")

def test_a_tilde_is_the_home_folder_and_a_quote_may_be_part_of_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert unquoted("~/cat.png") == unquoted("'~/cat.png'") == str(tmp_path / "cat.png")
    (tmp_path / "it's (1).png").write_text("")
    assert unquoted(f"{tmp_path}/it\\'s\\ \\(1\\).png") == unquoted(f"{tmp_path}/it's (1).png")
    (tmp_path / "back\\slash.png").write_text("")
    assert unquoted(f"{tmp_path}/back\\slash.png") == str(tmp_path / "back\\slash.png")
