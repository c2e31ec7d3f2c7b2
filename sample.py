"""Answer with the experts that fit: a first pass finds the mixture, a second pass answers (section 3.2).

    python sample.py --adapt prompt "A train leaves at 9 and arrives at 11. How many hours does it take?"
    python sample.py --adapt cem       # find a mixture for an unseen task from a few examples, and try it
    python sample.py --adapt prompt    # a chat; each turn goes to the expert that fits it

Images, saved mixtures, α per block, export for other programs: python -m scripts.sample --help
"""
from dataclasses import dataclass, replace
from functools import partial

from adapt import ALWAYS, BASE, BY_EXAMPLES, BY_REQUEST, AdaptiveModel, Search, all_formatted, formatted
from harness.answers import answer_with_mixtures, check_rows
from harness.chat import Chat, answer_as
from harness.experts import expert_named, load_experts
from harness.flags import ModelChoice, argument, find_folder, flag, parse_flags, run_main
from harness.logs import open_log
from harness.models import bar, open_model
from harness.report import report, say_found, say_if_programs_run, show, show_mixture
from tasks.catalog import get_task
from tasks.interface import Problem

UNSEEN_TASK = "reasoning_hard"  # for --adapt cem without a --task: one that no expert has seen
STRATEGIES = [*BY_REQUEST, *BY_EXAMPLES, *ALWAYS]

@dataclass
class Config(ModelChoice):
    prompt: str = argument(None, "what to answer; without one, problems of --task, else a chat")
    adapt: str = flag("none", f"first pass: none, {', '.join(STRATEGIES)}")
    expert: str = flag("", "answer with this expert: a name in --experts, or a file")
    experts: str = flag("experts", "folder of the experts at hand")
    task: str = flag("", "answer and score problems of this task, or of this jsonl file of your own; cem "
                         "takes its examples from it, too")
    data: str = flag("", "folder of the real data sets' files")
    shots: int = flag(10, "examples for cem")
    n: int = flag(128, "problems of the task to answer")
    compare: bool = flag(False, "show the base model's answer, too")
    show_prompt: bool = flag(False, "print what the model really reads, special tokens and all")
    max_new_tokens: int = flag(200, "of an answer to a prompt, or to a question of your own file")
    seed: int = flag(0, "of the examples, the problems and the search")
    out: str = flag("out/sample.jsonl", "scores of a task as JSON objects, added to what is there")

def check_flags(config):
    """Raises ValueError for flags that do not go together."""
    if config.prompt is not None and not config.prompt.strip():
        raise ValueError("the prompt is empty; leave it out for a chat")
    if config.adapt not in ["none", *STRATEGIES]:
        raise ValueError(f"--adapt {config.adapt} is not known; choose none, {', '.join(STRATEGIES)}")
    if config.expert and config.adapt != "none":
        raise ValueError("--expert answers alone; leave out --adapt")
    if config.adapt in BY_EXAMPLES and config.prompt and not config.task:
        raise ValueError(f"--adapt {config.adapt} needs examples like the prompt; name a --task")
    if config.show_prompt and not config.prompt and (config.task or config.adapt in BY_EXAMPLES):
        raise ValueError("--show-prompt belongs to a prompt or a chat; add a prompt")

def read_config(kind=Config, doc=__doc__):
    """The flags, checked, with the folder of the experts found."""
    config = parse_flags(kind, doc)
    check_flags(config)
    return replace(config, experts=str(find_folder(config.experts)))

def task_of(config):
    """The task that is named, or one for a search that has none; else None."""
    if config.task:
        return get_task(config.task, config.data, config.max_new_tokens)
    if config.adapt in BY_EXAMPLES:
        return get_task(UNSEEN_TASK, config.data)
    return None

def check_before_work(config, task):
    """Raises ValueError or OSError where the task has no test problems, or not as many as are asked for, or
    scores cannot be written."""
    if "test" not in task.splits:
        raise ValueError(f"{config.task} has too few rows for a test; they serve as examples: add a prompt "
                         "and --adapt cem")
    task.problems("test", config.n, config.seed)  # which says so where there are fewer
    open_log(config.out)

def open_adaptive(config, transfer=False):
    """The model with the experts that the flags ask for."""
    model, tokenizer = open_model(config)
    experts = {}
    if config.adapt != "none":
        experts = load_experts(config.experts, model, transfer)
    return AdaptiveModel(model, tokenizer, experts, transfer)

# -- the first pass: what does a request need? ---------------------------------------------------------------

def search_of(config):
    """How a strategy that looks at examples searches."""
    return Search(seed=config.seed, progress=partial(bar, desc="generations"))

def found_on_examples(config, adaptive, task, search):
    """The mixture that a search finds, shown."""
    shots = task.problems("val", config.shots, config.seed)
    print(f"{config.adapt}: {len(shots)} examples of {task.name}, {search.generations} generations of "
          f"{search.population} candidates")
    mixture, right = BY_EXAMPLES[config.adapt](adaptive, task, shots, search)
    say_found(mixture, right, len(shots))
    show_mixture(mixture)
    return mixture

def mixture_for_all(config, adaptive, task, search):
    """The mixture of a first pass that does not look at requests."""
    if config.expert:
        return {expert_named(adaptive, config.expert, config.experts): 1.0}
    if config.adapt == "none":
        return BASE
    if config.adapt in ALWAYS:
        return ALWAYS[config.adapt](adaptive)
    return found_on_examples(config, adaptive, task, search)

def choose_first_pass(config, adaptive, task, search):
    """The first pass of the flags: a function from requests to one mixture each. A search is done here."""
    if config.adapt in BY_REQUEST:
        return partial(BY_REQUEST[config.adapt], adaptive)
    mixture = mixture_for_all(config, adaptive, task, search)

    def the_same_for_all(requests):
        return [mixture] * len(requests)

    return the_same_for_all

# -- the second pass: answer ---------------------------------------------------------------------------------

def answer_prompt(config, adaptive, task, first_pass, problem):
    """Answer a prompt, in the form of the task if there is one."""
    if task is not None:
        problem = replace(problem, prefill=task.prefill, system=task.system, instruction=task.instruction,
                          solved=task.solved)
    [mixture] = first_pass([problem.prompt])
    answer_as(config, adaptive, formatted(problem, mixture, adaptive.experts), mixture)

def answer_task(config, adaptive, task, first_pass):
    """Answer test problems, show the first few beside the base model's answers, and score all."""
    problems = task.problems("test", config.n, config.seed)
    answers = answer_with_mixtures(adaptive, task, problems, [BASE] * len(problems), "base")
    report(config.out, task.name, "test", "base", problems, answers, seed=config.seed)
    rows = {"base": (problems, answers)}
    mixtures = first_pass([problem.prompt for problem in problems])
    if any(mixture != BASE for mixture in mixtures):
        row = config.adapt
        if config.expert:
            [row] = mixtures[0]
        asked = all_formatted(problems, mixtures, adaptive.experts)
        answers = answer_with_mixtures(adaptive, task, asked, mixtures, row)
        report(config.out, task.name, "test", row, asked, answers, seed=config.seed)
        rows[row] = asked, answers
    show(problems, rows)
    print(f"\nwrote {config.out}")

def main():
    config = read_config()
    task = task_of(config)
    if task is not None and not config.prompt:
        check_before_work(config, task)
    adaptive = open_adaptive(config)
    if task is not None:
        check_rows(adaptive.model, adaptive.tokenizer, task)
        say_if_programs_run(task)
    first_pass = choose_first_pass(config, adaptive, task, search_of(config))
    if config.prompt:
        answer_prompt(config, adaptive, task, first_pass, Problem(config.prompt))
    elif task is not None:
        answer_task(config, adaptive, task, first_pass)
    else:
        Chat(config, adaptive, first_pass).run()

if __name__ == "__main__":
    run_main(main)
