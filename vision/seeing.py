"""A model sees: another module stands in its embedding table's place, where ids beyond the words are images.

Each image that was looked at has ids of its own behind the vocabulary, one for each of its rows, so a prompt
with images is a list of ids like any other: batches, shared prefixes, the gradient and rows with a z each
need nothing new, and the model knows nothing of it.

    give_eyes(model, tokenizer, eyes, before, after)
    tokenizer.chat([{"role": "user", "content": "What is this?", "image": "cat.png"}])
"""
from pathlib import Path

import torch
from torch import nn

from vision.images import read_image

class SeeingEmbedding(nn.Module):
    """An embedding table, and behind its words the rows of the images that were looked at."""

    def __init__(self, table, eyes):
        super().__init__()
        self.table = table  # nn.Embedding
        self.eyes = eyes.requires_grad_(False)
        self.rows = table.weight.new_zeros(0, table.embedding_dim)  # of images, with room for more

    @property
    def weight(self):
        return self.table.weight

    def forward(self, ids):
        """(B, T) -> (B, T, dim); ids from vocab_size on are rows of images."""
        if len(self.rows) == 0:
            return self.table(ids)
        n_words = self.table.num_embeddings
        is_image = ids >= n_words
        words = self.table(ids.masked_fill(is_image, 0))
        rows = self.rows[(ids - n_words).clamp(min=0)]
        return torch.where(is_image[..., None], rows, words)

class ImageReader:
    """Turns an image file into ids: one per row of the image, between the tokens that frame an image.

    All images that were looked at are remembered: 74 KB each for SmolVLM in bfloat16. A file that was saved
    anew is another image.
    """

    def __init__(self, embedding, before=(), after=()):
        self.embedding = embedding  # SeeingEmbedding
        self.before = list(before)  # token ids
        self.after = list(after)
        self.place_of = {}  # (path, when it was saved, bytes) -> which image of the table it is

    def ids_of(self, path):
        """The ids of an image file, which is looked at once. Raises ValueError or FileNotFoundError for one
        that cannot be read."""
        try:
            saved = Path(path).stat()
        except FileNotFoundError:
            raise FileNotFoundError(f"the image {path} does not exist") from None
        image = (str(path), saved.st_mtime_ns, saved.st_size)
        if image not in self.place_of:
            place = len(self.place_of)
            self.remember(self.look(path), place)
            self.place_of[image] = place
        return self.ids_at(self.place_of[image])

    def ids_at(self, place):
        """The ids of the image whose rows are the place-th in the table, counted from 0."""
        n = self.embedding.eyes.args.n_features()
        first = self.embedding.table.num_embeddings + place * n
        return [*self.before, *range(first, first + n), *self.after]

    @torch.no_grad()
    def look(self, path):
        """The rows of one image (n_features, dim)."""
        eyes = self.embedding.eyes
        pixels = read_image(path, eyes.args.image_size)
        return eyes(pixels[None].to(eyes.projection.weight))[0]

    def remember(self, rows, place):
        """Put the rows of the place-th image (n_features, dim) behind those in the table."""
        table = self.embedding.rows
        used = place * len(rows)
        if used == len(table):  # full: twice the room
            larger = rows.new_zeros(max(2 * used, 64 * len(rows)), rows.shape[1])
            larger[:used] = table
            self.embedding.rows = table = larger
        table[used:used + len(rows)] = rows

def give_eyes(model, tokenizer, eyes, before=(), after=()):
    """From now on the model has eyes, and messages may have images, between these ids -> ImageReader."""
    model.tok_embeddings = SeeingEmbedding(model.tok_embeddings, eyes)
    images = ImageReader(model.tok_embeddings, before, after)
    tokenizer.image_ids = images.ids_of
    tokenizer.first_image_id = model.tok_embeddings.table.num_embeddings
    return images
