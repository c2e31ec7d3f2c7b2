"""A model's folder whose files contradict each other: which of them counts, or one sentence.

The rule, for all readers: a file that transformers 5 does not read, where another is there, is not read here
(pytorch_model.bin and consolidated.safetensors beside *.safetensors, an index whose shards are gone beside a
whole model.safetensors). Where two files could both be meant and say different things, nobody wins silently:
two sets of weights, two models, two chat templates, two tables of tokens, two ids of one token are refused in
one sentence that names both. Files that agree are no contradiction. A head in the file beats a configuration
that ties the head to the embedding, as in transformers 5: the numbers are there.
"""
import base64
import json

from safetensors import SafetensorError, safe_open

from formats.vocabulary import byte_of_character

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

def agreed(folder, what, found):
    """The value that all files agree on, of {file: value}; None if there is none. Raises ValueError that
    names two files that differ."""
    files = list(found)
    for file in files[1:]:
        if found[file] != found[files[0]]:
            raise ValueError(f"{folder}: {files[0]} and {file} differ in {what}; mend or delete the wrong "
                             "one")
    return found[files[0]] if files else None

def check_one_model(folder):
    """Raises ValueError for a folder with two models, or a model and a change to it."""
    meta = sorted(folder.glob("consolidated.*.pth"))
    theirs = [file for file in (WHOLE, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
              if (folder / file).exists()]
    if meta and theirs and (folder / "params.json").exists() and (folder / "config.json").exists():
        raise ValueError(f"{folder} has two models, Meta's ({meta[0].name}) and Hugging Face's "
                         f"({theirs[0]}); move one of them to another folder")
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder} has an adapter (adapter_config.json) beside the model; merge it into the "
                         "weights, or move it away")

# -- weights -------------------------------------------------------------------------------------------------

def weight_files(folder):
    """{file: the tensors that the index says it has} of a folder, with None instead of them for a whole file.

    Raises ValueError or FileNotFoundError for two sets of weights, none, or one that is not whole.
    """
    shards = index_of(folder)
    there = [file for file in shards if (folder / file).exists()]
    if not shards:
        there = sorted(file.name for file in folder.glob("model-*-of-*.safetensors"))
    if (folder / WHOLE).exists():
        others = [file for file in there if file != WHOLE]
        if others:
            raise ValueError(f"{folder} has two sets of weights, {WHOLE} and {others[0]} with "
                             f"{INDEX if shards else 'its like'}; delete the old one")
        return {WHOLE: None}
    if not there and any(folder.glob("pytorch_model*.bin")):
        raise ValueError(f"{folder} has its weights in pytorch_model.bin, a pickle, which may hold programs; "
                         "save them as safetensors")
    if not shards:
        missing = f"{INDEX} of its shards" if there else WHOLE
        raise FileNotFoundError(f"{folder} has no {missing}")
    for file in shards:
        if file not in there:
            raise FileNotFoundError(f"{folder}: {INDEX} names {file}, which is not there")
    return shards

def index_of(folder):
    """{file: {tensor, …}} as the index says; {} if there is none. Raises ValueError for a name that is none
    of a file in this folder."""
    index = folder / INDEX
    if not index.exists():
        return {}
    shards = {}
    for tensor, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
        if not isinstance(file, str) or not file.endswith(".safetensors") or "/" in file or "\\" in file:
            raise ValueError(f"{index}: {file!r} is no file of this folder")
        shards.setdefault(file, set()).add(tensor)
    return dict(sorted(shards.items()))

def open_weights(folder):
    """{name in the file: the open file that has it}. Raises ValueError for a tensor in two files, or in
    another than the index says."""
    found = {}
    file_of = {}
    for file, expected in weight_files(folder).items():
        try:
            weights = safe_open(folder / file, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{folder / file} is not a whole safetensors file: {error}") from error
        names = set(weights.keys())
        for name in sorted(names):
            if name in found:
                raise ValueError(f"{folder}: the tensor {name} is in two files, {file_of[name]} and {file}")
            found[name] = weights
            file_of[name] = file
        missing = sorted((expected or set()) - names)
        if missing:
            raise ValueError(f"{folder}: {INDEX} says that {file} has the tensor {missing[0]}, and it has "
                             "not")
    return found

# -- tokenizers ----------------------------------------------------------------------------------------------

def check_tokenizers(folder):
    """Raises ValueError if another table of tokens lies beside tokenizer.json and gives one of its tokens
    another id, or other merges than it has."""
    beside = [folder / name for name in ("vocab.json", "tokenizer.model", "merges.txt")]
    beside = [path for path in beside if path.exists()]
    if not beside or not (folder / "tokenizer.json").exists():
        return
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = vocabulary_of(file)
    for path in beside:
        if path.name == "merges.txt":
            check_merges(folder, file["model"].get("merges"), path.read_text(encoding="utf-8"))
            continue
        written = path.read_bytes()
        tokens = json.loads(written) if path.suffix == ".json" else tokens_of(written)
        for text, i in tokens.items():
            if ids.get(text, i) != i:
                raise ValueError(f"{folder}: the token {text!r} is {ids[text]} in tokenizer.json and {i} in "
                                 f"{path.name}; delete the file that is not this model's")

def check_merges(folder, merges, text):
    """Raises ValueError for the text of a merges.txt that has other merges than these of tokenizer.json."""
    if merges is None:
        return
    lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    agreed(folder, "merges", {"tokenizer.json": [m if isinstance(m, str) else " ".join(m) for m in merges],
                              "merges.txt": lines})

def vocabulary_of(file):
    """{text: id} of a tokenizer.json's words."""
    vocabulary = file["model"]["vocab"]
    if isinstance(vocabulary, list):  # [[text, score], …]
        return {text: i for i, (text, _) in enumerate(vocabulary)}
    return vocabulary

def tokens_of(model):
    """{text: id} of the bytes of a tokenizer.model: Meta's rank file, "aGk= 7" a line, or SentencePiece's."""
    if model[:1] == b"\n":  # the first field of a protobuf message
        return {piece: i for i, piece in enumerate(sentence_pieces(model))}
    printable = {byte: character for character, byte in byte_of_character().items()}
    ranks = {}
    for line in model.splitlines():
        try:
            token, rank = line.split()
            ranks["".join(printable[b] for b in base64.b64decode(token))] = int(rank)
        except ValueError:
            raise ValueError("tokenizer.model is neither a rank file nor a SentencePiece model; delete it, "
                             "since tokenizer.json is there") from None
    return ranks

def sentence_pieces(model):
    """The pieces of a SentencePiece model: field 1, each a message whose own field 1 is the text."""
    for number, value in protobuf(model):
        if number == 1:
            texts = [text for inner, text in protobuf(value) if inner == 1]
            yield texts[0].decode("utf-8")

def protobuf(message):
    """(field number, value) of a protobuf message; the values of fields that are numbers are None."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        kind = key % 8
        if kind == 0:
            _, at = varint(message, at)
            yield key // 8, None
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("tokenizer.model is no whole SentencePiece model")
        yield key // 8, message[at:at + size]
        at += size

def varint(message, at):
    """(the number that begins at this byte, where the next one does): seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        byte = message[at]
        value += (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            return value, at
