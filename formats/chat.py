"""The chat format of a model, as the template that comes with it says: Jinja, in its sandbox.

A template turns messages into text in which special tokens mark the turns. What users type must never become
such a token. So the special tokens in a message are swapped for stand-ins before the template sees it, and
come back as plain text behind it; all else of the message is there for the template to trim or to replace.
The message itself stands between two private characters: what is between them is never read as a token,
whatever the template made of it, nor is a token that begins on one side of them and ends on the other; and
where both are gone the template has left the message out.

Which tokens mark the turns is not a matter of spelling: they are those that the template writes around turns.

A message may have an image, which stands before its text. Templates of models with eyes want content as a
list of parts and write <image> for one; for others the image is a character of the text.

Left out: tools and documents in messages. Templates that write the date get the same one every day, or runs
would differ by day.
"""
import json
import re
from dataclasses import dataclass
from datetime import datetime

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from formats.vocabulary import either

# Meta's folders hold no template; this is Llama 3's
LLAMA3_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
IMAGE = chr(0xF0000)  # the first of the private characters stands for an image
IMAGE_IN_TEMPLATES = "<image>"
PROBE = "0123456789"  # a message that no template writes of itself
# Private characters stand around what was typed, the i-th message between OPENED + i and CLOSED + i, and in
# place of special tokens in it, from STAND_IN on: <|im_start|>user\n⟦what was typed⟧<|im_end|>
OPENED, CLOSED, STAND_IN = 0xF1000, 0xF8000, 0x100000
OPENING = f"{chr(OPENED)}-{chr(CLOSED - 1)}"
CLOSING = f"{chr(CLOSED)}-{chr(STAND_IN - 1)}"
AROUND = re.compile(f"[{OPENING}{CLOSING}]")
TYPED = re.compile(f"[{OPENING}][^{OPENING}{CLOSING}]*[{CLOSING}]")
# turns that show what a template writes around them
PROBES = (["user", "assistant", "user"], ["system", "user"], ["developer", "user"],
          ["user", "assistant", "tool"], ["user", "assistant", "tool", "assistant", "user"])
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

def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """JSON as Hugging Face's templates write it: "3 < 4 & café" stays so, which Jinja's own would escape."""
    written = json.dumps(x, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if not ensure_ascii:
        return written
    # our private characters are no text and stay
    return "".join(c if c.isascii() or c >= IMAGE else json.dumps(c)[1:-1] for c in written)

def compiled(template):
    """A template as Hugging Face's library compiles it: in a sandbox, with its extensions, functions and
    tojson. Raises ValueError for one that is no Jinja."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, loopcontrols])
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    environment.filters["tojson"] = tojson
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise ValueError(f"the chat template is no Jinja template: {error}") from error

def enclosed(i, text):
    """The i-th text that somebody typed, between the private characters that say so; spaces stay outside,
    where a template can trim them."""
    core = text.strip()
    if not core:
        return text
    before, _, behind = text.partition(core)
    return before + chr(OPENED + i) + core + chr(CLOSED + i) + behind

def is_written(i, text):
    return chr(OPENED + i) in text or chr(CLOSED + i) in text

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

    def probed(self, roles, **options):
        """What the template writes of probes in these roles; "" if it does not like them."""
        try:
            return self.render([{"role": role, "content": PROBE} for role in roles], **options)
        except MISTAKES:
            return ""

    def turn_marks(self, texts):
        """Those of the texts that the template writes around turns, or to open the model's own.

        What it writes behind that opening, as Qwen3's empty <think> block, is part of an answer.
        """
        marks = either(texts)
        found = set()
        for roles in PROBES:
            turns = self.probed(roles, add_generation_prompt=False)
            opening = self.probed(roles).removeprefix(turns).lstrip()
            turns = TYPED.sub(chr(OPENED), turns)  # a probe may be a token, too
            found |= set(marks.findall(turns))
            found |= set(marks.findall(opening)[:1])
        return {text for text in found if not text.isspace()}

    def end_of_answer(self):
        """The special token that the template writes first behind an answer; None if there is none."""
        _, _, behind = self.probed(["user", "assistant", "user"]).partition(chr(CLOSED + 1))
        between_turns = AROUND.split(behind)[0]
        return next(iter(either(self.specials).findall(between_turns)), None)

    def held_out_texts(self):
        return [*self.specials, IMAGE_IN_TEMPLATES]

    def hold_out(self, text):
        """The text with a stand-in for each special token. Raises ValueError if it has a stand-in already."""
        if any(character >= IMAGE for character in text):
            raise ValueError("the text contains a character of Unicode's private planes; remove it")
        return self.with_stand_ins(text)

    def with_stand_ins(self, text):
        for i, special in enumerate(self.held_out_texts()):
            text = text.replace(special, chr(STAND_IN + i))
        return text

    def put_back(self, text):
        for i, special in enumerate(self.held_out_texts()):
            text = text.replace(chr(STAND_IN + i), special)
        return AROUND.sub("", text)

    def render(self, messages, add_generation_prompt=True):
        """The text up to where the model goes on. Raises Refusal, or what a template's own mistakes raise."""
        held_out = [{"role": m["role"], "content": self.content_of(i, m)} for i, m in enumerate(messages)]
        # Qwen3 and SmolLM3 would think aloud first, beyond any cap of ours
        text = self.template.render(messages=held_out, add_generation_prompt=add_generation_prompt,
                                    enable_thinking=False, tools=None, documents=None, **self.names)
        text = TYPED.sub(self.typed_is_text, text)
        return text.replace(IMAGE_IN_TEMPLATES, IMAGE)  # what the user typed is held out

    def typed_is_text(self, match):
        """What a template made of a message, with stand-ins for the special tokens that came about by that,
        as by `lower`; of one message, or the template has cut two and stands between them itself."""
        text = match[0]
        is_one_message = ord(text[0]) - OPENED == ord(text[-1]) - CLOSED
        return self.with_stand_ins(text) if is_one_message else text

    def content_of(self, i, message):
        """The i-th message's content as the template wants it, its image first, special tokens held out."""
        text = enclosed(i, self.hold_out(message["content"]))
        if not self.wants_parts:
            return IMAGE + text if message.get("image") else text
        image = [{"type": "image"}] if message.get("image") else []
        return [*image, {"type": "text", "text": text}]

    def parts(self, messages, prefill):
        """[{"role", "content"}, …] -> [(is special, text), …], the answer opened with `prefill`; the part of
        an image is (True, IMAGE).

        A template that refuses a system turn, or leaves it out, gets it at the head of the first user turn.
        Raises ValueError for messages that it refuses still, or of which it leaves one out.
        """
        has_system = messages[0]["role"] == "system" and len(messages) > 1
        try:
            text = self.render(messages)
        except Refusal as error:
            if not has_system:
                raise ValueError(f"the model's chat template refuses these turns: {error}") from error
            return self.parts(system_in_first_turn(messages), prefill)
        except MISTAKES as error:
            raise ValueError(f"the model's chat template fails: {error}") from error
        for i, message in enumerate(messages):
            if is_written(i, text) or not message["content"].strip():
                continue
            if i > 0 or not has_system:
                raise ValueError(f"the model's chat template leaves out what the {message['role']} says: "
                                 f"{message['content'][:40]!r}")
            return self.parts(system_in_first_turn(messages), prefill)
        text += enclosed(len(messages), self.hold_out(prefill))
        parts = either([IMAGE, *self.specials]).split(text)
        # every second part is what was split at
        parts = [(i % 2 == 1, self.put_back(part)) for i, part in enumerate(parts)]
        return [(is_special, part) for is_special, part in parts if part]

def chat_format(template, specials, names):
    """The ChatFormat of a template, or None if there is none."""
    if not template:
        return None
    names = {name: text for name, text in names.items() if isinstance(text, str)}
    return ChatFormat(compiled(template), specials, names)
