"""Real checkpoints from disk, and experts.

    load.py           any format -> the model and its tokenizer; strict, one tensor at a time
    meta.py, huggingface.py, gguf_file.py    one format each
    default_model.py  fetches the model that the scripts use when none is named
    tokenizer.py      text <-> ids, and chats
    experts.py        experts and kept bases on disk
"""
