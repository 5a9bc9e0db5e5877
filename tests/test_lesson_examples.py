"""What the lessons show is what the shipped text checkpoint says, with a margin: so that the next checkpoint
cannot silently break a lesson. Where it is wrong on purpose, the lesson says so."""

import ast
import json
import math
import random

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.attention import attention_entropy, habits, record_attention
from workbench.bert import Bert
from workbench.cli import notebooks_folder
from workbench.patches import (
    embedding_steps,
    filter_components,
    position_similarity,
    similarity,
    word_vectors,
)
from workbench.training.lessons import fine_tune
from workbench.widgets import (
    AttentionExplorer,
    FineTuning,
    MaskedFilling,
    NextSentence,
    PatchHiding,
    SentenceClassifier,
    SentencePair,
    SpanExtraction,
    TokenTagger,
)
from workbench.widgets.samples import NEXT_SENTENCES, PASSAGES, SAME_TOPIC, SENTENCE_PAIRS, sample_image

MASKED = (  # lesson, sentence with a word of it marked, first guess, how much likelier it is than the second
    ("00_start_here", "I drink a cup of [MASK] every morning.", "tea", 0.2),
    ("00_start_here", "The *sun* is shining and the sky is blue.", "sun", 0.1),
    ("01_masked_filling", "I drink a cup of *tea* every morning.", "tea", 0.2),
    ("01_masked_filling", "He read a *book* about the history of Rome.", "book", 0.15),
    ("01_masked_filling", "Rome is the *capital* of Italy.", "capital", 0.15),
    (
        "01_masked_filling",
        "Paris is the capital of *France*.",
        "paris",
        0.5,
    ),  # wrong, and the lesson asks why
    ("01_masked_filling", "The nurse said [MASK] was tired.", "she", 0.2),
    ("01_masked_filling", "The engineer said [MASK] was tired.", "he", 0.5),
    ("11_one_encoder", "The capital of France is the city of [MASK].", "paris", 0.15),
)
PAIRS = (  # lesson 05
    ("A woman is playing the guitar on a stage.", "A woman is making music.", "entailment"),
    ("The man drank a cup of coffee before work.", "The man drank something before work.", "entailment"),
    ("Two boys are playing football in the park.", "Two boys are outdoors.", "entailment"),
    ("Two boys are outdoors.", "Two boys are playing football in the park.", "neutral"),  # swapped
    ("Two children are running through a green field.", "Some kids are outside in the grass.", "entailment"),
    (
        "A black dog is chasing a white cat.",
        "A white cat is chasing a black dog.",
        "entailment",
    ),  # a shortcut
    # One word changed: the second and the third are wrong on purpose.
    ("The man drank a cup of coffee before work.", "The man drank nothing before work.", "contradiction"),
    ("The man drank a cup of coffee before work.", "The man drank something after work.", "entailment"),
    ("The man spilled a cup of coffee before work.", "The man drank something before work.", "entailment"),
    ("The door is open.", "The door is closed.", "contradiction"),
    ("Colourless green ideas sleep.", "Nobody sleeps.", "contradiction"),
    ("Colourless green ideas sleep.", "Something sleeps.", "entailment"),
)
ANSWERS = (  # lesson 06: question, the number of a passage or the passage, answer
    ("When does the market in the old town open?", 0, "six on Monday"),
    ("Who sells flowers?", "Anna sells flowers in the old town, and her brother Paul sells fish.", "Anna"),
    ("Who sells fish?", 1, "Paul"),
    ("Who worked out the meaning of the dance?", 2, "Karl von Frisch"),
    ("How many bees may a colony hold?", 3, "fifty thousand"),
    ("What does honey cost?", 4, None),
    ("How much rock and soil did they collect?", 5, "21 kilograms"),
    ("Who sells bread?", 0, None),
    ("Where is the library?", 0, None),
)


@pytest.fixture(scope="module")
def bert() -> Bert:
    return wb.load_bert(device="cpu")


def test_where_the_runners_up_stand_in_lesson_06(bert: wb.Bert) -> None:
    """In the map an answer's row is where it ends, its column where it begins."""
    for number, row, column in (
        (2, [True, True, False, False], [False] * 4),
        (0, [True, False, False, True], [False, True, True, False]),
    ):
        passage, question = PASSAGES[number]
        (_, start, end, *_), *others = SpanExtraction(bert, question, passage).answers
        assert [other[2] == end for other in others] == row
        assert [other[1] == start for other in others] == column


def cells(lesson: str) -> list[str]:
    notebook = json.loads((notebooks_folder() / f"{lesson}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def source(lesson: str) -> str:
    return "\n".join(cells(lesson))


@pytest.mark.parametrize(("lesson", "text", "guess", "margin"), MASKED)
def test_masked_words(bert: Bert, lesson: str, text: str, guess: str, margin: float) -> None:
    before, *marked = text.split("*")
    masks = [(len(before), len(before) + len(marked[0]))] if marked else []
    first, second = wb.fill_mask(bert, text.replace("*", ""), masks=masks, top_k=2)[0].candidates
    assert first.label == guess and first.probability - second.probability > margin
    assert text.replace("*", "") in source(lesson)


def test_a_cat_of_few_patches() -> None:
    vit = wb.load_vit(device="cpu")
    widget, stays = PatchHiding(vit, sample="cat"), {}
    for share in (0.5, 0.9):
        cats = 0
        for seed in range(20):
            widget.hide_at_random(share, seed=seed)
            cats += widget.bars[0][0] == "cat"
        stays[share] = cats / 20
    assert stays[0.5] > 0.6 and stays[0.9] < 0.25
    assert "nine tenths hidden" in source("00_start_here")
    assert wb.classify_image(vit, sample_image("motorcycle"))[0].label == "something else"
    assert len(vit.labels) == 39


def test_how_much_of_each_model_is_the_encoder(bert: Bert) -> None:
    shares = []
    for model in (bert, wb.load_vit(device="cpu")):
        counts = [sum(one.numel() for one in part.parameters()) for part in (model.encoder, model)]
        shares.append(counts[0] / counts[1])
    assert 0.45 < shares[0] < 0.5 and shares[1] > 0.95
    assert "nearly half of BERT, and nearly all of ViT" in source("00_start_here")


def test_the_second_game_is_won_by_the_topic(bert: Bert) -> None:
    first = [first for first, _ in NEXT_SENTENCES]
    others = [second for _, second in NEXT_SENTENCES[7:] + NEXT_SENTENCES[:7]]
    taken = [
        sum(wb.next_sentence(bert, *pair).is_next > 0.5 for pair in zip(first, seconds, strict=True))
        for seconds in (others, SAME_TOPIC)
    ]
    assert taken == [0, 18]
    assert "of 24 sentences about something else it takes none" in source("02_next_sentence")
    for one, other, share in (
        ("Dogs bark at strangers.", "The mailman was frightened.", 0.16),
        ("The dog chased the cat up the tree.", "The cat chased the dog up the tree.", 0.95),
    ):
        assert wb.next_sentence(bert, one, other).is_next == pytest.approx(share, abs=0.01)
        assert f"{one} {other}" in source("02_next_sentence")


def test_position_0_is_a_second_cls(bert: Bert) -> None:
    pair = "The last train left at midnight.", "Those who missed it had to wait until morning."
    for place in ("middle", "end"):
        moved = NextSentence(bert, *pair, cls_at=place, positions="follow")
        assert moved.of_first == pytest.approx(moved.is_next, abs=0.01) and moved.is_next > 0.8
        moved.positions = "stay"
        assert moved.is_next == pytest.approx(moved.at_front, abs=1e-5)
        assert abs(moved.of_first - moved.is_next) > 0.1


def test_who_looks_at_whom(bert: Bert) -> None:
    """Lesson 02: which of three vectors is the longest, and the table's shares."""
    told = source("02_next_sentence")
    encoding = bert.tokenizer.encode("It began to rain.", "We ran back inside.")
    for token in range(len(encoding)):
        steps = embedding_steps(bert, token, **encoding.tensors())
        longest = max(("word", "segment", "position"), key=lambda name: float(steps[name].norm()))
        assert longest == ("word" if token else "position")
    pair = "Whales are mammals, not fish.", "They breathe air and feed their young with milk."
    widget = NextSentence(bert, *pair, stage="layer")
    shares = np.frombuffer(widget.between, np.float16).reshape(-1, 3, 3)  # layer, who, whom
    of_first, of_second = shares[:, 1, 1], shares[:, 2, 0]
    assert [of_first[0], *of_second[[0, 3]]] == pytest.approx([0.23, 0.22, 0.19], abs=0.005)
    assert of_first[1:].max() < 0.085 and of_second[[1, 2, 4, 5]].max() < 0.1
    assert "(23 % and 22 %)" in told and "in layer 4 (19 %)" in told
    encoding = bert.tokenizer.encode(*pair)
    words = [at for word in encoding.words if not word.special for at in word.tokens]
    with torch.inference_mode(), record_attention(bert) as attention:
        bert(**encoding.tensors())
    on_cls = [float(maps[0].mean(0)[words, 0].mean()) for maps in attention.values()]
    assert min(on_cls[1:]) > 0.4 and max(on_cls[1:4]) < 0.62 < min(on_cls[4:])


def test_what_a_guess_rests_on(bert: Bert) -> None:
    """Lesson 01: which side, which layer, which heads."""
    text = "The sun is shining and the sky is blue."
    left, right = (
        MaskedFilling(bert, text, masked="sun", hide=hide).guesses["cards"][0] for hide in ("left", "right")
    )
    assert left["candidates"][0][0] == "sun" and right["probability"] < 0.01
    encoding = bert.tokenizer.encode("He read a book about the history of Rome.", masks="book")
    with torch.inference_mode():
        states = torch.stack(bert(**encoding.tensors()))[:, 0, encoding.masks[0]]
        best = bert.answers("mlm", states).argmax(-1)
    assert [bert.tokenizer.word_piece(index) for index in best][3:] == ["story", "story", "book", "book"]
    widget = MaskedFilling(bert, "Rome is the capital of Italy.", masked="capital")
    names = [word["text"] for word in widget.words]
    for layer, head, word in (
        (1, 3, "the"),
        (2, 10, "the"),
        (2, 9, "of"),
        (2, 2, "[CLS]"),
        (2, 5, "Italy"),
        (5, 7, "Italy"),
    ):
        weights = widget._attention[layer - 1, head - 1, 0]
        assert names[int(weights.argmax())] == word and float(weights.max()) > 0.5
        assert f"layer {layer}, head {head}" in source("01_masked_filling")
    rests = [names[int(head.argmax())] == "[CLS]" for layer in widget._attention[1:, :, 0] for head in layer]
    assert 0.4 < sum(rests) / len(rests) < 0.65  # "about half"
    for other, share in ((None, 0.38), ("Italy", 0.21), ("is", 0.06)):
        widget = MaskedFilling(
            bert, "Rome is the capital of Italy.", masked=["capital", *filter(None, [other])]
        )
        found = next(card for card in widget.guesses["cards"] if card["original"] == "capital")
        assert found["probability"] == pytest.approx(share, abs=0.006)
        assert f"{share:.0%}".replace("%", " %") in source("01_masked_filling")


def test_next_sentences(bert: Bert) -> None:
    wrong = [pair for pair in NEXT_SENTENCES if wb.next_sentence(bert, *pair).is_next < 0.5]
    assert len(wrong) <= 8, wrong  # the lesson asks what they have in common
    for first, second in (
        ("It began to rain just as we left the house.", "We ran back inside to fetch an umbrella."),
        ("The last train left at midnight.", "Those who missed it had to wait until morning."),
        ("Whales are mammals, not fish.", "They breathe air and feed their young with milk."),
    ):
        assert wb.next_sentence(bert, first, second).is_next > 0.55
        assert first in source("02_next_sentence") and second in source("02_next_sentence")
    false = "It began to rain just as we left the house.", "The senate has a hundred members."
    assert wb.next_sentence(bert, *false).is_next < 0.3 and false[1] in source("02_next_sentence")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The food was good, but the service was slow.", "negative"),
        ("This film is not bad at all.", "positive"),
    ],
)
def test_sentences(bert: Bert, text: str, label: str) -> None:
    best = wb.classify_sentence(bert, text, "sentiment")[0]
    assert best.label == label and best.probability > 0.75 and text in source("03_sentence_classification")


def test_leaving_out_and_relevance_disagree(bert: Bert) -> None:
    widget = SentenceClassifier(bert, "This film is not bad at all.")
    widget.complete()
    names = [word["text"] for word in widget.words]
    relevance, falls = (
        dict(zip(names, each.tolist(), strict=True)) for each in (widget._relevance, widget._falls)
    )
    assert max(relevance, key=relevance.get) == "film" and 0.4 < relevance["film"] < 0.5
    assert max(falls, key=falls.get) == "not" and falls["not"] == pytest.approx(0.95, abs=0.01)
    assert 0.04 < relevance["not"] < 0.07
    widget = SentenceClassifier(bert, "The food was good, but the service was slow.")
    widget.complete()
    for values in (widget._relevance, widget._falls):
        assert widget.words[int(values.argmax())]["text"] == "slow"


def test_moods_of_eight_examples(bert: Bert) -> None:
    """One new sentence is right, one wrong, as lesson 03 tells: and it is as sure of either."""
    told = source("03_sentence_classification")
    code = told[told.index("mine = [") :]
    mine = ast.literal_eval(code[len("mine = ") : code.index("]") + 1])
    moods = FineTuning(bert, mine, fine_tune, steps=20).finish().model
    for text, label in (
        ("We danced and sang all night.", "happy"),
        ("My best friend is coming to visit us.", "sad"),
    ):
        best = wb.classify_sentence(moods, text)[0]
        assert best.label == label and best.probability > 0.9 and text in told


def test_words(bert: Bert) -> None:
    text = "They light the light in a light room."
    light = [tag for tag in wb.tag_words(bert, text) if tag.word == "light"]
    assert [tag.label for tag in light] == ["VERB", "NOUN", "ADJ"]
    assert min(tag.probability for tag in light) > 0.75 and text in source("04_token_tagging")
    for text, place in (("They walk home.", 1), ("The walk was long.", 1)):
        assert wb.tag_words(bert, text)[place].label == ("VERB" if "They" in text else "NOUN")
    assert "VERB" not in {tag.label for tag in wb.tag_words(bert, "The old man the boat.")}
    text = "The unbreakable teapot was unforgettably beautiful."
    widget = TokenTagger(bert, text, pinned=4)
    assert text in source("04_token_tagging") and "pieces" in widget.note  # the remark above the words
    assert widget.pieces[0][:2] == ["un", "ADJ"] and widget.pieces[-1][:2] == ["##bly", "ADV"]


@pytest.mark.parametrize(("premise", "hypothesis", "label"), PAIRS)
def test_pairs(bert: Bert, premise: str, hypothesis: str, label: str) -> None:
    first, second, _ = wb.classify_pair(bert, premise, hypothesis)
    assert first.label == label and first.probability - second.probability > 0.3
    words = {"nothing", "after", "spilled"} & {*premise[:-1].split(), *hypothesis[:-1].split()}
    told = [f'"{word}"' for word in words] or [premise, hypothesis]
    assert all(text in source("05_sentence_pairs") for text in told)


def test_eight_of_the_ten_pairs_are_as_meant(bert: Bert) -> None:
    said = [wb.classify_pair(bert, premise, hypothesis)[0].label for premise, hypothesis, _ in SENTENCE_PAIRS]
    missed = [pair for one, pair in zip(said, SENTENCE_PAIRS, strict=True) if one != pair[2]]
    assert [premise for premise, *_ in missed] == [
        "Some of the apples are red.",
        "A black dog is chasing a white cat.",
    ]
    assert "eight of ten agree" in source("05_sentence_pairs")


def test_a_head_finds_the_same_word_and_one_of_like_meaning(bert: Bert) -> None:
    texts = "Two children are running through a green field.", "Some kids are outside in the grass."
    widget = SentencePair(bert, *texts, attention_layer=2, attention_head=9)
    premise, hypothesis = ([widget.words[at]["text"] for at in side] for side in widget._sides())
    for one, other, share in (("kids", "children", 0.98), ("are", "are", 0.87)):
        paid = float(widget._links[hypothesis.index(one), premise.index(other)])
        assert paid == pytest.approx(share, abs=0.006)
        assert f'"{other}" {share:.0%}'.replace("%", " %") in source("05_sentence_pairs")
    assert "Head 10 of layer 3" in source("05_sentence_pairs")


def test_what_the_front_door_for_pictures_has_learned() -> None:
    """Lesson 07: smooth patterns, then noise; neighbours, rows and columns are alike."""
    vit = wb.load_vit(device="cpu")
    found = filter_components(vit, 28)  # (28, 3, size, size)
    found = found - found.mean((2, 3), keepdim=True)
    across, down = found[..., 1:] * found[..., :-1], found[:, :, 1:] * found[:, :, :-1]
    alike = (across.sum((1, 2, 3)) + down.sum((1, 2, 3))) / (2 * found.square().sum((1, 2, 3)))
    assert alike[:14].min() > 0.35 and alike[-7:].abs().max() < 0.15
    assert "the first fourteen or so" in source("07_patch_splitting")
    similar, places = position_similarity(vit).flatten(2).flatten(0, 1), torch.arange(144)
    rows, columns = places // 12, places % 12
    cross = (rows == rows[:, None]) | (columns == columns[:, None])
    assert float(similar[cross].mean()) > float(similar[~cross].mean()) + 0.1


@pytest.mark.parametrize(("question", "passage", "answer"), ANSWERS)
def test_answers(bert: Bert, question: str, passage: int | str, answer: str | None) -> None:
    text = PASSAGES[passage][0] if isinstance(passage, int) else passage
    found = wb.answer_question(bert, question, text, top_k=2)
    first, second = found.answers
    if answer is None:
        assert found.no_answer > first.probability
    else:
        assert first.text == answer and first.probability - second.probability > 0.1
        assert first.probability - found.no_answer > 0.2
    assert question in source("06_span_extraction") or (text, question) in PASSAGES


def test_an_untrained_encoder_looks_at_all_alike(bert: Bert) -> None:
    """Lesson 11: habits of heads are learned, all of them."""
    text = "The old bank by the river was closed, so she sat on the [MASK]."
    assert text in source("11_one_encoder")
    encoding, narrowest = bert.tokenizer.encode(text), []
    for model in (bert, wb.Bert(bert.config, tokenizer=bert.tokenizer).eval()):
        with torch.inference_mode(), record_attention(model) as attention:
            model(**encoding.tensors(model.device))
        bits = min(float(attention_entropy(maps).min()) for maps in attention.values())
        narrowest.append(bits / math.log2(len(encoding)))
    assert narrowest[0] < 0.1 and narrowest[1] > 0.9


def test_heads_of_lesson_11(bert: Bert) -> None:
    """Their habits, how many words share 70 % of a row, and what the answer loses without them."""
    text = source("11_one_encoder")
    found = habits(
        bert, "She put the red book on the table because the table was clean and the book was new."
    )
    assert found["previous token"][0, 2] > 0.99 and found["next token"][1, 8] > 0.9
    assert found["previous token"].argmax() == 2 and found["next token"].argmax() == 20
    assert float(found["[CLS]"].mean()) == pytest.approx(0.5, abs=0.05)
    encoding = bert.tokenizer.encode("The old bank by the river was closed, so she sat on the [MASK].")
    with torch.inference_mode(), record_attention(bert) as attention:
        bert(**encoding.tensors())
    sums = torch.cat(list(attention.values())).sort(-1, descending=True).values.cumsum(-1)
    assert float((sums[..., 2] >= 0.7).float().mean()) > 0.7 and "three words or fewer" in text
    lost = AttentionExplorer(bert, "The capital of France is the city of [MASK].")
    lost.try_all_heads()
    effects = torch.frombuffer(bytearray(lost.effects), dtype=torch.float16).view(6, 12)
    assert lost.answers[0][:2] == ["paris", pytest.approx(0.44, abs=0.005)]
    assert float(effects[5, 5]) == pytest.approx(0.44 - 0.18, abs=0.01)
    assert float(effects[0, 2]) == pytest.approx(-0.02, abs=0.005)
    assert (effects > 0.13).sum() == 1 and "falls from 44 to 18 %" in text
    pinned = AttentionExplorer(
        bert, "The cat chased the mouse because it was hungry.", layer=2, head=7, query=7, key=2
    )
    assert [pinned.tokens[at][0] for at in (7, 2)] == ["it", "cat"] and pinned.steps["probability"] > 0.3


@pytest.mark.slow
def test_heads_are_taken_away_in_random_orders(bert: Bert) -> None:
    """How many are gone when the answer of lesson 11 breaks."""
    gone = []
    for seed in range(60):
        heads = [(layer, head) for layer in range(6) for head in range(12)]
        random.Random(seed).shuffle(heads)
        for count in range(1, 73):
            with wb.ablate(bert, heads[:count]):
                guess = wb.fill_mask(bert, "The capital of France is the city of [MASK].", top_k=1)
            if guess[0].candidates[0].label != "paris":
                gone.append(count)
                break
    told = (
        "in sixty random orders, 2 to 51 of the 72 heads were gone when the answer broke, 15 or fewer in half"
    )
    assert told in source("11_one_encoder")
    assert (min(gone), max(gone)) == (2, 51) and float(np.median(gone)) == pytest.approx(15, abs=1)


def test_one_word_in_several_senses(bert: Bert) -> None:
    text = source("11_one_encoder")
    texts = [line.strip(' ",') for line in text.splitlines() if line.startswith('    "') and "bank" in line]
    alike = torch.as_tensor(similarity(word_vectors(bert, texts[:6], "bank")))
    money = torch.arange(6) < 3
    across = money[:, None] != money
    within = ~across & ~torch.eye(6, dtype=torch.bool)
    assert float(alike[0][across].mean()) == pytest.approx(0.93, abs=0.005)
    assert float(alike[-1][across].mean()) == pytest.approx(0.72, abs=0.005)
    assert float(alike[2][within].mean()) == pytest.approx(0.80, abs=0.005)
    assert float(alike[2][across].mean()) == pytest.approx(0.67, abs=0.005)
