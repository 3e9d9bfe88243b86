"""The house rules that a reader relies on: who imports whom, and sizes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "filo").rglob("*.py"))

# what a module may import of ours beside its own package, and beside the modules that stand below
# everything; a module that is not listed stands on level 0 and may import nothing
ALLOWED = {
    "filo.clip": {"filo.precision"},
    "filo.prompts": {"filo.clip"},
    "filo.datasets": {"filo.transforms", "filo.meta", "filo.views"},
    "filo.methods": {
        "filo.clip",
        "filo.prompts",
        "filo.mmci",
        "filo.adapter",
        "filo.losses",
        "filo.fields",
        "filo.fusion",
        "filo.grounding.boxes",
        "filo.method",
        "filo.smoothing",
        "filo.text_encoder",
        "filo.text_models",
        "filo.views",
    },
    "filo.fusion": {"filo.mmci"},
    "filo.views": {"filo.transforms"},
    "filo.few_shot": {"filo.inputs", "filo.method", "filo.references", "filo.transforms", "filo.views"},
    "filo.seeds": {"filo.metrics", "filo.prompts", "filo.run_folder"},
    "filo.trials": {
        "filo.calibrate",
        "filo.class_result",
        "filo.decisions",
        "filo.evaluate",
        "filo.grounding",
        "filo.logs",
        "filo.meta",
        "filo.outcomes",
        "filo.recorder",
        "filo.report",
        "filo.results",
        "filo.resume",
        "filo.run_folder",
        "filo.subject",
    },
    "filo.untrained": {
        "filo.all_methods",
        "filo.checkpoint",
        "filo.clip",
        "filo.ensembles",
        "filo.options",
        "filo.prompts",
    },
    "filo.subject": {
        "filo.all_methods",
        "filo.checkpoint",
        "filo.clip",
        "filo.decisions",
        "filo.few_shot",
        "filo.meta",
        "filo.method",
        "filo.methods",
        "filo.options",
        "filo.prompts",
        "filo.trained_clip",
        "filo.views",
        "filo.untrained",
    },
    "filo.method": {"filo.clip", "filo.grounding.boxes", "filo.prompts", "filo.views"},
    "filo.all_methods": {"filo.clip", "filo.method", "filo.methods", "filo.prompts"},
    "filo.method_options": {"filo.all_methods", "filo.methods", "filo.options"},
    "filo.text_encoder": {"filo.clip", "filo.prompts"},
    "filo.class_result": {"filo.metrics"},
    "filo.evaluate": {
        "filo.class_result",
        "filo.method",
        "filo.datasets",
        "filo.meta",
        "filo.metrics",
        "filo.outcomes",
        "filo.processes",
        "filo.prompts",
        "filo.curves",
        "filo.grounding.boxes",
        "filo.views",
    },
    "filo.records": {"filo.prompts", "filo.grounding.boxes", "filo.run_folder"},
    "filo.recorder": {
        "filo.evaluate",
        "filo.records",
        "filo.prompts",
        "filo.transforms",
        "filo.meta",
        "filo.grounding.boxes",
    },
    "filo.stages": {"filo.clip", "filo.datasets", "filo.method", "filo.methods"},
    "filo.run_folder": {"filo.on_disk"},
    "filo.run_lock": {"filo.run_folder"},
    "filo.job": {"filo.processes"},
    "filo.resume": {"filo.processes", "filo.run_folder", "filo.state"},
    "filo.progress": {
        "filo.method",
        "filo.processes",
        "filo.resume",
        "filo.run_folder",
        "filo.state",
    },
    "filo.outcomes": {"filo.class_result", "filo.meta", "filo.records", "filo.resume", "filo.run_folder"},
    "filo.prediction_state": {
        "filo.output",
        "filo.records",
        "filo.resume",
        "filo.run_folder",
        "filo.worklist",
    },
    "filo.results": {
        "filo.all_methods",
        "filo.checkpoint",
        "filo.class_result",
        "filo.logs",
        "filo.meta",
        "filo.metrics",
        "filo.options",
    },
    "filo.curves": {"filo.metrics"},
    "filo.charts": {"filo.markup"},
    "filo.report": {  # a command
        "filo.charts",
        "filo.curves",
        "filo.markup",
        "filo.metrics",
        "filo.options",
        "filo.plots",
        "filo.prompts",
        "filo.records",
        "filo.run_folder",
        "filo.summary",
        "filo.thresholds",
    },
    "filo.naming": {"filo.all_methods", "filo.prompts"},
    "filo.pictures": {"filo.transforms"},
    "filo.result": {"filo.pictures", "filo.plots", "filo.records"},
    "filo.decisions": {"filo.all_methods", "filo.plots", "filo.prompts"},
    "filo.inputs": {"filo.image_list", "filo.run_folder"},
    "filo.worklist": {"filo.inputs", "filo.on_disk", "filo.shards"},
    "filo.summary": {"filo.records"},
    "filo.output": {"filo.image_list", "filo.records", "filo.result", "filo.run_folder", "filo.worklist"},
    "filo.look": {
        "filo.output",
        "filo.pictures",
        "filo.prediction_state",
        "filo.predictor",
        "filo.records",
        "filo.result",
        "filo.worklist",
    },
    "filo.predictor": {
        "filo.all_methods",
        "filo.checkpoint",
        "filo.clip",
        "filo.decisions",
        "filo.evaluate",
        "filo.few_shot",
        "filo.grounding",
        "filo.localise",
        "filo.logs",
        "filo.methods",
        "filo.naming",
        "filo.pictures",
        "filo.plots",
        "filo.precision",
        "filo.prompts",
        "filo.records",
        "filo.result",
        "filo.trained_clip",
        "filo.transforms",
        "filo.views",
    },
    "filo.prediction": {"filo.all_methods", "filo.logs", "filo.predictor", "filo.processes", "filo.summary"},
    "filo.predict": {  # a command
        "filo.few_shot",
        "filo.inputs",
        "filo.job",
        "filo.localise",
        "filo.logs",
        "filo.look",
        "filo.merge",
        "filo.options",
        "filo.output",
        "filo.plots",
        "filo.prediction",
        "filo.prediction_state",
        "filo.predictor",
        "filo.processes",
        "filo.records",
        "filo.report",
        "filo.resume",
        "filo.run_folder",
        "filo.run_lock",
        "filo.shards",
        "filo.subject",
        "filo.summary",
        "filo.untrained",
        "filo.worklist",
    },
    "filo.merge": {  # a command
        "filo.image_list",
        "filo.options",
        "filo.output",
        "filo.records",
        "filo.report",
        "filo.resume",
        "filo.run_folder",
        "filo.run_lock",
        "filo.shards",
        "filo.summary",
    },
    "filo.calibrate": {  # a command
        "filo.decisions",
        "filo.options",
        "filo.plots",
        "filo.records",
        "filo.thresholds",
    },
    "filo.localise": {"filo.grounding", "filo.processes", "filo.prompts", "filo.transforms", "filo.meta"},
    "filo.bench": {  # a command
        "filo.stages",
        "filo.clip",
        "filo.ensembles",
        "filo.logs",
        "filo.losses",
        "filo.methods",
        "filo.metrics",
        "filo.mmci",
        "filo.options",
        "filo.precision",
        "filo.prompts",
        "filo.text_models",
    },
    "filo.demo": {  # commands
        "filo.clip",
        "filo.datasets",
        "filo.evaluate",
        "filo.grounding.boxes",
        "filo.logs",
        "filo.meta",
        "filo.method",
        "filo.methods",
        "filo.metrics",
        "filo.options",
        "filo.prompts",
        "filo.synthetic",
        "filo.text_encoder",
    },
    "filo.compare": {"filo.options", "filo.metrics"},  # a command
    "filo.overview": {"filo.compare", "filo.metrics", "filo.options", "filo.report"},  # a command
    "filo.grounding.annotations": {  # a command, which nothing of the package imports
        "filo.grounding",
        "filo.options",
        "filo.prompts",
        "filo.transforms",
        "filo.meta",
    },
    "filo.published": {"filo.clip", "filo.methods", "filo.mmci"},
    "filo.published_anomalyclip": {"filo.methods"},
    "filo.checkpoint": {
        "filo.all_methods",
        "filo.clip",
        "filo.grounding.weights",
        "filo.published",
        "filo.published_anomalyclip",
        "filo.options",
        "filo.convert",  # these two are its commands
        "filo.identify",
    },
    "filo.trained_clip": {"filo.checkpoint", "filo.published", "filo.clip"},
    "filo.convert": {"filo.checkpoint", "filo.trained_clip", "filo.published", "filo.clip"},
    "filo.identify": {
        "filo.all_methods",
        "filo.checkpoint",
        "filo.published",
        "filo.published_anomalyclip",
        "filo.clip",
        "filo.grounding.weights",
    },
    "filo.features": {"filo.clip", "filo.datasets", "filo.meta", "filo.method", "filo.processes"},
    "filo.options": {"filo.prompts", "filo.grounding.boxes", "filo.precision", "filo.transforms"},
}
BELOW_EVERYTHING = {"filo.errors", "filo.files", "filo.interrupts", "filo.kinds", "filo.weights"}
PACKAGES = (
    "filo.bench",
    "filo.clip",
    "filo.demo",
    "filo.grounding",
    "filo.methods",
    "filo.report",
    "filo.synthetic",
)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "filo":
            yield from (f"filo.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def unit(name):
    """The package a module belongs to, or itself."""
    if name in ALLOWED:
        return name
    return next((p for p in PACKAGES if name == p or name.startswith(p + ".")), name)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_stay_within_the_house(path):
    own = unit(module_name(path))
    allowed = ALLOWED.get(own, set()) | BELOW_EVERYTHING | {own}
    found = {name for name in imported(path) if name.split(".")[0] in ("filo", "data", "prompts")}
    assert {name for name in found if name not in allowed and unit(name) not in allowed} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "filo" / "methods").glob("*.py")), ids=lambda p: p.name)
def test_a_method_sees_no_arguments_files_or_other_methods(path):
    found = set(imported(path))
    assert not found & {"argparse", "pathlib", "json", "os"}
    own = path.stem.removesuffix("_config")
    others = {name for name in found if name.startswith("filo.methods.")} - {"filo.methods.memory"}
    assert all(name.removeprefix("filo.methods.").removesuffix("_config") == own for name in others)


@pytest.mark.parametrize("name", ["train.py", "test.py"])
def test_the_two_programs_fit_on_a_few_screens_and_nobody_imports_them(name):
    assert len((ROOT / name).read_text().splitlines()) < 200
    everything = [*SOURCES, *(ROOT / "data").glob("*.py"), *(ROOT / "prompts").glob("*.py")]
    assert not [path for path in everything if name.removesuffix(".py") in set(imported(path))]


def test_files_and_functions_keep_their_size():
    paths = [*SOURCES, *(ROOT / "data").glob("*.py"), *(ROOT / "prompts").glob("*.py"), *ROOT.glob("*.py")]
    files = {path.name: len(path.read_text().splitlines()) for path in paths}
    assert {name: n for name, n in files.items() if n > 300} == {}
    functions = {
        f"{path.name}:{node.name}": node.end_lineno - node.lineno + 1
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name != "parse_args"
    }
    assert {name: n for name, n in functions.items() if n > 60} == {}


def test_no_environment_variables_are_settings():
    for path in (*SOURCES, ROOT / "train.py", ROOT / "test.py"):
        assert "os.environ" not in path.read_text(), path
