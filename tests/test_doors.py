"""The doors between the rooms of the package stay shut, and it stays quick to import."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench

PACKAGE = Path(workbench.__file__).parent
MODULES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
    if "data" not in file.relative_to(PACKAGE).parts and "notebooks" not in file.relative_to(PACKAGE).parts
}
USE_EVERYTHING = "import workbench; [getattr(workbench, name) for name in workbench.__all__]"

# What a room may import of the package as it runs. The models know nobody but the encoder.
MAY_IMPORT = {
    "checks": {"encoder"},
    "encoder": set(),
    "files": set(),
    "text": {"checks"},
    "image": {"checks"},
    "bert": {"encoder"},
    "vit": {"encoder"},
    "attention": {"bert", "checks", "encoder", "text", "vit"},
    "checkpoint": {"bert", "checkpoint", "checks", "encoder", "image", "text", "vit"},
    "tasks": {"attention", "bert", "checks", "encoder", "image", "text", "vit"},
    "explain": {"attention", "bert", "checks", "encoder", "text", "vit"},
    "patches": {"attention", "bert", "checks", "encoder", "vit"},
    "exercises": set(),
    "pages": {"checkpoint", "files", "widgets"},
    "plots": {"attention", "bert", "encoder", "image", "tasks", "text", "vit"},
    "training": {"attention", "bert", "checkpoint", "checks", "encoder", "image", "text", "training", "vit"},
    "widgets": {
        "attention",
        "bert",
        "checkpoint",
        "checks",
        "encoder",
        "explain",
        "files",
        "image",
        "patches",
        "plots",
        "tasks",
        "text",
        "vit",
        "widgets",
    },
}
# Imported by a widget, a lesson or a training run, never by `import workbench`.
SLOW = [
    "IPython",
    "accelerate",
    "anywidget",
    "datasets",
    "huggingface_hub",
    "ipywidgets",
    "jupyterlab",
    "matplotlib",
    "nbconvert",
    "pyarrow",
    "transformers",
    "workbench.cli",
    "workbench.pages",
    "workbench.plots",
    "workbench.training",
    "workbench.widgets",
]
# Pieces of other people's parameter names. (Some of ours are the same as theirs: those are left out.)
FOREIGN = [
    "attention.self",
    "attention.output.dense",
    "attention.attention",
    "attn.qkv",
    "blocks.",
    "cls.predictions",
    "encoderblock",
    "intermediate.dense",
    "layernorm_before",
    "LayerNorm.gamma",
    "MultiHeadDotProductAttention",
    "patch_embed.",
    "patch_embeddings.projection",
    "posembed_input",
    "qa_outputs",
    "o_proj",
    "seq_relationship",
]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of the package that are imported anywhere in a file, but for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "workbench")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            if node.module in ("workbench", "workbench.training"):
                yield from (f"{node.module}.{name.name}" for name in node.names)
            elif node.module.startswith("workbench."):
                yield node.module
        yield from imported(node)


@pytest.mark.parametrize("module", MODULES)
def test_doors_open_one_way_only(module: str) -> None:
    room = module.split(".")[0]
    if room not in MAY_IMPORT:  # the command, and the list of names, may go everywhere
        assert room in ("cli", "__main__", "__init__")
        return
    names = {name.split(".")[1] for name in imported(ast.parse(MODULES[module].read_text()))}
    assert names - {"__version__"} <= MAY_IMPORT[room]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training.")])
def test_the_loop_knows_no_learner_and_a_learner_no_lesson(module: str) -> None:
    names = imported(ast.parse(MODULES[module].read_text()))
    known = {name.split(".")[2] for name in names if name.startswith("workbench.training.")}
    if module == "training.loop":
        assert known == set()
    elif module.endswith("_learner"):
        assert known <= {"loop"}


def test_nothing_in_the_package_knows_the_recipes() -> None:
    recipes = {file.stem for file in (PACKAGE.parent / "data" / "recipes").glob("*.py")}
    assert "train_text" in recipes
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not recipes & {name.name.split(".")[0] for name in node.names}, module
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] not in recipes, module


@pytest.mark.parametrize("module", [name for name in MODULES if name != "checkpoint.names"])
def test_only_the_tables_know_foreign_names(module: str) -> None:
    text = MODULES[module].read_text()
    assert [name for name in FOREIGN if name in text] == []


def test_the_list_of_foreign_names_is_of_use() -> None:
    text = MODULES["checkpoint.names"].read_text()
    assert [name for name in FOREIGN if name not in text] == []


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_says_what_it_is(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree)
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    methods = [
        part
        for node in public
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, kinds) and not part.name.startswith("_") and part.name != "forward"
    ]
    silent = [node.name for node in public + methods if not (ast.get_docstring(node) or "").strip()]
    assert silent == []


def test_every_promised_name_is_there() -> None:
    promised = """load_bert load_vit fill_mask next_sentence classify_sentence classify_pair tag_words
        answer_question classify_image embed record_attention ablate attention_rollout attention_relevance
        attention_distance attention_entropy save_checkpoint CheckpointError"""
    for name in promised.split():
        assert name in workbench.__all__
        assert getattr(workbench, name).__doc__


def test_type_checkers_see_every_name() -> None:
    assert (PACKAGE / "py.typed").is_file()
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    assert {name.asname for node in imports for name in node.names} == {*workbench.__all__}
    assert all(node.level == 1 and name.name == name.asname for node in imports for name in node.names)


def test_importing_brings_no_widget_and_no_notebook_library() -> None:
    code = f"{USE_EVERYTHING}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(code))
    assert "torch" in loaded and "workbench.checkpoint" in loaded
    assert [name for name in loaded for slow in SLOW if name == slow or name.startswith(f"{slow}.")] == []


def test_importing_is_quick() -> None:
    """0.3 s over `import torch`, for all public names; once in three tries.

    Counted in this process's own seconds of CPU, so that other work on the machine does not matter.
    """
    code = f"import time, torch; a = time.process_time(); {USE_EVERYTHING}; print(time.process_time() - a)"
    assert any(float(run(code)) < 0.3 for _ in range(3))


def test_loading_is_quick() -> None:
    """The shipped BERT: nothing of torch's compiler is imported to make an empty model."""
    code = "import sys, workbench; workbench.load_bert(device='cpu'); print('torch._dynamo' in sys.modules)"
    assert run(code).strip() == "False"
