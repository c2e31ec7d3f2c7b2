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

def utf8(text):
    """The text's bytes. Raises ValueError where it is half a surrogate pair, which no encoding has."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text is not valid Unicode: {error.reason} at character {error.start}") from None

class BytePairs:
    """A byte-level BPE on tiktoken: `ranks` {bytes: id}, `specials` {text: id}, `pattern` that cuts words."""

    def __init__(self, ranks, specials, pattern):
        self.bpe = tiktoken.Encoding("t2", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
        self.specials = specials
        self.vocab_size = max(*ranks.values(), *specials.values()) + 1
        # tiktoken panics in Rust on a byte that is no token (SmolLM2 lacks 21), so such text is refused first
        self.missing = {b for b in range(256) if bytes([b]) not in ranks}

    def encode(self, text):
        """Ids of the text, in which special tokens are plain text. Raises ValueError if it has none."""
        if self.missing.intersection(utf8(text)):
            bad = next(c for c in text if self.missing.intersection(utf8(c)))
            raise ValueError(
                f"the character {bad!r} (U+{ord(bad):04X}) is not in this model's vocabulary; remove it")
        return self.bpe.encode_ordinary(text)

    def render(self, pieces):
        """[(is special, text), …] -> ids."""
        ids = []
        for is_special, text in pieces:
            ids += [self.specials[text]] if is_special else self.encode(text)
        return ids

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
        self.vocab_size = self.hf.get_vocab_size()

    def encode(self, text):
        for special in self.specials:
            if special in text:  # this package would read it as the token itself, so it is refused
                raise ValueError(f"the text contains {special!r}, a special token of this model; remove it")
        return self.hf.encode(utf8(text).decode(), add_special_tokens=False).ids

    def render(self, pieces):
        for is_special, text in pieces:
            if not is_special:
                self.encode(text)  # refuses special tokens; the ids themselves depend on a piece's neighbours
        return self.hf.encode("".join(text for _, text in pieces), add_special_tokens=False).ids

    def decode(self, ids):
        return self.hf.decode(ids, skip_special_tokens=False)

class Tokenizer:
    """encode, decode, and chat: a conversation in the model's own format, up to where the model goes on."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.specials = vocabulary.specials
        self.vocab_size = vocabulary.vocab_size
        self.encode = vocabulary.encode
        self.special_ids = set(self.specials.values())
        self.stop_ids = {i for text, i in self.specials.items() if text in STOPS}

    def decode(self, ids):
        """Text of the ids; special tokens give none, nor do ids of a vocabulary padded beyond this one."""
        return self.vocabulary.decode([i for i in ids if i < self.vocab_size and i not in self.special_ids])

    def chat(self, messages, prefill=""):
        """[{"role": system | user | assistant, "content": text}, …] -> ids, the answer opened with `prefill`.

        Raises ValueError if the special tokens belong to no known format, or if the text cannot be encoded.
        """
        if "<|start_header_id|>" in self.specials:
            pieces = llama3_pieces(messages, prefill)
        elif "<|im_start|>" in self.specials:
            pieces = chatml_pieces(messages, prefill)
        elif "[INST]" in self.specials:
            pieces = mistral_pieces(messages, prefill)
        else:
            raise ValueError("this tokenizer has no chat format known here (Llama-3, ChatML, Mistral)")
        return self.vocabulary.render(pieces)

    def end_of_turn(self):
        """The id with which the model's chat format ends an answer."""
        ids = self.chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        return [i for i in ids if i in self.stop_ids][-1]

# -- chat formats: messages -> [(is special, text), …], up to where the model goes on -----------------------

def llama3_pieces(messages, prefill):
    # the format trims what was said, but not the opening of the answer
    turns = [(message["role"], message["content"].strip()) for message in messages] + [("assistant", prefill)]
    pieces = [(True, "<|begin_of_text|>")]
    for role, text in turns:
        pieces += [(True, "<|start_header_id|>"), (False, role), (True, "<|end_header_id|>"),
                   (False, "\n\n" + text), (True, "<|eot_id|>")]
    return pieces[:-1]  # the answer is open

def chatml_pieces(messages, prefill):
    pieces = []
    for message in [*messages, {"role": "assistant", "content": prefill}]:
        pieces += [(True, "<|im_start|>"), (False, f"{message['role']}\n{message['content']}"),
                   (True, "<|im_end|>"), (False, "\n")]
    return pieces[:-2]  # the answer is open

def mistral_pieces(messages, prefill):
    """Mistral has no system turn: the system prompt opens the last user turn."""
    system = "".join(m["content"] + "\n\n" for m in messages if m["role"] == "system")
    turns = [m for m in messages if m["role"] != "system"]
    pieces = [(True, "<s>")]
    for i, message in enumerate(turns):
        text = message["content"]
        if message["role"] == "assistant":
            pieces += [(False, " " + text), (True, "</s>")]
            continue
        if i == len(turns) - 1:
            text = system + text
        pieces += [(True, "[INST]"), (False, " " + text), (True, "[/INST]")]
    if prefill:
        pieces.append((False, " " + prefill))
    return pieces

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
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError:
            raise ValueError(f"{path} line {number} is not 'base64 rank'; a SentencePiece model (Llama 2) is "
                             "not supported") from None
    specials = {text: len(ranks) + i for i, text in enumerate(META_SPECIALS)}
    return Tokenizer(BytePairs(ranks, specials, LLAMA3_PATTERN))

def from_table(tokens, merges, specials, pattern):
    """Token strings {text: id} in the printable alphabet; None if merges are not by id, as tiktoken's are."""
    table = byte_of_character()
    merged = [tokens[a + b] for a, b in merges]
    if merged != sorted(merged):
        return None
    ranks = {bytes(table[c] for c in token): i for token, i in tokens.items() if token not in specials}
    return Tokenizer(BytePairs(ranks, specials, pattern))

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
    return Tokenizer(Pieces(path))

def pattern_of(file):
    """The word pattern of a tokenizer.json that is a byte-level BPE which tiktoken can express, else None."""
    steps = file["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    first, last = steps[0], steps[-1]
    if file["model"]["type"] != "BPE" or file["normalizer"] or last.get("add_prefix_space"):
        return None
    if kinds == ["ByteLevel"] and last["use_regex"]:
        return GPT2_PATTERN
    if kinds == ["Digits", "ByteLevel"] and first["individual_digits"] and last["use_regex"]:
        return DIGITS_PATTERN
    if kinds == ["Split", "ByteLevel"] and first["behavior"] == "Isolated" and \
            not first["invert"] and not last["use_regex"]:
        return first["pattern"].get("Regex")
    return None

def from_gguf(fields):
    """A GGUF token table; `fields` maps a key of the file to its value."""
    pattern = {"smollm": DIGITS_PATTERN, "llama-bpe": LLAMA3_PATTERN, "gpt-2": GPT2_PATTERN}
    kind = fields["tokenizer.ggml.model"]
    pre = fields.get("tokenizer.ggml.pre", "none")
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
