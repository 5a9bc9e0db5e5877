// FineTuning: draws what Python computed and reports clicks. See fine_tuning.py for the traits.

import { typedText } from "./parts.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "fine-tuning");
  const word = model.get("kind") === "word";
  const runs = { frozen: "Frozen encoder", "fine-tuned": "Fine-tuned encoder" };
  const told = {
    frozen: "BERT stays as it is; only the new linear layer learns.",
    "fine-tuned": "The new layer learns, and all of BERT with it.",
  };
  const { send, message } = sender(model, ask);

  // --- the training
  const train = element(
    "button",
    { class: "plain go", type: "button", onclick: () => message({ do: "train" }) },
    "Train",
  );
  const halt = element(
    "button",
    { class: "plain", type: "button", onclick: () => message({ do: "stop" }) },
    "Stop, keep what was learned",
  );
  const steps = element("input", {
    type: "number",
    min: 1,
    max: 1000,
    "aria-label": "Steps of each training",
    onchange: () => {
      model.set("steps", Math.min(1000, Math.max(1, Math.round(+steps.value) || 45)));
      steps.value = model.get("steps");
      model.save_changes();
    },
  });
  const progress = element("progress", { max: 1, "aria-label": "Progress of the training" });
  const said = element("span", { class: "note", role: "status" });
  const sides = Object.fromEntries(
    Object.keys(runs).map((name) => {
      const side = {
        accuracy: element("figure", { class: "curve" }),
        loss: element("figure", { class: "curve" }),
        table: element("div", { class: "table" }),
        best: element("span", { class: "note" }),
      };
      side.part = element(
        "section",
        { class: "part", "aria-label": runs[name] },
        element("h4", {}, runs[name]),
        element("p", { class: "note" }, told[name]),
        element("div", { class: "curves" }, side.accuracy, side.loss),
        side.best,
        side.table,
      );
      return [name, side];
    }),
  );
  const shown = element("div", { class: "shown", "aria-live": "polite" });

  // --- the examples
  const body = element("tbody");
  const counts = element("p", { class: "note" });
  const pages = element("span", { class: "group" });
  const examples = element(
    "details",
    { class: "part examples" },
    element("summary", {}, "The examples: look at them, change them, or type your own"),
    element(
      "p",
      { class: "note" },
      word
        ? "One sentence a row, and as many classes as it has words, with spaces between them. Several rows can be pasted at once: sentence, tab, classes."
        : "One text a row, and its class. Several rows can be pasted at once: text, tab (or semicolon), class.",
    ),
    counts,
    element(
      "table",
      { class: word ? "rows even" : "rows" },
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("th", {}, "#"),
          element("th", {}, word ? "Words" : "Text"),
          element("th", {}, word ? "Classes" : "Class"),
          element("th", {}, element("span", { class: "unseen" }, "Remove")),
        ),
      ),
      body,
    ),
    element(
      "div",
      { class: "bar-row" },
      pages,
      element(
        "button",
        { class: "plain", type: "button", onclick: () => message({ do: "add" }) },
        "Add a row",
      ),
      element(
        "button",
        { class: "plain", type: "button", onclick: () => message({ do: "clear" }) },
        "Empty the table",
      ),
      element(
        "button",
        { class: "plain", type: "button", onclick: () => message({ do: "restore" }) },
        "Shipped examples",
      ),
    ),
  );
  content.append(
    element(
      "div",
      { class: "bar-row" },
      element("span", { class: "group" }, train, halt),
      element("label", { class: "field" }, steps, "steps each"),
      progress,
      said,
    ),
    element("div", { class: "sides" }, sides.frozen.part, sides["fine-tuned"].part),
    shown,
    examples,
  );

  // Text with several lines, or with a tab, is a table: one example a line.
  function pasted(event, row, column) {
    const text = event.clipboardData.getData("text").replace(/\r/g, "");
    if (!/[\n\t]/.test(text)) return;
    event.preventDefault();
    const old = model.get("rows")[row];
    const pairs = text
      .split("\n")
      .filter((line) => line.trim())
      .map((line) => {
        const cut = line.includes("\t") ? line.lastIndexOf("\t") : line.lastIndexOf(";");
        if (cut < 0) return column ? [old[0], line.trim()] : [line.trim(), ""];
        return [line.slice(0, cut).trim(), line.slice(cut + 1).trim()];
      });
    message({ do: "write", row: model.get("first") + row, pairs });
  }

  function drawRows() {
    const first = model.get("first");
    const place = [...body.querySelectorAll("input, button")].indexOf(document.activeElement);
    body.replaceChildren(
      ...model.get("rows").map((pair, row) => {
        const fields = pair.map((value, column) => {
          const field = element("input", {
            type: "text",
            "aria-label": `${column ? "Class" : "Text"} of example ${first + row + 1}`,
            spellcheck: "false",
            onpaste: (event) => pasted(event, row, column),
            onchange: () => message({ do: "write", row: first + row, pairs: [fields.map(typedText)] }),
          });
          field.value = value;
          return field;
        });
        return element(
          "tr",
          {},
          element("td", { class: "note" }, first + row + 1),
          ...fields.map((field) => element("td", {}, field)),
          element(
            "td",
            {},
            element(
              "button",
              {
                class: "plain",
                type: "button",
                "aria-label": `Remove example ${first + row + 1}`,
                onclick: () => message({ do: "remove", row: first + row }),
              },
              "×",
            ),
          ),
        );
      }),
    );
    if (place >= 0) body.querySelectorAll("input, button")[place]?.focus();
    const names = model.get("classes").filter(([name]) => name);
    counts.textContent =
      `${model.get("count")} rows; ` +
      (names.length ? names.map(([name, count]) => `${name} ${count}`).join(" · ") : "no class yet") +
      ". One example in five is held out.";
    const turn = (to, text) =>
      element("button", { class: "plain", type: "button", onclick: () => send({ first: to }) }, text);
    const size = model.get("rows").length;
    refillPages(
      first > 0 ? turn(Math.max(0, first - 8), "previous") : null,
      `${first + 1} to ${first + size} of ${model.get("count")}`,
      first + size < model.get("count") ? turn(first + 8, "next") : null,
    );
  }
  const refillPages = (...parts) => pages.replaceChildren(...parts.filter((part) => part !== null));

  // 99.7 % is not 100 %.
  const almost = (share) =>
    share > 0.99 && share < 1 ? `${(100 * share).toFixed(1)}\u00a0%` : percent(share);

  // A chart of two lines: held out (solid, round marks) and the examples learned from (dashed).
  function chart(figure, title, points, [seen, fresh], top, show) {
    const width = 300,
      height = 160,
      left = 52,
      right = 8,
      bottom = 28,
      above = 10;
    const ns = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(ns, "svg");
    const add = (tag, options, text) => {
      const node = document.createElementNS(ns, tag);
      for (const [name, value] of Object.entries(options)) node.setAttribute(name, value);
      if (text !== undefined) node.textContent = text;
      svg.append(node);
    };
    const last = points.at(-1);
    const x = (step) => left + (step / model.get("steps")) * (width - left - right);
    const y = (value) => above + (1 - Math.min(value, top) / top) * (height - above - bottom);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("role", "img");
    svg.setAttribute(
      "aria-label",
      last
        ? `${title}: held out ${show(last[fresh])}, learned from ${show(last[seen])}, after ${last[0]} steps`
        : `${title}: nothing yet`,
    );
    for (const part of [0, 0.5, 1]) {
      add("line", { class: "grid", x1: left, x2: width - right, y1: y(part * top), y2: y(part * top) });
      add("text", { x: left - 5, y: y(part * top) + 4, "text-anchor": "end" }, show(part * top));
    }
    add("text", { x: left, y: height - 6 }, "step 0");
    add("text", { x: width - right, y: height - 6, "text-anchor": "end" }, model.get("steps"));
    for (const [column, kind] of [
      [seen, "seen"],
      [fresh, "fresh"],
    ]) {
      add("polyline", {
        class: kind,
        points: points.map((point) => `${x(point[0])},${y(point[column])}`).join(" "),
      });
      if (kind === "fresh")
        for (const point of points)
          add("circle", { class: kind, cx: x(point[0]), cy: y(point[column]), r: 2.4 });
    }
    figure.replaceChildren(element("figcaption", {}, title), svg);
  }

  function drawTable(name, side) {
    const table = model.get("tables")[name];
    if (!table) return side.table.replaceChildren();
    const most = Math.max(1, ...table.counts.flat());
    const short = table.labels.length > 6;
    const head = element(
      "tr",
      {},
      element("th", { class: "corner" }, "true \\ said"),
      ...table.labels.map((label) =>
        element("th", { scope: "col", class: short ? "upright" : "" }, element("span", {}, label)),
      ),
    );
    const [run, truly, instead] = model.get("cell");
    const told = `Held-out ${word ? "words" : "sentences"}: what they are, and what they were taken for. Click a number.`;
    side.table.replaceChildren(
      element("p", { class: "note" }, told),
      element(
        "table",
        { class: `confusion${short ? " small" : ""}`, "aria-label": told },
        element("thead", {}, head),
        element(
          "tbody",
          {},
          ...table.counts.map((row, true_) =>
            element(
              "tr",
              {},
              element("th", { scope: "row" }, table.labels[true_]),
              ...row.map((count, guess) => {
                const cell = [name, table.labels[true_], table.labels[guess]];
                const button = element(
                  "button",
                  {
                    class: `count${true_ === guess ? " right" : count ? " wrong" : ""}`,
                    type: "button",
                    disabled: !count,
                    "aria-pressed": String(run === name && truly === cell[1] && instead === cell[2]),
                    "aria-label": `${count} of ${cell[1]} taken for ${cell[2]}`,
                    onclick: () => message({ do: "look", cell }),
                  },
                  count || "·",
                );
                button.style.setProperty("--shade", `${Math.round((40 * count) / most)}%`);
                return element("td", {}, button);
              }),
            ),
          ),
        ),
      ),
    );
  }

  function draw() {
    const state = model.get("state");
    const busy = state === "training";
    const now = model.get("now");
    const curves = {
      frozen: readFloat16(model.get("frozen"), 5),
      "fine-tuned": readFloat16(model.get("tuned"), 5),
    };
    train.disabled = busy;
    halt.disabled = !busy;
    train.textContent = state === "ready" ? "Train" : "Train anew";
    steps.value = model.get("steps");
    const total = 2 * model.get("steps");
    const done = Object.values(curves).reduce((sum, points) => sum + (points.at(-1)?.[0] ?? 0), 0);
    progress.hidden = state === "ready";
    progress.value = busy || state === "stopped" ? Math.min(1, done / total) : state === "done" ? 1 : 0;
    said.textContent = busy
      ? `${runs[now]}, step ${curves[now]?.at(-1)?.[0] ?? 0} of ${model.get("steps")}`
      : {
          ready: "Both trainings together take about a minute.",
          stopped: "Stopped; what was learned is kept.",
          done: "Done.",
        }[state];
    const highest = Math.max(
      done ? 0.1 : 1,
      ...Object.values(curves)
        .flat()
        .flatMap((point) => [point[1], point[3]]),
    );
    for (const [name, side] of Object.entries(sides)) {
      const points = curves[name];
      side.part.classList.toggle("now", busy && now === name);
      chart(side.accuracy, "Accuracy", points, [2, 4], 1, (value) => `${Math.round(100 * value)} %`);
      chart(side.loss, "Loss", points, [1, 3], highest, (value) => value.toFixed(highest < 1 ? 2 : 1));
      const last = points.at(-1);
      side.best.replaceChildren(
        element("span", { class: "line fresh" }),
        "held out",
        element("span", { class: "line seen" }),
        "learned from",
        last
          ? element("b", {}, ` ${almost(last[4])} of what was held out is right after ${last[0]} steps`)
          : "",
      );
      drawTable(name, side);
    }
    const [run, truly, instead] = model.get("cell");
    shown.replaceChildren(
      ...(run
        ? [
            element("h4", {}, `${runs[run]}: ${truly}, taken for ${instead}`),
            element("ul", {}, ...model.get("shown").map((text) => element("li", {}, text))),
          ]
        : []),
    );
    if (
      !body.contains(document.activeElement) ||
      document.activeElement.tagName !== "INPUT" ||
      drawn !== state
    )
      drawRows();
    else if (JSON.stringify(model.get("rows")) !== was) drawRows();
    drawn = state;
    was = JSON.stringify(model.get("rows"));
    root.dataset.revision = model.get("revision"); // tests wait for it
    root.dataset.state = state;
  }
  let drawn = "",
    was = "";

  const undo = listen(model, ["revision"], draw);
  draw();
  return () => {
    undo();
    stop();
  };
}

export default { render };
