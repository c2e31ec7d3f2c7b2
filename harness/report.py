"""What is said on the screen: a step's line, a row of a table, a mixture, answers, what to type next."""
import shlex

from formats.default_model import DEFAULT_MODEL
from harness.logs import append
from harness.scores import gains, hits, lenient_accuracy, mean_and_error, templates_of
from rl import finished_share
from tasks import sandbox

# -- training ------------------------------------------------------------------------------------------------

SHOWN = {"right": "right {:6.1%}", "finished": "finished {:6.1%}", "tokens": "{:5.1f} tokens",
         "kl": "kl {:.4f}", "grad_norm": "grad {:6.2f}", "z_change": "change {:.4f}",
         "seconds": "{:5.1f} s", "val_accuracy": "validation {:6.1%}"}  # in a step's line, in this order

def warning_of(metrics):
    """The usual reasons why a step teaches nothing, or the wrong thing, in a few words; "" if all is well."""
    if metrics.get("telling") == 0:
        return "nothing to learn: all answers that are compared earn the same (task too hard or too easy?)"
    if metrics.get("finished", 1) < 0.2:
        return "most answers run into the cap, which earns -1 (prompt without a form, or z too far?)"
    return ""

def step_line(metrics, steps):
    """'step   7/32 | right  31.2% | …'"""
    shown = [text.format(metrics[key]) for key, text in SHOWN.items() if key in metrics]
    warning = warning_of(metrics)
    if warning:
        shown.append(warning)
    return " | ".join([f"step {metrics['step']:3d}/{steps}", *shown])

def say_if_programs_run(task):
    if task.runs_programs:
        print("note: this task runs programs that the model wrote, in limited child processes held by "
              f"{sandbox.fence()} (tasks/sandbox.py)")

def model_flags(config):
    """The flags by which another script opens the same model, as a user would type them behind a command."""
    flags = "" if config.model == DEFAULT_MODEL else f" --model {shlex.quote(config.model)}"
    if config.chat_template:
        flags += f" --chat-template {shlex.quote(config.chat_template)}"
    return flags

def say_what_is_next(config, expert, log, example):
    """What to type, once the file `expert` is written, with an example problem of its task."""
    file, experts = shlex.quote(str(expert)), shlex.quote(config.experts)
    flags = model_flags(config)
    print(f"\nwrote {expert} and {log}. Next:")
    if config.task == "dispatch":
        # its problems show a request of each category, and ask about the last
        _, _, request = example.prompt.rpartition("Request: ")
        print(f"  cp {file} {experts}")
        print(f"  python sample.py --adapt classifier --experts {experts}{flags} {shlex.quote(request)}")
    else:
        print(f"  python sample.py --expert {file} --compare{flags} {shlex.quote(as_typed(example))}")
    print(f"  python -m scripts.plot {shlex.quote(str(log.parent))}")

def as_typed(problem):
    """A problem as a user would type it, with the instruction that is its own; the task's own stands in the
    expert's metadata."""
    return f"{problem.prompt} {problem.instruction}" if problem.instruction else problem.prompt

# -- rows of a table -----------------------------------------------------------------------------------------

def report(log, task, split, row, problems, answers, **more):
    """A row of a table, on the screen and in the log: accuracy ± standard error, lenient accuracy, share of
    finished answers, n."""
    p, se = mean_and_error(hits(answers), templates_of(problems))
    lenient = lenient_accuracy(problems, answers)
    finished = finished_share(answers)
    lenient_text = "    - " if lenient is None else f"{100 * lenient:5.1f} %"
    print(f"{task:<15} {split:<8} {row:<18} {100 * p:5.1f} ± {100 * se:3.1f} %   lenient {lenient_text}   "
          f"finished {100 * finished:5.1f} %   n {len(answers)}", flush=True)
    append(log, {"task": task, "split": split, "row": row, "accuracy": p, "se": se, "lenient": lenient,
                 "finished": finished, "n": len(answers), **more})

def report_gain(log, task, split, problems, base, expert):
    """The rows of base and expert, and what the expert gained, problem by problem."""
    report(log, task, split, "base", problems, base)
    report(log, task, split, "expert", problems, expert)
    by_problem = gains(base, expert)
    templates = templates_of(problems)
    mean, error = mean_and_error(by_problem, templates)
    print(f"{'':<43} {100 * mean:+5.1f} ± {100 * error:3.1f} points, problem by problem")
    append(log, {"task": task, "split": split, "gain": mean, "gain_se": error, "gains": by_problem,
                 "templates": templates})

def show(problems, rows, n=4):
    """The first few problems, and side by side what each row said to them. rows {name: (the problems as this
    row read them, its answers)}."""
    for i, problem in enumerate(problems[:n]):
        print(f"\n{problem.prompt}   ({problem.gold.strip()})")
        for row, (asked, answers) in rows.items():
            verdict = "right" if answers[i].r > 0 else "wrong"
            print(f"  {row:<8} {verdict}  {asked[i].prefill + answers[i].text!r}")

# -- mixtures and answers ------------------------------------------------------------------------------------

def in_words(mixture):
    """'0.62 code + 1.00 math', the rest being the base model, "other"; of weights per block, their mean."""
    words = []
    for name, weight in mixture.items():
        mean = sum(weight) / len(weight) if isinstance(weight, list) else weight
        if name != "other" and mean != 0:
            words.append(f"{mean:.2f} {name}")
    return " + ".join(words) or "1.00 other"

def show_mixture(mixture):
    """A bar for each expert's weight; one character per block where each block has its own."""
    for name, weight in mixture.items():
        if isinstance(weight, list):
            blocks = "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * w))] for w in weight)
            print(f"  {name:<14} {sum(weight) / len(weight):5.2f} {blocks}")
        elif name != "other":
            print(f"  {name:<14} {weight:5.2f} {'█' * round(30 * weight)}")

def say_found(mixture, right, n_shots):
    """What a search found, in a line."""
    is_base = in_words(mixture) == "1.00 other"
    if right == 0:
        print(f"the {n_shots} examples cannot tell: no candidate is right on any of them, so the base model "
              "answers")
    elif is_base:
        print(f"no candidate beats the base model on the {n_shots} examples, so it answers")
    else:
        print(f"the best candidate is right on {100 * right:.0f} % of {n_shots} examples")

class Stream:
    """Prints an answer as its tokens come; `generate` calls it with each."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.ids = []
        self.shown = 0  # characters

    def __call__(self, row, token):
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        if not text.endswith("\ufffd"):  # a character of several tokens is not whole yet
            print(text[self.shown:], end="", flush=True)
            self.shown = len(text)
