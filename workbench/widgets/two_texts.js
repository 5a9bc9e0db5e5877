// What the widgets on two texts share: text fields, result bars, and tokens that arrow keys walk through.

import { typedText } from "./parts.js";
import { element, percent } from "./shared.js";

// A labelled field for a text; each change is sent. While Python is busy, Jupyter keeps the last one back.
export function textField(model, send, name, label, kind = "") {
  const area = element("textarea", { class: "text", rows: 2, spellcheck: "false" });
  area.addEventListener("input", () => send({ [name]: typedText(area) }));
  area.addEventListener(
    "keydown",
    (event) => event.key === "Enter" && !event.shiftKey && event.preventDefault(),
  );
  const update = () => {
    if (typedText(area) !== model.get(name)) area.value = model.get(name);
  };
  update();
  return {
    node: element(
      "label",
      { class: `text-field ${kind}` },
      element("span", { class: "caption" }, label),
      area,
    ),
    area,
    update,
  };
}

// A menu of examples; choosing one asks Python for it.
export function exampleMenu(model, message, label) {
  const menu = element(
    "select",
    {
      class: "examples",
      "aria-label": label,
      onchange: () => {
        if (menu.value !== "") message({ do: "example", index: +menu.value });
        menu.value = "";
      },
    },
    element("option", { value: "" }, label),
  );
  model.get("examples").forEach((text, index) => menu.append(element("option", { value: index }, text)));
  return menu;
}

// One row: name, bar, percent; `before` is a tick where the bar was.
export function resultBar(name, now, before, kind = "") {
  const track = element(
    "span",
    { class: "track" },
    element("span", { class: "fill", style: `width: ${100 * now}%` }),
  );
  if (before != null && Math.abs(before - now) > 0.0005)
    track.append(
      element("span", { class: "before", style: `left: ${99.5 * before}%`, title: percent(before) }),
    );
  return element(
    "div",
    { class: `result ${kind}` },
    element("span", { class: "word" }, name),
    track,
    element("span", { class: "value" }, percent(now)),
  );
}

// Keeps as many children as there are items; `make` makes a new one, `fill(node, item, index)` sets it.
// Nodes are reused, so that the keyboard's focus stays where it is.
export function reuse(parent, items, make, fill) {
  while (parent.children.length > items.length) parent.lastChild.remove();
  items.forEach((item, index) => {
    if (!parent.children[index]) parent.append(make());
    fill(parent.children[index], item, index);
  });
}

// Tab reaches one of the buttons; arrow keys, Home and End walk through them.
export function roam(container, buttons) {
  let at = 0;
  const settle = () =>
    buttons().forEach((button, index) => button.setAttribute("tabindex", index === at ? 0 : -1));
  container.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || event.target.tagName !== "BUTTON") return;
    event.preventDefault();
    at = Math.min(buttons().length - 1, Math.max(0, buttons().indexOf(event.target) + step));
    settle();
    buttons()[at].focus();
  });
  container.addEventListener("focusin", (event) => {
    at = Math.max(0, buttons().indexOf(event.target));
    settle();
  });
  return () => ((at = Math.min(at, Math.max(0, buttons().length - 1))), settle());
}

// A canvas as large as its place on the page; returns its pen, in CSS pixels.
export function penOf(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return pen;
}

export const numbered = (count) => [...Array(count).keys()].map((index) => [index, index + 1]);
