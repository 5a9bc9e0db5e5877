"""MaskedFilling without a browser: its traits, its errors, and its still pictures."""

import resource
import threading

import numpy as np
import pytest
import torch
from tiny import attends, our_bert, refuses

import workbench as wb
from workbench.attention import record_attention
from workbench.encoder import MODEL_LOCK
from workbench.widgets import MaskedFilling, TokenTagger
from workbench.widgets.base import rounded, to_bytes, to_bytes8

TEXT = "She poured hot water into a cup of tea."


@pytest.fixture(scope="module")
def bert():
    return wb.load_bert(device="cpu")


def chips(widget):
    return [(word["text"], word["kind"]) for word in widget.words if word["kind"] not in ("word", "special")]


def test_guesses_are_those_of_fill_mask(bert):
    widget = MaskedFilling(bert, TEXT, masked=[(35, 38), (15, 20)], top_k=7)
    for card, guess in zip(
        widget.guesses["cards"], wb.fill_mask(bert, TEXT, 7, masks=[(15, 20), (35, 38)]), strict=True
    ):
        assert [label for label, *_ in card["candidates"]] == [
            candidate.label for candidate in guess.candidates
        ]
        assert card["rank"] == guess.rank
        assert card["probability"] == pytest.approx(guess.probability, abs=1e-5)
    assert chips(widget) == [("water", "mask"), ("tea", "mask")]
    for words in ("tea", ["tea"], [(35, 38)]):
        assert MaskedFilling(bert, TEXT, masked=words).masked == [(35, 38)]
    with pytest.raises(ValueError, match="does not hold the word 'te'"):
        MaskedFilling(bert, TEXT, masked=["te"])


def test_attention_crosses_as_float16_rows_that_sum_to_one(bert):
    widget = MaskedFilling(bert, TEXT, masked=[(15, 20)], attention_layer=2, attention_head=5)
    row = np.frombuffer(widget.weights, np.float16)
    encoding = bert.tokenizer.encode(TEXT, masks=[(15, 20)])
    with record_attention(bert, [2]) as attention, torch.inference_mode():
        bert(**encoding.tensors())
    np.testing.assert_allclose(row, attention[2][0, 5, encoding.masks[0]].numpy(), atol=1e-3)
    assert row.astype(float).sum() == pytest.approx(1, abs=2e-3)
    widget.attention_head = -1
    np.testing.assert_allclose(
        np.frombuffer(widget.weights, np.float16),
        attention[2][0, :, encoding.masks[0]].mean(0).numpy(),
        atol=1e-3,
    )


def test_layers_and_hidden_sides(bert):
    widget = MaskedFilling(bert, TEXT, masked=[(35, 38)], stage="layer")
    encoding = bert.tokenizer.encode(TEXT, masks=[(35, 38)])
    with torch.inference_mode():
        states = torch.stack(bert(**encoding.tensors()))[:, 0, encoding.masks[0]]
        best = bert.answers("mlm", states).max(-1)
    labels = [bert.tokenizer.word_piece(index) for index in best.indices]
    assert [label for label, _ in widget.drawer["by_layer"]] == labels
    assert [answer for _, answer in widget.drawer["by_layer"]] == pytest.approx(
        best.values.tolist(), abs=1e-4
    )
    last = widget.guesses["cards"][0]["candidates"][0]
    assert widget.drawer["by_layer"][-1] == [last[0], pytest.approx(last[1], abs=1e-3)]
    widget.layer = 0
    assert widget.guesses["cards"][0]["candidates"][0][0] == widget.drawer["by_layer"][0][0]
    widget.stage = ""
    assert widget.guesses["cards"][0]["candidates"][0] == last, "a closed stage changes no guess"
    widget.layer, widget.hide = -1, "left"
    assert [word["text"] for word in widget.words if word.get("hidden")] == TEXT.split()[:-1]
    hidden = widget.guesses["cards"][0]["candidates"]
    assert hidden[0][1] != hidden[0][2], "probability now, and with nothing hidden"
    assert np.frombuffer(widget.weights, np.float16)[1] == 0, "no attention to hidden words"


def test_masks_stay_with_their_words_while_the_text_changes(bert):
    widget = MaskedFilling(bert, TEXT, masked=[(0, 3), (15, 20), (35, 38)])
    widget.text = "She slowly poured hot water into a cup of tea."
    assert [word["text"] for word in widget.words if word["kind"] == "mask"] == ["She", "water", "tea"]
    widget.text = "She slowly poured hot milk into a cup of tea."
    assert [word["text"] for word in widget.words if word["kind"] == "mask"] == ["She", "tea"]


@pytest.mark.parametrize("odd", [[[0]], [["a", "b"]], [[None, 1]], [[0.5, 2]], [3], ["ab"], [[0, 4, "odd"]]])
@pytest.mark.parametrize("text", [TEXT, "", "Another one."])
def test_odd_masks_are_one_sentence(bert, odd, text):
    """Also after a text that could not be read: the masks are moved from the one before it."""
    widget = MaskedFilling(bert, TEXT)
    widget.set_state({"text": text})
    widget.set_state({"masked": odd})
    assert widget.error.endswith(".") and "Something went wrong" not in widget.error
    assert widget.masked == []


def test_random_masking_is_repeatable_and_names_what_it_did(bert):
    text = " ".join(["The cat sat on the mat and looked at the moon."] * 8)
    widget = MaskedFilling(bert, text)
    widget.mask_at_random(seed=7)
    first, words = widget.masked, widget.words
    widget.mask_at_random(seed=8)
    assert widget.masked != first
    widget.mask_at_random(seed=7)
    assert widget.masked == first and widget.words == words
    assert {action for *_, action in first} == {"mask", "random", "keep"}
    random = next(word for word in words if word["kind"] == "random")
    assert "".join(random["pieces"]) != random["text"].lower()
    assert widget.guesses["count"] == len(first), "also words that were left as they are have to be guessed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("x " * 50_000, "shorten"),
        ("\x00\x01\x02", "no word"),
        ("good \ud83d day", "half a character"),
    ],
)
def test_bad_text_is_one_sentence_and_keeps_the_last_good_state(bert, text, said):
    widget = MaskedFilling(bert, TEXT, masked=[(35, 38)])
    guesses, words = widget.guesses, widget.words
    widget.text = text
    assert said in widget.error and "\n" not in widget.error
    assert widget.guesses == guesses and widget.words == words
    widget.text = "Fine again."
    assert widget.error == "" and widget.words[1]["text"] == "Fine"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[CLS] a [SEP] b",
        "[MASK]",
        "日本語 مرحبا é 👩‍👩‍👧 e\u0301",
        "[MASK] " * 510,
    ],
)
def test_odd_text_is_read(bert, text):
    widget = MaskedFilling(bert, text)
    assert widget.error == "" and len(widget.words) >= 3
    assert widget.guesses["count"] == text.count("[MASK]")
    assert len(widget.guesses["cards"]) <= 6
    widget._repr_mimebundle_()


def test_long_text_stays_small_on_the_wire(bert):
    widget = MaskedFilling(bert, "word " * 510, masked=[(0, 4)])
    sent = widget.get_state()
    assert len(str({name: value for name, value in sent.items() if not name.startswith("_")})) < 100_000
    assert len(widget.weights) == 512 * 2


def test_pages_of_masks():
    bert = our_bert("mlm")
    maps = attends(bert, 22)
    widget = MaskedFilling(bert, "[MASK] " * 20, pinned=13, attention_layer=3, attention_head=1)
    assert (widget.guesses["count"], widget.guesses["first"], len(widget.guesses["cards"])) == (20, 12, 6)
    assert [card["word"] for card in widget.guesses["cards"]] == list(range(13, 19))
    rows = np.frombuffer(widget.weights, np.float16).reshape(6, 22)
    np.testing.assert_allclose(rows, maps[3, 1, 13:19], atol=1e-3)


def test_attention_to_a_word_is_that_to_all_its_pieces():
    bert = our_bert("mlm")
    maps = attends(bert, 9)  # [CLS] the mat ##x sat on cat ##x [SEP]
    widget = MaskedFilling(
        bert, "the matx sat on catx", masked=[(9, 12)], attention_layer=1, attention_head=2
    )
    words = [[0], [1], [2, 3], [4], [5], [6, 7], [8]]
    known = [float(maps[1, 2, 4, word].sum()) for word in words]
    np.testing.assert_allclose(np.frombuffer(widget.weights, np.float16), known, atol=1e-3)


def test_wrong_options_and_missing_head(bert):
    with pytest.raises(TypeError, match="no option 'maskd'.*masked"):
        MaskedFilling(bert, TEXT, maskd=[])
    bare = wb.Bert(
        wb.BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8)
    )
    with pytest.raises(ValueError, match="no head 'mlm'"):
        MaskedFilling(bare, TEXT)


def test_an_unexpected_error_becomes_a_sentence(bert, monkeypatch):
    widget = MaskedFilling(bert, TEXT)
    monkeypatch.setattr(MaskedFilling, "_words", lambda *_: 1 / 0)
    widget.masked = [(0, 3)]
    assert "Something went wrong" in widget.error


def test_callbacks_on_another_thread(bert):
    widget = MaskedFilling(bert, TEXT)
    threads = [threading.Thread(target=setattr, args=(widget, "masked", [(a, a + 1)])) for a in (0, 4, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert widget.error == "" and widget.guesses["count"] == 1
    assert MODEL_LOCK.acquire(timeout=1)
    MODEL_LOCK.release()
    assert not any(layer.attention.watchers for layer in bert.encoder.layers)


def test_what_cannot_be_saved_is_a_sentence_and_leaves_what_was_there(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(MaskedFilling, "rehearse", lambda _: [])  # takes long, and has nothing to do with it
    widget = MaskedFilling(bert, TEXT, masked=[(35, 38)])
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "page.html").write_text("before")
    for name in ("folder.html", "none/page.html", "page.html/page.html"):
        refuses(lambda name=name: widget.save(tmp_path / name), "could not be written", OSError)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as if the disk were full
    try:
        refuses(lambda: widget.save(tmp_path / "page.html"), "could not be written", OSError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "page.html").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"folder.html", "page.html"}


def test_saved_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    MaskedFilling(our_bert("mlm"), "the cat").save("~/page.html")
    assert (tmp_path / "page.html").is_file()


NEARLY = torch.tensor([0.0, 1e-9, 0.3, 1 - 6e-8, 1.0])


def test_only_what_is_0_or_100_percent_crosses_as_such(bert):
    half = np.frombuffer(to_bytes(NEARLY), np.float16)
    crossed = {"list": rounded(NEARLY), "float16": half, "8 bits": np.frombuffer(to_bytes8(NEARLY), np.uint8)}
    for way, numbers in crossed.items():
        assert [bool(number) for number in numbers] == [False, True, True, True, True], way
    for way in ("list", "float16"):
        assert [number == 1 for number in crossed[way]] == [False, False, False, False, True], way
    np.testing.assert_allclose(half, NEARLY, atol=6e-4)
    tagger = TokenTagger(bert, "They walk home.", pinned=1, stage="head")  # one class has nearly all
    answers = bert.answers("pos", bert(**bert.tokenizer.encode(tagger.text).tensors())[-1])[0, 2]
    shown = {name: answer for _, name, _, answer in tagger.drawer["rows"]}
    assert answers.min() < 1e-6 and all(0 < answer < 1 for answer in shown.values()), shown


def test_small_weights_survive_8_bits(bert):
    weights = torch.tensor([0.9, 0.09, 0.009, 0.0009, 0.0])
    shares = (np.frombuffer(to_bytes8(weights), np.uint8) / 255) ** 2
    np.testing.assert_allclose(0.9 * shares, weights, rtol=0.06)
