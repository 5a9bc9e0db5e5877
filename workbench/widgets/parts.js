// What several views are made of. A view is a list of these parts and what a click on them sends.
// A part is a node, or { node, draw } where draw(…) shows what is there now.

import { answerWriter, element, percent, range, within } from "./shared.js";

// --- controls

export const button = (text, onclick, options = {}) =>
  element("button.plain", { type: "button", onclick, ...options }, text);

// A label and buttons of which one is pressed: `choices` is { value: text }, a click calls choose(value).
export function choice(label, choices, choose) {
  const buttons = Object.entries(choices).map(([value, text]) =>
    button(text, () => choose(value), { "data-value": value }),
  );
  const node = element("span.group", { role: "group", "aria-label": label }, label, ...buttons);
  const draw = (now) => {
    for (const one of buttons) one.setAttribute("aria-pressed", one.dataset.value === now);
  };
  return { node, draw, buttons };
}

// A labelled native menu of names, or of [value, text] pairs; choose(value) gets text.
export function select(label, choices, choose) {
  const control = element("select", { onchange: () => choose(control.value) });
  for (const one of choices) {
    const [value, text = value] = [one].flat();
    control.append(element("option", { value }, text));
  }
  return [element("label.field", label, control), control];
}

// A labelled slider; with show(value) its value is written beside it, else the label is for screen readers
// only.
export function slider(label, [min, max, step], input, show = null) {
  const control = element("input", { type: "range", min, max, step, "aria-label": label });
  const written = element("output");
  const node = show ? element("label.field", label, control, written) : control;
  const write = () => {
    written.textContent = show?.(+control.value) ?? "";
  };
  control.addEventListener("input", () => {
    write();
    input(+control.value);
  });
  const draw = (value) => {
    control.value = value;
    write();
  };
  return { node, control, draw };
}

// A whole number to type; what is none becomes `usual`.
export function numberField(label, [min, max], usual, change) {
  const field = element("input", { type: "number", min, max, "aria-label": label });
  field.addEventListener("change", () => {
    field.value = within(Math.round(+field.value) || usual, min, max);
    change(+field.value);
  });
  return field;
}

// Whose attention: a layer (and what else `more` offers), and a head or the mean of all.
export function attentionOf({ get, send }, label, more = []) {
  const numbered = (count) => range(count).map((at) => [at, at + 1]);
  const layers = [...numbered(get("layers")), ...more];
  const heads = [[-1, "mean"], ...numbered(get("heads"))];
  const [layerField, layer] = select(label, layers, (value) => send({ attention_layer: +value }));
  const [headField, head] = select("head", heads, (value) => send({ attention_head: +value }));
  const draw = () => {
    const now = get("attention_layer");
    layer.value = layers.some(([value]) => value === now) ? now : get("layers") - 1;
    head.value = get("attention_head");
    head.disabled = now >= get("layers");
  };
  return { node: element("span.group", layerField, headField), draw };
}

// --- texts

// What is typed in a field. Half a character (a lone surrogate) would be lost on the way to Python.
export const typedText = (field) => field.value.toWellFormed?.() ?? field.value;

// A labelled field for a text; each change is sent. While Python is busy, Jupyter keeps the last one back.
// `kind` is "first" or "second", for its colour.
export function textField({ get, send }, trait, label, kind = "") {
  const area = element("textarea.text", { rows: 2, spellcheck: "false", dir: "auto" });
  area.addEventListener("input", () => send({ [trait]: typedText(area) }));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) event.preventDefault();
  });
  const draw = () => {
    if (typedText(area) !== get(trait)) area.value = get(trait);
  };
  draw();
  const swatch = kind ? element(`span.swatch.${kind}`) : null;
  const caption = element("span.caption", swatch, label);
  const node = element(kind ? `label.text-field.${kind}` : "label.text-field", caption, area);
  return { node, area, draw };
}

// A menu of examples; choosing one asks Python for it.
export function exampleMenu({ get, message }, label) {
  const choose = (index) => {
    if (index !== "") message({ do: "example", index: +index });
    menu.value = "";
  };
  const [, menu] = select(label, [["", label], ...get("examples").map((text, at) => [at, text])], choose);
  menu.setAttribute("aria-label", label);
  return menu;
}

// --- sections, bars, layers

export const note = (...children) => element("p.note", ...children);

// A framed section with a title.
export const part = (title, ...children) =>
  element("section.part", { "aria-label": title }, element("h4", title), ...children);

// A name, a bar on a scale from 0 to 100 %, and the percentage; `before` is a tick where the bar was, `told`
// what that means. The number of a regression has no scale: instead of the bar, `before` is written out. With
// click() it is a button.
export function bar(name, share, { before = null, told = "it was", click, pressed, problemType } = {}) {
  const write = answerWriter(problemType);
  const was = before === null ? "" : `${told} ${write(before)}`;
  const track = element("span.track", element("span.fill", { style: `width: ${100 * share}%` }));
  if (was) track.append(element("span.before", { style: `left: ${99 * before}%`, title: was }));
  const middle = write === percent ? track : element("span.note", was);
  const cells = [element("span.word", { title: name }, name), middle, element("span.value", write(share))];
  if (!click) return element("div.bar", ...cells);
  return element("button.bar", { type: "button", onclick: click, "aria-pressed": `${pressed}` }, ...cells);
}

// The best guess after every layer, and a slider to look at one of them: draw([[name, share], …], layer,
// problemType).
export function layerList(title, label, choose, ...notes) {
  const list = element("ol");
  const depth = slider(label, [0, 1, 1], choose);
  const draw = (rows, now, problemType) => {
    depth.control.max = rows.length - 1;
    depth.draw(now);
    list.replaceChildren(
      ...rows.map(([name, share], layer) =>
        element(
          layer === now ? "li.now" : "li",
          element("span.note", layer),
          element("span.word", name),
          answerWriter(problemType)(share),
        ),
      ),
    );
  };
  const node = part(title, list, depth.node, ...notes);
  node.classList.add("by-layer");
  return { node, draw };
}

// --- what the keyboard walks through

// Buttons in a group are one stop of the Tab key; arrow keys, Home and End move inside. Call what it returns
// when there are other buttons.
export function roving(group) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  const buttons = () => [...group.querySelectorAll("button")];
  const reach = (chosen) => {
    for (const one of buttons()) one.setAttribute("tabindex", one === chosen ? 0 : -1);
  };
  group.addEventListener("keydown", (event) => {
    const all = buttons();
    const now = all.indexOf(event.target.closest("button"));
    if (!steps[event.key] || now < 0) return;
    event.preventDefault();
    all[within(now + steps[event.key], 0, all.length - 1)].focus();
  });
  group.addEventListener("focusin", (event) => reach(event.target.closest("button")));
  return () => reach(buttons().find((one) => one.getAttribute("tabindex") === "0") ?? buttons()[0]);
}

// Keeps as many children as there are items: make(item) makes one, fill(node, item, index) sets it. Nodes are
// used again, so that the keyboard's focus stays where it is.
export function reuse(parent, items, make, fill) {
  while (parent.children.length > items.length) parent.lastChild.remove();
  for (const [index, item] of items.entries()) {
    if (!parent.children[index]) parent.append(make(item));
    fill(parent.children[index], item, index);
  }
}

// Puts new children into a group; what had the keyboard's focus has it again, by its place.
export function refill(group, children) {
  const controls = () => [...group.querySelectorAll("button, input")];
  const place = controls().indexOf(group.getRootNode().activeElement);
  group.replaceChildren(...children);
  if (place >= 0) controls()[place]?.focus();
}

// Words side by side that the arrow keys walk along: click(index); point(index) when mouse or focus are on
// one, and point(-1) when they leave it. draw() takes items:
//   text; kind: its class, "special" for what is no button; pressed; title; style: { "--shade": "40%" };
//   above, below: more nodes over and under the text.
export function chips(label, click, point = () => {}) {
  const node = element("div.chips", { role: "group", "aria-label": label, dir: "auto" });
  const settle = roving(node);
  const at = (event) => [...node.children].indexOf(event.target.closest("button.chip"));
  node.addEventListener("click", (event) => at(event) >= 0 && click(at(event)));
  for (const kind of ["mouseover", "focusin"]) node.addEventListener(kind, (event) => point(at(event)));
  for (const kind of ["mouseleave", "focusout"]) node.addEventListener(kind, () => point(-1));
  const tagOf = (item) => (item.kind === "special" ? "span" : "button");
  const make = (item) => element(tagOf(item), tagOf(item) === "button" ? { type: "button" } : {});
  const fill = (chip, item, index) => {
    if (chip.localName !== tagOf(item)) {
      const other = make(item);
      chip.replaceWith(other);
      return fill(other, item, index);
    }
    const { text, kind = "", pressed = null, title = null, above = [], below = [], style = {} } = item;
    const shown = chip.querySelector(".text") ?? element("span.text");
    if (shown.textContent !== text) shown.textContent = text;
    if (chip.children.length !== 1 || above.length || below.length)
      chip.replaceChildren(...above, shown, ...below);
    chip.className = `chip ${kind}`;
    if (title !== null) chip.title = title;
    if (pressed !== null && chip.localName === "button") chip.setAttribute("aria-pressed", pressed);
    for (const [name, value] of Object.entries(style)) chip.style.setProperty(name, value);
  };
  const draw = (items) => {
    reuse(node, items, make, fill);
    settle();
  };
  return { node, draw };
}

// --- canvases

// Colours of the theme as it is now: ink("--accent").
export const inkOf = (root) => (name) => getComputedStyle(root).getPropertyValue(name).trim();

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

// A frame around [x, y, width, height].
export function outline(pen, area, color, width = 2) {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.strokeRect(...area);
}

// A colour of CSS as [red, green, blue].
export function rgbOf(color) {
  const pen = element("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = color;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

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
export function signedPixels(canvas, rows, root, clip = 0) {
  const [above, below] = ["--accent", "--random"].map((name) => rgbOf(inkOf(root)(name)));
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

// All heads (across) of all layers (down), a small map each: paint(pen, layer, head, area) draws one,
// hover([layer, head] or null) previews it, choose([layer, head]) pins it.
export function headGrid({ layers, heads, most = 40, cursor = [0, 0], paint, hover, choose }) {
  const edge = 18;
  const gap = 3;
  const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  let hovered = null; // previewed
  const canvas = element("canvas.head-grid", { tabindex: 0, role: "application" });
  const size = () =>
    within(Math.floor(((canvas.parentElement?.clientWidth ?? 0) - edge) / heads) - gap, 14, most);
  const start = (at) => edge + at * (size() + gap);
  const at = (event) => {
    const area = canvas.getBoundingClientRect();
    const place = [event.clientY - area.top, event.clientX - area.left];
    const [layer, head] = place.map((pixel) => Math.floor((pixel - edge) / (size() + gap)));
    return layer >= 0 && head >= 0 && layer < layers && head < heads ? [layer, head] : null;
  };
  const preview = (place) => {
    if (String(place) === String(hovered)) return;
    hovered = place;
    hover(place);
    draw();
  };
  const pin = (place) => {
    if (!place) return;
    cursor = place;
    choose(place);
  };
  canvas.addEventListener("mousemove", (event) => preview(at(event)));
  canvas.addEventListener("click", (event) => pin(at(event)));
  for (const kind of ["mouseleave", "blur"]) canvas.addEventListener(kind, () => preview(null));
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (step) {
      cursor = [within(cursor[0] + step[0], 0, layers - 1), within(cursor[1] + step[1], 0, heads - 1)];
      preview(cursor);
    } else if (event.key === "Enter" || event.key === " ") pin(cursor);
    else return;
    event.preventDefault();
  });

  function draw() {
    const ink = inkOf(canvas);
    const pen = penOf(canvas, start(heads), start(layers));
    pen.fillStyle = ink("--muted");
    pen.textAlign = "center";
    pen.imageSmoothingEnabled = false;
    for (const head of range(heads)) pen.fillText(head + 1, start(head) + size() / 2, 12);
    for (const layer of range(layers)) pen.fillText(layer + 1, 7, start(layer) + size() / 2 + 4);
    for (const layer of range(layers)) {
      for (const head of range(heads)) paint(pen, layer, head, [start(head), start(layer), size(), size()]);
    }
    if (hovered) outline(pen, [start(hovered[1]), start(hovered[0]), size(), size()], ink("--accent"), 3);
    const now = `Now: layer ${cursor[0] + 1}, head ${cursor[1] + 1}.`;
    const label = `${layers} layers of ${heads} heads. Arrow keys preview, Enter chooses. ${now}`;
    canvas.setAttribute("aria-label", label);
  }
  return { canvas, draw, place: () => hovered, cursor: () => cursor };
}

// --- plots

// A plot with lines at `least`, at `most` and half-way; show(value) writes them. Places along it are shares
// of its width: below: [[share, text, anchor]], dots: [[share, value, kind, radius]],
// lines: [{ kind: "main" or "base", points: [[share, value]] }].
export function plot(what) {
  const { label, width = 300, height = 160, least = 0, most, show, below = [], lines = [], dots = [] } = what;
  const view = { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label };
  const svg = element("svg.plot", view);
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
