"""Eyes on disk: those in a Hugging Face folder of an Idefics3 or SmolVLM, and those made for a text model.

The first are part of the model. The second are one safetensors file, made by scripts/make_eyes.py for one
language model, whose fingerprint its metadata name.
"""
import json

import torch
from safetensors import SafetensorError, safe_open

from formats.checkpoint import LARGEST, understood
from formats.safetensors_file import save_whole
from vision.encoder import Eyes, EyesArgs
from vision.seeing import give_eyes

DEFAULT_EYES = "experts/eyes/smollm2-135m.safetensors"
WITH_EYES = ("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration")
# what vision_config means where it leaves a key out
VISION_DEFAULTS = {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12,
                   "num_attention_heads": 16, "num_channels": 3, "image_size": 224, "patch_size": 32,
                   "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
# AROUND stands before and behind an image, WHOLE_IMAGE between the first and the rows
AROUND, WHOLE_IMAGE = "<fake_token_around_image>", "<global-img>"
# how their names begin, and how ours do; of the three that fit, the first counts
OUR_NAMES = {"model.vision_model.embeddings.": "tower.", "model.vision_model.encoder.": "tower.",
             "model.vision_model.": "tower.", "model.connector.modality_projection.proj.": "projection."}

def eyes_args(file, config, dim):
    """EyesArgs of a config.json with eyes. Raises ValueError for what is not supported."""
    vision = VISION_DEFAULTS | config["vision_config"]
    for key, known in (("hidden_act", "gelu_pytorch_tanh"), ("num_channels", 3)):
        if vision[key] != known:
            raise ValueError(f"{file}: vision_config has {key} = {vision[key]!r}, which is not supported")
    return checked_eyes(file, EyesArgs(
        image_size=vision["image_size"], patch_size=vision["patch_size"], vision_dim=vision["hidden_size"],
        vision_hidden_dim=vision["intermediate_size"], vision_layers=vision["num_hidden_layers"],
        vision_heads=vision["num_attention_heads"], vision_eps=vision["layer_norm_eps"],
        scale_factor=config.get("scale_factor", 2), dim=dim))

def checked_eyes(file, args):
    """The EyesArgs, if eyes can have this shape. Raises ValueError for one that none have."""
    for field, value in vars(args).items():
        if field == "vision_eps":
            possible = type(value) is float and 0 < value < 1
        else:
            most = 1000 if field == "vision_layers" else 1 << 16  # far beyond any; memory would run out first
            possible = type(value) is int and 0 < value <= most
        if not possible:
            raise ValueError(f"{file}: {field} = {value!r} is not possible")
    if args.image_size % args.patch_size or args.patches_a_side() % args.scale_factor:
        raise ValueError(f"{file}: an image of {args.image_size} pixels a side cannot be cut into patches of "
                         f"{args.patch_size}, {args.scale_factor} of them side by side")
    if args.vision_dim % args.vision_heads:
        raise ValueError(f"{file}: {args.vision_dim} features cannot be divided among {args.vision_heads} "
                         "heads")
    return args

def our_name(key):
    """"model.vision_model.encoder.layers.0.mlp.fc1.bias" -> "tower.layers.0.mlp.fc1.bias"; None for a tensor
    that is not of the eyes."""
    for theirs, ours in OUR_NAMES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return None

def frame_of(tokenizer):
    """(ids before an image, ids behind it) as Idefics3 and SmolVLM frame one. Raises ValueError for a
    vocabulary that does not know how."""
    known = tokenizer.specials | tokenizer.vocabulary.added
    if AROUND not in known:
        raise ValueError(f"the tokenizer of this model with eyes has no token {AROUND}")
    whole = [known[WHOLE_IMAGE]] if WHOLE_IMAGE in known else tokenizer.encode(WHOLE_IMAGE)
    return [known[AROUND], *whole], [known[AROUND]]

def attach_eyes(model, tokenizer, eyes):
    """The eyes of a checkpoint in the place where they belong."""
    give_eyes(model, tokenizer, eyes, *frame_of(tokenizer))

# -- eyes of a text model ------------------------------------------------------------------------------------

def save_eyes(path, eyes, fingerprint, **more):
    """Eyes made for the language model of that fingerprint, in bfloat16, with more metadata."""
    save_whole(path, {name: v.to(torch.bfloat16) for name, v in eyes.state_dict().items()},
               {"fingerprint": fingerprint, "args": vars(eyes.args), **more})

def load_eyes(path, model):
    """The eyes in a file, on the model's device and in its dtype. Raises ValueError for a file that is
    damaged, something else, or made for another model; FileNotFoundError if there is none."""
    if not path.exists():
        raise FileNotFoundError(f"{model.name} has no eyes of its own, and {path} does not exist; name a "
                                f"file by --eyes, or make one: python -m scripts.make_eyes --model "
                                f"{model.name}")
    try:
        with safe_open(path, framework="pt") as file, understood(f"{path}: its metadata"):
            metadata = {key: json.loads(value) for key, value in file.metadata().items()}
            args = checked_eyes(path, EyesArgs(**metadata["args"]))
            fingerprint = metadata["fingerprint"]
            state = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} holds no eyes: {error}") from error
    if fingerprint != model.fingerprint or args.dim != model.args.dim:
        raise ValueError(f"{path} holds eyes of another model than {model.name}; name a file by --eyes, or "
                         f"make one: python -m scripts.make_eyes --model {model.name}")
    with torch.device("meta"):
        eyes = Eyes(args)
    expected = {name: v.shape for name, v in eyes.state_dict().items()}
    if {name: v.shape for name, v in state.items()} != expected:
        raise ValueError(f"{path} holds no eyes: its tensors are not those that its metadata describe")
    if not all((v.abs() < LARGEST).all() for v in state.values()):  # NaN is not less either
        raise ValueError(f"{path} is damaged: a number is not finite, or beyond {LARGEST:g}")
    eyes.load_state_dict(state, assign=True)
    return eyes.to(model.tok_embeddings.weight)

def open_eyes(path, model, tokenizer):
    """Make sure that the model sees: by its own eyes, or by those at `path`."""
    if tokenizer.image_ids is None:
        give_eyes(model, tokenizer, load_eyes(path, model))
