"""Means over problems and runs, and errors that know that problems of one template stand or fall together."""
import math
from dataclasses import dataclass
from statistics import fmean, stdev

from tasks.grading import mentions_gold

TEST_SEED = 12345  # of validation and comparison problems, whatever the seed of a run

def lenient_accuracy(problems, answers):
    """Share of answers that mention the gold answer anywhere; None for programs."""
    mentioned = [mentions_gold(problem, answer.text) for problem, answer in zip(problems, answers)]
    return None if None in mentioned else sum(mentioned) / len(mentioned)

def chance(problems):
    """Share of closed questions that a choice at random among their options would get right; None for open
    ones."""
    if not all(problem.options for problem in problems):
        return None
    return sum(1 / len(problem.options) for problem in problems) / len(problems)

def clustered_error(values, templates):
    """Standard error of the mean of `values`, one per problem, where those of one template stand or fall
    together: √(Σ_templates (Σ_i (v_i − mean))² · G / (G − 1)) / n. 0 for problems without templates."""
    groups = len(set(templates))
    if -1 in templates or groups < 2:
        return 0.0
    mean = sum(values) / len(values)
    deviation = dict.fromkeys(templates, 0.0)
    for value, template in zip(values, templates):
        deviation[template] += value - mean
    variance = sum(total ** 2 for total in deviation.values()) * groups / (groups - 1)
    return math.sqrt(variance) / len(values)

def mean_and_error(values, templates):
    """The mean of one value per problem, and its standard error: the larger of the one for independent
    problems (of hits, the binomial one) and the one clustered by template."""
    mean = sum(values) / len(values)
    independent = math.sqrt(sum((value - mean) ** 2 for value in values)) / len(values)
    return mean, max(independent, clustered_error(values, templates))

def templates_of(problems):
    return [problem.template for problem in problems]

def hits(answers):
    """1 for each right answer, 0 for each wrong one."""
    return [int(a.r > 0) for a in answers]

def gains(base, answers):
    """What each problem gained over the base model's answer to it: 1, 0 or −1."""
    return [hit - base_hit for hit, base_hit in zip(hits(answers), hits(base), strict=True)]

@dataclass(frozen=True)
class OverRuns:
    """What several runs of one command gained over the base model, all asked the same problems."""
    of_run: list[float]  # the mean gain of each run
    mean: float
    error: float  # standard error of the mean: of other runs, and of other problems and templates

    @property
    def worst(self):
        return min(self.of_run)

    @property
    def sd(self):
        """Standard deviation of the runs: about how far another one may be from their mean. NaN of one."""
        return stdev(self.of_run) if len(self.of_run) > 1 else math.nan

def over_runs(gains_of_runs, templates):
    """One list of gains for each run, one value for each problem -> OverRuns.

    Variances add: that of the runs' means, divided by their number, and that of each problem's mean over the
    runs, clustered by template. What one run does to one template is counted in both, so the error is rather
    too large. One run says nothing of others, so its error is that of problems and templates alone.
    """
    of_run = [fmean(gains) for gains in gains_of_runs]
    by_problem = [fmean(of_problem) for of_problem in zip(*gains_of_runs, strict=True)]
    mean, of_problems = mean_and_error(by_problem, templates)
    of_runs = stdev(of_run) / math.sqrt(len(of_run)) if len(of_run) > 1 else 0.0
    return OverRuns(of_run, mean, math.hypot(of_runs, of_problems))
