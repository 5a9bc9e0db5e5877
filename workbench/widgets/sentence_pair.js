// SentencePair: draws what Python computed and reports clicks. See sentence_pair.py for the traits.

import { select } from "./parts.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";
import { exampleMenu, numbered, penOf, resultBar, reuse, roam, textField } from "./two_texts.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "sentence-pair");
  const { send, message } = sender(model, ask);
  let hovered = -1; // the word under the mouse or with the focus: its lines are previewed
  const fields = [
    textField(model, send, "premise", "Premise: what is known", "first"),
    textField(model, send, "hypothesis", "Hypothesis: what is claimed", "second"),
  ];
  const plain = (text, click, options = {}) =>
    element("button", { class: "plain", type: "button", onclick: click, ...options }, text);

  // Ticks stay at the answer before the first key, until the field is left.
  for (const { area } of fields) {
    const editing = (on) => () => {
      if (model.saved) return;
      model.set("editing", on);
      model.save_changes();
    };
    area.addEventListener("focus", editing(true));
    area.addEventListener("blur", editing(false));
  }

  const remark = element("p", { class: "remark", role: "status" });
  const bars = element("div", {
    class: "classes",
    role: "status",
    "aria-label": "Probability of each class",
  });
  const tick = element("p", { class: "note" });
  const directions = Object.entries({
    hypothesis: "hypothesis looks at premise",
    premise: "premise looks at hypothesis",
  }).map(([value, text]) => plain(text, () => send({ direction: value }), { "data-value": value }));
  const [layerField, layer] = select("Attention: layer", numbered(model.get("layers")), (value) =>
    send({ attention_layer: +value }),
  );
  const [headField, head] = select("head", [[-1, "mean"], ...numbered(model.get("heads"))], (value) =>
    send({ attention_head: +value }),
  );
  const edit = plain("Edit this word", editWord);
  const lines = element("canvas", { class: "pair-lines", "aria-hidden": "true" });
  const rows = ["premise", "hypothesis"].map((name) =>
    element("div", {
      class: "pair-words",
      role: "group",
      "aria-label": `Words of the ${name}: Enter pins the lines of a word, arrow keys move`,
      onscroll: () => drawLines(),
    }),
  );
  const walks = rows.map((row) => roam(row, () => [...row.children]));
  const box = element("div", { class: "pair-box" }, ...rows, lines);
  const says = element("p", { class: "note", role: "status" });

  content.append(
    element("div", { class: "texts" }, ...fields.map((field) => field.node)),
    element(
      "div",
      { class: "bar-row tools" },
      exampleMenu(model, message, "Pick a pair …"),
      plain("Swap", () => message({ do: "swap" })),
    ),
    remark,
    element("div", { class: "panel" }, bars, tick),
    element(
      "div",
      { class: "bar-row tools" },
      element("span", { class: "group", role: "group", "aria-label": "Whose attention" }, ...directions),
      element("span", { class: "group" }, layerField, headField),
      edit,
    ),
    box,
    says,
  );

  const wordsOf = (side) =>
    model
      .get("words")
      .map((word, index) => [word, index])
      .filter(([word]) => word.segment === side && !word.special);

  function pin(index) {
    model.set("pinned", model.get("pinned") === index ? -1 : index);
    model.save_changes(); // nothing to wait for: only the view changes
    draw();
  }

  // Puts the cursor on the pinned word in its field.
  function editWord() {
    const pinned = model.get("pinned");
    const side = model.get("words")[pinned].segment;
    const { area } = fields[side];
    let at = 0;
    for (const [word, index] of wordsOf(side)) {
      at = area.value.indexOf(word.text, at);
      if (index === pinned) break;
      at += word.text.length;
    }
    area.focus();
    area.setSelectionRange(at, at + model.get("words")[pinned].text.length);
  }

  function drawWords() {
    const all = model.get("words");
    rows.forEach((row, side) => {
      const show = (index) => ((hovered = index), drawLines());
      reuse(
        row,
        wordsOf(side),
        () => {
          const chip = element("button", { class: "pair-word", type: "button" });
          const own = () => +chip.dataset.index;
          for (const [name, index] of [
            ["mouseenter", own],
            ["focus", own],
            ["mouseleave", () => -1],
            ["blur", () => -1],
          ])
            chip.addEventListener(name, () => show(index()));
          chip.addEventListener("click", () => pin(own()));
          return chip;
        },
        (chip, [word, index]) => {
          chip.dataset.index = index;
          chip.textContent = word.text;
          chip.classList.toggle("second", side === 1);
          chip.setAttribute("aria-pressed", index === model.get("pinned"));
        },
      );
      walks[side]();
    });
    if (model.get("pinned") >= all.length) hovered = -1;
  }

  // Lines between the words; those of the word under the mouse, or of the pinned one, if there is one.
  function drawLines() {
    const looking = model.get("direction") === "premise" ? 0 : 1;
    const [from, to] = [wordsOf(looking), wordsOf(1 - looking)];
    const weights = readFloat16(model.get("weights"), to.length);
    const shown = hovered >= 0 ? hovered : model.get("pinned");
    const area = box.getBoundingClientRect();
    const pen = penOf(lines, area.width, area.height);
    pen.strokeStyle = getComputedStyle(edit).getPropertyValue("--accent-ink");
    const point = (side, place) => {
      const at = rows[side].children[place].getBoundingClientRect();
      return [at.left + at.width / 2 - area.left, (side ? at.top : at.bottom) - area.top];
    };
    const found = [];
    weights.forEach((row, i) =>
      row.forEach((weight, j) => {
        if (shown < 0 || from[i][1] === shown || to[j][1] === shown) found.push([weight, i, j]);
      }),
    );
    found.sort((a, b) => b[0] - a[0]);
    const strongest = Math.max(found[0]?.[0] ?? 0, 1e-9);
    for (const chip of [...rows[0].children, ...rows[1].children]) chip.style.setProperty("--shade", "0%");
    for (const [weight, i, j] of found.slice(0, 150).reverse()) {
      const share = weight / strongest;
      if (share < 0.05) continue;
      const [x, y] = point(looking, i);
      const [toX, toY] = point(1 - looking, j);
      pen.globalAlpha = 0.1 + 0.85 * share;
      pen.lineWidth = 0.5 + 4 * share;
      pen.beginPath();
      pen.moveTo(x, y);
      pen.bezierCurveTo(x, (y + toY) / 2, toX, (y + toY) / 2, toX, toY);
      pen.stroke();
      const other = from[i][1] === shown ? rows[1 - looking].children[j] : rows[looking].children[i];
      if (shown >= 0) other.style.setProperty("--shade", `${Math.round(60 * share)}%`);
    }
    const named = ([weight, i, j]) => `${from[i][0].text} → ${to[j][0].text} ${percent(weight)}`;
    says.textContent =
      `${shown >= 0 ? "The strongest lines of this word" : "The strongest lines"}: ${found.slice(0, 3).map(named).join(" · ")}. ` +
      "Point at a word to see its lines only, click to pin it. What is missing to 100 % goes to the word's own sentence, [CLS] and [SEP].";
  }

  function draw() {
    for (const field of fields) field.update();
    remark.textContent = model.get("note");
    const classes = model.get("classes");
    const best = (column) => classes.reduce((a, b) => (b[column] > a[column] ? b : a))[0];
    bars.replaceChildren(
      ...classes.map(([label, now, before]) =>
        resultBar(label, now, before, label === best(1) ? "best" : ""),
      ),
    );
    const changed = classes.some(([, now, before]) => Math.abs(now - before) > 0.0005);
    tick.textContent = !changed
      ? ""
      : best(1) !== best(2)
        ? `It flipped: from ${best(2)} to ${best(1)}. The ticks show the bars before the edit.`
        : "The ticks show the bars before the edit.";
    for (const button of directions)
      button.setAttribute("aria-pressed", button.dataset.value === model.get("direction"));
    const count = model.get("layers");
    layer.value =
      model.get("attention_layer") >= 0 && model.get("attention_layer") < count
        ? model.get("attention_layer")
        : count - 1;
    head.value = model.get("attention_head");
    edit.disabled = model.get("pinned") < 0;
    drawWords();
    drawLines();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }

  const undo = listen(model, ["revision", "pinned"], draw);
  const watch = new ResizeObserver(() => drawLines());
  watch.observe(box);
  draw();
  return () => {
    undo();
    stop();
    watch.disconnect();
  };
}

export default { render };
