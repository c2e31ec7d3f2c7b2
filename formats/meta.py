"""Meta's format: params.json, consolidated.*.pth (one file per model-parallel shard) and tokenizer.model."""
import json
import math
import pickle
from dataclasses import dataclass, replace

import torch

from formats.checkpoint import Checkpoint, checked
from formats.folder import check_tokenizers
from formats.tokenizer_files import from_meta
from model import ModelArgs

def meta_args(file):
    """ModelArgs from a params.json; whether embeddings are tied is not in it."""
    params = json.loads(file.read_text())
    known = {"dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of", "ffn_dim_multiplier",
             "norm_eps", "rope_theta", "use_scaled_rope", "rope_scaling_factor"}
    unknown = sorted(params.keys() - known)
    if unknown:
        raise ValueError(f"{file}: {unknown[0]} is not known here")
    scaled = params.get("use_scaled_rope", False)
    if scaled and "rope_scaling_factor" not in params:
        raise ValueError(f'{file}: use_scaled_rope does not say by how much; add '
                         f'"rope_scaling_factor": 8 for Llama 3.1 or 32 for Llama 3.2')
    for key, value in params.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{file}: {key} = {value} is no number")
    dim, n_heads, multiple = params["dim"], params["n_heads"], params["multiple_of"]
    rope_scaling = (params["rope_scaling_factor"], 1.0, 4.0, 8192) if scaled else None
    hidden = int(int(2 * 4 * dim / 3) * (params.get("ffn_dim_multiplier") or 1))  # Meta's FeedForward
    return ModelArgs(
        dim=dim, n_layers=params["n_layers"], n_heads=n_heads, n_kv_heads=params.get("n_kv_heads") or n_heads,
        head_dim=dim // n_heads, hidden_dim=math.ceil(hidden / multiple) * multiple,
        vocab_size=params["vocab_size"], norm_eps=params["norm_eps"],
        rope_theta=params.get("rope_theta", 10000.0),
        max_seq_len=131072 if scaled else 8192,  # not in the file: Llama 3.1's and Llama 3's
        rope_scaling=rope_scaling)

@dataclass
class ShardedTensor:
    """A weight that Llama 3's model parallelism has cut; joined when it is called.

    wo and w2 are cut by input, the vocabulary and the others by output; norms stand whole in each shard.
    """
    name: str
    parts: list  # of each shard, None where it is missing

    def __call__(self):
        if any(part is None for part in self.parts):
            raise ValueError(f"{self.name} is missing from one of the shards")
        if len(self.parts) == 1:
            return self.parts[0]
        if self.parts[0].dim() == 1:
            if not all(torch.equal(part, self.parts[0]) for part in self.parts):
                raise ValueError(f"{self.name} is not the same in all shards")
            return self.parts[0]
        cut_by_input = self.name.split(".")[-2] in ("wo", "w2")
        return torch.cat(self.parts, dim=1 if cut_by_input else 0)

def read_meta(folder):
    """Meta's folder -> Checkpoint. Raises ValueError for what is not understood."""
    args = checked(folder, meta_args(folder / "params.json"))
    check_tokenizers(folder)
    shards = []
    for file in sorted(folder.glob("consolidated.*.pth")):
        try:
            shards.append(torch.load(file, mmap=True, map_location="cpu", weights_only=True))
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{file} is not a whole checkpoint: {str(error).splitlines()[0]}") from error
    names = dict.fromkeys(name for shard in shards for name in shard)
    tensors = {name: ShardedTensor(name, [shard.get(name) for shard in shards])
               for name in names if name != "rope.freqs"}  # a stored table, computed here instead
    args = replace(args, tied_embeddings="output.weight" not in tensors)
    return Checkpoint(args, tensors, from_meta(folder / "tokenizer.model"))
