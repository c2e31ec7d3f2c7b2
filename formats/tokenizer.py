"""Text to token ids and back: byte-level BPEs (Llama-3, SmolLM2, Qwen) by tiktoken, others by `tokenizers`.

A byte-level BPE is two things: a table of byte strings, whose order is the order of merging, and a pattern
that cuts text into words first. Meta's `tokenizer.model`, Hugging Face's `tokenizer.json` and GGUF write the
table in three ways; tiktoken runs all of them. Chats are written as the model's own template says (chat.py).

Text is always encoded with special tokens switched off, and the chat's own are put in by id: nothing a user
types becomes a token that ends a turn or starts one. Tokens that were added without being special, as Qwen3's
<think>, are tokens wherever they stand; but those that end an answer, or that the chat template writes around
turns, count as special, whatever their name and in whatever format they came (Tokenizer.use_template).
"""
import base64
import json
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import regex
import tiktoken

from formats.chat import IMAGE, LLAMA3_TEMPLATE, chat_format, either
from formats.folder import agreed, byte_of_character, vocabulary_of

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
    """A byte-level BPE on tiktoken: `ranks` {bytes: id}, `specials` and `added` {text: id}, and a Cut.

    `unmade` {text: id} are words that no merge makes: text never gives one, but a chat template may write it.
    """

    def __init__(self, ranks, specials, added, cut, unmade=None):
        self.specials = specials
        self.added = dict(added)
        self.unmade = unmade or {}
        known = specials | self.added | self.unmade
        if not ranks:
            raise ValueError("the tokenizer has no words")
        check_ids([*ranks.values(), *known.values()])
        self.bpe = tiktoken.Encoding("t2", pat_str=cut.pattern, mergeable_ranks=ranks, special_tokens=known)
        self.compose = cut.compose
        self.vocab_size = max([*ranks.values(), *self.unmade.values()]) + 1
        self.known = {*ranks.values(), *known.values()}
        self.at_added = either(self.added)
        # tiktoken panics in Rust on a byte that is no token (SmolLM2 lacks 21), so such text is refused first
        self.missing = {b for b in range(256) if bytes([b]) not in ranks}

    def make_special(self, text):
        """From now on this token is never read in a text."""
        self.specials[text] = self.added.pop(text) if text in self.added else self.unmade.pop(text)
        self.at_added = either(self.added)

    def leave_out(self, text):
        """From now on there is no such token."""
        for table in (self.specials, self.added, self.unmade):
            table.pop(text, None)
        self.at_added = either(self.added)

    def encode(self, text):
        """Ids of the text, in which special tokens are plain text. Raises ValueError if it has none."""
        ids = []
        for i, part in enumerate(self.at_added.split(text)):  # every second part is an added token
            ids += [self.added[part]] if i % 2 == 1 else self.encode_words(part)
        return ids

    def encode_words(self, text):
        if self.compose:
            text = unicodedata.normalize("NFC", text)
        if self.missing.intersection(utf8(text)):
            bad = next(c for c in text if self.missing.intersection(utf8(c)))
            raise ValueError(
                f"the character {bad!r} (U+{ord(bad):04X}) is not in this model's vocabulary; remove it")
        return self.bpe.encode_ordinary(text)

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

    def __init__(self, path, specials, added):
        try:
            from tokenizers import Tokenizer as HFTokenizer
        except ModuleNotFoundError:
            raise ValueError(f"tiktoken cannot express {path}; it needs one more package: "
                             "pip install tokenizers") from None
        try:
            self.hf = HFTokenizer.from_file(str(path))
        except BaseException as error:  # the package raises nothing more precise, or panics in Rust
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise ValueError(f"{path} is no tokenizer: {error}") from error
        self.hf.no_truncation()  # settings that a training run may have saved in the file
        self.hf.no_padding()
        self.specials = dict(specials)
        self.added = dict(added)  # which this package finds itself
        self.unmade = {}
        for text, i in (specials | added).items():
            if self.hf.token_to_id(text) != i:
                raise ValueError(f"{path}: the tokenizers package numbers the added token {text!r} "
                                 f"{self.hf.token_to_id(text)} and not {i}; save the tokenizer again")
        # what text must never become, whatever is left out later; an unknown character may be unknown
        self.forbidden = {i for text, i in self.specials.items() if text != "<unk>"}
        self.vocab_size = self.hf.get_vocab_size(with_added_tokens=False)
        self.anchor = self.hf.encode("a", add_special_tokens=False).ids

    def make_special(self, text):
        """From now on no text may have this token in it."""
        self.specials[text] = self.added.pop(text)
        if text != "<unk>":
            self.forbidden.add(self.specials[text])

    def leave_out(self, text):
        """From now on no text may have this token in it, nor does a chat."""
        for table in (self.specials, self.added):
            if text in table:
                self.forbidden.add(table.pop(text))

    def encode(self, text):
        """Ids of the text. Raises ValueError for a text in which this package would read a special token."""
        encoded = self.hf.encode(utf8(text).decode(), add_special_tokens=False)
        for token, i in zip(encoded.tokens, encoded.ids):
            if i in self.forbidden:
                raise ValueError(f"the text contains {token!r}, a special token of this model; remove it")
        return encoded.ids

    def ids_of(self, parts):
        """[(is special, text), …] -> ids. Raises ValueError if these are not the special tokens it reads."""
        for is_special, text in parts:
            if not is_special:
                self.encode(text)  # refuses special tokens; the ids themselves depend on a part's neighbours
        ids = self.hf.encode("".join(text for _, text in parts), add_special_tokens=False).ids
        written = [self.specials[text] for is_special, text in parts if is_special]
        if [i for i in ids if i in self.forbidden] != [i for i in written if i in self.forbidden]:
            raise ValueError("the tokenizer does not read the special tokens of this conversation that the "
                             "chat template writes")
        return ids

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

# -- three ways to write the same table ----------------------------------------------------------------------

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
    return Tokenizer(BytePairs(ranks, specials, {}, Cut(LLAMA3_PATTERN)), LLAMA3_TEMPLATE)

@dataclass
class Cut:
    """How text is cut into words before the merges."""
    pattern: str
    compose: bool = False  # to Unicode's NFC first
    ignore_merges: bool = False  # where a whole word is in the vocabulary

    def finds_whole(self, word):
        """Whether these bytes are a word that counts though no merge makes it, as in Llama 3's vocabulary."""
        try:
            return self.ignore_merges and len(regex.findall(self.pattern, word.decode("utf-8"))) == 1
        except UnicodeDecodeError:
            return False

def from_table(tokens, merges, specials, added, cut):
    """BytePairs of token strings {text: id} in the printable alphabet; None if the merges are not in the
    order of the ids, as tiktoken's are, or if a word that no merge makes counts where it stands alone."""
    table = byte_of_character()
    for merge in merges:
        if len(merge) != 2:
            raise ValueError(f"the tokenizer's merge {merge!r} is not one of two words")
    merged = [tokens[a + b] for a, b in merges]
    if merged != sorted(merged):
        return None
    made = set(merged)
    unmade = {}
    ranks = {}
    for text, i in tokens.items():
        if text in specials or text in added:
            continue
        spelled = bytes(table[c] for c in text) if table.keys() >= set(text) else None
        is_word = i in made or len(text) == 1
        if not is_word and spelled is not None and cut.finds_whole(spelled):
            if any(text[:k] in tokens and text[k:] in tokens for k in range(1, len(text))):
                return None  # tiktoken would merge the two
            is_word = True
        if is_word and spelled is not None:
            ranks[spelled] = i
        else:
            unmade[text] = i
    return BytePairs(ranks, specials, added, cut, unmade)

def json_of(path):
    """The object in a JSON file; {} if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# the fields of an added token in tokenizer.json; of the first five tiktoken expresses only "false"
MATCHING = ("single_word", "lstrip", "rstrip", "normalized")
ADDED_TOKEN = {"id", "content", "special", *MATCHING}

def from_hf(folder):
    """Hugging Face's tokenizer.json: by tiktoken where it can say the same, else the tokenizers package; with
    the chat template and the ends of turns that the files beside it name."""
    path = folder / "tokenizer.json"
    file = json.loads(path.read_text(encoding="utf-8"))
    config = json_of(folder / "tokenizer_config.json")
    if config.get("split_special_tokens"):
        raise ValueError(f"{folder}: tokenizer_config.json says split_special_tokens, by which a chat has no "
                         "turns; take it out")
    for step in steps_of(file):
        if step.get("type") == "ByteLevel" and "add_prefix_space" in step and "add_prefix_space" in config:
            agreed(folder, "add_prefix_space", {"tokenizer.json": step["add_prefix_space"],
                                                "tokenizer_config.json": config["add_prefix_space"]})
    tokens = added_tokens_of(folder, file, config)
    specials = {text: token["id"] for text, token in tokens.items() if token["special"]}
    added = {text: token["id"] for text, token in tokens.items() if not token["special"]}
    vocabulary = None
    cut = cut_of(file, tokens.values())
    if cut is not None:
        merges = file["model"]["merges"]
        if not isinstance(merges, list):
            raise ValueError(f"{path}: its merges are {merges!r} and no list")
        merges = [m.split(" ") if isinstance(m, str) else m for m in merges]
        vocabulary = from_table(file["model"]["vocab"], merges, specials, added, cut)
    if vocabulary is None:
        vocabulary = HFVocabulary(path, specials, added)
    names = names_in(config)
    return Tokenizer(vocabulary, template_of(folder, config), names_in(json_of(folder / LEGACY)) | names,
                     eos_ids_of(folder, config, specials | added))

LEGACY = "special_tokens_map.json"  # says what tokenizer_config.json says, or did

def names_in(config):
    """{"bos_token": its text, …} of a tokenizer_config.json, or of the older special_tokens_map.json."""
    return {key: token["content"] if isinstance(token, dict) else token
            for key, token in config.items() if key in NAMES and token is not None}

def added_tokens_of(folder, file, config):
    """{text: its entry} of the tokens that a tokenizer.json adds; special where any file says so.

    Raises ValueError for an entry that is none, and where a file beside it says otherwise.
    """
    words = vocabulary_of(file)
    tokens = {}
    for entry in file["added_tokens"]:
        token = {"special": True} | dict.fromkeys(MATCHING, False) | entry
        text = token["content"]
        unknown = sorted(token.keys() - ADDED_TOKEN)
        wrong = [field for field in ("special", *MATCHING) if not isinstance(token[field], bool)]
        if unknown or wrong or not isinstance(text, str) or not text:
            field = (unknown + wrong + ["content"])[0]
            raise ValueError(f"{folder}: in tokenizer.json the added token {text!r} has {field} = "
                             f"{token[field]!r}, which is not supported")
        if len(text) > 1:  # a vocabulary's single character may be a byte, which is no text
            agreed(folder, f"the id of {text!r}", {"the added tokens of tokenizer.json": token["id"],
                                                  "its vocabulary": words.get(text, token["id"])})
        if text in tokens:
            raise ValueError(f"{folder}: tokenizer.json adds the token {text!r} twice")
        tokens[text] = token
    beside = {"tokenizer_config.json": {token["content"]: token | {"id": int(i)} for i, token in
                                        config.get("added_tokens_decoder", {}).items()},
              "added_tokens.json": {text: {"id": i} for text, i in
                                    json_of(folder / "added_tokens.json").items()}}
    for name, entries in beside.items():
        for text, entry in entries.items():
            if text not in tokens:
                raise ValueError(f"{folder}: {name} adds the token {text!r}, which tokenizer.json does not; "
                                 "save the tokenizer again")
            for field in ("id", *MATCHING):
                agreed(folder, f"{field} of {text!r}", {"tokenizer.json": tokens[text][field],
                                                        name: entry.get(field, tokens[text][field])})
            tokens[text]["special"] |= entry.get("special", False)
    for key in ("additional_special_tokens", "extra_special_tokens"):
        for text in texts_in(config.get(key)):
            if text in tokens:
                tokens[text]["special"] = True
    return tokens

def texts_in(named):
    """The texts of special tokens in a list of them, or in {what for: token}, each a text or an object."""
    tokens = list(named.values()) if isinstance(named, dict) else named or []
    return [token["content"] if isinstance(token, dict) else token for token in tokens]

def read_template(path):
    """The text of a template's file, without a byte order mark. Raises ValueError if it is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error

def template_of(folder, config):
    """The chat template of a folder: a file of its own, or in tokenizer_config.json; "" if there is none.
    Raises ValueError for two that differ."""
    found = {"tokenizer_config.json": config.get("chat_template"),
             "chat_template.json": json_of(folder / "chat_template.json").get("chat_template")}
    for name in ("chat_template.jinja", "additional_chat_templates/default.jinja"):
        if (folder / name).exists():
            found[name] = read_template(folder / name)
    for name, template in found.items():
        if isinstance(template, list):  # several, by name
            defaults = [each["template"] for each in template if each["name"] == "default"]
            found[name] = agreed(folder, f"the default template of {name}", dict(enumerate(defaults, 1)))
    found = {name: template.replace("\r\n", "\n") for name, template in found.items() if template}
    # Jinja drops a last empty line itself
    agreed(folder, "the chat template", {name: template.rstrip("\n") for name, template in found.items()})
    return next(iter(found.values()), "")

def eos_ids_of(folder, config, known):
    """The ids that end an answer, by every file that names one; `known` is {text: id} of the added tokens."""
    ids = []
    for file in ("config.json", "generation_config.json"):
        named = json_of(folder / file).get("eos_token_id")
        named = named if isinstance(named, list) else [named]
        wrong = [i for i in named if type(i) not in (int, type(None))]
        if wrong:
            raise ValueError(f"{folder / file}: eos_token_id = {wrong[0]!r} is no id of a token")
        ids += named
    for names in (config, json_of(folder / LEGACY)):
        ids.append(known.get(names_in(names).get("eos_token")))
    return {i for i in ids if i is not None}

# the fields of a BPE model that tiktoken does not express, and the values with which they do nothing
NEUTRAL = {"dropout": (None, 0), "continuing_subword_prefix": (None, ""), "end_of_word_suffix": (None, ""),
           "byte_fallback": (None, False)}
# those it is made of; and what stands for a character without a token, which is refused here
EXPRESSED = {"type", "vocab", "merges", "ignore_merges", "unk_token", "fuse_unk"}

def is_plain(model):
    """Whether a tokenizer.json's model is a BPE of nothing but words and merges."""
    special = {field: value for field, value in model.items() if field not in EXPRESSED}
    return model["type"] == "BPE" and all(value in NEUTRAL.get(field, ()) for field, value in special.items())

def normalizer_of(file):
    """The kind of a tokenizer.json's normalizer, None without one, "several" for more than one."""
    normalizer = file.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if len(steps) > 1:
        return "several"
    return steps[0].get("type") if steps else None

def steps_of(file):
    """The pre-tokenizers of a tokenizer.json, one after the other."""
    steps = file["pre_tokenizer"] or {}
    return steps.get("pretokenizers", [steps])

def cut_of(file, added):
    """The Cut of a tokenizer.json that is a byte-level BPE which tiktoken can express, else None."""
    steps = steps_of(file)
    kinds = [step.get("type") for step in steps]
    normalizer = normalizer_of(file)
    decoder = (file.get("decoder") or {"type": "ByteLevel"}).get("type")
    if not is_plain(file["model"]) or normalizer not in (None, "NFC") or decoder != "ByteLevel":
        return None
    for token in added:
        if token["single_word"] or token["lstrip"] or token["rstrip"] or (token["normalized"] and normalizer):
            return None
    first, last = steps[0] if steps else {}, steps[-1] if steps else {}
    cuts_words = last.get("use_regex", True)
    ignore_merges = file["model"].get("ignore_merges") or False
    if last.get("add_prefix_space") or type(cuts_words) is not bool or type(ignore_merges) is not bool:
        return None
    pattern = None
    if kinds == ["ByteLevel"] and cuts_words:
        pattern = GPT2_PATTERN
    if kinds == ["Digits", "ByteLevel"] and first["individual_digits"] is True and cuts_words:
        pattern = DIGITS_PATTERN
    if kinds == ["Split", "ByteLevel"] and first["behavior"] == "Isolated" and \
            first["invert"] is False and not cuts_words and "Regex" in first["pattern"]:
        pattern = first["pattern"]["Regex"]
    return pattern and Cut(pattern, normalizer == "NFC", ignore_merges)

# llama.cpp's names of cuts that are these, some of them for one
GGUF_CUTS = (dict.fromkeys(["smollm", "starcoder", "refact"], Cut(DIGITS_PATTERN))
             | dict.fromkeys(["llama-bpe", "llama3", "llama-v3", "smaug-bpe"],
                             Cut(LLAMA3_PATTERN, ignore_merges=True))
             | dict.fromkeys(["qwen2", "deepseek-r1-qwen"], Cut(QWEN2_PATTERN, compose=True))
             | {"gpt-2": Cut(GPT2_PATTERN)})
GGUF_NAMES = {"bos": "bos", "eos": "eos", "unknown": "unk", "seperator": "sep", "padding": "pad",
              "mask": "mask"}  # as GGUF spells them: as templates do
NO_TOKEN = (-1, 2 ** 32 - 1)  # llama.cpp's id of a token that there is not
NORMAL, USER_DEFINED = 1, 4  # token types; those of others are special: unknown, control, unused, byte

def from_gguf(fields):
    """A GGUF token table; `fields` maps a key of the file to its value."""
    kind = fields["tokenizer.ggml.model"]
    pre = fields.get("tokenizer.ggml.pre", "none")
    if kind != "gpt2" or pre not in GGUF_CUTS:
        raise ValueError(f"the GGUF tokenizer {kind!r} with words cut as {pre!r} is not supported (gpt2 with "
                         f"{', '.join(GGUF_CUTS)} is)")
    if fields.get("tokenizer.ggml.add_space_prefix"):
        raise ValueError("a GGUF tokenizer with add_space_prefix is not supported")
    texts = fields["tokenizer.ggml.tokens"]
    types = fields.get("tokenizer.ggml.token_type", [NORMAL] * len(texts))
    tokens = {text: i for i, text in enumerate(texts)}
    if len(tokens) < len(texts):
        raise ValueError("the GGUF vocabulary has a token twice")
    specials = {text: i for text, i in tokens.items() if types[i] not in (NORMAL, USER_DEFINED)}
    added = {text: i for text, i in tokens.items() if types[i] == USER_DEFINED}
    merges = [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = from_table(tokens, merges, specials, added, GGUF_CUTS[pre])
    if vocabulary is None:
        raise ValueError("the GGUF merges are not in the order of the ids, or do not make all words, and "
                         "tiktoken cannot express them")
    ids = {name: fields.get(f"tokenizer.ggml.{name}_token_id") for name in (*GGUF_NAMES, "eot", "eom")}
    for name, i in ids.items():
        if i in NO_TOKEN:
            ids[name] = None
        elif i is not None and (type(i) is not int or not 0 <= i < len(texts)):
            raise ValueError(f"tokenizer.ggml.{name}_token_id = {i!r} is no id of the {len(texts)} tokens")
    eos_ids = {ids[name] for name in ("eos", "eot", "eom") if ids[name] is not None}
    names = {f"{ours}_token": texts[ids[name]] for name, ours in GGUF_NAMES.items() if ids[name] is not None}
    return Tokenizer(vocabulary, fields.get("tokenizer.chat_template", ""), names, eos_ids)
