"""Is what is seen better than what is guessed? easy-VQA by kind of question, beside two ways to guess.

Majority: the commonest answer to questions of that kind, as validation has it. Blind: the same model, but
every image is grey. A blind model may still answer "gray", and is then right on one colour question in eight.

    python -m scripts.pictures --data easy_vqa/data --expert out/easy_vqa-0/easy_vqa.safetensors
"""
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import svf
from baselines.bases import BASES
from formats.experts import read_expert
from formats.eyes import DEFAULT_EYES, open_eyes
from harness.answers import answer_with_adapter
from harness.flags import ModelChoice, find_folder, flag, parse_flags, run_main
from harness.logs import append, command_line, machine, open_log
from harness.models import open_model, wrap_in_svf
from harness.scores import TEST_SEED, hits, mean_and_error
from model import Sampling
from rl import Learner, reinforce
from scripts.adapters import load_adapter
from tasks.easy_vqa import EASY_VQA, YES_OR_NO, easy_vqa_task

@dataclass
class Config(ModelChoice):
    data: str = flag("easy_vqa/data", "folder of easy-VQA")
    expert: str = flag("", "an expert of easy_vqa, of any adapter")
    eyes: str = flag(DEFAULT_EYES, "eyes of a language model that has none of its own (scripts.make_eyes)")
    n: int = flag(1024, "test questions about each property", (64, 10 ** 6))
    out: str = flag("out/pictures.jsonl", "a line for each row and kind, added to what is there")

def kind_of(problem):
    return "yes or no" if problem.options == YES_OR_NO else "what"

def commonest_answers(problems):
    """{kind: the answer that most problems of that kind have}."""
    golds = {}
    for problem in problems:
        golds.setdefault(kind_of(problem), []).append(problem.gold)
    return {kind: Counter(answers).most_common(1)[0][0] for kind, answers in golds.items()}

def about_grey(problems, folder):
    """The same questions about a grey image."""
    from PIL import Image
    path = Path(folder, "grey.png")
    Image.new("RGB", (64, 64), (128, 128, 128)).save(path)
    return [replace(problem, image=str(path)) for problem in problems]

def verdicts_by_row(learner, z, problems):
    """{row: 1 for each right answer, 0 for each wrong one}."""
    commonest = commonest_answers(learner.task.problems("val", 10 ** 6, TEST_SEED))
    rows = {"majority": [int(problem.gold == commonest[kind_of(problem)]) for problem in problems]}
    with tempfile.TemporaryDirectory() as folder:
        blind = about_grey(problems, folder)
        for row, asked, parameters in (("base", problems, {}), ("base, blind", blind, {}),
                                       ("expert", problems, z), ("expert, blind", blind, z)):
            rows[row] = hits(answer_with_adapter(learner, parameters, asked, f"{learner.task.name}: {row}"))
    return rows

def report_kinds(out, task, problems, row, right, base):
    """A line for all questions and for each kind; `right` and `base` hold 1 for a right answer, else 0."""
    for kind in ("all", "what", "yes or no"):
        chosen = [i for i, problem in enumerate(problems) if kind in ("all", kind_of(problem))]
        images = [problems[i].template for i in chosen]
        mean, error = mean_and_error([right[i] for i in chosen], images)
        gain, gain_error = mean_and_error([right[i] - base[i] for i in chosen], images)
        print(f"{task:<15} {row:<13} {kind:<10} {100 * mean:5.1f} ± {100 * error:3.1f} %   gain "
              f"{100 * gain:+5.1f} ± {100 * gain_error:3.1f}   n {len(chosen)}", flush=True)
        append(out, {"task": task, "split": "test", "row": row, "kind": kind, "accuracy": mean, "se": error,
                     "gain": gain, "gain_se": gain_error, "n": len(chosen)})

def open_learner(config):
    """(the model with eyes under the adapter of the expert, the expert's parameters)."""
    z, metadata = read_expert(config.expert)
    adapter = load_adapter(metadata["adapter"])

    def wrap(model, names, device):
        if metadata["adapter"] == "lora":
            adapter.wrap(model, names, rank=metadata["rank"], alpha=metadata["alpha"])
        elif adapter is not svf:
            adapter.wrap(model, names)
        elif metadata.get("basis", "svd") != "svd":
            svf.wrap(model, names, BASES[metadata["basis"]])
        else:
            wrap_in_svf(model, names, device)

    model, tokenizer = open_model(config, wrap=wrap)
    if metadata["fingerprint"] != model.fingerprint:
        raise ValueError(f"{config.expert} was made for {metadata['base']}, not for {model.name}")
    open_eyes(find_folder(config.eyes), model, tokenizer)
    return Learner(model, tokenizer, adapter, None, Sampling(), None, reinforce), z

def read_config():
    config = parse_flags(Config, __doc__)
    if not config.expert:
        raise ValueError("name an expert of easy_vqa: --expert FILE")
    return config

def main():
    config = read_config()
    tasks = [easy_vqa_task(name, config.data) for name in EASY_VQA]
    open_log(config.out)
    learner, z = open_learner(config)
    for task in tasks:
        problems = task.problems("test", config.n, TEST_SEED)
        rows = verdicts_by_row(replace(learner, task=task), z, problems)
        for row, right in rows.items():
            report_kinds(config.out, task.name, problems, row, right, rows["base"])
    append(config.out, {"command": command_line(), "machine": machine(learner.model)})
    print(f"wrote {config.out}")

if __name__ == "__main__":
    run_main(main)
