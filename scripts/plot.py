"""Pictures from logs: learning curves, accuracy on unseen tasks, dispatch, weights of CEM, what z changes.

    python -m scripts.plot out/math-0     # the learning curve of a run of your own
    python -m scripts.plot                # all pictures of README.md and RESULTS.md, from results/*.jsonl

Needs one more package: pip install matplotlib
"""
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from harness.flags import ROOT, argument, parse_flags, run_main
from harness.logs import read_log, rows_of
from harness.scores import TEST_SEED, chance
from tasks.catalog import family_tasks

RESULTS = ROOT / "results"
SEARCHES = "cem, 10 shots, seed"  # how scripts/eval.py's rows of the default search begin
BLUE, ORANGE, GREY, GREEN = "#2f6db5", "#e08a2e", "#9a9a9a", "#4a9a5b"
SERIES = (BLUE, ORANGE, GREEN, "#a04a9a", "#444444", GREY)  # of lines in one picture

@dataclass
class Config:
    run: str = argument("", "the folder of a run, or its log; empty: the pictures of the README and RESULTS")

def import_pyplot():
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ValueError("scripts/plot.py needs one more package: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot
    pyplot.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False,
                            "figure.dpi": 120, "svg.fonttype": "none"})
    return pyplot

def save(figure, path):
    figure.tight_layout()
    figure.savefig(path)
    print(f"wrote {path}")

def seeds_of(task):
    """The logs of the task's training runs, one per seed."""
    return sorted(RESULTS.glob(f"{task}-?.jsonl"))

# -- learning curves (paper, figure 4) -----------------------------------------------------------------------

def draw_curve(axes, records, color, label):
    """Validation accuracy over steps, and the rate of right answers among the sampled ones, fainter."""
    steps = [record for record in records if "step" in record]
    validated = [record for record in steps if "val_accuracy" in record]
    sampled = [record for record in steps if "right" in record]
    axes.plot([s["step"] for s in sampled], [100 * s["right"] for s in sampled], color=color, alpha=0.3)
    axes.plot([v["step"] for v in validated], [100 * v["val_accuracy"] for v in validated], "o-", color=color,
              label=label)

def finish_curves(axes, base):
    axes.axhline(100 * base, color=GREY, linestyle="--", label="base model")
    axes.set_xlabel("updates of z")
    axes.set_ylabel("right, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, ncols=2, fontsize=9, loc="upper left")

def base_accuracy(records):
    """Validation accuracy before the first update."""
    return rows_of(records, step=0)[0]["val_accuracy"]

def plot_run(pyplot, log):
    records = read_log(log)
    if not rows_of(records, step=0):
        raise ValueError(f"{log} is no log of train.py: it has no step 0")
    figure, axes = pyplot.subplots(figsize=(7, 4))
    draw_curve(axes, records, BLUE, "validation (faint: sampled answers)")
    finish_curves(axes, base_accuracy(records))
    save(figure, log.with_name("curve.png"))

def plot_learning(pyplot):
    figure, all_axes = pyplot.subplots(1, 3, figsize=(12, 4))
    for axes, task in zip(all_axes, ("math", "code", "reasoning")):
        logs = seeds_of(task)
        for number, log in enumerate(logs):
            draw_curve(axes, read_log(log), SERIES[number % len(SERIES)], f"seed {log.stem[-1]}")
        finish_curves(axes, base_accuracy(read_log(logs[0])))
        axes.set_title(task)
    save(figure, RESULTS / "learning.png")

# -- accuracy (paper, table 2) -------------------------------------------------------------------------------

def draw_bars(axes, records, task, rows):
    """One bar per row {label: (name in the log, colour)}, with its standard error."""
    for position, (label, (name, color)) in enumerate(rows.items()):
        of_row = [record for record in rows_of(records, task=task) if record["row"].startswith(name)]
        accuracy = sum(record["accuracy"] for record in of_row) / len(of_row)
        error = sum(record["se"] for record in of_row) / len(of_row)
        axes.bar(position, 100 * accuracy, yerr=100 * error, color=color, width=0.7, capsize=3)
        axes.text(position, 100 * accuracy + 100 * error + 1, f"{100 * accuracy:.0f}", ha="center")
    axes.margins(y=0.15)  # room for the numbers above the bars
    axes.set_xticks(range(len(rows)), list(rows), rotation=40, ha="right")
    axes.set_title(task)

def draw_chance(axes, task, left, right):
    """A dashed line at what guessing among the options would get, where there are some."""
    guessed = chance(family_tasks()[task].problems("test", 256, TEST_SEED))
    if guessed is not None:
        axes.plot([left, right], [100 * guessed] * 2, color="black", linestyle="--", linewidth=1.2)
        axes.text(right, 100 * guessed, " guessing", va="center", fontsize=9)

def plot_unseen(pyplot):
    records = read_log(RESULTS / "eval-unseen.jsonl")
    tasks = list(dict.fromkeys(record["task"] for record in records if "task" in record))
    figure, all_axes = pyplot.subplots(1, len(tasks), figsize=(4 * len(tasks), 4.4), sharey=True)
    for axes, task in zip(all_axes, tasks):
        best = f"expert {task.removesuffix('_hard')}"
        rows = {"base": ("base", GREY), "own expert": (best, ORANGE), "prompt": ("prompt", BLUE),
                "classifier": ("classifier", BLUE), "CEM": (SEARCHES, BLUE), "all alike": ("uniform", GREEN)}
        draw_bars(axes, records, task, rows)
        draw_chance(axes, task, -0.4, len(rows) - 0.6)
    all_axes[0].set_ylabel("right, %")
    save(figure, RESULTS / "unseen.png")

# -- one loop, many methods (scripts/compare.py) -------------------------------------------------------------

def methods_of(records):
    return list(dict.fromkeys(record["method"] for record in records))

def line_of(number):
    """Colour and stroke by which eleven lines can be told apart."""
    return {"color": SERIES[number % len(SERIES)], "linestyle": ("-", "--")[number // len(SERIES)]}

def plot_compare(pyplot):
    """Validation accuracy over the learning rate; right answers over the steps, the mean of three seeds."""
    records = read_log(RESULTS / "compare.jsonl")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 5.2))
    for number, method in enumerate(methods_of(records)):
        grid = sorted(rows_of(records, method=method, stage="grid"), key=lambda record: record["lr"])
        left.plot([record["lr"] for record in grid], [100 * record["val"] for record in grid], marker="o",
                  markersize=4, label=method, **line_of(number))
        curves = [record["right"][1:] for record in rows_of(records, method=method, stage="final")
                  if "collapsed" not in record]
        # SFT samples no answers, and those of ES are greedy ones to a few problems
        if curves and None not in curves[0] and not method.endswith("by es"):
            means = [100 * mean(step) for step in zip(*curves)]
            right.plot(range(1, len(means) + 1), means, **line_of(number))
    left.set_xscale("log")
    left.set_xlabel("learning rate")
    left.set_ylabel("right on validation, %")
    right.set_xlabel("updates")
    right.set_ylabel("right among sampled answers, %")
    right.legend(*left.get_legend_handles_labels(), frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, RESULTS / "compare.png")

# -- dispatch (paper, figure 6) ------------------------------------------------------------------------------

def plot_dispatch(pyplot):
    records = read_log(RESULTS / "eval-dispatch.jsonl")
    figure, all_axes = pyplot.subplots(1, 2, figsize=(10, 4.2))
    for axes, strategy in zip(all_axes, ("prompt", "classifier")):
        rows = rows_of(records, row=strategy, split="test")
        shares = [[count / row["n"] for count in row["chosen"].values()] for row in rows]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for y, share_of_class in enumerate(shares):
            for x, share in enumerate(share_of_class):
                color = "white" if share > 0.5 else "black"
                axes.text(x, y, f"{100 * share:.0f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(rows)), list(rows[0]["chosen"]))
        axes.set_yticks(range(len(rows)), [row["class"] for row in rows])
        axes.set_xlabel("sent to, %")
        axes.set_title(strategy)
    all_axes[0].set_ylabel("request of")
    save(figure, RESULTS / "dispatch.png")

# -- the weights that CEM found (paper, figure 7) ------------------------------------------------------------

def plot_alpha(pyplot):
    records = read_log(RESULTS / "eval-unseen.jsonl")
    found = [record for record in records if record.get("row", "").startswith(SEARCHES)]
    tasks = list(dict.fromkeys(record["task"] for record in found))
    figure, all_axes = pyplot.subplots(1, len(tasks), figsize=(4 * len(tasks), 3.6), sharey=True)
    for axes, task in zip(all_axes, tasks):
        for seed, record in enumerate(rows_of(found, task=task)):
            weights = {name: alpha for name, alpha in record["mixture"].items() if name != "other"}
            places = [place + 0.25 * (seed - 1) for place in range(len(weights))]
            axes.bar(places, weights.values(), width=0.22, color=(BLUE, ORANGE, GREEN)[seed % 3],
                     label=f"seed {seed}")
        axes.set_xticks(range(len(weights)), list(weights))
        axes.set_title(task)
    all_axes[0].set_ylabel("α")
    all_axes[0].legend(frameon=False)
    save(figure, RESULTS / "alpha.png")

# -- what an expert changes ----------------------------------------------------------------------------------

def plot_spectrum(pyplot):
    """Singular values of a few weights, and what the expert does to each."""
    records = read_log(RESULTS / "spectrum.jsonl")
    figure, all_axes = pyplot.subplots(2, len(records), figsize=(4 * len(records), 5), sharex="col")
    for column, record in enumerate(records):
        above, below = all_axes[0][column], all_axes[1][column]
        above.plot(record["sigma"], color=GREY)
        above.set_yscale("log")
        above.set_title(record["weight"])
        below.plot(record["z"], ".", markersize=3, color=BLUE)
        below.axhline(1, color=GREY, linewidth=1)
        below.set_xlabel("singular value, largest first")
    all_axes[0][0].set_ylabel("σ")
    all_axes[1][0].set_ylabel("z")
    save(figure, RESULTS / "spectrum.png")

# -- the first picture of the README -------------------------------------------------------------------------

def draw_box(axes, place, text, color):
    axes.text(*place, text, ha="center", va="center", fontsize=12,
              bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": color, "linewidth": 2})

def draw_arrow(axes, start, end):
    style = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 1.5}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)

def draw_two_passes(axes):
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    axes.axis("off")
    draw_box(axes, (1.5, 5), "prompt", GREY)
    draw_box(axes, (5, 8.2), "first pass\nwhat does it need?", BLUE)
    draw_box(axes, (5, 4.6), "z' = 1 + Σ α (z − 1)\nW' = U diag(σ z') Vᵀ", ORANGE)
    draw_box(axes, (5, 1.2), "second pass\nthe frozen model with W'", BLUE)
    draw_box(axes, (8.9, 1.2), "answer", GREY)
    for place, name in (((8.9, 6.6), "z math"), ((8.9, 5.2), "z code"), ((8.9, 3.8), "z reasoning")):
        draw_box(axes, place, name, ORANGE)
        draw_arrow(axes, (7.8, place[1]), (6.75, 4.7))
    draw_arrow(axes, (2.1, 5.6), (3.3, 7.8))
    draw_arrow(axes, (2.1, 4.4), (3.0, 1.8))
    draw_arrow(axes, (5, 7.2), (5, 5.7))
    draw_arrow(axes, (5, 3.5), (5, 2.3))
    draw_arrow(axes, (7.1, 1.2), (8.1, 1.2))

def draw_base_and_expert(axes):
    """Unseen test templates, one pair of bars per task, the mean of its seeds."""
    for position, task in enumerate(("math", "code", "reasoning")):
        for offset, row, color in ((-0.2, "base", GREY), (0.2, "expert", ORANGE)):
            records = [rows_of(read_log(log), split="test", row=row)[0] for log in seeds_of(task)]
            accuracy = 100 * mean(record["accuracy"] for record in records)
            # seeds are asked the same templates, so the error of their mean is not smaller
            error = 100 * mean(record["se"] for record in records)
            axes.bar(position + offset, accuracy, yerr=error, width=0.38, color=color, capsize=3,
                     label=row if position == 0 else None)
            axes.text(position + offset, accuracy + error + 1, f"{accuracy:.0f}", ha="center")
        draw_chance(axes, task, position - 0.4, position + 0.4)
    axes.set_xticks(range(3), ["math", "code", "reasoning"])
    axes.set_ylabel("right on unseen problems, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, loc="upper left")

def plot_overview(pyplot):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.8), width_ratios=(1, 1.5))
    draw_base_and_expert(left)
    draw_two_passes(right)
    save(figure, RESULTS / "overview.png")

PICTURES = (plot_overview, plot_learning, plot_compare, plot_unseen, plot_dispatch, plot_alpha,
            plot_spectrum)

def main():
    config = parse_flags(Config, __doc__)
    pyplot = import_pyplot()
    if config.run:
        path = Path(config.run)
        plot_run(pyplot, path / "log.jsonl" if path.is_dir() else path)
        return
    for plot in PICTURES:
        plot(pyplot)

if __name__ == "__main__":
    run_main(main)
