"""A model opened for a script: on which device and in which dtype, loaded, decomposed, then cast.

The order matters. Bases are computed from the file's own numbers, so a model is wrapped before it is cast.
"""
import os
import time
from dataclasses import dataclass
from functools import partial

import torch
from tqdm import tqdm

import svf
from formats.bases import cached_basis
from formats.load import load
from formats.tokenizer_files import read_template
from harness.logs import dtype_name

# silent where stderr is no terminal, and in all but the first of several processes
IS_ANOTHER = int(os.environ.get("RANK", 0)) > 0
bar = partial(tqdm, leave=False, disable=IS_ANOTHER or None, dynamic_ncols=True)

# -- device and dtype ----------------------------------------------------------------------------------------

def available_devices():
    """Names that --device takes here, the preferred one first."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    devices = ["cuda"] if gpus else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu", *gpus]

def has_native_bfloat16(device):
    if device == "cpu":
        cpu = torch.cpu.get_capabilities()
        return any(cpu.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return device != "mps" and torch.cuda.is_bf16_supported(including_emulation=False)

def check_dtype(dtype):
    if dtype not in ("", "float32", "bfloat16"):
        raise ValueError(f"--dtype {dtype} is not supported; choose float32 or bfloat16 (float16 overflows)")

def pick_device(device, dtype):
    """(device, dtype) that the flags ask for, or the best there is. Raises ValueError for what is missing."""
    available = available_devices()
    device = device or available[0]
    if device not in available:
        raise ValueError(f"--device {device} is not available here; there is {', '.join(available)}")
    check_dtype(dtype)
    if not dtype:
        dtype = "bfloat16" if has_native_bfloat16(device) else "float32"
    return torch.device(device), getattr(torch, dtype)

# -- bases ---------------------------------------------------------------------------------------------------

def place_to_decompose(device):
    """The device, or the CPU for one that has no float64 (Apple's)."""
    return torch.device("cpu") if device.type == "mps" else device

@dataclass
class Bases:
    """basis_of for `svf.wrap`, with a progress bar: computed on the device, wherever the weights are.

    The default model takes seconds, an 8B minutes, so the bases of a large model are kept between runs.
    """
    model: torch.nn.Module
    device: torch.device
    progress: tqdm

    def __call__(self, name, W):

        def decompose_there(W):
            return svf.decompose(W.to(place_to_decompose(self.device)))

        self.progress.update()
        if self.model.args.dim <= 1024:
            return decompose_there(W)
        return cached_basis(self.model.fingerprint, name, W, decompose_there)

def wrap_in_svf(model, names, device):
    """svf.wrap for a script."""
    with bar(desc="decomposing", total=len(svf.linears(model, names))) as progress:
        svf.wrap(model, names, Bases(model, device, progress))

# -- a model -------------------------------------------------------------------------------------------------

def load_for_chat(choice, device, dtype=None):
    """The model that the flags name, in its file's dtype or another, and a tokenizer with its chat template.
    Raises ValueError for a model that has none."""
    model, tokenizer = load(choice.model, device, dtype, progress=partial(bar, desc="loading"))
    if choice.chat_template:
        tokenizer.use_template(read_template(choice.chat_template))
        model.stop_ids = tokenizer.stop_ids  # a template says how turns end
    if tokenizer.format is None:
        raise ValueError(f"{choice.model} has no chat template; name a file with one: --chat-template FILE")
    return model, tokenizer

def open_model(choice, modules="all", wrap=wrap_in_svf, load_on=None):
    """Load, wrap, cast, and say what it is -> (wrapped model on its device, tokenizer).

    `choice` is a Config that is a ModelChoice. wrap(model, names, device) puts an adapter around the linears
    that `modules` names, in place; the model it gets is as its file is, mapped on the device `load_on` (None:
    where it will compute). Raises ValueError, before the decomposition, for a model that cannot chat.
    """
    started = time.time()
    if modules not in svf.MODULES:
        raise ValueError(f"--modules {modules} is not known; choose {', '.join(svf.MODULES)}")
    device, dtype = pick_device(choice.device, choice.dtype)
    model, tokenizer = load_for_chat(choice, load_on or device)
    wrap(model, svf.MODULES[modules], device)
    model.to(device=device, dtype=dtype)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{choice.model}: {millions:.0f} M parameters on {device} in {dtype_name(dtype)}, ready in "
          f"{time.time() - started:.0f} s")
    return model, tokenizer
