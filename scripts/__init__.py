"""Every other job, run from the repository's folder: python -m scripts.NAME --help

    train.py       train.py with all that plugs in: other adapters and objectives, eyes, several processes
    sample.py      sample.py with all that plugs in: images, saved mixtures, export
    eval.py        the accuracy tables
    runs.py        what several runs of a command gained, and how far they differ
    compare.py     SVF against its baselines
    bench.py       what it costs, and the plan for a GPU
    signal_share.py  how much of a step's gradient is signal
    plot.py        pictures from logs
    make_eyes.py   eyes for a text model
    adapters.py    adapters by name, for those of the above that take others than svf
    merge_lora.py, pictures.py, spectrum.py   a base from a LoRA; how much is seen; what an expert changes
"""
