"""A test that starts a process or trains long fails without its marker, so ``make test-fast`` stays fast."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
CONFTEST = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")
TESTS = """
import multiprocessing, os, signal, subprocess, sys
import pytest, torch

def train(steps):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight])
    for _ in range(steps):
        weight.sum().backward()
        optimizer.step()

def test_wrong_subprocess(): subprocess.run([sys.executable, "-c", ""])
def test_wrong_system(): os.system("true")
def test_wrong_posix_spawn(): os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
def test_wrong_multiprocessing():
    child = multiprocessing.get_context("spawn").Process(target=print)
    child.start()
    child.join()
def test_wrong_kill():
    signal.signal(signal.SIGUSR1, lambda *_: None)
    os.kill(os.getpid(), signal.SIGUSR1)
@pytest.fixture
def started(): subprocess.run([sys.executable, "-c", ""])
def test_wrong_fixture(started): pass
def test_wrong_steps(): train(50)

@pytest.mark.process
def test_right_subprocess(): subprocess.run([sys.executable, "-c", ""])
def test_right_question_whether_a_process_lives(): os.kill(os.getpid(), 0)
@pytest.mark.slow
def test_right_steps(): train(50)
def test_right_few_steps(): train(49)
"""


@pytest.mark.process
def test_marks_say_what_a_test_does(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers =\n    process: starts one\n    slow: trains long\n")
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA")
    lines = result.stdout.str().splitlines()
    wrong = {line.split("::")[1].split(" ")[0] for line in lines if line.startswith("FAILED")}
    right = {line.split("::")[1].split(" ")[0] for line in lines if line.startswith("PASSED")}
    assert len(wrong) == TESTS.count("def test_wrong_")
    assert len(right) == TESTS.count("def test_right_")
    assert all(name.startswith("test_wrong_") for name in wrong)
    assert result.stdout.str().count("mark it with pytest.mark.slow") >= 1
