"""pytest tests/test_pages.py: README, RESULTS and COSTS say what the code and the logs say."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import plot  # noqa: E402
import results  # noqa: E402

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "RESULTS.md", "COSTS.md")}

FENCED = re.compile(r"(`{3,}).*?\1", re.DOTALL)  # a block of four backticks may hold blocks of three

def commands():
    """(script, its flags) of every python command on the pages."""
    for text in PAGES.values():
        outside = FENCED.sub("", text)
        assert outside.count("`") % 2 == 0
        for in_backticks in re.findall(r"`([^`]*)`", outside):
            yield from re.findall(r"python ((?:tools/|examples/)?\w+\.py)([^#|]*)", in_backticks)
        for block in FENCED.finditer(text):
            yield from re.findall(r"python ((?:tools/|examples/)?\w+\.py)([^\n`#|]*)", block[0])

def test_every_command_of_the_pages_names_a_script_and_flags_that_exist():
    assert {script for script, _ in commands()} >= {"train.py", "sample.py", "eval.py", "bench.py", "plot.py"}
    for script, rest in commands():
        source = (ROOT / script).read_text()
        known = re.findall(r'add_argument\("--([\w-]+)"', source) + re.findall(r'\["--(\w+)"\]', source)
        fields = re.findall(r"^    (\w+): \w+ = flag\(", source, re.MULTILINE)
        known += [name.replace("_", "-") for name in fields]
        for name in re.findall(r"--([\w-]+)", rest):
            assert name in [*known, "help"], f"{script} --{name}"

def test_every_link_and_picture_of_the_pages_is_there():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert target.startswith("https://") or (ROOT / target).exists(), (page, target)

def test_the_readme_fits_a_sitting():
    assert len(PAGES["README.md"].splitlines()) <= 200
    assert len(PAGES["README.md"].split()) <= 2000
    assert max(map(len, PAGES["README.md"].splitlines())) <= 200

def test_every_table_and_every_number_with_an_error_is_in_a_log():
    assert results.stale_pages() == []
    assert results.numbers_without_a_log() == []

def test_a_number_that_no_log_knows_is_named(tmp_path, monkeypatch):
    for page in results.PAGES:
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
    done = subprocess.run([sys.executable, ROOT / "plot.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        plot.plot_run(plot.import_pyplot(), tmp_path / "nowhere")
    for wrong, named in (("", "no log of train.py"), ("{", "line 1 is no JSON"), ("5", "no JSON object")):
        log.write_text(wrong)
        with pytest.raises(ValueError, match=named):
            plot.plot_run(plot.import_pyplot(), log)
