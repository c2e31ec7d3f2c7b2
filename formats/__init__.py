"""Real checkpoints from disk, and experts.

    load.py           any format -> the model and its tokenizer; strict, one tensor at a time
    checkpoint.py     what the formats have in common: a shape, tensors by Meta's names, a tokenizer
    folder.py         which of a folder's files count, and that they do not contradict each other
    meta.py, huggingface.py, gguf_file.py    one format each
    default_model.py  fetches the model that the scripts use when none is named
    vocabulary.py     words and ids
    tokenizer.py      text <-> ids, and a chat
    tokenizer_files.py  the three ways to write a tokenizer
    chat.py           a conversation, as the model's own template writes it
    eyes.py           the eyes of a model: Hugging Face's names, our file
    experts.py        an expert's file
    bases.py          bases of large models, kept between runs
    safetensors_file.py  a file that is written whole or not at all
"""
