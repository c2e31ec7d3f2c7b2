"""Add wordings to train on to tasks/wordings, but none that resembles a wording to validate or to test on.

Two wordings resemble each other if they have five words in a row in common, where a slot such as {A} or
{a + b} is a word, whichever it is; and in code, if they ask for the same function. So what `test` says of
wordings that training never saw stays true, without anybody having looked at them to see to it.

    python tools/wordings.py math new.txt      # a line is a template, as in tasks/math_problems.py
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tasks import code_problems, math_problems, reasoning_problems  # noqa: E402
from tasks.generated import WORDINGS, read_templates  # noqa: E402

IN_A_ROW = 5  # words
FAMILIES = {"math": (math_problems.WordProblem, math_problems.MATH, math_problems.MATH_HARD),
            "code": (code_problems.FunctionTemplate, code_problems.CODE, code_problems.CODE_HARD),
            "reasoning": (reasoning_problems.ClosedQuestion, reasoning_problems.REASONING,
                          reasoning_problems.REASONING_HARD)}

def wording_of(template):
    """What a template of any family says to the model."""
    return template.returns if hasattr(template, "returns") else template.question

def phrases(template):
    """What no other wording may share: its runs of five words ('{A} has {a + b} pens.' begins '{}', 'has',
    '{}', 'pens'), and the function, where one is asked for."""
    words = re.findall(r"[\w'{}]+", re.sub(r"\{.*?\}", " {} ", wording_of(template).lower()))
    found = {tuple(words[i:i + IN_A_ROW]) for i in range(len(words) - IN_A_ROW + 1)}
    if hasattr(template, "reference"):
        found.add((template.arguments, template.reference))
    return found

def phrases_to_avoid(family):
    """Those in what the family and its variant validate and test on."""
    _, *easy_and_hard = FAMILIES[family]
    found = set()
    for templates in easy_and_hard:
        for template in templates["val"] + templates["test"]:
            found |= phrases(template)
    return found

def main():
    family, source = sys.argv[1:]
    kind, *_ = FAMILIES[family]
    file = WORDINGS / f"{family}.txt"
    before = file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip()]
    avoided = phrases_to_avoid(family)
    new, resembling = [], 0
    for line, template in zip(lines, read_templates(kind, lines), strict=True):
        if phrases(template) & avoided:
            resembling += 1
        elif line not in before:
            new.append(line)
    file.write_text("".join(line + "\n" for line in before + new), encoding="utf-8")
    print(f"{len(lines)} wordings, of which {resembling} resemble one of val or test; {len(new)} are new and "
          f"went to {file}")

if __name__ == "__main__":
    main()
