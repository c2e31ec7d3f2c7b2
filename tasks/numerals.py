"""Numbers and quantities as people and models write them, in digits, and what they are worth, exactly.

A number is a Fraction, so 9007199254740993 is not 9007199254740992 and 1/3 is itself. Left out: numbers in
words beyond twenty, "8 million", decimal commas (1,5 may be a list), and formulas, which have no value before
somebody works them out: 12/4 is two numbers, 1/2 is one.

    numbers("from $2,125.00 to −10, or 1½")   ->   [2125, -10, 3/2]
    read_numbers("5 km")[0].unit               ->   "km"
"""
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from tasks.spelling import one_spelling, plain

@dataclass(frozen=True)
class Notation:
    """How people and models write what a plain number says."""
    written: str  # a pattern
    plainly: str

# 1'000, 1_000, and spaces that are thin or do not break
NO_BREAK = Notation(r"(?<=\d)[\u00a0\u2007-\u200a\u202f'’_](?=\d{3}(?!\d))", ",")
PART = r"\s*(?:\{\s*([-+]?\d[\d.,]*)\s*\}|(\d))"
FRACTION = re.compile(r"\\(?:[dtc]|nice)?frac" + PART + PART)  # \frac12, \frac{-1}{2}
NOTATIONS = [  # in this order
    Notation(r"\{,\}|\\[,;: ](?=\d)", ","),  # LaTeX: 9{,}500, 9\,500
    Notation(r"\\[,;: ]|~", " "),
    Notation(r"\\(?:text|mathrm)\{([^{}]*)\}", r" \1"),  # 5\text{ km}
    Notation(r"\\! ?|\\(?=[$%])", ""),  # 9,\!500 and \$5
    Notation(r"\s*\\over\b\s*", "/"),  # {1 \over 2}
    Notation(r"(?i)(?:^|(?<=\bis )|(?<== )|(?<=: ))(?:minus|negative) (?=[\d$€£])", "-"),
    Notation(r"(?<=\d) and (?=\d+/\d)", " "),  # 1 and 3/4
    # 1.5 × 10^3
    Notation(r"(?<=\d)\s*(?:×|x|\*|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{?(-?\d{1,3})\}?", r"e\1")]
SPACED = re.compile(r"(?<![\w.,/])(?<!\d )\d{1,3}(?: \d{3})+(?:\.\d+)?(?![\d/]| \d)")

def on_one_line(fraction):
    r"""FRACTION's \frac{-1}{2} -> '-1/2'."""
    over, under = fraction[1] or fraction[2], fraction[3] or fraction[4]
    sign = "-" if (over + under).count("-") == 1 else ""
    return f"{sign}{over.lstrip('+-')}/{under.lstrip('+-')}"

def closed_up(spaced, is_all):
    """'1 500 000' -> '1500000', unless it may be a list, as '100 200 300' in a longer text."""
    first, *groups = spaced.split(" ")
    is_short = is_all and len(groups) < 3
    has_zeros = any(group.startswith("0") for group in groups)  # no number in a list begins with one
    is_long = len(first) < 3 and len(groups) > 1
    return first + "".join(groups) if is_short or has_zeros or is_long else spaced

def plain_notation(text):
    """'\\frac12 of 1’000 and 2½' -> '1/2 of 1,000 and 2 1/2'."""
    text = one_spelling(re.sub(NO_BREAK.written, NO_BREAK.plainly, text))
    text = re.sub(r"\bper cent\b", "percent", text)
    for notation in NOTATIONS:
        text = re.sub(notation.written, notation.plainly, text)
    text = FRACTION.sub(on_one_line, re.sub(r"(?<=\d)\s*(?=\\\w*frac)", " ", text))  # 2\frac12
    for spaced in set(SPACED.findall(text)):
        text = text.replace(spaced, closed_up(spaced, is_all=text.strip(" \n.") == spaced))
    return text

# a minus is a sign unless it stands behind a word, a digit, a bracket or another one; commas belong to a
# number in threes, or as in India in twos before the last three; the 2 of km^2 is none
NUMBER = re.compile(r"""
    (?<![^\W\d]\^)(?<!\d) (?P<sign>(?:(?<![\w)\-])-)?) (?P<currency>[$€£¥₹]?)
    (?: (?<!/)(?P<mixed>\d+\ +)?(?P<over>\d+(?:\.\d+)?)/(?P<under>\d+(?:\.\d+)?)(?![\d/]|\.\d)
      | (?P<digits>(?: \d{1,3}(?:,\d{3})+(?!\d) | \d{1,2}(?:,\d{2})+,\d{3}(?!\d)
                     | \d{1,3}(?:\.\d{3}){2,}(?![\d.]) | \d+ )(?:\.\d+)? | \.\d+ )
        (?P<exponent>(?:e[+-]?\d{1,3}(?!\d))?) )""",
                    re.VERBOSE | re.IGNORECASE)
SPELLED = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
           "sixteen seventeen eighteen nineteen twenty").split()

def exactly(digits):
    if digits.count(".") > 1:  # 1.500.000
        digits = digits.replace(".", "")
    return Fraction(Decimal(digits.replace(",", "")))

def values_of(found):
    """The number that NUMBER found; several where a fraction is a division not yet done: 12/4, not 1/2."""
    sign = -1 if found["sign"] else 1
    if found["digits"]:
        return [sign * exactly(found["digits"]) * Fraction(f"1{found['exponent']}")]
    mixed, over, under = exactly(found["mixed"] or "0"), exactly(found["over"]), exactly(found["under"])
    if under == 0 or over % under == 0:
        division = [over, under]
        return [sign * mixed, *division] if found["mixed"] else division
    return [sign * (mixed + over / under)]

def numbers(text):
    """'from $2,125.00 to −10, or 1 1/2' -> [2125, -10, 3/2]."""
    return [value for found in NUMBER.finditer(plain_notation(text)) for value in values_of(found)]

def is_one_number(text):
    found = NUMBER.fullmatch(plain_notation(text).strip())
    return found is not None and len(values_of(found)) == 1

def spelled_number(text):
    """'Seven.' -> 7; a text of more than that one word may mean anything by it: None."""
    return Fraction(SPELLED.index(plain(text))) if plain(text) in SPELLED else None

def text_of_number(value):
    """12.0 -> '12', 0.1 + 0.2 -> '0.3': as many digits as a float has, and all of an exact number."""
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if value.denominator == 1 else f"{Decimal(value.numerator) / value.denominator}"

# -- quantities ----------------------------------------------------------------------------------------------

UNITS = """
% percent pct
$ dollar usd
€ euro eur
£ pound gbp
¥ yen
₹ rupee rs inr
km kilometer kilometre
m meter metre
cm centimeter centimetre
mm millimeter millimetre
mi mile
ft foot feet
inch in inches
kg kilogram kilo
g gram
lb pound
l liter litre
ml milliliter millilitre
h hour hr
min minute
s second sec
° degree deg
°c celsius
°f fahrenheit
"""
UNIT_LINES = [line.split() for line in UNITS.strip().splitlines()]
WORD = r"[^\W\d_]+(?:\^\d)?"
UNIT = re.compile(rf"""\s*(?P<unit>[%$€£¥₹] | °\s*(?:[CF]\b)? | (?:degrees?\ )?(?:celsius|fahrenheit)\b
                    | (?:(?:square|cubic|sq)\ )?{WORD}(?:\s*(?:/\s*|per\ ){WORD})?)""",
                  re.VERBOSE | re.IGNORECASE)
# words that may stand behind a number and are no unit
NO_UNIT = set("""a about after all also altogether an and are as at away because before but by each for
from had has have if in is it left more now of on or per so since than that the then there these they this to
total was were when which while with would""".split())

def meanings(unit):
    """What a unit may mean: 'Kilometres' -> {'km'}, 'pounds' -> {'£', 'lb'}, 'miles per hour' -> {'mi/h'},
    'square meters' -> {'m^2'}, 'apples' -> {'apple'}."""
    words = unit.casefold().replace("degrees ", "°").replace("° ", "°").replace("°celsius", "°c")
    words = re.sub(r"(?:square|sq) (\w+)", r"\1^2", words)
    words = re.sub(r"cubic (\w+)", r"\1^3", words)
    above, _, below = re.sub(r"\s*(?:/|\bper\b)\s*", "/", words).partition("/")
    if below:
        return {f"{a}/{b}" for a in meanings(above) for b in meanings(below)}
    name, power, exponent = above.partition("^")
    if len(name) > 2 and name.endswith("s"):
        name = name[:-1]
    known = {line[0] for line in UNIT_LINES if name in line or name + "s" in line}
    return {one + power + exponent for one in known or {name}}

@dataclass(frozen=True)
class Number:
    """A number in a text that is in plain notation."""
    value: Fraction | None  # None: a division not yet done
    unit: str  # what stands behind it, or the currency before it; "" for nothing that may be a unit
    start: int
    end: int

    def is_in(self, unit):
        """Whether it may be in that unit: 5 km is, and a bare 5, but not 5 miles, nor 5 km²."""
        return not self.unit or bool(meanings(self.unit) & meanings(unit))

def read_numbers(text):
    """Number for each number in a text in plain notation."""
    read = []
    for found in NUMBER.finditer(text):
        behind = UNIT.match(text, found.end())
        unit = found["currency"] or (behind["unit"] if behind else "")
        values = values_of(found)
        value = values[0] if len(values) == 1 else None
        if unit.casefold() in NO_UNIT:
            unit = ""
        read.append(Number(value, unit, found.start(), found.end()))
    return read

def quantity(text):
    """'5 km' -> its Number; None for what is no number with a unit: 'Lima', '5', '12 Angry Men', '3D'."""
    text = plain_notation(text).strip()
    numbers_in = read_numbers(text)
    if not numbers_in or numbers_in[0].value is None or numbers_in[0].start > 0:
        return None
    number = numbers_in[0]
    behind = text[number.end:]
    if not number.unit or behind.strip() not in ("", number.unit):
        return None
    is_apart = not behind or behind[0] == " " or not number.unit[0].isalpha()
    is_known = any(meanings(number.unit) & {line[0]} for line in UNIT_LINES)
    return number if is_apart or is_known else None
