"""The chat format of a model, as the template that comes with it says: Jinja, in its sandbox.

A template turns messages into text in which special tokens mark the turns. What users type must never become
such a token. So the special tokens in a message are swapped for stand-ins before the template sees it, and
come back as plain text behind it; all else of the message is there for the template to trim or to replace.

A message may have an image, which stands before its text. Templates of models with eyes want content as a
list of parts and write <image> for one; for others the image is a character of the text.

Left out: tools and documents in messages. Templates that write the date get the same one every day, or runs
would differ by day.
"""
import re
from dataclasses import dataclass
from datetime import datetime

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Meta's folders hold no template; this is Llama 3's
LLAMA3_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
IMAGE = chr(0xF0000)  # the first of the private characters stands for an image
IMAGE_IN_TEMPLATES = "<image>"
PROBE = "0123456789"  # a message that no template writes of itself
STAND_IN = 0xF0001  # and those from the second on for special tokens
# what a template's own mistakes raise
MISTAKES = (jinja2.TemplateError, TypeError, AttributeError, LookupError, ArithmeticError)
TODAY = datetime(2024, 7, 26)  # the date that Llama 3.2's template falls back to

class Generation(Extension):
    """{% generation %} … {% endgeneration %}, which training frameworks use: here its content, no more."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)

class Refusal(jinja2.TemplateError):
    """A template does not like the messages."""

def raise_exception(message):
    """What a template calls then."""
    raise Refusal(message)

def strftime_now(format):
    return TODAY.strftime(format)

def compiled(template):
    """A template as Hugging Face's library compiles it. Raises ValueError for one that is no Jinja."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, loopcontrols])
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise ValueError(f"the chat template is no Jinja template: {error}") from error

def system_in_first_turn(messages):
    """The messages with the system prompt at the head of the first user turn."""
    system, first, *more = messages
    return [first | {"content": f"{system['content']}\n\n{first['content']}"}, *more]

@dataclass
class ChatFormat:
    template: object  # compiled
    specials: dict[str, int]  # the model's special tokens, shared with its tokenizer
    names: dict[str, str]  # {"bos_token": its text, …}, which templates know
    wants_parts: bool = False  # of content, [{"type": "text", "text": …}], and not a text

    def __post_init__(self):
        self.wants_parts = self.loses_text()

    def loses_text(self):
        """Whether the template writes nothing of a content that is a text, as those of models with eyes."""
        try:
            return PROBE not in self.render([{"role": "user", "content": PROBE}])
        except MISTAKES:
            return False  # it does not like this message; what it says of real ones is seen then

    def held_out_texts(self):
        return [*self.specials, IMAGE_IN_TEMPLATES]

    def hold_out(self, text):
        """The text with a stand-in for each special token. Raises ValueError if it has a stand-in already."""
        if any(character >= IMAGE for character in text):
            raise ValueError("the text contains a character of Unicode's private planes; remove it")
        for i, special in enumerate(self.held_out_texts()):
            text = text.replace(special, chr(STAND_IN + i))
        return text

    def put_back(self, text):
        for i, special in enumerate(self.held_out_texts()):
            text = text.replace(chr(STAND_IN + i), special)
        return text

    def render(self, messages):
        """The text up to where the model goes on. Raises Refusal, or what a template's own mistakes raise."""
        held_out = [{"role": m["role"], "content": self.content_of(m)} for m in messages]
        # Qwen3 and SmolLM3 would think aloud first, beyond any cap of ours
        text = self.template.render(messages=held_out, add_generation_prompt=True, enable_thinking=False,
                                    **self.names)
        return text.replace(IMAGE_IN_TEMPLATES, IMAGE)  # what the user typed is held out

    def content_of(self, message):
        """A message's content as the template wants it, its image first, special tokens held out."""
        text = self.hold_out(message["content"])
        if not self.wants_parts:
            return IMAGE + text if message.get("image") else text
        image = [{"type": "image"}] if message.get("image") else []
        return [*image, {"type": "text", "text": text}]

    def parts(self, messages, prefill):
        """[{"role", "content"}, …] -> [(is special, text), …], the answer opened with `prefill`; the part of
        an image is (True, IMAGE).

        A template that refuses a system turn gets it at the head of the first user turn. Raises ValueError
        for messages that it refuses still.
        """
        try:
            text = self.render(messages)
        except Refusal as error:
            if messages[0]["role"] != "system" or len(messages) == 1:
                raise ValueError(f"the model's chat template refuses these turns: {error}") from error
            return self.parts(system_in_first_turn(messages), prefill)
        except MISTAKES as error:
            raise ValueError(f"the model's chat template fails: {error}") from error
        text += self.hold_out(prefill)
        longest_first = [IMAGE, *sorted(self.specials, key=len, reverse=True)]
        parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
        # every second part is what was split at
        return [(i % 2 == 1, self.put_back(part)) for i, part in enumerate(parts) if part]

def chat_format(template, specials, names):
    """The ChatFormat of a template, or None if there is none."""
    if not template:
        return None
    names = {name: text for name, text in names.items() if isinstance(text, str)}
    return ChatFormat(compiled(template), specials, names)
