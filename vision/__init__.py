"""How a language model sees. Knows torch, and nothing of ours.

    encoder.py   the network: patches -> rows of the size of a word's embedding
    images.py    image files -> pixels
    seeing.py    an embedding table that knows images, too; an image file -> ids
"""
