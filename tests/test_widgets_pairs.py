"""NextSentence and SentencePair without a browser: their numbers beside transformers' own, their errors."""

import threading
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import transformers
from tiny import attends, close, our_bert

import workbench as wb
from workbench.attention import attention_between, record_attention
from workbench.checkpoint import data_folder
from workbench.text import place_cls
from workbench.widgets import NextSentence, SentencePair
from workbench.widgets.samples import NEXT_SENTENCES, SAME_TOPIC, SENTENCE_PAIRS

FIRST, SECOND = "the cat sat on a matx.", "she drank red tea!"
HEADS = ("mlm", "nsp", "sentiment")


@pytest.fixture(scope="module")
def bert() -> wb.Bert:
    return our_bert(*HEADS)


@pytest.fixture(scope="module")
def roomy() -> wb.Bert:
    """Reads longer texts than the 40 tokens of `bert`."""
    return our_bert(*HEADS, max_position_embeddings=128)


@pytest.fixture(scope="module")
def folder(bert: wb.Bert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    wb.save_checkpoint(bert, folder)
    return folder


def pair(bert: wb.Bert, first: str = FIRST, second: str = SECOND, **options: object) -> SentencePair:
    return SentencePair(bert, first, second, head="sentiment", **options)


# --- the tasks -----------------------------------------------------------------------------------


def test_without_new_positions_moving_changes_nothing(bert: wb.Bert) -> None:
    for widget in (
        NextSentence(bert, FIRST, SECOND, cls_at=place, positions="stay") for place in ("middle", "end")
    ):
        assert widget.is_next == pytest.approx(widget.at_front, abs=1e-5)
        assert widget.at_front == pytest.approx(wb.next_sentence(bert, FIRST, SECOND).is_next, abs=1e-6)
    assert abs(NextSentence(bert, FIRST, SECOND, cls_at="end").is_next - widget.at_front) > 1e-4


@pytest.mark.parametrize("place", ["front", "middle", "end"])
@pytest.mark.parametrize("positions", ["follow", "stay"])
@torch.no_grad()
def test_next_sentence_is_theirs(bert: wb.Bert, folder: Path, place: str, positions: str) -> None:
    widget = NextSentence(bert, FIRST, SECOND, cls_at=place, positions=positions, attention_layer=2)
    theirs = transformers.BertForNextSentencePrediction.from_pretrained(folder, attn_implementation="eager")
    theirs.eval()
    moved, ids, at = place_cls(bert.tokenizer.encode(FIRST, SECOND), place, positions)
    output = theirs.bert(**moved.tensors(), position_ids=ids, output_attentions=True)
    logits = theirs.cls(theirs.bert.pooler(output.last_hidden_state.roll(-at, dims=1)))
    assert widget.is_next == pytest.approx(float(logits[0].softmax(-1)[0]), abs=1e-5)
    logits = theirs.cls(theirs.bert.pooler(output.last_hidden_state))  # reads the first of the row
    assert widget.of_first == pytest.approx(float(logits[0].softmax(-1)[0]), abs=1e-5)
    row = torch.tensor(np.frombuffer(widget.weights, np.float16).astype(np.float32))
    close(row, output.attentions[2][0, :, at].mean(0), 1e-3)
    assert float(row.min()) > 0, "attention reaches every token wherever [CLS] stands"
    assert [token["position"] for token in widget.tokens] == ids[0].tolist()
    assert [token["id"] for token in widget.tokens] == moved.tensors()["input_ids"][0].tolist()


@torch.no_grad()
def test_pair_classes_and_lines_are_theirs(tmp_path: Path) -> None:
    bert = our_bert("sentiment")
    wb.save_checkpoint(bert, tmp_path)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager")
    theirs.eval()
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path)(FIRST, SECOND, return_tensors="pt")
    output = theirs(**inputs, output_attentions=True)
    widget = pair(bert, attention_layer=1, attention_head=3)
    wanted = dict(zip(bert.heads["sentiment"].labels, output.logits[0].softmax(-1).tolist(), strict=True))
    assert {label: now for label, now, _ in widget.classes} == pytest.approx(wanted, abs=1e-5)
    # [CLS] the cat sat on a mat ##x . [SEP] ...: "matx" may fall into several pieces, one word.
    words = [word["text"] for word in widget.words if not word["special"]]
    assert words == [*FIRST[:-1].split(), ".", *SECOND[:-1].split(), "!"]
    encoding = bert.tokenizer.encode(FIRST, SECOND)
    weights = np.frombuffer(widget.weights, np.float16).reshape(5, 7)  # hypothesis looks at premise
    maps = output.attentions[1][0, 3]
    tokens = [(token.segment, token.word) for token in encoding.tokens]
    for i in range(5):
        for j in range(7):
            rows = [at for at, key in enumerate(tokens) if key == (1, i)]
            columns = [at for at, key in enumerate(tokens) if key == (0, j)]
            mean = maps[rows][:, columns].sum(-1).mean()
            assert float(weights[i, j]) == pytest.approx(float(mean), abs=1e-3)
    widget.direction = "premise"
    assert np.frombuffer(widget.weights, np.float16).size == 35
    turned = np.frombuffer(widget.weights, np.float16).reshape(7, 5)
    assert float(turned[0, 0]) == pytest.approx(
        float(maps[1, next(at for at, key in enumerate(tokens) if key == (1, 0))]), abs=1e-3
    )


@pytest.mark.parametrize("direction", ["hypothesis", "premise"])
def test_lines_between_words_of_several_pieces(bert: wb.Bert, direction: str) -> None:
    """All that is paid to a word's pieces, on average over the pieces that look."""
    maps = attends(bert := our_bert(*HEADS), 12)[2, 1]
    # [CLS] the mat ##x sat [SEP] a cat ##x ran on [SEP]
    first, second = [[1], [2, 3], [4]], [[6], [7, 8], [9], [10]]
    options = {"attention_layer": 2, "attention_head": 1, "direction": direction}
    widget = pair(bert, "the matx sat", "a catx ran on", **options)
    looking, looked_at = (second, first) if direction == "hypothesis" else (first, second)
    known = [[maps[one][:, other].sum(-1).mean() for other in looked_at] for one in looking]
    shown = np.frombuffer(widget.weights, np.float16).reshape(len(looking), -1)
    np.testing.assert_allclose(shown, np.array(known), atol=1e-3)


# --- NextSentence --------------------------------------------------------------------------------


def test_swap_random_and_examples(roomy: wb.Bert) -> None:
    widget = NextSentence(roomy, FIRST, SECOND)
    widget._on_message(None, {"do": "swap"}, None)
    assert (widget.first, widget.second, widget.error) == (SECOND, FIRST, "")
    assert widget.is_next == pytest.approx(wb.next_sentence(roomy, SECOND, FIRST).is_next, abs=1e-6)
    seen = set()
    for _ in range(5):
        widget._on_message(None, {"do": "random second"}, None)
        seen.add(widget.second)
    assert len(seen) > 1 and seen <= {second for _, second in NEXT_SENTENCES}
    widget._on_message(None, {"do": "example", "index": 3}, None)
    assert (widget.first, widget.second) == NEXT_SENTENCES[3]
    assert widget.examples[3] == NEXT_SENTENCES[3][0]


@pytest.mark.parametrize("same_topic", [True, False])
def test_the_game(roomy: wb.Bert, same_topic: bool) -> None:
    widget = NextSentence(roomy, FIRST, SECOND)
    widget._on_message(None, {"do": "play", "same_topic": same_topic}, None)
    truths, bert_right = [], 0
    for number in range(1, 11):
        game = widget.game
        assert (game["round"], game["rounds"]) == (number, 10)
        assert "truth" not in game and "model" not in game, "the answer is not given away"
        known = (game["first"], game["second"]) in NEXT_SENTENCES
        topic = SAME_TOPIC[[first for first, _ in NEXT_SENTENCES].index(game["first"])]
        assert known or (game["second"] == topic) == same_topic
        widget._on_message(None, {"do": "guess", "is_next": known}, None)
        assert widget.game["truth"] == known and widget.game["you"] == number
        model = wb.next_sentence(roomy, game["first"], game["second"]).is_next
        assert widget.game["model"] == pytest.approx(model, abs=1e-4)
        bert_right += (model > 0.5) == known
        assert widget.game["bert"] == bert_right
        widget.guess(not known)  # a second guess does not count
        assert widget.game["you"] == number
        truths.append(known)
        widget._on_message(None, {"do": "next round"}, None)
    assert widget.game["over"] and sum(truths) == 5
    widget._on_message(None, {"do": "stop"}, None)
    assert widget.game == {} and widget.error == ""


def test_layers_heads_and_rollout(bert: wb.Bert) -> None:
    widget = NextSentence(bert, FIRST, SECOND)
    rows = set()
    for layer, head in [(0, -1), (0, 1), (4, -1), (5, -1), (99, -1)]:
        widget.attention_layer, widget.attention_head = layer, head
        row = np.frombuffer(widget.weights, np.float16).astype(float)
        assert row.sum() == pytest.approx(1, abs=2e-3)
        rows.add(row.tobytes())
    assert len(rows) == 4, "a layer that is not there is the last one"
    between = np.frombuffer(widget.between, np.float16).reshape(5, 3, 3).astype(float)
    np.testing.assert_allclose(between.sum(-1), 1, atol=2e-3)
    encoding = bert.tokenizer.encode(FIRST, SECOND)  # with a word of two pieces
    with record_attention(bert) as attention, torch.inference_mode():
        bert(**encoding.tensors())
    for head in (-1, 2):
        widget.attention_head = head
        between = np.frombuffer(widget.between, np.float16).reshape(5, 3, 3)
        for layer in range(5):
            known = attention_between(attention[layer][0], encoding)
            np.testing.assert_allclose(between[layer], known.mean(0) if head < 0 else known[head], atol=1e-3)


# --- SentencePair --------------------------------------------------------------------------------


def test_ticks_stay_where_they_were_before_the_edit(bert: wb.Bert) -> None:
    widget = pair(bert)
    start = {label: now for label, now, _ in widget.classes}
    widget.editing = True
    for text in ("she drank red", "she drank", "she drank a dog"):
        widget.hypothesis = text
        assert {label: before for label, _, before in widget.classes} == start
    widget.editing = False
    last = {label: now for label, now, _ in widget.classes}
    widget.premise = "the dog"
    assert {label: before for label, _, before in widget.classes} == last


def test_a_pinned_word_stays_while_it_makes_sense(bert: wb.Bert) -> None:
    widget = pair(bert, pinned=2)
    assert widget.words[2]["text"] == "cat"
    widget.hypothesis = "a dog ran"
    assert widget.pinned == 2
    widget.premise = "the dog sat on a mat."
    assert widget.pinned == -1


def test_pairs_to_pick_and_swap(roomy: wb.Bert) -> None:
    widget = pair(roomy)
    widget._on_message(None, {"do": "example", "index": 9}, None)
    assert (widget.premise, widget.hypothesis) == SENTENCE_PAIRS[9][:2]
    widget._on_message(None, {"do": "swap"}, None)
    assert (widget.hypothesis, widget.premise) == SENTENCE_PAIRS[9][:2]
    assert widget.error == ""


# --- both ----------------------------------------------------------------------------------------

BAD = [
    ("", "empty"),
    (" \n\t ", "empty"),
    ("cat " * 5000, "shorten"),  # 20,000 characters
    ("\x00\x01\x02", "no word"),
    ("good \ud83d day", "half a character"),
]
KINDS = {
    "next sentence": (NextSentence, ("first", "second"), {}),
    "pair": (SentencePair, ("premise", "hypothesis"), {"head": "sentiment"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("text", "said"), BAD)
def test_bad_text_is_one_sentence_and_keeps_the_last_good_state(
    bert: wb.Bert, kind: str, side: int, text: str, said: str
) -> None:
    make, names, options = KINDS[kind]
    widget = make(bert, FIRST, SECOND, **options)
    shown = ("tokens", "is_next", "weights", "between") if kind == "next sentence" else ("words", "classes")
    before = [getattr(widget, name) for name in shown]
    setattr(widget, names[side], text)
    assert said in widget.error and "\n" not in widget.error
    assert [getattr(widget, name) for name in shown] == before
    setattr(widget, names[side], "the red cat")
    assert widget.error == "" and [getattr(widget, name) for name in shown] != before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (FIRST, FIRST.upper(), "the same"),
        ("中 שלום 中 שלום", "中 中", "not English"),
        ("die katze sitzt auf dem dach", "der hund schläft", "pieces"),
        (FIRST, SECOND, ""),
    ],
)
def test_odd_pairs_are_read_with_a_remark(
    roomy: wb.Bert, kind: str, first: str, second: str, said: str
) -> None:
    make, _, options = KINDS[kind]
    widget = make(roomy, first, second, **options)
    assert widget.error == "" and (said in widget.note if said else widget.note == "")


@pytest.mark.parametrize("kind", KINDS)
def test_missing_heads_and_wrong_options(bert: wb.Bert, kind: str) -> None:
    make, _, options = KINDS[kind]
    with pytest.raises(ValueError, match="no head '(nsp|nli)'.*mlm"):
        make(our_bert("mlm"), FIRST, SECOND)
    with pytest.raises(TypeError, match="no option 'frist'"):
        make(bert, FIRST, SECOND, frist="", **options)
    if kind == "pair":
        with pytest.raises(ValueError, match="no head .mlm. for this task"):
            make(bert, FIRST, SECOND, head="mlm")


@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_on_another_thread(bert: wb.Bert, kind: str) -> None:
    make, names, options = KINDS[kind]
    widget = make(bert, FIRST, SECOND, **options)
    texts = ["the cat", "a dog ran", "tea"]
    threads = [threading.Thread(target=setattr, args=(widget, names[0], text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert widget.error == "" and not any(layer.attention.watchers for layer in bert.encoder.layers)


def test_only_what_is_on_the_screen_crosses(roomy: wb.Bert) -> None:
    widget = pair(roomy, "the cat " * 25, "a dog " * 25)
    assert len(widget.weights) == 50 * 50 * 2, "one direction of one layer, float16"
    widget = NextSentence(roomy, "the cat " * 25, "a dog " * 25)
    assert len(widget.weights) == 103 * 2 and len(widget.between) == 5 * 9 * 2


def test_the_lists_are_what_they_claim() -> None:
    texts = [text for pair in NEXT_SENTENCES for text in pair] + SAME_TOPIC
    assert len(NEXT_SENTENCES) == len(SAME_TOPIC) >= 20 and len(set(texts)) == len(texts)
    assert len({pair[:2] for pair in SENTENCE_PAIRS}) == len(SENTENCE_PAIRS)
    assert {label for *_, label in SENTENCE_PAIRS} == set(wb.load_bert(device="cpu").heads["nli"].labels)


@pytest.mark.parametrize(
    "name", ["next_sentences", "sentence_pairs", "passages", "names", "pairs", "questions"]
)
def test_datasets_loads_what_ships(name: str, tmp_path: Path) -> None:
    file = data_folder() / f"{name}.jsonl"
    table = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert table.num_rows == len(file.read_text(encoding="utf-8").splitlines()) > 7
    for row in table if name in ("passages", "questions") else ():
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text


def test_attention_is_let_go_after_an_error(bert: wb.Bert) -> None:
    widget = NextSentence(bert, FIRST, SECOND)
    widget.first = "cat " * 500
    with record_attention(bert) as attention, torch.inference_mode():
        bert(**bert.tokenizer.encode(FIRST, SECOND).tensors())
    assert len(attention) == 5
