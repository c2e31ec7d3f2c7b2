"""What an answer concludes, whether it is about numbers, options or letters: at most one thing, or nothing.

Who grades reads as a teacher does:

1. What is only asked does not count ("Is it A or B? It is B."), nor what is denied ("not Anna but Ben",
   "option A is wrong", "5. No, wait: 6"). `settled` takes both out of a text.
2. Two answers are none: "A or B", "yes and no", "between 5 and 6", "Ben, Anna". `stated` looks at what stands
   beside the mention that counts.
3. What an answer says outright beats all else: "the answer is …", "#### …", \\boxed. `announced` finds
   it.

Left out: languages other than English, but for a few words, and understanding: "Ben is taller than Anna" is
read by its order (grading.py), not by its sense.
"""
import re
from dataclasses import dataclass

@dataclass(frozen=True)
class Mention:
    """Where a text names a candidate."""
    value: object
    start: int
    end: int

# -- what does not count -------------------------------------------------------------------------------------

QUESTION = re.compile(r"(?:[^.!?\n]|\.(?=\d))*\?")
OPENS = r"""[\s"'(\[*{]*"""
CLOSES = r"""[\s"')\]*}]*"""
RIGHT = r"(?:right|correct|true|possible|it\b|(?:the|an?) (?:right |correct )?(?:answer|option|choice|one)\b)"

CANDIDATE = "\ue000"  # stands for each letter of a candidate, so that the patterns need not know its name
NAMED = rf"(?:(?:the|an?|option|choice|answer|number) )*{OPENS}{CANDIDATE}+{CLOSES}"
SEVERAL = rf"{NAMED}(?:(?:,{NAMED})*,? ?\b(?:or|nor|and)\b {NAMED})?"
DENIES = (r"(?:\b(?:not|cannot|neither|rather than|instead of|as opposed to|unlike|nicht)\b"
          r"|n't\b|不是|≠|!=|\\neq?\b|\b(?:rul(?:ed?|ing) out|eliminat\w+|exclud\w+|reject\w*)\b"
          r"|\b(?:wrong|incorrect) (?:answer|option|choice)s?\b(?: (?:is|are)\b)?:?)"
          r"(?: (?:be|is|it|in fact|equal to|necessarily|actually|really)\b)*")
IS_WRONG = (r"(?:(?:is|are|was|were|seems?|must be|would be) (?:\w+ly )?"
            rf"(?:wrong|incorrect|false|impossible|ruled out|excluded|eliminated|not (?:\w+ly )?{RIGHT})"
            rf"|(?:isn't|aren't|wasn't|(?:cannot|can't|couldn't) be) {RIGHT})")
NO_WAIT = r"\b(?:no|wait|sorry|actually|correction|scratch that|i mean)\b"
DENIALS = [
    re.compile(rf"{DENIES} ?{SEVERAL}(?!{CLOSES}(?:is|was)\b)(?:,? ?\bbut\b)?", re.IGNORECASE),
    re.compile(rf"{SEVERAL}{IS_WRONG}", re.IGNORECASE),
    re.compile(rf"{NAMED}[\s.,;:!-]*{NO_WAIT}(?=(?:[\s.,;:!-]|{NO_WAIT}|it's|it is|that's|the answer is)*"
               rf"{NAMED})", re.IGNORECASE)]

def masked(candidate):
    return CANDIDATE * len(candidate[0])

def settled(text, named):
    """'Is it A or B? It is not A but B.' -> '  It is   B.': the text without its questions, if there is
    anything else in it, and without the candidates that it denies; `named` is the pattern of a candidate."""
    without_questions = QUESTION.sub(" ", text)
    if re.search(named, without_questions):
        text = without_questions
    for denial in DENIALS:
        for found in reversed(list(denial.finditer(re.sub(named, masked, text)))):
            text = f"{text[:found.start()]} {text[found.end():]}"
    return text

# -- two answers are none ------------------------------------------------------------------------------------

FILLING = (r"""(?:[\s"'()\[\]*{}]|\\boxed|\b(?:maybe|perhaps|possibly|probably|even|also|either|both|else"""
           r"""|just|alternatively|the|an?|option|choice|answer|it|is|it's|could|might|may|be)\b)*""")
OTHER_LANGUAGES = r"\b(?:und|oder|et|ou|y|o)\b|[和与及跟とか]|或者?|または|또는"
# what stands between two mentions: " apples or ", " and ", "/"
BESIDE = [re.compile(rf"[^.!?\n;]{{0,40}}?\bor\b,?{FILLING}", re.IGNORECASE),
          re.compile(rf"[\s,;.]*{FILLING}(?:\b(?:and|or|nor|vs)\b\.?|[/&|+]|{OTHER_LANGUAGES}){FILLING}",
                     re.IGNORECASE),
          re.compile(rf"[\s,;.]*\b(?:maybe|perhaps|possibly|alternatively)\b{FILLING}", re.IGNORECASE)]
LISTED = re.compile(r"""[\s,;."'()\[\]*-]*(?:\d[.)]\s)?""")  # a list may have numbers: 2. Ben
RANGE = re.compile(r"\s*(?:\bto\b|~)\s*")  # "5 to 6", but not "from 5 to 6", which goes somewhere
CLAUSE_ENDS = re.compile(r"""["')\]*}]*\s*(?:$|[.,;!\n]|\b(?:or|and)\b)""", re.IGNORECASE)
POSSIBLE = r"\b(?:could|can|might|may)\b (?:also |equally )?be\b"
ALSO_BEHIND = re.compile(rf"\W*(?:{POSSIBLE}|(?:is|are) (?:also|equally) (?:right|correct|possible)\b)",
                         re.IGNORECASE)  # but Anna could also be right
ALSO_BEFORE = re.compile(rf"(?:{POSSIBLE}|\bbut also\b){FILLING}$", re.IGNORECASE)  # but it could be Anna

def stand_together(text, first, second):
    """Whether two mentions, in the order of the text, are given as one answer: 'A or B', 'yes and no', 'A/B',
    and 'A, B' where the clause ends behind them; 'yes, no doubt' is not."""
    between = text[first.end:second.start]
    if any(pattern.fullmatch(between) for pattern in BESIDE):
        return True
    if RANGE.fullmatch(between) and not text[:first.start].rstrip().endswith("from"):
        return True
    return LISTED.fullmatch(between) is not None and CLAUSE_ENDS.match(text, second.end) is not None

def stated(text, mentions, chosen):
    """The mention `chosen`, which is one of `mentions`, in their order; None where the text gives another
    beside it."""
    i = mentions.index(chosen)
    first = last = i
    chosen_from_list = any(mention.value == chosen.value for mention in mentions[:i])  # "Yes or no. Yes."
    while first > 0 and stand_together(text, mentions[first - 1], mentions[first]):
        if chosen_from_list and "." in text[mentions[first - 1].end:mentions[first].start]:
            break
        first -= 1
    while last + 1 < len(mentions) and stand_together(text, mentions[last], mentions[last + 1]):
        last += 1
    if any(mention.value != chosen.value for mention in mentions[first:last + 1]):
        return None
    for other in mentions[i + 1:]:
        as_well = ALSO_BEHIND.match(text, other.end) or ALSO_BEFORE.search(text[chosen.end:other.start])
        if other.value != chosen.value and as_well:
            return None
    return chosen

# -- what is said outright -----------------------------------------------------------------------------------

# "The answer to 3 + 4 is" says one, too
OUTRIGHT = re.compile(r"""
    \#\#\#\# | \\boxed | \banswer\b \s*:
    | (?<!\bto\ )\banswer\b
      (?: \s+(?:to|for|when|if)\b (?:[^.\n=]|\.\d){0,80}? )?
      (?: \s+(?:is|would\ be|must\ be|should\ be)\b | \s*: )""", re.VERBOSE | re.IGNORECASE)
EQUALS = re.compile(r"(?<![<>!=])=+")
# "= 15", "the answer of 15"
LESS_PLAINLY = re.compile(rf"{EQUALS.pattern}|(?<!\bto )\banswer\b", re.IGNORECASE)

def announced(text, mentions, announces):
    """The first mention behind each announcement, the last announcement first."""
    first_behind = []
    for found in reversed(list(announces.finditer(text))):
        behind = [mention for mention in mentions if mention.start >= found.end()]
        if behind:
            first_behind.append(behind[0])
    return first_behind
