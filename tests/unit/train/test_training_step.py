"""The training step is one function that a reader sees whole, in the order of the field, without private parts."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TRAIN = ROOT / "src" / "phisight" / "train"
LOOP = TRAIN / "loop.py"
MOST_LINES = 45
ORDER = (
    "loader.steps",
    "model.train",
    "model",
    "loss.compute",
    "accelerator.backward",
    "accelerator.clip_grad_norm_",
    "optimizer.step",
    "scheduler.get_last_lr",
    "scheduler.step",
    "optimizer.zero_grad",
    "run.log",
    "run.evaluate",
    "run.checkpoint",
)


def function(name: str, text: str) -> ast.FunctionDef:
    (found,) = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name)
    return found


def calls_in_order(node: ast.AST) -> list[str]:
    """Dotted names of the calls in a function's own body, as they stand in the source."""
    found = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    found.sort(key=lambda one: (one.end_lineno or 0, one.end_col_offset or 0))
    return [ast.unparse(one.func) for one in found]


def missing_in_order(text: str) -> list[str]:
    """Calls of ORDER that do not come after the ones before them."""
    calls = calls_in_order(function("training_loop", text))
    rest, missing = iter(calls), []
    for wanted in ORDER:
        if not any(call == wanted or call == f"run.{wanted}" for call in rest):
            missing.append(wanted)
            rest = iter(calls)
    return missing


def private_uses(text: str) -> list[str]:
    """Attributes with a leading underscore of anything but ``self`` and ``super()``, and subclasses of a Trainer."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
            found += [ast.unparse(node)] if ast.unparse(node.value) not in ("self", "cls", "super()") else []
        if isinstance(node, ast.ImportFrom) and any(
            re.match("_[a-z]", part) for part in (node.module or "").split(".")
        ):
            found.append(f"from {node.module}")
        if isinstance(node, ast.ClassDef) and any("Trainer" in ast.unparse(base) for base in node.bases):
            found.append(f"class {node.name}")
    return found


def test_the_step_stands_in_one_function_in_this_order() -> None:
    text = LOOP.read_text(encoding="utf-8")
    node = function("training_loop", text)
    assert (node.end_lineno or 0) - node.lineno + 1 <= MOST_LINES
    assert missing_in_order(text) == []


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("optimizer.step()", "optimizer.step"),
        ("optimizer.zero_grad()", "optimizer.zero_grad"),
        ("scheduler.step()", "scheduler.step"),
        ("accelerator.backward(value)", "accelerator.backward"),
    ],
)
def test_a_call_that_is_taken_out_is_missed(line: str, missing: str) -> None:
    text = LOOP.read_text(encoding="utf-8")
    assert text.count(line) == 1
    assert missing in missing_in_order(text.replace(line, "pass"))


def test_a_schedule_before_the_optimizer_is_seen() -> None:
    text = LOOP.read_text(encoding="utf-8")
    turned = text.replace("optimizer.step()", "@").replace("scheduler.step()", "optimizer.step()")
    turned = turned.replace("@", "scheduler.step()")
    assert missing_in_order(turned)


WITHOUT_ANOTHER_NAME = {
    "config._attn_implementation": "the only name that transformers' configurations have for the back end in use",
    "base.config._attn_implementation": "the same",
    "torch.ops.mkldnn._linear_pointwise": "the operator of oneDNN that torch.compile itself calls; read if it is there",
    "torch.ops.mkldnn._reorder_linear_weight": "what torch.compile lays a weight out with for that operator; the same",
    "one._version": "the only count of its changes that a tensor keeps; autograd itself goes by it",
    "from torch.distributed._functional_collectives": "pending collectives have no other name to be waited for by",
}
"""Private names that have no public one, each with its reason."""


def test_no_private_part_of_a_library_is_used() -> None:
    uses = {use for path in TRAIN.rglob("*.py") for use in private_uses(path.read_text(encoding="utf-8"))}
    assert uses - set(WITHOUT_ANOTHER_NAME) == set()
    assert set(WITHOUT_ANOTHER_NAME) - uses == set(), "take these off the list"


def test_no_trainer_is_subclassed() -> None:
    found = {path.name: private_uses(path.read_text(encoding="utf-8")) for path in TRAIN.rglob("*.py")}
    assert [name for name, uses in found.items() if any(use.startswith("class ") for use in uses)] == []


def test_a_private_use_is_seen() -> None:
    assert private_uses("trainer._save(self._folder)") == ["trainer._save"]
    assert private_uses("from torch._dynamo import reset") == ["from torch._dynamo"]
    assert private_uses("class Mine(transformers.Trainer): pass") == ["class Mine"]


def test_the_documents_show_the_step_as_it_is() -> None:
    text = LOOP.read_text(encoding="utf-8")
    loop = function("training_loop", text).body[-1]
    assert isinstance(loop, ast.For)
    lines = text.splitlines()[loop.lineno - 1 : loop.end_lineno]
    block = "```python\n" + textwrap.dedent("\n".join(lines)) + "\n```"
    assert block in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
