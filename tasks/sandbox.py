"""Runs programs that a model wrote: each in a child process of its own, limited, many in parallel.

The child gets a program and a list of calls, runs them, and returns what they gave as Python literals. What
was expected stays with the parent, so nothing the program prints, and no object that claims to equal
everything, can pass. Before the program runs the child gives up, in this order:

1. its streams, memory beyond 1 GB, output beyond 64 KB, processor time, and being root, where it may;
2. by the kernel (Linux, seccomp), every system call but those for computing. Python cannot undo this one.
   macOS and some containers lack it; `fence` says what this machine gives;
3. by an audit hook, every Python call to the outside: any such event ends it at once. A program can take the
   hook off from inside, so alone it is a fence for accidents.

Still possible: to use up its time and memory, and to return what it was asked for without solving anything.
Tested on Linux. Windows has none of these limits, so there the code tasks refuse to run.

    run_programs([Program("def f(x): return x + 1", "f", [[1], [2]])], seconds=4)   ->   [[2, 3]]
"""
import ast
import functools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

REFUSAL = "" if os.name == "posix" else "running programs that a model wrote needs Linux or macOS"
MEMORY = 1 << 30  # bytes of address space
OUTPUT = 1 << 16  # bytes a child may write, all results together; the parent must read them

CHILD = r'''
import sys
sys.path = [path for path in sys.path if path]
import os, json, resource, importlib, collections, ctypes, platform, signal, struct
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

def set_limits():
    for what, most in ((resource.RLIMIT_AS, job["memory"]), (resource.RLIMIT_FSIZE, job["output"]),
                       (resource.RLIMIT_CPU, job["seconds"] + 1), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except ValueError:
            pass  # macOS has no RLIMIT_AS

def become_nobody():
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        except OSError:
            pass  # a root that may not, or where there is no such user; the kernel's filter needs no rights
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # root would not be bound by it

# system calls that compute: read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
# rt_sigreturn mremap madvise getpid exit gettimeofday sigaltstack futex clock_gettime clock_nanosleep
# exit_group getrandom
COMPUTING = {
    "x86_64": (0xC000003E, (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 39, 60, 96, 131, 202, 228, 230,
                            231, 318)),
    "aarch64": (0xC00000B7, (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 172, 93, 169,
                             132, 98, 113, 115, 94, 278))}

def kernel_filter():
    """The seccomp filter, ready to be switched on; None where there is none."""
    if sys.platform != "linux" or platform.machine() not in COMPUTING:
        return None
    architecture, allowed = COMPUTING[platform.machine()]
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000  # refuse: EPERM
    lines = [(load, 0, 0, 4), (jump_if_equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    lines += [(jump_if_equal, len(allowed) - i, 0, number) for i, number in enumerate(allowed)]
    lines += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)

def switch_on(libc, lines):
    """True if the kernel refuses all but COMPUTING from now on, whatever this process does."""
    if lines is None:
        return False
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    code = ctypes.create_string_buffer(lines)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines) // 8, ctypes.addressof(code)))
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0:
        return False
    return libc.prctl(set_seccomp, mode_filter, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0

def hook_in(exit=os._exit):
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

def main():
    write = os.write  # kept from hook_in
    out = os.dup(1)  # the only way out; the program's own streams lead nowhere
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdin = open(os.devnull)
    libc = ctypes.CDLL(None)
    set_limits()
    become_nobody()
    if sys.platform == "linux":
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # die with the parent; a change of user would clear this
        if os.getppid() != job["parent"]:
            os._exit(4)  # it died before
    filtered = switch_on(libc, kernel_filter())
    del sys.modules["ctypes"], sys.modules["_ctypes"]
    hook_in()
    space = {"__name__": "program"}
    exec(compile(job["source"], "program", "exec"), space)
    lines = [literal(space[job["entry"]](*args)) for args in job["calls"]]
    write(out, json.dumps({"filtered": filtered, "results": lines}).encode())

main()
'''
# imported before the limits close; a program can import nothing else
MODULES = ["math", "cmath", "re", "collections", "itertools", "functools", "operator", "string", "heapq",
           "bisect", "random", "typing", "datetime", "statistics", "fractions", "decimal", "copy", "json",
           "array", "hashlib", "textwrap", "colorsys", "enum", "dataclasses", "abc", "time", "calendar",
           "queue", "_strptime"]  # which datetime imports when it is first asked for

@dataclass
class Program:
    source: str
    entry: str  # the function to call
    calls: list  # one list of arguments per call, as JSON holds them

def written_by(program, seconds):
    """What the child of a program wrote, b"" if it failed, broke a limit or ran out of time."""
    job = vars(program) | {"modules": MODULES, "memory": MEMORY, "output": OUTPUT, "seconds": seconds,
                           "parent": os.getpid()}
    with tempfile.TemporaryFile() as results:  # it has no name, so nobody can leave it behind
        child = subprocess.Popen([sys.executable, "-s", "-S", "-c", CHILD], stdin=subprocess.PIPE,
                                 stdout=results, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
                                 env={"PYTHONHASHSEED": "0"})  # list(set(words)) is the same in each child
        try:
            child.communicate(json.dumps(job).encode(), timeout=seconds)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            pass
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        results.seek(0)
        return results.read(OUTPUT) if child.returncode == 0 else b""

def read_results(written):
    """What the calls returned, from what the child wrote, or None."""
    try:
        return [ast.literal_eval(line) for line in json.loads(written)["results"]]
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError, KeyError):
        return None  # nothing, or not what our child writes: the program got at the channel

def run_one(program, seconds):
    """What the calls returned, or None."""
    return read_results(written_by(program, seconds))

def run_programs(programs, seconds):
    """Run all programs, as many at a time as this process may use cores -> list of what `run_one` gives."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(run_one, programs, [seconds] * len(programs)))

GOOD = Program("import math\ndef f(x): return math.sqrt(x)", "f", [[4]])
BAD = Program("import os\ndef f(x): return len(os.listdir('/'))", "f", [[4]])
TRIES = 3  # of the good program: on a loaded machine one in several hundred fails

@functools.cache
def fence():
    """What holds programs on this machine, in words; tried once with a known good program, again where it
    fails, and a known bad one.

    Raises ValueError where a good program cannot run (every answer would be graded wrong), or a bad one can.
    """
    for _ in range(TRIES):
        written = written_by(GOOD, seconds=20)
        if read_results(written) == [2.0]:
            break
    else:
        raise ValueError("the sandbox cannot run a harmless program here; tasks that run programs need "
                         "another machine, or fewer restrictions on this one")
    if run_one(BAD, seconds=20) is not None:
        raise ValueError("the sandbox does not hold a program that reads a folder; do not run programs here")
    if json.loads(written)["filtered"]:
        return "a kernel filter on system calls"
    return "an audit hook alone: this kernel gives no filter on system calls"

def are_close(a, b, tolerance):
    """Whether a float is near; two integers, infinities and NaNs are not near, they are equal or not. Where a
    float is expected, 1e-6 is near to 0, as MBPP+ and HumanEval+ have it."""
    if isinstance(a, int) and isinstance(b, int):
        return False
    if isinstance(b, float):
        tolerance = max(tolerance, 1e-6)
    try:
        a, b = float(a), float(b)
    except OverflowError:  # 10 ** 400
        return False
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= max(tolerance, 1e-6 * abs(b))

def same(a, b, tolerance=0.0):
    """Equal as Python's == says, all the way down, as the sets' own asserts have it: 20 is 20.0 and True is
    1, but a list is no tuple; floats to within tolerance (1e-6 at least, relative and, where a float is
    expected, absolute). Both are literals of builtin types, so none brings an == of its own."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or are_close(a, b, tolerance)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[k], b[k], tolerance) for k in a)
    return a == b
