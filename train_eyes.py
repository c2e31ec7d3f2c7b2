"""Eyes for a language model that has none, from easy-VQA's pictures, the language model frozen.

1. The tower learns to see: from the mean of its features, one linear layer names shape and colour.
2. The projection learns to say it in the language model's own terms: through the frozen model, next-token
   loss on captions such as "A blue circle." behind requests such as "Describe the picture."

No question of the data set is shown: to answer those is left to the language model, and to an expert. Images
from VALIDATION on (tasks/easy_vqa.py) train nothing; they say how far it is.

    python train_eyes.py --data easy_vqa/data
    python train_eyes.py --data easy_vqa/data --resume     # after Ctrl-C
"""
import math
import pickle
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from common import (DEVICE_HELP, DTYPE_HELP, MODEL_HELP, TEMPLATE_HELP, append, bar, command_line, flag,
                    machine, parse_flags, pick_device, run_main)
from formats.default_model import DEFAULT_MODEL
from formats.eyes import give_sight, save_eyes
from formats.load import load
from model import Sampling, Stopping, generate
from rl import Answer, answer_logprobs
from tasks.easy_vqa import COLORS, SHAPES, VALIDATION, YES_OR_NO, read_part, words_of
from vision import Eyes, EyesArgs, read_image

REQUESTS = ("What is in the picture?", "Describe the picture.", "What do you see?", "What does this show?",
            "Say what is in the image.", "Describe what the image contains.")
CAPTIONS = ("A {color} {shape}.", "There is a {color} {shape} in the picture.", "I see a {color} {shape}.",
            "The image contains a {shape}. It is {color}.", "It is a {shape} of the color {color}.",
            "The shape is a {shape}, and its color is {color}.")

@dataclass
class Config:
    data: str = flag("", "folder of easy-VQA: train/questions.json, train/images")
    out: str = flag("out/eyes", "folder for the eyes, their log, and the state that --resume goes on from")
    tower_steps: int = flag(2000, "updates of the tower")
    steps: int = flag(1000, "updates of the projection")
    batch: int = flag(32, "images in an update")
    tower_lr: float = flag(1e-3, "learning rate of the tower", (1e-9, 1))
    lr: float = flag(1e-3, "learning rate of the projection", (1e-9, 1))
    vision_dim: int = flag(128, "features of a patch")
    vision_layers: int = flag(4, "blocks of the tower")
    model: str = flag(DEFAULT_MODEL, MODEL_HELP)
    chat_template: str = flag("", TEMPLATE_HELP)
    seed: int = flag(0, "of everything random")
    device: str = flag("", DEVICE_HELP)
    dtype: str = flag("", DTYPE_HELP)
    resume: bool = flag(False, "go on from the state in the output folder")

# -- pictures ------------------------------------------------------------------------------------------------

@dataclass
class Pictures:
    pixels: torch.Tensor  # (N, 3, S, S)
    shapes: torch.Tensor  # (N,), index in SHAPES
    colors: torch.Tensor  # (N,), index in COLORS

    def some(self, indices):
        return Pictures(self.pixels[indices], self.shapes[indices], self.colors[indices])

    def __len__(self):
        return len(self.shapes)

def what_is_said(problem):
    """The shapes and colours that a question and its answer say are in the image."""
    question = words_of(problem.prompt.lower())
    if problem.gold not in YES_OR_NO:
        return question | {problem.gold}
    is_negated = bool(question & {"not", "no"})
    is_there = (problem.gold == "yes") != is_negated
    return question if is_there else set()

def read_pictures(folder, size):
    """(pictures to train on, pictures to validate with), labelled by what the questions say of them."""
    said = {}
    for problem in read_part(folder, "train"):
        said.setdefault(problem.image, (problem.template, set()))[1].update(what_is_said(problem))
    parts = {"train": [], "val": []}
    for path, (number, words) in bar(said.items(), desc="images"):
        shape = [i for i, word in enumerate(SHAPES) if word in words]
        color = [i for i, word in enumerate(COLORS) if word in words]
        if len(shape) == 1 and len(color) == 1:
            part = parts["train" if number < VALIDATION else "val"]
            part.append((read_image(path, size), shape[0], color[0]))
    if not parts["train"] or not parts["val"]:
        raise ValueError(f"{folder} has too few images to train eyes; they need some from {VALIDATION} on")
    return [Pictures(torch.stack(pixels), torch.tensor(shapes), torch.tensor(colors))
            for pixels, shapes, colors in (zip(*part) for part in parts.values())]

# -- the two lessons -----------------------------------------------------------------------------------------

class Namer(nn.Module):
    """The tower, and one linear layer that names shape and colour; the layer is thrown away later."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower
        self.names = nn.Linear(tower.position_embedding.embedding_dim, len(SHAPES) + len(COLORS))

    def forward(self, pixels):
        named = self.names(self.tower(pixels).mean(dim=1))
        return named.split((len(SHAPES), len(COLORS)), dim=1)  # (B, shapes), (B, colors)

    def loss(self, pictures, rng):
        shapes, colors = self(pictures.pixels)
        return F.cross_entropy(shapes, pictures.shapes) + F.cross_entropy(colors, pictures.colors)

    @torch.no_grad()
    def share_right(self, pictures):
        shapes, colors = self(pictures.pixels)
        right = (shapes.argmax(1) == pictures.shapes) & (colors.argmax(1) == pictures.colors)
        return right.float().mean().item()

class InOrder:
    """What a tokenizer needs to write a batch's images, which are named by their numbers in it."""

    def __init__(self, vocab_size, n_features):
        self.vocab_size, self.n_features = vocab_size, n_features

    def ids_of(self, number):
        first = self.vocab_size + int(number) * self.n_features
        return list(range(first, first + self.n_features))

class Teller(nn.Module):
    """The eyes in front of the frozen language model, which says what they see."""

    def __init__(self, eyes, model, tokenizer):
        super().__init__()
        self.eyes = eyes
        self.speaks = [model, tokenizer]  # in a list: not a part of what is trained

    def show(self, pictures):
        """Hand the pictures of a batch to the language model."""
        model, _ = self.speaks
        rows = self.eyes(pictures.pixels).flatten(0, 1)  # (B · n_features, dim)
        model.image_features = rows.to(model.tok_embeddings.weight.dtype)

    def asked(self, number, request):
        _, tokenizer = self.speaks
        return tokenizer.chat([{"role": "user", "content": request, "image": str(number)}])

    def loss(self, pictures, rng):
        model, tokenizer = self.speaks
        self.show(pictures)
        answers = []
        for i in range(len(pictures)):
            text = rng.choice(CAPTIONS).format(shape=SHAPES[pictures.shapes[i]],
                                               color=COLORS[pictures.colors[i]])
            ids = [*tokenizer.encode(text), tokenizer.end_of_turn()]
            answers.append(Answer(self.asked(i, rng.choice(REQUESTS)), ids, [], text, r=1, finished=True))
        logp, _ = answer_logprobs(model, answers, Sampling(1.0))
        ids = torch.tensor([token for answer in answers for token in answer.ids], device=logp.device)
        return F.nll_loss(logp, ids)

    @torch.no_grad()
    def share_right(self, pictures):
        """Share of pictures whose shape and colour a greedy caption names."""
        model, tokenizer = self.speaks
        self.show(pictures)
        prompts = [self.asked(i, REQUESTS[0]) for i in range(len(pictures))]
        written, _ = generate(model, prompts, Stopping(16, tokenizer.stop_ids), Sampling())
        right = 0
        for i, ids in enumerate(written):
            said = words_of(tokenizer.decode(ids).lower())
            right += {SHAPES[pictures.shapes[i]], COLORS[pictures.colors[i]]} <= said
        return right / len(pictures)

# -- training ------------------------------------------------------------------------------------------------

@dataclass
class Lesson:
    """One of the two, and how far it is."""
    name: str
    pupil: nn.Module  # has `loss` and `share_right`
    learned: list  # of its parameters, those that are trained
    lr: float
    steps: int

def save_state(path, lesson, step, optimizer, config):
    """Written beside, then renamed: an interrupted save is never mistaken for a whole one."""
    beside = path.with_suffix(".part")
    torch.save({"lesson": lesson.name, "step": step, "pupil": lesson.pupil.state_dict(),
                "optimizer": optimizer.state_dict(), "config": asdict(config)}, beside)
    beside.replace(path)

def saved_state(path, config):
    """What an earlier run left, {} for a new one. Raises ValueError where the flags do not fit."""
    if path.exists() != config.resume:
        raise ValueError(f"{path.parent} holds a run already; go on with --resume, or choose another --out"
                         if path.exists() else f"there is nothing to resume in {path.parent}")
    if not config.resume:
        return {}
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        was = state["config"]
    except (RuntimeError, EOFError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}); begin again in another --out") from error
    for key, value in asdict(config).items():
        if key != "resume" and was.get(key) != value:
            raise ValueError(f"{path.parent} began with {key} = {was.get(key)!r}; keep the flags")
    return state

def learning_rate(lesson, step):
    """Up in fifty steps, then down to 0 along a cosine."""
    return lesson.lr * min(1, step / 50) * (1 + math.cos(math.pi * step / lesson.steps)) / 2

def learn(lesson, train, val, config, state):
    """All steps of a lesson, from where `state` is; a line and a saved state every hundred."""
    out = Path(config.out)
    optimizer = torch.optim.AdamW(lesson.learned, weight_decay=0.01)
    first = 1
    if state.get("lesson") == lesson.name:
        lesson.pupil.load_state_dict(state["pupil"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"] + 1
    started = time.time()
    for step in bar(range(first, lesson.steps + 1), desc=lesson.name):
        rng = random.Random(f"{config.seed} {lesson.name} {step}")  # of the step, so a resumed run repeats
        optimizer.param_groups[0]["lr"] = learning_rate(lesson, step)
        loss = lesson.pupil.loss(train.some(rng.sample(range(len(train)), config.batch)), rng)
        loss.backward()
        nn.utils.clip_grad_norm_(lesson.learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == lesson.steps:
            right = lesson.pupil.share_right(val)
            append(out / "log.jsonl", {"lesson": lesson.name, "step": step, "loss": loss.item(),
                                       "val_accuracy": right})
            tqdm.write(f"{lesson.name} {step:5d}/{lesson.steps} | loss {loss.item():.3f} | names shape and "
                       f"color of {100 * right:5.1f} % of {len(val)} other images | "
                       f"{time.time() - started:.0f} s")
            save_state(out / "state.pt", lesson, step, optimizer, config)

def main():
    started = time.time()
    config = parse_flags(Config, __doc__)
    out = Path(config.out)
    state = saved_state(out / "state.pt", config)
    device, dtype = pick_device(config.device, config.dtype)
    model, tokenizer = load(config.model, device, dtype)
    if config.chat_template:
        tokenizer.use_template(Path(config.chat_template).read_text(encoding="utf-8"))
    torch.manual_seed(config.seed)
    eyes = Eyes(EyesArgs(image_size=64, patch_size=8, vision_dim=config.vision_dim,
                         vision_hidden_dim=4 * config.vision_dim, vision_layers=config.vision_layers,
                         vision_heads=4, vision_eps=1e-6, scale_factor=4, dim=model.args.dim)).to(device)
    give_sight(model, tokenizer, eyes)
    eyes.requires_grad_(True)
    tokenizer.sight = InOrder(model.args.vocab_size, eyes.args.n_features())
    train, val = (Pictures(*(values.to(device) for values in vars(part).values()))
                  for part in read_pictures(config.data, eyes.args.image_size))
    print(f"{sum(p.numel() for p in eyes.parameters()) / 1e6:.1f} M parameters of eyes, {len(train)} images "
          f"to learn from, {len(val)} others")
    out.mkdir(parents=True, exist_ok=True)

    namer = Namer(eyes.tower).to(device)
    teller = Teller(eyes, model, tokenizer)
    if state.get("lesson") != "projection":
        learn(Lesson("tower", namer, list(namer.parameters()), config.tower_lr, config.tower_steps),
              train, val, config, state)
    eyes.tower.requires_grad_(False)
    learn(Lesson("projection", teller, list(eyes.projection.parameters()), config.lr, config.steps),
          train, val, config, state)

    path = out / "eyes.safetensors"
    save_eyes(path, eyes, model.fingerprint, command=command_line())
    append(out / "log.jsonl", {"command": command_line(), "seconds": round(time.time() - started),
                               "machine": machine(model)})
    print(f"\nwrote {path}. Next:\n  python sample.py --eyes {path} --image IMAGE.png \"What is in the "
          f"picture?\"")

if __name__ == "__main__":
    run_main(main)
