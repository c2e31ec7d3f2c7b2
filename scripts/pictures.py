"""Is what is seen better than what is guessed? easy-VQA by kind of question, beside two ways to guess.

Majority: the commonest answer to questions of that kind, as validation has it. Blind: the same model, but
every image is grey. A blind model may still answer "gray", and is then right on one colour question in eight.

    python -m scripts.pictures --data easy_vqa/data --expert out/easy_vqa-0/easy_vqa.safetensors
"""
import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from baselines.bases import BASES
from formats.default_model import DEFAULT_MODEL
from formats.experts import read_expert
from formats.eyes import DEFAULT_EYES, open_eyes
from harness.answers import answer_with_adapter
from harness.flags import ModelChoice, find_folder, run_main
from harness.logs import append, command_line, machine, open_log
from harness.models import open_model, wrap_in_svf
from harness.scores import TEST_SEED, hits, mean_and_error
from model import Sampling
from rl import Learner, reinforce
from scripts.adapters import load_adapter
from tasks.easy_vqa import EASY_VQA, YES_OR_NO, easy_vqa_task

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

def rows_of(learner, z, problems):
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

def open_learner(flags):
    """(the model with eyes under the adapter of the expert, the expert's parameters)."""
    z, metadata = read_expert(flags.expert)
    adapter = load_adapter(metadata["adapter"])

    def wrap(model, names, device):
        if metadata["adapter"] == "lora":
            adapter.wrap(model, names, rank=metadata["rank"], alpha=metadata["alpha"])
        elif metadata.get("basis", "svd") != "svd":
            adapter.wrap(model, names, BASES[metadata["basis"]])
        else:
            wrap_in_svf(model, names, device)

    model, tokenizer = open_model(ModelChoice(model=flags.model), wrap=wrap)
    if metadata["fingerprint"] != model.fingerprint:
        raise ValueError(f"{flags.expert} was made for {metadata['base']}, not for {model.name}")
    open_eyes(find_folder(flags.eyes), model, tokenizer)
    return Learner(model, tokenizer, adapter, None, Sampling(), None, reinforce), z

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="easy_vqa/data", help="folder of easy-VQA")
    parser.add_argument("--expert", type=Path, required=True, help="an expert of easy_vqa, of any adapter")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="as for train.py")
    parser.add_argument("--eyes", default=DEFAULT_EYES)
    parser.add_argument("--n", type=int, default=1024, help="test questions about each property")
    parser.add_argument("--out", default="out/pictures.jsonl")
    flags = parser.parse_args()
    tasks = [easy_vqa_task(name, flags.data) for name in EASY_VQA]
    open_log(flags.out)
    learner, z = open_learner(flags)
    for task in tasks:
        problems = task.problems("test", flags.n, TEST_SEED)
        rows = rows_of(replace(learner, task=task), z, problems)
        for row, right in rows.items():
            report_kinds(flags.out, task.name, problems, row, right, rows["base"])
    append(flags.out, {"command": command_line(), "machine": machine(learner.model)})
    print(f"wrote {flags.out}")

if __name__ == "__main__":
    run_main(main)
