"""What an expert is trained on. Read interface.py first: a Task gives problems of a split and scores answers.

    interface.py            Problem, Task
    catalog.py              every task by its name
    grading.py              what counts as right: numbers, options, letters, texts, programs
    conclusion.py           what an answer concludes: not what it asks, denies or leaves open
    numerals.py, spelling.py  numbers and texts as people write them
    judged_programs.py, sandbox.py  running programs that a model wrote
    generated.py            what generated families share
    math_problems.py …      one file per family; each ends with its list TASKS
    jsonl.py, real_sets.py  a user's own questions; the paper's data sets
    easy_vqa.py             questions about pictures
    everyday.py, dispatch.py  which expert does a request need?

A new family is a new file like math_problems.py, and its name in catalog.FAMILIES.

    from tasks.catalog import get_task
    get_task("math").problems("train", n=2, seed=0)
"""
