"""A LoRA expert merged into its base: a folder in Hugging Face's format, a base of its own.

An expert of SVF can be learned on it, which is how the two go together:

    python -m scripts.train --model FOLDER --task math --adapter lora --rank 16 --lr 1e-3
    python -m scripts.merge_lora out/math-0/math.safetensors merged
    python train.py --model merged --task code --out out/code-on-merged

A folder merged from a base in another format than Hugging Face's lacks a tokenizer; copy one there.
"""
import argparse
from pathlib import Path

from baselines import lora
from formats.experts import read_expert
from formats.huggingface import check_new_folder, write_hf
from formats.load import load
from harness.flags import run_main

def merge(expert, folder):
    """Writes the folder -> what was written. Raises ValueError for an expert of another adapter or model, or
    a damaged one."""
    check_new_folder(folder)
    parameters, metadata = read_expert(expert)
    if metadata["adapter"] != "lora":
        raise ValueError(f"{expert} was made by the adapter {metadata['adapter']}; those of svf are exported "
                         f"by python -m scripts.sample --expert {expert} --export {folder}")
    if not isinstance(metadata.get("rank"), int) or not isinstance(metadata.get("alpha"), float):
        raise ValueError(f"{expert} does not say its rank and alpha; train it again")
    model, _ = load(metadata["base"], "cpu")
    if model.fingerprint != metadata["fingerprint"]:
        raise ValueError(f"{expert} was made for {metadata['base']}, which is another model now")
    names = {name.rpartition(".")[0] for name in parameters}
    lora.wrap(model, names, rank=metadata["rank"], alpha=metadata["alpha"])
    shapes = {name: v.shape for name, v in lora.start(model).items()}
    if {name: v.shape for name, v in parameters.items()} != shapes:
        raise ValueError(f"{expert} is damaged: its tensors are not those of LoRA of rank {metadata['rank']}")
    if not all(v.isfinite().all() for v in parameters.values()):
        raise ValueError(f"{expert} is damaged: some of its numbers are not finite")
    with lora.using(model, parameters):
        return write_hf(model, folder)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("expert", type=Path, help="what scripts.train --adapter lora wrote")
    parser.add_argument("folder", type=Path, help="a new folder")
    flags = parser.parse_args()
    print(merge(flags.expert, flags.folder))

if __name__ == "__main__":
    run_main(main)
