"""The files of a tokenizer: obeyed as transformers does, or refused in a sentence."""

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tiny import SPECIAL, VOCABULARY, refuses, write_vocabulary

from workbench.checkpoint import settings
from workbench.checkpoint.tokenizer import read_tokenizer, save_tokenizer
from workbench.text import Tokenizer

TEXTS = [
    "The cat sat on the mat.",
    "the [E1] Cat [/E1] sat, on<ent>the[E1]mat",
    "Covid and covidcovid, COVID; Café café CAFÉ",
    "a中中b 中文, Tea\u0301 tea",
    "two words [MASK] [E1] [MASK]two words",
    "[ENT] <ENT> [e1]",
]


def write(folder: Path, **files: Any) -> Path:
    """A folder with a vocabulary, a config.json and these files."""
    write_vocabulary(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def whole(lowercase: bool = True, **changes: Any) -> dict[str, Any]:
    """The content of a tokenizer.json as transformers writes it."""
    plain = Tokenizer.from_words(VOCABULARY, lowercase=lowercase)
    backend = tokenizers.Tokenizer.from_str(plain.backend.to_str())
    backend.add_special_tokens(SPECIAL)
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return json.loads(backend.to_str()) | changes


def added(content: str, index: int | None = None, **flags: bool) -> dict[str, Any]:
    usual = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    return usual | {"content": content} | ({} if index is None else {"id": index}) | flags


def same_as_transformers(folder: Path) -> Tokenizer:
    """The ids of transformers for all texts, alone and in pairs, and offsets that lie inside the text."""
    ours, theirs = read_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.vocab_size == len(theirs)
    for text, second in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True):
        encoding, expected = ours.encode(text), theirs(text, return_offsets_mapping=True)
        assert [token.id for token in encoding.tokens] == expected["input_ids"], text
        for token, (start, end) in zip(encoding.tokens[1:-1], expected["offset_mapping"][1:-1], strict=True):
            # A mask may take the space before it there, and never does here. An accent that is a character of
            # its own belongs to the letter before it here, and may belong to none there.
            accents = all(unicodedata.category(letter) == "Mn" for letter in text[end : token.end])
            assert token.masked or (token.start == start and token.end >= end and accents), text
        pair, expected = ours.encode(text, second).tensors(), theirs(text, second)
        assert pair["input_ids"][0].tolist() == expected["input_ids"]
        if "token_type_ids" in expected:  # a DistilBERT has none
            assert pair["token_type_ids"][0].tolist() == expected["token_type_ids"]
    return ours


ADDED = {"99": added("[E1]", special=True), "100": added("[/E1]", special=True)}
FOLDERS: dict[str, dict[str, Any]] = {
    "added_tokens.json": {"added_tokens": {"[E1]": 99, "<ent>": 100, "Covid": 101, "two words": 102}},
    "added tokens, special": {
        "added_tokens": {"[E1]": 99, "<ent>": 100},
        "special_tokens_map": {"additional_special_tokens": ["[E1]"], "cls_token": "[CLS]"},
    },
    "added_tokens_decoder": {"tokenizer_config": {"added_tokens_decoder": ADDED}},
    "added_tokens_decoder beside older files": {
        "tokenizer_config": {"added_tokens_decoder": ADDED},
        "special_tokens_map": {"additional_special_tokens": ["<ent>"]},
        "added_tokens": {"Covid": 99},
    },
    "special_tokens_map.json alone": {"special_tokens_map": {"additional_special_tokens": ["[E1]", "<ent>"]}},
    "special tokens with their flags": {
        "special_tokens_map": {
            "mask_token": added("[MASK]", lstrip=True),
            "entity_token": added("<ent>", lstrip=True, rstrip=True),
        }
    },
    "a token of another name": {"tokenizer_config": {"entity_token": "<ent>", "bos_token": "[E1]"}},
    "extra_special_tokens": {"tokenizer_config": {"extra_special_tokens": ["[E1]"]}},
    "named extra_special_tokens": {"tokenizer_config": {"extra_special_tokens": {"entity": "<ent>"}}},
    "an added word of the vocabulary": {"added_tokens": {"cat": VOCABULARY.index("cat")}},
    "tokenizer.json": {"tokenizer": whole()},
    "tokenizer.json, added": {
        "tokenizer": whole(
            added_tokens=[
                *(added(token, index, special=True) for index, token in enumerate(SPECIAL)),
                added("[E1]", 99, special=True),
                added("Covid", 100, normalized=True),
                added("mat", VOCABULARY.index("mat"), single_word=True),
            ]
        )
    },
    "cased tokenizer.json without more": {"tokenizer": whole(lowercase=False)},
    "cased tokenizer.json, uncased tokenizer_config.json": {
        "tokenizer": whole(lowercase=False),
        "tokenizer_config": {"do_lower_case": True},
    },
    "uncased tokenizer.json, cased tokenizer_config.json": {
        "tokenizer": whole(),
        "tokenizer_config": {"do_lower_case": False, "tokenizer_class": "BertTokenizerFast"},
    },
    "accents and Chinese": {
        "tokenizer": whole(),
        "tokenizer_config": {"strip_accents": False, "tokenize_chinese_chars": False},
    },
    "tokenizer.json as it is": {
        "tokenizer": whole(lowercase=False),
        "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
        | {f"{name[1:-1].lower()}_token": name for name in SPECIAL},
    },
    "tokenizer.json as it is, of its own kind": {
        "tokenizer": whole(
            normalizer={"type": "NFC"},
            pre_tokenizer={"type": "Whitespace"},
            added_tokens=[added("[MASK]", 4, special=True), added("[E1]", 99, special=True)],
        ),
        "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "[MASK]"},
    },
}


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_the_ids_of_transformers(files: dict[str, Any], tmp_path: Path) -> None:
    ours = same_as_transformers(write(tmp_path, **files))
    (tmp_path / "again").mkdir()
    save_tokenizer(ours, tmp_path / "again")  # and once more from what we write
    (tmp_path / "again" / "config.json").write_text('{"model_type": "bert"}')
    again = same_as_transformers(tmp_path / "again")
    assert [again.pieces(text) for text in TEXTS] == [ours.pieces(text) for text in TEXTS]


@pytest.mark.parametrize("seed", range(20))
def test_random_files_agree_with_transformers(seed: int, tmp_path: Path) -> None:
    """Options, added tokens with any flags and the places that tell of them, drawn at random."""
    draw = random.Random(seed)
    words = draw.sample(["[E1]", "[/E1]", "<ent>", "Covid", "two words", "mat", "é", "中"], 3)
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    new = {word: {flag: draw.random() < 0.4 for flag in flags} for word in words}
    at = {word: VOCABULARY.index(word) for word in words if word in VOCABULARY}
    at |= {word: 99 + place for place, word in enumerate(word for word in words if word not in VOCABULARY)}
    options = {
        "do_lower_case": draw.choice([True, False]),
        "strip_accents": draw.choice([None, True, False]),
        "tokenize_chinese_chars": draw.choice([True, False]),
        "tokenizer_class": draw.choice(["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer"]),
    }
    config = {name: value for name, value in options.items() if draw.random() < 0.7}
    files: dict[str, Any] = {"tokenizer_config": config}
    if draw.random() < 0.5:
        files["tokenizer"] = whole(lowercase=draw.choice([True, False]))
        files["tokenizer"]["added_tokens"] += [
            added(word, at[word], **new[word]) for word in sorted(at, key=at.get)
        ]
    match draw.choice(["decoder", "added", "map", "nothing"]):
        case "decoder":
            config["added_tokens_decoder"] = {str(at[word]): added(word, **new[word]) for word in words}
        case "added" if "tokenizer" not in files:
            files["added_tokens"] = at
        case "map":
            files["special_tokens_map"] = {"additional_special_tokens": [*sorted(at, key=at.get)]}
    same_as_transformers(write(tmp_path, **files))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a splitter for Japanese": (
        {"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}},
        "of the class BertJapaneseTokenizer",
    ),
    "another class": ({"tokenizer_config": {"tokenizer_class": "XLNetTokenizer"}}, "class XLNetTokenizer"),
    "another mask": (
        {"tokenizer_config": {"mask_token": "<mask>"}},
        r"mask_token is '<mask>'; only \[MASK\]",
    ),
    "another mask in the map": (
        {"special_tokens_map": {"cls_token": added("<s>")}},
        r"cls_token is '<s>'; only \[CLS\]",
    ),
    "a place that is not there": ({"added_tokens": {"[E1]": 120}}, r"'\[E1\]' is to have the id 120, but 99"),
    "another place of a word": ({"added_tokens": {"cat": 98}}, "'cat' is to have the id 98, but"),
    "another splitter": ({"tokenizer": whole(pre_tokenizer={"type": "Whitespace"})}, "in another way than a"),
    "another normaliser": ({"tokenizer": whole(normalizer={"type": "NFC"})}, "in another way than a Bert"),
    "no frame": (
        {
            "tokenizer": whole(post_processor=None),
            "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast"},
        },
        r"does not put \[CLS\] and \[SEP\] around",
    ),
    "added tokens of another form": (
        {"tokenizer_config": {"added_tokens_decoder": {"99": 3}}},
        "cannot be read",
    ),
    "no yes or no": ({"tokenizer_config": {"do_lower_case": None}}, "do_lower_case cannot be None"),
    "a word for no": ({"tokenizer_config": {"strip_accents": "false"}}, "strip_accents cannot be 'false'"),
    "added tokens without ids": ({"added_tokens": ["[E1]"]}, "cannot be read"),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    refuses(lambda: read_tokenizer(write(tmp_path, **files)), message, ValueError)


def test_config_json_may_name_the_class(tmp_path: Path) -> None:
    action = lambda: read_tokenizer(write(tmp_path), "BertJapaneseTokenizer")  # noqa: E731
    refuses(action, "BertJapaneseTokenizer", ValueError)


def test_added_tokens_are_words_of_their_own_and_special_ones_stay_text(tmp_path: Path) -> None:
    folder = write(tmp_path, added_tokens={"<ent>": 99}, special_tokens_map={"cls_token": "[CLS]"})
    tokens = read_tokenizer(folder).pieces("cat<ent>sat [SEP]")
    assert [(token.text, token.word) for token in tokens[:4]] == [
        ("cat", 0),
        ("<ent>", 1),
        ("sat", 2),
        ("[", 3),
    ]
    assert 3 not in [token.id for token in tokens]
    assert 99 not in read_tokenizer(folder).random_ids()


def test_typed_special_tokens_are_text_for_any_splitter(tmp_path: Path) -> None:
    """One that splits at blanks alone finds "[SEP]" among its word pieces."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    folder = write(tmp_path, tokenizer=whole(pre_tokenizer={"type": "WhitespaceSplit"}, normalizer=None))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokens = read_tokenizer(folder).pieces("cat [SEP] sat [MASK]")
    assert [token.text for token in tokens] == ["cat", "[UNK]", "sat", "[MASK]"]
    assert [token.masked for token in tokens] == [False, False, False, True]


def test_a_setting_that_changes_ids_is_obeyed_or_refused(tmp_path: Path) -> None:
    """With each setting of tokenizer_config.json changed: the ids of transformers, or a sentence."""
    usual, changing = all_ids(transformers.AutoTokenizer, write(tmp_path)), set()
    for name in sorted(settings.TOKENIZER.names() - {"tokenizer_class"}):
        for value in (True, False, 3, "left", "[CLS]", {"extra": "<ent>"}, ["<ent>"]):
            write(tmp_path, tokenizer_config={name: value})
            try:
                theirs = all_ids(transformers.AutoTokenizer, tmp_path)
            except Exception:  # they refuse it
                continue
            if theirs != usual:
                changing.add(name)
            try:
                ours = read_tokenizer(tmp_path)
            except ValueError as error:
                assert str(error).endswith(".") and "\n" not in str(error)
                continue
            assert [[token.id for token in ours.encode(text).tokens] for text in TEXTS] == theirs, (
                name,
                value,
            )
    assert {"do_lower_case", "extra_special_tokens", "tokenize_chinese_chars"} <= changing  # it can fail


def all_ids(kind: type, folder: Path) -> list[list[int]]:
    tokenizer = kind.from_pretrained(folder)
    return [tokenizer(text)["input_ids"] for text in TEXTS]
