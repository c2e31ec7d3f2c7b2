"""sample.py with everything that plugs in: images, saved mixtures, α per block, export, transfer.

    python -m scripts.sample --image photo.jpg "What is in the picture?"
    python -m scripts.sample --adapt cem --save mixed      # then: python sample.py --expert mixed
    python -m scripts.sample --adapt cem --per-block
    python -m scripts.sample --expert math --export FOLDER # a model for other programs
"""
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import sample
from adapt import BY_EXAMPLES, BY_REQUEST, Search
from formats.experts import read_metadata, save_expert
from formats.eyes import DEFAULT_EYES, open_eyes
from formats.huggingface import check_new_folder, write_hf
from formats.tokenizer_files import read_template
from harness.answers import check_rows
from harness.chat import Chat
from harness.flags import changed, find_folder, flag, run_main
from harness.report import say_if_programs_run, show_mixture
from svf import mix, using
from tasks.interface import Problem

@dataclass
class Config(sample.Config):
    image: str = flag("", "an image file that the prompt, or the first message of a chat, is about")
    eyes: str = flag(DEFAULT_EYES, "eyes of a language model that has none of its own (scripts.make_eyes)")
    generations: int = flag(Search.generations, "of cem")
    per_block: bool = flag(False, "cem searches one weight per expert and block, not one per expert")
    save: str = flag("", "keep the mixture that cem finds as an expert of this name in --experts")
    show: str = flag("", "only show the weights of this saved mixture")
    export: str = flag("", "write the adapted model to this folder, in Hugging Face's format")
    transfer: bool = flag(False, "take experts that were made for another model of the same shape")

def check_flags(config):
    """Raises ValueError for flags that do not go together."""
    searches = config.adapt in BY_EXAMPLES
    if changed(config, ["save", "per_block", "generations"]) and not searches:
        raise ValueError("--save, --per-block and --generations belong to a search; add --adapt cem")
    if config.image and not config.prompt and (config.task or searches or config.show):
        raise ValueError("--image belongs to a prompt or a chat; the problems of a task have their own")
    if config.image and not Path(config.image).is_file():
        raise FileNotFoundError(f"the image {config.image} does not exist")
    if config.export and config.adapt in BY_REQUEST and not config.prompt:
        raise ValueError(f"--adapt {config.adapt} chooses by a prompt; give one, too, to --export its choice")
    if config.export and config.image:
        raise ValueError("--export writes a model without its eyes; leave out --image")
    if config.export and config.prompt and config.adapt not in BY_REQUEST:
        raise ValueError("--export writes a model and answers nothing; leave out the prompt")
    if config.export:
        check_new_folder(config.export)

def check_save(config):
    """Raises ValueError for a name that a saved mixture cannot have."""
    if config.save in ("other", "none"):
        raise ValueError(f"--save {config.save}: that is the base model; choose another name")
    if Path(config.save).name != config.save:
        raise ValueError(f"--save {config.save} is no name of an expert; the folder is that of --experts")
    if Path(config.experts, f"{config.save}.safetensors").exists():
        raise ValueError(f"there is an expert {config.save} in {config.experts} already; --save another name")
    if not os.access(config.experts, os.W_OK):
        raise ValueError(f"--save: nothing can be written to {config.experts}; name other --experts")

# -- saved mixtures ------------------------------------------------------------------------------------------

def save_mixture(config, adaptive, task, mixture):
    """Keep a mixture as an expert of its own, which --expert answers with and --show shows."""
    path = Path(config.experts, f"{config.save}.safetensors")
    n_shots = len(task.problems("val", config.shots, config.seed))
    save_expert(path, mix(adaptive.task_experts(), mixture), {
        "fingerprint": adaptive.model.fingerprint, "base": adaptive.model.name, "adapter": "svf",
        "kind": "mixture", "task": task.name, "description": f"a mixture found on {n_shots} examples",
        "mixture": mixture, "seed": config.seed})
    print(f"wrote {path}")

def show_saved(config):
    """The weights of a saved mixture, from its metadata alone."""
    path = Path(config.experts, f"{config.show}.safetensors")
    metadata = read_metadata(path)
    if metadata.get("kind") != "mixture":
        raise ValueError(f"{path} is no mixture; --adapt cem --save NAME makes one")
    print(f"{config.show}: {metadata['description']} of {metadata['task']}")
    show_mixture(metadata["mixture"])

def export(config, adaptive, first_pass):
    """Write the model with the mixture of the first pass merged into its weights."""
    [mixture] = first_pass([config.prompt or ""])
    template = read_template(config.chat_template) if config.chat_template else ""
    with using(adaptive.model, mix(adaptive.answering(), mixture)):
        print(write_hf(adaptive.model, config.export, template))

# -- images --------------------------------------------------------------------------------------------------

def unquoted(path):
    """The path of a file as terminals paste it: 'a cat.png' in quotes, a\\ cat.png, ~/cat.png, file://…"""
    path = path.strip()
    if Path(path).exists():
        return path
    if path.startswith("file://"):
        return unquote(path.removeprefix("file://"))
    if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":
        path = path[1:-1]
    else:
        path = re.sub(r"\\(.)", r"\1", path)
    return str(Path(path).expanduser())

class SeeingChat(Chat):
    """A chat about images, too: `/image FILE` before a message."""
    help = ("one message a line; /image FILE, /expert NAME (or none), /compare, /reset, /quit; Ctrl-C ends "
            "an answer")

    def __init__(self, config, adaptive, first_pass):
        super().__init__(config, adaptive, first_pass)
        self.image = config.image  # what the next message is about

    def obey(self, word, name):
        """The commands of a chat, and /image. Raises ValueError for a damaged image, FileNotFoundError for a
        missing one."""
        if word != "/image":
            super().obey(word, name)
            return
        path = unquoted(name)
        open_eyes(find_folder(self.config.eyes), self.adaptive.model, self.adaptive.tokenizer)
        self.adaptive.tokenizer.image_ids(path)
        self.image = path
        print("[the next message is about it]")

    def forget(self):
        super().forget()
        self.image = ""

    def problem_of(self, message):
        return replace(super().problem_of(message), image=self.image)

    def say(self, message):
        super().say(message)
        self.image = ""

# -- the two passes of sample.py, with all this --------------------------------------------------------------

def open_adaptive(config, task):
    """The model with the experts that the flags ask for, and with eyes where there is something to see."""
    adaptive = sample.open_adaptive(config, config.transfer)
    if config.image or (task is not None and task.has_images):
        open_eyes(find_folder(config.eyes), adaptive.model, adaptive.tokenizer)
    if config.image:
        adaptive.tokenizer.image_ids(config.image)  # a damaged one is found before the search
    return adaptive

def main():
    config = sample.read_config(Config, __doc__)
    check_flags(config)
    if config.save:
        check_save(config)
    if config.show:
        show_saved(config)
        return
    task = sample.task_of(config)
    answers_task = task is not None and not config.prompt and not config.export
    if answers_task:
        sample.check_before_work(config, task)
    adaptive = open_adaptive(config, task)
    if task is not None:
        check_rows(adaptive.model, adaptive.tokenizer, task)
        say_if_programs_run(task)
    search = replace(sample.search_of(config), generations=config.generations, per_block=config.per_block)
    first_pass = sample.choose_first_pass(config, adaptive, task, search)
    if config.save:
        [mixture] = first_pass([""])
        save_mixture(config, adaptive, task, mixture)
    if config.export:
        export(config, adaptive, first_pass)
    elif config.prompt:
        problem = Problem(config.prompt, image=config.image)
        sample.answer_prompt(config, adaptive, task, first_pass, problem)
    elif answers_task:
        sample.answer_task(config, adaptive, task, first_pass)
    else:
        SeeingChat(config, adaptive, first_pass).run()

if __name__ == "__main__":
    run_main(main)
