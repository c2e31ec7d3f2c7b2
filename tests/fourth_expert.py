"""A task of your own, and how its expert joins the others: short edits of words, which no other task covers.

Everything is in this file: templates, how a problem is made and scored, and the one line that adds it to
FAMILIES. Then the named script runs with its flags, and knows the task:

    python tests/fourth_expert.py train.py --task edit
    cp out/edit-0/edit.safetensors experts/
    python tests/fourth_expert.py eval.py --dispatch              # the old classifier among five classes
    python tests/fourth_expert.py train.py --task dispatch        # one command teaches it the new one
"""
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import tasks  # noqa: E402

EDIT = [[
    ("Join the words {a} and {b} with a dash.", "{a}-{b}"),
    ("Write the words {a} {b} in capital letters.", "{a.upper()} {b.upper()}"),
    ("Swap the two words: {a} {b}", "{b} {a}"),
    ("Put an exclamation mark behind the words {a} {b}.", "{a} {b}!"),
    ("Replace the word {a} by the word {b}: the old {a} is here", "the old {b} is here"),
    ("Repeat the words {a} {b} twice.", "{a} {b} {a} {b}"),
    ("Write the words {a}, {b} and {c} one after another with commas between them.", "{a}, {b}, {c}"),
    ("Remove the word {c} from: {a} {c} {b}", "{a} {b}"),
], [
    ("Write a slash between the words {a} and {b}.", "{a}/{b}"),
    ("Leave out the first word: {a} {b} {c}", "{b} {c}"),
    ("Put the words {a} {b} in brackets.", "({a} {b})"),
    ("Write the word {c} behind the words {a} {b}.", "{a} {b} {c}"),
], [
    ("Write a plus sign between the words {a} and {b}.", "{a}+{b}"),
    ("Drop the last word: {a} {b} {c}", "{a} {b}"),
    ("Begin with the word {b} and end with the word {a}.", "{b} {a}"),
    ("Write a question mark behind the words {a} {b}.", "{a} {b}?"),
]]

def make_edit(rng, part, template):
    prompt, answer = template
    words = sorted(set(sum((tasks.KINDS[kind][part] for kind in tasks.KINDS), tasks.NOUNS[part])))
    slots = dict(zip("abc", rng.sample(words, 3)))
    return tasks.Problem(tasks.fill(prompt, slots), "Answer:", tasks.fill(answer, slots))

def score_edit(problems, texts):
    """Right is the edited text and nothing else; quotation marks and a full stop around it do not count."""
    return [1 if text.strip(' ".\n') == p.gold.strip(' ".\n') else -1 for p, text in zip(problems, texts)]

HOW = ("Give only the edited text.", "Answer:", 24, score_edit, "")
tasks.FAMILIES["edit"] = ("short edits of words", HOW, make_edit, EDIT, [])

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
