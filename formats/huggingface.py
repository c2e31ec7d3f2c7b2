"""Hugging Face's format: config.json, *.safetensors and tokenizer.json; read, and written for export.

Two layouts of wq and wk exist. Rotary positions turn pairs of features; Meta pairs neighbours (0,1) (2,3) …,
Hugging Face pairs halves (0, d/2) (1, d/2 + 1) …, and its files hold the rows in that other order. We compute
as Meta does and put the rows back when reading, wq by n_heads and wk by n_kv_heads; forget it and the model
writes sense for about twenty tokens. Biases of wq and wk and the norms behind them go the same way.
"""
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from formats.checkpoint import Checkpoint, checked, halves_to_pairs, heads_of, meta_names, pairs_to_halves
from formats.eyes import WITH_EYES, attach_eyes, eyes_args, our_name
from formats.folder import agreed, check_tokenizers, open_weights
from formats.safetensors_file import write_safetensors
from formats.tokenizer_files import from_hf
from model import ModelArgs
from vision.encoder import Eyes
from vision.seeing import SeeingEmbedding

HF_KEYS = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
           "n_kv_heads": "num_key_value_heads", "head_dim": "head_dim", "hidden_dim": "intermediate_size",
           "vocab_size": "vocab_size", "norm_eps": "rms_norm_eps", "max_seq_len": "max_position_embeddings",
           "tied_embeddings": "tie_word_embeddings"}  # ModelArgs': config.json's
HF_ROPE = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# What a config.json means where it leaves a key out, as transformers 5 has it for each family; a key that is
# there and null is another thing.
LLAMA = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None,
         "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
         "rope_theta": 10000.0, "hidden_act": "silu"}
QWEN2 = LLAMA | {"model_type": "qwen2", "vocab_size": 151936, "intermediate_size": 22016,
                 "num_key_value_heads": 32, "max_position_embeddings": 32768, "use_sliding_window": False,
                 "sliding_window": 4096, "max_window_layers": 28}
DEFAULTS = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": LLAMA | {"model_type": "mistral", "intermediate_size": 14336,
                                   "num_key_value_heads": 8, "max_position_embeddings": 131072,
                                   "sliding_window": 4096},
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN2 | {"model_type": "qwen3", "head_dim": 128},
    "SmolLM3ForCausalLM": LLAMA | {"model_type": "smollm3", "vocab_size": 128256, "hidden_size": 2048,
                                   "num_hidden_layers": 36, "num_attention_heads": 16,
                                   "num_key_value_heads": 4, "max_position_embeddings": 32768,
                                   "use_sliding_window": False, "rope_theta": 2e6,
                                   "tie_word_embeddings": True, "no_rope_layer_interval": 4}}
ARCHITECTURES = tuple(DEFAULTS)
# Keys that change what is computed, of these and of related models. One is refused by name unless its value
# is nothing (false, null, 0, empty) or changes nothing; all other keys pass, whatever their name.
CHANGING = {"attention_bias", "mlp_bias", "use_bias", "quantization_config", "quantization", "num_experts",
            "num_local_experts", "n_routed_experts", "num_experts_per_tok", "attn_logit_softcapping",
            "final_logit_softcapping", "query_pre_attn_scalar", "clip_qkv", "parallel_attn",
            "rope_interleaved", "use_parallel_residual", "attention_chunk_size", "cross_attention_layers",
            "vision_config", "text_config", "is_encoder_decoder", "add_cross_attention", "qk_layernorm",
            "use_qk_norm", "alibi", "logit_soft_cap", "mup_width_scale", "sparse_attention",
            "block_sparse_config", "transformers_weights"}
# and those that multiply or divide, which do nothing at 1
FACTORS = {"logits_scaling", "logit_scale", "attention_multiplier", "residual_multiplier", "scale_depth",
           "embedding_multiplier", "scale_emb", "partial_rotary_factor", "rotary_pct", "attention_scale"}

def refuse_changes(file, config):
    """Raises ValueError for the first key, by the alphabet, that changes what is computed."""
    for key in sorted((CHANGING | FACTORS) & config.keys()):
        value = config[key]
        if value and not (key in FACTORS and value == 1):
            raise ValueError(f"{file}: {key} = {value} is not supported")
    for kind in sorted(set(config.get("layer_types") or [])):
        if kind not in ("full_attention", "sliding_attention"):
            raise ValueError(f"{file}: layer_types has {kind}, which is not supported")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"{file}: hidden_act = {config['hidden_act']} is not supported")

def some_layer_slides(config, architecture):
    """Whether any layer looks through a window, each family saying it in its own way."""
    kinds = config.get("layer_types") or []
    if not config.get("use_sliding_window", True):
        return False
    if architecture in ("Qwen2ForCausalLM", "Qwen3ForCausalLM") and kinds:
        return "sliding_attention" in kinds
    if architecture in ("Qwen2ForCausalLM", "Qwen3ForCausalLM"):
        return config["max_window_layers"] < config["num_hidden_layers"]
    if architecture == "SmolLM3ForCausalLM":
        return bool(no_rope_layers(config))  # these slide
    return True  # Mistral: all of them, if there is a window

def window_of(file, config, architecture):
    """How far back a token sees where attention is a sliding window; None where it sees all. Raises
    ValueError for layers of a window where there is none."""
    kinds = config.get("layer_types") or []
    if not config.get("use_sliding_window", True) and "sliding_attention" in kinds:
        raise ValueError(f"{file}: layer_types has sliding_attention, and use_sliding_window is false")
    return config.get("sliding_window") if some_layer_slides(config, architecture) else None

# the keys of rope_parameters and rope_scaling; Phi's and Qwen2-VL's are others
ROPE_KEYS = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *HF_ROPE}

def scaling_of(file, rope):
    """ModelArgs.rope_scaling of a config.json's rope_parameters or rope_scaling."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"{file}: rope_type {kind!r} is not supported (llama3 is)")
    for key in sorted(rope):
        other = key not in ROPE_KEYS or (key == "partial_rotary_factor" and rope[key] != 1)
        if (other or (key == "factor" and kind == "default" and rope[key] != 1)) and rope[key]:
            raise ValueError(f"{file}: {key} = {rope[key]} in its rotary positions is not supported")
    return tuple(rope[key] for key in HF_ROPE) if kind == "llama3" else None

def rope_of(file, config, default_theta):
    """(theta, scaling or None) of a config.json. Raises ValueError where it says two things."""
    # transformers 5 writes rope_parameters, with theta in it; the hub's files have rope_scaling beside it
    ropes = {key: config[key] for key in ("rope_parameters", "rope_scaling") if config.get(key)}
    scaling = agreed(file, "rotary positions", {key: scaling_of(file, rope) for key, rope in ropes.items()})
    thetas = {key: rope["rope_theta"] for key, rope in ropes.items() if "rope_theta" in rope}
    if config.get("rope_theta") is not None or not thetas:
        thetas["rope_theta"] = config.get("rope_theta", default_theta)
    theta = agreed(file, "rope_theta", thetas)
    if scaling is not None and config.get("original_max_position_embeddings") is not None:
        agreed(file, "original_max_position_embeddings", {
            "rope_scaling": scaling[-1], "the rest": config["original_max_position_embeddings"]})
    return theta, scaling

def architecture_in(file, config):
    """The model's class. Raises ValueError for one that is not supported."""
    named = config.get("architectures") or [name for name in DEFAULTS
                                            if DEFAULTS[name]["model_type"] == config.get("model_type")]
    architecture = (named or ["none"])[0]
    if architecture not in ARCHITECTURES + WITH_EYES:
        known = ", ".join(name.partition("For")[0] for name in ARCHITECTURES + WITH_EYES)
        raise ValueError(f"{file}: architecture {architecture} is not supported ({known} are)")
    if architecture in DEFAULTS:
        model_type = DEFAULTS[architecture]["model_type"]
        agreed(file, "the model's family", {f"its architecture {architecture}": model_type,
                                            "its model_type": config.get("model_type", model_type)})
    return architecture

def language_config(file, config):
    """The part of a config.json with eyes that describes the language model, in full."""
    text = LLAMA | config["text_config"]
    if text["model_type"] != "llama":
        raise ValueError(f"{file}: text_config has model_type {text['model_type']!r}, which is not supported")
    refuse_changes(file, {key: config[key] for key in config if key not in ("text_config", "vision_config")})
    return text | {"tie_word_embeddings": config.get("tie_word_embeddings", False)}

def hf_args(file):
    """ModelArgs from a config.json. Raises ValueError for a key that changes the computation in a way that is
    not supported."""
    config = json.loads(file.read_text(encoding="utf-8"))
    architecture = architecture_in(file, config)
    if architecture in WITH_EYES:
        config = language_config(file, config)
    refuse_changes(file, config)
    defaults = DEFAULTS.get(architecture, LLAMA)
    rope_theta, rope_scaling = rope_of(file, config, defaults["rope_theta"])
    config = defaults | config
    n_heads = config["num_attention_heads"]
    if config["num_key_value_heads"] is None:
        config["num_key_value_heads"] = n_heads
    if config["head_dim"] is None:
        config["head_dim"] = config["hidden_size"] // n_heads
    window = window_of(file, config, architecture)
    if window:  # within its window a model computes what it would without one; longer rows are refused
        config["max_position_embeddings"] = min(config["max_position_embeddings"], window)
    return ModelArgs(**{ours: config[theirs] for ours, theirs in HF_KEYS.items()},
                     rope_theta=rope_theta, rope_scaling=rope_scaling,
                     qkv_bias=architecture == "Qwen2ForCausalLM", qk_norm=architecture == "Qwen3ForCausalLM",
                     no_rope_layers=no_rope_layers(config) if architecture == "SmolLM3ForCausalLM" else ())

def hf_eyes(file, dim):
    """EyesArgs from a config.json, before a language model of this dim; None for one without eyes."""
    config = json.loads(file.read_text(encoding="utf-8"))
    if architecture_in(file, config) not in WITH_EYES:
        return None
    return eyes_args(file, config, dim)

def no_rope_layers(config):
    """SmolLM3's layers without RoPE: the zeros of a list, or every so many-th."""
    has_rope = config.get("no_rope_layers")
    if has_rope is None:
        interval = config.get("no_rope_layer_interval", 4)
        has_rope = [(i + 1) % interval for i in range(config["num_hidden_layers"])]
    return tuple(i for i, has in enumerate(has_rope) if not has)

@dataclass
class SafetensorsTensor:
    """A tensor of an open file, in Meta's order when it is called."""
    file: object
    key: str
    heads: int  # 0 where the order is Meta's already

    def __call__(self):
        return halves_to_pairs(self.file.get_tensor(self.key), self.heads)

def name_of(key, names):
    """Our name of a tensor in a file; an unknown one keeps its own."""
    of_eyes = our_name(key)
    if of_eyes is not None:
        return of_eyes
    return names.get(key.replace("model.text_model.", "model."), key)

def read_hf(folder):
    """Hugging Face's folder -> Checkpoint. Raises ValueError for what is not understood."""
    args = checked(folder, hf_args(folder / "config.json"))
    eyes = hf_eyes(folder / "config.json", args.dim)
    check_tokenizers(folder)
    names = meta_names("hf", args.n_layers)
    tensors = {}
    for key, file in open_weights(folder).items():
        if key.endswith("rotary_emb.inv_freq"):
            continue  # a stored rotary table, computed here instead
        name = name_of(key, names)
        if name in tensors:
            raise ValueError(f"{folder}: {tensors[name].key} and {key} are two names of one tensor")
        tensors[name] = SafetensorsTensor(file, key, heads_of(name, args))
    if args.tied_embeddings and "output.weight" in tensors:
        head, table = tensors["output.weight"](), tensors["tok_embeddings.weight"]()
        if torch.equal(head, table):
            del tensors["output.weight"]  # the tied embedding a second time
        else:
            args = replace(args, tied_embeddings=False)
    tokenizer = from_hf(folder)
    if eyes is None:
        return Checkpoint(args, tensors, tokenizer)
    return Checkpoint(args, tensors, tokenizer, beside=partial(Eyes, eyes), attach=attach_eyes)

# -- export --------------------------------------------------------------------------------------------------

def architecture_of(args):
    if args.qkv_bias:
        return "Qwen2ForCausalLM", "qwen2"
    if args.qk_norm:
        return "Qwen3ForCausalLM", "qwen3"
    if args.no_rope_layers:
        return "SmolLM3ForCausalLM", "smollm3"
    return "LlamaForCausalLM", "llama"

def hf_config(model):
    args = model.args
    architecture, model_type = architecture_of(args)
    config = {theirs: getattr(args, ours) for ours, theirs in HF_KEYS.items()}
    config |= {"architectures": [architecture], "model_type": model_type, "hidden_act": "silu",
               "rope_theta": args.rope_theta, "eos_token_id": sorted(model.stop_ids),
               "torch_dtype": str(model.tok_embeddings.weight.dtype).removeprefix("torch.")}
    if args.rope_scaling is not None:
        config["rope_scaling"] = {"rope_type": "llama3", **dict(zip(HF_ROPE, args.rope_scaling))}
    if args.no_rope_layers:
        config["no_rope_layers"] = [int(i not in args.no_rope_layers) for i in range(args.n_layers)]
        config["pad_token_id"] = min(model.stop_ids)  # transformers' own default is beyond a small vocabulary
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
        state[theirs] = pairs_to_halves(weights[ours].cpu(), heads_of(ours, model.args)).contiguous()
    return state

def tokenizer_files(folder):
    """What the next program needs to read and write text; none where the name is no folder."""
    names = ("token*.json", "chat_template.*", "generation_config.json", "special_tokens_map.json",
             "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model")
    if not (folder / "tokenizer.json").exists():
        return []
    return sorted({file for name in names for file in folder.glob(name)})

def change_json(file, change):
    """change(the object in the file), in place, and write it back, if there is such a file."""
    if file.exists():
        content = json.loads(file.read_text(encoding="utf-8"))
        change(content)
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")

def replace_template(folder, template, stop_ids):
    """This is the chat template of the folder from now on, and the only one; its turns end with stop_ids."""
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "chat_template.json").unlink(missing_ok=True)

    def leave_out_template(config):
        config.pop("chat_template", None)

    def say_stop_ids(config):
        config["eos_token_id"] = sorted(stop_ids)

    change_json(folder / "tokenizer_config.json", leave_out_template)
    change_json(folder / "generation_config.json", say_stop_ids)

def check_new_folder(folder):
    """Make sure, before the work begins, that a new folder can be written. Raises ValueError if it is there
    already, OSError if it cannot be made."""
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} is there already; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(folder.parent, os.W_OK):
        raise PermissionError(f"nothing can be written to {folder.parent}; name another folder")

def write_hf(model, folder, template=""):
    """Write the model as it computes now, merged W' within `using`, as a Hugging Face folder, with the chat
    template that was named where the model has none, or another.

    Returns a sentence that says what was written. The folder appears whole or not at all. Raises ValueError
    for a folder that exists, and for a model with eyes.
    """
    folder = Path(folder)
    if isinstance(model.tok_embeddings, SeeingEmbedding):
        raise ValueError("a model cannot be exported with its eyes; leave out --image, or take another model")
    check_new_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        beside = Path(beside, folder.name)
        beside.mkdir()
        (beside / "config.json").write_text(json.dumps(hf_config(model), indent=2))
        write_safetensors(beside / "model.safetensors", hf_state(model), {"format": "pt"})
        files = tokenizer_files(Path(model.name))
        for file in files:
            shutil.copyfile(file, beside / file.name)  # which may be read-only where it is
        if template:
            replace_template(beside, template, model.stop_ids)
        beside.rename(folder)
    if files:
        return f"wrote {folder} with its tokenizer"
    return (f"wrote {folder} without a tokenizer: {model.name} has no Hugging Face one; copy it there from "
            "the model's page")
