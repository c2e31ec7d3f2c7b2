"""Eyes for a language model: what an image becomes before Llama reads it (paper, section 4.2 and figure 5).

    patches     p × p pixels each -> (S/p)² features, by one convolution, plus learned positions
    ViT         pre-norm blocks in which all patches see each other (SigLIP: Zhai et al. 2023)
    shuffle     s × s neighbouring features side by side -> (S/p/s)² of s² times their size (Idefics3)
    projection  one matrix -> (S/p/s)² rows of the size of a word's embedding

The rows stand in the prompt where the image is (seeing.py). An expert changes the language model's weights,
never the eyes.

Left out: cutting a large image into tiles, video. An image is squeezed into one square, in one step, where
transformers first brings its longer side to a size that the checkpoint names.

    python -m scripts.sample --model SmolVLM-256M-Instruct --image photo.jpg "What is in the picture?"
"""
from dataclasses import dataclass

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
