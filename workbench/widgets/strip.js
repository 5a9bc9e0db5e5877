// The strip on top of every view, which says where in the model we are, and the drawer of the stage that is
// open. See strip.py for the traits.

import { cellUnder, signedPixels } from "./drawing.js";
import { bar, button, chips, columns, note, part, refill, roving, tableHead, tableRow } from "./parts.js";
import { element, equals, fixed, percent, readFloat16, shown } from "./shared.js";

const READS = {
  mlm:
    "The head for words reads one vector, that of [MASK]: a place with no word of its own, " +
    "filled by attention.",
  sentence:
    "Everything about the input has to be in one vector, that of [CLS]. The pooler, a linear map and tanh " +
    "(or ReLU), makes another one of it, which goes into the matrix.",
  word: "Each word's first piece is read, one after the other, with the same matrix.",
  span: "Every token is read twice: could the answer start here, could it end here?",
  class: "Everything about the picture has to be in one vector, that of *, the class token.",
  several:
    "Everything about the picture has to be in these vectors. Each has a matrix of its own, and the mean " +
    "of what these say is the answer.",
};
const GIVEN = {
  mlm: "after a layer of the head",
  sentence: "after the pooler",
  word: "what is read",
  span: "what is read",
  class: "after the last norm",
};
const BECOMES = {
  single_label_classification: "Softmax over all classes turns the logits into probabilities.",
  multi_label_classification: "The sigmoid of each logit is the probability of its class.",
  regression: "That is the answer.",
};
const NAMED = 32;
const HELP_ON_PRODUCTS =
  "Each picture has its own scale. Click a class to see its dot product; point at a picture for the numbers.";
const OVER_TOKENS = "Softmax over the logits of all tokens makes a probability of it.";
const DRAWERS = {
  embeddings: embeddingsOf,
  layer: layerOf,
  read: readOf,
  head: headOf,
  softmax: softmaxOf,
  nothing: (view) => [view.live("p.empty", () => view.get("drawer").empty)],
};

// The line and the drawer, for the top of a view. `more` has by stage what a view adds to its drawer, a
// function of a view that draws only while the drawer is open; layersFrom is 1 if the trait `layer` counts
// the layers from 0; pick(token) is what is sent for a token, if the view has a trait of its own for it.
export function stripOf(view, more = {}) {
  const { get, send, drawn } = view;
  const stop = ([stage, name, now], at, stops) => {
    const told = [element("span", name), element("b", now)];
    const isAnswer = at === stops.length - 1;
    if (!stage) return element("li", element("span.stop", { "aria-live": isAnswer ? "polite" : null }, told));
    const open = stage === get("drawer").stage;
    const onclick = () => send({ stage: open ? "" : stage });
    const options = { "aria-expanded": open, "data-stage": stage, onclick };
    return element("li", element("button.stop", options, told));
  };
  const label = "The way through the model";
  const line = view.live("ol.stages.group", { "aria-label": label }, () => get("line").map(stop));
  const drawer = element("section.part.drawer", { "aria-label": "The open stage" });
  const made = {}; // drawers that have been open once
  let open = "";

  function draw() {
    const { stage = "" } = get("drawer");
    drawer.hidden = !stage;
    const part = get("drawer").empty ? "nothing" : stage;
    if (part && !made[part]) {
      const draws = [];
      const inner = view.with({ drawn: (one) => draws.push(one) });
      made[part] = { nodes: shown([DRAWERS[part](inner, more), more[part]?.(inner)].flat()), draws };
    }
    if (part !== open) drawer.replaceChildren(...(made[part]?.nodes ?? []));
    open = part;
    for (const one of made[part]?.draws ?? []) one();
  }
  drawn(draw);
  return [line, drawer];
}

// The tables of the open stage, each a list of rows.
function tablesOf({ get }) {
  const { buffer, byteOffset } = get("numbers");
  let start = byteOffset;
  return get("drawer").shapes.map(([rows, columns]) => {
    const part = new DataView(buffer, start, 2 * rows * columns);
    start += part.byteLength;
    return readFloat16(part, columns);
  });
}

const quoted = (text) => `“${text}”`;
const nameOf = ({ tokens, token }) => quoted(tokens[token]);
const said = () => element("p.said", { "aria-live": "polite" });

// Rows of numbers as colours, all on one scale: names before them, what they come to behind them.
// tell(row, column) for the number under the mouse, tell() when it is gone; click(row). A few numbers may be
// stronger than the strongest colour, but not if it is `exact`.
export function rowsOf({ ink }, label, tell, { kind = "", click, exact } = {}) {
  const canvas = element(`canvas.vectors${kind}`, { role: "img", "aria-label": label });
  const [names, ends] = [element("div.rows"), element("div.rows")];
  const under = (event) => cellUnder(event, [canvas.height, canvas.width]);
  canvas.onmousemove = (event) => tell?.(...(under(event) ?? []));
  canvas.onmouseleave = () => tell?.();
  if (click) canvas.onclick = (event) => under(event) && click(under(event)[0]);
  const draw = (values, before, behind = []) => {
    canvas.style.setProperty("--rows", values.length);
    refill(names, before);
    refill(ends, behind);
    signedPixels(canvas, values, ink, exact ? 0 : Math.floor((values.length * values[0].length) / 200));
  };
  return { node: element(`div.numbered${kind}`, names, canvas, ends), names, draw };
}

const rowName = (name) => element("th", { scope: "row" }, name);
export const named = (name) => element("span.name.word", { title: name }, name);
const nameFrom = ([name]) => named(name);
const lengthOf = ([, length]) => element("span.note", `length ${fixed(length, 2)}`);

// The tokens, one of them to be chosen; shade(at) is how much of the colour each is given, 0 to 1.
function tokensOf(view, { pick = (token) => ({ token }) }, shade = () => 0) {
  const { get, send, drawn } = view;
  if (get("grid")?.length) {
    const picking = view.with({ send: ({ token }) => send(pick(token)) });
    const listed = () => get("drawer").tokens.map((text, at) => [at, text]);
    return picking.select("token", "Token", listed, { value: () => get("drawer").token });
  }
  const words = chips("Tokens. Arrow keys move, Enter chooses one.", (token) => send(pick(token)));
  drawn(() => {
    const { tokens, token } = get("drawer");
    const item = (text, at) => ({
      text,
      kind: at === token ? "pinned" : "",
      pressed: at === token,
      style: `--shade: ${Math.round(46 * shade(at))}%`,
    });
    words.draw(tokens.map(item));
  });
  return words.node;
}

// --- embeddings: what is added up for one token

function embeddingsOf(view, more) {
  const { get, drawn } = view;
  const told = said();
  let vectors = [];
  const label = "The vectors that are added, and their sum, on one scale";
  const block = rowsOf(view, label, (_, column) => tell(column));

  // Of one number of all vectors, at first the largest.
  function tell(column) {
    const sum = vectors.at(-1);
    const sizes = sum.map(Math.abs);
    const at = column ?? sizes.indexOf(Math.max(...sizes));
    const parts = vectors.map((row, index) => `${index && row[at] >= 0 ? "+ " : ""}${fixed(row[at], 3)}`);
    const added = parts.slice(0, -1).join(" ").replaceAll(" −", " − ");
    const numbers = vectors.slice(0, -1).map((row) => row[at]);
    const sign = equals(numbers, sum[at], 3);
    told.textContent = `Number ${at + 1} of ${sum.length}: ${added} ${sign} ${fixed(sum[at], 3)}.`;
  }

  drawn(() => {
    const { rows } = get("drawer");
    [vectors] = tablesOf(view);
    block.draw(vectors, rows.map(nameFrom), rows.map(lengthOf));
    tell();
  });
  const title = view.live("h4", () => {
    const count = get("drawer").rows.length - 1;
    return `${nameOf(get("drawer"))} becomes a vector: ${["", "", "two", "three"][count]} are added`;
  });
  return [
    title,
    tokensOf(view, more),
    block.node,
    told,
    note("All on one scale: ", scale(), "Point at a column to see one number being added up."),
  ];
}

const scale = () => [element("span.scale-bar.signed"), "below zero · zero · above zero. "];

// --- layer: what a token looks at, what it fetches, and the answer after every layer

function layerOf(view, more) {
  const { layersFrom = 0 } = more;
  const { get, drawn } = view;
  const [looked, fetched] = [said(), said()];
  let heads = []; // weights, by head and token; the last row is their mean
  const headName = (head) => (head === heads.length - 1 ? "mean" : `head ${head + 1}`);
  let vectors = [];
  const depth = () => get("drawer").depth;
  const own = { kind: ".small", exact: true };
  const weights = rowsOf(view, "The weights that the token gives to all tokens", tellWeight, own);
  const added = rowsOf(view, "What each token adds, and the sum, on one scale", tellNumber);

  function tellWeight(head, token) {
    const most = Math.max(...heads.flat());
    looked.textContent =
      token === undefined
        ? `A row for each head, a column for each token; the strongest colour is ${percent(most)}.`
        : `${headName(head)} gives ${quoted(get("drawer").tokens[token])} ${percent(heads[head][token])}`;
  }

  function tellNumber(row, column) {
    const { rows } = get("drawer");
    fetched.textContent =
      row === undefined
        ? "Each value vector times its weights, all heads together: the rows add up to the last one."
        : `${rows[row][0]}, number ${column + 1}: ${fixed(vectors[row][column], 3)} of ` +
          `${fixed(vectors.at(-1)[column], 3)}.`;
  }

  const parts = element(
    "div",
    view.live("h4", () => `Layer ${depth()}: what ${nameOf(get("drawer"))} looks at`),
    weights.node,
    looked,
    view.live("h4", () => `… and what it fetches there: weights × value vectors`),
    added.node,
    fetched,
    note("Behind a row: the vector's length, and the mean of the heads' weights, 0 to 100 %."),
  );
  drawn(() => {
    const { rows, shares, tokens } = get("drawer");
    parts.hidden = !depth();
    if (parts.hidden) return;
    [heads, vectors] = tablesOf(view);
    const names = heads.map((_, head) => named(headName(head)));
    const behind = (row, at) => (at in shares ? bar(fixed(row[1], 2), shares[at]) : lengthOf(row));
    const below = tokens.length > NAMED ? [] : tokens; // names of columns that are not too narrow
    weights.draw(heads, names, below.map(named));
    added.draw(vectors, rows.map(nameFrom), rows.map(behind));
    tellWeight();
    tellNumber();
  });
  const shade = (at) => (depth() ? heads.at(-1)[at] / Math.max(...heads.at(-1), 1e-9) : 0);
  const list = layersOf(view, layersFrom);
  return [tokensOf(view, more, shade), columns("1fr 240px", parts, list)];
}

// The best answer after every layer, and a slider to choose one of them.
function layersOf(view, first) {
  const { get, send } = view;
  const depth = () => get("drawer").depth;
  const choosing = view.with({ get: depth, send: ({ layer }) => send({ layer: layer - first }) });
  const line = ([name, answer], layer) => {
    const parts = [element("span.note", layer), element("span.word", name), view.write(answer)];
    return element(layer === depth() ? "li.now" : "li", parts);
  };
  const list = view.live("ol.by-layer", () => get("drawer").by_layer.map(line));
  const told = view.live("p.note", () => [
    get("drawer").by_layer.length > 0 && "The best answer, if the head read that layer. ",
    first === 0 && "0 is the embeddings, before any attention.",
  ]);
  const slider = choosing.slider("layer", "Layer", [first, get("layers"), 1]);
  return part("After every layer", list, slider, told);
}

// --- read: which vectors the head is given

function readOf(view) {
  const { get, drawn } = view;
  const block = rowsOf(view, "The vectors that the head reads");
  drawn(() => {
    const { rows } = get("drawer");
    block.draw(tablesOf(view)[0], rows.map(nameFrom), rows.map(lengthOf));
  });
  const label = "Tokens; those that are read are marked";
  const all = view.live("div.chips", { role: "list", "aria-label": label }, () => {
    const { tokens, reads } = get("drawer");
    const kind = (at) => (reads.includes(at) ? "read" : "special");
    return tokens.map((text, at) => element(`span.chip.${kind(at)}`, { role: "listitem" }, text));
  });
  const what = () => {
    const { kind, reads } = get("drawer");
    return kind === "class" && reads.length > 1 ? "several" : kind;
  };
  const title = view.live("h4", () => {
    const { tokens, reads } = get("drawer");
    return `${tokens.length} vectors leave the last layer; the head reads ${reads.length}`;
  });
  return [title, view.live("p.note", () => READS[what()]), all, block.node];
}

// --- head: rows of the matrix, and the products of one of them

function headOf(view) {
  const { get, send, drawn } = view;
  const told = said();
  let [T, W, products] = [[], [], []];
  drawn(() => {
    [[T], W, [products]] = tablesOf(view);
  });
  const chosen = () => get("drawer").rows.findIndex(([row]) => row === get("drawer").row);
  const rowAt = (at) => get("drawer").rows[at];
  const tellChosen = (_, column) => tell(chosen(), column);
  const vector = rowsOf(view, "The vector T that is read", tellChosen);
  const matrix = rowsOf(view, "The weights: a row for each class, a column for each number of T", tell, {
    click: (at) => send({ row: rowAt(at)[0] }),
  });
  const product = rowsOf(view, "Weight times T, for the chosen class", tellChosen);
  matrix.names.setAttribute("role", "group");
  matrix.names.setAttribute("aria-label", "Classes. Arrow keys move, Enter shows the dot product.");
  const settle = roving(matrix.names);

  function tell(at, column) {
    if (column === undefined) return tellSum();
    const own = `, product ${fixed(products[column], 3)}.`;
    told.textContent =
      `${rowAt(at)[1]}, number ${column + 1} of ${T.length}: weight ${fixed(W[at][column], 3)}, ` +
      `T ${fixed(T[column], 3)}${at === chosen() ? own : ". Click the class for its products."}`;
  }

  function tellSum() {
    const [sum, bias, logit] = get("drawer").sum;
    told.textContent =
      `${rowAt(chosen())[1]}: the sum of all ${T.length} products is ${fixed(sum, 2)}; ` +
      `with the bias of ${fixed(bias, 2)} the logit is ${fixed(logit, 2)}. ` +
      (get("drawer").kind === "span" ? OVER_TOKENS : BECOMES[get("problem_type")]);
  }

  const name = ([row, label, logit]) => {
    const told = { title: label, "aria-label": `${label}, logit ${fixed(logit, 2)}` };
    const does = { "aria-pressed": row === get("drawer").row, onclick: () => send({ row }) };
    return element("button.name.word", { ...told, ...does }, label);
  };
  const largest = view.live("table.largest", () => {
    const found = get("drawer").largest;
    const all = element("b", fixed(get("drawer").sum[0], 2));
    const lineOf = (name, which) =>
      tableRow(rowName(name), ...found.map((one) => fixed(one[which + 1], 2)), "", which === 2 ? all : "");
    return [
      tableHead("number", ...found.map(([at]) => at + 1), "…", `all ${T.length}`),
      element("tbody", ["T", "× weight", "= product"].map(lineOf)),
    ];
  });
  const scrolls = { tabindex: 0, role: "group", "aria-label": "The largest products" };
  const parts = [
    ...[vector.node, matrix.node, product.node, told],
    note("The largest products, and the sum of all:"),
    element("div.scroll", scrolls, largest),
    note(scale(), HELP_ON_PRODUCTS),
  ];
  drawn(() => {
    const { rows } = get("drawer");
    const best = rows.reduce((a, b) => (b[2] > a[2] ? b : a))[0];
    vector.draw([T], [named("T")], [element("span.note", GIVEN[get("drawer").kind])]);
    const answers = rows.map(([row, , logit, answer]) => [fixed(logit, 1), answer, row]);
    const rivals = get("drawer").kind !== "span"; // start and end are none
    const kindOf = ([, , row]) => ({ kind: rivals && row === best ? "best" : "" });
    matrix.draw(W, rows.map(name), view.bars(answers, "", kindOf));
    const sum = element("output.sum", `sum + bias = ${fixed(get("drawer").sum[2], 2)}`);
    product.draw([products], [named(`T × ${rowAt(chosen())[1]}`)], [sum]);
    settle();
    tell();
  });
  const title = view.live("h4", () => {
    const { name, rows, classes, kind } = get("drawer");
    const some = rows.length < classes ? `${rows.length} of ` : "";
    const what = kind === "span" ? "vectors" : "classes";
    const size = `${some}${classes.toLocaleString("en")} ${what} × ${T.length} numbers`;
    return `${quoted(name)}: a linear layer, ${size}`;
  });
  return [title, ...parts];
}

// --- softmax: scores, and what they become

function softmaxOf(view) {
  const { get, send } = view;
  const sigmoid = () => get("problem_type").startsWith("multi");
  const lineOf = (name, score, power, share) =>
    tableRow(...shown([rowName(name), score, !sigmoid() && power, bar("", share)]));
  const table = view.live("table.softmax", () => {
    const { rows, others, count } = get("drawer");
    const rest = count - rows.length;
    const names = sigmoid() ? ["sigmoid"] : ["e to (score − best)", "its share"];
    return [
      tableHead("", "score", ...names),
      element(
        "tbody",
        rows.map(([name, score, power, share]) => lineOf(name, fixed(score, 2), power.toPrecision(3), share)),
        rest > 0 &&
          !sigmoid() &&
          lineOf(`${rest.toLocaleString("en")} others`, "", others[0].toPrecision(3), others[1]),
      ),
    ];
  });
  const told = view.live("p.note", () => {
    const { total, count } = get("drawer");
    return sigmoid()
      ? "1 / (1 + e to −score): each class is true or false for itself."
      : `The powers of all ${count.toLocaleString("en")} sum to ${total.toPrecision(3)}; ` +
          "divided by that they make 100 %. One point of score more is 2.7 times as probable.";
  });
  const title = view.live("h4", () =>
    sigmoid() ? "Sigmoid: each score becomes a probability" : "Softmax: scores become probabilities",
  );
  // Of a span: the start, or the end.
  const which = view.live("div.group", () => {
    const { kind, row: now } = get("drawer");
    if (kind !== "span") return null;
    const choose = (name, row) => button(name, () => send({ row }), { "aria-pressed": row === now });
    return ["S: the start", "E: the end"].map(choose);
  });
  return [title, which, table, told];
}
