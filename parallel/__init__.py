"""Several processes learn one z together, started by torchrun.

    processes.py  who is here, and what they tell each other
    data.py       data parallel: each process has the whole model, and a share of a step's problems
    tensor.py     tensor parallel: each process has a part of the model
"""
