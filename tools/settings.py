"""Training settings compared on validation problems: the family's own `val` split and its harder cousin's.

    python tools/settings.py math steps=12,group=8 steps=16,lr=2e-3,seed=1     # adds to out/settings.jsonl
"""
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import svf  # noqa: E402
from common import (ModelChoice, answer_with_adapter, append, lenient_accuracy, machine,  # noqa: E402
                    open_model, run_main)
from model import Sampling  # noqa: E402
from rl import Learner, Settings, accuracy, no_validation, reinforce, train_expert  # noqa: E402
from tasks import cousins_of, get_task  # noqa: E402

N, SEED = 192, 99  # validation problems of each kind
USUAL = Settings(steps=16, rollouts=64, group=4, micro_batch=16, lr=4e-3, lam=0.0, seed=0, eval_every=10 ** 6,
                 patience=1)

def settings_of(text):
    """'steps=12,lr=2e-3' -> Settings. Raises ValueError for another text."""
    changes = {}
    for change in text.split(","):
        name, _, value = change.partition("=")
        if not value or not hasattr(USUAL, name):
            raise ValueError(f"{change!r} is no setting; write for example steps=12,lr=2e-3")
        changes[name] = type(getattr(USUAL, name))(value)
    return replace(USUAL, **changes)

def validated(learner, z, record, kinds):
    """Adds accuracy and lenient accuracy on each kind of problems to the record of a run, and logs it."""
    for kind, problems in kinds.items():
        answers = answer_with_adapter(learner, z, problems, kind)
        record[kind] = accuracy(answers)
        record[f"{kind} lenient"] = lenient_accuracy(problems, answers)
    append("out/settings.jsonl", record)
    print(json.dumps(record), flush=True)

def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    name, *texts = sys.argv[1:]
    task = get_task(name)
    all_settings = [settings_of(text) for text in texts]
    model, tokenizer = open_model(ModelChoice())
    kinds = {kind: get_task(kind).problems("val", N, SEED) for kind in [name, *cousins_of([name])]}
    learner = Learner(model, tokenizer, svf, task, Sampling(0.7), USUAL, reinforce)
    validated(learner, {}, {"task": name, "settings": None, "n": N, "machine": machine(model)}, kinds)
    for settings in all_settings:
        learner.settings = settings
        started = time.time()
        state = {}
        for _ in train_expert(learner, state, no_validation):
            pass
        record = {"task": name, "settings": asdict(learner.settings), "n": N,
                  "seconds": round(time.time() - started), "machine": machine(model)}
        validated(learner, state["z"], record, kinds)

if __name__ == "__main__":
    run_main(main)
