"""A number is drawn as a number and never as percent; classes that are true or false for themselves have bars
of their own, and the view says that these need not make 100 % together."""

import numpy as np
import pytest
import torch
from tiny import our_bert, our_vit

from workbench.bert import Bert
from workbench.encoder import PROBLEM_TYPES
from workbench.vit import ViT
from workbench.widgets import (
    AttentionExplorer,
    PatchAttention,
    PatchHiding,
    SentenceClassifier,
    SentencePair,
    TokenTagger,
)

from .conftest import USUAL_SCREEN
from .drawn import View, near, shares

pytestmark = [pytest.mark.browser, USUAL_SCREEN]
_, MULTI, REGRESSION = PROBLEM_TYPES
FIRST, SECOND = "the cat sat.", "a red dog ran, catxy!"
PICTURE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), "uint8")
ABOUT = {
    MULTI: "Each class is true or false for itself: together they need not make 100 %.",
    REGRESSION: "This checkpoint answers with a number on its own scale, not with a class.",
}


def bert(problem_type: str) -> Bert:
    """The answers are far from what softmax or a percentage could be."""
    model = our_bert()
    labels = ["score"] if problem_type == REGRESSION else ["art", "food", "sport"]
    for name, kind in (("topic", "sentence"), ("mark", "word")):
        model.add_head(name, kind, labels, problem_type)
        with torch.no_grad():
            model.heads[name].weight.normal_()
            model.heads[name].bias.fill_(-7 if problem_type == REGRESSION else 1)
    return model.eval()


def vit(problem_type: str) -> ViT:
    model = our_vit(labels="s" if problem_type == REGRESSION else "afs")
    model.problem_type = problem_type
    with torch.no_grad():
        model.heads[0].bias.fill_(-7 if problem_type == REGRESSION else 1)
    return model


def read(texts: list[str]) -> list[float]:
    """Numbers with a true minus sign."""
    return [float(text.replace("\u2212", "-")) for text in texts]


def check(view: View, bars: str, known: list[list], problem_type: str) -> None:
    """The bars [name, answer, another]; `other` ones are those before."""
    assert view.at(".workbench > p.note").text_content() == ABOUT[problem_type]
    assert view.texts(f"{bars} .bar .word") == [name for name, *_ in known]
    values = view.texts(f"{bars} .bar .value")
    if problem_type == MULTI:
        near([shares(value)[0] for value in values], [answer for _, answer, *_ in known])
    else:
        assert view.page.locator(f"{bars} .bar .fill").count() == 0, "a number has no scale"
        assert "%" not in "".join(view.texts(bars))
        near(read(values), [answer for _, answer, *_ in known], 0.06)


@pytest.mark.parametrize("problem_type", [MULTI, REGRESSION])
def test_texts(page, problem_type: str) -> None:
    model = bert(problem_type)
    widget = SentenceClassifier(model, FIRST)
    widget.complete()
    view = View(page, widget)
    check(view, "section[aria-label=Answer]", widget.bars, problem_type)
    written = view.texts(".reasons .part:nth-of-type(2) button small")
    falls = np.frombuffer(widget.left_out, np.float16)[1:-1]
    if problem_type == REGRESSION:
        near(read(written), falls, 0.006)
        assert "by how much does the number fall?" in view.at(".reasons").text_content()
    else:
        near(read(written), 100 * falls, 0.06)
    hidden = View(page, SentenceClassifier(model, FIRST, hidden=[(4, 7)]))
    check(hidden, "section[aria-label=Answer]", hidden.widget.bars, problem_type)
    if problem_type == REGRESSION:
        before = hidden.at(".bar .note").text_content()
        near(read([before.removeprefix("with all words: ")]), [hidden.widget.bars[0][2]], 0.06)


@pytest.mark.parametrize("problem_type", [MULTI, REGRESSION])
def test_pairs(page, problem_type: str) -> None:
    view = View(page, SentencePair(bert(problem_type), FIRST, SECOND))
    check(view, ".classes", view.widget.classes, problem_type)
    explorer = View(page, AttentionExplorer(bert(problem_type), FIRST, SECOND, off=[(0, 1)]))
    check(explorer, ".answers", explorer.widget.answers, problem_type)


@pytest.mark.parametrize("problem_type", [MULTI, REGRESSION])
def test_words(page, problem_type: str) -> None:
    view = View(page, TokenTagger(bert(problem_type), SECOND, pinned=5, stage="head"))
    assert view.at(".workbench > p.note").text_content() == ABOUT[problem_type]
    answers = [answer for *_, answer in view.widget.drawer["rows"]]
    values = view.texts(".bar .value")
    below = view.texts(".chip > small:not(.pieces)")
    said = view.at("p.said").text_content()
    if problem_type == REGRESSION:
        near(read(values), answers, 0.006)
        near(read(below), [word["answer"] for word in view.widget.words], 0.006)
        assert said.endswith("That is the answer.") and "%" not in view.at(".chips").text_content()
    else:
        near([shares(value)[0] for value in values], answers)
        assert said.endswith("The sigmoid of each logit is the probability of its class.")
        assert sum(answers) > 1.05


@pytest.mark.parametrize("problem_type", [MULTI, REGRESSION])
def test_pictures(page, problem_type: str) -> None:
    model = vit(problem_type)
    hiding = PatchHiding(model, PICTURE, hidden=[1, 2, 3], stage="layer")
    hiding.keep()
    view = View(page, hiding)
    check(view, ".part .bars", hiding.bars, problem_type)
    values = view.texts(".by-layer li:last-child")
    assert ("%" in values[0]) == (problem_type == MULTI)
    kept = view.texts(".kept .bar .value")
    near(
        read(kept) if problem_type == REGRESSION else [shares(value)[0] for value in kept],
        [answer for _, answer, _ in hiding.kept[0]["bars"]],
    )
    widget = PatchAttention(model, PICTURE)
    widget.test_map()
    view = View(page, widget)
    best = widget.classes[0][1]
    texts = [view.at("option:has-text('the best')").text_content(), view.at(".map-verdict").text_content()]
    for text in texts:
        number = f"{best:.2f}".replace("-", "\u2212")
        assert ("%" in text) == (problem_type == MULTI) and (problem_type == MULTI or number in text), text
    ends = view.at(".map-curves figure").evaluate(
        """figure => [[...figure.querySelector("polyline.main").points].map((point) => point.y),
            [...figure.querySelectorAll("line")].map((line) => line.y1.baseVal.value)]"""
    )
    (curve, lines), deletion = ends, widget.tests[-1]["deletion"]
    low, high = max(lines), min(lines)  # pixels count downwards
    everything = [*deletion, *widget.tests[-1]["insertion"], *widget.tests[-1]["random"]]
    least, most = min(*everything, 0), max(*everything, 0.01)
    near(least + (low - np.array(curve)) / (low - high) * (most - least), deletion, 0.01 * (most - least))
