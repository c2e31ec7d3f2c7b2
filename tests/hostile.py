"""Programs that want out of tasks/sandbox.py, or into a reward: 20 tries in each of 5 ways, and 12 cheats.

Each escape defines f, and f(1) is 2 where the try worked.
"""
import atexit
import os
import shutil
import tempfile

FOLDER = tempfile.mkdtemp()
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
TRAP = FOLDER + "/hostile-file"
KEPT = TRAP + "-kept"  # a file that is there, open to all
os.chmod(FOLDER, 0o777)  # a child that gave up root could write here, were it not limited

# ways to the functions that the sandbox hides from a program
WAYS = {
    "plainly": """
import os, sys, builtins
""",
    "with the hook taken off": """
import os, sys, builtins
os.kill.__closure__[0].cell_contents = lambda *a: None
""",
    "with a fresh posix": """
import sys, builtins, _imp
spec = type(sys)("posix")
spec.name = "posix"
os = _imp.create_builtin(spec)
""",
    "through a class of os": """
import sys, builtins
class Names: pass
os = Names()
for kind in object.__subclasses__():
    if kind.__name__ == "_wrap_close":
        os.__dict__.update(kind.__init__.__globals__)
""",
    "through the frames": """
import sys, builtins
os = sys._getframe(1).f_globals["os"]
"""}

# what a program may try: an expression that is true where it worked, or leaves something on the disk
TRIES = {
    "lists a folder": "len(os.listdir('/'))",
    "reads a file": "builtins.open('/etc/passwd').read()",
    "reads its environment": "builtins.open('/proc/self/environ').read() or True",
    "opens with posix": "os.open('/etc/passwd', 0) >= 0",
    "writes a file": f"builtins.open({TRAP!r}, 'w').write('x')",
    "makes a folder": f"os.mkdir({TRAP!r}) and False",
    "makes a fifo": f"os.mkfifo({TRAP!r}) and False",
    "makes a link": f"os.symlink('/', {TRAP!r}) and False",
    "deletes": f"os.unlink({KEPT!r}) and False",
    "renames": f"os.rename({KEPT!r}, {TRAP!r}) and False",
    "changes rights": f"os.chmod({KEPT!r}, 0o777) and False",
    "forks": "os.fork() >= 0",
    "finds its parent": "os.getppid() > 0",
    "runs a shell": "os.system('true') == 0",
    "becomes a program": "os.execv('/bin/true', ['true'])",
    "spawns": "os.posix_spawn('/bin/true', ['true'], {}) > 0",
    "opens a socket": "__import__('_socket').socket()",
    "starts a thread": "__import__('_thread').start_new_thread(len, ('',))",
    "asks where it is": "os.getcwd()",
    "makes a pipe": "os.pipe()"}

ESCAPES = {f"{name} {way}": f"{prologue}def f(x):\n    return x + 1 if {expression} else 0\n"
           for way, prologue in WAYS.items() for name, expression in TRIES.items()}

# a set's own check, and programs that would pass where it runs beside them
SOLUTION = """
def f(x):
    return x + 41
"""
CHECK = """
SECRET = 42
def check(candidate):
    assert candidate(1) == SECRET
    assert candidate(2) == 43
    assert candidate(0) != 42
"""
CHEATS = {
    "is equal to everything": """
class Equal:
    def __eq__(self, other): return True
def f(x): return Equal()
""",
    "is a number that lies": """
class Lie(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return True
    def __repr__(self): return "42"
def f(x): return Lie(0)
""",
    "has a check of its own": """
def f(x): return 0
def check(candidate): pass
""",
    "has a verdict of its own": """
def f(x): return 0
def verdict(): return True
""",
    "has answers of its own": """
def f(x): return 0
def answers(): return True
""",
    "leaves without an error": """
import sys
def f(x): sys.exit(0)
""",
    "leaves at once": """
import os
os._exit(0)
""",
    "reads its caller": """
import sys
def f(x): return sys._getframe(1).f_globals.get("SECRET", 0)
""",
    "reads constants": """
import sys
def f(x):
    for depth in range(1, 4):
        for constant in sys._getframe(depth).f_code.co_consts:
            if constant in (42, 43): return constant
    return 0
""",
    "swallows the assertion": """
def f(x):
    global AssertionError
    AssertionError = None
    return 0
""",
    "prints the verdict": """
print("[true]")
def f(x): print(True)
""",
    "patches the harness": """
import json
json.dumps = lambda *a: '{"filtered": true, "results": ["True"]}'
def f(x): return 0
""",
    "forges no result": """
import json
json.dumps = lambda *a: '{"filtered": true, "results": []}'
def f(x): return 0
""",
    "forges two results": """
import json
json.dumps = lambda *a: '{"filtered": true, "results": ["[42]", "[42]"]}'
def f(x): return 0
"""}
