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

# what announces a result: the text behind the last of these is what an answer concludes with
CONCLUSION = re.compile(r"=|####|\\boxed|\banswer(?: is)?\b:?", re.IGNORECASE)

def conclusions(text):
    """What stands behind each announcement of a result, the last first."""
    return [text[found.end():] for found in reversed(list(CONCLUSION.finditer(text)))]

def concluded_number(question, text):
    """The number that an answer concludes with, or None.

    '3 * 5 = 15. So 15 eggs for 5 cakes.'  ->  15, behind the last announcement
    '15 eggs for 5 cakes'  ->  15, the last number that is not one of the question (3 eggs, 5 cakes)
    """
    for conclusion in conclusions(text):
        if numbers(conclusion):
            return numbers(conclusion)[0]
    found = numbers(text)
    new = [number for number in found if number not in numbers(question)]
    if new:
        return new[-1]
    return found[-1] if found else None

def score_numbers(problems, texts):
    """Each answer is +1 if it concludes with the gold number."""
    return [reward(concluded_number(problem.prompt, text) == numbers(problem.gold)[0])
            for problem, text in zip(problems, texts)]

def mentioned_options(options, text):
    """The candidates in the order in which the text mentions them, in lower case."""
    longest_first = sorted(options, key=len, reverse=True)
    any_option = "|".join(re.escape(option.lower()) for option in longest_first)
    return re.findall(rf"(?<!\w)(?:{any_option})(?!\w)", text.lower())

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
    results = sandbox.run_programs(programs + list(references.values()), seconds=4)
    reference_results = dict(zip(references, results[len(programs):]))
    rewards = []
    for p, result in zip(problems, results):
        expected = reference_results[p.prompt] if p.check.expected is None else p.check.expected
        rewards.append(reward(result is not None and sandbox.same(result, expected, p.check.tolerance)))
    return rewards

def mentions_gold(problem, text):
    """Lenient: the gold answer stands somewhere in the text. None for programs, where it would mean nothing,
    and for letters, since "a" is also a word."""
    if problem.check is not None or (len(problem.gold) == 1 and problem.gold.isalpha()):
        return None
    if NUMBER.fullmatch(problem.gold):
        return numbers(problem.gold)[0] in numbers(text)
    return re.search(rf"(?<![\w.,]){re.escape(problem.gold)}(?!\w|[.,]\d)", text, re.IGNORECASE) is not None
