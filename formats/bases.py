"""Bases of a large model, kept between runs in the user's cache folder, a file per weight.

An interrupted decomposition goes on where it was, and the next run only reads.
"""
import json

from safetensors import SafetensorError, safe_open

from formats.default_model import cache_folder
from formats.safetensors_file import save_whole

def cached_basis(fingerprint, name, W, decompose):
    """The basis (r, r) of weight W of the model with that fingerprint: read, or made by decompose(W) and
    kept. Raises ValueError for a file that is damaged, or another weight's."""
    dtype = str(W.dtype).removeprefix("torch.")
    path = cache_folder() / "bases" / fingerprint / dtype / f"{name}.safetensors"
    if not path.exists():
        save_whole(path, {"basis": decompose(W).to(W.dtype)}, {"fingerprint": fingerprint})
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            made_for = json.loads(file.metadata()["fingerprint"])
            basis = file.get_tensor("basis").to(W.device)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no whole basis ({error}); delete it") from error
    r = min(W.shape)
    if made_for != fingerprint or basis.shape != (r, r) or not basis.isfinite().all():
        raise ValueError(f"{path} is no basis of this weight; delete it")
    return basis
