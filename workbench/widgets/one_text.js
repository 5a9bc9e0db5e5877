// What SentenceClassifier and TokenTagger share: the text to type in, and words that the arrow keys walk along.

import { typedText } from "./parts.js";
import { element } from "./shared.js";

// A field for the text; each change is sent. While Python is busy, Jupyter keeps the last one back.
export function textField(model, send, label) {
  const area = element("textarea", {
    class: "text-field",
    rows: 2,
    spellcheck: "false",
    "aria-label": label,
  });
  area.value = model.get("text");
  area.addEventListener("input", () => send({ text: typedText(area) }));
  area.addEventListener(
    "keydown",
    (event) => event.key === "Enter" && !event.shiftKey && event.preventDefault(),
  );
  return area;
}

// Buttons in a group are one stop of the Tab key; arrows, Home and End move inside.
export function roving(group) {
  const buttons = () => [...group.querySelectorAll("button")];
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[
      event.key
    ];
    const all = buttons();
    const now = all.indexOf(event.target.closest("button"));
    if (!step || now < 0) return;
    event.preventDefault();
    all[Math.min(all.length - 1, Math.max(0, now + step))].focus();
  });
  group.addEventListener("focusin", (event) => {
    for (const button of buttons()) button.setAttribute("tabindex", button === event.target ? 0 : -1);
  });
  return () => {
    const all = buttons();
    if (!all.some((button) => button.getAttribute("tabindex") === "0"))
      all.forEach((button, index) => button.setAttribute("tabindex", index === 0 ? 0 : -1));
  };
}

// Puts new children into a group; what had the keyboard's focus has it again, by its place.
export function refill(group, children) {
  const place = [...group.querySelectorAll("button")].indexOf(document.activeElement);
  group.replaceChildren(...children);
  if (place >= 0) group.querySelectorAll("button")[place]?.focus();
}
