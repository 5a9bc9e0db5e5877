// FineTuning: two trainings beside each other with their curves and confusion tables, and the examples that
// they learn from, to look at and to change. See fine_tuning.py for the traits.

import { button, note, numberField, part, plot, refill, typedText } from "./parts.js";
import { element, frame, percent, readFloat16 } from "./shared.js";

const RUNS = { frozen: "Frozen encoder", "fine-tuned": "Fine-tuned encoder" };
const LEARNS = {
  frozen: "BERT stays as it is; only the new linear layer learns.",
  "fine-tuned": "The new layer learns, and all of BERT with it.",
};
const STATES = {
  ready: "Both trainings together take about a minute.",
  stopped: "Stopped; what was learned is kept.",
  done: "Done.",
};
const PAGE = 8; // examples

// 99.7 % is not 100 %.
const almost = (share) => (share > 0.99 && share < 1 ? `${(100 * share).toFixed(1)}\u00a0%` : percent(share));

// --- one of the trainings: two plots, and what was taken for what

// Points are rows of numbers: step, then loss and accuracy of what is learned from, then of what is held out.
function curve(title, steps, points, [seen, heldOut], most, show) {
  const last = points.at(-1);
  const values = last && `held out ${show(last[heldOut])}, learned from ${show(last[seen])}`;
  const places = (column) => points.map((point) => [point[0] / steps, point[column]]);
  const svg = plot({
    label: `${title}: ${last ? `${values}, after ${last[0]} steps` : "nothing yet"}`,
    most,
    show,
    below: [
      [0, "step 0", "start"],
      [1, steps, "end"],
    ],
    lines: [
      { kind: "base", points: places(seen) },
      { kind: "main", points: places(heldOut) },
    ],
    dots: places(heldOut).map(([share, value]) => [share, value, "fresh", 2.4]),
  });
  return element("figure", element("figcaption", title), svg);
}

// True classes (down) by what they were taken for (across); a click on a count shows those examples.
function confusion({ get, message }, run, { labels, counts }) {
  const most = Math.max(1, ...counts.flat());
  const chosen = get("cell").join("\n");
  const what = { word: "words", pair: "pairs" }[get("kind")] ?? "sentences";
  const told = `Held-out ${what}: what they are, and what they were taken for. Click a number.`;
  const cellOf = (count, truth, said) => {
    const cell = [run, labels[truth], labels[said]];
    const cellButton = element(
      `button.count.${truth === said ? "right" : count ? "wrong" : "none"}`,
      {
        type: "button",
        disabled: !count,
        "aria-pressed": `${cell.join("\n") === chosen}`,
        "aria-label": `${count} of ${cell[1]} taken for ${cell[2]}`,
        style: `--shade: ${Math.round((40 * count) / most)}%`,
        onclick: () => message({ do: "look", cell }),
      },
      count || "·",
    );
    return element("td", cellButton);
  };
  const row = (ofTruth, truth) =>
    element(
      "tr",
      element("th", { scope: "row" }, labels[truth]),
      ...ofTruth.map((count, said) => cellOf(count, truth, said)),
    );
  const heads = labels.map((label) => element("th", { scope: "col" }, element("span", label)));
  const corner = element("th.corner", "true \\ said");
  const table = element(
    labels.length > 6 ? "table.confusion.small" : "table.confusion",
    { "aria-label": told },
    element("thead", element("tr", corner, ...heads)),
    element("tbody", ...counts.map(row)),
  );
  return [note(told), table];
}

// Held-out questions, the answer that was found, and where it is wrong the right one.
function answered({ answers }) {
  const row = ([question, right, said]) =>
    element(
      said === right ? "tr" : "tr.missed",
      element("td", question),
      element("td", said),
      element("td", said === right ? "right" : `not right: ${right}`),
    );
  const heads = ["Question", "Answer found", ""].map((name) => element("th", { scope: "col" }, name));
  const table = element(
    "table.answered",
    { "aria-label": "Held-out questions and the answers that were found" },
    element("thead", element("tr", ...heads)),
    element("tbody", ...answers.map(row)),
  );
  return [
    note("Held-out questions, to passages that were never read before."),
    element("div.long", { tabindex: "0" }, table),
  ];
}

function training(view, run) {
  const { get } = view;
  const curves = element("div.curves");
  const best = note();
  const table = element("div.table");
  const node = part(RUNS[run], note(LEARNS[run]), curves, best, table);
  const draw = (points, highest) => {
    const last = points.at(-1);
    const right = last && `${almost(last[4])} of what was held out is right after ${last[0]} steps`;
    const loss = (value) => value.toFixed(highest < 1 ? 2 : 1);
    const found = get("tables")[run];
    node.classList.toggle("now", get("state") === "training" && get("now") === run);
    curves.replaceChildren(
      curve("Accuracy", get("steps"), points, [2, 4], 1, (value) => `${Math.round(100 * value)} %`),
      curve("Loss", get("steps"), points, [1, 3], highest, loss),
    );
    best.replaceChildren(
      element("span.line"),
      "held out",
      element("span.line.seen"),
      "learned from",
      last ? element("b", right) : "",
    );
    refill(table, found?.answers ? answered(found) : found ? confusion(view, run, found) : []);
  };
  return { node, draw };
}

// --- the examples

function exampleTable({ get, send, message }) {
  const columns = get("columns");
  const body = element("tbody");
  const counts = note();
  const pages = element("span.group");
  let written = ""; // what the fields show

  // Text with several lines, or with a tab, is a table: one example a line.
  function paste(event, row, column) {
    const text = event.clipboardData.getData("text").replace(/\r/g, "");
    if (!/[\n\t]/.test(text)) return;
    event.preventDefault();
    const before = get("rows")[row].slice(0, column);
    // Tabs part all columns; without one, a semicolon parts two.
    const fieldsOf = (line) => {
      const cut = line.lastIndexOf(";");
      if (line.includes("\t")) return line.split("\t");
      return cut >= 0 && columns.length === 2 ? [line.slice(0, cut), line.slice(cut + 1)] : [line];
    };
    const whole = (fields) =>
      (fields.length === 1 ? [...before, ...fields] : fields).map((field) => field.trim());
    const lines = text.split("\n").filter((line) => line.trim());
    message({ do: "write", row: get("first") + row, rows: lines.map((line) => whole(fieldsOf(line))) });
  }

  function rowOf(values, at) {
    const row = get("first") + at;
    const write = () => message({ do: "write", row, rows: [fields.map(typedText)] });
    const fields = values.map((value, column) => {
      const label = `${columns[column]} of example ${row + 1}`;
      const field = element("input", { type: "text", spellcheck: "false", "aria-label": label, value });
      field.addEventListener("paste", (event) => paste(event, at, column));
      field.addEventListener("change", write);
      return field;
    });
    const label = { "aria-label": `Remove example ${row + 1}` };
    const remove = button("×", () => message({ do: "remove", row }), label);
    const cells = [element("span.note", row + 1), ...fields, remove];
    return element("tr", ...cells.map((cell) => element("td", cell)));
  }

  function draw() {
    const [rows, first, count] = ["rows", "first", "count"].map(get);
    const now = JSON.stringify(rows);
    const focused = body.getRootNode().activeElement; // the host may keep the view in a shadow tree
    const typing = focused?.localName === "input" && body.contains(focused);
    if (typing && now === written) return;
    written = now;
    refill(body, rows.map(rowOf));
    const names = get("classes").map(([name, times]) => `${name} ${times}`);
    const found = names.join(" · ") || "no class yet";
    counts.textContent =
      get("kind") === "span"
        ? `${count} rows. One passage in five is held out, with all its questions.`
        : `${count} rows; ${found}. One example in five is held out.`;
    const last = first + rows.length;
    const turn = (to, text) => button(text, () => send({ first: to }));
    pages.replaceChildren(`${first + 1} to ${last} of ${count}`);
    if (first > 0) pages.prepend(turn(Math.max(0, first - PAGE), "previous"));
    if (last < count) pages.append(turn(first + PAGE, "next"));
  }

  const told = {
    sentence: "One text a row, and its class.",
    word: "One sentence a row, and as many classes as it has words, with spaces between them.",
    pair: "Two texts a row, and their class.",
    span: "A passage a row, a question, and the answer as it stands in the passage.",
  };
  const node = element(
    "details.part",
    element("summary", "The examples: look at them, change them, or type your own"),
    note(`${told[get("kind")]} Several rows can be pasted at once, with tabs between the columns.`),
    counts,
    element(
      get("kind") === "sentence" ? "table.rows" : "table.rows.even",
      element(
        "thead",
        element(
          "tr",
          ...["#", ...columns].map((name) => element("th", name)),
          element("th", element("span.unseen", "Remove")),
        ),
      ),
      body,
    ),
    element(
      "div.bar-row",
      pages,
      button("Add a row", () => message({ do: "add" })),
      button("Empty the table", () => message({ do: "clear" })),
      button("Shipped examples", () => message({ do: "restore" })),
    ),
  );
  return { node, draw };
}

// --- all of it

function render({ model, el }) {
  const view = frame(model, el, "fine-tuning");
  const { content, root, get, set, message, show } = view;
  const train = button("Train", () => message({ do: "train" }), { class: "plain go" });
  const halt = button("Stop, keep what was learned", () => message({ do: "stop" }));
  const steps = numberField("Steps of each training", [1, 1000], 45, (number) => set({ steps: number }));
  const progress = element("progress", { max: 1, "aria-label": "Progress of the training" });
  const said = element("span.note", { role: "status" });
  const trainings = Object.keys(RUNS).map((run) => training(view, run));
  const shown = element("div.shown", { "aria-live": "polite" });
  const examples = exampleTable(view);
  content.append(
    element("div.bar-row", element("span.group", train, halt), [
      element("label.field", steps, "steps each"),
      progress,
      said,
    ]),
    element("div.columns", ...trainings.map(({ node }) => node)),
    shown,
    examples.node,
  );

  function drawState(curves) {
    const [state, now, count] = ["state", "now", "steps"].map(get);
    const stepOf = (points) => points?.at(-1)?.[0] ?? 0;
    const done = curves.reduce((sum, points) => sum + stepOf(points), 0);
    const step = stepOf(curves[Object.keys(RUNS).indexOf(now)]);
    train.disabled = state === "training";
    halt.disabled = state !== "training";
    train.textContent = state === "ready" ? "Train" : "Train anew";
    steps.value = count;
    progress.hidden = state === "ready";
    progress.value = state === "done" ? 1 : Math.min(1, done / (2 * count));
    said.textContent = STATES[state] ?? `${RUNS[now]}, step ${step} of ${count}`;
    root.dataset.state = state;
  }

  function drawShown() {
    const [run, truth, instead] = get("cell");
    shown.replaceChildren();
    if (!run) return;
    const texts = get("shown").map((text) => element("li", text));
    shown.append(element("h4", `${RUNS[run]}: ${truth}, taken for ${instead}`), element("ul", ...texts));
  }

  function draw() {
    const curves = ["frozen", "tuned"].map((trait) => readFloat16(get(trait), 5));
    const losses = curves.flat().flatMap((point) => [point[1], point[3]]);
    const highest = Math.max(losses.length ? 0.1 : 1, ...losses);
    drawState(curves);
    for (const [at, { draw }] of trainings.entries()) draw(curves[at], highest);
    drawShown();
    examples.draw();
  }
  return show(draw);
}

export default { render };
