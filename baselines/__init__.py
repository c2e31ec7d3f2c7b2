"""What SVF is compared with, in the same loop (rl.py): python -m scripts.compare, or python -m scripts.train.

    lora.py   another adapter: two thin matrices beside each weight
    bases.py  svf in another basis than that of the singular vectors
    sft.py    another objective: next-token loss on gold answers
    es.py     another way to follow the reward: evolution strategies
"""
