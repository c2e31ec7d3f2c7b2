"""What counts as right: a number, an option, a letter, a text, or a program that returns what it should."""
import re

from tasks import sandbox

# a minus is a sign unless it stands behind a digit or a bracket; commas belong to a number in threes
NUMBER = re.compile(r"((?:(?<![\d)])-)?)\$?((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)")

def reward(is_right):
    return 1 if is_right else -1

def numbers(text):
    """'from $2,125.00 to -10' -> [2125.0, -10.0]."""
    return [float(f"{sign}{digits}".replace(",", "")) for sign, digits in NUMBER.findall(text)]

def score_numbers(problems, texts):
    """Right is an answer whose last number is the gold one."""
    return [reward(numbers(text)[-1:] == [float(p.gold)]) for p, text in zip(problems, texts)]

def last_option(options, text):
    """The candidate mentioned last, in lower case, or None."""
    longest_first = sorted(options, key=len, reverse=True)
    any_option = "|".join(re.escape(option.lower()) for option in longest_first)
    found = re.findall(rf"(?<!\w)(?:{any_option})(?!\w)", text.lower())
    return found[-1] if found else None

def score_options(problems, texts):
    return [reward(last_option(p.options, text) == p.gold.lower()) for p, text in zip(problems, texts)]

def chosen_letter(text):
    """'the answer is (B)' -> 'B'; else the letter the text begins with. Keys 1-5 mean A-E."""
    found = re.findall(r"answer is:?\s*(?:(?=\([A-Ea-e1-5]\))\(|(?=[A-E1-5]\b))(.)", text)
    if not found:
        found = re.findall(r"^\W*([A-E1-5])\b", text)
    if not found:
        return None
    return found[-1].upper().translate(str.maketrans("12345", "ABCDE"))

def score_letters(problems, texts):
    return [reward(chosen_letter(text) == p.gold) for p, text in zip(problems, texts)]

def plain(text):
    """'  The Sea. ' -> 'the sea': case, spaces and closing punctuation do not count."""
    return " ".join(text.lower().split()).rstrip(" .!?,;:")

def score_texts(problems, texts):
    return [reward(plain(text) == plain(p.gold)) for p, text in zip(problems, texts)]

def program_of(problem, text):
    """The program that an answer makes: what its prefill opened, to the end of the fenced block."""
    _, _, opening = problem.prefill.partition("```python\n")
    return opening + text.split("```")[0]

def score_programs(problems, texts):
    """Run every program on its hidden calls, and every reference that gives expected values, in parallel."""
    programs = []
    references = {}
    for p, text in zip(problems, texts):
        programs.append(sandbox.Program(program_of(p, text) + p.check.after, p.check.entry, p.check.calls))
        if p.check.expected is None:
            references[p.prompt] = sandbox.Program(p.check.reference + p.check.after, p.check.entry,
                                                   p.check.calls)
    results = sandbox.run(programs + list(references.values()), seconds=4)
    reference_results = dict(zip(references, results[len(programs):]))
    rewards = []
    for p, result in zip(problems, results):
        expected = reference_results[p.prompt] if p.check.expected is None else p.check.expected
        rewards.append(reward(result is not None and sandbox.same(result, expected, p.check.tolerance)))
    return rewards

def mentions_gold(problem, text):
    """Lenient: the gold answer stands somewhere in the text. None for programs: it would mean nothing."""
    if problem.check is not None:
        return None
    if NUMBER.fullmatch(problem.gold):
        return numbers(problem.gold)[0] in numbers(text)
    return re.search(rf"(?<![\w.,]){re.escape(problem.gold)}(?!\w|[.,]\d)", text, re.IGNORECASE) is not None
