// MaskedFilling: draws what Python computed and reports clicks. See masked_filling.py for the traits.

import { select, typedText } from "./parts.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "masked-filling");
  let editing = false;
  let filled = {}; // word number -> a candidate shown in its place: pinned by click
  let preview = null; // the same while the mouse is on a candidate: [word number, candidate]
  let focus = 1; // the chip that Tab reaches; arrows move it

  const { send, message } = sender(model, ask);

  // --- the sentence
  const chips = element("div", {
    class: "sentence",
    role: "group",
    "aria-label": "The sentence. Enter masks a word or brings it back, arrow keys move.",
    onkeydown: move,
    onscroll: () => shade(), // lines end where the words are now
  });
  const links = element("canvas", { class: "links", "aria-hidden": "true" });
  const area = element("textarea", {
    class: "edit",
    "aria-label": "The sentence",
    spellcheck: "false",
    hidden: true,
  });
  const box = element("div", { class: "sentence-box" }, chips, links, area);
  const edit = element(
    "button",
    { class: "plain", onclick: () => (editing ? closeEditor() : openEditor()) },
    "Edit text",
  );
  const random = element(
    "button",
    { class: "plain", onclick: () => message({ do: "mask at random" }) },
    "Mask 15 % at random",
  );
  const none = element("button", { class: "plain", onclick: () => send({ masked: [] }) }, "Unmask all");
  const legend = element(
    "span",
    { class: "group note" },
    "chosen to guess:",
    element("span", { class: "key mask" }, "[MASK]"),
    element("span", { class: "key random" }, "a random word"),
    element("span", { class: "key keep" }, "left as it is"),
  );

  // --- what the guess may see, and how it is shown
  const sides = Object.entries({ nothing: "all words", left: "hide left", right: "hide right" }).map(
    ([value, text]) =>
      element("button", { class: "plain", "data-side": value, onclick: () => send({ hide: value }) }, text),
  );
  const side = element(
    "span",
    { class: "group", role: "group", "aria-label": "Words that the guess may see" },
    "Guess from",
    ...sides,
  );
  const numbers = (count) => [...Array(count).keys()].map((index) => [index, index + 1]);
  const [layerField, layer] = select("Attention: layer", numbers(model.get("layers")), (value) =>
    send({ attention_layer: +value }),
  );
  const [headField, head] = select("head", [[-1, "mean"], ...numbers(model.get("heads"))], (value) =>
    send({ attention_head: +value }),
  );
  const lines = element("button", { class: "plain", onclick: switchLines }, "Lines");
  const top = element("input", {
    type: "number",
    min: 1,
    max: 20,
    "aria-label": "Candidates for each mask",
    onchange: () => send({ top_k: Math.min(20, Math.max(1, Math.round(+top.value) || 5)) }),
  });

  // --- guesses
  const cards = element("div", { class: "cards" });
  const pages = element("p", { class: "group note" });
  const depth = element("input", {
    type: "range",
    min: 0,
    max: model.get("layers"),
    step: 1,
    "aria-label": "Guess after layer",
    oninput: () => send({ layer: +depth.value === model.get("layers") ? -1 : +depth.value }),
  });
  const list = element("ol");
  const byLayer = element(
    "section",
    { class: "by-layer", "aria-label": "The best guess after every layer" },
    element("p", {}, "Best guess after layer …"),
    list,
    depth,
    element(
      "p",
      { class: "note" },
      "Layer 0 is the embeddings, before any attention. Drag: the cards show the guesses after that layer.",
    ),
  );
  const empty = element(
    "p",
    { class: "empty" },
    "Nothing is masked. Click a word, and BERT guesses it from the others.",
  );
  const panels = element("div", { class: "panels" }, element("div", {}, cards, pages), byLayer);

  content.append(
    element(
      "p",
      { class: "note" },
      "Click a word to mask it, click again to bring it back. The bluer a word, the more the mask attends to it.",
    ),
    box,
    element(
      "div",
      { class: "bar-row" },
      element("span", { class: "group" }, edit, random, none),
      element("label", { class: "field" }, "top", top, "guesses"),
      legend,
    ),
    element(
      "div",
      { class: "bar-row controls" },
      side,
      element("span", { class: "group" }, layerField, headField, lines),
    ),
    empty,
    panels,
  );

  function switchLines() {
    model.set("lines", !model.get("lines"));
    model.save_changes(); // nothing to wait for: only the view changes
  }
  function openEditor() {
    editing = true;
    area.value = model.get("text");
    draw();
    area.focus();
  }
  function closeEditor() {
    editing = false;
    filled = {};
    draw();
    edit.focus();
  }
  // While Python is busy, Jupyter keeps the last change back.
  area.addEventListener("input", () => send({ text: typedText(area) }));
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" && (event.key !== "Enter" || event.shiftKey)) return;
    event.preventDefault();
    closeEditor();
  });

  function toggle(index) {
    const word = model.get("words")[index];
    const rest = model.get("masked").filter(([start, end]) => end <= word.start || start >= word.end);
    delete filled[index];
    if (word.kind === "typed") return;
    send({
      masked: word.kind === "word" ? [...rest, [word.start, word.end]].sort((a, b) => a[0] - b[0]) : rest,
    });
  }

  function move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step) return;
    event.preventDefault();
    focus = Math.min(chips.children.length - 2, Math.max(1, focus + step));
    roam();
    chips.children[focus].focus();
  }
  function roam() {
    [...chips.children].forEach((chip, index) => chip.setAttribute("tabindex", index === focus ? 0 : -1));
  }

  // Attention of the pinned mask (or of the one under the mouse) as shading, and as lines if wanted.
  function shade(row = model.get("pinned") - model.get("guesses").first) {
    const words = model.get("words");
    const weights = readFloat16(model.get("weights"), words.length)[row] ?? [];
    const strongest = Math.max(...weights, 1e-9);
    [...chips.children].forEach((chip, index) => {
      const weight = weights[index] ?? 0;
      chip.style.setProperty("--shade", `${Math.round((42 * weight) / strongest)}%`);
      chip.title = weights.length ? `attention from the mask: ${percent(weight)}` : "";
    });
    lines.setAttribute("aria-pressed", model.get("lines"));
    chips.classList.toggle("with-lines", model.get("lines")); // room for them above the words
    const area = box.getBoundingClientRect();
    const scale = window.devicePixelRatio || 1;
    links.width = area.width * scale;
    links.height = area.height * scale;
    const from = model.get("guesses").cards[row]?.word;
    if (!model.get("lines") || from === undefined || editing) return;
    const pen = links.getContext("2d");
    pen.scale(scale, scale);
    pen.strokeStyle = getComputedStyle(edit).getPropertyValue("--accent-ink");
    const middle = (index) => {
      const at = chips.children[index].getBoundingClientRect();
      return [at.left + at.width / 2 - area.left, at.top + 3 - area.top];
    };
    const [x, y] = middle(from);
    weights.forEach((weight, index) => {
      if (index === from || weight < 0.03 * strongest) return;
      const [toX, toY] = middle(index);
      pen.globalAlpha = 0.15 + 0.75 * (weight / strongest);
      pen.lineWidth = 0.5 + 3.5 * (weight / strongest);
      pen.beginPath();
      pen.moveTo(x, y);
      pen.quadraticCurveTo(
        (x + toX) / 2,
        Math.min(y, toY) - 8 - Math.min(30, Math.abs(x - toX) / 6),
        toX,
        toY,
      );
      pen.stroke();
    });
  }

  function drawChips() {
    const words = model.get("words");
    // Chips are reused, so that the keyboard's focus stays where it is.
    while (chips.children.length > words.length) chips.lastChild.remove();
    words.forEach((word, index) => {
      const tag = word.kind === "special" ? "SPAN" : "BUTTON";
      let chip = chips.children[index];
      if (chip?.tagName !== tag) {
        const fresh = element(tag.toLowerCase(), tag === "BUTTON" ? { type: "button" } : {});
        if (tag === "BUTTON") {
          const here = () => [...chips.children].indexOf(fresh);
          const card = () => model.get("guesses").cards.findIndex((guess) => guess.word === here());
          fresh.addEventListener("click", () => ((focus = here()), toggle(here())));
          fresh.addEventListener("mouseenter", () => card() >= 0 && shade(card()));
          fresh.addEventListener("mouseleave", () => card() >= 0 && shade());
        }
        if (chip) chip.replaceWith(fresh);
        else chips.append(fresh);
        chip = fresh;
      }
      const masked = word.kind !== "word" && word.kind !== "special";
      const shown = preview?.[0] === index ? preview[1] : filled[index];
      chip.textContent =
        shown ??
        (word.kind === "mask" || word.kind === "random"
          ? word.pieces.join("").replaceAll("##", "")
          : word.text);
      chip.className = `chip ${word.kind}${shown ? " filled" : ""}${word.hidden ? " hidden" : ""}`;
      if (tag === "BUTTON") chip.setAttribute("aria-pressed", masked);
    });
    focus = Math.min(Math.max(1, focus), Math.max(1, words.length - 2));
    roam();
    const pinned = model.get("guesses").cards[model.get("pinned") - model.get("guesses").first];
    if (pinned) chips.children[pinned.word]?.classList.add("pinned");
  }

  function drawCards() {
    const { cards: guesses, count, first, layers } = model.get("guesses");
    const compared = model.get("hide") !== "nothing";
    cards.replaceChildren(
      ...guesses.map((guess, row) => {
        const strongest = Math.max(...guess.candidates.map(([, now, before]) => Math.max(now, before)), 1e-9);
        const title = element(
          "button",
          {
            class: "title",
            type: "button",
            title: "Show this mask's attention and layers",
            onclick: () => send({ pinned: first + row }),
          },
          element("b", {}, `Mask ${first + row + 1}`),
        );
        if (guess.original !== null)
          title.append(
            ` was “${guess.original}” `,
            element(
              "span",
              { class: "note" },
              `rank ${guess.rank.toLocaleString("en")} · ${percent(guess.probability)}`,
            ),
          );
        return element(
          "section",
          {
            class: `card${first + row === model.get("pinned") ? " pinned" : ""}`,
            "aria-label": `Guesses for mask ${first + row + 1}`,
          },
          title,
          ...guess.candidates.map(([label, now, before]) => {
            const show = (on) => ((preview = on ? [guess.word, label] : null), drawChips(), shade());
            const track = element(
              "span",
              { class: "track" },
              element("div", { class: "fill", style: `width: ${(100 * now) / strongest}%` }),
            );
            if (compared)
              track.append(
                element("span", {
                  class: "before",
                  style: `left: ${(99 * before) / strongest}%`,
                  title: `with all words: ${percent(before)}`,
                }),
              );
            return element(
              "button",
              {
                class: `candidate${label === guess.original ? " true" : ""}`,
                type: "button",
                "aria-pressed": String(filled[guess.word] === label),
                onmouseenter: () => show(true),
                onmouseleave: () => show(false),
                onfocus: () => show(true),
                onblur: () => show(false),
                onclick: () => {
                  if (filled[guess.word] === label) delete filled[guess.word];
                  else filled[guess.word] = label;
                  drawChips();
                  for (const other of cards.children[row].querySelectorAll(".candidate"))
                    other.setAttribute(
                      "aria-pressed",
                      String(filled[guess.word] === other.firstChild.textContent),
                    );
                },
              },
              element("span", { class: "word" }, label),
              track,
              element("span", { class: "value" }, percent(now)),
            );
          }),
        );
      }),
    );
    const turn = (to, text) =>
      element("button", { class: "plain", type: "button", onclick: () => send({ pinned: to }) }, text);
    pages.replaceChildren(
      ...(compared && guesses.length
        ? ["The tick on a bar is the probability with all words visible. "]
        : []),
      ...(count > guesses.length
        ? [
            `Masks ${first + 1} to ${first + guesses.length} of ${count} `,
            first > 0 ? turn(first - 1, "previous") : "",
            first + guesses.length < count ? turn(first + guesses.length, "next") : "",
          ]
        : []),
    );
    const now = model.get("layer") < 0 ? layers.length - 1 : model.get("layer");
    depth.value = now;
    list.replaceChildren(
      ...layers.map(([label, probability], index) =>
        element(
          "li",
          { class: index === now ? "now" : "" },
          element("span", { class: "note" }, index),
          element("span", { class: "word" }, label),
          element("span", {}, percent(probability)),
        ),
      ),
    );
  }

  function draw() {
    const { count } = model.get("guesses");
    chips.hidden = editing;
    chips.style.display = editing ? "none" : "";
    area.hidden = !editing;
    edit.textContent = editing ? "Done" : "Edit text";
    empty.hidden = count > 0;
    panels.hidden = count === 0;
    panels.style.display = count ? "" : "none";
    legend.style.display = model.get("words").some((word) => word.kind === "random" || word.kind === "keep")
      ? ""
      : "none";
    for (const button of sides)
      button.setAttribute("aria-pressed", button.dataset.side === model.get("hide"));
    layer.value = model.get("attention_layer");
    head.value = model.get("attention_head");
    top.value = model.get("top_k");
    preview = null;
    drawChips();
    drawCards();
    shade();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }

  const undo = listen(model, ["revision", "lines"], draw);
  const watch = new ResizeObserver(() => shade());
  watch.observe(box);
  draw();
  return () => {
    undo();
    stop();
    watch.disconnect();
  };
}

export default { render };
