"""Reads and writes the files of a tokenizer in the Hugging Face layout, as `transformers` takes them."""

import json
import math
from pathlib import Path

import tokenizers
from tokenizers import AddedToken

from workbench.checkpoint import settings as rules
from workbench.checkpoint.settings import Settings, or_say, title_of
from workbench.text import SPECIAL_TOKENS, Tokenizer

# Classes of transformers: the first build a tokenizer from its word pieces and the options of
# tokenizer_config.json, the second take tokenizer.json as it is.
BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast")
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Options of `Tokenizer.from_words`: their names in tokenizer_config.json and in tokenizer.json, and what a
# silent file means.
OPTIONS = {
    "lowercase": ("do_lower_case", "lowercase", True),
    "strip_accents": ("strip_accents", "strip_accents", None),
    "split_chinese": ("tokenize_chinese_chars", "handle_chinese_chars", True),
}


def read_tokenizer(folder: Path, tokenizer_class: str | None = None) -> Tokenizer:
    """The tokenizer of a folder: word pieces of tokenizer.json or vocab.txt, options of
    tokenizer_config.json, added tokens of these, of added_tokens.json and of special_tokens_map.json.

    Args:
        tokenizer_class: what config.json says, for a tokenizer_config.json that names none.

    Raises:
        CheckpointError: files are missing, unreadable, do not fit together, or are of another class.
    """
    # The library raises bare Exceptions.
    with or_say(f"The tokenizer of {title_of(folder)} cannot be read", Exception):
        whole, config = _read(folder, "tokenizer.json"), _read(folder, "tokenizer_config.json")
        special = _read(folder, "special_tokens_map.json")
        kind = config.get("tokenizer_class") or tokenizer_class or BERT_CLASSES[0]
        if kind not in BERT_CLASSES + PLAIN_CLASSES:
            raise ValueError(f"it is of the class {kind}, and BertTokenizer is read here")
        for content, known, file in (
            (config, rules.TOKENIZER, "tokenizer_config.json"),
            (special, rules.SPECIAL_MAP, "special_tokens_map.json"),
            (whole, rules.WHOLE_TOKENIZER, "tokenizer.json"),
        ):  # any "..._token" is one more added token
            known.check({name: value for name, value in content.items() if not name.endswith("_token")}, file)
        is_whole = (folder / "tokenizer.json").exists()
        if not is_whole and kind in PLAIN_CLASSES:
            raise ValueError(f"there is no tokenizer.json, which a {kind} is read from")
        if not is_whole and not (folder / "vocab.txt").exists():
            raise ValueError("there is neither tokenizer.json nor vocab.txt")
        added = _added_tokens(folder, config, special, whole)
        if is_whole:
            whole |= {"added_tokens": [], "truncation": None, "padding": None}
            vocabulary = whole["model"]["vocab"]
            for index, token in added.items():  # "[SEP]" is text where a user types it: no added token
                if str(token) in SPECIAL_TOKENS.values() and isinstance(vocabulary, dict):
                    vocabulary.setdefault(str(token), index)
        else:
            # Not splitlines(): some vocabularies hold characters that it takes for the end of a line.
            vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        if kind in BERT_CLASSES:
            options = {ours: config.get(theirs, usual) for ours, (theirs, _, usual) in OPTIONS.items()}
            for ours, (theirs, _, usual) in OPTIONS.items():
                if not isinstance(options[ours], bool | type(usual)):
                    raise ValueError(f"{theirs} cannot be {options[ours]!r}")
            tokenizer = Tokenizer.from_words(vocabulary, **options)
            if is_whole and not _is_plain(whole):
                raise ValueError(
                    f"its tokenizer.json splits texts in another way than a {kind} does; if that is meant, "
                    "tokenizer_class in tokenizer_config.json has to be PreTrainedTokenizerFast"
                )
        else:
            tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(whole)))
            _check_frame(tokenizer)
        _add_tokens(tokenizer, added)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, longest: int = 512) -> None:
    """Writes tokenizer_config.json with vocab.txt, or with the larger tokenizer.json for a tokenizer that a
    list of words does not tell all about; `transformers` reads both. The model reads `longest` tokens."""
    whole = json.loads(tokenizer.backend.to_str())
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=False)
    words = sorted(vocabulary, key=vocabulary.get)
    plain = _is_plain(whole)
    listed = plain and not whole["added_tokens"] and not any("\n" in word for word in words)
    if listed and [vocabulary[word] for word in words] == list(range(len(words))):
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    else:
        (folder / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    config = {"tokenizer_class": BERT_CLASSES[0] if plain else PLAIN_CLASSES[0]}
    if plain:
        config |= {theirs: whole["normalizer"][backend] for theirs, backend, _ in OPTIONS.values()}
    config |= SPECIAL_TOKENS | {"model_max_length": longest}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _read(folder: Path, name: str) -> Settings:
    file = folder / name
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _is_plain(whole: Settings) -> bool:
    """Whether a tokenizer.json does what `Tokenizer.from_words` does, but for its words and options."""

    def skeleton(whole: Settings) -> Settings:
        model = whole["model"] | {"vocab": {"[UNK]": 0}}
        parts = whole | {"model": model, "added_tokens": [], "post_processor": None, "decoder": None}
        parts = json.loads(tokenizers.Tokenizer.from_str(json.dumps(parts)).to_str())
        parts["normalizer"] = (parts["normalizer"] or {}) | {name: None for _, name, _ in OPTIONS.values()}
        return parts

    usual = json.loads(Tokenizer.from_words(list(SPECIAL_TOKENS.values())).backend.to_str())
    return whole["model"].get("type", "WordPiece") == "WordPiece" and skeleton(whole) == skeleton(usual)


def _added_tokens(
    folder: Path, config: Settings, special_map: Settings, whole: Settings
) -> dict[int | str, AddedToken]:
    """Tokens that are kept whole in a text, by their ids, or by their words where no file gives an id."""
    listed = config.get("added_tokens_decoder") or {}
    late = {} if listed else special_map  # the list says all that older files do
    named = {name: token for name, token in (config | late).items() if name.endswith("_token") and token}
    named = {name: named[name] for name in ("bos_token", "eos_token", *named) if name in named}
    named |= config.get("model_specific_special_tokens") or {}
    extra = _extra(config)
    if isinstance(extra, dict):
        named, extra = named | extra, []
    for name, usual in SPECIAL_TOKENS.items():
        if _content(named.get(name, usual)) != usual:
            raise ValueError(f"its {name} is {_content(named[name])!r}; only {usual} is read here")
    special = {_content(token): token for token in [*named.values(), *extra] if not isinstance(token, bool)}
    tokens: dict[int | str, AddedToken] = {int(index): _token(token) for index, token in listed.items()}
    if not listed:
        for word, index in _read(folder, "added_tokens.json").items():
            tokens[index] = AddedToken(word, special=word in special, normalized=word not in special)
        tokens |= {token["id"]: _token(token) for token in whole.get("added_tokens", [])}
    special |= {_content(token): token for token in ([] if extra else _extra(late))}
    there = {str(token) for token in tokens.values()}
    return tokens | {word: _token(token) for word, token in special.items() if word not in there}


def _extra(settings: Settings) -> list | dict:
    return settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []


def _content(token: str | Settings) -> str:
    return token["content"] if isinstance(token, dict) else token


def _token(token: str | Settings) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True)
    return AddedToken(**{name: value for name, value in token.items() if name not in ("id", "__type")})


def _add_tokens(tokenizer: Tokenizer, added: dict[int | str, AddedToken]) -> None:
    """Adds them in the order of their ids, behind the word pieces; raises `ValueError` if ids do not fit."""
    for index in sorted(added, key=lambda index: index if isinstance(index, int) else math.inf):
        word = str(added[index])
        if word not in SPECIAL_TOKENS.values():
            tokenizer.backend.add_tokens([added[index]])
        found = tokenizer.backend.token_to_id(word)
        if isinstance(index, int) and index != found:
            raise ValueError(f"the added token {word!r} is to have the id {index}, but {found} is its place")


def _check_frame(tokenizer: Tokenizer) -> None:
    """Raises `ValueError` unless tokenizer.json, too, puts [CLS] and [SEP] around one text and two."""
    backend, cls, sep = tokenizer.backend, tokenizer.cls_id, tokenizer.sep_id
    first, second = backend.encode_batch(["a", "b"], add_special_tokens=False)
    one, two = backend.post_process(first), backend.post_process(first, second)
    framed = [cls, *first.ids, sep]
    segments = [0] * len(framed) + [1] * (len(second) + 1)
    if one.ids != framed or two.ids != [*framed, *second.ids, sep] or two.type_ids != segments:
        raise ValueError("it does not put [CLS] and [SEP] around texts as BERT does")
