"""Text to token ids and back: byte-level BPEs (Llama-3, SmolLM2) by tiktoken, others by `tokenizers`.

A byte-level BPE is two things: a table of byte strings, whose order is the order of merging, and a pattern
that cuts text into words first. Meta's `tokenizer.model`, Hugging Face's `tokenizer.json` and GGUF write the
table in three ways; tiktoken runs all of them. Chat formats (Llama-3, ChatML, Mistral) are told apart by
their special tokens.

Text is always encoded with special tokens switched off, and the chat's own are put in by id: nothing a user
types can end a turn or start one.
"""
import base64
import json

import tiktoken

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# GPT-2's pattern after a split into single digits: without `\s+(?=\p{N})` indented code differs
DIGITS_PATTERN = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
META_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
                 "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>",
                 "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
META_SPECIALS += [f"<|reserved_special_token_{i}|>" for i in range(3, 248)]
STOPS = {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "</s>"}


class BytePairs:
    """A byte-level BPE on tiktoken: `ranks` {bytes: id}, `specials` {text: id}, `pattern` that cuts words."""

    def __init__(self, ranks, specials, pattern):
        self.bpe = tiktoken.Encoding("t2", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
        self.specials = specials
        # tiktoken panics in Rust on a byte that is no token (SmolLM2 lacks 21), so such text is refused first
        self.missing = {b for b in range(256) if bytes([b]) not in ranks}

    def encode(self, text):
        """Ids of the text, in which special tokens are plain text. Raises ValueError if it has none."""
        try:
            unknown = self.missing.intersection(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text is not valid Unicode: {error.reason} at character {error.start}") from None
        if unknown:
            bad = next(c for c in text if unknown.intersection(c.encode("utf-8")))
            raise ValueError(
                f"the character {bad!r} (U+{ord(bad):04X}) is not in this model's vocabulary; remove it")
        return self.bpe.encode_ordinary(text)

    def render(self, pieces):
        """Alternating text and special tokens, [("text" | "special", str)], -> ids."""
        return [i for kind, s in pieces for i in ([self.specials[s]] if kind == "special"
                                                  else self.encode(s))]

    def decode(self, ids):
        return self.bpe.decode(ids, errors="replace")


class Pieces:
    """Any other tokenizer.json, by the `tokenizers` package (Mistral's SentencePiece vocabulary, for one)."""

    def __init__(self, path):
        try:
            from tokenizers import Tokenizer as HFTokenizer
        except ModuleNotFoundError:
            raise ValueError(
                f"{path} is no byte-level BPE; it needs one more package: pip install tokenizers") from None
        self.hf = HFTokenizer.from_file(str(path))
        self.specials = {token.content: i for i, token in self.hf.get_added_tokens_decoder().items()}

    def encode(self, text):
        for special in self.specials:
            if special in text:  # this package would read it as the token itself, so it is refused
                raise ValueError(f"the text contains {special!r}, a special token of this model; remove it")
        try:
            return self.hf.encode(text, add_special_tokens=False).ids
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text is not valid Unicode: {error.reason} at character {error.start}") from None

    def render(self, pieces):
        for kind, text in pieces:
            if kind == "text":
                self.encode(text)  # refuses special tokens; the ids themselves depend on a piece's neighbours
        return self.hf.encode("".join(text for _, text in pieces), add_special_tokens=False).ids

    def decode(self, ids):
        return self.hf.decode(ids, skip_special_tokens=False)


class Tokenizer:
    """encode, decode, and chat: a conversation in the model's own format, up to where the model goes on."""

    def __init__(self, vocabulary, vocab_size):
        self.vocabulary = vocabulary
        self.specials = vocabulary.specials
        self.special_ids = set(self.specials.values())
        self.encode = vocabulary.encode
        self.stop_ids = {i for text, i in self.specials.items() if text in STOPS}
        self.vocab_size = vocab_size

    def decode(self, ids):
        """Text of the ids; special tokens give none, nor do ids of a vocabulary padded beyond this one."""
        return self.vocabulary.decode([i for i in ids if i < self.vocab_size and i not in self.special_ids])

    def chat(self, messages, prefill=""):
        """[{"role": system | user | assistant, "content": text}, …] -> ids, the answer opened with `prefill`.

        Raises ValueError if the special tokens belong to no known format, or if the text cannot be encoded.
        """
        pieces = []
        if "<|start_header_id|>" in self.specials:
            pieces.append(("special", "<|begin_of_text|>"))
            for message in [*messages, {"role": "assistant", "content": None}]:
                pieces += [("special", "<|start_header_id|>"), ("text", message["role"]),
                           ("special", "<|end_header_id|>")]
                if message["content"] is None:
                    pieces.append(("text", "\n\n" + prefill))
                else:
                    pieces += [("text", "\n\n" + message["content"].strip()), ("special", "<|eot_id|>")]
        elif "<|im_start|>" in self.specials:
            for message in messages:
                pieces += [("special", "<|im_start|>"), ("text", f"{message['role']}\n{message['content']}"),
                           ("special", "<|im_end|>"), ("text", "\n")]
            pieces += [("special", "<|im_start|>"), ("text", "assistant\n" + prefill)]
        elif "[INST]" in self.specials:
            pieces.append(("special", "<s>"))
            system = "".join(m["content"] + "\n\n" for m in messages if m["role"] == "system")
            turns = [m for m in messages if m["role"] != "system"]
            for message in turns:
                if message["role"] == "assistant":
                    pieces += [("text", " " + message["content"]), ("special", "</s>")]
                else:  # Mistral has no system turn: the system prompt opens the last user turn
                    text = (system if message is turns[-1] else "") + message["content"]
                    pieces += [("special", "[INST]"), ("text", " " + text), ("special", "[/INST]")]
            if prefill:
                pieces.append(("text", " " + prefill))
        else:
            raise ValueError("this tokenizer has no chat format known here (Llama-3, ChatML, Mistral)")
        return self.vocabulary.render(pieces)


# -- three ways to write the same table ----------------------------------------------------------------------


def byte_of_character():
    """GPT-2's printable alphabet: JSON and GGUF write each byte as one visible character ('Ġ' is a space)."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}


def to_bytes(token, table):
    return bytes(table[c] for c in token)


def from_meta(path):
    """Meta's `tokenizer.model`: a line a token, base64 of its bytes and its rank; special tokens follow."""
    # Parsed here: tiktoken's own reader caches by path and never looks at the file again.
    ranks = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError:
            raise ValueError(f"{path} line {number} is not 'base64 rank'; a SentencePiece model (Llama 2) is "
                             "not supported") from None
    specials = {text: len(ranks) + i for i, text in enumerate(META_SPECIALS)}
    return Tokenizer(BytePairs(ranks, specials, LLAMA3_PATTERN), len(ranks) + len(specials))


def from_table(tokens, merges, specials, pattern):
    """Token strings {text: id} in the printable alphabet; None if merges are not by id, as tiktoken's are."""
    table = byte_of_character()
    ranks = {to_bytes(token, table): i for token, i in tokens.items() if token not in specials}
    merged = [ranks[to_bytes(a + b, table)] for a, b in merges]
    if merged != sorted(merged):
        return None
    return Tokenizer(BytePairs(ranks, specials, pattern), max(*tokens.values(), *specials.values()) + 1)


def from_hf(path):
    """Hugging Face's tokenizer.json: by tiktoken where it can say the same, else the tokenizers package."""
    file = json.loads(path.read_text(encoding="utf-8"))
    specials = {t["content"]: t["id"] for t in file["added_tokens"]}
    pattern = pattern_of(file)
    if pattern is not None:
        merges = [m.split(" ") if isinstance(m, str) else m for m in file["model"]["merges"]]
        tokenizer = from_table(file["model"]["vocab"], merges, specials, pattern)
        if tokenizer is not None:
            return tokenizer
    pieces = Pieces(path)
    return Tokenizer(pieces, pieces.hf.get_vocab_size())


def pattern_of(file):
    """The word pattern of a tokenizer.json that is a byte-level BPE which tiktoken can express, else None."""
    steps = file["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    if file["model"]["type"] != "BPE" or file["normalizer"] or steps[-1].get("type") != "ByteLevel" or \
            steps[-1].get("add_prefix_space"):
        return None
    first = steps[0]
    if len(steps) == 1 and first["use_regex"]:
        return GPT2_PATTERN
    if len(steps) == 2 and first["type"] == "Digits" and first["individual_digits"] and steps[1]["use_regex"]:
        return DIGITS_PATTERN
    if len(steps) == 2 and first["type"] == "Split" and not steps[1]["use_regex"] and \
            first["behavior"] == "Isolated" and not first["invert"] and "Regex" in first["pattern"]:
        return first["pattern"]["Regex"]
    return None


def from_gguf(fields):
    """A GGUF token table; `fields` maps a key of the file to its value."""
    pattern = {"smollm": DIGITS_PATTERN, "llama-bpe": LLAMA3_PATTERN, "gpt-2": GPT2_PATTERN}
    kind, pre = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "none")
    if kind != "gpt2" or pre not in pattern:
        raise ValueError(f"the GGUF tokenizer {kind!r} with words cut as {pre!r} is not supported (gpt2 with "
                         f"{', '.join(pattern)} is)")
    tokens = {text: i for i, text in enumerate(fields["tokenizer.ggml.tokens"])}
    types = fields["tokenizer.ggml.token_type"]
    specials = {text: i for text, i in tokens.items() if types[i] != 1}  # 1: normal, 3: control
    merges = [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = from_table(tokens, merges, specials, pattern[pre])
    if tokenizer is None:
        raise ValueError("the GGUF merges are not in the order of the ids, and tiktoken cannot express them")
    return tokenizer
