"""What all widgets share: one look, a status line, errors as sentences, still pictures, saving."""

import base64
import functools
import math
import re
import reprlib
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from workbench.attention import record_attention
from workbench.bert import Bert
from workbench.checks import check_model
from workbench.encoder import PROBLEM_TYPES
from workbench.files import write_whole
from workbench.plots import DOTS, StillFigure, in_digits, in_percent
from workbench.tasks import device_name
from workbench.vit import ViT
from workbench.widgets.rehearsal import BACKGROUND, Rehearsal, page, picture

MOST_WEIGHTS = 10**9  # of all maps of one input, 4 GB
LARGEST = 2_000_000  # bytes of answers in a saved page, where they take a third more
FEW = 24  # classes that are all shown; of more, the best ones
FOLDER = Path(__file__).parent
SHORT = reprlib.Repr()
SHORT.maxstring = 60
OF_ALL = ("shared", "parts", "strip")  # their style is that of every widget
IMPORT = re.compile(r'^import \{([^}]+)\} from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async function|function|const|class) (\w+))", re.MULTILINE)


def read_front(name: str) -> tuple[str, str]:
    """JavaScript and CSS of a widget: its own files, and those of the modules that it imports.

    anywidget loads a module from a blob, where imports of files fail. So they are joined: each imported
    module becomes a function that is called once, and its exports are all that the others see of it. Each
    style sheet is nested in the widget's class, so that no rule reaches another widget on the page.

    `ImportError` for an import in another form than `import { names } from "./file.js";`. The linter
    (.ci/biome.json) finds imports of what is not there, and circles.
    """
    script, css, own = "", "", ".workbench." + name.replace("_", "-")
    for module, source in _read_modules(name).items():
        script += source if module == name else f"const {module}_js = (() => {{\n{source}}})();\n"
        style = FOLDER / f"{module}.css"
        if style.is_file():
            nest = ".workbench" if module in OF_ALL else own
            css += f"{nest} {{\n{style.read_text(encoding='utf-8')}}}\n"
    return script, css


def _read_modules(name: str) -> dict[str, str]:
    """The module and all that it imports, what is imported first; imports and exports are rewritten."""
    source, sources = (FOLDER / f"{name}.js").read_text(encoding="utf-8"), {}
    for _, other in IMPORT.findall(source):
        sources |= _read_modules(other)
    exports = EXPORT.findall(source)
    source = EXPORT.sub("", IMPORT.sub(r"const {\1} = \2_js;", source))
    if line := re.search(r"^(import|export (?!default)).*", source, re.MULTILINE):
        raise ImportError(f"{name}.js: modules import names in braces and export constants, not {line[0]!r}.")
    if exports:
        source += f"return {{ {', '.join(exports)} }};\n"
    return sources | {name: source}


def to_bytes(array: Tensor) -> bytes:
    """Numbers as float16 bytes, row by row: 512 weights of a row survive, at two bytes each. What lies
    between 0 and 1 stays there: see `rounded`."""
    array = array.detach().cpu()
    half = array.half()
    half[(half == 0) & (array > 0)] = 2**-24
    half[(half == 1) & (array < 1)] = 1 - 2**-11
    return half.numpy().tobytes()


def to_bytes8(array: Tensor, largest: Tensor | None = None) -> bytes:
    """Weights as 8 bits, half the bytes of `to_bytes`: each is the root of its share of its row's largest (or
    of `largest`), so that small ones are told apart, and is 0 only where the weight is."""
    largest = array.amax(-1, keepdim=True) if largest is None else largest
    levels = (array / largest.clamp(min=1e-7)).sqrt().mul(255).round()
    levels[(levels == 0) & (array > 0)] = 1
    return levels.byte().cpu().numpy().tobytes()


def rounded(numbers: Tensor | float, digits: int = 5) -> Any:
    """Few numbers, as a list where they are several, with as many digits as the screen can show. What lies
    between 0 and 1 stays there: only what is 0 or 100 % is called so."""
    if isinstance(numbers, Tensor):
        return [rounded(number, digits) for number in numbers.tolist()]
    step = 10**-digits
    return min(max(round(numbers, digits), step), 1 - step) if 0 < numbers < 1 else round(numbers, digits)


def best_first(answers: Tensor, probable: bool = True) -> list[int]:
    """Which classes have bars: the most probable first, at most `FEW`; all numbers, in their own order."""
    order = answers.argsort(descending=True, stable=True)[:FEW]
    return order.tolist() if probable else [*range(len(answers))]


def now_and_before(labels: Sequence[str], now: Tensor, before: Tensor, order: Sequence[int]) -> list[list]:
    """[label, answer now, before] of some classes; `now` and `before` are (classes,), see `to_answers`."""
    return [[labels[index], *rounded(torch.stack([now[index], before[index]]))] for index in order]


def there(number: int, count: int, other: int) -> int:
    """One of so many, counted from 0; `other` for a number that is none of theirs."""
    return number if 0 <= number < count else other


def sentence(error: Exception) -> str:
    """What a user is told about an error: those of bad input are sentences already."""
    if isinstance(error, ValueError | TypeError) and str(error).endswith("."):
        return str(error)
    return f"Something went wrong inside the workbench ({type(error).__name__}: {error})."


def guarded(method: Callable) -> Callable:
    """For what a click calls: one at a time, an error becomes a sentence, and the answer is one message."""

    @functools.wraps(method)
    def call(self: "WorkbenchWidget", *arguments: Any) -> None:
        with self._lock, self.hold_sync():
            self.revision += 1
            try:
                method(self, *arguments)
                self.error = self._unread
            except Exception as error:  # nobody sees a traceback of a callback
                self.error = sentence(error)

    return call


def _sendable(value: Any) -> Any:
    """A text without half characters (lone surrogates), which no message can carry."""
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else value


def check_maps_fit(model: Bert | ViT, **inputs: Tensor) -> None:
    """Raises `ValueError` for an input whose attention maps would take more than `MOST_WEIGHTS` numbers."""
    if isinstance(model, Bert):
        tokens = inputs["input_ids"].shape[1]
    else:
        tokens = math.prod(side // model.config.patch_size for side in inputs["pixel_values"].shape[2:])
    heads = model.config.num_hidden_layers * model.config.num_attention_heads
    if heads * tokens**2 > MOST_WEIGHTS:
        raise ValueError(
            f"The attention of {tokens:,} tokens in {heads} heads would take "
            f"{heads * tokens**2 * 4 / 1e9:.0f} GB; take a shorter text, or a smaller picture."
        )


class WorkbenchWidget(anywidget.AnyWidget):
    """Base of the widgets. `status` and `error` are lines of text under each of them.

    `options` are traits of the widget: `TypeError` for one that it does not have, `ValueError` for a value
    that it cannot have, also when it is set later, and for an input that cannot be read.
    """

    reads: tuple[type, ...] = (Bert, ViT)  # the models that it looks into
    fields: tuple[str, ...] = ()  # the traits that hold typed texts, first segment first
    _settling = False  # a change is not answered
    _unread = ""  # what is said of a text that could not be read, until one is
    _quiet = False  # nobody is told what changes
    _rehearsal: Rehearsal | None = None  # what `rehearsal` was packed by
    _beside = ""  # the name of another checkpoint

    status = traitlets.Unicode(help="Checkpoint, device, time of the last forward pass.").tag(sync=True)
    error = traitlets.Unicode(help="One sentence about the last input, or empty.").tag(sync=True)
    revision = traitlets.Int(help="Counts the answers; the view is drawn anew with each.").tag(sync=True)
    layers = traitlets.Int(help="Layers of the checkpoint.").tag(sync=True)
    heads = traitlets.Int(help="Attention heads in a layer.").tag(sync=True)
    rehearsal = traitlets.Bytes(help="Answers for a view without a kernel; see Rehearsal.").tag(sync=True)
    problem_type = traitlets.Unicode(PROBLEM_TYPES[0], help="What the answers are.").tag(sync=True)

    def __init_subclass__(cls, **options: Any) -> None:
        """Every trait of a widget crosses to the browser."""
        super().__init_subclass__(**options)
        for name, trait in vars(cls).items():
            if isinstance(trait, traitlets.TraitType) and not name.startswith("_"):
                trait.tag(sync=True)

    def __new__(cls, *arguments: Any, **options: Any) -> "WorkbenchWidget":
        names = [name for name in ("model", "bert", "vit") if name in options]
        if arguments or names:  # else Python says what is missing
            check_model(arguments[0] if arguments else options[names[0]], *cls.reads)
        return super().__new__(cls, *arguments, **options)

    def __init__(self, model: Bert | ViT, **options: Any) -> None:
        unknown = [name for name in options if not self.has_trait(name)]
        if unknown:
            own = ", ".join(sorted(self.class_own_traits()))
            raise TypeError(f"{type(self).__name__} has no option {unknown[0]!r}; it has: {own}.")
        self._lock, self._quiet = threading.RLock(), False
        self._answering: dict[str, Callable[[dict], None]] = {}  # by the trait whose change they answer
        self.model, config = model, model.config
        sizes = {"layers": config.num_hidden_layers, "heads": config.num_attention_heads}
        super().__init__(**sizes | options)
        self.on_msg(self._on_message)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, bool) and isinstance(self.traits().get(name), traitlets.Int):
            value = int(value)  # true counts as 1; a tensor takes it for a mask
        try:
            super().__setattr__(name, value)
        except traitlets.TraitError as error:
            raise ValueError(str(error).rstrip(".") + ".") from error

    def set_trait(self, name: str, value: Any) -> None:
        """As by assignment; what the browser sends comes this way."""
        setattr(self, name, value)

    def set_state(self, sync_data: dict) -> None:
        """What the browser sends; what a trait cannot be gets a sentence, and what was there before stays."""
        values = {name: _sendable(value) for name, value in sync_data.items()}
        before = {name: getattr(self, name) for name in values if self.has_trait(name)}
        with self._lock:  # not in the middle of a rehearsal
            try:
                super().set_state(values)
            except (traitlets.TraitError, TypeError, ValueError) as error:
                with self.hold_sync():
                    for name, value in before.items():  # some were answered before
                        setattr(self, name, value)
                    self.revision += 1
                    self.error = str(error).rstrip(".") + "."
                    self.send_state(list(before))

    def get_state(self, *arguments: Any, **options: Any) -> dict:
        """What the browser is told when a page is loaded again; not in the middle of a rehearsal."""
        with self._lock:
            return super().get_state(*arguments, **options)

    @staticmethod
    def _trait_to_json(value: Any, widget: "WorkbenchWidget") -> Any:
        return _sendable(value)

    def _when(self, names: Sequence[str], answer: Callable[[dict], None]) -> None:
        """From now on a change of one of these traits is answered, unless `_settle` made it."""

        def changed(change: dict) -> None:
            with self._lock:  # another thread's change waits; one that this thread is settling is known
                if not self._settling:
                    self._guarded(answer, change)

        self._answering |= dict.fromkeys(names, answer)
        if names:  # none at all would stand for every trait
            self.observe(changed, list(names))

    @guarded
    def _guarded(self, answer: Callable[[dict], None], change: dict) -> None:
        """What cannot be answered is taken back, but for a text that somebody may be typing."""
        try:
            answer(change)
        except Exception as error:
            if change["name"] in self.fields:
                self._unread = sentence(error) if isinstance(error, ValueError) else ""
            else:
                self._settle(**{change["name"]: change["old"]})
            raise

    @guarded
    def _on_message(self, _: Any, content: dict, __: Any) -> None:
        try:
            self._act(content)
        except Exception as error:
            if sentence(error) == str(error):
                raise
            asked = textwrap.shorten(str(content), 100, placeholder=" ...")
            raise ValueError(f"The view asked for {asked}, which cannot be answered ({error!r}).") from error

    def _act(self, content: dict) -> None:
        """To override: does what a button of the view asks for, {"do": ...}."""

    def _settle(self, **values: Any) -> None:
        """Sets traits without an answer to it; see `_when`."""
        self._settling = True
        try:
            for name, value in values.items():
                setattr(self, name, value)
        finally:
            self._settling = False

    # --- answers given beforehand

    def rehearse(self) -> list[dict]:
        """To override: groups of clicks that a saved view answers, too, the first before all others where
        room is short. A group holds values of traits that a visitor may choose, by name: every combination is
        played. "do" holds messages that buttons send, which are played in every state that they lead to,
        "after" one that is played before all that."""
        return []

    def complete(self) -> None:
        """Finds out what a view would ask for by itself."""
        with self._lock, self.hold_sync():
            self._complete()

    def remember(self, rehearsal: Rehearsal) -> None:
        """Takes what was played into the state that is saved with the notebook, until it is true no more."""
        with self._lock:
            self._rehearsal, self.rehearsal = rehearsal, rehearsal.packed

    def unrehearsed(self, limit: int) -> bool:
        """Whether there are no answers of at most so many bytes to what is on the screen."""
        return not self.rehearsal or (len(self.rehearsal) > limit and self._rehearsal.limit > limit)

    def _inside(self) -> dict[str, Any]:
        """All that the widget holds."""
        return vars(self) | {"_trait_values": dict(self._trait_values)}

    @contextmanager
    def _aside(self, inside: dict[str, Any]) -> Iterator[None]:
        """Holds something else for a while, and nobody is told what happens to it."""
        with self._lock:
            now = self._inside()
            vars(self).update(inside, _trait_values=dict(inside["_trait_values"]), _quiet=True)
            try:
                yield
            finally:
                vars(self).update(now)

    def _play(self, click: dict) -> None:
        """Does what a click does, a message or {trait: value}, up to the last answer that follows."""
        if "do" in click:
            self._act(click)
        else:
            ((name, value),) = click.items()
            change = {"name": name, "old": getattr(self, name), "new": value}
            self._settle(**click)
            self._answering[name](change)
        self._complete()

    def _complete(self) -> None:
        """To override: finds out what a view would ask for by itself after an answer."""

    def notify_change(self, change: dict) -> None:
        """Tells of a change, unless it is rehearsed, and drops the answers to what was there before."""
        if self._quiet:
            return
        super().notify_change(change)
        if change["name"] != "rehearsal":
            BACKGROUND.touched = time.monotonic()
            if self.rehearsal and not self._rehearsal.knows(change["name"], change["new"]):
                self.rehearsal = b""

    def send(self, content: dict, buffers: Sequence[bytes] | None = None) -> None:
        """Tells the view something at once, unless it is rehearsed."""
        if not self._quiet:
            super().send(content, buffers)

    @property
    def _probable(self) -> bool:
        """Whether answers are probabilities, and not the numbers of a regression."""
        return self.problem_type != "regression"

    def _written(self, answer: float) -> str:
        """A probability as percent, or the number of a regression."""
        return in_percent(answer) if self._probable else in_digits(answer)

    def _of_head(self, maps: Tensor, head: int, axis: int = 0) -> Tensor:
        """One head of maps with an axis of heads, or the mean of all for a number that is no head's."""
        return maps.select(axis, head) if 0 <= head < self.heads else maps.mean(axis)

    def _pass(self, other: Bert | ViT | None = None, /, **inputs: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """One forward pass, timed: hidden states, and attention (layers, heads, query, key)."""
        model = other or self.model
        check_maps_fit(model, **inputs)
        with torch.inference_mode(), record_attention(model) as attention, self.timed():
            states = model(**inputs)
        return states, torch.stack([attention[layer][0] for layer in range(self.layers)])

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Puts checkpoint, device and the block's milliseconds into the status line."""
        start = time.perf_counter()
        yield
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        self._say(f"{1000 * (time.perf_counter() - start):.0f} ms")

    def _say(self, what: str) -> None:
        self.status = f"{self.model.name}{self._beside} · {device_name(self.model.device)} · {what}"

    def figure(self) -> StillFigure:
        """The still picture of what the widget shows now."""
        raise NotImplementedError

    def save(self, path: str | Path) -> Path:
        """Writes what the widget shows now as .svg, .png or .html, for a paper or a page that stands alone; a
        file that is there is replaced only once all is written.

        `ValueError` for another ending, `OSError` if it cannot be written there.
        """
        path = Path(path).expanduser()
        kind = path.suffix
        if kind not in (".svg", ".png", ".html"):
            raise ValueError(f"A widget is saved as .svg, .png or .html, not as {kind or path.name!r}.")
        guarded(type(self)._complete)(self)
        if kind == ".html":
            content = self._page(Rehearsal(self, LARGEST).run()).encode()
        else:
            content = self.figure().drawn(kind[1:], 200)
        write_whole(path, content)
        return path

    def _page(self, rehearsal: bytes = b"") -> str:
        state = {name: getattr(self, name) for name in self.keys} | {"rehearsal": rehearsal}
        state = {
            name: {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
            for name, value in state.items()
        }
        body = f'<main data-widget="view">{picture(*self.still())}</main>'
        return page(type(self).__name__, body, {"view": state})

    def still(self) -> tuple[str, str]:
        """The still picture, a PNG as base64, and what is seen on it."""
        figure = self.figure()
        return base64.b64encode(figure.drawn("png", DOTS)).decode(), f"{type(self).__name__}: {figure.says}"

    def __repr__(self) -> str:
        """The class, the checkpoint, and what was chosen; not what was answered."""
        asked = {name: getattr(self, name) for name in [*self.fields, *self._answering]}
        chosen = (name for name in asked if asked[name] != self.trait_defaults(name))
        values = (f"{name}={SHORT.repr(asked[name])}" for name in chosen)
        return f"{type(self).__name__}({', '.join([self.model.name, *values])})"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        """Beside the live view a picture, for places where no kernel is."""
        data, about = super()._repr_mimebundle_(**options)
        BACKGROUND.show(self)
        png, says = self.still()
        return data | {"image/png": png}, about | {"image/png": {"alt": says}}
