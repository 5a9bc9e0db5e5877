"""Answers given beforehand: playing leaves no trace, and what is packed ends where it is told to."""

import gzip
import json

import pytest
from tiny import our_bert, our_vit

from workbench.widgets import MaskedFilling, PatchAttention
from workbench.widgets.rehearsal import Rehearsal


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
    rehearsal = Rehearsal(widget, 10**6)
    for step, _ in enumerate(rehearsal.play()):
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
    whole, part = widget._rehearsed(10**6), widget._rehearsed(12_000)
    assert unpacked(whole)["note"] == ""
    assert "clicks are saved" in unpacked(part)["note"] and len(part) < len(whole)


def test_a_widget_that_lists_nothing_still_packs(widget: MaskedFilling, monkeypatch) -> None:
    monkeypatch.setattr(MaskedFilling, "rehearse", lambda _: [])
    assert unpacked(widget._rehearsed(1000))["answers"] == {}
