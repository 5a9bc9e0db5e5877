"""Checkpoints are found, or one sentence says why not; no file runs anything."""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from test_vit import npz_arrays
from tiny import hf_bert, hf_vit, refuses, same_model, saved

import workbench as wb


@pytest.mark.parametrize("kind", ["BertForPreTraining", "ViTForImageClassification"])
def test_shards(kind: str, tmp_path: Path) -> None:
    theirs = (hf_bert if kind.startswith("Bert") else hf_vit)(kind)
    folder = saved(theirs, tmp_path, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    load = wb.load_bert if kind.startswith("Bert") else wb.load_vit
    whole = saved(theirs, tmp_path / "whole")
    same_model(load(folder, device="cpu"), load(whole, device="cpu"))
    next(folder.glob("model-00002*")).unlink()
    refuses(lambda: load(folder), "lacks the file model-00002")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated(broken: tuple[Path, Callable], share: float) -> None:
    file = broken[0] / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refuses(lambda: broken[1](broken[0]), "model.safetensors of mine is damaged")


def test_only_a_pickle(broken: tuple[Path, Callable]) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os._exit, (1,))

    (broken[0] / "model.safetensors").unlink()
    refuses(lambda: broken[1](broken[0]), "has no model.safetensors")
    (broken[0] / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    refuses(
        lambda: broken[1](broken[0]),
        r"pickle \(pytorch_model.bin\), which can run code.*if you trust it, load",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no config.json"),
        ("", "config.json cannot be read"),
        ('{"hidden_size": 36,', "config.json cannot be read"),
        ("\udcff", "config.json cannot be read"),
        ("[1, 2]", "config.json holds no settings"),
        ("3", "config.json holds no settings"),
        ("null", "config.json holds no settings"),
    ],
)
def test_broken_config(broken: tuple[Path, Callable], content: str | None, message: str) -> None:
    file = broken[0] / "config.json"
    file.unlink()
    if content is not None:
        file.write_text(content, encoding="utf-8", errors="surrogateescape")
    refuses(lambda: broken[1](broken[0]), message)


@pytest.mark.parametrize(
    "index", ["not json", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": "gone"}}']
)
def test_broken_index_of_shards(broken: tuple[Path, Callable], index: str) -> None:
    (broken[0] / "model.safetensors").unlink()
    (broken[0] / "model.safetensors.index.json").write_text(index)
    refuses(lambda: broken[1](broken[0]), "model.safetensors.index.json|lacks the file gone")


def test_an_index_stays_in_its_folder(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    shutil.move(folder / "model.safetensors", tmp_path / "other.safetensors")
    index = {"weight_map": {"a": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refuses(lambda: wb.load_bert(folder), "lacks the file other.safetensors")


def test_a_google_file_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "was run"),))

    np.savez(tmp_path / "ViT.npz", **npz_arrays() | {"cls": np.array([Evil()], dtype=object)})
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), "plain arrays")
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_google_files(share: float, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "ViT.npz", **npz_arrays())
    content = (tmp_path / "ViT.npz").read_bytes()
    (tmp_path / "ViT.npz").write_bytes(content[: int(len(content) * share)])
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), "damaged or no .npz file")
    flipped = bytearray(content)
    flipped[len(content) // 2 : len(content) // 2 + 50] = b"?" * 50
    (tmp_path / "ViT.npz").write_bytes(flipped)
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), "damaged or no .npz file")


@pytest.mark.parametrize("load", [wb.load_bert, wb.load_vit, wb.inspect_checkpoint])
class TestNames:
    @pytest.mark.parametrize(
        "name", ["./gone", "/gone/or/never/there", "gone.npz", "a b", "a/b/c", "\0", "x" * 5000, "~nobody/x"]
    )
    def test_nothing_there(self, load: Callable, name: str) -> None:
        with pytest.raises(wb.CheckpointError, match="^There is no file or folder|neither a folder"):
            load(name)

    def test_a_path_that_is_not_there(self, load: Callable, tmp_path: Path) -> None:
        refuses(lambda: load(tmp_path / "gone"), "There is no file or folder")

    @pytest.mark.parametrize("name", ["bert-base-uncased", "google/vit-base-patch16-224"])
    def test_a_hub_id_without_a_network(self, load: Callable, name: str) -> None:
        refuses(lambda: load(name), "nor can it be fetched from the Hub .* shipped with the workbench")

    @pytest.mark.parametrize("files", [[], ["config.json", "vocab.txt"], ["model.safetensors"]], ids=str)
    def test_a_part_of_a_hub_checkpoint_without_a_network(
        self, load: Callable, files: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the tokenizers of transformers leave it, or a cache whose large files were deleted."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        repo = tmp_path / "models--owner--some-bert"
        (repo / "snapshots" / "0123abc").mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("0123abc")
        for file in files:
            (repo / "snapshots" / "0123abc" / file).write_text("{}")
        (repo / "snapshots" / "0123abc" / "model-1.safetensors").symlink_to("gone")
        refuses(
            lambda: load("owner/some-bert"), "^Only a part of 'owner/some-bert' was fetched, and the rest"
        )

    def test_an_empty_folder(self, load: Callable, tmp_path: Path) -> None:
        refuses(lambda: load(tmp_path), "config.json|model.safetensors")

    def test_a_file_of_another_kind(self, load: Callable, tmp_path: Path) -> None:
        (tmp_path / "note.txt").write_text("hello")
        refuses(lambda: load(tmp_path / "note.txt"), "note.txt")


def test_a_fetched_checkpoint_is_called_by_its_hub_id(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models--owner--some-bert" / "snapshots" / "0123abc"
    shutil.copytree(good / "bert", folder)
    assert wb.load_bert(folder, device="cpu").name == "owner/some-bert"
    (folder / "vocab.txt").unlink()
    refuses(lambda: wb.load_bert(folder), "^The tokenizer of owner/some-bert cannot be read")
    (folder / "model.safetensors").unlink()
    refuses(lambda: wb.load_bert(folder), "^owner/some-bert has no model.safetensors")


@pytest.mark.parametrize("name", [".", "../mine", "../mine/", "~/snapshots/mine"])
def test_a_model_is_called_as_its_folder(
    name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(good / "vit", tmp_path / "snapshots" / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "snapshots" / "mine")
    assert wb.load_vit(name, device="cpu").name == "mine"


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_wrapped_names(wrapper: str, broken: tuple[Path, Callable]) -> None:
    """As DataParallel, torch.compile and Lightning save them."""
    folder, load = broken
    plain = load(folder, device="cpu")
    file = folder / "model.safetensors"
    save_file({f"{wrapper}{name}": tensor for name, tensor in load_file(file).items()}, file)
    same_model(plain, load(folder, device="cpu"))


def test_a_folder_of_checkpoints(broken: tuple[Path, Callable]) -> None:
    folder, load = broken
    shutil.copytree(folder, folder / "checkpoint-500")
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
        if file == "config.json":
            refuses(lambda: load(folder), "mine has no config.json, but checkpoint-500 in it has")
            shutil.copy(folder / "checkpoint-500" / file, folder)
    refuses(
        lambda: load(folder), r"no model.safetensors but checkpoint-500.model.safetensors: load that file"
    )
    load(folder / "checkpoint-500", device="cpu")


def test_an_adapter_is_not_left_out_in_silence(broken: tuple[Path, Callable]) -> None:
    folder, load = broken
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    refuses(lambda: load(folder), "mine holds an adapter .adapter_config.json.*: merge it into its model")
    load(folder / "model.safetensors", device="cpu")  # asked for by its name


def test_weights_under_another_name(broken: tuple[Path, Callable]) -> None:
    folder, load = broken
    plain = load(folder, device="cpu")
    other = (folder / "model.safetensors").rename(folder / "pytorch_model.safetensors")
    refuses(lambda: load(folder), "no model.safetensors but pytorch_model.safetensors: load that file")
    same_model(plain, load(other, device="cpu"))
    (folder / "deep" / "er").mkdir(parents=True)
    other.rename(folder / "deep" / "er" / "model.safetensors")
    refuses(lambda: load(folder), "no model.safetensors but deep.er.model.safetensors: load that file")
    (folder / "deep" / "er" / "model.safetensors").rename(folder / "tf_model.h5")
    refuses(lambda: load(folder), r"model.safetensors, which weights are read from; it holds .*tf_model\.h5")
    refuses(lambda: load(folder / "tf_model.h5"), r"tf_model\.h5 is of no kind that is read here: .safetens")


def test_a_link_to_weights_that_are_not_there(broken: tuple[Path, Callable]) -> None:
    """As git-annex and a pruned cache leave it."""
    folder, load = broken
    (folder / "model.safetensors").unlink()
    (folder / "other.safetensors").symlink_to("gone")
    refuses(lambda: load(folder), r"has no model.safetensors, .* it holds (?!.*other)")
    (folder / "model.safetensors").symlink_to("gone")
    refuses(lambda: load(folder), "has no model.safetensors: it is a link to a file that is not here")


def test_names_behind_an_unknown_wrapper_are_told(broken: tuple[Path, Callable]) -> None:
    folder, load = broken
    file = folder / "model.safetensors"
    save_file({f"net.{name}": tensor for name, tensor in load_file(file).items()}, file)
    refuses(lambda: load(folder), r"lacks the tensor .*; it holds net\.")


@pytest.mark.parametrize("load", [wb.load_bert, wb.load_vit, wb.inspect_checkpoint])
def test_a_pickle_by_its_name(load: Callable, tmp_path: Path) -> None:
    (tmp_path / "deit.pth").write_bytes(pickle.dumps({}))
    refuses(lambda: load(tmp_path / "deit.pth"), "^deit.pth is a pickle, which can run code")


def test_a_page_in_place_of_a_google_file(tmp_path: Path) -> None:
    (tmp_path / "ViT.npz").write_text("<!DOCTYPE html><html><body>Please log in.</body></html>")
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), r"no .npz file of plain arrays \(File is not a zip")


@pytest.mark.parametrize("load", [wb.load_bert, wb.load_vit, wb.inspect_checkpoint])
def test_weights_alone(load: Callable, good: Path, tmp_path: Path) -> None:
    for kind in ("bert", "vit"):
        shutil.copy(good / kind / "model.safetensors", tmp_path / f"{kind}.safetensors")
        refuses(
            lambda: load(tmp_path / f"{kind}.safetensors"),  # noqa: B023
            f"^{kind}.safetensors comes without its config.json, .* put config.json beside it",
        )


def test_a_pointer_of_git_lfs(broken: tuple[Path, Callable], tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (broken[0] / "model.safetensors").write_text(pointer)
    refuses(lambda: broken[1](broken[0]), "model.safetensors of mine is only git-lfs' note .* `git lfs pull`")
    (tmp_path / "ViT.npz").write_text(pointer)
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), "is only git-lfs' note")


def test_every_file_that_is_read_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        fetched.extend(allow_patterns)
        raise OSError

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    refuses(lambda: wb.load_bert("some/bert"), "fetched from the Hub")
    sources = [Path(wb.__file__).parent / "checkpoint" / name for name in ("read.py", "tokenizer.py")]
    named = {file for source in sources for file in re.findall(r"[a-z_]+\.(?:json|txt)", source.read_text())}
    assert named - {*fetched} == {"index.json"}  # of shards: model.safetensors.index.json
