"""A safetensors file, written whole or not at all."""
import json
import os

from safetensors import SafetensorError
from safetensors.torch import save_file

def write_safetensors(path, tensors, metadata):
    """{name: tensor} and {key: text} as a file; where the disk is full, OSError and no file."""
    path.touch()
    usual_mode = path.stat().st_mode  # what the user lets others do with a new file; safetensors lets nobody
    try:
        save_file({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, path, metadata)
        path.chmod(usual_mode)
    except SafetensorError as error:  # which is no OSError
        path.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written: {error}") from error

def save_whole(path, tensors, metadata):
    """Write {name: tensor} as safetensors, with `metadata` as JSON values; never a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write the same basis
    write_safetensors(beside, tensors, {key: json.dumps(value) for key, value in metadata.items()})
    beside.replace(path)
