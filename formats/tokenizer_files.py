"""Three ways to write the same tokenizer: Meta's `tokenizer.model`, Hugging Face's `tokenizer.json` with the
files beside it, and the table of a GGUF file.

Every field of an added token is looked at, and so is every field of a BPE; what tiktoken cannot express goes
through the `tokenizers` package, and what nobody here understands is refused by name.
"""
import base64
import json
from pathlib import Path

from formats.chat import LLAMA3_TEMPLATE
from formats.folder import agreed, vocabulary_of
from formats.tokenizer import Tokenizer
from formats.vocabulary import (
    DIGITS_PATTERN,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    BytePairs,
    Cut,
    HFVocabulary,
    from_table,
)

# -- Meta ----------------------------------------------------------------------------------------------------

META_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
                 "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>",
                 "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
META_SPECIALS += [f"<|reserved_special_token_{i}|>" for i in range(3, 248)]

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

# -- Hugging Face --------------------------------------------------------------------------------------------

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
    if not isinstance(file["added_tokens"], list):
        raise ValueError(f"{folder}: in tokenizer.json added_tokens is {file['added_tokens']!r} and no list")
    tokens = {}
    for entry in file["added_tokens"]:
        token = dict.fromkeys(MATCHING, False) | entry
        text = token["content"]
        unknown = sorted(token.keys() - ADDED_TOKEN)
        wrong = [field for field in ("special", *MATCHING) if not isinstance(token.get(field), bool)]
        if unknown or wrong or not isinstance(text, str) or not text:
            field = (unknown + wrong + ["content"])[0]
            raise ValueError(f"{folder}: in tokenizer.json the added token {text!r} has {field} = "
                             f"{token.get(field)!r}, which is not supported")
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
    first = steps[0] if steps else {}
    last = steps[-1] if steps else {}
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

# -- GGUF ----------------------------------------------------------------------------------------------------

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
