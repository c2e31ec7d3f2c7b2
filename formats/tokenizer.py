"""Text to token ids and back: byte-level BPEs (Llama-3, SmolLM2, Qwen) by tiktoken, others by `tokenizers`.

A byte-level BPE is two things: a table of byte strings, whose order is the order of merging, and a pattern
that cuts text into words first. Meta's `tokenizer.model`, Hugging Face's `tokenizer.json` and GGUF write the
table in three ways; tiktoken runs all of them. Chats are written as the model's own template says (chat.py).

Text is always encoded with special tokens switched off, and the chat's own are put in by id: nothing a user
types can end a turn or start one. Tokens that were added without being special, as Qwen3's <think>, are
tokens wherever they stand; but those that end a turn, or that the chat template writes, count as special.
"""
import base64
import json
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import tiktoken

from formats.chat import IMAGE, LLAMA3_TEMPLATE, chat_format

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# GPT-2's pattern after a split into single digits: without `\s+(?=\p{N})` indented code differs
DIGITS_PATTERN = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
META_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
                 "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>",
                 "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
META_SPECIALS += [f"<|reserved_special_token_{i}|>" for i in range(3, 248)]
QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# known names of the end of a turn; the files of a model may name others by id
STOPS = {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "</s>"}

def utf8(text):
    """The text's bytes. Raises ValueError where it is half a surrogate pair, which no encoding has."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text is not valid Unicode: {error.reason} at character {error.start}") from None

def check_ids(ids):
    """Raises ValueError for ids that no vocabulary has, on which tiktoken would panic in Rust."""
    for i in ids:
        if type(i) is not int or not 0 <= i < 1 << 24:
            raise ValueError(f"the tokenizer has a token of id {i!r}")
    if len(set(ids)) < len(ids):
        raise ValueError("the tokenizer has two tokens of the same id")

class BytePairs:
    """A byte-level BPE on tiktoken: `ranks` {bytes: id}, `specials` and `added` {text: id}, `pattern` that
    cuts words, after Unicode's composition NFC where `compose` says so."""

    def __init__(self, ranks, specials, added, pattern, compose=False):
        check_ids([*ranks.values(), *specials.values(), *added.values()])
        self.bpe = tiktoken.Encoding("t2", pat_str=pattern, mergeable_ranks=ranks,
                                     special_tokens=specials | added)
        self.specials = specials
        self.added = dict(added)
        self.compose = compose
        self.vocab_size = max(ranks.values()) + 1
        self.known = {*ranks.values(), *added.values(), *specials.values()}
        # tiktoken panics in Rust on a byte that is no token (SmolLM2 lacks 21), so such text is refused first
        self.missing = {b for b in range(256) if bytes([b]) not in ranks}

    def encode(self, text):
        """Ids of the text, in which special tokens are plain text. Raises ValueError if it has none."""
        if self.compose:
            text = unicodedata.normalize("NFC", text)
        if self.missing.intersection(utf8(text)):
            bad = next(c for c in text if self.missing.intersection(utf8(c)))
            raise ValueError(
                f"the character {bad!r} (U+{ord(bad):04X}) is not in this model's vocabulary; remove it")
        return self.bpe.encode(text, allowed_special=set(self.added), disallowed_special=())

    def ids_of(self, parts):
        """[(is special, text), …] -> ids."""
        ids = []
        for is_special, text in parts:
            ids += [self.specials[text]] if is_special else self.encode(text)
        return ids

    def decode(self, ids):
        return self.bpe.decode([i for i in ids if i in self.known], errors="replace")

class HFVocabulary:
    """Any other tokenizer.json, by the `tokenizers` package (Mistral's SentencePiece vocabulary, for one)."""

    def __init__(self, path, specials):
        try:
            from tokenizers import Tokenizer as HFTokenizer
        except ModuleNotFoundError:
            raise ValueError(f"tiktoken cannot express {path}; it needs one more package: "
                             "pip install tokenizers") from None
        try:
            self.hf = HFTokenizer.from_file(str(path))
        except Exception as error:  # the package raises nothing more precise
            raise ValueError(f"{path} is no tokenizer: {error}") from error
        self.hf.no_truncation()  # settings that a training run may have saved in the file
        self.hf.no_padding()
        self.specials = dict(specials)
        self.added = {}  # this package knows them itself
        # what text must never become, whatever is left out later; an unknown character may be unknown
        self.forbidden = {i for text, i in self.specials.items() if text != "<unk>"}
        self.vocab_size = self.hf.get_vocab_size(with_added_tokens=False)
        self.anchor = self.hf.encode("a", add_special_tokens=False).ids

    def encode(self, text):
        """Ids of the text. Raises ValueError for a text in which this package would read a special token."""
        encoded = self.hf.encode(utf8(text).decode(), add_special_tokens=False)
        for token, i in zip(encoded.tokens, encoded.ids):
            if i in self.forbidden:
                raise ValueError(f"the text contains {token!r}, a special token of this model; remove it")
        return encoded.ids

    def ids_of(self, parts):
        for is_special, text in parts:
            if not is_special:
                self.encode(text)  # refuses special tokens; the ids themselves depend on a part's neighbours
        return self.hf.encode("".join(text for _, text in parts), add_special_tokens=False).ids

    def decode(self, ids):
        """The text of ids that go on behind others: SentencePiece drops the first space of all it decodes,
        which would be a program's indent, so they are decoded behind a letter."""
        text = self.hf.decode(self.anchor + ids, skip_special_tokens=False)
        return text.removeprefix(self.hf.decode(self.anchor, skip_special_tokens=False))

class Tokenizer:
    """encode, decode, and chat: a conversation in the model's own format, up to where the model goes on."""

    def __init__(self, vocabulary, template="", names=None, eos_ids=()):
        self.vocabulary = vocabulary
        self.specials = vocabulary.specials
        self.vocab_size = vocabulary.vocab_size  # of the words; specials may stand behind them
        self.encode = vocabulary.encode
        self.special_ids = set(self.specials.values())
        self.stop_ids = {i for text, i in self.specials.items() if text in STOPS} | set(eos_ids)
        self.names = names or {}  # {"bos_token": its text, …}
        self.image_ids = None  # where the model has eyes: a function, image file -> ids …
        self.first_image_id = None  # … from this one on
        self.use_template(template)

    def use_template(self, template):
        """From now on chats are written by this Jinja template; "" is none."""
        self.format = chat_format(template, self.specials, self.names)

    def leave_out(self, vocab_size):
        """Forget added tokens beyond the model's vocabulary, as a [PAD] that was added without a weight."""
        for text in [text for text, i in self.specials.items() if i >= vocab_size]:
            self.special_ids.discard(self.specials.pop(text))
        for text in [text for text, i in self.vocabulary.added.items() if i >= vocab_size]:
            del self.vocabulary.added[text]
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

# -- three ways to write the same table ----------------------------------------------------------------------

def byte_of_character():
    """GPT-2's printable alphabet: JSON and GGUF write each byte as one visible character ('Ġ' is a space)."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}

def from_meta(path):
    """Meta's `tokenizer.model`: a line a token, base64 of its bytes and its rank; special tokens follow."""
    # Parsed here: tiktoken's own reader caches by path and never looks at the file again.
    ranks = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            token, rank = base64.b64decode(token, validate=True), int(rank)
        except ValueError:
            raise ValueError(f"{path} line {number} is not 'base64 rank'; a SentencePiece model (Llama 2) is "
                             "not supported") from None
        if token in ranks:
            raise ValueError(f"{path} line {number} has the token {token!r} a second time")
        ranks[token] = rank
    specials = {text: len(ranks) + i for i, text in enumerate(META_SPECIALS)}
    return Tokenizer(BytePairs(ranks, specials, {}, LLAMA3_PATTERN), LLAMA3_TEMPLATE)

def from_table(tokens, merges, specials, added, cut):
    """BytePairs of token strings {text: id} in the printable alphabet; None if the merges are not in the
    order of the ids, as tiktoken's are."""
    table = byte_of_character()
    merged = [tokens[a + b] for a, b in merges]
    if merged != sorted(merged):
        return None
    ranks = {bytes(table[c] for c in token): i for token, i in tokens.items()
             if token not in specials and token not in added}
    return BytePairs(ranks, specials, added, cut.pattern, cut.compose)

@dataclass
class Cut:
    """How text is cut into words before the merges."""
    pattern: str
    compose: bool = False  # to Unicode's NFC first

def json_of(path):
    """The object in a JSON file; {} if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

def from_hf(folder):
    """Hugging Face's tokenizer.json: by tiktoken where it can say the same, else the tokenizers package; with
    the chat template and the ends of turns that the files beside it name."""
    path = folder / "tokenizer.json"
    file = json.loads(path.read_text(encoding="utf-8"))
    config = json_of(folder / "tokenizer_config.json")
    names = {key: token["content"] if isinstance(token, dict) else token
             for key, token in config.items() if key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    template = template_of(folder, config)
    specials = {}
    added = {}
    for token in file["added_tokens"]:
        text = token["content"]
        # some trainers add the tokens of a chat without saying that they are special
        ends_a_turn = text in STOPS or text == names.get("eos_token")
        is_written = text.startswith("<|") and text in template
        if token.get("special", True) or ends_a_turn or is_written:
            specials[text] = token["id"]
        else:
            added[text] = token["id"]
    vocabulary = None
    cut = cut_of(file)
    if cut is not None:
        merges = [m.split(" ") if isinstance(m, str) else m for m in file["model"]["merges"]]
        vocabulary = from_table(file["model"]["vocab"], merges, specials, added, cut)
    if vocabulary is None:
        vocabulary = HFVocabulary(path, specials)
    return Tokenizer(vocabulary, template, names, eos_ids_of(folder, names, vocabulary))

def read_template(path):
    """The text of a template's file, without a byte order mark. Raises ValueError if it is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error

def template_of(folder, config):
    """The chat template of a folder: a file of its own, or in tokenizer_config.json; "" if there is none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return read_template(file)
    template = config.get("chat_template") or json_of(folder / "chat_template.json").get("chat_template", "")
    if isinstance(template, list):  # several, by name
        template = {each["name"]: each["template"] for each in template}.get("default", "")
    return template

def eos_ids_of(folder, names, vocabulary):
    """The ids that end an answer, by every file that names one."""
    ids = []
    for file in ("config.json", "generation_config.json"):
        named = json_of(folder / file).get("eos_token_id")
        ids += named if isinstance(named, list) else [named]
    ids.append(vocabulary.specials.get(names.get("eos_token")))
    return {i for i in ids if isinstance(i, int)}

def cut_of(file):
    """The Cut of a tokenizer.json that is a byte-level BPE which tiktoken can express, else None."""
    steps = file["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    first, last = steps[0], steps[-1]
    normalizer = (file["normalizer"] or {}).get("type")
    if file["model"]["type"] != "BPE" or normalizer not in (None, "NFC") or last.get("add_prefix_space"):
        return None
    cuts_words = last.get("use_regex", True)
    if kinds == ["ByteLevel"] and cuts_words:
        return Cut(GPT2_PATTERN, normalizer == "NFC")
    if kinds == ["Digits", "ByteLevel"] and first["individual_digits"] and cuts_words:
        return Cut(DIGITS_PATTERN, normalizer == "NFC")
    if kinds == ["Split", "ByteLevel"] and first["behavior"] == "Isolated" and \
            not first["invert"] and not cuts_words and "Regex" in first["pattern"]:
        return Cut(first["pattern"]["Regex"], normalizer == "NFC")
    return None

GGUF_CUTS = {"smollm": Cut(DIGITS_PATTERN), "llama-bpe": Cut(LLAMA3_PATTERN), "gpt-2": Cut(GPT2_PATTERN),
             "qwen2": Cut(QWEN2_PATTERN, compose=True)}

def from_gguf(fields):
    """A GGUF token table; `fields` maps a key of the file to its value."""
    kind = fields["tokenizer.ggml.model"]
    pre = fields.get("tokenizer.ggml.pre", "none")
    if kind != "gpt2" or pre not in GGUF_CUTS:
        raise ValueError(f"the GGUF tokenizer {kind!r} with words cut as {pre!r} is not supported (gpt2 with "
                         f"{', '.join(GGUF_CUTS)} is)")
    texts, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    tokens = {text: i for i, text in enumerate(texts)}
    if len(tokens) < len(texts):
        raise ValueError("the GGUF vocabulary has a token twice")
    specials = {text: i for text, i in tokens.items() if types[i] in (2, 3, 5)}  # unknown, control, unused
    added = {text: i for text, i in tokens.items() if types[i] == 4}  # user-defined
    merges = [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = from_table(tokens, merges, specials, added, GGUF_CUTS[pre])
    if vocabulary is None:
        raise ValueError("the GGUF merges are not in the order of the ids, and tiktoken cannot express them")
    eos_ids = {fields[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")
               if f"tokenizer.ggml.{name}_token_id" in fields}
    names = {f"{name}_token": texts[fields[f"tokenizer.ggml.{name}_token_id"]] for name in ("bos", "eos")
             if f"tokenizer.ggml.{name}_token_id" in fields}
    return Tokenizer(vocabulary, fields.get("tokenizer.chat_template", ""), names, eos_ids)
