"""Text to token ids and back, and chats as the model's own template writes them (chat.py).

The chat's own tokens are put in by id: nothing a user types becomes a token that ends a turn or starts one.
Tokens that were added without being special, as Qwen3's <think>, are tokens wherever they stand; but those
that end an answer, or that the chat template writes around turns, count as special, whatever their name and
in whatever format they came (Tokenizer.use_template). Where a tokenizer comes from: tokenizer_files.py.
"""
from itertools import groupby

from formats.chat import IMAGE, chat_format

# known names of the end of a turn; the files of a model may name others by id
STOPS = {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "</s>"}

class Tokenizer:
    """encode, decode, and chat: a conversation in the model's own format, up to where the model goes on."""

    def __init__(self, vocabulary, template="", names=None, eos_ids=()):
        self.vocabulary = vocabulary
        self.specials = vocabulary.specials
        self.vocab_size = vocabulary.vocab_size  # of the words; specials may stand behind them
        self.encode = vocabulary.encode
        self.eos_ids = set(eos_ids)  # that the files name
        self.names = names or {}  # {"bos_token": its text, …}
        self.image_ids = None  # where the model has eyes: a function, image file -> ids …
        self.first_image_id = None  # … from this one on
        self.use_template(template)

    def use_template(self, template):
        """From now on chats are written by this Jinja template; "" is none.

        Tokens become special that end an answer, by any file or by their name, that are named for a purpose,
        or that the template writes around turns. What it writes first behind an answer ends one, too.
        """
        self.format = chat_format(template, self.specials, self.names)
        not_special = self.vocabulary.added | self.vocabulary.unmade
        own = (STOPS | set(self.names.values())) & not_special.keys()
        own |= {text for text, i in not_special.items() if i in self.eos_ids}
        if self.format is not None:
            own |= self.format.turn_marks([*self.specials, *not_special]) & not_special.keys()
        for text in sorted(own):
            self.vocabulary.make_special(text)
        self.special_ids = set(self.specials.values())
        stops = STOPS | {self.names.get("eos_token"), self.format and self.format.end_of_answer()}
        self.stop_ids = {i for text, i in self.specials.items() if text in stops} | self.eos_ids

    def leave_out(self, vocab_size):
        """Forget added tokens beyond the model's vocabulary, as a [PAD] that was added without a weight."""
        known = self.specials | self.vocabulary.added | self.vocabulary.unmade
        for text in [text for text, i in known.items() if i >= vocab_size]:
            self.vocabulary.leave_out(text)
        self.special_ids = set(self.specials.values())
        self.eos_ids = {i for i in self.eos_ids if i < vocab_size}
        self.stop_ids = {i for i in self.stop_ids if i < vocab_size}

    def decode(self, ids):
        """Text of the ids; special tokens give none, nor do ids of a vocabulary padded beyond this one."""
        return self.vocabulary.decode([i for i in ids if i not in self.special_ids])

    def as_read(self, ids):
        """Text of the ids with the special tokens in it, as the model reads them; of an image, how many rows
        it has."""
        text = ""
        for is_image, run in groupby(ids, key=self.is_of_image):
            run = list(run)
            text += f"[{len(run)} rows of an image]" if is_image else self.vocabulary.decode(run)
        return text

    def is_of_image(self, i):
        return self.first_image_id is not None and i >= self.first_image_id

    def chat(self, messages, prefill=""):
        """[{"role": system | user | assistant, "content": text}, …] -> ids, the answer opened with `prefill`.
        A message may have an "image", the path of a file.

        Raises ValueError if there is no template, if it refuses the turns, if they cannot be encoded, or if
        there is no way to see an image; FileNotFoundError if an image is missing.
        """
        if self.format is None:
            raise ValueError("this model has no chat template; name one with --chat-template FILE")
        images = [message["image"] for message in messages if message.get("image")]
        if images and self.image_ids is None:
            raise ValueError(f"{images[0]}: this model has no eyes; python -m scripts.sample and "
                             "scripts.train give it some (--eyes)")
        parts = self.format.parts(messages, prefill)
        if parts.count((True, IMAGE)) != len(images):
            raise ValueError(f"the model's chat template writes {parts.count((True, IMAGE))} images where "
                             f"there are {len(images)}")
        ids = []
        between_images = []
        for part in parts:
            if part == (True, IMAGE):
                ids += self.vocabulary.ids_of(between_images) + self.image_ids(images.pop(0))
                between_images = []
            else:
                between_images.append(part)
        return ids + self.vocabulary.ids_of(between_images)

    def end_of_turn(self):
        """The id with which the model's chat format ends an answer."""
        ids = self.chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        stops = [i for i in ids if i in self.stop_ids]
        if not stops:
            raise ValueError("the model's chat template writes no token that ends a turn")
        return stops[-1]
