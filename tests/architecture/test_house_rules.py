"""Rules a linter does not know: loading is strict and safe, files and functions stay small, nothing names a machine."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES = {"src": 300, "benchmarks": 300, "tests": 400}
FUNCTION_LINES = 80

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "functions"}
UNPICKLING = {"pickle.load", "pickle.loads", "dill.load", "dill.loads", "joblib.load", "cloudpickle.load"}
UNPICKLING |= {"pandas.read_pickle", "pd.read_pickle"}
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|work|opt|Users|mnt)/[\w.-]+|[A-Z]:\\\\?Users")
REGISTRY = re.compile(
    r"files\.python" + r"hosted|/sim" + r"ple/|\.whl\b.*https?:|https?:\S*\.whl\b|--(?:extra-)?index-url"
)


def python_files() -> dict[str, Path]:
    """Name relative to the repository -> file, for all Python of the project."""
    paths = (path for top in FILE_LINES for path in sorted((ROOT / top).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): path for path in paths}


TEXTS = {name: path.read_text(encoding="utf-8") for name, path in python_files().items()}


def text_files() -> Iterator[Path]:
    """Every file a person wrote: what lies in the root and in the folders of the project."""
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.name != ".git")
    for top in ("src", "tests", "benchmarks", "docs", "recipes", "examples", ".ci"):
        for path in sorted((ROOT / top).rglob("*")):
            generated = "__pycache__" in path.parts or any(part.endswith(".egg-info") for part in path.parts)
            if path.is_file() and not generated:
                yield path


def names_a_place(line: str) -> bool:
    """A line holds an absolute path of somebody's machine, or the address of a package registry."""
    return bool(MACHINE_PATH.search(line) or REGISTRY.search(line))


def unsafe_calls(text: str) -> list[str]:
    """Calls that run or unpickle what strangers wrote, or load weights loosely, as 'line: call'."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        unsafe = (
            name in UNPICKLING
            or keywords.get("trust_remote_code", "False") != "False"
            or (keywords.get("strict") == "False" and name != "zip")
            or keywords.get("allow_pickle", "False") != "False"
            or keywords.get("weights_only", "True") != "True"
            or (name == "torch.load" and "weights_only" not in keywords)
        )
        if unsafe:
            found.append(f"{node.lineno}: {ast.unparse(node)[:80]}")
    return found


def test_loading_is_strict_and_safe() -> None:
    ours = {name: text for name, text in TEXTS.items() if not name.startswith("tests/")}
    found = [f"{name}:{call}" for name, text in ours.items() for call in unsafe_calls(text)]
    assert len(ours) > 100
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "call",
    [
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "model.load_state_dict(state, strict=False)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.loads(data)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_an_unsafe_call_is_seen(call: str) -> None:
    assert len(unsafe_calls(call)) == 1


@pytest.mark.parametrize(
    "call",
    [
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "torch.load(path, weights_only=True)",
        "zip(a, b, strict=False)",
        "np.load(path)",
    ],
)
def test_a_safe_call_is_left_alone(call: str) -> None:
    assert not unsafe_calls(call)


def test_files_stay_small() -> None:
    lines = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    long = {name: count for name, count in lines.items() if count > FILE_LINES[name.split("/")[0]]}
    assert not long, f"do these still hold one idea each? {long}"


def long_functions(text: str) -> dict[str, int]:
    """Functions of a source text over the limit, with their lines."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    return {name: count for name, count in lines.items() if count > FUNCTION_LINES}


def test_functions_fit_a_screen() -> None:
    long = {name: found for name, text in TEXTS.items() if (found := long_functions(text))}
    assert not long, f"functions over {FUNCTION_LINES} lines: {long}"


def test_a_long_function_is_seen() -> None:
    assert long_functions("def f():\n" + "    pass\n" * FUNCTION_LINES) == {"f": FUNCTION_LINES + 1}
    assert not long_functions("def f():\n" + "    pass\n" * (FUNCTION_LINES - 1))


def test_files_are_named_after_their_idea() -> None:
    vague = [name for name, path in python_files().items() if path.stem in VAGUE_NAMES]
    assert not vague, f"name these after the one idea they hold: {vague}"


def test_nothing_names_a_machine_or_a_registry() -> None:
    found = []
    for path in text_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if names_a_place(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    own = f"tests/architecture/{Path(__file__).name}:"
    found = [line for line in found if not line.startswith(own)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    ["data = '/home/me/data'", "-e /home/me/checkout", "--index-url x", "a @ https://x.org/a-1-py3-none-any.whl"],
)
def test_a_machine_or_a_registry_is_seen(line: str) -> None:
    assert names_a_place(line)


@pytest.mark.parametrize("line", ["make this at home/or/work", "https://host.org/work/x", "a.b/root/x", "../shared"])
def test_other_text_is_left_alone(line: str) -> None:
    assert not names_a_place(line)
