"""pytest tests/test_scripts.py: the scripts as a user meets them, on the tiny model; and a README that stays
true."""
import ast
import json
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import expert_metadata, random_z, train_flags

from formats.experts import read_expert, save_expert
from formats.load import load
from svf import MODULES, wrap
from tasks.catalog import get_task

ROOT = Path(__file__).parent.parent
SCRIPTS = ["train.py", "sample.py", "scripts.train", "scripts.sample", "scripts.eval", "scripts.bench",
           "scripts.compare", "scripts.plot", "scripts.make_eyes", "scripts.signal_share", "scripts.runs",
           "scripts.spectrum", "scripts.pictures"]
ROOMS = [".", "tasks", "formats", "harness", "baselines", "vision", "parallel", "scripts"]
FOLDERS = [*ROOMS, "tests", "tools", "examples"]

@pytest.fixture(autouse=True, scope="module")
def cache_of_the_tests(tmp_path_factory):
    """Base answers of little models do not belong in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield

def command(script, *flags):
    """What starts train.py or sample.py from anywhere, or, in the repository, scripts.NAME."""
    name = ["-m", script] if script.startswith("scripts.") else [str(ROOT / script)]
    return [sys.executable, *name, *map(str, flags)]

def run(script, *flags, cwd=ROOT):
    return subprocess.run(command(script, *flags), cwd=cwd, capture_output=True, text=True, timeout=120)

def run_here(monkeypatch, capsys, script, *flags):
    """The script in this process, without a second import of torch -> (exit code, what it said)."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        if script.startswith("scripts."):
            runpy.run_module(script, run_name="__main__")
        else:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    return end.value.code, capsys.readouterr()

@pytest.mark.parametrize("script, flags, named", [
    ("train.py", ["--task", "mth"], "no task is named 'mth'"),
    ("train.py", ["--task", "gsm8k", "--data", "/nowhere"], "gsm8k_train.jsonl"),
    ("train.py", ["--model", "/nowhere"], "/nowhere does not exist"),
    ("train.py", ["--device", "tpu"], "--device tpu"),
    ("train.py", ["--dtype", "float16"], "--dtype float16"),
    ("scripts.train", ["--modules", "none"], "--modules none"),
    ("train.py", ["--modules", "mlp"], "--modules is a flag of python -m scripts.train"),
    ("train.py", ["--tensor-parallel"], "--tensor-parallel is a flag of python -m scripts.train"),
    ("sample.py", ["--show", "mixed"], "--show is a flag of python -m scripts.sample"),
    ("train.py", ["--resume"], "nothing to resume"),
    ("train.py", ["--temperature", "0"], "--temperature must be between 0.01 and 10, not 0"),
    ("train.py", ["--out", "/dev/null/run", "--model", "/nowhere"], "/dev/null is a file"),
    ("train.py", ["--rollouts", "63"], "--rollouts 63 cannot be shared by 4 answers to each problem"),
    ("scripts.train", ["--adapter", "nobody"], "there is no nobody.py"),
    ("scripts.train", ["--adapter", "./examples/channels.py"], "write the module's name, as examples"),
    ("scripts.eval", ["--dispatch", "--shots", "3"], "leave out --shots"),
    ("scripts.sample", ["--generations", "9", "hi"], "--generations belong to a search"),
    ("scripts.pictures", [], "name an expert of easy_vqa"),
    ("scripts.train", ["--adapter", "rl"], "has no function wrap"),
    ("train.py", ["--task", "own.jsonl"], "own.jsonl does not exist; name a jsonl file"),
    ("train.py", ["--steps", "0"], "--steps must be between 1 and 1e+06, not 0"),
    ("train.py", ["--lr", "nan"], "--lr must be between 1e-09 and 1, not nan"),
    ("train.py", ["--kl", "inf"], "--kl must be between 0 and 10, not inf"),
    ("train.py", ["--rollouts", "1" + "0" * 30], "--rollouts must be between 1 and 1e+06"),
    ("scripts.train", ["--rank", "4"], "--rank belongs to --adapter lora"),
    ("scripts.train", ["--objective", "sft", "--learner", "es"], "leave one of them out"),
    ("scripts.train", ["--objective", "dpo"], "choose reward or sft"),
    ("scripts.train", ["--learner", "ppo"], "choose reinforce or es"),
    ("scripts.train", ["--learner", "es", "--adapter", "lora"], "--adapter is not for --learner es"),
    ("scripts.train", ["--learner", "es", "--rollouts", "40"], "--rollouts 40 is no multiple of 16"),
    ("scripts.train", ["--task", "dispatch", "--basis", "random"], "--basis is not for --task dispatch"),
    ("scripts.train", ["--task", "dispatch", "--adapter", "lora"], "--adapter is not for --task dispatch"),
    ("scripts.train", ["--task", "dispatch", "--objective", "sft"], "--objective is not for --task dispatch"),
    ("scripts.eval", ["--instructions", "--tasks", "math", "--rows", "cem"], "leave out --rows, --split and"),
    ("scripts.sample", ["--export", "/tmp/nowhere", "--expert", "math", "2 + 2?"], "leave out the prompt"),
    ("scripts.train", ["--learner", "es", "--kl", "0.1"], "--kl has no part in"),
    ("scripts.train", ["--basis", "wavelet"], "--basis wavelet is not known"),
    ("sample.py", ["-5+3=?"], "a prompt that begins with a dash goes behind --"),
    ("sample.py", [""], "the prompt is empty"),
    ("train.py", ["--task", "math_hard"], "--task math_hard is only for evaluation"),
    ("sample.py", ["--adapt", "cem", "--task", "x.jsonl"], "x.jsonl does not exist; name a jsonl file"),
    ("sample.py", ["--adapt", "prompt", "--expert", "math"], "--expert answers alone"),
    ("sample.py", ["--adapt", "cem", "hi"], "needs examples like the prompt"),
    ("scripts.sample", ["--save", "mine"], "--save, --per-block and --generations belong to"),
    ("scripts.sample", ["--show", "nobody"], "nobody.safetensors"),
    ("scripts.sample", ["--adapt", "prompt", "--export", "folder"], "give one"),
    ("scripts.eval", ["--tasks", "math,mth"], "no task is named 'mth'"),
    ("scripts.eval", ["--tasks", "math,math_hard", "--split", "heldout"], "math_hard has no split 'heldout'"),
    ("scripts.eval", ["--rows", "bse"], "bse"),
    ("scripts.eval", ["--dispatch", "--rows", "base"], "leave out"),
    ("scripts.bench", ["--plan", "nowhere", "--dtype", "int8"], "--dtype int8 is not supported"),
    ("scripts.bench", ["--plan", "nowhere"], "nowhere is no params.json"),
    ("sample.py", ["--adapt", "magic"], "--adapt magic"),
    ("sample.py", ["--adapt", "cem", "--show-prompt"], "--show-prompt belongs to a prompt"),
    ("scripts.sample", ["--adapt", "cem", "--save", "math"], "there is an expert math in"),
    ("scripts.sample", ["--adapt", "cem", "--save", "other"], "choose another name"),
    ("train.py", ["--rollouts", "1", "--group", "1"], "has no other answer to be compared with"),
    ("train.py", ["--task", "dispatch", "--group", "3"], "--rollouts 64 cannot be shared by 3 answers"),
    ("train.py", ["--rollouts", "1"], "--rollouts 1 has no other answer to be compared with"),
    ("scripts.train", ["--tensor-parallel"], "among several processes; start them: torchrun"),
    ("scripts.train", ["--task", "dispatch", "--modules", "attn"], "--modules is not for --task dispatch"),
    ("scripts.sample", ["--adapt", "cem", "--save", "../x"], "--save ../x is no name of an expert"),
    ("scripts.signal_share", ["--settings", "16x4,1x1"], "'1x1' is no setting"),
    ("scripts.make_eyes", ["--resume"], "nothing to resume"),
    ("scripts.runs", ["out/nothing-?"], "'out/nothing-?' is no folder of a finished run"),
    ("scripts.compare", ["--only", "svf; lora 2"], "--only lora 2 is no method"),
    ("scripts.compare", ["--rollouts", "30"], "--rollouts 30 is no multiple of 16"),
    ("scripts.compare", ["--n-test", "1"], "--n-test must be between 2"),
])
def test_a_wrong_input_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, script, flags, named):
    monkeypatch.chdir(tmp_path)
    code, said = run_here(monkeypatch, capsys, script, *flags)
    assert code == 2 and said.err.count("\n") == 1 and named in said.err
    assert list(tmp_path.iterdir()) == []

def test_a_wrong_input_shows_no_traceback_in_a_shell(tmp_path):
    done = run("train.py", "--task", "mth", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "no task is named 'mth'" in done.stderr

def write_run(folder, gains, lr=0.1, finished=True):
    """The log of a run of train.py in which four problems of two templates gained so much."""
    end = {"command": "python train.py", "machine": {"dtype": "float32"}}
    records = [{"config": {"lr": lr, "seed": int(folder.name), "out": str(folder)}}, {"step": 0},
               {"task": "math", "split": "test", "gain": 0.0, "gains": gains, "templates": [0, 0, 1, 1]}]
    folder.mkdir()
    lines = [json.dumps(record) + "\n" for record in records + [end] * finished]
    (folder / "log.jsonl").write_text("".join(lines))

def test_several_runs_are_told_by_their_mean_their_spread_and_the_worst(tmp_path):
    """Runs that gained ¼, ½ and ¾, problems that gained 1, 2/3, 1/3 and 0: the runs' deviation is ¼, the
    error over templates √(2 · 2 · (2/3)²) / 4 = 1/3, and so the mean's error √(1/48 + 1/9)."""
    write_run(tmp_path / "0", [1, 0, 0, 0])
    write_run(tmp_path / "1", [1, 1, 0, 0])
    write_run(tmp_path / "2", [1, 1, 1, 0])
    write_run(tmp_path / "3", [0, 0, 0, 0], finished=False)
    done = run("scripts.runs", tmp_path / "?")
    assert f"{tmp_path / '3'} has no finished run; left out" in done.stdout
    assert "math test: +50.0 ± 36.3 points, mean of 3 runs; their standard deviation 25.0, worst +25.0 " \
           "(each: +25.0 +50.0 +75.0)" in done.stdout

def test_runs_of_two_commands_are_not_put_together(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "0", [1, 0, 0, 0])
    write_run(tmp_path / "1", [1, 1, 0, 0], lr=0.2)
    code, said = run_here(monkeypatch, capsys, "scripts.runs", tmp_path / "?")
    assert code == 2 and "differ in lr (0.1 and 0.2), so they are no runs of one command" in said.err

def source_of(script):
    file = script.replace(".", "/") + ".py" if script.startswith("scripts.") else script
    return (ROOT / file).read_text()

@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_flag_and_every_flag_is_used(script, monkeypatch, capsys):
    """Flags of the script's own Config; a flag may be used in the rooms that the config is handed to."""
    source = source_of(script)
    rooms = [path.read_text() for path in [*ROOT.glob("harness/*.py"), ROOT / "scripts" / "adapters.py"]]
    uses = "\n".join([source, *rooms, source_of("train.py"), source_of("sample.py")])
    _, said = run_here(monkeypatch, capsys, script, "--help")
    config = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Config")
    for field in config.body:
        name = field.target.id
        is_flag = field.value.func.id == "flag"
        assert (f"  --{name.replace('_', '-')}" if is_flag else f"[{name}]") in said.out
        assert re.search(rf"(config|choice)\.{name}\b", uses), f"{name} is dead"

def test_a_killed_run_resumes_to_the_same_expert_bit_for_bit(tiny_folder, silence, tmp_path, monkeypatch,
                                                                  capsys):
    whole = run("train.py", *train_flags(tiny_folder, silence, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    child = subprocess.Popen(command("train.py", *train_flags(tiny_folder, silence, tmp_path / "killed")),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "killed" / "log.jsonl"
    while child.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 4):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed" / "silence.safetensors").exists()
    for more, named in ([], "go on with --resume"), (["--resume", "--seed", "5"], "seed = 0"):
        flags = [*train_flags(tiny_folder, silence, tmp_path / "killed"), *more]
        code, said = run_here(monkeypatch, capsys, "train.py", *flags)
        assert code == 2 and named in said.err
    resumed = run("train.py", *train_flags(tiny_folder, silence, tmp_path / "killed"), "--resume")
    assert resumed.returncode == 0 and "going on after step" in resumed.stdout
    states = []
    for name in ("whole", "killed"):
        states.append(torch.load(tmp_path / name / "state.pt", weights_only=True)["state"])
        steps = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        assert [s["step"] for s in steps if "step" in s] == list(
            range(len([s for s in steps if "step" in s])))
    assert all((z != 1).any() for z in states[0]["z"].values())  # there was something to learn
    for key in ("z", "best"):
        assert all(torch.equal(states[0][key][n], states[1][key][n]) for n in states[0][key])
    assert "python sample.py" in whole.stdout and (tmp_path / "whole" / "silence.safetensors").exists()

def test_ctrl_c_leaves_a_state_to_resume_from(tiny_folder, silence, tmp_path):
    child = subprocess.Popen(command("train.py", *train_flags(tiny_folder, silence, tmp_path / "run")),
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                             # a shell that started the tests in the background would have SIGINT ignored
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    state = tmp_path / "run" / "state.pt"
    while child.poll() is None and not state.exists():
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "interrupted" in said and "Traceback" not in said
    saved = torch.load(state, weights_only=True)
    assert saved.keys() == {"state", "config", "logged", "fingerprint", "inputs", "seconds"}
    assert run("train.py", *train_flags(tiny_folder, silence, tmp_path / "run"), "--resume").returncode == 0

@pytest.fixture(scope="module")
def begun(tiny_folder, silence, tmp_path_factory):
    """A finished little run, to be copied and damaged."""
    folder = tmp_path_factory.mktemp("runs") / "begun"
    done = run("train.py", *train_flags(tiny_folder, silence, folder))
    assert done.returncode == 0, done.stderr
    return folder

def nothing(saved):
    saved.clear()

def not_a_number(saved):
    for values in saved["state"]["z"].values():
        values.fill_(float("nan"))

def before_the_start(saved):
    saved["state"]["best_step"] = -3

def of_another_model(saved):
    saved["fingerprint"] = "0" * 64

def without_an_optimizer(saved):
    del saved["state"]["optimizer"]

def by_another_script(saved):
    saved["config"]["script"] = "-m examples.ppo"

@pytest.mark.parametrize("damage, said", [
    (by_another_script, "was begun by -m examples.ppo; go on with that one"), (nothing, "is damaged"),
    (not_a_number, "its numbers make no sense"), (before_the_start, "make no sense"),
    (of_another_model, "was begun with another model"), (without_an_optimizer, "is damaged")])
def test_a_damaged_state_is_one_sentence(tiny_folder, silence, begun, tmp_path, monkeypatch, capsys, damage,
                                         said):
    folder = shutil.copytree(begun, tmp_path / "run")
    saved = torch.load(folder / "state.pt", weights_only=True)
    saved["config"]["out"] = str(folder)
    damage(saved)
    torch.save(saved, folder / "state.pt")
    flags = [*train_flags(tiny_folder, silence, folder), "--resume"]
    code, printed = run_here(monkeypatch, capsys, "train.py", *flags)
    assert code == 2 and said in printed.err and printed.err.count("\n") == 1

def test_a_truncated_state_is_one_sentence(tiny_folder, silence, begun, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(begun, tmp_path / "run")
    whole = (folder / "state.pt").read_bytes()
    for written in (whole[:-500], b"", b"not a state"):
        (folder / "state.pt").write_bytes(written)
        flags = [*train_flags(tiny_folder, silence, folder), "--resume"]
        code, printed = run_here(monkeypatch, capsys, "train.py", *flags)
        assert code == 2 and "is damaged" in printed.err

@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
def test_a_second_run_in_a_folder_is_refused_while_the_first_is_at_work(tiny_folder, silence, tmp_path,
                                                                        monkeypatch, capsys):
    import fcntl
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / "log.jsonl", "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        flags = train_flags(tiny_folder, silence, tmp_path / "run")
        code, printed = run_here(monkeypatch, capsys, "train.py", *flags)
    assert code == 2 and "another run is at work" in printed.err
    assert (tmp_path / "run" / "log.jsonl").read_text() == ""

@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit on files stands for a full disk")
def test_a_full_disk_costs_one_sentence_and_no_half_written_file(tiny_folder, silence, tmp_path):
    import resource
    done = subprocess.run(command("train.py", *train_flags(tiny_folder, silence, tmp_path / "run")),
                          capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)))
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.jsonl"]
    for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
        json.loads(line)
    assert run("train.py", *train_flags(tiny_folder, silence, tmp_path / "run")).returncode == 0

def test_a_reader_that_goes_away_costs_one_sentence_and_no_work(tiny_folder, silence, tmp_path):
    child = subprocess.Popen(command("train.py", *train_flags(tiny_folder, silence, tmp_path / "run")),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.stdout.readline()
    child.stdout.close()
    said = child.stderr.read()
    assert child.wait() == 2 and said.endswith("whoever read the output has closed it; what was logged and "
                                               "saved is whole\n"), said

@pytest.mark.parametrize("streams", [">&-", "<&-", "2>&-", ">&- 2>&- <&-", "PYTHONIOENCODING=ascii"])
def test_closed_streams_and_a_poor_encoding_lose_no_work(tiny_folder, silence, tmp_path, streams):
    flags = command("train.py", *train_flags(tiny_folder, silence, tmp_path / "run"))
    before, after = (streams, "") if "=" in streams else ("", streams)
    done = subprocess.run(f"{before} {shlex.join(flags)} {after}", shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "silence.safetensors").exists()

def test_an_output_that_cannot_be_written_is_found_before_the_work(tiny_folder, monkeypatch, capsys):
    for script, flags in (("scripts.eval", ["--tasks", "math"]), ("sample.py", ["--task", "math"])):
        code, printed = run_here(monkeypatch, capsys, script, *flags, "--model", tiny_folder, "--out",
                                 "/proc/nowhere/log")
        assert code == 2 and "/proc/nowhere" in printed.err

@pytest.mark.parametrize("way", [("--basis", "identity"), ("--objective", "sft"), ("--learner", "es")])
def test_each_way_to_learn_ends_with_an_expert(tiny_folder, silence, tmp_path, monkeypatch, capsys, way):
    """In another basis z is another change, so nothing that computes in the singular one takes it."""
    flags = [*train_flags(tiny_folder, silence, tmp_path / "run"), *way]
    assert run("scripts.train", *flags).returncode == 0
    file = tmp_path / "run" / "silence.safetensors"
    _, metadata = read_expert(file)
    assert metadata["basis"] == ("identity" if "identity" in way else "svd")
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert max(line.get("z_change", 0) for line in steps) > 0
    if "identity" in way:
        code, printed = run_here(monkeypatch, capsys, "sample.py", "hi", "--expert", file, "--model",
                                 tiny_folder, "--dtype", "float32")
        assert code == 2 and "learned in the basis 'identity'" in printed.err

def sample_flags(tiny_folder, folder):
    model, _ = load(tiny_folder, "cpu")
    wrap(model, MODULES["all"])
    save_expert(folder / "math.safetensors", random_z(model, size=0.5), expert_metadata(model))
    return ["--model", tiny_folder, "--experts", folder, "--dtype", "float32"]

def test_sample_answers_with_an_expert_and_beside_the_base(tiny_folder, tmp_path):
    common = ["--max-new-tokens", "5", *sample_flags(tiny_folder, tmp_path)]
    done = run("sample.py", "2 + 2?", "--expert", "math", "--compare", *common)
    assert done.returncode == 0, done.stderr
    assert "[1.00 math]\nSum:" in done.stdout and "the base model: Sum:" in done.stdout
    cem = run("scripts.sample", "--adapt", "cem", "--task", "reasoning_hard",
              "--generations", "2", "--n", "8", "--out", tmp_path / "log", *common)
    assert cem.returncode == 0 and "test     cem" in cem.stdout and re.search(
        r"math +\d\.\d\d", cem.stdout), cem.stderr
    saved = run("scripts.sample", "2 + 2?", "--adapt", "cem", "--task", "reasoning_hard",
                "--generations", "1", "--shots", "2", "--per-block", "--save", "mixed", *common)
    assert saved.returncode == 0 and "mixed.safetensors" in saved.stdout, saved.stderr
    shown = run("scripts.sample", "--show", "mixed", "--experts", tmp_path)
    assert shown.returncode == 0 and "a mixture found on 2 examples of reasoning_hard" in shown.stdout
    again = run("sample.py", "2 + 2?", "--expert", "mixed", *common)
    assert again.returncode == 0 and "[1.00 mixed]" in again.stdout, again.stderr
    missing = run("sample.py", "hi", "--expert", "nobody", *common)
    assert missing.returncode == 2 and "nobody" in missing.stderr

def test_a_chat_goes_on_after_a_turn_that_cannot_be_answered(tiny_folder, tmp_path):
    flags = sample_flags(tiny_folder, tmp_path)
    mine, another = [tmp_path / "mine" / name for name in ("mine.v2.safetensors", "math.safetensors")]
    mine.parent.mkdir()
    shutil.copy(tmp_path / "math.safetensors", mine)
    shutil.copy(tmp_path / "math.safetensors", another)
    turns = ["hello", "x" * 9000, "/expert nobody", "/nonsense", "/expert math", "2 + 2?", "/compare", "3?",
             f"/expert {mine}", "/expert none", "/expert mine.v2", "4?", "/expert", f"/expert {another}",
             "/reset", "/quit", "never read"]
    done = subprocess.run(command("sample.py", "--max-new-tokens", 5, *flags),
                          input="\n".join(turns), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "the message alone is longer" in said and "oldest turns" not in said
    assert "nobody" in said and "/nonsense is no command" in said
    assert said.count("[1.00 other]") == 1 and said.count("[1.00 math]\nSum:") == 2
    assert "[1.00 mine.v2]\nSum:" in said and "mine.v2 already" not in said
    assert said.count("there is an expert math already") == 1
    assert said.count("the base model: Sum:") == 2 and "[forgotten]" in said and "never" not in said

def test_the_oldest_turns_leave_when_the_context_is_full(tiny_folder, tmp_path):
    turns = ["a" * 3000, "b" * 3000, "c" * 3000, "/quit"]
    done = subprocess.run(command("sample.py", "--max-new-tokens", 5, *sample_flags(tiny_folder, tmp_path)),
                          input="\n".join(turns), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "the 1 oldest turns are forgotten" in done.stdout, done.stderr

def test_ctrl_c_ends_an_answer_and_not_the_chat(tiny_folder, tmp_path):
    flags = ["--max-new-tokens", 4000, *sample_flags(tiny_folder, tmp_path)]
    child = subprocess.Popen(command("sample.py", *flags),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    child.stdin.write("tell me more\n")  # what the little model does not end soon
    child.stdin.flush()
    for line in iter(child.stdout.readline, ""):
        if "[1.00 other]" in line:  # which is flushed with the first token of the answer
            break
    child.send_signal(signal.SIGINT)
    said, errors = child.communicate("/reset\n/quit\n", timeout=60)
    assert child.returncode == 0 and "[stopped]" in said and "[forgotten]" in said, errors

def test_a_file_of_ones_own_goes_through_train_sample_and_eval(tiny_folder, tmp_path):
    rows = [{"question": f"Is {i} even?", "answer": "no" if i % 2 else "yes", "options": ["yes", "no"]}
            for i in range(120)]
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--model", tiny_folder, "--dtype", "float32"]
    done = run("train.py", "--task", own, "--steps", 1, "--rollouts", 8, "--group", 4, "--max-new-tokens", 4,
               "--out", tmp_path / "experts", *common)
    assert done.returncode == 0 and "own             test     expert" in done.stdout, done.stderr
    done = run("scripts.eval", "--tasks", own, "--rows", "base,expert,uniform", "--n", 5, "--experts",
               tmp_path / "experts", "--out", tmp_path / "log", *common)
    assert done.returncode == 0 and "test     expert own" in done.stdout, done.stderr
    done = run("scripts.sample", "--adapt", "cem", "--task", own, "--shots", 2, "--generations", 1,
               "--experts", tmp_path / "experts", "--max-new-tokens", 4, "Is 7 even?", *common)
    assert done.returncode == 0 and "cem: 2 examples of own" in done.stdout, done.stderr

def test_instructions_are_compared_on_a_model_that_no_expert_was_made_for(tiny_folder, tmp_path):
    done = run("scripts.eval", "--instructions", "--tasks", "math", "--n", 2, "--model", tiny_folder,
               "--dtype", "float32", "--out", tmp_path / "log")  # experts/ holds the default model's
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()][:-1]
    assert [row["instruction"] for row in rows] == ["", *get_task("math").instructions]

def test_bench_measures_every_part_and_its_log_parses(tiny_folder, tmp_path):
    done = run("scripts.bench", "--model", tiny_folder, "--rollouts", 4, "--micro-batch", 2,
               "--prompt-tokens", 5, "--new-tokens", 7, "--members", 3, "--shots", 2, "--repeats", 1,
               "--out", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    what = [json.loads(line)["what"] for line in (tmp_path / "log").read_text().splitlines()]
    assert what == ["load", "decompose", "merge", "generate, 1 rows", "generate, 4 rows",
                    "merge and gradient of a step", "plain generate, 6 rows", "CEM generation, 6 rows",
                    "the same, merging for each member"]

def test_module_names_do_not_shadow_the_standard_library():
    for path in [path for room in ROOMS for path in (ROOT / room).glob("*.py")]:
        assert path.stem not in sys.stdlib_module_names, path

def test_no_line_is_longer_than_110_characters_and_each_has_one_statement():
    for path in [path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert len(line) <= 110, f"{path.name}:{number}"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
                if isinstance(body, list):
                    lines = [statement.lineno for statement in body] + [getattr(node, "lineno", 0)]
                    assert len(set(lines)) == len(lines), f"{path.name}:{lines}"
