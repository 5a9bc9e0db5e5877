"""Text: the ids of transformers, the characters of the untouched input, masks, and windows."""

import json
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given, settings, strategies as st
from tiny import VOCABULARY, our_bert, write_vocabulary

import workbench as wb
from workbench.checkpoint import SHIPPED_BERT, shipped_checkpoints
from workbench.checkpoint.tokenizer import read_tokenizer, save_tokenizer
from workbench.text import (
    Encoding,
    Token,
    Tokenizer,
    mask_randomly,
    place_cls,
    visible_tokens,
    word_spans,
)

TEXTS = [
    "The cat sat on the mat.",
    "She didn't drink it -- did she?! (No...)",
    "  spaces\tand\nlines \u00a0 everywhere  ",
    "Café, naïve; crème brûlée: Ångström, São Paulo, Đorđe",
    "e\u0301 and a\u0308 with combining marks, o\u0302\u0323",
    "Straße STRASSE İstanbul ﬁne ½ ™ x²",
    "我爱北京, 東京タワー and 한국어",
    "שלום עולם, مرحبا بالعالم",
    "emoji 👍🏽 and 👨‍👩‍👧 and 🇩🇪!",
    "<script>alert('x')</script> &amp; <b>",
    "zero\u200bwidth, soft\u00adhyphen, bell\x07, nul\x00, replaced \ufffd",
    "unaffable antidisestablishmentarianism " + "x" * 120,
    "1,234.56 $ % ^ ` ~ | \\ / @ # _ user@example.com",
    "नमस्ते दुनिया ไทย ελληνικά кириллица Ёлка",
]


@pytest.fixture(scope="module")
def words() -> list[str]:
    """The 30,522 word pieces of bert-base-uncased, from the shipped checkpoint."""
    vocabulary = read_tokenizer(shipped_checkpoints()[SHIPPED_BERT]).backend.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


@pytest.fixture(scope="module")
def tokenizer(words: list[str]) -> Tokenizer:
    return Tokenizer.from_words(words)


SMALL = Tokenizer.from_words(VOCABULARY)


# --- the ids of transformers -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"do_lower_case": False}, {"strip_accents": False}], ids=str)
@pytest.mark.parametrize("saved_as", ["vocab.txt", "tokenizer.json"])
def test_ids_are_those_of_transformers(
    options: dict, saved_as: str, words: list[str], tmp_path: Path
) -> None:
    write_vocabulary(tmp_path, words)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer"} | options)
    )
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path, **options)
    if saved_as == "tokenizer.json":
        theirs.save_pretrained(tmp_path / "again")
        assert not (tmp_path / "again" / "vocab.txt").exists()
        ours = read_tokenizer(tmp_path / "again")
    else:
        ours = read_tokenizer(tmp_path)
    for text in TEXTS:
        assert [token.id for token in ours.encode(text).tokens] == theirs(text)["input_ids"], text
    for first, second in zip(TEXTS, TEXTS[1:], strict=False):
        encoding = ours.encode(first, second).tensors()
        expected = theirs(first, second)
        assert encoding["input_ids"][0].tolist() == expected["input_ids"]
        assert encoding["token_type_ids"][0].tolist() == expected["token_type_ids"]
    masked = "The [MASK] sat on the [MASK]."
    assert [token.id for token in ours.encode(masked).tokens] == theirs(masked)["input_ids"]


def test_cased_and_uncased_differ() -> None:
    cased = Tokenizer.from_words(VOCABULARY, lowercase=False)
    assert [token.text for token in cased.pieces("Cat cat Tea")] == ["Cat", "cat", "Tea"]
    assert [token.text for token in SMALL.pieces("Cat cat Tea")] == ["cat", "cat", "tea"]


def test_saved_and_read_again(tmp_path: Path) -> None:
    for options in ({}, {"lowercase": False}, {"strip_accents": False}, {"split_chinese": False}):
        before = Tokenizer.from_words(VOCABULARY, **options)
        save_tokenizer(before, tmp_path)
        after = read_tokenizer(tmp_path)
        for text in [*TEXTS, "[CLS] [MASK]", "Tea 中中 café"]:
            assert after.pieces(text) == before.pieces(text)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert theirs("The [MASK], Tea")["input_ids"] == [
            token.id for token in before.encode("The [MASK], Tea").tokens
        ]


def test_signs_that_the_tokenizer_drops_belong_to_their_word() -> None:
    """Vowel signs of Hindi and Thai, and what makes a heart red, have no class of combination."""
    tokenizer = Tokenizer.from_words([*VOCABULARY, "म", "ह", "ด", "❤"])
    for text in ("में हैं", "ดี", "❤\ufe0f the"):
        assert [text[token.start : token.end] for token in tokenizer.pieces(text)] == text.split()


def test_a_vocabulary_with_odd_lines(tmp_path: Path) -> None:
    """Characters that Python takes for the end of a line are words in some vocabularies."""
    write_vocabulary(tmp_path, [*VOCABULARY, "\u2028", "\x85", "last"])
    assert read_tokenizer(tmp_path).vocab_size == 102
    assert read_tokenizer(tmp_path).pieces("last")[0].id == 101


# --- characters --------------------------------------------------------------------------------


def check_offsets(text: str, tokens: list[Token]) -> None:
    end = 0
    for token in tokens:
        assert 0 <= token.start <= token.end <= len(text)
        assert token.start >= end or token.end == end  # pieces of one character share it
        end = max(end, token.end)
    words = [token.word for token in tokens]
    assert words == sorted(words)
    assert set(words) == set(range(max(words) + 1))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=400, deadline=None)
def test_offsets_in_any_text(text: str) -> None:
    try:
        tokens = SMALL.pieces(text)
    except ValueError as error:
        assert str(error).endswith((".", "again.", "word.", "?)."))
        readable = [c for c in text if not c.isspace() and unicodedata.category(c)[0] not in "CM"]
        assert not [c for c in readable if c != "\ufffd"], repr(text)
        return
    check_offsets(text, tokens)


@given(st.lists(st.sampled_from([*"abcxyz", "cat", "tea", "dogs", "Red", "sat", "matte"]), min_size=1))
def test_plain_words_are_their_slices(words: list[str]) -> None:
    text = " ".join(words)
    tokens = SMALL.pieces(text)
    spans = {}
    for token in tokens:
        start = spans.get(token.word, (token.start,))[0]
        spans[token.word] = (start, token.end)
    assert [text[start:end] for start, end in spans.values()] == words
    for token in tokens:
        assert text[token.start : token.end].lower() == token.text.removeprefix("##")


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_of_odd_texts(text: str, tokenizer: Tokenizer) -> None:
    tokens = tokenizer.pieces(text)
    check_offsets(text, tokens)
    for token in tokens:  # each piece is what BERT makes of its characters
        piece = token.text.removeprefix("##")
        characters = unicodedata.normalize("NFD", text[token.start : token.end].lower())
        characters = "".join(c for c in characters if unicodedata.category(c) != "Mn")
        if piece != "[UNK]" and piece.isascii():
            assert piece in characters, (token, characters)


@pytest.mark.parametrize(
    ("text", "word", "piece"),
    [
        ("a café, tea", "café", "cafe"),
        ("a cafe\u0301, tea", "cafe\u0301", "cafe"),  # the mark is a character of its own
        ("👍🏽 tea", "tea", "tea"),
        ("👨‍👩‍👧 red, 👍 tea", "tea", "tea"),
        ("a中b", "中", "中"),
        ("the שלום red", "שלום", "שלום"),
        ("  \t tea", "tea", "tea"),
        ("\x00\x01 tea", "tea", "tea"),
    ],
)
def test_words_behind_odd_characters(text: str, word: str, piece: str) -> None:
    token = next(token for token in SMALL.pieces(text) if token.text == piece)
    assert text[token.start : token.end].startswith(word)
    assert len(text[token.start : token.end]) <= len(word) + 1


@pytest.mark.parametrize("text", ["a café, tea", "a cafe\u0301, tea"])
@pytest.mark.parametrize("word", ["café", "cafe\u0301"])
def test_an_accent_is_part_of_its_word(text: str, word: str) -> None:
    ((start, end),) = word_spans(text, word)
    assert text[end:] == ", tea" and SMALL.encode(text, masks=[word]).masks == [2]
    assert [text[each.start : each.end] for each in SMALL.encode(text).words][2] == text[start:end]


@pytest.mark.parametrize(
    ("text", "word", "start"),
    [
        ("The cat sat.", ".", 11),
        ("Well, yes.", ",", 4),
        ("What?!", "?", 4),
        ("50% off", "%", 2),
        ("a snake_case", "snake", 2),
        ("我爱你", "爱", 1),
        ("concatenate a cat, C++", "cat", 14),
        ("C++ and C", "C", 0),
        ("uncat a_cat", "cat", 8),
    ],
)
def test_what_bert_sets_apart_stands_by_itself(text: str, word: str, start: int) -> None:
    assert word_spans(text, word) == [(start, start + len(word))]


def test_segments_have_their_own_characters() -> None:
    encoding = SMALL.encode("the cat", "a red dog")
    assert [token.text for token in encoding.tokens] == [
        *("[CLS]", "the", "cat", "[SEP]"),
        *("a", "red", "dog", "[SEP]"),
    ]
    assert [token.segment for token in encoding.tokens] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [(token.start, token.end) for token in encoding.tokens[4:7]] == [(0, 1), (2, 5), (6, 9)]
    assert [token.word for token in encoding.tokens] == [None, 0, 1, None, 0, 1, 2, None]


def test_typed_special_tokens_are_text() -> None:
    pieces = SMALL.pieces("[CLS] tea [SEP] [PAD]")
    assert [token.text for token in pieces[:4]] == ["[", "c", "##l", "##s"]
    assert not {SMALL.cls_id, SMALL.sep_id, SMALL.pad_id} & {token.id for token in pieces}
    assert len(SMALL.encode("tea [SEP] cat").masks) == 0


def test_typed_masks() -> None:
    text = "the [MASK][MASK] on [mask]a[MASK]"
    tokens = SMALL.pieces(text)
    masks = [token for token in tokens if token.masked]
    assert [(token.start, token.end) for token in masks] == [(4, 10), (10, 16), (27, 33)]
    assert all(token.id == SMALL.mask_id and token.original_id is None for token in masks)
    check_offsets(text, tokens)
    for token in tokens:
        if not token.masked:
            assert text[token.start : token.end] == token.text.removeprefix("##")


# --- texts that cannot be read -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: type at least one word"),
        ("  \t\n\u00a0\u2003", "is empty"),
        ("\x00\x01\x1b", "no word that the tokenizer can read"),
        ("\u200b\ufeff\u00ad", "no word that the tokenizer can read"),
        ("fine \ud83d half", r"half a character \(a lone surrogate\) at position 5"),
        ("\udfff", "lone surrogate"),
        (None, "must be a string, not NoneType"),
        (b"bytes", "must be a string, not bytes"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        SMALL.encode(text)
    assert "\n" not in str(caught.value)
    if isinstance(text, str) and text:
        with pytest.raises(ValueError, match="second text"):
            SMALL.encode("fine", text)


def test_a_hundred_thousand_characters(tokenizer: Tokenizer) -> None:
    text = ("The naïve cat sat, on the [MASK]. " * 3000)[:100_000]
    tokens = tokenizer.pieces(text)
    check_offsets(text, tokens)
    assert sum(token.masked for token in tokens) == text.count("[MASK]")
    with pytest.raises(ValueError, match=r"has 26,\d+ word pieces; this checkpoint reads 512 at once"):
        tokenizer.encode(text)
    assert [token.text for token in tokenizer.pieces("x" * 100_000)] == ["[UNK]"]


def test_a_tokenizer_without_its_special_tokens() -> None:
    for missing in ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"):
        with pytest.raises(ValueError, match=rf"no \{missing[:-1]}\] token"):
            Tokenizer.from_words([word for word in VOCABULARY if word != missing])


# --- masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "masked"),
    [
        ([], []),
        ([(4, 7)], [1]),
        ([(0, 3), (12, 13)], [0, 3]),
        ([(5, 6)], [1]),  # inside a word
        ([(6, 9)], [1, 2]),  # over the edge of two
        ([(3, 4)], []),  # the space between
        ([(0, 99)], [0, 1, 2, 3, 4]),
        ([(7, 7), (99, 200)], []),
    ],
    ids=str,
)
def test_spans_of_characters(spans: list, masked: list) -> None:
    text = "the cat sat onx"  # "onx" is "on", "##x"
    tokens = SMALL.mask_spans(SMALL.pieces(text), spans)
    assert [index for index, token in enumerate(tokens) if token.masked] == masked
    before = SMALL.pieces(text)
    for index, token in enumerate(tokens):
        if index in masked:
            assert (token.id, token.text) == (SMALL.mask_id, "[MASK]")
            assert token.original_id == before[index].id
            assert (token.start, token.end, token.word) == (
                before[index].start,
                before[index].end,
                before[index].word,
            )
        else:
            assert token == before[index]
    assert [t.id for t in SMALL.encode(text, masks=spans).tokens[1:-1]] == [t.id for t in tokens]


def test_spans_with_other_actions() -> None:
    pieces = SMALL.pieces("the cat sat on a mat")
    tokens = SMALL.mask_spans(pieces, [(0, 3, "keep"), (4, 7, "random"), (8, 11, "mask")], seed=3)
    assert [token.masked for token in tokens] == [True, True, True, False, False, False]
    assert tokens[0].id == pieces[0].id == tokens[0].original_id
    assert tokens[1].id in SMALL.random_ids().tolist()
    assert tokens[1].text == SMALL.word_piece(tokens[1].id)
    assert tokens[1].original_id == pieces[1].id
    assert tokens[2].id == SMALL.mask_id
    assert tokens == SMALL.mask_spans(pieces, [(0, 3, "keep"), (4, 7, "random"), (8, 11, "mask")], seed=3)
    words = {SMALL.mask_spans(pieces, [(4, 7, "random")], seed=seed)[1].id for seed in range(20)}
    assert len(words) > 5


def test_a_typed_mask_stays_one() -> None:
    tokens = SMALL.mask_spans(SMALL.pieces("the [MASK] sat"), [(0, 99)])
    assert [token.original_id is None for token in tokens] == [False, True, False]


def test_random_ids_are_ordinary_word_pieces(tokenizer: Tokenizer) -> None:
    ids = tokenizer.random_ids()
    assert ids.dtype == torch.long
    pieces = [tokenizer.word_piece(token_id) for token_id in ids]
    assert not [piece for piece in pieces if piece.startswith("[")]
    assert len(pieces) > 29_000
    assert tokenizer.word_piece(10**6) == "[UNK]"


def test_words_chosen_at_random_are_whole() -> None:
    text = "the catsxx sat on redxyz tea " * 20
    pieces = SMALL.pieces(text)
    spans = SMALL.choose_spans(pieces, seed=1)
    assert spans == SMALL.choose_spans(pieces, seed=1) != SMALL.choose_spans(pieces, seed=2)
    assert {action for *_, action in spans} <= {"mask", "random", "keep"}
    by_word = {}
    for token in pieces:
        start = by_word.get(token.word, (token.start,))[0]
        by_word[token.word] = (start, token.end)
    assert all((start, end) in by_word.values() for start, end, _ in spans)
    chosen = sum(token.masked for token in SMALL.mask_spans(pieces, spans))
    assert 0.15 * len(pieces) - 1 <= chosen <= 0.15 * len(pieces) + 4
    assert SMALL.choose_spans(SMALL.pieces("[MASK] [MASK]"), seed=0) == []


class TestMaskingRule:
    def draw(self, rows: int, tokens: int, seed: int = 0, **options: object) -> tuple:
        ids = torch.randint(1000, 2000, (rows, tokens))
        maskable = torch.ones(rows, tokens, dtype=torch.bool)
        maskable[:, [0, -1]] = False
        random_ids = torch.arange(5000, 6000)
        generator = torch.Generator().manual_seed(seed)
        masked, action = mask_randomly(ids, maskable, 4, random_ids, generator, **options)
        return ids, maskable, SimpleNamespace(input_ids=masked, action=action, chosen=action > 0)

    def test_shares(self) -> None:
        """500 x 200 tokens: 15,000 chosen; 80 % and 10 % to within five standard deviations."""
        ids, maskable, masking = self.draw(500, 202)
        assert masking.chosen.sum(1).tolist() == [30] * 500
        assert not (masking.chosen & ~maskable).any()
        counts = masking.action.flatten().bincount()
        assert counts[1:].sum() == 15_000
        for action, share in ((1, 0.8), (2, 0.1), (3, 0.1)):
            deviation = (share * (1 - share) / 15_000) ** 0.5
            assert abs(counts[action] / 15_000 - share) < 5 * deviation
        assert (masking.input_ids[masking.action == 1] == 4).all()
        random = masking.input_ids[masking.action == 2]
        assert ((random >= 5000) & (random < 6000)).all()
        assert len(random.unique()) > 700
        for untouched in (0, 3):
            assert torch.equal(
                masking.input_ids[masking.action == untouched], ids[masking.action == untouched]
            )
        # Every place is chosen about as often: 75 times of 500, to five deviations.
        places = masking.chosen.sum(0)[1:-1]
        assert (places - 75).abs().max() < 5 * (500 * 0.15 * 0.85) ** 0.5

    def test_the_seed_repeats(self) -> None:
        ids, maskable, first = self.draw(4, 50, seed=7)
        again = mask_randomly(ids, maskable, 4, torch.arange(5000, 6000), torch.Generator().manual_seed(7))
        assert torch.equal(first.input_ids, again[0])
        assert torch.equal(first.action, again[1])
        other = mask_randomly(ids, maskable, 4, torch.arange(5000, 6000), torch.Generator().manual_seed(8))
        assert not torch.equal(first.action, other[1])

    def test_at_least_one_in_each_row(self) -> None:
        _, maskable, masking = self.draw(50, 4)
        assert masking.chosen.sum(1).tolist() == [1] * 50

    def test_a_row_with_nothing_to_choose(self) -> None:
        _, _, masking = self.draw(3, 2)
        assert not masking.chosen.any()

    def test_whole_words_go_together(self) -> None:
        words = torch.arange(50).repeat_interleave(4)[None].expand(20, -1)
        _, maskable, masking = self.draw(20, 200, words=words)
        assert masking.chosen.any()
        for word in range(50):
            inside = (words == word) & maskable
            for row in range(20):
                assert len(masking.action[row][inside[row]].unique()) == 1
        # Words, not tokens, are counted out: the last one may go over by its length.
        assert ((masking.chosen.sum(1) >= 30) & (masking.chosen.sum(1) <= 33)).all()


# --- windows and batches -----------------------------------------------------------------------


@given(
    count=st.integers(1, 80),
    max_length=st.integers(5, 30),
    stride=st.integers(0, 12),
    question=st.integers(0, 4),
)
def test_windows_cover_everything(count: int, max_length: int, stride: int, question: int) -> None:
    tokens = [
        Token(id=100 + index, text="x", start=index, end=index + 1, word=index) for index in range(count)
    ]
    asked = [Token(id=50, text="q", word=0)] * question
    room = max_length - 2 - (question + 1 if question else 0)
    if room < 1:
        with pytest.raises(ValueError, match="leave no room"):
            SMALL.windows(tokens, max_length, asked, stride)
        return
    windows, starts, own = zip(*SMALL.windows(tokens, max_length, asked, stride), strict=True)
    stride = min(stride, room // 2)
    parts = [[token for token in window.tokens if token.id >= 100] for window in windows]
    assert [100 + start for start in starts] == [part[0].id for part in parts]
    assert [index for each in own for index in each] == list(range(count)), "each is answered for once"
    for part, each in zip(parts, own, strict=True):
        assert {100 + index for index in each} <= {token.id for token in part}
    assert all(len(window) <= max_length for window in windows)
    assert [token.id for token in parts[0]][:room] == list(range(100, 100 + min(count, room)))
    for left, right in zip(parts, parts[1:], strict=False):
        assert len(left) == room  # all but the last are full
        assert [token.id for token in left][room - stride :] == [token.id for token in right][:stride]
        assert len(right) > stride  # each brings something new
    covered = {token.id for part in parts for token in part}
    assert covered == set(range(100, 100 + count))
    for window in windows:
        start = [SMALL.cls_id] + ([50] * question + [SMALL.sep_id] if question else [])
        assert [token.id for token in window.tokens][: len(start)] == start
        assert window.tokens[-1].id == SMALL.sep_id


def test_an_encoding_knows_its_masks() -> None:
    encoding = SMALL.encode("the [MASK] sat", masks=[(11, 14)])
    assert encoding.masks == [2, 3]
    assert len(encoding) == 5
    assert isinstance(encoding, Encoding)


def test_an_unknown_action_is_refused(tokenizer):
    with pytest.raises(ValueError, match="'mask', 'random' or 'keep', not 'blank'"):
        tokenizer.mask_spans(tokenizer.pieces("a cat"), [(0, 1, "blank")])


# --- what is visible, and where [CLS] stands ---------------------------------------------------


def test_one_side_can_be_hidden() -> None:
    bert = our_bert("mlm")
    encoding = bert.tokenizer.encode("the cat [MASK] on tea")  # [CLS] the cat [MASK] on tea [SEP]
    sides = {
        "nothing": [True] * 7,
        "left": [True, False, False, True, True, True, True],
        "right": [True, True, True, True, False, False, True],
    }
    for hide, visible in sides.items():
        mask = visible_tokens(encoding, hide, 3)
        assert mask.tolist() == [visible]
        with wb.record_attention(bert) as attention:
            bert(**encoding.tensors(), attention_mask=mask)
        assert (attention[0][0, :, :, ~mask[0]] == 0).all()


@pytest.mark.parametrize(("place", "index"), [("front", 0), ("middle", 9), ("end", 15)])
@pytest.mark.parametrize("positions", ["follow", "stay"])
def test_moving_cls(place: str, index: int, positions: str) -> None:
    encoding = SMALL.encode("the cat sat on a matx.", "she drank red tea!")
    moved, ids, at = place_cls(encoding, place, positions)
    assert at == index and moved.tokens[at].text == "[CLS]"
    rest = [token for token in moved.tokens if token.text != "[CLS]"]
    assert rest == list(encoding.tokens[1:]), "only [CLS] moves"
    assert sorted(ids[0].tolist()) == list(range(len(encoding)))
    if positions == "follow":
        assert ids[0].tolist() == list(range(len(encoding)))
    else:
        assert [encoding.tokens[old] for old in ids[0].tolist()] == list(moved.tokens)
