"""Everyday requests that no expert was trained for: what the dispatcher must call "other"."""
from dataclasses import dataclass

from tasks.generated import Generator, fill, templates, words
from tasks.interface import Problem

@dataclass(frozen=True)
class Request:
    text: str  # {t} is a thing, {l} a language

REQUESTS = templates(Request, """
Write a short poem about {t}.
Tell me a story about {t}.
Suggest a name for {t}.
Describe {t} to a child.
Translate '{t}' into {l}.
What is a good gift for someone who loves {t}?
Say hello to {t} in {l}.
Give me three tips for taking care of {t}.
Write an email to a friend about {t}.
Tell me a joke about {t}.

Compose a song about {t}.
Recommend a film that has to do with {t}.
How do you say '{t}' in {l}?
Draft a birthday card that mentions {t}.

Invent a fairy tale in which {t} appears.
Put '{t}' into {l} for me.
Make up a riddle about {t}.
What should I know before I paint a picture of {t}?
Write a letter to my grandmother about {t}.
""")
ADJECTIVES = words("lazy old quiet busy small happy lost golden | sleepy empty wooden famous tiny | "
                   "snowy brave friendly ancient crooked silver")
NOUNS = words("cat sea garden house village moon key kitchen puppy forest train teacher | "
              "lake boat market dinner sky bridge | "
              "mountain sailor lighthouse dragon kite castle island baker")
LANGUAGES = words("French German Spanish Italian | Dutch Polish | Swedish Turkish")

def make_other(rng, part, template):
    thing = f"the {rng.choice(ADJECTIVES[part])} {rng.choice(NOUNS[part])}"
    slots = {"t": thing, "l": rng.choice(LANGUAGES[part])}
    return Problem(fill(template.text, slots), gold="other")

EVERYDAY = Generator("other", make_other, REQUESTS)
