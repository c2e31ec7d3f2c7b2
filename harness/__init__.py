"""What every command needs around the six files that are the paper.

    flags.py     flags from a script's dataclass; errors of one sentence
    models.py    device and dtype, a model opened for a script, bases kept between runs
    experts.py   the experts at hand: files that fit the model
    runs.py      a run's folder: lock, state, resume
    logs.py      JSON lines, and where they were made
    answers.py   many problems in batches; the base model's answers, kept
    scores.py    means, and errors that count templates
    report.py    what is said on the screen
    chat.py      a conversation on the terminal
"""
