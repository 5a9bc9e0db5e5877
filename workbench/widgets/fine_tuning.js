// FineTuning: two trainings beside each other with their curves and confusion tables, and the examples that
// they learn from, to look at and to change. See fine_tuning.py for the traits.

import { penOf, plot } from "./drawing.js";
import {
  button,
  classColor,
  classSwatch,
  columns,
  note,
  part,
  progressBar,
  refill,
  row,
  tableHead,
  tableRow,
  turns,
  typedText,
  viewOf,
} from "./parts.js";
import { counted, element, percent, readFloat16 } from "./shared.js";
import { stripOf } from "./strip.js";

const RUNS = { frozen: "Frozen encoder", "fine-tuned": "Fine-tuned encoder" };
const LEARNS = {
  frozen: "The encoder stays as it is; only the new linear layer learns.",
  "fine-tuned": "The new layer learns, and the whole encoder with it.",
};
const STATES = {
  ready: "Both trainings together take about a minute.",
  stopped: "Stopped; what was learned is kept.",
  done: "Done.",
};
const ROWS = {
  sentence: "One text a row, and its class.",
  word: "One sentence a row, and as many classes as it has words, with spaces between them.",
  pair: "Two texts a row, and their class.",
  span: "A passage a row, a question, and the answer as it stands in the passage.",
  picture: "Pictures and their classes.",
};
const WHAT = { sentence: "sentences", word: "words", pair: "pairs", picture: "pictures" };
const PAGE = 8; // examples

// --- one of the trainings: two plots, and what was taken for what

// Points are rows of numbers: step, then loss and accuracy of what is learned from, then of what is held out.
function curve(title, steps, points, [seen, heldOut], most, show) {
  const last = points.at(-1);
  const values = last && `held out ${show(last[heldOut])}, learned from ${show(last[seen])}`;
  const places = (column) => points.map((point) => [point[0] / steps, point[column]]);
  const svg = plot({
    label: `${title}: ${last ? `${values}, after ${counted(last[0], "step")}` : "nothing yet"}`,
    most,
    show,
    below: { 0: "step 0", 1: steps },
    lines: { base: places(seen), main: places(heldOut) },
    dots: places(heldOut).map(([share, value]) => [share, value, "fresh", 2.4]),
  });
  return element("figure", element("figcaption", title), svg);
}

// True classes (down) by what they were taken for (across); a click on a count shows those examples.
function confusion({ get, message }, run, { labels, counts }) {
  const most = Math.max(1, ...counts.flat());
  const what = WHAT[get("kind")];
  const told = `Held-out ${what}: what they are, and what they were taken for. Click a number.`;
  const cellOf = (count, truth, said) => {
    const cell = [run, labels[truth], labels[said]];
    const options = {
      disabled: !count,
      "aria-pressed": String(cell) === String(get("cell")),
      "aria-label": `${count} of ${cell[1]} taken for ${cell[2]}`,
      style: `--shade: ${Math.round((40 * count) / most)}%`,
      onclick: () => message({ do: "look", cell }),
    };
    const kind = truth === said ? "right" : count ? "wrong" : "none";
    return element(`button.count.${kind}`, options, count || "·");
  };
  const rowOf = (ofTruth, truth) => {
    const cells = ofTruth.map((count, said) => cellOf(count, truth, said));
    return tableRow(element("th", { scope: "row" }, labels[truth]), ...cells);
  };
  const small = labels.length > 6 ? ".small" : "";
  const parts = [
    tableHead("true \\ said", ...labels.map((label) => element("span", label))),
    element("tbody", counts.map(rowOf)),
  ];
  const table = element(`table.confusion${small}`, { "aria-label": told }, parts);
  return [note(told), element("div.scroll", table)];
}

// Held-out questions, the answer that was found, and where it is wrong the right one.
function answered({ answers }) {
  const rowOf = ([question, right, said]) => {
    const node = tableRow(question, said, said === right ? "right" : `not right: ${right}`);
    node.classList.toggle("missed", said !== right);
    return node;
  };
  const label = { "aria-label": "Held-out questions and the answers that were found" };
  const parts = [tableHead("Question", "Answer found", ""), element("tbody", answers.map(rowOf))];
  return [
    note("Held-out questions, to passages that were never read before."),
    element("div.scroll", { tabindex: "0" }, element("table.lined", label, parts)),
  ];
}

// The vectors that the new layer reads, in two dimensions: a dot each, in the colour of its class.
function scatter(view, run, curves) {
  const { get, ink, drawn } = view;
  const canvas = element("canvas.scatter", { role: "img" });
  const looks = () =>
    readFloat16(get(run === "frozen" ? "frozen_places" : "tuned_places"), 2 * get("true").length);
  const at = (moment) => Math.round(moment * Math.max(0, looks().length - 1));
  const stepOf = (moment) => `step ${curves[run][at(moment)]?.[0] ?? 0}`;
  const count = () => get("labels").length;
  const entry = (label, number) => element("span.field", classSwatch(number, count()), label);
  const legend = view.live("p.legend.bar-row.note", () => get("labels").map(entry));
  const draw = () => {
    const all = looks();
    const places = all[at(get("moment"))] ?? [];
    const pen = penOf(canvas);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    // One scale for both axes and all looks.
    const farthest = (axis) =>
      Math.max(1e-9, ...all.flat().map((value, at) => (at % 2 === axis ? Math.abs(value) : 0)));
    const scale = Math.min((width / 2 - 8) / farthest(0), (height / 2 - 8) / farthest(1));
    for (const [number, label] of get("true").entries()) {
      pen.fillStyle = classColor(label, count());
      pen.strokeStyle = ink("--ink");
      pen.beginPath();
      pen.arc(width / 2 + scale * places[2 * number], height / 2 - scale * places[2 * number + 1], 4, 0, 7);
      pen.fill();
      pen.stroke();
    }
  };
  const told = `What the new layer reads of held-out ${WHAT[get("kind")]}, in two dimensions`;
  const moment = view.looks.slider("moment", "from first to last", [0, 1, 0.01], { show: stepOf });
  const node = element("figure", element("figcaption", told), canvas, legend, moment);
  drawn(() => {
    node.hidden = !looks().length;
    canvas.setAttribute("aria-label", `${told}, ${stepOf(get("moment"))}`);
    if (!node.hidden) draw();
  });
  return node;
}

function training(view, run, curves) {
  const { get, drawn } = view;
  const points = () => curves[run];
  const drawCurves = () => {
    const losses = Object.values(curves).flatMap((rows) => rows.flatMap((point) => [point[1], point[3]]));
    const highest = Math.max(losses.length ? 0.1 : 1, ...losses);
    const loss = (value) => value.toFixed(highest < 1 ? 2 : 1);
    const planned = get(get("state") === "ready" ? "steps" : "planned");
    return [
      curve("Accuracy", planned, points(), [2, 4], 1, percent),
      curve("Loss", planned, points(), [1, 3], highest, loss),
    ];
  };
  const drawBest = () => {
    const last = points().at(-1);
    const right =
      last && `${percent(last[4])} of what was held out is right after ${counted(last[0], "step")}`;
    const lines = [element("span.line"), "held out", element("span.line.seen"), "learned from"];
    return [...lines, last && element("b", right)];
  };
  const drawTable = () => {
    const found = get("tables")[run];
    return found ? (found.answers ? answered(found) : confusion(view, run, found)) : [];
  };
  const node = part(
    RUNS[run],
    note(LEARNS[run]),
    view.live("div.tiles", drawCurves),
    view.live("p.note", drawBest),
    scatter(view, run, curves),
    view.live("div", drawTable),
  );
  drawn(() => node.classList.toggle("now", get("state") === "training" && get("now") === run));
  return node;
}

// --- the examples

// A picture that this is the address of, and what it is called.
const pictured = ([src, label]) => element("figure", element("img", { src, alt: "" }), label);

function exampleTable(view) {
  const { get, send, message, drawn } = view;
  const columns = get("columns");
  const fixed = get("kind") === "picture"; // they are no text to type
  const body = element("tbody");
  let written = ""; // what the fields show

  // Text with several lines, or with a tab, is a table: one example a line.
  function paste(event, row, column) {
    const text = event.clipboardData.getData("text").replace(/\r/g, "");
    if (!/[\n\t]/.test(text)) return;
    event.preventDefault();
    // Tabs part all columns; without one, a semicolon parts two.
    const fieldsOf = (line) => {
      const cut = line.lastIndexOf(";");
      if (line.includes("\t")) return line.split("\t");
      return cut >= 0 && columns.length === 2 ? [line.slice(0, cut), line.slice(cut + 1)] : [line];
    };
    const lines = text.split("\n").filter((line) => line.trim());
    const rows = lines.map((line) => fieldsOf(line).map((field) => field.trim()));
    message({ do: "write", row: get("first") + row, column, rows });
  }

  function rowOf(values, at) {
    const row = get("first") + at;
    const write = () => message({ do: "write", row, rows: [fieldsOf(at).map(typedText)] });
    const fields = values.map((value, column) => {
      const label = `${columns[column]} of example ${row + 1}`;
      const onpaste = (event) => paste(event, at, column);
      const options = { spellcheck: "false", "aria-label": label, value, onpaste, onchange: write };
      return element("input", { type: "text", dir: "auto", ...options });
    });
    const label = { "aria-label": `Remove example ${row + 1}` };
    const remove = button("×", () => message({ do: "remove", row }), label);
    return tableRow(element("span.note", row + 1), ...fields, remove);
  }

  const fieldsOf = (at) => [...body.children[at].querySelectorAll("input")];

  drawn(() => {
    const now = JSON.stringify(get("rows"));
    const focused = body.getRootNode().activeElement; // the host may keep the view in a shadow tree
    const typing = focused?.localName === "input" && body.contains(focused);
    if (fixed || (typing && now === written)) return;
    written = now;
    refill(body, get("rows").map(rowOf));
  });
  const counts = view.live("p.note", () => {
    if (get("kind") === "span")
      return `${counted(get("count"), "row")}. One passage in five is held out, with all its questions.`;
    const names = get("classes").map(([name, times]) => `${name} ${times}`);
    const one = fixed ? "One picture in four of each class" : "One example in five";
    return `${counted(get("count"), "row")}; ${names.join(" · ") || "no class yet"}. ${one} is held out.`;
  });
  const pages = view.live("span.group", () => {
    const [first, count] = ["first", "count"].map(get);
    const last = first + get("rows").length;
    const before = first > 0 && Math.max(0, first - PAGE);
    const all = turns(before, last < count && first + PAGE, (to) => send({ first: to }));
    return [`${first + 1} to ${last} of ${count}`, ...all];
  });
  const asks = (text, what) => button(text, () => message({ do: what }));
  const even = get("kind") === "sentence" ? "" : ".even";
  const heads = tableHead("#", ...columns, element("span.unseen", "Remove"));
  const change = ": look at them, change them, or type your own";
  const several = " Several rows can be pasted at once, with tabs between the columns.";
  const pictures = () => view.live("div.bar-row", () => get("rows").map(pictured));
  const changes = { "Add a row": "add", "Empty the table": "clear", "Shipped examples": "restore" };
  return element(
    "details.part",
    { open: fixed },
    element("summary", "The examples", !fixed && change),
    note(ROWS[get("kind")], !fixed && several),
    counts,
    fixed ? pictures() : element(`table.rows${even}`, heads, body),
    row(pages, !fixed && Object.entries(changes).map((one) => asks(...one))),
  );
}

// --- all of it

function render({ model, el }) {
  const view = viewOf(model, el, "fine-tuning");
  const { root, get, message, saved, drawn } = view;
  const curves = { frozen: [], "fine-tuned": [] }; // points of each training
  const train = button("Train", () => message({ do: "train" }), { class: "plain go" });
  const halt = button("Stop, keep what was learned", () => message({ do: "stop" }));
  const steps = view.looks.numberField("steps", "Steps of each training", [1, 1000], "", "steps each");
  const progress = progressBar("Progress of the training");
  const said = element("span.note", { role: "status" });

  drawn(() => {
    curves.frozen = readFloat16(get("frozen"), 5);
    curves["fine-tuned"] = readFloat16(get("tuned"), 5);
    const [state, now, count] = ["state", "now", "planned"].map(get);
    const lost = state === "training" && saved();
    const busy = state === "training" && !lost;
    const stepOf = (points) => points?.at(-1)?.[0] ?? 0;
    const done = stepOf(curves.frozen) + stepOf(curves["fine-tuned"]);
    train.disabled = busy;
    halt.disabled = !busy || get("awaited");
    steps.querySelector("input").disabled = busy;
    train.textContent = state === "ready" ? "Train" : "Train anew";
    progress.hidden = state === "ready";
    progress.value = state === "done" ? 1 : Math.min(1, done / (2 * count));
    const waits = get("awaited") ? ". A cell waits for the end: ■ in the toolbar above stops it" : "";
    const runs = `${RUNS[now]}, step ${stepOf(curves[now])} of ${count}`;
    said.textContent = STATES[state] ?? (lost ? `${runs}. It was cut off there.` : runs + waits);
    root.dataset.state = state;
  });
  const shown = view.live("div.shown.bar-row", { "aria-live": "polite" }, () => {
    const [run, truth, instead] = get("cell");
    if (!run) return [];
    const pictures = get("kind") === "picture";
    const all = get("shown").map((one) => (pictures ? pictured([one]) : element("li", one)));
    const title = element("h4", `${RUNS[run]}: ${truth}, taken for ${instead}`);
    return [title, pictures ? all : element("ul", all)];
  });
  view.content.append(
    ...stripOf(view),
    row(train, halt, steps, progress, said),
    columns("1fr 1fr", ...Object.keys(RUNS).map((run) => training(view, run, curves))),
    shown,
    exampleTable(view),
  );
  return view.show({ traits: ["moment"] });
}

export default { render };
