"""Every table of README.md and the pages in docs/, and every picture, from the logs in results/.

A table stands between <!-- table NAME --> and <!-- end -->; what is there is replaced.

    python tools/results.py            # write tables and pictures
    python tools/results.py --check    # say which file is not what the logs say; exit code 1
"""
import re
import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from harness.logs import gain_record, read_log, rows_of  # noqa: E402
from harness.scores import TEST_SEED, chance, over_runs  # noqa: E402
from scripts import plot  # noqa: E402
from scripts.compare import TASKS, tested_of  # noqa: E402
from tasks.catalog import family_tasks  # noqa: E402

RESULTS = ROOT / "results"
PAGES = ("README.md", "docs/RESULTS.md", "docs/COSTS.md", "docs/USING.md")

def read(name):
    return read_log(RESULTS / f"{name}.jsonl")

def percent(value):
    return f"{100 * value:.1f}"

def with_error(value, error):
    return f"{100 * value:.1f} ± {100 * error:.1f}"

def gained(value, error):
    return f"{100 * value:+.1f} ± {100 * error:.1f}"

def from_to(before, after):
    return f"{percent(before)} → {percent(after)}"

def table(head, rows):
    """Markdown of a table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])

def validations(records):
    """The accuracies of a run's validations, the base model's first."""
    return " → ".join(percent(record["val_accuracy"]) for record in records if "val_accuracy" in record)

# -- one training run ----------------------------------------------------------------------------------------

class TrainingRun:
    """A log of train.py, by what it says."""

    def __init__(self, name):
        self.records = read(name)
        [self.end] = [record for record in self.records if "command" in record]

    def row(self, split, row):
        [record] = rows_of(self.records, split=split, row=row)
        return record

    def accuracy(self, split, row):
        record = self.row(split, row)
        return with_error(record["accuracy"], record["se"])

    def gain(self, split):
        record = gain_record(self.records, split)
        return gained(record["gain"], record["gain_se"])

    def lenient(self, split):
        base, expert = self.row(split, "base"), self.row(split, "expert")
        if base["lenient"] is None:
            return "–"
        return from_to(base["lenient"], expert["lenient"])

    def minutes(self):
        return f"{self.end['seconds'] / 60:.0f}"

    def memory(self):
        return f"{self.end['peak_bytes'] / 1e9:.1f}"

def runs_of_logs(pattern):
    """The training runs whose logs have such a name."""
    return [TrainingRun(log.stem) for log in sorted(RESULTS.glob(f"{pattern}.jsonl"))]

def over_seeds(runs, split):
    """What several runs of a command gained on a split. Raises ValueError where there are none."""
    if not runs:
        raise ValueError("a row of a table has no log in results/")
    records = [gain_record(run.records, split) for run in runs]
    return over_runs([record["gains"] for record in records], records[0]["templates"])

def spread(of_runs):
    """How far runs differ, and the worst of them, in two cells."""
    if len(of_runs.of_run) == 1:
        return ["–", "–"]
    return [percent(of_runs.sd), f"{100 * of_runs.worst:+.1f}"]

def each(values):
    """A value for each run, in percentage points."""
    return " ".join(f"{100 * value:+.1f}" for value in values)

def headline_table():
    """Each task by the mean of its runs; the errors of accuracies are the mean of the runs' errors."""
    rows = []
    for task in TASKS:
        runs = [TrainingRun(log.stem) for log in plot.seeds_of(task)]
        said = [f"`python train.py --task {task}`", str(len(runs))]
        for row in ("base", "expert"):
            records = [run.row("test", row) for run in runs]
            said.append(with_error(mean(r["accuracy"] for r in records), mean(r["se"] for r in records)))
        of_runs = over_seeds(runs, "test")
        said += [gained(of_runs.mean, of_runs.error), *spread(of_runs)]
        guessed = chance(family_tasks()[task].problems("test", 256, TEST_SEED))
        said.append("–" if guessed is None else percent(guessed))
        said.append(runs[0].minutes())  # runs side by side take longer: RESULTS.md says which were
        rows.append([task, *said])
    head = ["task", "command", "runs", "base, %", "expert, %", "gain, points", "runs' deviation", "worst run",
            "guessing, %", "minutes"]
    return table(head, rows)

def runs_table():
    rows = []
    for log in sorted(RESULTS.glob("*.jsonl")):
        if not re.fullmatch(r"(math|code|reasoning|dispatch)-\d+", log.stem):
            continue
        run = TrainingRun(log.stem)
        for split in ("heldout", "test"):
            rows.append([f"{log.stem}, {run.end['machine']['dtype']}", split, run.accuracy(split, "base"),
                         run.accuracy(split, "expert"), run.gain(split), run.lenient(split),
                         percent(run.row(split, "base")["finished"]), run.minutes(), run.memory()])
    head = ["run", "split", "base", "expert", "gain", "lenient", "base finished", "minutes", "GB"]
    return table(head, rows)

# what the runs of a row are: the pattern of their logs' names
RUNS_OF_A_KIND = {"math": "math-?", "math, float32": "math-float32-?", "code": "code-?",
                  "reasoning": "reasoning-?",
                  "math, 32 steps at 4e-3": "tried-32-steps-?",
                  "math, 32 steps at 4e-3, float32": "tried-32-steps-float32-?",
                  "math, 128 steps at 4e-3": "tried-128-steps-?"}

def seeds_table():
    """Several runs of a kind: the mean of their gains, and how far they differ."""
    rows = []
    for kind, pattern in RUNS_OF_A_KIND.items():
        runs = runs_of_logs(pattern)
        for split in ("heldout", "test"):
            of_runs = over_seeds(runs, split)
            rows.append([kind, split, gained(of_runs.mean, of_runs.error), *spread(of_runs),
                         each(of_runs.of_run)])
    head = ["runs", "split", "gain, mean of the runs", "their deviation", "worst", "each"]
    return table(head, rows)

# what was tried: the pattern of the logs' names
TRIED = {"the default, 64 steps of 16 × 4 answers, 1.5e-3": "math-?",
         "96 steps of 16 × 4, 1.5e-3": "tried-96-steps-at-1.5e-3-?",
         "96 steps of 16 × 4, 4e-3": "tried-96-steps-?",
         "32 steps of 16 × 4, 4e-3": "tried-32-steps-?",
         "32 steps of 8 × 16, 2e-3": "tried-128-answers-?",
         "24 steps of 8 × 16, 3e-3": "tried-24-steps-at-3e-3-?",
         "24 steps of 8 × 16, 2e-3, 128 more wordings": "tried-wordings-?",
         "64 steps of 8 × 8, 4e-3": "tried-64-steps-?",
         "48 steps of 8 × 8, 3e-3, temperature 1.0": "tried-temperature-?",
         "128 steps of 16 × 4, 4e-3": "tried-128-steps-?"}

def best_validation(run):
    return max(record["val_accuracy"] for record in run.records if "val_accuracy" in record)

def telling_at_the_end(run):
    """Share of the last sixteen steps' answers that say anything; older logs do not have it."""
    telling = [record["telling"] for record in run.records if "telling" in record][-16:]
    return mean(telling) if telling else None

def tried_table():
    """Settings by validation at the best step of each run, and by what the runs gained."""
    rows = []
    for tried, pattern in TRIED.items():
        runs = runs_of_logs(pattern)
        row = [tried, " ".join(percent(best_validation(run)) for run in runs)]
        telling = [telling_at_the_end(run) for run in runs]
        row.append("–" if None in telling else percent(mean(telling)))
        for split in ("heldout", "test"):
            of_runs = over_seeds(runs, split)
            row += [gained(of_runs.mean, of_runs.error), each(of_runs.of_run)]
        row.append(runs[0].minutes())
        rows.append(row)
    head = ["tried", "validation, %, each run", "tell at the end, %", "gain held out", "each run",
            "gain unseen", "each run", "minutes"]
    return table(head, rows)

# -- scripts/signal_share.py ---------------------------------------------------------------------------------

def signal_table():
    rows = []
    for record in read("signal"):
        if "share" in record:
            rows.append([record["task"], record["expert"] or "z = 1", record["setting"].replace("x", " × "),
                         str(record["steps"]), f"{record['share']:.3f} ± {record['share_se']:.3f}",
                         percent(record["right"]), percent(record["telling"]), f"{record['lr']:g}",
                         f"{record['nats']:.2f}"])
    head = ["task", "at", "problems × answers", "K", "share of signal", "right, %", "answers that tell, %",
            "rate", "nats of a step"]
    return table(head, rows)

# -- scripts/compare.py --------------------------------------------------------------------------------------

PAIRS = [("svf, identity basis", "svf, random basis"), ("svf mlp", "svf attn")]  # beside each other, too

def comparison(log):
    """The records of a log of scripts/compare.py. Raises ValueError where they cannot be compared."""
    records = read(log)
    for key in ("task", "steps", "rollouts", "n_val", "n_test", "fingerprint", "chat_template", "dtype"):
        if len({record.get(key) for record in records}) > 1:
            raise ValueError(f"results/{log}.jsonl has runs of several {key}; keep the lines of one")
    return records

def finals(records):
    """{method: its runs with several seeds at the best rate}, of the methods that came so far."""
    runs_of = {}
    for method in plot.methods_of(records):
        runs = sorted(rows_of(records, method=method, stage="final"), key=lambda run: run["seed"])
        if len({run["lr"] for run in runs}) > 1:
            raise ValueError(f"{method} was tested at several rates; keep the lines of the best")
        if runs:
            runs_of[method] = runs
    return runs_of

def seeds_in(runs):
    return [run["seed"] for run in runs]

def collapsed(runs):
    return [run for run in runs if "collapsed" in run]

def of_seeds(runs, name):
    """The gain over the base model, and its error over seeds, problems and templates."""
    of_runs = over_runs([run[name]["gains"] for run in runs], runs[0][name]["templates"])
    return gained(of_runs.mean, of_runs.error)

def beside(runs, others, name):
    """The same over the runs of another method, seed by seed and problem by problem."""
    differences = []
    for run, other in zip(runs, others, strict=True):
        pairs = zip(run[name]["gains"], other[name]["gains"], strict=True)
        differences.append([ours - theirs for ours, theirs in pairs])
    of_runs = over_runs(differences, runs[0][name]["templates"])
    return gained(of_runs.mean, of_runs.error)

def of_each_seed(runs, name):
    return each(mean(run[name]["gains"]) for run in runs)

def base_accuracy(run, name):
    return percent(run[name]["accuracy"] - mean(run[name]["gains"]))

def compare_gains_table(log):
    """What each method gains at its best rate; nothing is said of the mean where a seed collapsed."""
    records = comparison(log)
    runs_of = finals(records)
    first = next(runs[0] for runs in runs_of.values() if not collapsed(runs))
    tested = tested_of(records[0]["task"])
    rows = [["the base model, %", "", "", *(base_accuracy(first, name) for name in tested), "", ""]]
    for method, runs in runs_of.items():
        rate = f"{runs[0]['lr']:.2g}"
        if collapsed(runs):
            said = f"{len(collapsed(runs))} of {len(runs)} seeds collapsed"
            rows.append([method, "", rate, said] + [""] * (len(tested) + 1))
            continue
        rows.append([method, f"{runs[0]['parameters']:,}", rate, *(of_seeds(runs, name) for name in tested),
                     of_each_seed(runs, "heldout"), of_each_seed(runs, "unseen")])
    head = ["method", "numbers", "rate", *tested, "heldout, each seed", "unseen, each seed"]
    return table(head, rows)

def compare_pairs_table(log):
    """Each method beside svf, and some beside each other, on the same problems and seeds."""
    records = comparison(log)
    runs_of = {method: runs for method, runs in finals(records).items() if not collapsed(runs)}
    tested = tested_of(records[0]["task"])
    rows = []
    for method, other in [*((method, "svf") for method in runs_of if method != "svf"), *PAIRS]:
        both = method in runs_of and other in runs_of
        if both and seeds_in(runs_of[method]) == seeds_in(runs_of[other]):
            cells = [beside(runs_of[method], runs_of[other], name) for name in tested]
            rows.append([method, other, *cells])
    return table(["method", "beside", *tested], rows)

def fastest(runs):
    """Seconds a step of the run that was slowed least by other work."""
    return min(run["seconds_a_step"] for run in runs if "collapsed" not in run)

def compare_costs_table(log):
    """What a step of each method costs beside svf's, and how large what it learns is. The peak of memory is
    that of the first run; what a process has once held, it does not give back."""
    records = comparison(log)
    runs_of = finals(records)
    of_svf = fastest(runs_of["svf"])
    rows = []
    for method, runs in runs_of.items():
        if not collapsed(runs):
            first_peak = min(record["peak_bytes"] for record in rows_of(records, method=method))
            rows.append([method, f"{4 * runs[0]['parameters'] / 1e6:.2f}", f"{fastest(runs) / of_svf:.2f}",
                         f"{first_peak / 1e9:.1f}"])
    return table(["method", "MB, float32", "seconds a step, svf = 1", "GB at the peak"], rows)

def compare_rates_table(log):
    """The whole grid of learning rates, on validation."""
    records = comparison(log)
    rows = []
    for method in plot.methods_of(records):
        grid = sorted(rows_of(records, method=method, stage="grid"), key=lambda record: record["lr"])
        said = [f"{record['lr']:.2g}: {'collapsed' if 'collapsed' in record else percent(record['val'])}"
                for record in grid]
        rows.append([method, ", ".join(said)])
    return table(["method", "rate: right on validation, %"], rows)

# -- scripts/eval.py -----------------------------------------------------------------------------------------

def accuracy_table_of(name):
    """Rows by tasks of a log of scripts/eval.py."""
    records = [record for record in read(name) if "accuracy" in record]
    tasks = list(dict.fromkeys(record["task"] for record in records))
    rows = []
    for row in dict.fromkeys(record["row"] for record in records):
        cells = [row]
        for task in tasks:
            found = rows_of(records, task=task, row=row)
            cells.append(with_error(found[0]["accuracy"], found[0]["se"]) if found else "–")
            cells.append(gained(found[0]["gain"], found[0]["gain_se"]) if found else "–")
        rows.append(cells)
    head = ["answered by"]
    for task in tasks:
        head += [task, "gain"]
    return table(head, rows)

def dispatch_table():
    rows = []
    for record in read("eval-dispatch"):
        if "chosen" in record:
            right = record["chosen"][record["class"]] / record["n"]
            elsewhere = [f"{name} {count}" for name, count in record["chosen"].items()
                         if count and name != record["class"]]
            rows.append([record["row"], record["split"], record["class"], percent(right), str(record["n"]),
                         ", ".join(elsewhere)])
    return table(["asked by", "requests", "class", "right, %", "n", "the rest went to"], rows)

def instruction_table():
    rows = []
    for record in read("instructions"):
        if "instruction" in record:
            line = record["instruction"] or "(none)"
            rows.append([record["task"], line, with_error(record["accuracy"], record["se"]),
                         percent(record["finished"])])
    return table(["task", "line behind the question", "base, validation", "finished"], rows)

def settings_table():
    rows = []
    for record in read("settings"):
        task, settings = record["task"], record["settings"]
        if settings is None:
            said = ["(the base model)", "", "", "", "", ""]
        else:
            said = [str(settings[key]) for key in ("steps", "rollouts", "group", "lr", "lam", "seed")]
        rows.append([task, *said, percent(record[task]), percent(record[f"{task}_hard"])])
    return table(["task", "steps", "rollouts", "group", "lr", "λ", "seed", "val", "val of the variant"], rows)

def bench_table():
    rows = []
    for record in read("bench"):
        share = f"{100 * record['limit_seconds'] / record['seconds']:.0f}" if record["limit_seconds"] else "–"
        rows.append([record["what"], f"{record['seconds']:.2f}", f"{record['peak_bytes'] / 1e9:.2f}", share])
    return table(["", "seconds", "peak GB", "of the limit, %"], rows)

PICTURE_ROWS = {"majority": ("pictures", "majority"), "base, blind": ("pictures", "base, blind"),
                "base": ("pictures", "base"), "expert, blind": ("pictures", "expert, blind"),
                "expert": ("pictures", "expert"), "LoRA of rank 1": ("pictures-lora", "expert"),
                "expert by SFT": ("pictures-sft", "expert"),
                "expert by SFT, blind": ("pictures-sft", "expert, blind")}  # label: (log, its row)

def pictures_table():
    """easy-VQA by property and kind of question, with the gain over the base model that sees."""
    kinds = [(task, kind) for task in ("easy_vqa", "easy_vqa_color") for kind in ("what", "yes or no")]
    rows = []
    for label, (log, row) in PICTURE_ROWS.items():
        records = read(log)
        cells = []
        for task, kind in kinds:
            [record] = rows_of(records, task=task, kind=kind, row=row)
            cell = with_error(record["accuracy"], record["se"])
            if label not in ("majority", "base"):
                cell += f" ({gained(record['gain'], record['gain_se'])})"
            cells.append(cell)
        rows.append([label, *cells])
    head = ["answered by", "shape: what", "shape: yes or no", "color: what", "color: yes or no"]
    return table(head, rows)

def qwen_table():
    """Qwen2.5-Coder-0.5B on the paper's own sets, and an expert of MBPP."""
    run = TrainingRun("qwen-mbpp")
    rows = []
    for record in rows_of(read("qwen-base"), row="base"):
        row = [record["task"], str(record["n"]), with_error(record["accuracy"], record["se"]),
               percent(record["finished"])]
        row += [run.accuracy("test", "expert"), run.gain("test")] if record["task"] == "mbpp" else ["–", "–"]
        rows.append(row)
    return table(["set", "n", "base", "finished", "expert of mbpp", "gain"], rows)

MAWPS_RUNS = {"SVF": "qwen-mawps-?", "SVF, twice the rate": "qwen-mawps-at-6e-3-?",
              "LoRA": "qwen-mawps-lora-?"}  # what learned: its logs

def mawps_table():
    """What Qwen2.5-Coder-0.5B gained on mawps, and how many answers were finished within the cap."""
    rows = []
    for label, pattern in MAWPS_RUNS.items():
        runs = runs_of_logs(pattern)
        for run in runs:
            config = run.records[0]["config"]
            base, expert = run.row("test", "base"), run.row("test", "expert")
            rows.append([label, f"{config['lr']:g}", str(config["seed"]), validations(run.records),
                         run.accuracy("test", "base"), run.accuracy("test", "expert"), run.gain("test"),
                         from_to(base["finished"], expert["finished"]), run.lenient("test"), run.minutes(),
                         run.memory()])
        if len(runs) > 1:
            of_runs = over_seeds(runs, "test")
            rows.append([label, "", f"mean of {len(runs)}", "", "", "", gained(of_runs.mean, of_runs.error),
                         "", "", "", ""])
    head = ["by", "rate", "seed", "validation, %", "base", "expert", "gain", "finished", "lenient", "minutes",
            "GB"]
    return table(head, rows)

# the paper's table 1: (model, set, base, LoRA, SVF), in per cent
PAPER_TABLE_1 = [("Llama3-8B-Instruct", "GSM8K", 75.89, 77.18, 79.15),
                 ("Llama3-8B-Instruct", "MBPP-Pro", 64.65, 67.68, 66.67),
                 ("Llama3-8B-Instruct", "ARC-Easy", 88.59, 88.97, 89.56),
                 ("Mistral-7B-Instruct-v0.3", "GSM8K", 42.83, 44.66, 49.74),
                 ("Mistral-7B-Instruct-v0.3", "MBPP-Pro", 49.50, 51.52, 51.52),
                 ("Mistral-7B-Instruct-v0.3", "ARC-Easy", 81.65, 81.19, 85.14)]

def beside_paper_table():
    """What LoRA and SVF gain on the sets of the paper's table 1, and here."""
    rows = []
    for model, name, base, lora, svf in PAPER_TABLE_1:
        rows.append([model, name, f"{base:.1f}", f"{lora - base:+.1f}", f"{svf - base:+.1f}"])
    runs = runs_of_logs(MAWPS_RUNS["SVF"])
    gains = []
    for label in ("LoRA", "SVF"):
        of_runs = over_seeds(runs_of_logs(MAWPS_RUNS[label]), "test")
        gains.append(gained(of_runs.mean, of_runs.error))
    rows.append(["Qwen2.5-Coder-0.5B-Instruct, here", "MAWPS and ASDiv", runs[0].accuracy("test", "base"),
                 *gains])
    return table(["model", "set", "base, %", "LoRA, points", "SVF, points"], rows)

def qwen_unseen_table():
    """What the experts of mawps do on sets that they have not seen, and the mean of their gains."""
    records = [record for record in read("eval-qwen-unseen") if "accuracy" in record]
    rows = []
    for task in dict.fromkeys(record["task"] for record in records):
        answered = rows_of(records, task=task)
        for record in answered:
            gain = "–" if record["kind"] == "base" else gained(record["gain"], record["gain_se"])
            rows.append([task, str(record["n"]), record["row"], with_error(record["accuracy"], record["se"]),
                         percent(record["finished"]), gain])
        experts = rows_of(answered, kind="expert")
        of_experts = over_runs([record["gains"] for record in experts], [-1] * experts[0]["n"])
        rows.append([task, "", f"mean of {len(experts)}", "", "", gained(of_experts.mean, of_experts.error)])
    return table(["set", "n", "answered by", "right, %", "finished, %", "gain"], rows)

def first_and_last(steps, key):
    """The mean over the first four steps of a run and over the last four, or over all of a shorter one."""
    values = [step[key] for step in steps]
    if len(values) < 8:
        return percent(mean(values))
    return from_to(mean(values[:4]), mean(values[-4:]))

def larger_tried_table():
    """Runs of Qwen2.5-Coder-0.5B whose gain on validation could not be told, or that were stopped."""
    rows = []
    for log in sorted(RESULTS.glob("qwen-tried-*.jsonl")):
        records = read(log.stem)
        config = records[0]["config"]
        steps = [record for record in records if "telling" in record]
        name = config["task"] if config.get("adapter", "svf") == "svf" else f"{config['task']}, LoRA"
        rows.append([name, f"{config['lr']:g}", str(config["seed"]),
                     f"{len(steps)} of {config['steps']}", str(config["rollouts"]),
                     first_and_last(steps, "right"), first_and_last(steps, "telling"),
                     validations(records), f"{mean(record['seconds'] for record in steps):.0f}"])
    head = ["set", "rate", "seed", "steps", "answers of one", "right, sampled, %", "answers that tell, %",
            "validation, %", "seconds a step"]
    return table(head, rows)

def own_table():
    rows = []
    for log in sorted(RESULTS.glob("own-*.jsonl")):
        run = TrainingRun(log.stem)
        rows.append([f"`{run.end['command']}`", run.accuracy("test", "base"), run.accuracy("test", "expert"),
                     run.gain("test"), str(run.row("test", "base")["n"]), run.minutes()])
    return table(["command", "base", "expert", "gain", "n", "minutes"], rows)

TABLES = {"headline": headline_table, "runs": runs_table, "seeds": seeds_table, "tried": tried_table,
          "signal": signal_table, "dispatch": dispatch_table, "instructions": instruction_table,
          "settings": settings_table, "bench": bench_table, "own": own_table, "pictures": pictures_table,
          "qwen": qwen_table, "mawps": mawps_table, "beside-paper": beside_paper_table,
          "qwen-unseen": qwen_unseen_table, "larger-tried": larger_tried_table}
COMPARE_TABLES = {"gains": compare_gains_table, "pairs": compare_pairs_table,
                  "rates": compare_rates_table, "costs": compare_costs_table}

def table_of(name):
    """The table of that name; LOG/KIND is one of COMPARE_TABLES, eval-NAME the accuracy table of that log."""
    if "/" in name:
        log, kind = name.split("/")
        return COMPARE_TABLES[kind](log)
    if name in TABLES:
        return TABLES[name]()
    return accuracy_table_of(name)

# -- pages ---------------------------------------------------------------------------------------------------

def page_text(page):
    return (ROOT / page).read_text(encoding="utf-8")

def filled(text):
    """The page with its tables made anew."""

    def table_between_its_marks(found):
        begin, name, end = found.groups()
        return begin + table_of(name) + "\n" + end

    marks = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return marks.sub(table_between_its_marks, text)

def stale_pages():
    """The pages that do not say what the logs say."""
    return [page for page in PAGES if filled(page_text(page)) != page_text(page)]

def numbers_without_a_log():
    """Every 'x ± y' of the pages that stands in no table made from a log."""
    number = r"[+−-]?\d+(?:\.\d+)? ± \d+(?:\.\d+)?"
    from_logs = set()
    for page in PAGES:
        for name in re.findall(r"<!-- table (\S+) -->", page_text(page)):
            from_logs |= set(re.findall(number, table_of(name)))
    unknown = []
    for page in PAGES:
        said = set(re.findall(number, page_text(page)))
        unknown += [f"{page}: {value}" for value in sorted(said - from_logs)]
    return unknown

def main():
    if sys.argv[1:] == ["--check"]:
        wrong = [f"{page} is not what the logs say" for page in stale_pages()] + numbers_without_a_log()
        print("\n".join(wrong) or "every table and number is in a log")
        sys.exit(1 if wrong else 0)
    for page in PAGES:
        (ROOT / page).write_text(filled(page_text(page)), encoding="utf-8")
        print(f"wrote {page}")
    pyplot = plot.import_pyplot()
    for picture in plot.PICTURES:
        picture(pyplot)

if __name__ == "__main__":
    main()
