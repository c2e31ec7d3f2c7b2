"""What counts as right: a number, an option, a letter, a text, or a program that returns what it should."""
import re
from dataclasses import dataclass

from tasks import sandbox

@dataclass(frozen=True)
class Notation:
    """How people and models write what a plain number says."""
    written: str  # a pattern
    plainly: str

NOTATIONS = [  # in this order
    Notation(r"[\u2212\u2013\ufe63\uff0d]", "-"),  # minus signs that are no hyphen
    Notation(r"(?<=\d)[\u00a0\u2009\u202f'’](?=\d{3}(?!\d))", ","),  # 1'000, and spaces that do not break
    Notation(r"^\s*(\d{1,3}) (\d{3})(?: (\d{3}))?[\s.]*$", r"\1\2\3"),  # 1 000, if it is all there is
    Notation(r"\{,\}|\\,", ","),  # LaTeX: 9{,}500, 9\,500
    Notation(r"\\!", ""),  # 9,\!500
    Notation(r"¼", r"\\frac{1}{4}"), Notation(r"½", r"\\frac{1}{2}"), Notation(r"¾", r"\\frac{3}{4}"),
    Notation(r"⅓", r"\\frac{1}{3}"), Notation(r"⅔", r"\\frac{2}{3}"),
    Notation(r"(?<=\d)\s*\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2"),  # 2\frac{1}{2}
    Notation(r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1/\2"),
    Notation(r"(?<=\d)\s*(?:×|x|\*|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{?(-?\d+)\}?", r"e\1")]  # 1.5 × 10^3

# a minus is a sign unless it stands behind a digit or a bracket; commas belong to a number in threes
NUMBER = re.compile(r"""
    (?P<sign>(?:(?<![\d)])-)?)[$€£]?
    (?: (?<![\d/])(?P<whole>\d+\ )?(?P<over>\d+)/(?P<under>\d+)(?![\d/])
      | (?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?P<exponent>(?:e[+-]?\d+)?) )""",
                    re.VERBOSE | re.IGNORECASE)
SPELLED = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
           "sixteen seventeen eighteen nineteen twenty").split()

SECONDS = 4  # of a child that runs a program

def reward(is_right):
    return 1 if is_right else -1

def plain_notation(text):
    for notation in NOTATIONS:
        text = re.sub(notation.written, notation.plainly, text)
    return text

def values_of(found):
    """The number that NUMBER found; several where a fraction is a division not yet done: 12/4, not 1/2."""
    sign = -1 if found["sign"] else 1
    if found["digits"]:
        return [sign * float(found["digits"].replace(",", "") + found["exponent"])]
    whole, over, under = float(found["whole"] or 0), float(found["over"]), float(found["under"])
    if under == 0 or over % under == 0:
        return [sign * whole] * bool(found["whole"]) + [over, under]
    return [sign * (whole + over / under)]

def numbers(text):
    """'from $2,125.00 to −10, or 1 1/2' -> [2125.0, -10.0, 1.5]."""
    return [value for found in NUMBER.finditer(plain_notation(text)) for value in values_of(found)]

def spelled_number(text):
    """'Seven.' -> [7.0]; a text of more than that one word may mean anything by it."""
    return [float(SPELLED.index(plain(text)))] if plain(text) in SPELLED else []

def is_one_number(text):
    found = NUMBER.fullmatch(plain_notation(text).strip())
    return found is not None and len(values_of(found)) == 1

# what announces a result: the text behind the last of these is what an answer concludes with. "The answer to
# 3 + 4 is" announces one, too, and "To answer this" does not
CONCLUSION = re.compile(r"""
    = | \#\#\#\# | \\boxed
    | (?: (?<!\bto\ )\banswer\b | \banswer\b(?=\s*:) )
      (?: (?: \s+(?:to|for|when|if)\b (?:[^.\n=]|\.\d){0,80}? )?
          (?: \s+(?:is|would\ be)\b | \s*: ) )?""",
                        re.VERBOSE | re.IGNORECASE)

def conclusions(text):
    """What stands behind each announcement of a result, the last first."""
    behind = []
    for found in reversed(list(CONCLUSION.finditer(text))):
        conclusion = text[found.end():]
        if found[0].lower().endswith(("=", "is", "be")):  # "= - 5" is -5, and "Answer - 5" is 5
            conclusion = re.sub(r"^[ \t]*[-\u2212][ \t]+(?=[\d.$€£])", "-", conclusion)
        behind.append(conclusion)
    return behind

def concluded_number(question, text):
    """The number that an answer concludes with, or None.

    '3 * 5 = 15. So 15 eggs for 5 cakes.'  ->  15, behind the last announcement
    '15 eggs for 5 cakes'  ->  15, the last number that is not one of the question (3 eggs, 5 cakes)
    'Fifteen.'  ->  15, where that is all
    """
    for conclusion in conclusions(text):
        found = numbers(conclusion) or spelled_number(conclusion)
        if found:
            return found[0]
    found = numbers(text) or spelled_number(text)
    new = [number for number in found if number not in numbers(question)]
    if new:
        return new[-1]
    return found[-1] if found else None

def score_numbers(problems, texts):
    """Each answer is +1 if it concludes with the gold number."""
    return [reward(concluded_number(problem.prompt, text) == numbers(problem.gold)[0])
            for problem, text in zip(problems, texts)]

def score_expressions(problems, texts):
    """Each answer is +1 if its final mathematical expression equals the gold one's, as the optional package
    math-verify reads and compares LaTeX."""
    from math_verify import parse, verify
    return [reward(verify(parse(problem.gold), parse(text))) for problem, text in zip(problems, texts)]

def mentioned_options(options, text):
    """The candidates in the order in which the text mentions them, in lower case."""
    longest_first = sorted(options, key=len, reverse=True)
    any_option = "|".join(re.escape(option.lower()) for option in longest_first)
    before = r"(?<!\w)"
    behind = r"(?!\w)"
    if any(is_one_number(option) or option[0].isdigit() or option[-1].isdigit() for option in options):
        before = r"(?<![\w-])(?<!\d[.,])"
        behind = r"(?:\.0+(?!\d))?(?!\w|[.,]\d)"  # 3 stands in 3.00, not in 3.5, -3 or 2.3
    return re.findall(f"{before}({any_option}){behind}", text.lower())

def chosen_option(options, text):
    """The candidate that an answer concludes with, in lower case, or None: the first behind the last
    announcement; else the one that the text begins with; else the last.

    'Ben is taller than Anna' -> ben;   'Of Anna and Ben, the taller is Ben' -> ben
    """
    for conclusion in conclusions(text):
        if mentioned_options(options, conclusion):
            return mentioned_options(options, conclusion)[0]
    found = mentioned_options(options, text)
    if not found:
        return None
    begins = re.match(r"\W*(?:(?:it is|that is|it's|the|an?)\s+)*", text, re.IGNORECASE).end()
    return found[0] if text.lower().startswith(found[0], begins) else found[-1]

def score_options(problems, texts):
    return [reward(chosen_option(p.options, text) == p.gold.lower()) for p, text in zip(problems, texts)]

# marks around a letter that do not change what it says: **B**, $B$, \boxed{\text{B}}
MARKUP = re.compile(r"\\(?:boxed|text(?:bf|rm)?|mathrm)|[*_`${}]|</?answer>")
# a letter on its own, or a key 1-5 behind which nothing is counted; a small one needs brackets, "a" is a word
LETTER = (r"(?:[(\[](?P<bracketed>[A-Ea-e1-5])[)\]]|(?P<bare>[A-E](?![\w'’])|[1-5](?!\w|\.?\d|\s+\w)))")
ANSWERS = r"\b(?i:answer(?:\s+(?:is|would be))?\s*:?\s*(?:option\s+|choice\s+)?)" + LETTER
CHOOSES = r"\b(?i:(?:option|choice|choose|pick|select)(?:\s+(?:is|would be))?\s*:?\s*(?:option\s+)?)" + LETTER
BEGINS = r"^[^\w(\[]*" + LETTER
ENDS = r"\n[^\w(\[]*" + LETTER + r"\W*$"

def chosen_letter(text):
    """The letter that an answer chooses, or None: behind its last "answer is"; else the one it begins with;
    else behind the last "option", "I choose" or the like; else one alone on the last line. 1-5 mean A-E.

    'The answer is **(B)**.'  ->  'B'
    """
    text = MARKUP.sub("", text)
    for rule in (ANSWERS, BEGINS, CHOOSES, ENDS):
        found = list(re.finditer(rule, text))
        if found:
            letter = found[-1]["bracketed"] or found[-1]["bare"]
            return letter.upper().translate(str.maketrans("12345", "ABCDE"))
    return None

def score_letters(problems, texts):
    return [reward(chosen_letter(text) == p.gold) for p, text in zip(problems, texts)]

def plain(text):
    """'  The Sea. ' -> 'the sea': case, spaces and closing punctuation do not count."""
    return " ".join(text.lower().split()).rstrip(" .!?,;:")

def score_texts(problems, texts):
    return [reward(plain(text) == plain(p.gold)) for p, text in zip(problems, texts)]

def program_of(problem, text):
    """The program that an answer makes: what its prefill opened, to the end of the fenced block, or a block
    that it opens itself."""
    before, fence, behind = text.partition("```")
    opens = re.match(r"(?i:python3?|py)[ \t]*\n", behind)
    if opens:  # a fence that names its language begins a block
        return behind[opens.end():].split("```")[0]
    if fence and not before.strip():
        return behind.split("```")[0]
    _, _, opening = problem.prefill.partition("```python\n")
    return opening + before

def score_programs(problems, texts):
    """Run every program on its hidden calls, and every reference that gives expected values, in parallel."""
    programs = []
    references = {}
    for p, text in zip(problems, texts):
        programs.append(sandbox.Program(program_of(p, text) + p.check.after, p.check.entry, p.check.calls))
        if p.check.expected is None:
            references[p.prompt] = sandbox.Program(p.check.reference + p.check.after, p.check.entry,
                                                   p.check.calls)
    results = sandbox.run_programs(programs + list(references.values()), SECONDS)
    reference_results = dict(zip(references, results[len(programs):]))
    rewards = []
    for p, result in zip(problems, results):
        expected = reference_results[p.prompt] if p.check.expected is None else p.check.expected
        rewards.append(reward(result is not None and sandbox.same(result, expected, p.check.tolerance)))
    return rewards

def mentions_gold(problem, text):
    """Lenient: the gold answer stands somewhere in the text. None for programs and solutions in LaTeX, where
    it would mean nothing, and for letters, since "a" is also a word."""
    is_letter = len(problem.gold) == 1 and problem.gold.isalpha()
    if problem.check is not None or is_letter or "\\boxed" in problem.gold:
        return None
    if is_one_number(problem.gold):
        return numbers(problem.gold)[0] in [*numbers(text), concluded_number(problem.prompt, text)]
    return re.search(rf"(?<![\w.,]){re.escape(problem.gold)}(?!\w|[.,]\d)", text, re.IGNORECASE) is not None
