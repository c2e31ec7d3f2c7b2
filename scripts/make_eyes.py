"""Eyes for a language model that has none, from easy-VQA's pictures, the language model frozen.

1. The tower learns to see: from the mean of its features, one linear layer names shape and colour.
2. The projection learns to say it in the language model's own terms: through the frozen model, next-token
   loss on captions such as "A blue circle." behind requests such as "Describe the picture."

No question of the data set is shown: to answer those is left to the language model, and to an expert. Images
from VALIDATION on (tasks/easy_vqa.py) train nothing; they say how far it is.

    python -m scripts.make_eyes --data easy_vqa/data
    python -m scripts.make_eyes --data easy_vqa/data --resume     # after Ctrl-C
"""
import math
import random
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from formats.eyes import checked_eyes, save_eyes
from harness.flags import ModelChoice, flag, parse_flags, run_main
from harness.logs import append, command_line, machine
from harness.models import bar, load_for_chat, pick_device
from harness.report import model_flags
from harness.runs import check_resume, check_same_flags, lock_log, save_state, whole_state
from model import Sampling, Stopping, generate
from parallel.processes import started
from rl import Answer, answer_logprobs
from tasks.easy_vqa import COLORS, SHAPES, VALIDATION, YES_OR_NO, read_part, words_of
from vision.encoder import Eyes, EyesArgs
from vision.images import read_image
from vision.seeing import ImageReader, give_eyes

REQUESTS = ("What is in the picture?", "Describe the picture.", "What do you see?", "What does this show?",
            "Say what is in the image.", "Describe what the image contains.")
CAPTIONS = ("A {color} {shape}.", "There is a {color} {shape} in the picture.", "I see a {color} {shape}.",
            "The image contains a {shape}. It is {color}.", "It is a {shape} of the color {color}.",
            "The shape is a {shape}, and its color is {color}.")
SIZE, PATCH, SHUFFLE = 64, 8, 4  # pixels of a side; of a patch; patches side by side: an image is four rows
AT_ONCE = 128  # pictures in a batch of captions

@dataclass
class Config(ModelChoice):
    data: str = flag("", "folder of easy-VQA: train/questions.json, train/images")
    out: str = flag("out/eyes", "folder for the eyes, their log, and the state that --resume goes on from")
    tower_steps: int = flag(2000, "updates of the tower")
    steps: int = flag(1000, "updates of the projection")
    batch: int = flag(32, "images in an update")
    tower_lr: float = flag(1e-3, "learning rate of the tower", (1e-9, 1))
    lr: float = flag(1e-3, "learning rate of the projection", (1e-9, 1))
    vision_dim: int = flag(128, "features of a patch")
    vision_layers: int = flag(4, "blocks of the tower")
    seed: int = flag(0, "of everything random")
    resume: bool = flag(False, "go on from the state in the output folder")

# -- pictures ------------------------------------------------------------------------------------------------

@dataclass
class Pictures:
    pixels: torch.Tensor  # (N, 3, S, S)
    shapes: torch.Tensor  # (N,), index in SHAPES
    colors: torch.Tensor  # (N,), index in COLORS

    def __len__(self):
        return len(self.shapes)

    def some(self, indices):
        return Pictures(self.pixels[indices], self.shapes[indices], self.colors[indices])

    def to(self, device):
        return Pictures(self.pixels.to(device), self.shapes.to(device), self.colors.to(device))

def what_is_said(problem):
    """The words that a question and its answer say of the image."""
    question = words_of(problem.prompt.lower())
    if problem.gold not in YES_OR_NO:
        return question | {problem.gold}
    is_negated = bool(question & {"not", "no"})
    is_there = (problem.gold == "yes") != is_negated
    return question if is_there else set()

def pictures_of(problems, size):
    """The images of the problems, each labelled by what is said of it; those that stay unclear left out."""
    said = {}
    for problem in problems:
        said.setdefault(problem.image, set()).update(what_is_said(problem))
    pixels, shapes, colors = [], [], []
    for path, words in bar(said.items(), desc="images"):
        shape = [i for i, word in enumerate(SHAPES) if word in words]
        color = [i for i, word in enumerate(COLORS) if word in words]
        if len(shape) == 1 and len(color) == 1:
            pixels.append(read_image(path, size))
            shapes += shape
            colors += color
    if not pixels:
        raise ValueError(f"there are too few images; eyes need some below and some from number {VALIDATION}")
    return Pictures(torch.stack(pixels), torch.tensor(shapes), torch.tensor(colors))

# -- the first lesson: to see --------------------------------------------------------------------------------

class Namer(nn.Module):
    """The tower, and one linear layer that names shape and colour; the layer is thrown away later."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower
        self.names = nn.Linear(tower.position_embedding.embedding_dim, len(SHAPES) + len(COLORS))

    def forward(self, pixels):
        """(B, 3, S, S) -> logits (B, shapes), (B, colors)."""
        named = self.names(self.tower(pixels).mean(dim=1))
        return named.split((len(SHAPES), len(COLORS)), dim=1)

    def loss(self, pictures, _):
        """Cross-entropy of shape plus that of colour; nothing in it is random."""
        shapes, colors = self(pictures.pixels)
        return F.cross_entropy(shapes, pictures.shapes) + F.cross_entropy(colors, pictures.colors)

    @torch.no_grad()
    def count_right(self, pictures):
        shapes, colors = self(pictures.pixels)
        right = (shapes.argmax(1) == pictures.shapes) & (colors.argmax(1) == pictures.colors)
        return right.sum().item()

# -- the second: to tell -------------------------------------------------------------------------------------

@dataclass
class Teller:
    """The eyes in front of the frozen language model, which says what they see."""
    eyes: Eyes
    model: nn.Module
    tokenizer: object
    images: ImageReader

    def __post_init__(self):
        self.tokenizer.image_ids = self.ids_of_number
        self.end_of_turn = self.tokenizer.end_of_turn()

    def ids_of_number(self, number):
        """Images have no files here; they are named by their numbers in the batch."""
        return self.images.ids_at(int(number))

    def look_at(self, pictures):
        """The pictures become the language model's images, in the order of the batch."""
        rows = self.eyes(pictures.pixels).flatten(0, 1)  # (B · n_features, dim)
        self.images.embedding.rows = rows.to(self.model.tok_embeddings.weight.dtype)

    def asked(self, number, request):
        """Ids of a request about the picture of that number in the batch."""
        return self.tokenizer.chat([{"role": "user", "content": request, "image": str(number)}])

    def loss(self, pictures, rng):
        """Mean loss of a caption's token, a caption and a request drawn for each picture."""
        self.look_at(pictures)
        answers = []
        for i in range(len(pictures)):
            text = rng.choice(CAPTIONS).format(shape=SHAPES[pictures.shapes[i]],
                                               color=COLORS[pictures.colors[i]])
            ids = [*self.tokenizer.encode(text), self.end_of_turn]
            answers.append(Answer(self.asked(i, rng.choice(REQUESTS)), ids, [], text, r=1, finished=True))
        logp, _ = answer_logprobs(self.model, answers, Sampling(1.0))
        ids = torch.tensor([token for answer in answers for token in answer.ids], device=logp.device)
        return F.nll_loss(logp, ids)

    @torch.no_grad()
    def count_right(self, pictures):
        """How many pictures' shape and colour a greedy caption names."""
        self.look_at(pictures)
        prompts = [self.asked(i, REQUESTS[0]) for i in range(len(pictures))]
        written, _ = generate(self.model, prompts, Stopping(16, self.tokenizer.stop_ids), Sampling())
        right = 0
        for i, ids in enumerate(written):
            said = words_of(self.tokenizer.decode(ids).lower())
            if SHAPES[pictures.shapes[i]] in said and COLORS[pictures.colors[i]] in said:
                right += 1
        return right

# -- training ------------------------------------------------------------------------------------------------

@dataclass
class Lesson:
    name: str
    pupil: object  # Namer or Teller: has `loss` and `count_right`
    weights: nn.Module  # what is saved
    learned: list  # of its parameters, those that are trained
    lr: float
    steps: int

    def learning_rate(self, step):
        """Up in fifty steps, then down to 0 along a cosine."""
        return self.lr * min(1, step / 50) * (1 + math.cos(math.pi * step / self.steps)) / 2

    def share_right(self, pictures):
        """Share of the pictures that the pupil names rightly, shape and colour."""
        counts = [self.pupil.count_right(pictures.some(slice(first, first + AT_ONCE)))
                  for first in range(0, len(pictures), AT_ONCE)]
        return sum(counts) / len(pictures)

def read_state(path, config, model, lessons):
    """What `learn` saved. Raises ValueError for a file that is damaged or something else, for other flags
    than the run began with, and for another model."""
    with whole_state(path):
        state = torch.load(path, weights_only=True, map_location="cpu")
        if not isinstance(state["config"], dict) or not isinstance(state["fingerprint"], str):
            raise ValueError("it is no state of scripts/make_eyes.py")
    check_same_flags(path.parent, state["config"], config)
    if state["fingerprint"] != model.fingerprint:
        raise ValueError(f"{path.parent} was begun with another model than {config.model} is now")
    with whole_state(path):
        lesson = lessons[state["lesson"]]
        is_whole = (0 < state["step"] <= lesson.steps and state["logged"] >= 0
                    and "param_groups" in state["optimizer"]
                    and state["weights"].keys() == lesson.weights.state_dict().keys()
                    and all(v.isfinite().all() for v in state["weights"].values()))
        if not is_whole:
            raise ValueError("its numbers make no sense")
    return state

def learn(lesson, train, val, config, fingerprint, state):
    """All steps of a lesson, from where `state` is; a line and a saved state every hundred. `train` and
    `val` are Pictures; the fingerprint is the language model's."""
    out = Path(config.out)
    optimizer = torch.optim.AdamW(lesson.learned, weight_decay=0.01)
    first = 1
    if state.get("lesson") == lesson.name:
        lesson.weights.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"] + 1
    started = time.time()
    for step in bar(range(first, lesson.steps + 1), desc=lesson.name):
        rng = random.Random(f"{config.seed} {lesson.name} {step}")  # of the step, so a resumed run repeats
        optimizer.param_groups[0]["lr"] = lesson.learning_rate(step)
        chosen = rng.sample(range(len(train)), min(config.batch, len(train)))
        loss = lesson.pupil.loss(train.some(chosen), rng)
        loss.backward()
        nn.utils.clip_grad_norm_(lesson.learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == lesson.steps:
            right = lesson.share_right(val)
            append(out / "log.jsonl", {"lesson": lesson.name, "step": step, "loss": loss.item(),
                                       "val_accuracy": right, "val_n": len(val)})
            tqdm.write(f"{lesson.name} {step:5d}/{lesson.steps} | loss {loss.item():.3f} | names shape and "
                       f"color of {100 * right:5.1f} % of {len(val)} other images | "
                       f"{time.time() - started:.0f} s")
            save_state(out, {"lesson": lesson.name, "step": step, "weights": lesson.weights.state_dict(),
                             "optimizer": optimizer.state_dict(), "config": asdict(config),
                             "fingerprint": fingerprint, "logged": (out / "log.jsonl").stat().st_size})

# -- the steps of main ---------------------------------------------------------------------------------------

def read_config():
    config = parse_flags(Config, __doc__)
    if started() > 1:
        raise ValueError("scripts/make_eyes.py runs in one process; leave out torchrun")
    check_resume(Path(config.out), Path(config.out, "state.pt").exists(), config.resume)
    return config

def open_language_model(config):
    """The model that speaks, blind and able to chat. Raises ValueError for any other."""
    device, dtype = pick_device(config.device, config.dtype)
    model, tokenizer = load_for_chat(config, device, dtype)
    if tokenizer.image_ids is not None:
        raise ValueError(f"{config.model} has eyes of its own")
    return model, tokenizer

def new_eyes(config, model):
    """Random eyes in front of the model, in float32. Raises ValueError for a shape that none have."""
    torch.manual_seed(config.seed)
    args = checked_eyes("scripts/make_eyes.py", EyesArgs(
        image_size=SIZE, patch_size=PATCH, vision_dim=config.vision_dim,
        vision_hidden_dim=4 * config.vision_dim, vision_layers=config.vision_layers, vision_heads=4,
        vision_eps=1e-6, scale_factor=SHUFFLE, dim=model.args.dim))
    return Eyes(args).to(model.tok_embeddings.weight.device)

def lessons_of(config, eyes, teller):
    """{name: Lesson}, in their order."""
    namer = Namer(eyes.tower).to(eyes.projection.weight.device)
    lessons = [Lesson("tower", namer, namer, list(namer.parameters()), config.tower_lr, config.tower_steps),
               Lesson("projection", teller, eyes, list(eyes.projection.parameters()), config.lr,
                      config.steps)]
    return {lesson.name: lesson for lesson in lessons}

def main():
    began = time.time()
    config = read_config()
    out = Path(config.out)
    problems = read_part(config.data, "train")
    model, tokenizer = open_language_model(config)
    eyes = new_eyes(config, model)
    images = give_eyes(model, tokenizer, eyes)
    eyes.requires_grad_(True)
    lessons = lessons_of(config, eyes, Teller(eyes, model, tokenizer, images))
    state = {}
    if config.resume:
        state = read_state(out / "state.pt", config, model, lessons)
    train = pictures_of([problem for problem in problems if problem.template < VALIDATION], SIZE)
    val = pictures_of([problem for problem in problems if problem.template >= VALIDATION], SIZE)
    train, val = train.to(eyes.projection.weight.device), val.to(eyes.projection.weight.device)
    print(f"{sum(p.numel() for p in eyes.parameters()) / 1e6:.1f} M parameters of eyes, {len(train)} images "
          f"to learn from, {len(val)} others")
    path = out / "eyes.safetensors"
    with lock_log(out, config.resume, state.get("logged", 0)):
        if state.get("lesson") != "projection":
            learn(lessons["tower"], train, val, config, model.fingerprint, state)
        eyes.tower.requires_grad_(False)
        learn(lessons["projection"], train, val, config, model.fingerprint, state)
        save_eyes(path, eyes, model.fingerprint, command=command_line())
        append(out / "log.jsonl", {"command": command_line(), "seconds": round(time.time() - began),
                                   "machine": machine(model)})
    say_what_is_next(config, path)

def say_what_is_next(config, path):
    image = Path(config.data, "test", "images", "0.png")
    print(f"\nwrote {path}. Next:\n  python -m scripts.sample{model_flags(config)} --eyes "
          f"{shlex.quote(str(path))} --image {shlex.quote(str(image))} 'What is in the picture?'")

if __name__ == "__main__":
    run_main(main)
