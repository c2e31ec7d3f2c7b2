"""What counts as right: a number, a quantity, an option, a letter, a text, or a program.

Each grader finds the candidates that an answer mentions, and conclusion.py says which of them counts; how
people write them is in numerals.py and spelling.py. tests/test_grading.py has a table of verdicts.
"""
import re

from tasks import sandbox
from tasks.conclusion import EQUALS, LESS_PLAINLY, OUTRIGHT, Mention, announced, settled, stated
from tasks.numerals import (
    Number,
    is_one_number,
    numbers,
    plain_notation,
    quantity,
    read_numbers,
    spelled_number,
)
from tasks.spelling import EMPHASIS, one_spelling, plain, whole

SECONDS = 4  # of a child that runs a program

def reward(is_right):
    return 1 if is_right else -1

# -- numbers -------------------------------------------------------------------------------------------------

A_NUMBER = r"(?<!\d)(?<!\d[.,/])[-$€£¥₹]*(?:\d[\d.,/]*\d|\d)(?:\s?%)?"
DIGITS = r"[$€£¥₹]?\d[\d.,/]*"
OPERATOR = r"(?:[-+*×÷·^]|\s/\s|\bx\b|\\times|\\cdot|\\div)"
# 3 * 5, 3 eggs * 5, 5 - 6: what stands in it is no result, and a range is none either
FORMULA = re.compile(rf"(?<!\d)(?<!\d[.,/]){DIGITS}(?:(?: [^\W\d]+(?![\w^]))?\s*{OPERATOR}\s*{DIGITS})+")
# "= - 5" is -5, and "Answer - 5" is 5
APART = re.compile(r"((?:=|\bis|\bbe)[ \t]*)-[ \t]+(?=[\d.$€£])", re.IGNORECASE)
VAGUE = re.compile(r"\b(?:at (?:least|most)|(?:more|less|fewer|greater) than|under|over|up to) $",
                   re.IGNORECASE)
# words with which a text goes on to its result, and a sentence that only looks back
SO = re.compile(r"\b(?:so|therefore|thus|hence|then|finally|altogether|in total|in all"
                r"|(?:which|that|this) (?:is|makes|gives|leaves|means)|making|giving|leaving)\b",
                re.IGNORECASE)
LOOKS_BACK = re.compile(r"(?<=[.!\n(])\s*(?:to )?(?:check|verify|verification|proof)\b[^\n]*", re.IGNORECASE)
LIST_MARK = re.compile(r"^[ \t]*(?:step *)?\d+[.):](?=[ \t]+\S)|\bstep *\d+", re.IGNORECASE | re.MULTILINE)

def outside(numbers_in_text, pattern, text):
    """Those numbers that do not stand in what the pattern finds."""
    spans = [found.span() for found in pattern.finditer(text)]
    return [number for number in numbers_in_text
            if not any(start <= number.start < end for start, end in spans)]

def later_result(question, text, results, equated):
    """The last of the results that the text goes on to conclude behind an equation, or None. It is not a
    number of the question, and a new one in a later sentence, or any behind a word like "so"."""
    sentence_ends = equated.end + re.match(r"(?:[^.!\n]|\.(?=\d))*", text[equated.end:]).end()
    so = SO.search(text, equated.end)
    known = numbers(question)
    before = numbers(text[:equated.end])
    later = None
    for number in outside(results, LIST_MARK, text):
        is_new = number.start >= sentence_ends and number.value not in before
        is_concluded = so is not None and number.start >= so.end()
        if (is_new or is_concluded) and number.value not in known:
            later = number
    return later

def concluding_number(question, text):
    """The Number that an answer concludes with, or None.

    'The answer is 15. Each cake takes 15 / 5 = 3.'  ->  15, said outright
    '3 * 5 = 15 eggs for 5 cakes'  ->  15, behind the last "="
    '3 * 3 = 9 laps. A lap is 60 m, so she swims 540.'  ->  540, which a later sentence concludes
    '15 eggs for 5 cakes'  ->  15, the last number that is not one of the question (3 eggs, 5 cakes)
    'Fifteen.'  ->  15, where that is all
    """
    text = settled(plain_notation(EMPHASIS.sub(r"\2", text)), A_NUMBER)
    text = APART.sub(r"\1-", text)
    text = LOOKS_BACK.sub(" ", text)
    for announces in (OUTRIGHT, LESS_PLAINLY):
        spelled = spelled_number(text[end_of_last(announces, text):])
        if spelled is not None:
            return Number(spelled, "", 0, 0)
    everything = read_numbers(text)
    results = [number for number in outside(everything, FORMULA, text) if number.value is not None]
    chosen = number_said(question, text, everything, results)
    if chosen is None or VAGUE.search(text, 0, chosen.start):
        return None
    candidates = outside(everything, LIST_MARK, text)
    return stated(text, candidates, chosen) if chosen in candidates else chosen

def end_of_last(pattern, text):
    return max((found.end() for found in pattern.finditer(text)), default=0)

def number_said(question, text, everything, results):
    """Which of the results it is: the one said outright, else the last equation's, else the last new one."""
    outright = announced(text, everything, OUTRIGHT)
    if outright and outright[0] in results and not EQUALS.match(text[outright[0].end:].lstrip()):
        return outright[0]
    for equated in announced(text, everything, LESS_PLAINLY):
        if equated in results:
            return later_result(question, text, results, equated) or equated
    known = numbers(question)
    new = [number for number in results if number.value not in known]
    if new:
        return new[-1]
    return results[-1] if results else None

def concluded_number(question, text):
    """The value that an answer concludes with, or None."""
    number = concluding_number(question, text)
    return None if number is None else number.value

def score_numbers(problems, texts):
    """Each answer is +1 if it concludes with the gold number, exactly."""
    return [reward(concluded_number(problem.prompt, text) == numbers(problem.gold)[0])
            for problem, text in zip(problems, texts)]

def score_quantities(problems, texts):
    """Each answer is +1 if it concludes with the gold quantity: for "5 km", with "5 km", "5 kilometres" or a
    bare "5", as a teacher would, since questions mostly name the unit; not with "5 miles" or "5 km/h"."""
    rewards = []
    for problem, text in zip(problems, texts):
        gold = quantity(problem.gold)
        number = concluding_number(problem.prompt, text)
        rewards.append(reward(number is not None and number.value == gold.value and number.is_in(gold.unit)))
    return rewards

def score_expressions(problems, texts):
    """Each answer is +1 if its final mathematical expression equals the gold one's, as the optional package
    math-verify reads and compares LaTeX; where that is one number, two beside each other are none."""
    from math_verify import parse, verify
    rewards = []
    for problem, text in zip(problems, texts):
        gold = parse(one_spelling(problem.gold))
        is_right = verify(gold, parse(settled(one_spelling(text), A_NUMBER)))
        if is_right and getattr(gold[0], "is_Rational", False):
            is_right = not is_hedged(text)
        rewards.append(reward(is_right))
    return rewards

def is_hedged(text):
    """Whether the number that a text concludes with stands beside another."""
    text = settled(plain_notation(text), A_NUMBER)
    everything = read_numbers(text)
    candidates = announced(text, everything, OUTRIGHT) or everything[-1:]
    return bool(candidates) and stated(text, everything, candidates[0]) is None

# -- options -------------------------------------------------------------------------------------------------

def folded(text):
    return one_spelling(text).casefold()

def option_pattern(options):
    """A pattern of any of the options, which are folded, as a word of its own."""
    any_option = "|".join(re.escape(option) for option in sorted(options, key=len, reverse=True))
    if any(is_one_number(option) or option[:1].isdigit() or option[-1:].isdigit() for option in options):
        # 3 stands in 3.00, not in 3.5, -3 or 2.3
        return rf"(?<![\w-])(?<!\d[.,])(?:{any_option})(?:(?=\.0+(?!\d))|(?!\w|[.,]\d))"
    return whole(any_option)

def mentioned_options(options, text):
    """Mention for each option in the text, which is folded, in order."""
    pattern = option_pattern([folded(option) for option in options])
    return [Mention(found[0], *found.span()) for found in re.finditer(pattern, text)]

def chosen_option(options, text):
    """The candidate that an answer concludes with, folded, or None: the first behind the last announcement;
    else the one that the text begins with; else the last.

    'Ben is taller than Anna' -> ben;   'Of Anna and Ben, the taller is Ben' -> ben;   'Anna or Ben' -> None
    """
    pattern = option_pattern([folded(option) for option in options])
    text = settled(APART.sub(r"\1-", EMPHASIS.sub(r"\2", folded(text))), pattern)
    mentions = mentioned_options(options, text)
    if not mentions:
        return None
    begins = re.match(r"\W*(?:(?:it is|that is|it's|the|an?)\s+)*", text).end()
    outright = announced(text, mentions, OUTRIGHT)
    less_plainly = announced(text, mentions, LESS_PLAINLY)
    if outright:
        chosen = outright[0]
    elif less_plainly and stated(text, mentions, less_plainly[0]):  # not "Answer yes or no. Yes."
        chosen = less_plainly[0]
    elif mentions[0].start == begins:
        chosen = mentions[0]
    else:
        chosen = mentions[-1]
    return chosen.value if stated(text, mentions, chosen) else None

def score_options(problems, texts):
    return [reward(chosen_option(p.options, text) == folded(p.gold)) for p, text in zip(problems, texts)]

# -- letters -------------------------------------------------------------------------------------------------

# marks around a letter that do not change what it says: $B$, \boxed{\text{B}}; "b" is as good as (b)
MARKUP = re.compile(r"\\(?:boxed|text(?:bf|rm)?|mathrm)|[*_`${}\"]|</?answer>")
QUOTED = re.compile(r"(?<!\w)[\"'`]+([A-Ea-e1-5])[\"'`]+(?!\w)")
# a letter on its own, or a key 1-5 behind which nothing is counted; a small one needs brackets, "a" is a word
LETTER = r"(?:[(\[](?P<bracketed>[A-Ea-e1-5])[)\]]|(?P<bare>[A-E](?![\w'])|[1-5](?!\w|\.?\d|\s+\w)))"
A_LETTER = r"(?-i:[(\[][A-Ea-e1-5][)\]]|(?<!\w)[A-E1-5](?![\w']|\.?\d))"
HOW_SURE = r"(?:\s+(?:most\s+likely|likely|probably|definitely|clearly|either|both|then|therefore))?"
ANSWERS = (r"\b(?i:answer(?:\s+(?:is|would be|must be|should be))?"
           rf"{HOW_SURE}\s*[:-]?\s*(?:option\s+|choice\s+)?)" + LETTER)
CHOOSES = (r"\b(?i:(?:option|choice|choose|pick|select|go with|i(?:'d| would) say|my guess|correct:"
           r"|(?:so|thus|therefore|hence),"
           r"|(?:it|this|that)(?=\s+(?:is|must be|should be|has to be|can only be|would be)\b)|(?:it|that)'s)"
           r"(?:\s+(?:is|must be|should be|has to be|can only be|would be))?"
           rf"{HOW_SURE}\s*:?\s*(?:option\s+)?)" + LETTER)
BEGINS = r"^[^\w(\[]*" + LETTER
ENDS = r"\n[^\w(\[]*" + LETTER + r"\W*$"

def letter_in(found):
    """A match of LETTER -> the Mention of a letter; 1-5 mean A-E."""
    name = "bracketed" if found["bracketed"] else "bare"
    return Mention(found[name].upper().translate(str.maketrans("12345", "ABCDE")), *found.span(name))

def chosen_letter(text):
    """The letter that an answer chooses, or None: behind its last "answer is"; else the one it begins with;
    else behind the last "option", "I choose", "it must be" or the like; else one alone on the last line.

    'The answer is **(B)**.'  ->  'B';   'Option A is wrong. It must be C.'  ->  'C';   'A or B'  ->  None
    """
    text = settled(MARKUP.sub("", QUOTED.sub(r"(\1)", one_spelling(text))), A_LETTER)
    mentions = [letter_in(found) for found in re.finditer(r"(?<!\w)" + LETTER, text)]
    for rule in (ANSWERS, BEGINS, CHOOSES, ENDS):
        found = list(re.finditer(rule, text))
        if found:
            chosen = stated(text, mentions, letter_in(found[-1]))
            return chosen.value if chosen else None
    return None

def score_letters(problems, texts):
    return [reward(chosen_letter(text) == p.gold) for p, text in zip(problems, texts)]

# -- texts ---------------------------------------------------------------------------------------------------

def score_texts(problems, texts):
    return [reward(plain(text) == plain(p.gold)) for p, text in zip(problems, texts)]

# -- programs ------------------------------------------------------------------------------------------------

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
    return bool(mentioned_options([problem.gold], folded(text)))
