"""What the lessons show is what the shipped text checkpoint says, with a margin: so that the next checkpoint
cannot silently break a lesson. Where it is wrong on purpose, the lesson says so."""

import json

import pytest

import workbench as wb
from workbench.bert import Bert
from workbench.cli import notebooks_folder
from workbench.widgets.samples import NEXT_SENTENCES, PASSAGES, SENTENCE_PAIRS

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


def source(lesson: str) -> str:
    cells = json.loads((notebooks_folder() / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells)


@pytest.mark.parametrize(("lesson", "text", "guess", "margin"), MASKED)
def test_masked_words(bert: Bert, lesson: str, text: str, guess: str, margin: float) -> None:
    before, *marked = text.split("*")
    masks = [(len(before), len(before) + len(marked[0]))] if marked else []
    first, second = wb.fill_mask(bert, text.replace("*", ""), masks=masks, top_k=2)[0].candidates
    assert first.label == guess and first.probability - second.probability > margin
    assert text.replace("*", "") in source(lesson)


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


def test_words(bert: Bert) -> None:
    text = "They light the light in a light room."
    light = [tag for tag in wb.tag_words(bert, text) if tag.word == "light"]
    assert [tag.label for tag in light] == ["VERB", "NOUN", "ADJ"]
    assert min(tag.probability for tag in light) > 0.75 and text in source("04_token_tagging")
    for text, place in (("They walk home.", 1), ("The walk was long.", 1)):
        assert wb.tag_words(bert, text)[place].label == ("VERB" if "They" in text else "NOUN")


@pytest.mark.parametrize(("premise", "hypothesis", "label"), PAIRS)
def test_pairs(bert: Bert, premise: str, hypothesis: str, label: str) -> None:
    first, second, _ = wb.classify_pair(bert, premise, hypothesis)
    assert first.label == label and first.probability - second.probability > 0.3
    assert premise in source("05_sentence_pairs") and hypothesis in source("05_sentence_pairs")


def test_most_of_the_ten_pairs_are_as_meant(bert: Bert) -> None:
    said = [wb.classify_pair(bert, premise, hypothesis)[0].label for premise, hypothesis, _ in SENTENCE_PAIRS]
    assert sum(one == label for one, (*_, label) in zip(said, SENTENCE_PAIRS, strict=True)) >= 8


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
