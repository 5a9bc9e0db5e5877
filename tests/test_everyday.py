"""Sixty plain things that anybody would try first, asked of the shipped text checkpoint.

They are not what it was tuned on. A new checkpoint may miss some, but not more than `FLOOR` allows.
"""

import pytest

import workbench as wb
from workbench.bert import Bert

FLOOR = 54  # of 60

MASKED = {  # any of these among the five best guesses
    "I drink a cup of [MASK] every morning.": {"tea", "coffee", "milk", "water"},
    "Paris is the capital of [MASK].": {"france"},
    "She opened the [MASK] and walked into the room.": {"door", "window", "gate"},
    "The cat sat on the [MASK].": {"floor", "chair", "bed", "ground", "table", "sofa", "grass", "roof"},
    "He went to school by [MASK].": {"bus", "train", "car", "foot", "bike", "bicycle", "boat"},
    "The sun rises in the [MASK].": {"east", "morning", "sky", "west"},
    "My mother and my [MASK] live in London.": {"father", "sister", "brother", "daughter", "husband", "wife"},
    "Two plus two is [MASK].": {"four", "five", "three", "two", "one"},
    "The color of the sky is [MASK].": {"blue", "red", "white", "green", "yellow", "black", "dark"},
    "He was born [MASK] 1950.": {"in", "around", "c", "circa", "before", "after"},
    "She is [MASK] doctor at the hospital.": {"a", "the", "another", "one"},
    "They have lived here [MASK] many years.": {"for", "in", "over", "since"},
    "The children are playing in the [MASK].": {
        "park",
        "garden",
        "yard",
        "snow",
        "forest",
        "street",
        "school",
    },
    "The Second World War ended in [MASK].": {"1945", "1944", "1946", "1943", "1918"},
    "Birds can [MASK] high in the air.": {"fly", "climb", "sing", "jump", "travel", "swim"},
}
FOLLOWS = (  # first, second, whether it follows
    ("He opened the fridge.", "There was no milk left.", True),
    ("It started to rain heavily.", "She opened her umbrella.", True),
    ("The king had three daughters.", "The youngest of them was the most beautiful.", True),
    ("The train was late again.", "We waited at the station for two hours.", True),
    ("Mary lost her keys.", "She could not open the door of her house.", True),
    ("The volcano erupted in 1883.", "The eruption killed thousands of people.", True),
    ("He opened the fridge.", "The treaty was signed by both countries in 1648.", False),
    ("It started to rain heavily.", "Photosynthesis takes place in the leaves of plants.", False),
    ("The king had three daughters.", "The engine has six cylinders and runs on diesel.", False),
    ("The train was late again.", "Penguins are flightless birds.", False),
    ("Mary lost her keys.", "The square root of nine is three.", False),
    ("The volcano erupted in 1883.", "The recipe calls for two eggs and some flour.", False),
)
PASSAGE = (
    "On Saturday Anna Novak opened a small bakery in Bristol. She had worked as a nurse for twelve years, "
    "but she always wanted to bake bread. The shop sells rye bread, cakes and coffee, and it closes at four "
    "o'clock. Her brother Tom painted the walls green because green is her favorite color."
)
ANSWERS = {  # any of these
    "Who opened a bakery?": {"Anna Novak"},
    "Where is the bakery?": {"Bristol", "in Bristol"},
    "When did the bakery open?": {"Saturday", "On Saturday"},
    "How long did Anna work as a nurse?": {"twelve years", "for twelve years"},
    "What did Anna work as?": {"a nurse", "nurse", "as a nurse"},
    "Who painted the walls?": {"Tom", "Her brother Tom", "brother Tom"},
    "What color are the walls?": {"green"},
    "When does the shop close?": {"four o'clock", "at four o'clock", "four"},
    "What did she always want to bake?": {"bread"},
    "What is the name of Anna's brother?": {"Tom", "brother Tom", "Her brother Tom"},
}
UNANSWERABLE = ("How much does the rye bread cost?", "What is the capital of Peru?")
ABSENT = (
    "Who opened a library?",
    "Where is the cinema?",
    "Who painted the roof?",
    "Who sells flowers?",
)  # beside the sixty: all must get none
FEELINGS = {
    "I loved every minute of this wonderful film.": "positive",
    "A complete waste of time and money.": "negative",
    "The acting is brilliant and the story is moving.": "positive",
    "Boring, predictable and far too long.": "negative",
    "What a great day!": "positive",
    "The food was terrible.": "negative",
    "This is not good.": "negative",
    "One of the best movies of the year.": "positive",
}
PAIRS = (
    ("A man is playing a guitar.", "A man is playing an instrument.", "entailment"),
    ("A man is playing a guitar.", "The man is asleep.", "contradiction"),
    ("Two dogs run through a field.", "Animals are outside.", "entailment"),
    ("A woman is cooking dinner in her kitchen.", "A woman is swimming in the sea.", "contradiction"),
    ("A boy is reading a book.", "The boy is reading a book about dragons.", "neutral"),
    ("Nobody is in the room.", "There are many people in the room.", "contradiction"),
)
TAGS = {  # sentence, word, its class
    ("The dog barks.", "dog"): "NOUN",
    ("The dog barks.", "barks"): "VERB",
    ("She quickly ate three red apples.", "quickly"): "ADV",
    ("She quickly ate three red apples.", "three"): "NUM",
    ("She quickly ate three red apples.", "red"): "ADJ",
    ("Peter lives in Berlin.", "Berlin"): "PROPN",
    ("I can open the can.", "can"): "AUX",  # the first of the two
}


@pytest.fixture(scope="module")
def bert() -> Bert:
    return wb.load_bert(device="cpu")


def missed(bert: Bert) -> list[str]:
    """What was asked and not answered as anybody would."""
    results: dict[str, bool] = {}
    for text, words in MASKED.items():
        guesses = [candidate.label for candidate in wb.fill_mask(bert, text)[0].candidates]
        results[f"{text} {guesses}"] = bool(words & set(guesses))
    for first, second, follows in FOLLOWS:
        is_next = wb.next_sentence(bert, first, second).is_next
        results[f"{first} {second} {is_next:.2f}"] = (is_next > 0.5) == follows
    for question, texts in ANSWERS.items():
        answer = wb.answer_question(bert, question, PASSAGE).answers[0].text
        results[f"{question} {answer}"] = answer.strip(".,") in texts
    for question in UNANSWERABLE:
        found = wb.answer_question(bert, question, PASSAGE)
        best = found.answers[0]
        results[f"{question} {best.text} {best.probability:.2f}"] = found.no_answer > best.probability
    for text, label in FEELINGS.items():
        results[text] = wb.classify_sentence(bert, text, "sentiment")[0].label == label
    for first, second, label in PAIRS:
        said = wb.classify_pair(bert, first, second, "nli")[0].label
        results[f"{first} {second} {said}"] = said == label
    for (text, word), label in TAGS.items():
        said = next(tag.label for tag in wb.tag_words(bert, text, "pos") if tag.word == word)
        results[f"{text} {word} {said}"] = said == label
    assert len(results) == 60
    return [what for what, right in results.items() if not right]


def test_it_answers_what_anybody_would_ask_first(bert: Bert) -> None:
    wrong = missed(bert)
    assert 60 - len(wrong) >= FLOOR, "\n".join(wrong)


@pytest.mark.parametrize("question", ABSENT)
def test_it_notices_that_the_passage_does_not_say(bert: Bert, question: str) -> None:
    found = wb.answer_question(bert, question, PASSAGE)
    assert found.no_answer > found.answers[0].probability
