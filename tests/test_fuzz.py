"""pytest tests/test_fuzz.py: 100 damaged inputs, each a sentence or what it was (tools/fuzz.py: more)."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from fuzz import fuzz  # noqa: E402

def test_a_damaged_input_is_one_sentence_or_harmless():
    faults = []
    counts = fuzz(100, seed=1, show=faults.append)
    assert faults == []
    sentences = sum(n for (_, outcome), n in counts.items() if outcome == "sentence")
    assert counts.total() == 100 and sentences > 40
