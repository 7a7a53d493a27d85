"""What importing the package arranges, and which part of the project may know which."""

import ast
import functools
import os
import pathlib
import re
import subprocess
import sys

import pytest

import causerec_tf
import export

ROOT = pathlib.Path(__file__).parents[1]


def python(code, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_keras_2_is_arranged_with_no_action_of_the_user():
    done = python("import causerec_tf, tensorflow as tf; print(tf.keras.Model.__module__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf_keras.")


@pytest.fixture(name="serving", scope="module")
def fixture_serving():
    """A process that loads what serves, says what else came with it, and then wants the library, too late."""
    return python(
        "import sys, export.service.service, export.batch.answering, export\n"
        "export.Retriever\n"
        "needless = {'causerec_tf', 'keras', 'tf_keras'} & set(sys.modules)\n"
        "print(needless, 'export.publishing' in sys.modules)\n"
        "import tensorflow as tf; tf.keras.Model; import causerec_tf"
    )


def test_keras_3_in_the_process_is_refused(serving):
    done = serving
    assert done.returncode != 0
    assert "ImportError: causerec_tf needs Keras 2, but tf.keras is already Keras 3" in done.stderr
    assert "Import causerec_tf before TensorFlow" in done.stderr


@pytest.mark.parametrize("value", ["0", "False"])
def test_an_environment_that_asks_for_keras_3_is_refused(value):
    done = python("import causerec_tf", TF_USE_LEGACY_KERAS=value)
    assert done.returncode != 0
    assert f"TF_USE_LEGACY_KERAS={value!r} in the environment asks for Keras 3. Unset it" in done.stderr


# Parts that share nothing but tensors and arrays.
INDEPENDENT = (
    "data",
    "features",
    "towers",
    "counterfactual",
    "losses",
    "metrics",
    "retrieval",
    "checkpoints",
)
# What all may know: it knows nothing of interactions, models or runs, and waits for no TensorFlow.
SHARED = ("errors", "files", "schema")
# Each asks one question of a trained model; what they share is in evaluation, metrics and comparison.
STUDIES = ("under_disturbance", "noise_detection", "indispensable_items", "cases")
SERVING = ("retriever", "index.item_index", "towers.remote", "service.app")
# The floors of export/, from the ground up: each may know those below it. Two side by side do not know each
# other.
FLOORS = (
    ("store",),
    ("filters",),
    ("index", "tower_columns"),
    ("query",),
    ("item_rules", "towers"),
    ("own_items", "publishing"),
    ("retriever",),
    ("lists",),
    ("service", "batch"),
)
# The floors of causerec_tf/data/, by the same rule. A module beside the folders that no floor names is of the
# opened dataset.
OPENED = "the opened dataset"
DATA_FLOORS = (
    ("ragged",),
    ("logs",),
    ("splits", "public"),
    ("columns",),
    ("generated", OPENED),
    ("writing",),
    ("preparation", "distributed"),
)
# The places outside the scripts where export/ meets the library that trained the model.
MEET_THE_LIBRARY = ("export.publishing.publish_run", "export.publishing.described_items")


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def imported_by(path):
    """Every module that a file imports, at its top or later; of `from a import b` both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_within(name, package):
    return name == package or name.startswith(package + ".")


FILES = {
    module_of(path): path
    for part in ("causerec_tf", "pipelines", "export")
    for path in sorted((ROOT / part).rglob("*.py"))
}


def reachable(module):
    """Names of all that a module imports, and that the files of ours among them import."""
    names, left = set(), {module}
    while left:
        one = left.pop()
        if one in FILES and (found := imported_by(FILES[one]) - names):
            names |= found
            left |= found
    return names


@functools.cache
def is_script(module):
    return 'if __name__ == "__main__":' in FILES[module].read_text(encoding="utf-8")


def known_to(module):
    """The modules of ours that one imports; where it imports from a module, that module."""
    return {name for name in imported_by(FILES[module]) if name in FILES} - {module}


def test_the_files_are_found():
    assert {"causerec_tf.model", "causerec_tf.data.windows", "pipelines.train", "export.retriever"} <= set(
        FILES
    )


@pytest.mark.parametrize("part", INDEPENDENT)
def test_the_parts_do_not_know_each_other(part):
    own = f"causerec_tf.{part}"
    mine = [module for module in FILES if is_within(module, own)]
    assert mine
    for module in mine:
        ours = {name for name in imported_by(FILES[module]) if is_within(name, "causerec_tf")} - {
            "causerec_tf"
        }
        allowed = (own, *(f"causerec_tf.{shared}" for shared in SHARED))
        known = {name for name in ours if not any(is_within(name, one) for one in allowed)}
        assert known == set(), module


@pytest.mark.parametrize("part", SHARED)
def test_what_all_may_know_knows_nothing_but_errors_and_numpy(part):
    foreign = {
        name
        for name in imported_by(FILES[f"causerec_tf.{part}"])
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not any(is_within(name, one) for one in ("causerec_tf.errors", "numpy"))
    }
    assert foreign == set()


@pytest.mark.parametrize("module", ["settings", "flagfiles"])
def test_a_wrong_setting_does_not_wait_for_tensorflow(module):
    done = python(f"import sys, causerec_tf.{module}; print('tensorflow' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("study", STUDIES)
def test_the_studies_do_not_know_each_other(study):
    others = {f"causerec_tf.studies.{other}" for other in STUDIES if other != study}
    assert not imported_by(FILES[f"causerec_tf.studies.{study}"]) & others


def test_only_scripts_and_their_pages_know_the_studies():
    knowing = {
        module.rpartition(".")[0]
        for module in FILES
        if any(is_within(name, "causerec_tf.studies") for name in known_to(module))
    }
    assert knowing == {"causerec_tf.studies", "pipelines", "pipelines.studies"}


def test_the_library_knows_neither_scripts_nor_export_nor_flags():
    for module, path in FILES.items():
        # It parses flags of its own, none of a process.
        if is_within(module, "causerec_tf") and module != "causerec_tf.flagfiles":
            foreign = {
                name
                for name in imported_by(path)
                if any(is_within(name, part) for part in ("pipelines", "export", "absl", "argparse"))
            }
            assert foreign == set(), module


def test_what_the_scripts_share_knows_neither_scripts_nor_export():
    for module in FILES:
        if is_within(module, "pipelines.command_line"):
            foreign = {name for name in known_to(module) if is_within(name, "export")}
            foreign |= (
                {name for name in known_to(module) if is_within(name, "pipelines")}
                - {name for name in FILES if is_within(name, "pipelines.command_line")}
                - {"pipelines"}
            )
            assert foreign == set(), module


def test_no_module_knows_a_script_and_of_export_only_scripts_know_flags():
    for module in FILES:
        assert not [name for name in known_to(module) if is_script(name)], module
        if is_within(module, "export") and not is_script(module):
            foreign = {name for name in known_to(module) if is_within(name, "pipelines")}
            assert foreign == set(), module
            meets = any(is_within(name, "causerec_tf") for name in imported_by(FILES[module]))
            assert meets == (module in MEET_THE_LIBRARY), module


def check_floors(floors, part_of):
    """A part knows only parts below its own; `part_of`: every module that stands on a floor -> its part."""
    height = {part: number for number, parts in enumerate(floors) for part in parts}
    assert set(part_of.values()) == set(height)
    for module, part in part_of.items():
        for name in known_to(module) & set(part_of):
            other = part_of[name]
            assert other == part or height[other] < height[part], f"{module} knows {name}"


def test_export_stands_on_floors():
    check_floors(
        FLOORS,
        {
            module: module.split(".")[1]
            for module in FILES
            if module.startswith("export.") and not is_script(module)
        },
    )


def test_the_data_stand_on_floors():
    named = {part for parts in DATA_FLOORS for part in parts}
    parts = {module: module.split(".")[2] for module in FILES if module.startswith("causerec_tf.data.")}
    folders = {part for module, part in parts.items() if FILES[module].name == "__init__.py"}
    assert folders <= named
    check_floors(DATA_FLOORS, {module: part if part in named else OPENED for module, part in parts.items()})


@pytest.mark.parametrize("package", ["causerec_tf", "pipelines", "export"])
def test_folders_and_the_modules_beside_them_know_each_other_one_way(package):
    """No circle, whether of two or of more; `settings` and `recipes` are one another's names and classes."""
    rooms = {module: ".".join(module.split(".")[:2]) for module in FILES if is_within(module, package)}
    arrows = {
        (room, rooms[name])
        for module, room in rooms.items()
        for name in known_to(module)
        if name in rooms and package not in (room, rooms[name]) and rooms[name] != room
    }
    arrows -= {("causerec_tf.settings", "causerec_tf.recipes")}
    while arrows:  # take away what nobody of the rest knows
        known = {to for _, to in arrows}
        left = {(of, to) for of, to in arrows if of in known}
        assert left != arrows, sorted(arrows)
        arrows = left


def test_the_library_says_by_subject_what_lies_in_it():
    rows = re.findall(r"^    \w[\w ]{13}(\w+(?:, \w+)*)$", causerec_tf.__doc__, re.M)
    named = sorted(name for row in rows for name in row.split(", "))
    assert named == sorted({module.split(".")[1] for module in FILES if module.startswith("causerec_tf.")})


def test_no_two_modules_or_classes_have_one_name():
    places: dict[str, list[str]] = {}
    for module, path in FILES.items():
        if path.name != "__init__.py":
            places.setdefault(path.name, []).append(module)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_what_serves_loads_neither_the_library_nor_what_publishes(serving):
    assert serving.stdout == "set() False\n", serving.stderr
    with pytest.raises(AttributeError, match="has no attribute 'Publish'"):
        export.Publish  # noqa: B018


@pytest.mark.parametrize("module", SERVING)
def test_what_serves_needs_neither_the_library_nor_keras(module):
    foreign = {
        name
        for name in reachable(f"export.{module}")
        if any(is_within(name, part) for part in ("causerec_tf", "pipelines", "keras", "tf_keras"))
    }
    assert foreign == set()
    assert ".keras" not in FILES[f"export.{module}"].read_text(encoding="utf-8")


def test_the_paper_map_names_what_is_there():
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 30
    for _, _, code, tests in rows:
        for file, names in re.findall(r"`([\w/]+\.py)(?::([\w.]+))?`", code):
            text = (ROOT / "causerec_tf" / file).read_text(encoding="utf-8")
            for name in filter(None, names.split(".")):
                assert re.search(rf"(def|class) {name}\b|^    {name}:", text, re.M), f"{file}: {name}"
        for name in re.findall(r"`(\w+)(?:\[[\w ]+\])?`", tests):
            assert f"def test_{name}(" in written, name
        for file in re.findall(r"`([\w/]+\.py)`", tests):
            assert list((ROOT / "tests").rglob(file)), file
