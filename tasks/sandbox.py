"""Runs programs that a model wrote: each in a child process of its own, limited, many in parallel.

The child gets a program and a list of calls, runs them, and returns what they gave as Python literals. What
was expected stays with the parent, so nothing the program prints, and no object that claims to equal
everything, can pass. Before the program runs, the child gives up: root (it becomes nobody), memory beyond 1
GB, new processes, files, its environment, and, by an audit hook, every other way to the outside: any such
event ends it at once.

This limits accidents and reward hacking. It is not a jail. Tested on Linux; macOS does not enforce the memory
limit, and Windows has none of these limits, so there the code tasks refuse to run.

    run_programs([Program("def f(x): return x + 1", "f", [[1], [2]])], seconds=4)   ->   [[2, 3]]
"""
import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REFUSAL = "" if os.name == "posix" else "programs are limited here by POSIX means; use Linux or macOS"
MEMORY = 1 << 30  # bytes of address space
OUTPUT = 1 << 20  # bytes a child may write, all results together

CHILD = r'''
import sys, os, json, resource, importlib, collections
job = json.loads(sys.stdin.buffer.read())
for name in job["modules"]:
    importlib.import_module(name)

def literal(value):
    # repr of exact builtin types only: a subclass could lie in its repr
    kind = type(value)
    if kind in (collections.Counter, collections.OrderedDict, collections.defaultdict):
        kind, value = dict, dict(value)
    if kind is float:
        return repr(value).replace("inf", "1e999")
    if kind in (int, str, bytes, bool, complex, type(None)):
        return repr(value)
    if kind is dict:
        return "{" + ",".join(literal(k) + ":" + literal(v) for k, v in value.items()) + "}"
    if kind in (list, tuple, set):
        inner = "".join(literal(v) + "," for v in (sorted(value, key=repr) if kind is set else value))
        left, right = {list: "[]", tuple: "()", set: "{}"}[kind]
        return left + inner + right if value or kind is not set else "set()"
    raise TypeError(kind.__name__)

def give_up(exit=os._exit):
    limits = ((resource.RLIMIT_AS, job["memory"]), (resource.RLIMIT_FSIZE, job["output"]),
              (resource.RLIMIT_CPU, job["seconds"] + 1), (resource.RLIMIT_CORE, 0))
    for what, most in limits:
        resource.setrlimit(what, (most, most))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # root would not be bound by it
    die = lambda *args, **kwargs: exit(3)
    harmless = {"fspath", "urandom", "stat", "lstat", "strerror", "cpu_count"}
    for name in [n for n in dir(sys.modules["posix"]) if n not in harmless]:
        if callable(getattr(os, name, None)) and not isinstance(getattr(os, name), type):
            setattr(os, name, die)
            setattr(sys.modules["posix"], name, die)
    allowed = ("compile", "exec", "object.__", "code.__new__", "function.__new__", "sys._getframe",
               "cpython.", "builtins.id", "builtins.input", "time.sleep", "array.__new__", "sys.excepthook",
               "sys.unraisablehook")
    def hook(event, args):
        if event == "import":
            raise ImportError(f"{args[0]} is not available")
        if not event.startswith(allowed):
            exit(3)
    sys.addaudithook(hook)

def main(write=os.write, out=os.dup(1), dup2=os.dup2, null=os.open(os.devnull, os.O_RDWR)):
    for stream in (0, 1, 2):
        dup2(null, stream)
    sys.stdin = open(os.devnull)
    give_up()
    space = {"__name__": "program"}
    exec(compile(job["source"], "program", "exec"), space)
    lines = [literal(space[job["entry"]](*args)) for args in job["calls"]]
    write(out, json.dumps(lines).encode())

main()
'''
# imported before the limits close; a program can import nothing else
MODULES = ["math", "cmath", "re", "collections", "itertools", "functools", "operator", "string", "heapq",
           "bisect", "random", "typing", "datetime", "statistics", "fractions", "decimal", "copy", "json",
           "array", "hashlib", "textwrap", "colorsys", "enum", "dataclasses", "abc", "time", "calendar"]

@dataclass
class Program:
    source: str
    entry: str  # the function to call
    calls: list  # one list of arguments a call, as JSON holds them

def run_one(program, seconds):
    """What the calls returned, or None if the program failed, broke a limit or ran out of time."""
    job = vars(program) | {"modules": MODULES, "memory": MEMORY, "output": OUTPUT, "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "results", "w+b") as results:
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", CHILD], stdin=subprocess.PIPE,
                                 stdout=results, stderr=subprocess.DEVNULL, cwd=folder, env={},
                                 start_new_session=True)
        try:
            child.communicate(json.dumps(job).encode(), timeout=seconds)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            pass
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        results.seek(0)
        written = results.read(OUTPUT)
    if child.returncode != 0:
        return None
    try:
        return [ast.literal_eval(line) for line in json.loads(written)]
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None  # not what our child writes: the program got at the channel

def run_programs(programs, seconds):
    """Run all programs, as many at a time as there are cores -> list of what `run_one` gives."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda program: run_one(program, seconds), programs))

def same(a, b, tolerance=0.0):
    """Equal in value and in type all the way down; floats to within tolerance (1e-6 relative at least)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b or abs(a - b) <= max(tolerance, 1e-6 * abs(b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], tolerance) for k in a)
    return a == b
