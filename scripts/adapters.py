"""Adapters by name, for the scripts that can take another than svf."""
import importlib
import re

import svf

KNOWN = {"svf": "svf", "lora": "baselines.lora"}  # name: module

def load_adapter(name):
    """The adapter module of that name: svf, lora, or one of your own, as examples.channels.

    Raises ValueError if there is none, or if it lacks one of the three functions of an adapter.
    """
    if "/" in name or name.endswith(".py"):
        raise ValueError(f"--adapter {name} is a path; write the module's name, as examples.channels")
    module = KNOWN.get(name, name)
    try:
        adapter = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ValueError(f"--adapter {name} needs a package that is missing: {error.name}") from error
        raise ValueError(f"--adapter {name}: there is no {name}.py in this folder") from error
    missing = [function for function in ("wrap", "start", "using") if not hasattr(adapter, function)]
    if missing:
        raise ValueError(
            f"--adapter {name} has no function {missing[0]}; svf.py shows the three that an adapter needs")
    return adapter

def options_of(config):
    """What the flags say to the adapter's `wrap`, and what an expert's metadata say of it."""
    if config.adapter == "svf":
        return {"basis": config.basis}
    if config.adapter == "lora":
        return {"rank": config.rank, "alpha": config.alpha}
    return {}

def in_layers(model, names, layers):
    """Full names of the linears of some layers: "even", or "8-15", both ends included. Raises ValueError for
    layers that the model does not have."""
    n_layers = model.args.n_layers
    found = re.fullmatch(r"(\d+)-(\d+)", layers)
    if layers == "even":
        chosen = range(0, n_layers, 2)
    elif found and int(found[1]) <= int(found[2]) < n_layers:
        chosen = range(int(found[1]), int(found[2]) + 1)
    else:
        raise ValueError(f"--layers {layers}: choose even, or a range of 0-{n_layers - 1}")
    return [name for name, _ in svf.linears(model, names) if int(name.split(".")[1]) in chosen]
