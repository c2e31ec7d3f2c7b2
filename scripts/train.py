"""train.py with all that plugs in: other adapters, other ways to learn, pictures, several processes.

It replaces parts of the learner that train.make_learner makes, and leaves the rest to train.py.

    python -m scripts.train --task math --adapter lora --rank 1 --lr 1e-3
    python -m scripts.train --task math --adapter examples.channels      # an adapter of your own
    python -m scripts.train --task math --objective sft
    python -m scripts.train --task easy_vqa --data easy_vqa/data
    torchrun --nproc-per-node 2 -m scripts.train --task math
    torchrun --nproc-per-node 2 -m scripts.train --task math --tensor-parallel --model FOLDER
"""
import shlex
from dataclasses import dataclass, replace

import svf
import train
from baselines.bases import BASES
from baselines.es import POPULATION, evolve
from baselines.sft import imitate
from formats.eyes import DEFAULT_EYES, open_eyes
from harness.answers import answer_with_adapter, greedy_answers
from harness.flags import changed, find_folder, flag, flag_name, run_main
from harness.models import wrap_in_svf
from harness.report import as_typed, model_flags, say_what_is_next
from harness.runs import Run, open_run
from parallel.data import SilentRun, answer_together, check_shares, together
from parallel.processes import device, rank, start, wait_for_all, world
from parallel.tensor import cut, in_parts
from rl import reinforce
from scripts.adapters import in_layers, load_adapter, options_of

IMPROVE = {("reward", "reinforce"): reinforce, ("reward", "es"): evolve, ("sft", "reinforce"): imitate}
ANSWERS_EACH = {imitate: 1, evolve: POPULATION}  # to a problem, where the way to learn says it

@dataclass
class Config(train.Config):
    adapter: str = flag("svf", "what is learned: svf, lora, or the name of an adapter file of your own")
    basis: str = flag("svd", "of svf: svd or, to compare with, random or identity (a scale per channel)")
    rank: int = flag(1, "of lora")
    alpha: float = flag(32.0, "of lora, whose change is scaled by alpha / rank", (1e-6, 1e6))
    objective: str = flag("reward", "reward, or sft: next-token loss on the gold answers")
    learner: str = flag("reinforce", "how z follows the reward: reinforce, or es (evolution strategies)")
    modules: str = flag("all", "which linears are adapted: attn (wq wk wv wo), mlp (w1 w2 w3), qv or all")
    layers: str = flag("", "of them, those of some blocks: even, or a range as 8-15; empty: all")
    eyes: str = flag(DEFAULT_EYES, "eyes of a language model that has none of its own (scripts.make_eyes)")
    tensor_parallel: bool = flag(False, "the processes of torchrun hold one model, each a part of it")

# -- which flags go together ---------------------------------------------------------------------------------

def improve_of(config):
    """The function by which z is learned. Raises ValueError for one that is not known."""
    for name, known in (("objective", [objective for objective, _ in IMPROVE]),
                        ("learner", [learner for _, learner in IMPROVE])):
        if getattr(config, name) not in known:
            raise ValueError(f"--{name} {getattr(config, name)} is not known; choose "
                             f"{' or '.join(dict.fromkeys(known))}")
    if (config.objective, config.learner) not in IMPROVE:
        raise ValueError(f"--learner {config.learner} does not go with --objective {config.objective}; leave "
                         "one of them out")
    return IMPROVE[config.objective, config.learner]

def refuse_changed(config, names, why):
    """Raises ValueError for the first of the flags that is not at its default, and says why it cannot be."""
    wrong = changed(config, names)
    if wrong:
        raise ValueError(f"{flag_name(wrong[0])} {why}; leave it out")

def check_flags(config):
    """Raises ValueError for flags that do not go together."""
    improve = improve_of(config)
    if config.basis not in ["svd", *BASES]:
        raise ValueError(f"--basis {config.basis} is not known; choose svd, {', '.join(BASES)}")
    if config.adapter != "svf":
        refuse_changed(config, ["basis"], f"belongs to --adapter svf, not to {config.adapter}")
        refuse_changed(config, ["tensor_parallel"], f"cuts models under --adapter svf, not {config.adapter}")
    if config.adapter != "lora":
        refuse_changed(config, ["rank", "alpha"], f"belongs to --adapter lora, not to {config.adapter}")
    if improve is imitate:
        refuse_changed(config, ["group", "temperature"], "has no part in --objective sft")
    if improve is evolve:
        refuse_changed(config, ["kl", "group", "temperature", "micro_batch"], "has no part in --learner es")
        refuse_changed(config, ["adapter"], "is not for --learner es, which learns the z of svf")
        if config.rollouts % POPULATION:
            raise ValueError(f"--rollouts {config.rollouts} is no multiple of {POPULATION}, the population "
                             "of --learner es")
        if world() > 1:
            raise ValueError("--learner es runs in one process; leave out torchrun")
    if config.tensor_parallel and world() == 1:
        raise ValueError("--tensor-parallel cuts a model among several processes; start them: torchrun "
                         "--nproc-per-node 2 -m scripts.train …")
    if config.tensor_parallel:
        refuse_changed(config, ["basis"], "is not for --tensor-parallel, which moves z from one side of a "
                                          "weight to the other")
    if config.task == "dispatch":
        refuse_changed(config, ["adapter", "basis", "objective", "modules", "layers"],
                       "is not for --task dispatch, which learns by rewards the classifier of sample.py, an "
                       "expert of svf")

# -- the parts that take another's place ---------------------------------------------------------------------

def wrap_of(config):
    """wrap(model, names, device), as open_model takes it: the adapter that the flags name."""
    adapter = load_adapter(config.adapter)

    def wrap(model, names, on_device):
        if config.layers:
            names = in_layers(model, names, config.layers)
        if config.basis in BASES:
            svf.wrap(model, names, BASES[config.basis])
        elif adapter is svf:
            wrap_in_svf(model, names, on_device)
        else:
            adapter.wrap(model, names, **options_of(config))
        if config.tensor_parallel:
            cut(model)

    return wrap

def make_learner(config):
    """The learner of train.py, with what the flags name in the place of its parts."""
    improve = improve_of(config)
    load_on = "cpu" if config.tensor_parallel else None  # a part alone goes to its GPU
    learner = train.make_learner(config, group=ANSWERS_EACH.get(improve), modules=config.modules,
                                 wrap=wrap_of(config), load_on=load_on)
    learner = replace(learner, adapter=load_adapter(config.adapter), improve=improve)
    if learner.task.has_images:
        open_eyes(find_folder(config.eyes), learner.model, learner.tokenizer)
    return learner

def with_others(config, learner):
    """The learner and the way to answer, wrapped for several processes if torchrun started them."""
    if config.tensor_parallel:
        # the base model's answers are not kept: a process that reads them would leave the others waiting
        return in_parts(learner), answer_with_adapter
    if world() > 1:
        check_shares(learner.settings.n_problems)
        return together(learner), answer_together
    return learner, greedy_answers

def say_next(config, expert, log, example):
    """What to type; sample.py computes with no adapter but svf, in no basis but that of singular vectors."""
    if config.adapter != "svf" or config.basis != "svd":
        print(f"\nwrote {expert} and {log}. Next:\n  python -m scripts.plot {shlex.quote(config.out)}")
    elif example.image:
        eyes = "" if config.eyes == DEFAULT_EYES else f" --eyes {shlex.quote(config.eyes)}"
        print(f"\nwrote {expert} and {log}. Next:\n  python -m scripts.sample --expert "
              f"{shlex.quote(str(expert))} --compare{model_flags(config)} --image "
              f"{shlex.quote(example.image)}{eyes} {shlex.quote(as_typed(example))}")
    else:
        say_what_is_next(config, expert, log, example)

def main():
    start()
    config = train.read_config(Config, __doc__)
    check_flags(config)
    run = open_run(config, Run if rank() == 0 else SilentRun)
    wait_for_all()  # nobody writes before all have looked at what is there
    config = replace(config, device=config.device or device())
    learner, answer = with_others(config, make_learner(config))
    expert, example = train.make_expert(run, learner, answer, adapter=config.adapter, **options_of(config))
    say_next(config, expert, run.log, example)

if __name__ == "__main__":
    run_main(main)
