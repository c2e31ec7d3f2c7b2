"""Eyes on disk: those in a Hugging Face folder of an Idefics3 or SmolVLM, and those made for a text model.

The first are part of the model. The second are one safetensors file, made by train_eyes.py for one language
model, whose fingerprint its metadata name.
"""
import json
import os

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from formats.checkpoint import understood
from vision import Eyes, EyesArgs, Sight

WITH_EYES = ("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration")
# what vision_config means where it leaves a key out
DEFAULTS = {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 16, "num_channels": 3, "image_size": 224, "patch_size": 32,
            "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
FRAME = ("<fake_token_around_image>", "<global-img>")  # an image stands behind both and before the first
PARTS = {"model.vision_model.embeddings.": "tower.", "model.vision_model.encoder.": "tower.",
         "model.vision_model.": "tower.", "model.connector.modality_projection.proj.": "projection."}

def eyes_args(file, config, dim):
    """EyesArgs of a config.json with eyes. Raises ValueError for what is not supported."""
    vision = DEFAULTS | config["vision_config"]
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
            possible = type(value) is int and 0 < value <= 1 << 16
        if not possible:
            raise ValueError(f"{file}: {field} = {value!r} is not possible")
    side = args.image_size // args.patch_size
    if args.image_size % args.patch_size or side % args.scale_factor or args.vision_dim % args.vision_heads:
        raise ValueError(f"{file}: an image of {args.image_size} pixels a side cannot be cut into patches of "
                         f"{args.patch_size}, {args.scale_factor} of them side by side")
    if args.vision_layers > 1000:
        raise ValueError(f"{file}: vision_layers = {args.vision_layers} is not possible")
    return args

def our_name(key):
    """"model.vision_model.encoder.layers.0.mlp.fc1.bias" -> "tower.layers.0.mlp.fc1.bias"; None for a tensor
    that is not of the eyes."""
    for theirs, ours in PARTS.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return None

def frame_of(tokenizer):
    """(ids before an image, ids behind it) of models whose vocabulary knows how images are framed."""
    if any(text not in tokenizer.specials for text in FRAME):
        return (), ()
    around, whole = (tokenizer.specials[text] for text in FRAME)
    return (around, whole), (around,)

def give_sight(model, tokenizer, eyes):
    """From now on the model has eyes, and messages may have images."""
    model.eyes = eyes.requires_grad_(False)
    tokenizer.sight = Sight(model, eyes, *frame_of(tokenizer))

# -- eyes of a text model ------------------------------------------------------------------------------------

def save_eyes(path, eyes, fingerprint, **more):
    """Eyes made for the language model of that fingerprint; never a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    metadata = {"fingerprint": fingerprint, "args": vars(eyes.args), **more}
    save_file({name: v.detach().to("cpu", torch.bfloat16) for name, v in eyes.state_dict().items()}, beside,
              metadata={key: json.dumps(value) for key, value in metadata.items()})
    beside.replace(path)

def load_eyes(path, model):
    """The eyes in a file, on the model's device and in its dtype. Raises ValueError for a file that is
    damaged, something else, or made for another model; FileNotFoundError if there is none."""
    if not path.exists():
        raise FileNotFoundError(f"{model.name} has no eyes of its own, and there are none in {path}; make "
                                "some: python train_eyes.py --data FOLDER")
    try:
        with safe_open(path, framework="pt") as file, understood(f"{path}: its metadata"):
            metadata = {key: json.loads(value) for key, value in file.metadata().items()}
            args = checked_eyes(path, EyesArgs(**metadata["args"]))
            fingerprint = metadata["fingerprint"]
            state = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} holds no eyes: {error}") from error
    if fingerprint != model.fingerprint or args.dim != model.args.dim:
        raise ValueError(f"{path} holds eyes of another model than {model.name}; make some: python "
                         f"train_eyes.py --model {model.name} --data FOLDER")
    with torch.device("meta"):
        eyes = Eyes(args)
    expected = {name: v.shape for name, v in eyes.state_dict().items()}
    if {name: v.shape for name, v in state.items()} != expected:
        raise ValueError(f"{path} holds no eyes: its tensors are not those that its metadata describe")
    if not all(v.isfinite().all() for v in state.values()):
        raise ValueError(f"{path} is damaged: a number is not finite")
    eyes.load_state_dict(state, assign=True)
    return eyes.to(model.tok_embeddings.weight)
