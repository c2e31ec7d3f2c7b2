"""pytest tests/test_pages.py: README and docs/ say what the code and the logs say."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import results  # noqa: E402
from scripts import plot  # noqa: E402

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in results.PAGES}

FENCED = re.compile(r"(`{3,}).*?\1", re.DOTALL)  # a block of four backticks may hold blocks of three

def found_in(text, flags):
    started = (r"(?:python|torchrun --nproc-per-node \d+) "
               r"(-m (?:scripts|examples)\.[a-z]\w*|(?:tools/|examples/)?\w+\.py)")
    for script, rest in re.findall(f"{started}({flags})", text):
        if script.startswith("-m "):
            script = script.removeprefix("-m ").replace(".", "/") + ".py"
        yield script, rest

def flags_of(source):
    """The flags of a script, with those of the Config that it inherits."""
    known = re.findall(r'add_argument\("--([\w-]+)"', source) + re.findall(r'\["--(\w+)"\]', source)
    fields = re.findall(r"^    (\w+): \w+ = flag\(", source, re.MULTILINE)
    known += [name.replace("_", "-") for name in fields]
    for parent, file in (("ModelChoice", "harness/flags.py"), ("train.Config", "train.py"),
                         ("sample.Config", "sample.py")):
        if re.search(rf"^class Config\({parent}\)", source, re.MULTILINE):
            known += flags_of((ROOT / file).read_text())
    if "train.read_config(doc" in source:  # a script that has train.py's
        known += flags_of((ROOT / "train.py").read_text())
    return known

def commands():
    """(script, its flags) of every python command on the pages; "-m scripts.eval" is scripts/eval.py."""
    for text in PAGES.values():
        outside = FENCED.sub("", text)
        assert outside.count("`") % 2 == 0
        for in_backticks in re.findall(r"`([^`]*)`", outside):
            yield from found_in(in_backticks, r"[^#|]*")
        for block in FENCED.finditer(text):
            yield from found_in(block[0], r"[^\n`#|]*")

def test_every_command_of_the_pages_names_a_script_and_flags_that_exist():
    assert {script for script, _ in commands()} >= {"train.py", "sample.py", "scripts/eval.py",
                                                    "scripts/bench.py", "scripts/plot.py"}
    for script, rest in commands():
        known = flags_of((ROOT / script).read_text())
        for name in re.findall(r"--([\w-]+)", rest):
            assert name in [*known, "help"], f"{script} --{name}"

def test_every_link_and_picture_of_the_pages_is_there():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert target.startswith("https://") or ((ROOT / page).parent / target).exists(), (page, target)

def test_the_readme_fits_a_sitting():
    assert len(PAGES["README.md"].split()) <= 1500
    assert max(map(len, PAGES["README.md"].splitlines())) <= 200

def test_every_table_and_every_number_with_an_error_is_in_a_log():
    assert results.stale_pages() == []
    assert results.numbers_without_a_log() == []

def test_a_number_that_no_log_knows_is_named(tmp_path, monkeypatch):
    for page in results.PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text(PAGES[page] + "\nWe reach 99.9 ± 0.1 %.\n", encoding="utf-8")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.numbers_without_a_log() == [f"{page}: 99.9 ± 0.1" for page in results.PAGES]
    (tmp_path / "README.md").write_text(PAGES["README.md"].replace(" ± ", " ± 1", 1), encoding="utf-8")
    assert "README.md" in results.stale_pages()

def test_plot_draws_the_run_of_a_user_and_refuses_what_is_none(tmp_path):
    pytest.importorskip("matplotlib")
    log = tmp_path / "log.jsonl"
    steps = [{"step": 0, "val_accuracy": 0.1}, {"step": 1, "right": 0.2}, {"step": 2, "right": 0.3,
                                                                          "val_accuracy": 0.4}]
    log.write_text("".join(json.dumps(step) + "\n" for step in steps))
    done = subprocess.run([sys.executable, "-m", "scripts.plot", tmp_path], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        plot.plot_run(plot.import_pyplot(), tmp_path / "nowhere")
    for wrong, named in (("", "no log of train.py"), ("{", "line 1 is no JSON"), ("5", "no JSON object")):
        log.write_text(wrong)
        with pytest.raises(ValueError, match=named):
            plot.plot_run(plot.import_pyplot(), log)
