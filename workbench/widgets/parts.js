// What several views are made of. A view is a list of these parts and what a click on them sends.

import { answerWriter, element, frame, percent, range, rgbaOf, shown, within } from "./shared.js";

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

export const button = (text, onclick, options = {}) =>
  element("button.plain", { type: "button", onclick, ...options }, text);

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

// A whole number to type; what is none becomes what was there.
function numberField({ get, send, drawn }, trait, label, [min, max]) {
  const field = element("input", { type: "number", min, max, "aria-label": label });
  const show = () => {
    field.value = get(trait);
  };
  field.onchange = () => {
    send({ [trait]: within(Math.round(+field.value) || get(trait), min, max) });
    show();
  };
  drawn(show);
  return field;
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
    if (event.key === "Enter" && !event.shiftKey) event.preventDefault();
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

// The colour of one class of so many: far apart, also between neighbours. Its name stands beside it.
export const classColor = (at, count) =>
  `hsl(${Math.round((360 * ((at * (count > 8 ? 7 : 1)) % count)) / count)} 75% 50%)`;

export const classSwatch = (at, count) =>
  element("span.swatch.class", { style: `--class: ${classColor(at, count)}` });

// --- sections, bars, layers

export const note = (...children) => element("p.note", ...children);

// A framed section with a title.
export const part = (title, ...children) =>
  element("section.part", { "aria-label": title }, element("h4", title), ...children);

// A name, a bar on a scale from 0 to 100 %, and the percentage; `before` is a tick where the bar was, `told`
// what that means; `kind` is "best", or a class of the view. The number of a regression has no scale: instead
// of the bar, `before` is written out. With click() it is a button.
export function bar(name, share, options = {}) {
  const { before = null, told = "it was", click, pressed, problemType, kind = "" } = options;
  const write = answerWriter(problemType);
  const was = before === null ? "" : `${told} ${write(before)}`;
  const tick = was && element("span.before", { style: `left: ${99 * before}%`, title: was });
  const track = element("span.track", element("span.fill", { style: `width: ${100 * share}%` }), tick);
  const middle = write === percent ? track : element("span.note", was);
  const cells = [element("span.word", { title: name }, name), middle, element("span.value", write(share))];
  const own = { class: `bar ${kind}` };
  if (!click) return element("div", own, cells);
  return element("button", { ...own, type: "button", onclick: click, "aria-pressed": `${pressed}` }, cells);
}

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
  for (const name of now.getAttributeNames()) if (!next.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of next.attributes)
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  for (const name of LISTENERS) now[`on${name}`] = next[`on${name}`];
  if (now.localName === "input") now.value = next.value;
  refill(now, [...next.childNodes]);
}

// --- what the keyboard walks through

const MOVES = {
  ArrowUp: ([row, column]) => [row - 1, column],
  ArrowDown: ([row, column]) => [row + 1, column],
  ArrowLeft: ([row, column]) => [row, column - 1],
  ArrowRight: ([row, column]) => [row, column + 1],
  Home: ([row]) => [row, 0],
  End: ([row]) => [row, Infinity],
};

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
    all[within(now + steps[event.key], 0, all.length - 1)].focus();
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
    const own = kind === "special" ? {} : { type: "button", "aria-pressed": `${pressed}` };
    const dir = /special|mask/.test(kind) ? "ltr" : null; // so that the words decide how all run
    const options = { class: `chip ${kind}`, title, style, dir, ...own };
    return element(kind === "special" ? "span" : "button", options, element("span.text", text), ...below);
  };
  const draw = (items) => {
    refill(node, items.map(chip));
    settle();
  };
  return { node, draw };
}

// The cell [row, column] under the mouse, if so many of them fill this box of the canvas; or null.
export function cellUnder({ target, offsetX, offsetY }, [rows, columns], box) {
  const [left, top, width, height] = box ?? [0, 0, target.clientWidth, target.clientHeight];
  const row = Math.floor(((offsetY - top) / height) * rows);
  const column = Math.floor(((offsetX - left) / width) * columns);
  return row < 0 || column < 0 || row >= rows || column >= columns ? null : [row, column];
}

// A canvas of cells that mouse and keys walk over. shape(): [rows, columns]; box(): what they fill of it;
// point(cell or null, byKey): another one is under mouse or cursor; click(cell, byKey); `cursor` is where the
// keys begin.
export function cellCanvas(kind, label, { shape, box = () => null, point, click, cursor = [0, 0] }) {
  let now = null;
  const canvas = element(`canvas.${kind}`, { tabindex: 0, role: "application", "aria-label": label });
  const under = (event) => cellUnder(event, shape(), box());
  const inside = (cell) => cell.map((at, axis) => within(at, 0, shape()[axis] - 1));
  const preview = (cell, byKey = false) => {
    if (String(cell) === String(now)) return;
    now = cell;
    point(cell, byKey);
  };
  canvas.addEventListener("pointermove", (event) => preview(under(event)));
  canvas.addEventListener("click", (event) => {
    cursor = under(event) ?? cursor;
    if (under(event)) click(cursor, false);
  });
  for (const kind of ["pointerleave", "blur"]) canvas.addEventListener(kind, () => preview(null));
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && preview(inside(cursor)));
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (move) {
      cursor = inside(move(inside(cursor)));
      preview(cursor, true);
    } else if (event.key === "Enter" || event.key === " ") click(inside(cursor), true);
    else return;
    event.preventDefault();
  });
  const setCursor = (cell) => {
    cursor = cell;
  };
  return { canvas, setCursor, cursor: () => inside(cursor) };
}

// --- canvases

// A pen for a canvas, in CSS pixels, sharp on any screen. Without a size the canvas keeps that of its style.
export function penOf(canvas, width = canvas.clientWidth, height = canvas.clientHeight) {
  const scale = window.devicePixelRatio || 1;
  if (width !== canvas.clientWidth) canvas.style.width = `${width}px`;
  if (height !== canvas.clientHeight) canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "11px system-ui, sans-serif";
  return pen;
}

export function straightLine(pen, start, end, color, width = 2) {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.beginPath();
  pen.moveTo(...start);
  pen.lineTo(...end);
  pen.stroke();
}

// A frame around [x, y, width, height].
export function outline(pen, area, color, width = 2) {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.strokeRect(...area);
}

// A colour of CSS as [red, green, blue].
export const rgbOf = (color) => rgbaOf(color).slice(0, 3);

// A canvas with one pixel for each cell; color(at) gives [red, green, blue, opacity], each up to 255.
export function pixels(rows, columns, color, canvas = element("canvas")) {
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  const { data } = image;
  for (let at = 0; at < 4 * rows * columns; at += 4) {
    [data[at], data[at + 1], data[at + 2], data[at + 3]] = color(at / 4); // set() is ten times slower
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Numbers as colours, one pixel each: --accent above zero, --random below, the strongest one opaque (or the
// one of rank `clip`, so that a few outliers do not pale the rest).
export function signedPixels(canvas, rows, ink, clip = 0) {
  const [above, below] = ["--accent", "--random"].map((name) => rgbOf(ink(name)));
  const values = rows.flat();
  const strongest = Math.max(
    1e-9,
    Float32Array.from(values, Math.abs)
      .sort()
      .at(-1 - clip),
  );
  const opacity = (value) => Math.min(255, (255 * Math.abs(value)) / strongest);
  const color = (at) => [...(values[at] < 0 ? below : above), opacity(values[at])];
  return pixels(rows.length, rows[0].length, color, canvas);
}

// A line from one place to another by way of two, the wider and the less pale the larger its share.
export function curvedLine(pen, share, start, ...places) {
  pen.globalAlpha = 0.1 + 0.85 * share;
  pen.lineWidth = 0.5 + 4 * share;
  pen.beginPath();
  pen.moveTo(...start);
  pen.bezierCurveTo(...places.flat());
  pen.stroke();
}

// All heads (across) of all layers (down), a small map each: picture(layer, head) makes one, which is kept
// until key() gives other things; under() and over() paint more, hover([layer, head] or null) previews one,
// choose([layer, head]) pins it.
function headGrid({ get, ink }, options) {
  const { most = 40, key, picture, under = () => {}, over = () => {}, isChosen, hover, choose } = options;
  const edge = 18;
  const gap = 3;
  const [layers, heads] = ["layers", "heads"].map(get);
  let hovered = null; // previewed
  let known = []; // the key of the pictures
  let pictures = {};
  const size = () =>
    within(Math.floor(((canvas.parentElement?.clientWidth ?? 0) - edge) / heads) - gap, 14, most);
  const point = (place) => {
    hovered = place;
    hover(place);
    draw();
  };
  const { canvas, cursor } = cellCanvas("head-grid", "", {
    shape: () => [layers, heads],
    box: () => [edge, edge, heads * (size() + gap), layers * (size() + gap)],
    cursor: [Math.max(0, get("layer")), Math.max(0, get("head"))],
    point,
    click: choose,
  });

  function draw() {
    const side = size();
    const start = (at) => edge + at * (side + gap);
    const pen = penOf(canvas, start(heads), start(layers));
    const now = key();
    if (now.some((one, at) => one !== known[at])) pictures = {};
    known = now;
    pen.fillStyle = ink("--muted");
    pen.textAlign = "center";
    pen.imageSmoothingEnabled = false;
    for (const head of range(heads)) pen.fillText(head + 1, start(head) + side / 2, 12);
    for (const layer of range(layers)) pen.fillText(layer + 1, 7, start(layer) + side / 2 + 4);
    for (const place of range(layers).flatMap((layer) => range(heads).map((head) => [layer, head]))) {
      const area = [start(place[1]), start(place[0]), side, side];
      pictures[place] ??= picture(place);
      under(pen, place, area);
      pen.drawImage(pictures[place], ...area);
      if (isChosen(place)) outline(pen, area, ink("--ink"), 3);
      over(pen, place, area);
      if (String(hovered) === String(place)) outline(pen, area, ink("--accent"), 3);
    }
    const [layer, head] = cursor();
    const keys = "Arrow keys preview, Enter chooses.";
    const label = `${layers} layers of ${heads} heads. ${keys} Now: layer ${layer + 1}, head ${head + 1}.`;
    canvas.setAttribute("aria-label", label);
  }
  return { canvas, draw, cursor };
}

// --- plots

// A plot with lines at `least`, at `most` and half-way; show(value) writes them. Places along it are shares
// of its width: below: [[share, text, anchor]], dots: [[share, value, kind, radius]],
// lines: [{ kind: "main" or "base", points: [[share, value]] }].
export function plot(what) {
  const { label, width = 300, height = 160, least = 0, most, show, below = [], lines = [], dots = [] } = what;
  const svg = element("svg.plot", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const x = (share) => 52 + share * (width - 60);
  const y = (value) => 10 + ((most - Math.min(value, most)) / (most - least)) * (height - 38);
  for (const value of [least, (least + most) / 2, most]) {
    svg.append(element("line", { x1: x(0), x2: x(1), y1: y(value), y2: y(value) }));
    svg.append(element("text", { x: x(0) - 5, y: y(value) + 4, "text-anchor": "end" }, show(value)));
  }
  for (const [share, text, anchor] of below)
    svg.append(element("text", { x: x(share), y: height - 6, "text-anchor": anchor }, text));
  for (const { kind, points } of lines) {
    const places = points.map(([share, value]) => `${x(share)},${y(value)}`);
    svg.append(element(`polyline.${kind}`, { points: places.join(" ") }));
  }
  for (const [share, value, kind, r] of dots)
    svg.append(element(`circle.${kind}`, { cx: x(share), cy: y(value), r }));
  return svg;
}

const PARTS = {
  toggle,
  choice,
  select,
  slider,
  numberField,
  live,
  attentionOf,
  headMenu,
  textField,
  exampleMenu,
  remark,
  headGrid,
};
