"""Flags from a script's dataclass, and the frame around its main: a wrong input is one sentence, exit code 2.

Each default stands once, in the dataclass; a field made by `flag` becomes a flag of its name and type.

    @dataclass
    class Config(ModelChoice):
        steps: int = flag(32, "updates of z")

    config = parse_flags(Config, __doc__)
"""
import argparse
import os
import re
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from formats.default_model import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
# flags that only the bigger script of that name has
MOVED = {"train.py": "adapter basis rank alpha objective learner modules layers eyes tensor-parallel",
         "sample.py": "image eyes generations per-block save show export transfer"}

def flag(default, help, between=None, heading=None):
    """A field of a script's Config, with the help text of its flag, what a number must lie between, and the
    heading in --help under which it stands."""
    return field(default=default, metadata={"help": help, "between": between, "heading": heading})

def argument(default, help):
    """The same for what stands on the command line without a flag; at most one field of a Config."""
    return field(default=default, metadata={"help": help, "positional": True})

OF_MODEL = "which model, and how it computes"

@dataclass
class ModelChoice:
    """Which model, and how it computes: fields of every Config of a script that opens one by open_model."""
    model: str = flag(DEFAULT_MODEL, "a Meta or Hugging Face folder, a .gguf file, or the default by name",
                      heading=OF_MODEL)
    chat_template: str = flag("", "a file with a Jinja chat template; empty: the model's own",
                              heading=OF_MODEL)
    device: str = flag("", "cuda, mps or cpu; empty: the first of these that is there", heading=OF_MODEL)
    dtype: str = flag("", "bfloat16 or float32; empty: bfloat16 where it is native", heading=OF_MODEL)

class Parser(argparse.ArgumentParser):
    """argparse, with errors of one sentence."""
    takes_a_prompt = False

    def error(self, message):
        moved = MOVED.get(self.prog, "").split()
        for unknown in re.findall(r"--([\w-]+)", message):
            if message.startswith("unrecognized") and unknown in moved:
                command = f"python -m scripts.{self.prog.removesuffix('.py')}"
                raise ValueError(f"--{unknown} is a flag of {command}, which has all of {self.prog}'s, too")
        if self.takes_a_prompt:
            message += "; a prompt that begins with a dash goes behind --"
        raise ValueError(f"{message}; --help lists the flags")

def script_name():
    """What was started, as a user types it: "train.py", or "-m scripts.train"."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name.startswith(("scripts.", "examples.")):
        return f"-m {spec.name}"
    return sys.argv[0]

def flag_name(field_name):
    return "--" + field_name.replace("_", "-")

def check_number(config_field, value):
    """Raises ValueError for a number that a flag cannot have; counts may be 1 to a million, and a default is
    always allowed."""
    between = config_field.metadata.get("between")
    if between is None and config_field.type is int:
        between = (-10 ** 9, 10 ** 9) if config_field.name == "seed" else (1, 10 ** 6)
    if between is None or value == config_field.default:
        return
    least, most = between
    if not least <= value <= most:  # NaN does not lie between either
        name = flag_name(config_field.name)
        raise ValueError(f"{name} must be between {least:g} and {most:g}, not {value:g}")

def add_flag(parser, config_field):
    """The field as an argument of argparse; in --help its default stands where a value is typed."""
    default = config_field.default
    how = {"default": default, "help": config_field.metadata["help"]}
    if config_field.metadata.get("positional"):
        parser.add_argument(config_field.name, nargs="?", type=config_field.type, **how)
        return
    if config_field.type is bool:
        how["action"] = "store_true"
    else:
        how["type"] = config_field.type
        how["metavar"] = "…" if default in ("", None) else str(default)
    parser.add_argument(flag_name(config_field.name), **how)

def help_lines(prog):
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=110)

def parse_flags(Config, doc, quick=None):
    """Config as the command line says, by `flag` and `argument`. Raises ValueError for a wrong value.

    `quick` {field: value} are other defaults, where the flag --quick was typed.
    """
    name = Path(sys.argv[0]).name if script_name() == sys.argv[0] else f"python {script_name()}"
    positional = [f" [{f.name}]" for f in fields(Config) if f.metadata.get("positional")]
    parser = Parser(prog=name, usage=f"{name} [flags]{''.join(positional)}", description=doc,
                    formatter_class=help_lines, allow_abbrev=False)
    groups = {None: parser}
    for config_field in sorted(fields(Config), key=lambda f: f.metadata.get("heading") is not None):
        heading = config_field.metadata.get("heading")
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        add_flag(groups[heading], config_field)
        parser.takes_a_prompt |= config_field.name == "prompt"
    if quick and "--quick" in sys.argv:
        parser.set_defaults(**quick)
    config = Config(**vars(parser.parse_args()))
    for config_field in fields(Config):
        if config_field.type in (int, float):
            check_number(config_field, getattr(config, config_field.name))
    return config

def changed(config, names):
    """Those of the flags that are not at their defaults."""
    defaults = {config_field.name: config_field.default for config_field in fields(config)}
    return [name for name in names if getattr(config, name) != defaults[name]]

def find_folder(path):
    """The file or folder, or the one of that name in the repository where the current folder has none."""
    if not Path(path).exists() and (ROOT / path).exists():
        return ROOT / path
    return Path(path)

# -- the frame around a main ---------------------------------------------------------------------------------

def open_streams():
    """Every stream leads somewhere, and a character that it lacks becomes "?": no output ends the work."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

def run_main(main):
    """main(); a wrong input is one sentence and exit code 2, Ctrl-C one line and 130."""
    open_streams()
    try:
        main()
        sys.stdout.flush()
        return
    except BrokenPipeError:
        code, said = 2, "error: whoever read the output has closed it; what was logged and saved is whole"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    except (RuntimeError, MemoryError) as error:
        # numpy has a class for it, and PyTorch one on a GPU; on a CPU it only says so
        is_of_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not is_of_memory and "DefaultCPUAllocator" not in str(error):
            raise
        code = 2
        said = ("error: out of memory; ask for fewer rows at a time (python -m scripts.bench --plan says "
                "what fits)")
    except (ValueError, OSError) as error:
        rank = int(os.environ.get("RANK", 0))  # which process this is, if torchrun started several
        process = f"process {rank}: " if rank > 0 else ""
        code, said = 2, f"{process}error: {error}"
    except KeyboardInterrupt:
        code, said = 130, "\ninterrupted"
    print(said, file=sys.stderr)
    sys.exit(code)
