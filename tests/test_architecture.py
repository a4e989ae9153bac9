"""The shape of the code: import direction, sizes, names, and files that are found by their name.

Each rule is a function from a source tree to the list of its breaches. It is tried on a made-up
tree that breaks it before it is believed of ours.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "fl_research"

# From the bottom to the top; a module imports from its own layer and from those below. Modules at
# the package's root are named one by one: where a new one belongs is a decision, made here.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "argument_checks", "registry", "randomness", "metric_table"),
    ("run.durable_files", "run.record_files"),
    ("runtime",),
    ("run.server_state", "run.checkpoints", "run.run_directory", "run.cohort_seed"),
    ("data",),
    ("stackable", "objectives"),
    ("models",),
    ("learning",),
    ("privacy",),
    ("audit",),
    ("training_config", "training_loop", "task", "client_evaluator", "analysis"),
    ("analyses",),
    ("run",),
    ("reports",),
    ("experiment_config", "baselines"),
    ("experiment_parts",),
    ("run_facts",),
    ("experiment",),
)
# Narrower than the layers: (importer, what it must not import, what it may all the same).
FORBIDDEN: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("privacy", ("data", "models", "runtime"), ("data.client_sampling",)),
    ("reports", ("models", "learning", "runtime", "training_loop"), ()),
    ("reports", ("tensorflow", "tensorflow_federated", "tensorflow_privacy", "tree"), ()),
    ("training_loop", ("task", "models", "privacy.mechanisms"), ()),
)
# Everything else is importable without TensorFlow: `--help`, verify_report, plan_privacy.
WITH_TENSORFLOW = (
    "stackable",
    *("models", "learning", "privacy.mechanisms", "privacy.keyed_noise", "privacy.client_record"),
    *(
        "privacy.private_metrics_query",
        "privacy.clipped_sum",
        "privacy.noise_streams",
        "privacy.local_noise",
        "privacy.restart_clip",
        "audit.canary_query",
        "runtime.onednn_kernels",
    ),
    *("runtime.worker_context", "runtime.worker_executors", "runtime.worker_stub"),
    *("runtime.spread_context", "runtime.split_computation", "runtime.default_context"),
    *("runtime.in_process_context", "runtime.computation_plan", "runtime.loaded_graph"),
    *("runtime.value_conversion", "run.server_state", "run.final_model", "run.tensorboard"),
    *("training_loop", "client_evaluator", "analysis", "analyses", "baselines"),
    *("objectives.client_rows", "objectives.binary_rows", "objectives.ordinal_rows"),
    *("experiment", "experiment_parts", "run_facts"),
)
WITHOUT_TENSORFLOW_ALL_THE_SAME = (
    "learning.client_spread",
    "models.registry",
    "privacy.mechanisms",
)
VAGUE_NAMES = ("utils", "util", "helpers", "helper", "common", "misc")
SOURCE_FOLDERS = (PACKAGE, "experiments", "tests", "benchmarks")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def _is_in(module: str, group: str) -> bool:
    """Returns whether a module is a group or lies in it, such as `data.schema` in `data`."""
    return module == group or module.startswith(f"{group}.")


def _modules(root: Path) -> dict[str, Path]:
    """Returns the package's modules by their name without the package's own."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        modules[".".join(parts).removesuffix("__init__").removesuffix(".")] = path
    return modules


def _imports(module: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yields what a module imports anywhere in it; the package's own without its name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = [PACKAGE, *module.split(".")]
                if path.name != "__init__.py":
                    package.pop()
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, base]).removesuffix(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            inside = name.removeprefix(f"{PACKAGE}.")
            if inside == name:
                yield name
            else:
                yield inside if inside in known else inside.rpartition(".")[0] or inside


def _layer(module: str) -> int | None:
    """Returns a module's layer, counted from the bottom."""
    for number, groups in enumerate(LAYERS):
        if any(_is_in(module, group) for group in groups):
            return number
    return None


def import_breaches(root: Path) -> list[str]:
    """Returns the imports that go up, sideways where that is forbidden, or out of the package."""
    known = _modules(root)
    breaches = []
    for module, path in known.items():
        layer = _layer(module)
        if module and layer is None:
            breaches.append(f"{module}: say in LAYERS where it belongs")
            continue
        for target in _imports(module, path, known):
            target_layer = _layer(target) if target in known else None
            if layer is not None and target_layer is not None and target_layer > layer:
                breaches.append(f"{module} imports {target}, which is above it")
            if target.partition(".")[0] in SOURCE_FOLDERS:
                breaches.append(f"{module} imports {target}, which is above the library")
            for importer, forbidden, allowed in FORBIDDEN:
                if (
                    _is_in(module, importer)
                    and any(_is_in(target, group) for group in forbidden)
                    and target not in allowed
                ):
                    breaches.append(f"{module} imports {target}, which {importer} must not know")
    return breaches


def _sources(root: Path) -> list[Path]:
    """Returns every Python file of the repository's own."""
    return [p for folder in SOURCE_FOLDERS for p in sorted((root / folder).rglob("*.py"))]


def size_breaches(root: Path) -> list[str]:
    """Returns files and (outside the tests) functions that are too long, docstrings not counted."""
    breaches = []
    for path in _sources(root):
        name = str(path.relative_to(root))
        text = path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > MAX_FILE_LINES:
            breaches.append(f"{name} has {lines} lines")
        if name.startswith("tests"):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first = node.body[0]
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                first = node.body[1]
            lines = node.end_lineno - first.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                breaches.append(f"{name}: {node.name} has {lines} lines")
    return breaches


def name_breaches(root: Path) -> list[str]:
    """Returns modules and folders whose name says nothing."""
    return [
        str(path.relative_to(root))
        for path in _sources(root)
        if {part.removesuffix(".py") for part in path.relative_to(root).parts} & {*VAGUE_NAMES}
    ]


def tensorflow_breaches(root: Path) -> list[str]:
    """Returns the modules, of those that must do without, whose import brings TensorFlow in."""
    modules = [
        f"{PACKAGE}.{module}"
        for module in _modules(root)
        if module
        and (
            module in WITHOUT_TENSORFLOW_ALL_THE_SAME
            or not any(_is_in(module, group) for group in WITH_TENSORFLOW)
        )
    ]
    program = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    for name in [n for n in sys.modules if n.partition(".")[0].startswith("tensorflow")]:
        del sys.modules[name]
        if "." not in name:
            print(module, "brings", name)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, *modules],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()


RULES = [import_breaches, size_breaches, name_breaches, tensorflow_breaches]


@pytest.mark.parametrize("rule", RULES)
def test_our_code_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    assert rule(REPOSITORY) == []


@pytest.mark.parametrize(
    ("rule", "path", "text", "words"),
    [
        (import_breaches, "data/a.py", "import fl_research.models.mlp", "above it"),
        (import_breaches, "data/a.py", "from fl_research.models import mlp", "above it"),
        (import_breaches, "data/a.py", "from ..models.mlp import build", "above it"),
        (import_breaches, "learning/a.py", "def f():\n  from fl_research import privacy", "above"),
        (import_breaches, "privacy/a.py", "from fl_research.data import blocks", "must not know"),
        (import_breaches, "reports/a.py", "import tensorflow as tf", "must not know"),
        (import_breaches, "reports/a.py", "from fl_research import training_loop", "must not"),
        (import_breaches, "errors.py", "from experiments import churn", "above the library"),
        (import_breaches, "novelty.py", "", "where it belongs"),
        (size_breaches, "data/a.py", "a = 1\n" * 401, "has 401 lines"),
        (size_breaches, "data/a.py", "def f():\n" + "  a = 1\n" * 61, "f has 61 lines"),
        (name_breaches, "data/helpers.py", "", "helpers.py"),
        (name_breaches, "data/a_common/misc.py", "", "misc"),
        (tensorflow_breaches, "reports/a.py", "import tensorflow.compat", "brings tensorflow"),
        (
            tensorflow_breaches,
            "learning/client_spread.py",
            "import tensorflow",
            "brings tensorflow",
        ),
    ],
)
def test_the_rule_finds_a_breach(
    tmp_path: Path, rule: Callable[[Path], list[str]], path: str, text: str, words: str
) -> None:
    """Breaks each rule in a made-up tree, with a TensorFlow that is quick to import."""
    allowed = {
        "privacy/fine.py": "from fl_research.data.client_sampling import Sampling",
        "data/client_sampling.py": "class Sampling: pass",
        "data/blocks.py": "",
        "models/mlp.py": "import tensorflow\nbuild = 1",
        "training_loop.py": '"""Long.' + "\n" * 200 + '"""',
        "errors.py": "",
    }
    for name, content in {**allowed, path: text}.items():
        for root, file in ((tmp_path / "ours", name), (tmp_path / "fine", name)):
            if root.name == "fine" and name not in allowed:
                continue
            target = root / PACKAGE / file
            target.parent.mkdir(parents=True, exist_ok=True)
            (target.parent / "__init__.py").touch()
            target.write_text(allowed[name] if root.name == "fine" else content)
    for root in (tmp_path / "ours", tmp_path / "fine"):
        (root / "tensorflow").mkdir()
        (root / "tensorflow" / "__init__.py").touch()
        (root / "tensorflow" / "compat.py").touch()
    assert rule(tmp_path / "fine") == []
    breaches = rule(tmp_path / "ours")
    assert len(breaches) == 1
    assert words in breaches[0]


@pytest.mark.parametrize("folder", ["models", "privacy/mechanisms"])
def test_a_file_put_into_the_folder_is_found_by_its_name(tmp_path: Path, folder: str) -> None:
    """Adds a file to a copy of the package and asks the copy's registry."""
    shutil.copytree(REPOSITORY / PACKAGE, tmp_path / PACKAGE)
    text = "class Config: pass\nmark = 7\n"
    (tmp_path / PACKAGE / folder / "brand_new.py").write_text(text)
    program = f"""
from {PACKAGE}.{folder.replace("/", ".")} import registry
assert registry.__file__.startswith({str(tmp_path)!r}), registry.__file__
print(*registry.names(), registry.load("brand_new").mark)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    files = {path.stem for path in (REPOSITORY / PACKAGE / folder).glob("*.py")}
    assert set(result.stdout.split()) == files - {"__init__", "registry"} | {"brand_new", "7"}
