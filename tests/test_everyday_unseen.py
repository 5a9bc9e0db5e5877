"""A hundred more plain things, by which no checkpoint was chosen: each is asked once, when it is to ship."""

import sys

import test_everyday

import workbench as wb

FLOOR = 78  # of 100; two fewer than what ships

MASKED = {  # any of these as the first guess
    "Rome is the capital of [MASK].": {"italy"},
    "Madrid is the capital of [MASK].": {"spain"},
    "The capital of France is [MASK].": {"paris"},
    "Three plus one is [MASK].": {"four"},
    "The grass is [MASK].": {"green"},
    "Snow is [MASK].": {"white", "cold"},
    "A year has twelve [MASK].": {"months"},
    "The baby began to [MASK].": {
        "cry",
        "weep",
        "scream",
        "sleep",
        "laugh",
        "walk",
        "grow",
        "smile",
        "speak",
    },
    "I brush my [MASK] every evening.": {"teeth", "hair"},
    "He plays the [MASK] in a band.": {
        "guitar",
        "drums",
        "piano",
        "bass",
        "violin",
        "trumpet",
        "flute",
        "drum",
    },
    "She reads a [MASK] before she goes to bed.": {"book", "story", "letter", "poem", "novel", "magazine"},
    "The doctor works in a [MASK].": {"hospital", "clinic"},
    "The teacher wrote on the [MASK].": {"board", "blackboard", "paper", "wall", "chalkboard", "whiteboard"},
    "Fish live in the [MASK].": {"sea", "water", "ocean", "river", "lake", "rivers", "oceans", "pond"},
    "In winter it is very [MASK].": {"cold"},
    "Cows give us [MASK].": {"milk", "meat"},
    "My father drives a [MASK].": {"car", "truck", "bus", "taxi", "cab", "van"},
    "We went to the beach and swam in the [MASK].": {
        "sea",
        "water",
        "ocean",
        "waves",
        "river",
        "lake",
        "pool",
    },
    "He is taller [MASK] his brother.": {"than"},
    "They were looking [MASK] their keys.": {"for", "at"},
    "I have two brothers and one [MASK].": {"sister"},
    "The king and the [MASK] lived in a castle.": {"queen", "princess", "prince"},
    "The plane landed at the [MASK].": {"airport", "airfield"},
    "The first man on the [MASK] was Neil Armstrong.": {"moon"},
    "You should drink a lot of [MASK].": {"water", "milk", "tea", "juice"},
}
FOLLOWS = (  # first, second, whether it follows
    ("The baby was crying.", "Her mother took her in her arms.", True),
    ("He forgot his umbrella.", "He came home soaking wet.", True),
    ("The farmer has ten cows.", "He milks them every morning.", True),
    ("My computer does not start.", "I have to take it to a repair shop.", True),
    ("The soup was too hot.", "She waited until it had cooled down.", True),
    ("Snow fell all night.", "In the morning the children built a snowman.", True),
    ("Tom broke his leg.", "The doctor put it in plaster.", True),
    ("A new school was built in the village.", "More than two hundred children go there.", True),
    ("The princess was asleep.", "The prince kissed her, and she opened her eyes.", True),
    ("Do you have a table for two?", "Yes, there is one by the window.", True),
    ("The baby was crying.", "Granite is an igneous rock.", False),
    ("He forgot his umbrella.", "The album reached number three in the charts.", False),
    ("The farmer has ten cows.", "The spacecraft entered orbit around Mars.", False),
    ("My computer does not start.", "The bishop was buried in the cathedral.", False),
    ("The soup was too hot.", "The railway line was opened in 1871.", False),
    ("Snow fell all night.", "The company has its headquarters in Chicago.", False),
    ("Tom broke his leg.", "Whales are the largest mammals.", False),
    ("A new school was built in the village.", "Vinegar contains acetic acid.", False),
    ("The princess was asleep.", "Prices are set by supply and demand.", False),
    ("Do you have a table for two?", "The dinosaurs died out millions of years ago.", False),
)
PASSAGES = (  # a passage, its questions with their answers, and questions that it does not answer
    (
        "Every summer Luca visits his grandmother in Naples. She lives in a yellow house near the harbor "
        "with two cats. In the morning they buy fish at the market, in the evening she teaches him to play "
        "cards. Last year he stayed for six weeks.",
        {
            "Who visits his grandmother?": {"Luca"},
            "When does Luca visit his grandmother?": {"Every summer", "summer"},
            "Where does his grandmother live?": {
                "Naples",
                "in Naples",
                "a yellow house",
                "in a yellow house",
                "near the harbor",
                "a yellow house near the harbor",
                "in a yellow house near the harbor",
                "yellow house",
            },
            "What color is the house?": {"yellow"},
            "How many cats does she have?": {"two", "two cats"},
            "What do they buy at the market?": {"fish"},
            "What does she teach him?": {"cards", "to play cards", "play cards"},
            "How long did he stay last year?": {"six weeks", "for six weeks"},
        },
        (
            "How many dogs does she have?",
            "What is the name of his grandmother?",
            "Who is the president of Italy?",
            "What do they sell at the market?",
        ),
    ),
    (
        "The Eiffel Tower is an iron tower in Paris. It was built from 1887 to 1889 by the company of the "
        "engineer Gustave Eiffel and is 330 metres tall. About seven million people visit it every year.",
        {
            "Where is the Eiffel Tower?": {"Paris", "in Paris"},
            "What is the Eiffel Tower made of?": {"iron"},
            "How tall is the tower?": {"330 metres", "330 metres tall", "330"},
            "How many people visit it every year?": {
                "seven million",
                "About seven million",
                "seven million people",
                "About seven million people",
            },
            "Who was an engineer?": {"Gustave Eiffel"},
            "What was Gustave Eiffel?": {"engineer", "an engineer", "the engineer"},
            "In which city does the tower stand?": {"Paris", "in Paris"},
            "When was it built?": {"1887 to 1889", "from 1887 to 1889", "1889", "1887"},
        },
        (
            "How much does a ticket cost?",
            "Who painted the tower?",
            "How deep is the river?",
            "When was Gustave Eiffel born?",
        ),
    ),
)
FEELINGS = {
    "This is the best day of my life.": "positive",
    "I hate this song.": "negative",
    "The hotel was dirty.": "negative",
    "Our teacher is very kind.": "positive",
    "I don't like this soup.": "negative",
    "I can't complain.": "positive",
    "The book was exciting from start to finish.": "positive",
    "I fell asleep after ten minutes.": "negative",
    "Thanks for your help!": "positive",
    "He ruined the whole evening.": "negative",
    "It is not as good as the first one.": "negative",
    "My friends are wonderful.": "positive",
}
PAIRS = (
    ("The door is open.", "The door is closed.", "contradiction"),
    ("A girl is eating an apple.", "A girl is eating a fruit.", "entailment"),
    ("The man is singing.", "The man is silent.", "contradiction"),
    ("Peter has a dog.", "Peter has an animal.", "entailment"),
    ("Peter has a dog.", "Peter's dog is brown.", "neutral"),
    ("The train leaves at five.", "The train leaves at seven.", "contradiction"),
    ("Everyone passed the test.", "Maria passed the test.", "entailment"),
    ("She is thirty years old.", "She is a child.", "contradiction"),
    ("They are playing football in the park.", "They are outside.", "entailment"),
    ("We had pizza for lunch.", "The pizza was expensive.", "neutral"),
    ("He never drinks coffee.", "He drinks coffee every day.", "contradiction"),
    ("A bird is sitting on the roof.", "The bird is looking for food.", "neutral"),
)
TAGS = {  # sentence, word, its class
    ("My sister bought a new car.", "My"): "PRON",
    ("My sister bought a new car.", "bought"): "VERB",
    ("The meeting starts at noon.", "meeting"): "NOUN",
    ("She is very happy.", "very"): "ADV",
    ("They live in New York.", "York"): "PROPN",
    ("Wow, that is great!", "Wow"): "INTJ",
    ("I stayed because it rained.", "because"): "SCONJ",
}


def test_it_answers_what_nobody_chose_it_by() -> None:
    wrong = test_everyday.missed(wb.load_bert(device="cpu"), sys.modules[__name__])
    assert 100 - len(wrong) >= FLOOR, "\n".join(wrong)
