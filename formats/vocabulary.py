"""Words and ids: byte-level BPEs (Llama-3, SmolLM2, Qwen) by tiktoken, all else by the `tokenizers` package.

A byte-level BPE is two things: a table of byte strings, whose order is the order of merging, and a pattern
that cuts text into words first. Text is always encoded with special tokens switched off.
"""
import re
import unicodedata
from dataclasses import dataclass

import regex
import tiktoken

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# GPT-2's pattern after a split into single digits: without `\s+(?=\p{N})` indented code differs
DIGITS_PATTERN = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

def byte_of_character():
    """GPT-2's printable alphabet: JSON and GGUF write each byte as one visible character ('Ġ' is a space)."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}

def either(texts):
    """A pattern that finds each of the texts, the longest where several begin; it never matches for none."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" if longest_first else "((?!))")

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
