"""Answers given beforehand: playing leaves no trace, and what is packed ends where it is told to."""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from types import SimpleNamespace

import pytest
from tiny import our_bert, our_vit

from workbench.plots import in_percent
from workbench.widgets import (
    MaskedFilling,
    PatchAttention,
    PatchHiding,
    SpanExtraction,
    base as widgets_base,
    rehearsal,
)
from workbench.widgets.rehearsal import Background, Rehearsal


@pytest.fixture
def widget() -> MaskedFilling:
    return MaskedFilling(our_bert("mlm"), "the cat sat", masked=[(4, 7)])


def unpacked(packed: bytes) -> dict:
    whole = gzip.decompress(packed)
    return json.loads(whole[4 : 4 + int.from_bytes(whole[:4], "little")])


def test_nobody_notices_a_rehearsal(widget: MaskedFilling, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    widget.observe(told.append)
    monkeypatch.setattr(widget, "_send", lambda message, **_: told.append(message))
    before = {name: getattr(widget, name) for name in widget.keys}
    played = Rehearsal(widget, 10**6)
    for step, _ in enumerate(chain(played.play(), played.pack())):
        assert {name: getattr(widget, name) for name in widget.keys} == before
        if step == 5:  # somebody uses it in between
            widget.attention_layer = 0
            assert widget.attention_layer == 0 and told
            before = {name: getattr(widget, name) for name in widget.keys}
            told.clear()
    assert told == [] and step > 20
    widget.masked = []
    assert widget.guesses["count"] == 0, "it answers as before"


def test_what_has_no_room_is_left_out_and_said() -> None:
    widget = PatchAttention(our_vit())
    whole, part = (Rehearsal(widget, limit).run() for limit in (10**6, 12_000))
    assert unpacked(whole)["note"] == ""
    assert "clicks are saved" in unpacked(part)["note"] and len(part) < len(whole)


def test_a_widget_that_lists_nothing_still_packs(widget: MaskedFilling, monkeypatch) -> None:
    monkeypatch.setattr(MaskedFilling, "rehearse", lambda _: [])
    assert unpacked(Rehearsal(widget, 1000).run())["answers"] == {}


def test_what_is_stopped_is_kept(widget: MaskedFilling, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, play = [], MaskedFilling._play

    def stopped(self: MaskedFilling, click: dict) -> None:
        answered.append(click)
        if len(answered) == 20:
            raise KeyboardInterrupt
        play(self, click)

    monkeypatch.setattr(MaskedFilling, "_play", stopped)
    found = unpacked(Rehearsal(widget, 10**6).run())
    assert found["answers"] and found["note"].startswith("Only") and len(answered) == 20
    assert widget.masked == [(4, 7)] and not widget._quiet


def idle(
    *shown: MaskedFilling, monkeypatch: pytest.MonkeyPatch, touch: Callable = lambda: False
) -> Background:
    """What a kernel with nothing to do does, until there is nothing left or `touch` does something."""
    monkeypatch.setattr(rehearsal, "QUIET", 0.02)
    background = Background()
    monkeypatch.setattr(widgets_base, "BACKGROUND", background)

    async def wait() -> None:
        for one in shown:
            background.show(one)
        for _ in range(2000):
            await asyncio.sleep(0.01)
            if touch() or all(one.rehearsal for one in shown):
                break

    with ThreadPoolExecutor() as pool:  # a thread of its own has no loop yet
        pool.submit(asyncio.run, wait()).result()
    return background


def test_answers_are_given_beforehand_while_nobody_asks(widget: MaskedFilling, monkeypatch) -> None:
    other = MaskedFilling(widget.model, "on the mat")
    background = idle(widget, other, monkeypatch=monkeypatch)
    assert unpacked(widget.rehearsal)["answers"] and unpacked(other.rehearsal)["answers"]
    widget.layer = 1
    assert widget.rehearsal, "a click that was rehearsed"
    widget.text = "the cat"
    assert not widget.rehearsal and other.rehearsal, "what was rehearsed is not true of another text"
    assert [one.unrehearsed(background.share) for one in (widget, other)] == [True, False]
    assert other.unrehearsed(1000), "more widgets have less room each"


def test_a_widget_that_changes_is_played_anew(widget: MaskedFilling, monkeypatch) -> None:
    texts = iter(["the cat sat on", "the cat sat on the mat"])

    def type_once() -> bool:
        if text := next(texts, None):
            widget.text = text
        return False

    idle(widget, monkeypatch=monkeypatch, touch=type_once)
    masked = [value for value in unpacked(widget.rehearsal)["values"] if value == [[19, 22]]]
    assert masked, "the last word of the last text"


def test_a_cell_that_runs_again_leaves_its_old_widget_behind(widget: MaskedFilling, monkeypatch) -> None:
    parent = {"metadata": {"cellId": "a"}, "header": {"msg_id": "1"}}
    shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda: parent))
    monkeypatch.setattr(rehearsal, "get_ipython", lambda: shell)
    background, new = Background(), MaskedFilling(widget.model, "on the mat")
    background.show(widget)
    played = Rehearsal(widget, 1000)
    played.run()
    widget.remember(played)
    parent |= {"header": {"msg_id": "1b"}, "metadata": {"cellId": "b"}}  # and it stands in another cell
    background.show(widget)
    parent |= {"header": {"msg_id": "2"}, "metadata": {"cellId": "a"}}
    background.show(new)
    assert list(background.shown) == [widget, new] and widget.rehearsal
    parent |= {"header": {"msg_id": "3"}, "metadata": {"cellId": "b"}}
    background.show(new)
    assert list(background.shown) == [new] and not widget.rehearsal


def test_a_still_and_a_name_say_what_is_seen(widget: MaskedFilling) -> None:
    _, about = widget._repr_mimebundle_()
    best = widget.guesses["cards"][0]["candidates"][0]
    said = about["image/png"]["alt"]
    assert said.startswith("MaskedFilling: [CLS] the [MASK] sat [SEP]")
    assert f"{best[0]} {in_percent(best[1])}" in said
    assert repr(widget).startswith("MaskedFilling(") and "text='the cat sat', masked=[(4, 7)]" in repr(widget)
    assert "..." in repr(MaskedFilling(widget.model, "the cat " * 15)), "a long text is shortened"


def test_widgets_of_a_page_share_values_and_room(widget: MaskedFilling, monkeypatch) -> None:
    """Two of one text take little more room than one; what the small ones leave goes to the large one."""
    alone = Rehearsal(widget, 10**6)
    alone.run()
    background = Background()
    others = [MaskedFilling(widget.model, "the cat sat", masked=[(4, 7)]), MaskedFilling(widget.model, "on")]
    for one in (widget, *others):
        background.show(one)
    monkeypatch.setattr(rehearsal, "WHOLE_PAGE", 10**6)
    found = background.finish()
    assert len(base64.b64decode(found["values"])) < 1.5 * len(alone.packed)
    assert [unpacked(one.rehearsal)["values"] for one in background.shown] == [[], [], []]
    assert [unpacked(one.rehearsal)["note"] for one in background.shown] == ["", "", ""]
    assert list(found["stills"]) == [one.model_id for one in background.shown]
    needed = len(base64.b64decode(found["values"])) + sum(one._rehearsal.lines for one in background.shown)
    for room, note in ((1.2, ""), (0.5, "Only")):
        monkeypatch.setattr(rehearsal, "WHOLE_PAGE", int(room * needed))
        background.finish()
        assert unpacked(widget.rehearsal)["note"].split(" ")[0] == note, "the first is the largest"


def test_a_model_that_can_still_learn_is_played(widget: MaskedFilling) -> None:
    bert = our_bert("span").requires_grad_(True)
    assert unpacked(Rehearsal(SpanExtraction(bert, "who", "the cat sat"), 10**6).run())["answers"]


def test_what_clicks_decide_together_is_asked_together() -> None:
    """Classes after a layer are shown while its stage is open; a pinned answer leaves the chosen window."""
    hiding = PatchHiding(our_vit(), hidden=[0, 1])
    found = unpacked(Rehearsal(hiding, 10**6).run())
    tables = [table for table in found["answers"]["bars"] if "layer" in table["of"]]
    assert any("stage" in table["of"] for table in tables)
    for table in (table for table in tables if "stage" not in table["of"]):
        layers = {int(key.split(",")[table["of"].index("layer")]) for key in table["at"]}
        assert {found["values"][place] for place in layers} <= {-1, hiding.layers}, "where no stage matters"
    span = SpanExtraction(our_bert("span"), "who", "the cat sat")
    found = unpacked(Rehearsal(span, 10**6).run())
    clicks = [found["values"][int(place)] for place in found["changes"]["window"][0]["at"]]
    assert ["pinned"] in clicks, found["changes"]["window"]


def test_what_clicks_of_different_groups_decide_is_asked_for() -> None:
    """What a token fetches in a layer is not known from the layer alone, though no group plays both."""
    span = SpanExtraction(our_bert("span"), "who sat", "the cat sat on the mat")
    found = unpacked(Rehearsal(span, 10**6).run())
    for table in found["answers"]["drawer"]:
        names = table["of"]
        stages = {found["values"][int(key.split(",")[names.index("stage")])] for key in table["at"]}
        if "layer" in stages:
            assert {"layer", "token", "chosen"} <= set(names)
