"""Still pictures: what the marks draw, where `stack` puts it, and that no still runs a model."""

import base64
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from tiny import our_bert, patch_vit

from workbench import patches, plots, widgets
from workbench.bert import Bert
from workbench.encoder import Encoder
from workbench.patches import principal_components, similarity, word_vectors
from workbench.training.lessons import fine_tune
from workbench.vit import ViT
from workbench.widgets.base import WorkbenchWidget

ODD = "the $x_1$ cat 两 </script>sat"  # no formula, a letter that matplotlib's font lacks, no markup
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def bert() -> Bert:
    bert = our_bert("mlm", "nsp", "span", "sentiment", "pos")
    bert.add_head("nli", "sentence", ["entailment", "neutral", "contradiction"])
    return bert


@pytest.fixture(scope="module")
def vit() -> ViT:
    return patch_vit()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def check_room(figure: plots.StillFigure, dpi: int) -> None:
    """Nothing that is written is cut off, and nothing is written over something else."""
    drawn: dict[Text, Bbox] = {}
    draw = Text.draw

    def note(text: Text, renderer: RendererBase) -> None:
        if text.get_visible() and text.get_text():
            drawn[text] = text.get_window_extent(renderer).padded(-1)
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        figure.drawn("png", dpi)
    width, height = figure.get_size_inches() * dpi
    for at, (text, box) in enumerate(drawn.items()):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, f"{text} is cut off"
        over = [other for other, one in [*drawn.items()][:at] if box.overlaps(one)]
        assert not over, f"{text} is written over {over}"


# --- stills of the widgets


def tuned(bert: Bert, _: ViT) -> WorkbenchWidget:
    widget = widgets.FineTuning(bert, [(ODD, "cat"), ("a dog", "dog")] * 8, fine_tune, steps=2)
    widget.finish()
    return widget


def classified(bert: Bert, _: ViT) -> WorkbenchWidget:
    widget = widgets.SentenceClassifier(bert, ODD, hidden=[(4, 5)])
    for _ in range(2):  # the gradient, and some words left out, as when the view asks
        widget._on_message(None, {"do": "explain"}, None)
    assert widget.tried
    return widget


def hidden(_: Bert, vit: ViT) -> WorkbenchWidget:
    widget = widgets.PatchHiding(vit, PICTURE, hidden=[1, 2])
    widget.shuffle(0)
    for _ in range(6):
        widget.keep()
    return widget


def mapped(_: Bert, vit: ViT) -> WorkbenchWidget:
    widget = widgets.PatchAttention(vit, PICTURE, method="relevance", second=1, mass=0.8)
    widget.test_map()
    return widget


STILLS: dict[str, Callable[[Bert, ViT], WorkbenchWidget]] = {
    "AttentionExplorer": lambda bert, _: widgets.AttentionExplorer(bert, ODD),
    "AttentionExplorer, patches": lambda _, vit: widgets.AttentionExplorer(vit, image=PICTURE),
    "FineTuning": tuned,
    "FineTuning, before": lambda bert, _: widgets.FineTuning(bert, [(ODD, "cat")], fine_tune),
    "MaskedFilling": lambda bert, _: widgets.MaskedFilling(bert, ODD, masked=[(0, 3)], hide="right"),
    "MaskedFilling, no mask": lambda bert, _: widgets.MaskedFilling(bert, ODD),
    "NextSentence": lambda bert, _: widgets.NextSentence(bert, ODD, "a dog", cls_at="end"),
    "PatchAttention": mapped,
    "PatchHiding": hidden,
    "PatchSplitter": lambda _, vit: widgets.PatchSplitter(vit, PICTURE),
    "PatchSplitter, class token": lambda _, vit: widgets.PatchSplitter(vit, PICTURE, patch=-1),
    "PatchSplitter, other patches": lambda _, vit: widgets.PatchSplitter(vit, PICTURE, patch_size=16),
    "SentenceClassifier": classified,
    "SentenceClassifier, not explained": lambda bert, _: widgets.SentenceClassifier(bert, ODD),
    "SentencePair": lambda bert, _: widgets.SentencePair(bert, ODD, "a dog"),
    "SentencePair, lines": lambda bert, _: widgets.SentencePair(
        bert, ODD, "a dog", direction="premise", lines=True
    ),
    "SpanExtraction": lambda bert, _: widgets.SpanExtraction(bert, "the $x_1$?", ODD),
    "TokenTagger": lambda bert, _: widgets.TokenTagger(bert, ODD),
}


def test_every_widget_has_its_still() -> None:
    assert {name.split(",")[0] for name in STILLS} == {name for name in dir(widgets) if name[0].isupper()}


@pytest.mark.parametrize("name", STILLS)
def test_a_still_runs_no_model_warns_of_nothing_and_says_its_status(bert: Bert, vit: ViT, name: str) -> None:
    widget = STILLS[name](bert, vit)
    assert widget.error == ""
    passes = []

    def count(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, Encoder):
            passes.append(module)

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = widget.figure()
            data, _ = widget._repr_mimebundle_()
    finally:
        hook.remove()
    assert passes == [] and "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    check_room(figure, plots.DOTS)
    papers = [text.get_bbox_patch() for text in figure.findobj(Text) if text.get_bbox_patch()]
    assert all(paper.get_facecolor()[3] < 0.5 for paper in papers), "words stay legible on a dark page"
    shown = texts(figure)
    assert any(widget.status in text for text in shown)
    if name.split(",")[0] in ("MaskedFilling", "SentencePair", "SpanExtraction", "TokenTagger"):
        assert "cat" in shown and "两" in shown
    assert texts(widget.figure()) == shown, "nothing was used up or changed"


@pytest.mark.parametrize("name", STILLS)
def test_save(bert: Bert, vit: ViT, tmp_path: Path, name: str) -> None:
    widget = STILLS[name](bert, vit)
    for ending, start in ("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>"):
        content = widget.save(tmp_path / f"figure.{ending}").read_bytes()
        assert content.startswith(start) and len(content) > 5000
        assert b"</script>sat" not in content
    addresses = content.replace(b"http://www.w3.org", b"")  # the colon is no letter of base64
    assert b"http:" not in addresses and b"https:" not in addresses
    with pytest.raises(ValueError, match=r"\.svg, \.png or \.html"):
        widget.save(tmp_path / "figure.gif")


def test_stills_show_the_widgets_numbers(bert: Bert, vit: ViT) -> None:
    pair = widgets.SentencePair(bert, "the cat", "a dog")
    assert all(plots.in_percent(now) in texts(pair.figure()) for _, now, _ in pair.classes)
    pair = widgets.SentencePair(bert, "the cat", "a dog ran", direction="premise", lines=True)
    links = np.frombuffer(pair.weights, np.float16).reshape(2, 3)
    np.testing.assert_allclose(pair.figure().axes[1].images[0].get_array(), links, atol=1e-3)
    tagger = widgets.TokenTagger(bert, "the cat sat", pinned=1, stage="head")
    logits = [logit for *_, logit, _ in tagger.drawer["rows"]]
    bars = [bar.get_width() for bar in tagger.figure().axes[1].patches]
    np.testing.assert_allclose(bars, logits, atol=1e-2)
    classes = [f"{word['text']} ({tagger.labels[word['label']]}" for word in tagger.words]
    assert all(one in tagger.figure().says for one in classes)
    explorer = widgets.AttentionExplorer(bert, "the cat sat", layer=2, head=1)
    shown = np.frombuffer(explorer.matrix, np.float16).reshape(5, 5)
    np.testing.assert_allclose(explorer.figure().axes[0].images[0].get_array(), shown, atol=5e-4)
    splitter = widgets.PatchSplitter(vit, PICTURE, stage="embeddings")
    vectors = np.frombuffer(splitter.numbers, np.float16).reshape(3, -1)
    drawn = [axes.images[0].get_array()[0] for axes in splitter.figure().axes[3:6]]
    np.testing.assert_allclose(drawn, vectors, atol=2e-2)
    classifier = classified(bert, vit)
    left_out = [word["text"] for word in classifier.words if word["hidden"]]
    assert texts(classifier.figure()).count("hidden") == 2 * len(left_out) == 2


def test_saving_explains_first(bert: Bert, tmp_path) -> None:
    widget = widgets.SentenceClassifier(bert, "the cat sat")
    assert any("not found out yet" in text for text in texts(widget.figure()))
    widget.save(tmp_path / "still.png")
    assert not widget.waiting
    assert any("leave one out" in text for text in texts(widget.figure()))


# --- the marks


def test_words_flow_within_the_picture() -> None:
    chips = [plots.Chip(f"word{number}", note="0 · 0 %" * (number % 2)) for number in range(200)]
    text = plots.words([plots.Chip("x" * 500), *chips], title="a long text")
    figure = plots.stack(text, plots.bars([["a long name beside the axes", 0.5]]), status="small print")
    figure.savefig(io.BytesIO())
    room = figure.bbox
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text()]
    assert all(box.x0 >= 0 and box.x1 <= room.x1 and box.y0 >= 0 and box.y1 <= room.y1 for box in boxes)
    shown = texts(figure)
    assert "…" in shown and "word118" in shown and "word119" not in shown, "the first 120, and a sign"
    words = [text for text in figure.findobj(Text) if isinstance(text.get_bbox_patch(), FancyBboxPatch)]
    words = [word.get_window_extent() for word in words]
    assert not any(one.overlaps(other) for at, one in enumerate(words) for other in words[:at])


def test_bars_stand_on_a_scale_from_0_to_100_percent() -> None:
    figure = plots.stack(
        plots.bars([["yes", 0.25, 0.5], ["n" * 50, 0.004, 0.1], ["same", 0.2, 0.2]], title="answer")
    )
    (axes,) = figure.axes
    assert axes.get_xlim() == (0, 1)
    assert [bar.get_width() for bar in axes.patches] == [1, 1, 1, 0.25, 0.004, 0.2], (
        "the scale, then the values"
    )
    ticks = [part.get_segments()[0] for part in axes.collections if isinstance(part, LineCollection)]
    assert [tick[0][0] for tick in ticks] == [0.5, 0.1], "where it was another"
    assert {"25 %", "0.4 %", "answer"} <= set(texts(figure))
    assert [len(label.get_text()) for label in axes.get_yticklabels()] == [3, 34, 4]


def test_a_map_says_what_its_colours_stand_for() -> None:
    figure = plots.stack(plots.heat([[0, 5], [2, 0]], "ab", "cd"))
    assert "clear 0, blue 5" in texts(figure) and "2" in texts(figure)
    signed = plots.stack(plots.heat([[-4.0, 1.0]])).axes[0]
    assert signed.images[0].get_clim() == (-4, 4) and signed.get_xlabel() == "orange -4, blue 4"
    tiled = plots.tiled(np.ones((2, 3, 4, 4)))
    assert tiled.shape == (10, 15) and np.isnan(tiled[4]).all() and tiled[0, 0] == 1
    assert plots.tiled(np.zeros((1, 2, 4, 4, 3))).shape == (5, 10, 3)
    many = plots.stack(plots.heat(np.ones((61, 61)), ["name"] * 61, ["name"] * 61))
    assert "name" not in texts(many) and "20" in texts(many), "too many to be named are numbered"


@pytest.mark.parametrize("dpi", [plots.DOTS, 200])
def test_long_names_and_many_have_room(dpi: int) -> None:
    names = [f"a long name, that of class {number}" for number in range(6)]
    many = [f"class {number}" for number in range(20)]
    maps = [(plots.heat(np.eye(len(some)), some, some, title="map"),) * 2 for some in (names, many)]
    lines = plots.curves({"ours": [(0, 0), (9, 1)]}, {"guessing": 0.5, "more": 0.7})
    check_room(plots.stack(*maps, plots.bars([[name, 0.5] for name in names]), lines, status="small"), dpi)


def test_the_opacity_of_a_map_follows_the_weight() -> None:
    weights = np.array([[0.0, 0.1], [0.2, 0.05]])
    mark = plots.picture(PICTURE, weights, opacity=0.8, framed=[1], grid=(2, 2))
    (axes,) = plots.stack(mark).axes
    share = weights / 0.2
    known = np.stack([np.ones((2, 2)), 1 - share, np.zeros((2, 2)), 0.8 * share], -1)
    np.testing.assert_allclose(axes.images[1].get_array(), known, atol=0.005)
    assert axes.patches[0].get_bbox().bounds == (30, 0, 30, 20), "the second patch"


def test_classes_have_colours_that_can_be_told_apart() -> None:
    for count in (2, 3, 8, 9, 14, 17, 21):
        found = np.array([plots.class_color(at, count) for at in range(count)])
        apart = np.abs(found[:, None] - found).sum(-1) + 9 * np.eye(count)
        assert apart.min() > 1 / count, count
    often = [
        plots.class_color(at, 17) for at in (0, 1, 5, 7, 10, 12, 15)
    ]  # as words of a sentence mostly are
    apart = np.abs(np.array(often)[:, None] - often).sum(-1) + 9 * np.eye(7)
    assert np.count_nonzero(apart < 0.3) <= 2  # of one pair, at most


def test_curves_are_compared() -> None:
    figure = plots.stack(plots.curves({"ours": [(1, 2), (2, 1)]}, {"level": 1.5, "other": [(1, 1)]}, top=3))
    assert figure.says == "ours from 2 to 1"
    assert {"ours", "level", "other", "step"} <= set(texts(figure))
    assert [line.get_linestyle() for line in figure.axes[0].lines] == ["-", "--", "--"]


def test_parts_stand_side_by_side_and_below_each_other() -> None:
    one = plots.bars([["a", 0.1]], title="one")
    figure = plots.stack((one, [one, one]), one, status="small print")
    left, upper, lower, last = [axes.get_position() for axes in figure.axes]
    (small,) = [text for text in figure.texts if text.get_text() == "small print"]
    small = small.get_window_extent().transformed(figure.transFigure.inverted())
    assert left.x1 < upper.x0 and upper.x0 == pytest.approx(lower.x0, abs=0.01)
    assert upper.y0 > lower.y1 and lower.y0 > last.y1 and last.y0 > small.y0
    assert figure.get_size_inches()[0] == 9


def test_a_page_shows_a_figure_in_its_own_colours() -> None:
    """On a dark page nothing stays dark but what is drawn over a picture, and nothing white is laid down."""
    marks = plots.heat([[0, 5], [2, 0]], "ab", "cd", title="<a> & b"), plots.bars([["a", 0.5]])
    figure = plots.stack(marks, plots.curves({"ours": [(1, 2), (2, 1)]}, {"level": 1.5}), status="small")
    page = figure._repr_html_()
    assert page.startswith('<svg role="img" aria-label="') and "&lt;a&gt; &amp; b" in page
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", page)) - {"none"}
    assert {"#1f6feb"} < colours and not colours & {"#000000", plots.INK.lower(), plots.MUTED, plots.PAPER}
    own = {colour for colour in colours if colour.startswith("#")}
    assert own <= {plots.BLUE, plots.AMBER, plots.GREEN, "#ffffff"} and page.count("#ffffff") <= 1, "the 5"
    face = np.frombuffer(figure._repr_png_()[0][1:4], np.uint8)
    assert bytes(face) == b"PNG", "where there is no page"


def test_gaps_between_pictures_are_clear() -> None:
    figure = plots.picture_rows({"two": np.full((2, 20, 20, 3), 80, np.uint8)})
    opacity = figure.axes[0].images[0].get_array()[..., 3]
    assert (opacity[:20, :20] == 1).all() and (opacity[:, 20] == 0).all()


# --- the lessons' plots


def test_the_one_figure_shows_both_ways() -> None:
    figure = plots.two_front_doors("I drink [MASK].", "tea", PICTURE, "cat")
    shown = texts(figure)
    assert {"tea", "cat", "front door", "I drink [MASK]."} <= set(shown)
    assert sum("the same encoder" in text for text in shown) == 1
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), PICTURE)


def test_senses_are_drawn(bert: Bert) -> None:
    sentences = ["the cat sat", "a cat ran", "cat"]
    vectors = word_vectors(bert, sentences, "cat")
    drawn = similarity(vectors).numpy(), principal_components(vectors).numpy(), sentences
    figure = plots.word_senses(*drawn, ["animal", "animal", "word"])
    assert figure._repr_png_()[0].startswith(b"\x89PNG")
    assert {"embeddings", "layer 5", "1", "3", "direction 1", "direction 2"} <= set(texts(figure))
    assert any(
        "1  the cat sat (animal)\n2  a cat ran (animal)\n3  cat (word)" in text for text in texts(figure)
    )
    one, two, other = figure.axes[1].collections[0].get_facecolors()
    assert (one == two).all() and (one != other).any() and one[3] < 0.5, "numbers stay legible on a dark page"
    check_room(figure, 100)


def test_curves_and_tables_of_heads_are_drawn() -> None:
    log = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "accuracy": 0.5}]
    panels = {"loss": ["loss"], "right": ["accuracy"]}
    figure = plots.learning_curves(log, panels, {"loss": {"guessing": 1.5}})
    assert "guessing" in texts(figure), "a level is named where it is drawn"
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "right"]
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() == [2, 1]
    assert figure._repr_png_()[0].startswith(b"\x89PNG")
    table = np.zeros((3, 4))
    table[2, 1] = 1
    drawn = plots.by_head(dict.fromkeys("abcd", table))
    assert "most in layer 3, head 2" in drawn.axes[0].get_title(loc="left")
    large = {f"mean attention distance in pixels {number}": np.ones((6, 12)) for number in range(5)}
    for one in (figure, drawn, plots.by_head(large)):
        check_room(one, 100)


def test_figures_of_the_front_door(vit: ViT) -> None:
    for figure in (
        plots.embedding_filters(patches.filter_components(vit)),
        plots.position_maps(patches.position_similarity(vit), most=3),
    ):
        assert figure._repr_png_()[0]


def test_numbers_of_any_kind_and_dollars_are_drawn() -> None:
    rows = [["a", np.float32(0.3)], ["b", torch.tensor(0.25)], ["c", float("nan")]]
    for percent in (True, False):
        plots.stack(plots.bars(rows[: 2 + (not percent)], percent=percent)).drawn("png", 30)
    figure = plots.two_front_doors("I pay $5 or $6.", "$_$", np.zeros((8, 8, 3)), "tea $x_$")
    figure.drawn("png", 30)  # what is read as mathematics would end here
    texts = [text for axes in figure.get_axes() for text in axes.texts if text.get_text()]
    assert len(texts) > 10 and not any(text.get_parse_math() for text in texts)
