"""``import phisight`` is enough for the Auto classes, before or after transformers, and loads neither itself."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process


def run(code: str) -> str:
    """What a fresh process prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


KNOWN = """
import sys
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

config = AutoConfig.for_model("phi3_v")
print(type(config).__module__, [f for f in sys.meta_path if "phisight" in type(f).__module__])
"""


@pytest.mark.parametrize(
    "order",
    [
        "import phisight",
        "import transformers, phisight",
        "import phisight, phisight, transformers",
        "import phisight.core.geometry, importlib.util; assert importlib.util.find_spec('transformers')",
    ],
)
def test_the_auto_classes_know_the_model(order: str) -> None:
    assert run(order + KNOWN) == "phisight.model.configuration []"


def test_importing_phisight_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, phisight; print(sorted({'torch', 'transformers', 'numpy', 'PIL'} & set(sys.modules)))"
    assert run(code) == "[]"


def test_an_import_that_fails_is_reported_as_usual() -> None:
    code = (
        "import sys, phisight\nsys.modules['transformers'] = None\n"
        "try:\n    import transformers\nexcept ModuleNotFoundError as error: print(error.name)"
    )
    assert run(code) == "transformers"
