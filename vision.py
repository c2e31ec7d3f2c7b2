"""Eyes for a language model: what an image becomes before Llama reads it (paper, section 4.2 and figure 5).

    patches     p × p pixels each -> (S/p)² features, by one convolution, plus learned positions
    ViT         pre-norm blocks in which all patches see each other (SigLIP: Zhai et al. 2023)
    shuffle     s × s neighbouring features side by side -> (S/p/s)² of s² times their size (Idefics3)
    projection  one matrix -> (S/p/s)² rows of the size of a word's embedding

The rows stand in the prompt where the image is. Each image that was looked at has ids of its own behind the
vocabulary, whose rows model.image_features holds, so a prompt with images is a list of ids like any other:
batches, shared prefixes, the gradient and rows with a z each need nothing new. An expert changes the language
model's weights and never the eyes.

Left out: cutting a large image into tiles, video. An image is squeezed into one square, in one step, where
transformers first brings its longer side to a size that the checkpoint names.

    python sample.py --model SmolVLM-256M-Instruct --image photo.jpg "What is in the picture?"
"""
import struct
import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

@dataclass
class EyesArgs:
    image_size: int  # S, pixels of a side
    patch_size: int  # p
    vision_dim: int
    vision_hidden_dim: int
    vision_layers: int
    vision_heads: int
    vision_eps: float
    scale_factor: int  # s of the shuffle
    dim: int  # of the language model

    def patches_a_side(self):
        return self.image_size // self.patch_size

    def n_features(self):
        """How many rows an image becomes."""
        return (self.patches_a_side() // self.scale_factor) ** 2

class VisionAttention(nn.Module):
    """Every patch looks at every other: (B, patches, vision_dim) -> the same shape, as all of a block."""

    def __init__(self, args):
        super().__init__()
        self.n_heads = args.vision_heads
        self.q_proj = nn.Linear(args.vision_dim, args.vision_dim)
        self.k_proj = nn.Linear(args.vision_dim, args.vision_dim)
        self.v_proj = nn.Linear(args.vision_dim, args.vision_dim)
        self.out_proj = nn.Linear(args.vision_dim, args.vision_dim)

    def forward(self, x):
        q, k, v = [proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, heads, patches, head_dim)
                   for proj in (self.q_proj, self.k_proj, self.v_proj)]
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).flatten(2))

class VisionMLP(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.fc1 = nn.Linear(args.vision_dim, args.vision_hidden_dim)
        self.fc2 = nn.Linear(args.vision_hidden_dim, args.vision_dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))

class VisionBlock(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(args.vision_dim, args.vision_eps)
        self.self_attn = VisionAttention(args)
        self.layer_norm2 = nn.LayerNorm(args.vision_dim, args.vision_eps)
        self.mlp = VisionMLP(args)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))

class Tower(nn.Module):
    """Pixels (B, 3, S, S) -> features of the patches, row by row (B, (S/p)², vision_dim)."""

    def __init__(self, args):
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, args.vision_dim, args.patch_size, args.patch_size)
        self.position_embedding = nn.Embedding(args.patches_a_side() ** 2, args.vision_dim)
        self.layers = nn.ModuleList(VisionBlock(args) for _ in range(args.vision_layers))
        self.post_layernorm = nn.LayerNorm(args.vision_dim, args.vision_eps)

    def forward(self, pixels):
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, patches, vision_dim)
        x = x + self.position_embedding.weight
        for layer in self.layers:
            x = layer(x)
        return self.post_layernorm(x)

def pixel_shuffle(x, s):
    """(B, side², d) -> (B, (side/s)², s²·d): the s × s neighbours of a square grid side by side."""
    B, patches, d = x.shape
    side = round(patches ** 0.5)
    x = x.view(B, side // s, s, side // s, s, d)
    return x.transpose(2, 3).reshape(B, patches // s ** 2, s * s * d)

class Eyes(nn.Module):
    """Pixels (B, 3, S, S) -> rows for the language model (B, n_features, dim)."""

    def __init__(self, args):
        super().__init__()
        self.args = args
        self.tower = Tower(args)
        self.projection = nn.Linear(args.vision_dim * args.scale_factor ** 2, args.dim, bias=False)

    def forward(self, pixels):
        return self.projection(pixel_shuffle(self.tower(pixels), self.args.scale_factor))

# -- image files ---------------------------------------------------------------------------------------------

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 100_000_000  # a file of a few bytes can ask for more memory than there is
# what Pillow raises for files that are no whole images, damaged EXIF among them
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, struct.error)

def read_image(path, size):
    """Pixels (3, size, size) from −1 to 1 of an image file, on white, squeezed into a square.

    Raises ValueError for a file that is no whole image, or too large; FileNotFoundError if there is none.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise ValueError("images need one more package: pip install pillow") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are refused below
            with Image.open(path, formats=IMAGE_FORMATS) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise ValueError(f"it has {file.width} × {file.height} pixels; the most are "
                                     f"{MOST_PIXELS}")
                if file.mode.startswith("I"):
                    raise ValueError(f"its numbers have more than 8 bits (mode {file.mode}); save it with 8")
                image = ImageOps.exif_transpose(file)
                if not image.has_transparency_data:
                    image = image.convert("RGB")  # CMYK, for one, has no way to RGBA but this
                image = image.convert("RGBA")
    except FileNotFoundError:
        raise FileNotFoundError(f"the image {path} does not exist") from None
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {path} cannot be read: {error}") from error
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    pixels = values.view(size, size, 3).permute(2, 0, 1).float()
    return pixels / 127.5 - 1

class Sight:
    """Turns an image file into ids: one per row of the image, between the tokens that frame an image.

    All images that were looked at are remembered: 74 KB each for SmolVLM in bfloat16.
    """

    def __init__(self, model, eyes, before=(), after=()):
        self.model = model
        self.eyes = eyes
        self.before = list(before)  # token ids
        self.after = list(after)
        self.place_of = {}  # path -> which image of the table it is

    def ids_of(self, path):
        """The ids of an image file, which is looked at once. Raises ValueError or FileNotFoundError for one
        that cannot be read."""
        path = str(path)
        if path not in self.place_of:
            self.remember(self.look(path))
            self.place_of[path] = len(self.place_of)
        return self.ids_at(self.place_of[path])

    def ids_at(self, place):
        """The ids of the image whose rows are the place-th in the table, counted from 0."""
        n = self.eyes.args.n_features()
        first = self.model.args.vocab_size + place * n
        return [*self.before, *range(first, first + n), *self.after]

    @torch.no_grad()
    def look(self, path):
        """The rows of one image (n_features, dim)."""
        weight = self.eyes.projection.weight
        pixels = read_image(path, self.eyes.args.image_size)
        return self.eyes(pixels[None].to(weight))[0]

    def remember(self, rows):
        """Put the rows of an image (n_features, dim) behind those in the table."""
        table = self.model.image_features
        used = len(self.place_of) * len(rows)
        if table is None or used == len(table):  # full: twice the room
            larger = rows.new_zeros(max(2 * used, 64 * len(rows)), rows.shape[1])
            if table is not None:
                larger[:used] = table
            self.model.image_features = table = larger
        table[used:used + len(rows)] = rows
