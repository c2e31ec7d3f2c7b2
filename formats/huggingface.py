"""Hugging Face's format: config.json, *.safetensors and tokenizer.json; read, and written for export.

Two layouts of wq and wk exist. Rotary positions turn pairs of features; Meta pairs neighbours (0,1) (2,3) …,
Hugging Face pairs halves (0, d/2) (1, d/2 + 1) …, and its files hold the rows in that other order. We compute
as Meta does and put the rows back when reading, wq by n_heads and wk by n_kv_heads; forget it and the model
writes sense for about twenty tokens.
"""
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from formats import tokenizer as tokenizers_of
from formats.checkpoint import Checkpoint, meta_names
from model import ModelArgs

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

def rope_of(file, config):
    """(theta, scaling or None) of a config.json."""
    # transformers 5 writes rope_parameters, with theta in it; the hub's files have rope_scaling beside it
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"{file}: rope_type {kind!r} is not supported (llama3 is)")
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    scaling = tuple(rope[key] for key in HF_ROPE) if kind == "llama3" else None
    return theta, scaling

def hf_args(file):
    """ModelArgs from a config.json. Raises ValueError for a key that is not understood."""
    config = json.loads(file.read_text())
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ("LlamaForCausalLM", "MistralForCausalLM"):
        raise ValueError(f"{file}: architecture {architecture} is not supported (Llama and Mistral are)")
    for key in sorted(config.keys() - HF_OTHER - set(HF_KEYS.values())):
        if config[key]:  # attention_bias, mlp_bias, sliding_window, quantization_config, rope_interleaved, …
            raise ValueError(f"{file}: {key} = {config[key]} is not supported")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"{file}: hidden_act = {config['hidden_act']} is not supported")
    rope_theta, rope_scaling = rope_of(file, config)
    n_heads = config["num_attention_heads"]
    config["num_key_value_heads"] = config.get("num_key_value_heads") or n_heads
    config["head_dim"] = config.get("head_dim") or config["hidden_size"] // n_heads
    config.setdefault("tie_word_embeddings", False)
    return ModelArgs(**{ours: config[theirs] for ours, theirs in HF_KEYS.items()},
                     rope_theta=rope_theta, rope_scaling=rope_scaling)

def heads_of(name, args):
    """How many heads' rows are in another order in Hugging Face's layout: those of wq and wk, else 0."""
    if name.endswith("wq.weight"):
        return args.n_heads
    if name.endswith("wk.weight"):
        return args.n_kv_heads
    return 0

def halves_to_pairs(w, heads):
    """Rows of wq or wk (heads · head_dim, in) from Hugging Face's order to Meta's."""
    return w.view(heads, 2, -1, w.shape[1]).transpose(1, 2).reshape(w.shape)

def pairs_to_halves(w, heads):
    return w.view(heads, -1, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)

@dataclass
class SafetensorsTensor:
    """A tensor of an open file, in Meta's order when it is called."""
    file: object
    key: str
    heads: int  # 0 where the order is Meta's already

    def __call__(self):
        w = self.file.get_tensor(self.key)
        return halves_to_pairs(w, self.heads) if self.heads else w

def read_hf(folder):
    """Hugging Face's folder -> Checkpoint. Raises ValueError for what is not understood."""
    args = hf_args(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    names = meta_names("hf", args.n_layers)
    tensors = {}
    for file in files:
        try:
            shard = safe_open(folder / file, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{folder / file} is not a whole safetensors file: {error}") from error
        for key in shard.keys():
            if key.endswith("rotary_emb.inv_freq") or (key == "lm_head.weight" and args.tied_embeddings):
                continue  # a stored rotary table, or the tied embedding a second time
            name = names.get(key, key)
            tensors[name] = SafetensorsTensor(shard, key, heads_of(name, args))
    return Checkpoint(args, tensors, tokenizers_of.from_hf(folder / "tokenizer.json"))

# -- export --------------------------------------------------------------------------------------------------

def hf_config(model):
    args = model.args
    config = {theirs: getattr(args, ours) for ours, theirs in HF_KEYS.items()}
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
               "rope_theta": args.rope_theta, "eos_token_id": sorted(model.stop_ids),
               "torch_dtype": str(model.tok_embeddings.weight.dtype)[6:]}
    if args.rope_scaling is not None:
        config["rope_scaling"] = {"rope_type": "llama3", **dict(zip(HF_ROPE, args.rope_scaling))}
    return config

def hf_state(model):
    """{Hugging Face's name: weight} of the model as it computes now, W' where one is merged."""
    weights = {key.replace(".linear.", "."): w for key, w in model.state_dict().items()}
    for name, module in model.named_modules():
        if getattr(module, "merged", None) is not None:
            weights[f"{name}.weight"] = module.merged
    state = {}
    for theirs, ours in meta_names("hf", model.args.n_layers).items():
        if ours not in weights:
            continue  # a tied model has no output
        w = weights[ours].cpu()
        heads = heads_of(ours, model.args)
        state[theirs] = (pairs_to_halves(w, heads) if heads else w).contiguous()
    return state

def write_hf(model, folder):
    """Write the model as it computes now, merged W' within `using`, as a Hugging Face folder.

    Returns a sentence that says what was written. The folder appears whole or not at all.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} is there already; export to a new folder")
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        beside = Path(beside, folder.name)
        beside.mkdir()
        (beside / "config.json").write_text(json.dumps(hf_config(model), indent=2))
        save_file(hf_state(model), beside / "model.safetensors", metadata={"format": "pt"})
        files = sorted(Path(model.name).glob("token*.json"))  # none where the name is no folder
        for file in files:
            shutil.copy(file, beside)
        beside.rename(folder)
    if files:
        return f"wrote {folder} with its tokenizer"
    return (f"wrote {folder} without a tokenizer: {model.name} has no Hugging Face one; copy it there from "
            "the model's page")
