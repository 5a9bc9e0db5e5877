// What several views are made of. A view is a list of these parts and what a click on them sends.

import { cellCanvas, outline, penOf } from "./drawing.js";
import { answerWriter, counted, element, frame, percent, range, shown, within } from "./shared.js";

// The frame of a widget, with the parts that stand for its traits: view.slider("mass", …) shows the trait at
// each drawing, and sends what is chosen. view.with({ send }) is the same with another way of sending, and
// view.looks sends what only changes the look.
export function viewOf(model, el, name) {
  const withParts = (view) => {
    const bound = Object.entries(PARTS).map(([part, make]) => [part, (...given) => make(view, ...given)]);
    return Object.assign(view, Object.fromEntries(bound), {
      with: (changes) => withParts({ ...view, ...changes }),
    });
  };
  const view = withParts(frame(model, el, name));
  return Object.assign(view, { looks: view.with({ send: view.set }) });
}

// --- controls

export const button = (text, onclick, options = {}) => element("button.plain", { onclick, ...options }, text);

// A button that is pressed while its trait is true.
function toggle({ get, send, drawn }, trait, text) {
  const node = button(text, () => send({ [trait]: !get(trait) }));
  drawn(() => node.setAttribute("aria-pressed", get(trait)));
  return node;
}

// A label and buttons of which one is pressed: `choices` is { value: text }.
function choice({ get, send, drawn }, trait, label, choices) {
  const buttonOf = ([value, text]) => button(text, () => send({ [trait]: value }), { "data-value": value });
  const buttons = Object.entries(choices).map(buttonOf);
  drawn(() => {
    for (const one of buttons) one.setAttribute("aria-pressed", one.dataset.value === get(trait));
  });
  return element("span.group", { role: "group", "aria-label": label }, label, ...buttons);
}

export const numbered = (count) => range(count).map((at) => [at, at + 1]);

// The options of a menu: texts, or [value, text, disabled].
const optionsOf = (listed) =>
  listed.map((one) => {
    const [value, text = value, disabled = false] = [one].flat();
    return element("option", { value, disabled }, text);
  });

// A labelled native menu of a list, or of what listed() gives; `also` is sent with what is chosen, value() is
// shown if it is not the trait itself.
function select({ get, send, drawn }, trait, label, listed, { also, value = () => get(trait) } = {}) {
  const typed = typeof get(trait) === "number" ? Number : String;
  const control = element("select", { onchange: () => send({ [trait]: typed(control.value), ...also }) });
  drawn(() => {
    refill(control, optionsOf(typeof listed === "function" ? listed() : listed));
    control.value = value();
  });
  return element("label.field", label, control);
}

// A labelled slider; with show(value) its value is written beside it, else the label is for screen readers
// only. It is sent at each step, or for `when` "change" once it is let go.
function slider({ get, send, drawn }, trait, label, [min, max, step], { show, when = "input" } = {}) {
  const control = element("input", { type: "range", min, max, step, "aria-label": label });
  const written = element("output");
  const write = () => {
    written.textContent = show?.(+control.value) ?? "";
  };
  control.addEventListener("input", write);
  control.addEventListener(when, () => send({ [trait]: +control.value }));
  drawn(() => {
    control.value = get(trait);
    write();
  });
  return show ? element("label.field", label, control, written) : control;
}

// A whole number to type, between two words; what is none becomes what was there.
function numberField({ get, send, drawn }, trait, label, [min, max], before, after) {
  const field = element("input", { type: "number", min, max, "aria-label": label });
  const show = () => {
    field.value = get(trait);
  };
  field.onchange = () => {
    send({ [trait]: within(Math.round(+field.value) || get(trait), min, max) });
    show();
  };
  drawn(show);
  return element("label.field", before, field, after);
}

// Whose attention: a layer (and what else `more` offers), and a head or the mean of all.
function attentionOf(view, label, more = []) {
  const { get, drawn } = view;
  const layers = [...numbered(get("layers")), ...more];
  const known = () => layers.find(([layer]) => layer === get("attention_layer"))?.[0] ?? get("layers") - 1;
  const layer = view.select("attention_layer", label, layers, { value: known });
  const head = view.select("attention_head", "head", [[-1, "mean"], ...numbered(get("heads"))]);
  drawn(() => {
    head.lastChild.disabled = get("attention_layer") >= get("layers");
  });
  return element("span.group", layer, head);
}

// Which of the checkpoint's heads answers, if there are several.
function headMenu(view) {
  const node = view.select("head", "Head", view.get("choices"));
  node.hidden = view.get("choices").length < 2;
  return node;
}

// A node whose children are made anew at each drawing: live("p.note", { … }, () => [ … ]); hidden for null.
function live({ drawn }, name, ...given) {
  const children = given.pop();
  const node = element(name, ...given);
  drawn(() => {
    const now = children();
    node.hidden = now === null;
    refill(node, [now]);
  });
  return node;
}

export const progressBar = (label) =>
  element("progress", { max: 1, value: 0, hidden: true, "aria-label": label });

// --- texts

// What is typed in a field. Half a character (a lone surrogate) would be lost on the way to Python.
export const typedText = (field) => field.value.toWellFormed?.() ?? field.value;

// A labelled field for a text; each change is sent. While Python is busy, Jupyter keeps the last one back.
// `kind` is "first" or "second", for its colour.
function textField({ get, send, drawn }, trait, label, kind = "") {
  const area = element("textarea.text", { rows: 2, spellcheck: "false", dir: "auto" });
  area.addEventListener("input", () => send({ [trait]: typedText(area) }));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) event.preventDefault();
  });
  drawn(() => {
    if (typedText(area) !== get(trait)) area.value = get(trait);
  });
  const caption = element("span.caption", kind && element(`span.swatch.${kind}`), label);
  return { node: element(kind ? `label.text-field.${kind}` : "label.text-field", caption, area), area };
}

// A menu of examples; choosing one asks Python for it.
function exampleMenu({ get, message }, label) {
  const choose = () => {
    if (menu.value !== "") message({ do: "example", index: +menu.value });
    menu.value = "";
  };
  const listed = [["", label], ...get("examples").map((text, at) => [at, text])];
  const menu = element("select", { "aria-label": label, onchange: choose }, ...optionsOf(listed));
  return menu;
}

// What Python remarks on the text.
const remark = (view) => view.live("p.remark", { role: "status" }, () => view.get("note"));

// The colour of one class of so many, as class_color of plots.py has it. Its name stands beside it.
export const classColor = (at, count) =>
  `hsl(${Math.round(360 * (count > 8 ? (0.236068 * at) % 1 : at / count))} 75% 50%)`;

export const classSwatch = (at, count) =>
  element("span.swatch.class", { style: `--class: ${classColor(at, count)}` });

// --- sections, bars, layers

export const note = (...children) => element("p.note", ...children);

// Buttons to the page before and the one after: what turn() is given for each, or false where there is none.
export const turns = (before, after, turn) =>
  Object.entries({ previous: before, next: after }).map(([name, to]) =>
    button(name, () => turn(to), { disabled: to === false }),
  );

// What is said of what mouse or cursor are on.
export const told = () => element("p.note.told", { "aria-live": "polite" });

export const row = (...children) => element("div.bar-row", ...children);

// Beside each other, where there is room; `widths` are those of CSS.
export const columns = (widths, ...children) =>
  element("div.columns", { style: `--columns: ${widths}` }, ...children);

export const section = (label, ...children) => element("section", { "aria-label": label }, ...children);

// A framed section with a title.
export const part = (title, ...children) =>
  element("section.part", { "aria-label": title }, element("h4", title), ...children);

// A name, a bar on a scale from 0 to 100 %, and the percentage; `before` is a tick where the bar was, `told`
// what that means; `kind` is "best", or a class of the view. What is not written as percent, the number of a
// regression, has no scale: instead of the bar, `before` is written out. With click() it is a button.
export function bar(name, share, options = {}) {
  const { before = null, told = "it was", click, pressed, write = percent, kind = "" } = options;
  const was = before === null ? "" : `${told} ${write(before)}`;
  const tick = was && element("span.before", { style: `left: ${99 * before}%`, title: was });
  const track = element("span.track", element("span.fill", { style: `width: ${100 * share}%` }), tick);
  const middle = write === percent ? track : element("span.note", was);
  const cells = [element("span.word", { title: name }, name), middle, element("span.value", write(share))];
  const own = { class: `bar ${kind}` };
  if (!click) return element("div", own, cells);
  return element("button", { ...own, onclick: click, "aria-pressed": pressed }, cells);
}

// An answer as it is written, and the bars of answers, [[name, now, before]]: with ticks if it is told what
// was before; more(bar) gives more options of one.
const write = ({ get }, answer) => answerWriter(get("problem_type"))(answer);

function bars({ get }, listed, told, more = () => ({})) {
  const write = answerWriter(get("problem_type"));
  const before = (one) => (told ? { before: one[2], told } : {});
  return listed.map((one) => bar(one[0], one[1], { ...before(one), write, ...more(one) }));
}

// What is said of classes that are too many for bars.
export const hiddenClasses = ({ get }) =>
  get("hides") > 0 && `${counted(get("hides"), "other")}, less probable.`;

// --- tables

const cell = (what) => (["TH", "TD"].includes(what?.nodeName) ? what : element("td", what));

// A row of a table; what is no cell becomes one.
export const tableRow = (...cells) => element("tr", ...cells.map(cell));

// The names of columns.
export const tableHead = (...names) =>
  element("thead", element("tr", ...names.map((name) => element("th", { scope: "col" }, name))));

// --- what is drawn anew

const LISTENERS = ["click", "change", "paste", "mouseenter", "mouseleave", "focus", "blur"];

// Puts new children into a group. A node of the same kind at the same place stays and becomes like the new
// one: the keyboard's focus stays on it, and what was pressed before a drawing may be let go after it.
export function refill(group, children) {
  const wanted = shown(children.flat());
  while (group.childNodes.length > wanted.length) group.lastChild.remove();
  for (const [at, child] of wanted.entries()) {
    const now = group.childNodes[at];
    const next = child.nodeType ? child : document.createTextNode(child);
    if (now === next) continue;
    if (!now) group.append(next);
    else if (now.nodeName !== next.nodeName || now.localName === "canvas") now.replaceWith(next);
    else if (now.nodeType === Node.TEXT_NODE) now.data = next.data;
    else become(now, next);
  }
}

function become(now, next) {
  const typing =
    now === now.getRootNode().activeElement && now.type === "text" && now.value !== now.defaultValue;
  for (const name of now.getAttributeNames()) if (!next.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of next.attributes)
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  for (const name of LISTENERS) now[`on${name}`] = next[`on${name}`];
  if (now.localName === "input" && !typing) now.value = next.value;
  refill(now, [...next.childNodes]);
}

// --- what the keyboard walks through

// Buttons in a group are one stop of the Tab key; arrow keys, Home and End move inside. Call what it returns
// when there are other buttons.
export function roving(group) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  const buttons = () => [...group.querySelectorAll("button")];
  let reached = null; // by the Tab key
  const settle = () => {
    if (!group.contains(reached)) reached = buttons()[0];
    for (const one of buttons()) one.setAttribute("tabindex", one === reached ? 0 : -1);
  };
  group.addEventListener("keydown", (event) => {
    const all = buttons();
    const now = all.indexOf(event.target.closest("button"));
    if (!steps[event.key] || now < 0) return;
    event.preventDefault();
    const turned = /Left|Right/.test(event.key) && getComputedStyle(group).direction === "rtl";
    all[within(now + (turned ? -1 : 1) * steps[event.key], 0, all.length - 1)].focus();
  });
  group.addEventListener("focusin", (event) => {
    reached = event.target.closest("button");
    settle();
  });
  return settle;
}

// Words side by side that the arrow keys walk along: click(index); point(index) when mouse or focus are on
// one, and point(-1) when they leave it. draw() takes items:
//   text; kind: its class, "special" for what is no button; pressed; title; style; below: nodes under it.
export function chips(label, click, point = () => {}) {
  const node = element("div.chips", { role: "group", "aria-label": label, dir: "auto" });
  const settle = roving(node);
  const at = (event) => [...node.children].indexOf(event.target.closest("button.chip"));
  node.addEventListener("click", (event) => at(event) >= 0 && click(at(event)));
  for (const kind of ["mouseover", "focusin"]) node.addEventListener(kind, (event) => point(at(event)));
  for (const kind of ["mouseleave", "focusout"]) node.addEventListener(kind, () => point(-1));
  const chip = ({ text, kind = "", pressed, title, style, below = [] }) => {
    const dir = /special|mask/.test(kind) ? "ltr" : null; // so that the words decide how all run
    const options = { class: `chip ${kind}`, title, style, dir };
    const parts = [element("span.text", text), ...below];
    return kind === "special"
      ? element("span", options, parts)
      : element("button", { ...options, "aria-pressed": pressed }, parts);
  };
  const draw = (items) => {
    refill(node, items.map(chip));
    settle();
  };
  return { node, draw };
}

// --- all heads

// All heads (across) of all layers (down), a small map each, and what is said of one under mouse or cursor:
// picture([layer, head], canvas) paints one, on its canvas of before, and is kept until key() gives other
// things; under() and over() paint more, hover([layer, head] or null) previews one, describe() tells of it,
// choose() pins it.
function headGrid({ get, ink }, options) {
  const { most = 40, key, picture, under = () => {}, over = () => {}, isChosen, ...does } = options;
  const edge = 18;
  const gap = 3;
  const [layers, heads] = ["layers", "heads"].map(get);
  let hovered = null; // previewed
  let known = []; // the key of the pictures
  let chosen = ""; // the layer and head that are shown
  const pictures = {};
  const size = () =>
    within(Math.floor(((canvas.parentElement?.clientWidth ?? 0) - edge) / heads) - gap, 14, most);
  const said = told();
  const point = (place) => {
    hovered = place;
    said.textContent = place ? does.describe(place) : "";
    does.hover(place);
    draw();
  };
  const { canvas, cursor, setCursor } = cellCanvas("head-grid", "", {
    shape: () => [layers, heads],
    box: () => [edge, edge, heads * (size() + gap), layers * (size() + gap)],
    point,
    click: does.choose,
  });

  function draw() {
    const side = size();
    const start = (at) => edge + at * (side + gap);
    const pen = penOf(canvas, start(heads), start(layers));
    const now = key();
    const others = now.some((one, at) => one !== known[at]);
    known = now;
    const shown = [get("layer"), get("head")];
    if (String(shown) !== chosen) setCursor([shown[0], shown[1] < 0 ? cursor()[1] : shown[1]]);
    chosen = String(shown);
    pen.fillStyle = ink("--muted");
    pen.textAlign = "center";
    pen.imageSmoothingEnabled = false;
    for (const head of range(heads)) pen.fillText(head + 1, start(head) + side / 2, 12);
    for (const layer of range(layers)) pen.fillText(layer + 1, 7, start(layer) + side / 2 + 4);
    for (const place of range(layers).flatMap((layer) => range(heads).map((head) => [layer, head]))) {
      const area = [start(place[1]), start(place[0]), side, side];
      if (others) pictures[place] = picture(place, pictures[place]);
      under(pen, place, area);
      pen.drawImage(pictures[place], ...area);
      if (isChosen(place)) outline(pen, area, ink("--ink"), 3);
      over(pen, place, area);
      if (String(hovered) === String(place)) outline(pen, area, ink("--accent"), 3);
    }
    const [layer, head] = cursor();
    const all = `${counted(layers, "layer")} of ${counted(heads, "head")}`;
    const label = `${all}. Arrow keys preview, Enter chooses. Now: layer ${layer + 1}, head ${head + 1}.`;
    canvas.setAttribute("aria-label", label);
  }
  return { canvas, told: said, draw, cursor };
}

// The same view, with values that only the browser knows: { trait: value }.
const local = (view, values) =>
  view.with({
    get: (trait) => values[trait],
    send: (chosen) => {
      Object.assign(values, chosen);
      view.redraw();
    },
  });

const PARTS = {
  local,
  toggle,
  choice,
  select,
  slider,
  numberField,
  live,
  write,
  bars,
  attentionOf,
  headMenu,
  textField,
  exampleMenu,
  remark,
  headGrid,
};
