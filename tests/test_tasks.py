"""What a user asks, beside the same computed with transformers; long, odd and impossible inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny import close, hf_vit, our_bert, our_vit, saved

import workbench as wb
from workbench import widgets
from workbench.attention import habits
from workbench.explain import gradient_relevance, leave_one_out
from workbench.patches import word_vectors
from workbench.tasks import SpanWindow, best_spans, mask_guesses, span_windows, surest_window

ALL = ("mlm", "nsp", "span", "sentiment", "pos")


@pytest.fixture(scope="module")
def bert() -> wb.Bert:
    return our_bert(*ALL)


class Theirs:
    """Forms of transformers with the weights of `bert`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def __call__(self, form: str, *texts: str, **changes: Any) -> Any:
        model = getattr(transformers, form).from_pretrained(self.folder, **changes).eval()
        return model(**self.tokenizer(*texts, return_tensors="pt"))


@pytest.fixture(scope="module")
def theirs(bert: wb.Bert, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    folder = tmp_path_factory.mktemp("all")
    wb.save_checkpoint(bert, folder)
    return Theirs(folder)


def alone(bert: wb.Bert, head: str, folder: Path) -> Theirs:
    """A form of transformers with one of the heads, which is called a classifier there."""
    copy = our_bert(head)
    copy.load_state_dict({name: t for name, t in bert.state_dict().items() if name in copy.state_dict()})
    wb.save_checkpoint(copy, folder)
    return Theirs(folder)


# --- masks -------------------------------------------------------------------------------------


def test_fill_mask_is_theirs(bert: wb.Bert, theirs: Theirs) -> None:
    text = "the [MASK] sat on [MASK] mat"
    guesses = wb.fill_mask(bert, text, top_k=7)
    probabilities = theirs("BertForMaskedLM", text).logits[0].softmax(-1)
    assert [guess.position for guess in guesses] == [2, 5]
    assert [text[guess.start : guess.end] for guess in guesses] == ["[MASK]", "[MASK]"]
    for guess in guesses:
        best = probabilities[guess.position].topk(7)
        words = theirs.tokenizer.convert_ids_to_tokens(best.indices.tolist())
        assert [candidate.label for candidate in guess.candidates] == words
        close(torch.tensor([candidate.probability for candidate in guess.candidates]), best.values)
        assert guess.original is guess.rank is guess.probability is None


def test_spans_can_be_masked_as_well(bert: wb.Bert, theirs: Theirs) -> None:
    text = "the cat saw the catx"  # the same words twice; "catx" is two pieces
    guesses = wb.fill_mask(bert, text, masks=[(12, 20)])
    assert [(guess.start, guess.end) for guess in guesses] == [(12, 15), (16, 19), (19, 20)]
    assert [guess.original for guess in guesses] == ["the", "cat", "##x"]
    masked = theirs("BertForMaskedLM", "the cat saw [MASK] [MASK] [MASK]").logits[0].softmax(-1)
    for guess in guesses:
        row = masked[guess.position]
        true = row[theirs.tokenizer.convert_tokens_to_ids(guess.original)]
        assert guess.probability == pytest.approx(float(true), rel=1e-4)
        assert guess.rank == 1 + int((row > true).sum())
        if guess.rank <= 5:
            assert guess.candidates[guess.rank - 1].label == guess.original


def test_typed_masks_and_spans_together(bert: wb.Bert) -> None:
    guesses = wb.fill_mask(bert, "[MASK] cat [MASK]", masks=[(7, 10), (0, 6)])
    assert wb.fill_mask(bert, "[MASK] cat [MASK]", masks="cat") == guesses
    assert [guess.original for guess in guesses] == [None, "cat", None]
    assert [guess.position for guess in guesses] == [1, 2, 3]


@pytest.mark.parametrize("text", ["[MASK]", "[MASK][MASK]", " [MASK] ", "[MASK] " * 38])
def test_masks_and_nothing_else(bert: wb.Bert, text: str) -> None:
    guesses = wb.fill_mask(bert, text, top_k=200)
    assert len(guesses) == text.count("[MASK]")
    for guess in guesses:
        assert len(guess.candidates) == 99
        assert sum(candidate.probability for candidate in guess.candidates) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("count", [512, 40, 39, 38])
def test_many_masks(bert: wb.Bert, count: int) -> None:
    """This BERT reads 40 tokens at once."""
    guesses = wb.fill_mask(bert, "[MASK]" * count, top_k=1)
    assert [guess.position for guess in guesses] == list(range(1, count + 1))
    assert [guess.start for guess in guesses] == list(range(0, 6 * count, 6))


@pytest.mark.parametrize("length", [10, 38, 39, 57, 58, 76, 77, 200])
@pytest.mark.parametrize("every", [1, 3, 37])
def test_long_texts(bert: wb.Bert, length: int, every: int) -> None:
    """Every mask is guessed once, in order, and with context on both sides wherever there is some."""
    words = [f"word{index % 15}" for index in range(length)]
    masked = range(0, length, every)
    text = " ".join("[MASK]" if index in masked else word for index, word in enumerate(words))
    guesses = wb.fill_mask(bert, text, top_k=3)
    assert [guess.position for guess in guesses] == [index + 1 for index in masked]
    assert all(text[guess.start : guess.end] == "[MASK]" for guess in guesses)
    tokens = bert.tokenizer.pieces(text)
    if length <= 38:
        encoding = bert.tokenizer.encode(text)
        with torch.inference_mode():
            direct = mask_guesses(bert, encoding, bert(**encoding.tensors())[-1], 3)
        assert guesses == direct
        return
    for guess in guesses:  # it comes from a window of 38 tokens in which the mask does not lie at an edge
        index = guess.position - 1
        found = False
        for start in range(0, length, 19):  # windows share half of their tokens
            from_left, from_right = index - start, start + 37 - index
            if (
                (from_left >= 9 or start == 0)
                and (from_right >= 9 or start + 38 >= length)
                and from_left >= 0
            ):
                encoding = bert.tokenizer.pack(tokens[start : start + 38])
                with torch.inference_mode():
                    logits = bert.logits("mlm", bert(**encoding.tensors())[-1][0, from_left + 1])
                values = logits.softmax(-1).topk(3).values.tolist()
                found |= [c.probability for c in guess.candidates] == pytest.approx(values, rel=1e-4)
        assert found, guess.position


def test_a_hundred_thousand_characters(bert: wb.Bert) -> None:
    text = "the cat sat on a mat . " * 4300 + "[MASK]"
    guesses = wb.fill_mask(bert, text, top_k=1)
    assert len(guesses) == 1
    assert guesses[0].position == 4300 * 7 + 1
    assert (guesses[0].start, guesses[0].end) == (len(text) - 6, len(text))


# --- one or two texts --------------------------------------------------------------------------


def test_next_sentence_is_theirs(bert: wb.Bert, theirs: Theirs) -> None:
    first, second = "the cat sat.", "a dog ran on!"
    wanted = theirs("BertForNextSentencePrediction", first, second).logits[0].softmax(-1)[0]
    assert wb.next_sentence(bert, first, second).is_next == pytest.approx(float(wanted), rel=1e-4)
    other_way = wb.next_sentence(bert, second, first).is_next
    assert other_way != pytest.approx(float(wanted), rel=1e-3)


def test_classes_are_theirs(bert: wb.Bert, tmp_path: Path) -> None:
    theirs = alone(bert, "sentiment", tmp_path)
    for texts in (("the red cat",), ("the red cat", "was tea?")):
        row = theirs("BertForSequenceClassification", *texts).logits[0].softmax(-1).tolist()
        wanted = sorted(zip(row, ("bad", "so-so", "good"), strict=True), reverse=True)
        if len(texts) == 1:
            candidates = wb.classify_sentence(bert, *texts)
        else:
            candidates = wb.classify_pair(bert, *texts, head="sentiment")
        assert [candidate.label for candidate in candidates] == [label for _, label in wanted]
        assert [c.probability for c in candidates] == pytest.approx([p for p, _ in wanted], rel=1e-4)


def test_tags_are_theirs(bert: wb.Bert, tmp_path: Path) -> None:
    theirs = alone(bert, "pos", tmp_path)
    text = "The catxy, the catxy... sat!"
    tags = wb.tag_words(bert, text)
    assert [tag.word for tag in tags] == ["The", "catxy", ",", "the", "catxy", ".", ".", ".", "sat", "!"]
    assert [text[tag.start : tag.end] for tag in tags] == [tag.word for tag in tags]
    assert [tag.start for tag in tags] == sorted(tag.start for tag in tags)
    rows = theirs("BertForTokenClassification", text).logits[0].softmax(-1)
    words = theirs.tokenizer(text).word_ids()
    for number, tag in enumerate(tags):
        row = rows[words.index(number)]  # the word's first piece
        assert tag.label == ("noun", "verb", "adjective", "other")[row.argmax()]
        assert tag.probability == pytest.approx(float(row.max()), rel=1e-4)


@pytest.mark.parametrize("length", [1, 37, 38, 39, 100, 5000])
def test_tags_of_long_texts(bert: wb.Bert, length: int) -> None:
    text = " ".join(["catx", "sat", "word7"][index % 3] for index in range(length))
    tags = wb.tag_words(bert, text)
    assert len(tags) == length
    assert [text[tag.start : tag.end] for tag in tags] == text.split()


# --- spans -------------------------------------------------------------------------------------


def spans_by_hand(output: Any, first: int, last: int, longest: int = 30) -> list[tuple]:
    """(probability, start token, end token), best first, of all spans inside [first, last]."""
    start, end = output.start_logits[0].softmax(-1), output.end_logits[0].softmax(-1)
    found = []
    for i in range(first, last + 1):
        for j in range(i, min(i + longest - 1, last) + 1):
            found.append((float(start[i] * end[j]), i, j))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_answers_are_theirs(bert: wb.Bert, theirs: Theirs, longest: int) -> None:
    question, passage = "was a cat red?", "the cat sat. the cat was red, on a matxy!"
    result = wb.answer_question(bert, question, passage, top_k=200, longest=longest)
    output = theirs("BertForQuestionAnswering", question, passage)
    encoded = theirs.tokenizer(question, passage, return_offsets_mapping=True)
    segments = encoded["token_type_ids"]
    first, last = segments.index(1), len(segments) - 2
    wanted = spans_by_hand(output, first, last, longest)[:200]
    assert len(result.answers) == len(wanted)
    for answer, (probability, i, j) in zip(result.answers, wanted, strict=True):
        assert answer.probability == pytest.approx(probability, rel=1e-3)
        start, end = encoded["offset_mapping"][i][0], encoded["offset_mapping"][j][1]
        assert (answer.start, answer.end, answer.text) == (start, end, passage[start:end])
    start, end = output.start_logits[0].softmax(-1), output.end_logits[0].softmax(-1)
    assert result.no_answer == pytest.approx(float(start[0] * end[0]), rel=1e-4)
    close(result.start_probabilities, start[first : last + 1])
    close(result.end_probabilities, end[first : last + 1])
    assert [token.text for token in result.tokens] == theirs.tokenizer.convert_ids_to_tokens(
        encoded["input_ids"][first : last + 1]
    )
    assert len(wb.answer_question(bert, question, passage, top_k=2).answers) == 2


def test_an_end_before_the_start_is_no_answer(bert: wb.Bert) -> None:
    """The best start stands behind the best end: the best span is another one."""
    bert = our_bert("span")
    with torch.no_grad():
        bert.heads["span"].weight.zero_()
    words = ["the", "cat", "sat", "on", "a", "mat"]
    encoding = bert.tokenizer.encode("tea?", " ".join(words))
    states = bert(**encoding.tensors())[-1][0].detach()
    targets = torch.zeros(len(encoding), 2)
    targets[9, 0] = 4  # start at "mat"
    targets[5, 1] = 4  # end at "cat"
    with torch.no_grad():
        bert.heads["span"].weight.copy_((torch.linalg.pinv(states) @ targets).T)
        bert.heads["span"].bias.zero_()
    result = wb.answer_question(bert, "tea?", " ".join(words), top_k=99)
    assert result.start_probabilities.argmax() == 5
    assert result.end_probabilities.argmax() == 1
    assert all(answer.start < answer.end for answer in result.answers)
    assert len(result.answers) == 6 * 7 // 2
    best = result.answers[0].text
    assert best in ("cat", "the cat", "mat")


@pytest.mark.parametrize("length", [30, 31, 60, 300])
def test_long_passages(bert: wb.Bert, length: int) -> None:
    passage = " ".join(f"word{index % 15}" for index in range(length))
    result = wb.answer_question(bert, "a red cat?", passage, top_k=20)
    probabilities = [answer.probability for answer in result.answers]
    assert probabilities == sorted(probabilities, reverse=True)
    places = [(answer.start, answer.end) for answer in result.answers]
    assert len(set(places)) == 20
    for answer in result.answers:
        assert passage[answer.start : answer.end] == answer.text
        assert 0 < answer.probability <= 1
    best = result.answers[0]  # the probabilities that go along are those of its window
    assert result.tokens[0].start <= best.start and best.end <= result.tokens[-1].end
    starts = [token.start for token in result.tokens].index(best.start)
    ends = [token.end for token in result.tokens].index(best.end)
    product = result.start_probabilities[starts] * result.end_probabilities[ends]
    assert best.probability == pytest.approx(float(product), rel=1e-4)


def overlapping(bert: wb.Bert, peaks: list[float], none: list[float]) -> tuple[str, list[SpanWindow]]:
    """Two windows that share "on", the best span of both; `none` is the score of no answer in each."""
    passage = "the cat sat on a mat ran"
    tokens, question = bert.tokenizer.pieces(passage, segment=1), bert.tokenizer.pieces("tea?")
    windows = []
    parts = [encoding for encoding, *_ in bert.tokenizer.windows(tokens, 9, question, stride=1)]
    for encoding, peak, low in zip(parts, peaks, none, strict=True):
        scores = torch.zeros(9, 2)
        scores[[token.text for token in encoding.tokens].index("on")] = peak
        scores[0] = low / 2
        windows.append(SpanWindow(encoding, scores))
    return passage, windows


@pytest.mark.parametrize("peaks", [[3.0, 5.0], [5.0, 3.0]])
def test_of_two_copies_of_a_span_the_more_probable_counts(bert: wb.Bert, peaks: list[float]) -> None:
    passage, windows = overlapping(bert, peaks, [0.0, 0.0])
    best, *others = best_spans(windows, passage, top_k=50)
    assert (best[0].text, best[1]) == ("on", peaks.index(5.0))
    assert best[0].probability == pytest.approx(float(np.exp(5) / (np.exp(5) + 8)) ** 2, rel=1e-4)
    spans = [(answer.start, answer.end) for answer, _ in (best, *others)]
    assert len(set(spans)) == len(spans) == 19, "10 spans of 4 words in each, one in both"


def test_no_answer_counts_where_it_scores_lowest(bert: wb.Bert) -> None:
    """Over all windows the minimum, as in SQuAD 2.0's script, whichever window has the answer."""
    for none, lowest in (([2.0, -1.0], 1), ([-3.0, 1.0], 0)):
        _, windows = overlapping(bert, [5.0, 3.0], none)
        assert surest_window(windows) is windows[lowest]
        assert surest_window(windows).no_answer_score == pytest.approx(min(none))
    others = set()
    for question in ("a red cat?", "tea?", "was it the dog?", "who ran?"):
        passage = " ".join(f"word{index % 13}" for index in range(90))
        windows, result = span_windows(bert, question, passage), wb.answer_question(bert, question, passage)
        lowest = min(range(len(windows)), key=lambda at: windows[at].scores[0].sum())
        assert result.no_answer == pytest.approx(float(windows[lowest].scores.softmax(0)[0].prod()), rel=1e-4)
        others.add(lowest == best_spans(windows, passage)[0][1])
    assert False in others, "which is not always the window of the answer"


def test_a_question_too_long(bert: wb.Bert) -> None:
    assert wb.answer_question(bert, "cat " * 30, "the red tea").answers
    with pytest.raises(ValueError, match="leave no room"):
        wb.answer_question(bert, "cat " * 40, "the red tea")


# --- pictures and vectors ----------------------------------------------------------------------


def test_classes_of_a_picture_are_theirs(tmp_path: Path) -> None:
    theirs = hf_vit("ViTForImageClassification", num_labels=7, image_size=32)
    vit = wb.load_vit(saved(theirs, tmp_path), device="cpu")
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), "uint8")
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        best = theirs(pixels).logits[0].softmax(-1).topk(3)
    candidates = wb.classify_image(vit, picture, top_k=3)
    assert [candidate.label for candidate in candidates] == [f"LABEL_{index}" for index in best.indices]
    assert [c.probability for c in candidates] == pytest.approx(best.values.tolist(), rel=1e-3)
    assert len(wb.classify_image(vit, picture, top_k=99, size=(40, 24))) == 7
    with pytest.raises(ValueError, match="must be multiples of 8"):
        wb.classify_image(vit, picture, size=(33, 32))
    with pytest.raises(ValueError, match="no picture"):
        wb.classify_image(vit, b"junk")


def test_a_vit_that_cannot_classify() -> None:
    picture = np.zeros((32, 48, 3), "uint8")
    with pytest.raises(ValueError, match="a new ViT has no head for classes"):
        wb.classify_image(our_vit(labels=""), picture)
    vit = our_vit()
    vit.preprocessing = None
    with pytest.raises(ValueError, match="without a preprocessing"):
        wb.classify_image(vit, picture)


def test_vectors_are_theirs(bert: wb.Bert, theirs: Theirs) -> None:
    text = "the cat, catx"
    vectors = wb.embed(bert, text)
    assert vectors.shape == (7, 36)
    close(vectors, theirs("BertModel", text).last_hidden_state[0])
    assert not vectors.requires_grad


# --- what cannot be done -----------------------------------------------------------------------

TASKS = {
    "fill_mask": lambda bert, text: wb.fill_mask(bert, f"{text} [MASK]" if text.strip() else text),
    "next_sentence": lambda bert, text: wb.next_sentence(bert, text, "tea"),
    "second": lambda bert, text: wb.next_sentence(bert, "tea", text),
    "classify_sentence": lambda bert, text: wb.classify_sentence(bert, text),
    "classify_pair": lambda bert, text: wb.classify_pair(bert, text, "tea", head="sentiment"),
    "tag_words": lambda bert, text: wb.tag_words(bert, text),
    "question": lambda bert, text: wb.answer_question(bert, text, "tea"),
    "passage": lambda bert, text: wb.answer_question(bert, "tea", text),
    "embed": lambda bert, text: wb.embed(bert, text),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("text", ["", " \n\t", "half \ud800", "\x00"])
def test_unreadable_texts_are_one_sentence(bert: wb.Bert, task: str, text: str) -> None:
    if task == "fill_mask" and text == "\x00":
        text = " "  # with a mask behind it, there is something to read
    with pytest.raises(ValueError) as caught:
        TASKS[task](bert, text)
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", ")."))
    if task in ("question", "passage") and "\x00" not in text:
        assert message.startswith(f"The {task}")


@pytest.mark.parametrize("task", TASKS)
def test_odd_texts_are_answered(bert: wb.Bert, task: str) -> None:
    for text in ("<script>alert(1)</script>", "[CLS] a [SEP] b", "👍🏽 中 שלום", "\x00a\x07", "x" * 500):
        TASKS[task](bert, text)


@pytest.mark.parametrize("task", ["next_sentence", "second", "classify_sentence", "classify_pair", "embed"])
def test_texts_too_long_are_one_sentence(bert: wb.Bert, task: str) -> None:
    with pytest.raises(ValueError, match=r"ha(s|ve) \d+ word pieces; this checkpoint reads 40 at once"):
        TASKS[task](bert, "cat " * 50)


def test_nothing_masked(bert: wb.Bert) -> None:
    for masks in ([], [(3, 4)], [(99, 100)]):
        with pytest.raises(ValueError, match=r"Nothing is masked: write \[MASK\]"):
            wb.fill_mask(bert, "the cat", masks=masks)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "embed"])
def test_a_missing_head_names_those_there(task: str) -> None:
    none, one = our_bert(), our_bert("mlm" if task != "fill_mask" else "nsp")
    with pytest.raises(ValueError, match="has no head .* the heads that it has: none"):
        TASKS[task](none, "the cat")
    with pytest.raises(ValueError, match=f"the heads that it has: {next(iter(one.heads))}"):
        TASKS[task](one, "the cat")


@pytest.mark.parametrize("task", TASKS)
def test_no_tokenizer(task: str) -> None:
    bert = our_bert(*ALL)
    bert.tokenizer = None
    with pytest.raises(ValueError, match="a new BERT came without a tokenizer"):
        TASKS[task](bert, "the cat")


def test_which_head_is_taken() -> None:
    bert = our_bert("mlm", "nsp")
    with pytest.raises(ValueError, match="no head 'sentiment' .* it has: mlm, nsp"):
        wb.classify_sentence(bert, "tea")  # not the next-sentence head, though it is for sentences
    bert.add_head("mood", "sentence", ["sad", "glad"])
    assert {candidate.label for candidate in wb.classify_sentence(bert, "tea")} == {"sad", "glad"}
    assert {candidate.label for candidate in wb.classify_pair(bert, "tea", "cat")} == {"sad", "glad"}
    bert.add_head("tone", "sentence", ["low", "high"])
    with pytest.raises(
        ValueError, match="several heads for this task: mood, tone; say which, as in head='mood'"
    ):
        wb.classify_sentence(bert, "tea")  # two: which one?
    assert {candidate.label for candidate in wb.classify_sentence(bert, "tea", head="tone")} == {
        "low",
        "high",
    }
    assert wb.classify_sentence(bert, "tea", head="nsp")
    with pytest.raises(ValueError, match="no head 'mlm' for this task"):
        wb.classify_sentence(bert, "tea", head="mlm")


def test_nothing_is_left_in_the_graph(bert: wb.Bert) -> None:
    """Tasks run without gradients, and a model in half precision answers with ordinary floats."""
    half = our_bert(*ALL).bfloat16()
    for task in TASKS.values():
        task(half, "the cat")
    assert all(parameter.grad is None for parameter in bert.parameters())
    assert isinstance(wb.fill_mask(half, "[MASK]")[0].candidates[0].probability, float)


def test_dropout_makes_no_answer_random() -> None:
    bert = our_bert("mlm", "sentiment", hidden_dropout_prob=0.1).train()
    encoding = bert.tokenizer.encode("the cat")
    for ask in (
        lambda: wb.fill_mask(bert, "the [MASK]"),
        lambda: widgets.MaskedFilling(bert, "the cat"),
        lambda: leave_one_out(bert, "sentiment", encoding, 0, [1]),
        lambda: gradient_relevance(bert, "sentiment", encoding, 0),
        lambda: word_vectors(bert, ["the cat"], "cat"),
        lambda: habits(bert, "the cat"),
    ):
        with pytest.raises(ValueError, match=r"is in training mode, and dropout .*: call .eval\(\) on it."):
            ask()
    assert wb.fill_mask(bert.eval(), "the [MASK]")
