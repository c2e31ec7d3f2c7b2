"""One spelling of a text, so that two that say the same are the same: both sides of a comparison pass here.

People, keyboards and models write a quote, a dash, a space, an é or a digit in several ways; Unicode's own
table (NFKC) folds most of them, and QUOTES and DASHES the rest. Left out: case, which `plain` folds, and
accents that somebody left off, since "Pérez" and "Perez" may be two people.

    one_spelling("It’s −５ °C")   ->   "It's -5 °C"
    plain("**“Lima”**.")          ->   "lima"
"""
import re
import unicodedata

QUOTES = dict.fromkeys("“”„‟«»″「」『』〝〞", '"') | dict.fromkeys("‘’‚‛‹›′ʼ´", "'")
DASHES = dict.fromkeys("‐‑‒–−﹣－⁃", "-") | dict.fromkeys("—―⸺", " -- ")  # a long one is no minus
OTHERS = {"⁄": "/", "∕": "/", "٫": ".", "٬": ",", "。": ". ", "、": ", "}
BEFORE_FOLDING = str.maketrans(QUOTES | DASHES)
AFTER_FOLDING = str.maketrans(QUOTES | DASHES | OTHERS)
UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe0e\ufe0f\ufeff]")
RAISED = "⁰¹²³⁴-⁹⁺⁻"

def one_spelling(text):
    """'“1½”' -> '"1 1/2"' and '10²' -> '10^2', where NFKC alone would say 11/2 and 102."""
    text = re.sub(r"([^\S\n])[^\S\n]+", r"\1", re.sub(r"\n{3,}", "\n\n", text))
    text = re.sub(rf"(?<=\d)(?=[¼-¾⅐-⅞]|[{RAISED}]+⁄)", " ", UNSEEN.sub("", text))
    text = re.sub(rf"(?<=[\w)])([{RAISED}]+)(?![{RAISED}⁄])", r"^\1", text)
    return unicodedata.normalize("NFKC", text.translate(BEFORE_FOLDING)).translate(AFTER_FOLDING)

# -- words ---------------------------------------------------------------------------------------------------

# Thai, Lao, Tibetan, Burmese, Khmer, Chinese and Japanese have no spaces; Korean hangs particles on a word
NO_SPACES = ("\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u31ff\u3400-\u9fff\uac00-\ud7ff"
             "\uf900-\ufaff\U00020000-\U0003ffff")
MARKS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"  # vowel signs are no \w in Python

WORD_BEGINS = rf"(?:(?<![^\W{NO_SPACES}])(?<![{MARKS}])|(?=[{NO_SPACES}]))"
WORD_ENDS = rf"(?:(?![^\W{NO_SPACES}]|[{MARKS}])|(?<=[{NO_SPACES}]))"

def whole(pattern):
    """The pattern where it is a word, not a piece of one: 'cat' is not in 'concatenate', but 北京 is in
    答案是北京, since only a language with spaces says where a word ends."""
    return f"{WORD_BEGINS}(?:{pattern}){WORD_ENDS}"

# -- marks around a text -------------------------------------------------------------------------------------

EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_{1,3}|`{1,3}|\$)(?=\S)(.+?)(?<=\S)\1(?!\w)", re.DOTALL)
AROUND = re.compile(r"""(?:\\(?:boxed|text\w*|math\w+)\s*\{|<answer>|["'(\[{])(.+)(?:</answer>|["')\]}])""",
                    re.DOTALL)

def plain(text):
    """'  The **Sea**. ' -> 'the sea': case, spaces, closing punctuation and marks around a text do not count,
    unless there is nothing else."""
    text = " ".join(EMPHASIS.sub(r"\2", one_spelling(text)).casefold().split())
    while True:
        bare = text.rstrip(" .,;:!?")
        around = AROUND.fullmatch(bare)
        if around:
            bare = EMPHASIS.sub(r"\2", around[1]).strip()
        if bare in ("", text):
            return text
        text = bare
