"""pytest tests/test_house.py: who imports whom is what docs/HOUSE.md says; the six files stay the paper."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SIX = ["svf", "model", "rl", "adapt", "train", "sample"]
PAGE = (ROOT / "docs" / "HOUSE.md").read_text(encoding="utf-8")

def table():
    """{room: the rooms it may import} of the page."""
    block = re.search(r"```\n(svf .*?)```", PAGE, re.DOTALL)[1]
    rows = [line.split() for line in block.splitlines()]
    return {room: set() if rest[0].startswith("(") else set(rest) for room, *rest in rows}

MAY_IMPORT = table()

def files_of(room):
    return [ROOT / f"{room}.py"] if room in SIX else sorted((ROOT / room).glob("*.py"))

def imported_by(path):
    """The rooms that a file imports, wherever in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        rooms |= {name.split(".")[0] for name in names} & MAY_IMPORT.keys()
    return rooms

@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_the_page_says_and_no_more(room):
    assert files_of(room)
    imported = set().union(*(imported_by(path) for path in files_of(room))) - {room}
    assert imported == MAY_IMPORT[room]

def test_no_room_imports_one_that_imports_it():
    built = set()
    while len(built) < len(MAY_IMPORT):
        ready = {room for room, needs in MAY_IMPORT.items() if needs <= built} - built
        assert ready, f"a circle among {sorted(MAY_IMPORT.keys() - built)}"
        built |= ready

def test_nothing_else_lies_at_the_top():
    assert sorted(path.stem for path in ROOT.glob("*.py")) == sorted(SIX)
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders - {"tests", "tools", "examples"} <= MAY_IMPORT.keys()

def test_the_six_know_no_torchrun_no_image_and_no_lora():
    for name in SIX:
        source = (ROOT / f"{name}.py").read_text(encoding="utf-8")
        tree = ast.parse(source)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for word in ("distributed", "lora", "eyes", "flock"):
            assert not {n for n in names if word in n.lower()}, (name, word)
