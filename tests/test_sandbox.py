"""pytest tests/test_sandbox.py: hostile programs score −1, leave nothing behind and cost at most their time
limit."""
import ast
import glob
import json
import os
import subprocess
import sys
import tempfile
import time

import pytest
from conftest import children_of, state_of
from hostile import CHEATS, CHECK, ESCAPES, KEPT, SOLUTION, TRAP

from tasks.grading import score_programs
from tasks.interface import Problem
from tasks.judged_programs import JudgedCheck, score_judged_programs
from tasks.real_sets import mbpp_problem
from tasks.sandbox import CHILD, Program, fence, run_programs, same

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are tested on Linux")
HOSTILE = {
    "infinite loop": "def f(x):\n while True: pass",
    "fork bomb": "import os\ndef f(x):\n while True: os.fork()",
    "fork through _posixsubprocess": "import subprocess\ndef f(x): return "
                                     "subprocess.run(['true']).returncode + 2",
    "100 GB list": "def f(x): return len([0] * (100 << 30)) and x + 1",
    "deleting a file": f"import os\ndef f(x):\n try: os.remove({TRAP!r})\n except BaseException: pass\n "
                       f"return x + 1",
    "writing a file": f"def f(x):\n try: open({TRAP!r} + '2', 'w')\n except BaseException: pass\n return x "
                      f"+ 1",
    "making a fifo": f"import os\ndef f(x):\n try: os.mkfifo({TRAP!r} + '3')\n except Exception: pass\n "
                     f"return x + 1",
    "reading the environment": "import os\ndef f(x): return os.environ['PATH'] and x + 1",
    "reading home": "import os\ndef f(x): return len(os.listdir(os.path.expanduser('~'))) and x + 1",
    "opening a socket": "import socket\ndef f(x):\n socket.socket()\n return x + 1",
    "killing the parent": "import os\ndef f(x):\n try: os.kill(os.getppid(), 9)\n except Exception: pass\n "
                          "return x + 1",
    "printing the answer": "print('[2]')\ndef f(x): print(2)",
    "equal to everything": "class E:\n def __eq__(self, other): return True\ndef f(x): return E()",
    "an int that lies": "class I(int):\n def __repr__(self): return '2'\ndef f(x): return I(7)",
    "os._exit(0)": "import os\ndef f(x): os._exit(0)",
    "sys.exit": "import sys\nsys.exit(0)",
    "deep recursion": "def f(x): return f(x + 1)",
    "catching the timeout": "def f(x):\n while True:\n  try:\n   while True: pass\n  except BaseException: "
                            "pass",
    "ctypes": "import ctypes\ndef f(x): return x + 1",
    "endless output": "def f(x): return 'a' * (1 << 29)",
}

def test_hostile_programs_get_no_result_in_parallel_and_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open(TRAP, "w"):
        pass
    started = time.time()
    results = run_programs([Program(source, "f", [[1]]) for source in HOSTILE.values()], seconds=3)
    spent = time.time() - started
    passed = [name for name, result in zip(HOSTILE, results) if result is not None and same(result, [2])]
    assert passed == []
    assert glob.glob(TRAP + "*") == [TRAP] and os.listdir(tmp_path) == []
    slow = 3  # of them run into the limit; the rest end by themselves
    assert spent < 3 * -(-slow // os.cpu_count()) + 0.7 * len(HOSTILE)
    os.remove(TRAP)

def test_no_child_is_left_running():
    run_programs([Program("def f(x):\n while True: pass", "f", [["a mark of this very test"]])], seconds=1)
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        assert file.read().split() == []

def test_honest_programs_return_exact_python_values():
    source = """
import math, re, collections, heapq
def f(kind):
    return {"int": 2, "tuple": (1, (2, 3)), "set": {3, 1}, "dict": {"a": [1.5]}, "none": None, "inf":
    math.inf,
            "empty": set(), "text": "a'\\n", "bytes": b"x", "counter": collections.Counter("aab")}[kind]
"""
    day = Program("import datetime, queue\ndef f(x): return datetime.datetime.strptime(x, '%d/%m').day", "f",
                  [["24/12"]])
    assert run_programs([day], seconds=5) == [[24]]
    kinds = ["int", "tuple", "set", "dict", "none", "inf", "empty", "text", "bytes", "counter"]
    [result] = run_programs([Program(source, "f", [[kind] for kind in kinds])], seconds=5)
    assert same(result, [2, (1, (2, 3)), {1, 3}, {"a": [1.5]}, None, float("inf"), set(), "a'\n", b"x",
                         {"a": 2, "b": 1}])

def test_values_of_another_type_are_not_the_same():
    assert not same([1, 2], (1, 2)) and not same("1", 1) and not same(None, 0) and not same([], ())
    assert same({1: 2}, {1.0: 2})
    assert not same(1.0, float("inf")) and same(float("inf"), float("inf")) and not same(float("nan"), 1.0)
    assert not same(10 ** 400, 1.5) and not same(1.5, 10 ** 400) and not same(10 ** 400, 10 ** 400 + 1)
    assert same(20, 20.0) and same([20], [20.0])  # as the data set's own assert says
    assert same(5e-17, 0.0) and not same(1e-3, 0.0) and not same(5e-17, 0)
    assert same(0.1 + 0.2, 0.3) and not same(1.0, 1.1) and same(1.0, 1.05, 0.1)

def test_truth_is_compared_as_the_sets_own_asserts_compare_it():
    assert same(1, True) and same(True, 1) and same([0, 1], [False, True]) and same({1}, {True})
    assert not same(2, True) and not same("True", True) and not same(None, False) and not same([], False)

def test_a_program_may_give_1_where_the_assert_of_its_set_says_True():
    row = {"prompt": "Is n even?", "entry_point": "is_even", "atol": 0,
           "assertion": "assert is_even(2) == True\nassert is_even(3) == False",
           "canonical_solution": "def is_even(n): return n % 2 == 0"}
    problem = mbpp_problem(row)
    answers = ["def is_even(n): return 1 - n % 2", "def is_even(n): return 2 - n % 2",
               "def is_even(n): return str(n % 2 == 0)",
               "class E:\n def __eq__(self, other): return True\ndef is_even(n): return E()",
               "class I(int):\n def __eq__(self, other): return True\ndef is_even(n): return I(n)"]
    assert score_programs([problem] * 5, answers) == [1, -1, -1, -1, -1]

def test_a_self_test_that_fails_once_is_tried_again(tmp_path, monkeypatch):
    from tasks import sandbox
    trace = tmp_path / "the first child was here"
    fails_first = (f"import os\nif not os.path.exists({str(trace)!r}):\n"
                   f"    open({str(trace)!r}, 'w').close()\n    os._exit(1)\n")
    monkeypatch.setattr(sandbox, "CHILD", fails_first + CHILD)
    assert sandbox.fence.__wrapped__() and trace.exists()

def test_a_hundred_hostile_programs_escape_nowhere_and_leave_nothing_behind():
    assert "kernel" in fence() and len(ESCAPES) == 100
    with open(KEPT, "w"):
        pass
    os.chmod(KEPT, 0o666)
    rights = os.stat(KEPT).st_mode
    results = run_programs([Program(source, "f", [[1]]) for source in ESCAPES.values()], seconds=3)
    assert [name for name, result in zip(ESCAPES, results) if result == [2]] == []
    assert os.listdir(os.path.dirname(KEPT)) == [os.path.basename(KEPT)]
    assert os.stat(KEPT).st_mode == rights
    os.remove(KEPT)

def test_a_set_that_judges_by_its_own_check_cannot_be_cheated():
    problems = [Problem("p", check=JudgedCheck("f", SOLUTION, CHECK))] * (len(CHEATS) + 1)
    rewards = score_judged_programs(problems, [*CHEATS.values(), SOLUTION])
    assert [name for name, r in zip(CHEATS, rewards) if r > 0] == [] and rewards[-1] == 1

def test_a_check_that_draws_random_numbers_draws_the_same_for_judge_and_accused():
    check = """
import random
def check(candidate):
    for _ in range(20):
        x = random.random()
        assert candidate(x) == 2 * x
"""
    problems = [Problem("p", check=JudgedCheck("f", "def f(x): return 2 * x", check))] * 2
    assert score_judged_programs(problems, ["def f(x): return x + x", "def f(x): return x"]) == [1, -1]

def test_the_sandbox_notices_where_it_does_not_hold(monkeypatch):
    """Without filter and hook the bad program of the self-test does run."""
    from tasks import sandbox
    bare = CHILD.replace("    hook_in()\n", "").replace("switch_on(libc, kernel_filter())", "False")
    monkeypatch.setattr(sandbox, "CHILD", bare)
    with pytest.raises(ValueError, match="does not hold"):
        sandbox.fence.__wrapped__()
    monkeypatch.setattr(sandbox, "CHILD", "raise SystemExit(1)")
    with pytest.raises(ValueError, match="cannot run a harmless program"):
        sandbox.fence.__wrapped__()

def test_the_filter_alone_refuses_what_is_not_computing():
    """Without hook and hidden functions: the kernel's own answer."""
    bare = CHILD.replace("    hook_in()\n", "")
    assert bare != CHILD
    source = """
def tried(work):
    try:
        work()
        return "done"
    except OSError as error:
        return error.strerror
import os, sys
os = sys.modules["os"]
def f(x):
    return [tried(lambda: os.listdir("/")), tried(lambda: os.fork()), tried(lambda: open("/etc/passwd")),
            tried(lambda: os.kill(os.getppid(), 0)), tried(lambda: os.unlink("/nothing")), sum(range(x))]
"""
    job = {"source": source, "entry": "f", "calls": [[100000]], "modules": ["math"], "memory": 1 << 30,
           "output": 1 << 16, "seconds": 5, "parent": os.getpid()}
    done = subprocess.run([sys.executable, "-S", "-c", bare], input=json.dumps(job).encode(),
                          capture_output=True)
    [line] = json.loads(done.stdout)["results"]
    assert ast.literal_eval(line) == ["Operation not permitted"] * 5 + [4999950000]

@pytest.mark.parametrize("wait", [0, 1])
def test_children_die_with_their_parent(wait):
    """With one that dies while they are starting, and with one that dies later."""
    script = ("import sys; sys.path.insert(0, sys.argv[1])\n"
              "from tasks.sandbox import Program, run_programs\n"
              "run_programs([Program('import time\\ndef f(x): time.sleep(60)', 'f', [[1]])], 50)")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parent = subprocess.Popen([sys.executable, "-c", script, root])
    while not children_of(parent.pid) and parent.poll() is None:
        time.sleep(0.01)
    [child] = children_of(parent.pid)
    time.sleep(wait)
    parent.kill()
    parent.wait()
    for _ in range(600):  # it may still be starting on a busy machine
        if state_of(child) in ("", "Z"):  # dead; nobody may have read its exit code yet
            break
        time.sleep(0.05)
    assert state_of(child) in ("", "Z")

def test_the_same_set_has_the_same_order_in_each_child():
    words = Program("def f(x): return list(set(x))", "f", [[["a", "b", "c", "d", "e"]]])
    assert len({str(result) for result in run_programs([words] * 6, seconds=5)}) == 1

def test_a_forged_result_costs_the_parent_little():
    collisions = "{" + ",".join(f"{i * (2 ** 61 - 1)}:0" for i in range(3000)) + "}"
    forged = Program(f"import sys\ndef f(x):\n return {collisions}", "f", [[1]])
    zeros = Program("def f(x): return [0] * 500000", "f", [[1]] * 8)
    started = time.time()
    assert run_programs([forged, zeros], seconds=5)[1] is None  # over the limit on what may be written
    assert time.time() - started < 12
