// SpanExtraction: draws what Python computed and reports clicks. See span_extraction.py for the traits.

import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";
import { exampleMenu, penOf, reuse, roam, textField } from "./two_texts.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "span-extraction");
  const { send, message } = sender(model, ask);
  let scrolled = ""; // what the passage was last scrolled to
  let cell = null; // [start, end] of the map: under the mouse, or where the arrow keys stand
  const plain = (text, click, options = {}) =>
    element("button", { class: "plain", type: "button", onclick: click, ...options }, text);
  const question = textField(model, send, "question", "Question", "first");
  const passage = textField(model, send, "passage", "Passage", "second");
  passage.node.classList.add("long");
  passage.node.hidden = true;
  const edit = plain("Edit passage", () => {
    passage.node.hidden = !passage.node.hidden;
    edit.textContent = passage.node.hidden ? "Edit passage" : "Close editor";
    if (!passage.node.hidden) passage.area.focus();
  });
  const progress = element("progress", { max: 1, value: 0, "aria-label": "Windows read", hidden: true });
  const remark = element("p", { class: "remark", role: "status" });

  // --- the passage
  const verdict = element("p", { class: "verdict", role: "status" });
  const text = element("div", {
    class: "passage",
    role: "group",
    "aria-label": "The passage. Enter shows a word's vector, arrow keys move.",
  });
  const pieces = element("span", {});
  const around = [element("span", { class: "outside" }), element("span", { class: "outside" })];
  text.append(around[0], pieces, around[1]);
  const walk = roam(text, () => [...pieces.querySelectorAll("button")]);
  const pages = element("p", { class: "note group" });

  // --- answers, no answer
  const list = element("ol", { class: "answers", "aria-label": "Answers, best first" });
  const top = element("input", {
    type: "number",
    min: 1,
    max: 20,
    "aria-label": "How many answers",
    onchange: () => send({ top_k: Math.min(20, Math.max(1, Math.round(+top.value) || 5)) }),
  });
  const slider = element("input", {
    type: "range",
    min: -12,
    max: 12,
    step: 0.5,
    "aria-label": "How much an answer must beat no answer by",
    oninput: () => send({ threshold: +slider.value }),
  });
  const none = element("div", { class: "none" });

  // --- the map, the vectors
  const map = element("canvas", {
    class: "map",
    tabindex: 0,
    role: "img",
    "aria-label": "Start by end: arrow keys move, Enter chooses the start",
  });
  const says = element("p", { class: "note", role: "status" });
  const mapNote = element("p", { class: "note" });
  const strips = element("canvas", {
    class: "strips",
    role: "img",
    "aria-label": "S, T and E as colours, one cell a number",
  });
  const numbers = element("div", {
    class: "numbers",
    role: "group",
    tabindex: 0,
    "aria-label": "Numbers of the vectors",
  });
  const panel = (title, ...parts) =>
    element("section", { class: "panel", "aria-label": title }, element("h4", {}, title), ...parts);

  content.append(
    question.node,
    element(
      "div",
      { class: "bar-row tools" },
      exampleMenu(model, message, "Pick a passage …"),
      edit,
      progress,
    ),
    passage.node,
    remark,
    verdict,
    element(
      "p",
      { class: "note" },
      "Under every word piece two bars: ",
      element("span", { class: "swatch first" }),
      "the answer starts here",
      element("span", { class: "swatch second" }),
      "it ends here. Click a word to see its vector.",
    ),
    text,
    pages,
    element(
      "div",
      { class: "panels-span" },
      element(
        "div",
        {},
        panel("Best answers", list, element("label", { class: "field note" }, "show", top, "answers")),
        panel("Start × end", map, says, mapNote),
      ),
      element("div", {}, panel("Or no answer", none, slider), panel("Two trained vectors", numbers, strips)),
    ),
  );

  const spanText = (first, last) => {
    const tokens = model.get("view").tokens.slice(first, last + 1);
    return tokens.map(([gap, word], index) => (index ? gap : "") + word).join("");
  };

  function drawPassage() {
    const { tokens, before, after, answer, chosen, answered, window: number, windows } = model.get("view");
    const [starts, ends] = readFloat16(model.get("bars"), tokens.length);
    const strongest = Math.max(...starts, ...ends, 1e-9);
    around[0].textContent = before;
    around[1].textContent = after;
    reuse(
      pieces,
      tokens,
      () => {
        const word = element(
          "button",
          { type: "button" },
          element("span", {}),
          element("i", { class: "start" }),
          element("i", { class: "end" }),
        );
        const unit = element("span", {}, "", word);
        word.addEventListener("click", () => send({ chosen: [...pieces.children].indexOf(unit) }));
        return unit;
      },
      (unit, [gap, word], index) => {
        unit.firstChild.data = gap.replace(/\n\s*\n/, "\n"); // lines are far apart as it is
        const button = unit.lastChild;
        button.className = `piece${answered && index >= answer[0] && index <= answer[1] ? " answer" : ""}${index === chosen ? " chosen" : ""}`;
        button.title = `${word}: start ${percent(starts[index])}, end ${percent(ends[index])}`;
        button.children[0].textContent = word;
        button.children[1].style.height = `${Math.round((20 * starts[index]) / strongest)}px`;
        button.children[2].style.height = `${Math.round((20 * ends[index]) / strongest)}px`;
      },
    );
    walk();
    const seen = [number, answer, before.length].join();
    if (seen !== scrolled && answer.length)
      // brings the answer into view, without moving the page
      text.scrollTop +=
        pieces.children[answer[0]].getBoundingClientRect().top - text.getBoundingClientRect().top - 60;
    scrolled = seen;
    pages.replaceChildren(
      ...(windows < 2
        ? []
        : [
            `The passage is read in ${windows} overlapping windows; window ${number + 1} is shown, the rest is grey. `,
            plain("Previous", () => send({ window: Math.max(0, number - 1) })),
            plain("Next", () => send({ window: Math.min(windows - 1, number + 1) })),
          ]),
    );
  }

  function drawAnswers() {
    const { answered, no_answer, best, no_answer_probability } = model.get("view");
    const answers = model.get("answers");
    verdict.replaceChildren(
      ...(answered
        ? ["Answer: ", element("b", {}, answers[model.get("pinned")][0])]
        : ["No answer: the score of [CLS] is not beaten by enough."]),
    );
    reuse(
      list,
      answers,
      () => element("li", {}, element("button", { class: "candidate", type: "button" })),
      (item, [words, , , probability], index) => {
        const button = item.firstChild;
        button.onclick = () => send({ pinned: index });
        button.setAttribute("aria-pressed", index === model.get("pinned"));
        button.replaceChildren(
          element("span", { class: "word", title: words }, words),
          element(
            "span",
            { class: "track" },
            element("div", { class: "fill", style: `width: ${100 * probability}%` }),
          ),
          element("span", { class: "value" }, percent(probability)),
        );
      },
    );
    top.value = model.get("top_k");
    slider.value = model.get("threshold");
    const signed = (value) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)}`;
    none.replaceChildren(
      element(
        "p",
        {},
        "Score of the best answer ",
        element("b", {}, signed(best)),
        ", of no answer ",
        element("b", {}, signed(no_answer)),
        ` (${percent(no_answer_probability)}).`,
      ),
      element(
        "p",
        {},
        `An answer must win by more than ${signed(model.get("threshold"))}; it wins by ${signed(best - no_answer)}: `,
        element("b", {}, answered ? "answered" : "no answer"),
      ),
    );
  }

  // Columns are starts, rows are ends; below the diagonal an end comes after its start.
  let size = 1;
  function drawMap() {
    const {
      map: [first, last],
      tokens,
      answer,
    } = model.get("view");
    const longest = model.get("longest");
    const joint = readFloat16(model.get("joint"), longest);
    const count = last - first;
    const room = map.parentElement.clientWidth - 26;
    if (room <= 0) return;
    size = Math.max(2, Math.min(22, Math.floor(Math.min(room, 380) / count)));
    map.style.width = map.style.height = `${size * count}px`;
    const pen = penOf(map, size * count, size * count);
    const style = getComputedStyle(map);
    const strongest = Math.max(...joint.map((row) => Math.max(...row)), 1e-9);
    pen.fillStyle = style.getPropertyValue("--special-soft");
    pen.fillRect(0, 0, size * count, size * count); // impossible: end before start, too long
    const gap = size > 5 ? 1 : 0;
    for (let i = 0; i < count; i++)
      for (let j = i; j < Math.min(count, i + longest); j++) {
        pen.globalAlpha = 1;
        pen.fillStyle = style.getPropertyValue("--back");
        pen.fillRect(i * size, j * size, size - gap, size - gap);
        pen.globalAlpha = Math.sqrt(joint[i][j - i] / strongest);
        pen.fillStyle = style.getPropertyValue("--accent");
        pen.fillRect(i * size, j * size, size - gap, size - gap);
      }
    pen.globalAlpha = 1;
    const outline = (start, end, color) => {
      pen.strokeStyle = style.getPropertyValue(color);
      pen.lineWidth = 2;
      pen.strokeRect((start - first) * size, (end - first) * size, size, size);
    };
    if (answer.length) outline(answer[0], answer[1], "--ink");
    if (cell) outline(cell[0] + first, cell[1] + first, "--random");
    mapNote.textContent =
      `Column: where it starts; row: where it ends. Grey cells are impossible (the end comes before the start, or more than ${longest} pieces). The stronger its colour, the more probable a cell (square root).` +
      (count < tokens.length
        ? ` ${count} of ${tokens.length} word pieces are on the map, around the answer.`
        : "");
    sayCell();
  }
  function sayCell() {
    if (!cell) return (says.textContent = "Point at a cell to see its span.");
    const {
      map: [first],
    } = model.get("view");
    const [start, end] = cell;
    const probability = readFloat16(model.get("joint"), model.get("longest"))[start]?.[end - start];
    if (end < start)
      says.textContent = `From “${spanText(start + first, start + first)}” back to “${spanText(end + first, end + first)}”: the end comes before the start, no answer.`;
    else if (probability === undefined) says.textContent = "More word pieces than an answer may have.";
    else says.textContent = `“${spanText(start + first, end + first)}”: ${percent(probability)}`;
  }
  const point = (to) => {
    const [first, last] = model.get("view").map;
    cell = to && to.map((value) => Math.min(last - first - 1, Math.max(0, value)));
    drawMap();
  };
  map.addEventListener("mousemove", (event) =>
    point([Math.floor(event.offsetX / size), Math.floor(event.offsetY / size)]),
  );
  map.addEventListener("mouseleave", () => point(null));
  const choose = () => cell && send({ chosen: cell[0] + model.get("view").map[0] });
  map.addEventListener("click", choose);
  map.addEventListener("keydown", (event) => {
    if (event.key === "Enter") return choose();
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const {
      map: [first],
      answer,
    } = model.get("view");
    const [start, end] = cell ?? (answer.length ? [answer[0] - first, answer[1] - first] : [0, 0]);
    point([start + step[0], end + step[1]]);
  });

  function drawVectors() {
    const { tokens, chosen, dots, bias } = model.get("view");
    const width = model.get("vectors").byteLength / 2 / 5;
    const [start, end, own, startTimes, endTimes] = readFloat16(model.get("vectors"), width);
    const word = tokens[chosen][1];
    const room = strips.parentElement.clientWidth - 26;
    const written = room < 340 ? 2 : room < 400 ? 3 : 5; // numbers of a vector
    const rows = [
      ["S", start, ""],
      ["E", end, ""],
      [`T “${word}”`, own, ""],
      ["S × T", startTimes, `S · T = ${dots[0].toFixed(2)}`],
      ["E × T", endTimes, `E · T = ${dots[1].toFixed(2)}`],
    ];
    numbers.replaceChildren(
      element(
        "table",
        {},
        ...rows.map(([name, values, sum]) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, name),
            ...values.slice(0, written).map((value) => element("td", {}, value.toFixed(2))),
            element("td", {}, "…"),
            element("td", { class: "sum" }, sum),
          ),
        ),
      ),
      element(
        "p",
        { class: "note" },
        `The first ${written} of ${width} numbers of each; multiplied one by one and added up they are the dot product. The head adds ${bias[0].toFixed(2)} to every start and ${bias[1].toFixed(2)} to every end, which changes no probability. Below: all ${width}, blue for positive, orange for negative.`,
      ),
    );
    if (room <= 0) return;
    strips.style.width = `${room}px`;
    strips.style.height = "90px";
    const pen = penOf(strips, room, 90);
    const style = getComputedStyle(strips);
    rows.forEach(([, values], row) => {
      const strongest = Math.max(...values.map(Math.abs), 1e-9);
      values.forEach((value, at) => {
        pen.globalAlpha = Math.abs(value) / strongest;
        pen.fillStyle = style.getPropertyValue(value > 0 ? "--first" : "--second");
        pen.fillRect((at * room) / width, row * 18, Math.max(0.8, room / width), 15);
      });
    });
  }

  function draw() {
    question.update();
    passage.update();
    progress.hidden = true;
    remark.textContent = model.get("note");
    drawPassage();
    drawAnswers();
    if (cell && cell.some((value) => value >= model.get("view").map[1] - model.get("view").map[0]))
      cell = null;
    drawMap();
    drawVectors();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }

  const onWindow = ({ window: done, windows }) => {
    progress.hidden = false;
    progress.max = windows;
    progress.value = done;
  };
  model.on("msg:custom", onWindow);
  const undo = listen(model, ["revision"], draw);
  const watch = new ResizeObserver(() => (drawMap(), drawVectors()));
  watch.observe(content);
  draw();
  return () => {
    undo();
    stop();
    model.off("msg:custom", onWindow);
    watch.disconnect();
  };
}

export default { render };
