// AttentionExplorer: draws maps that Python computed and reports clicks. See attention_explorer.py for the traits.

import { select, typedText } from "./parts.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "attention-explorer");
  const patches = () => model.get("grid").length > 0;
  const { send, message } = sender(model, ask);
  let clicks = "show"; // what a click on a thumbnail does: "show", "mean" or "off"
  let hovered = null; // [layer, head] under the mouse: previewed
  let looking = -1; // token under the mouse
  let cursor = [model.get("layer"), Math.max(0, model.get("head"))]; // moved by arrow keys

  // --- what is read
  const texts = ["text", "second"].map((name) => {
    const label = { text: "Text", second: "Second text (optional)" }[name];
    const field = element("input", { type: "text", class: "wide", spellcheck: "false" });
    field.addEventListener("input", () => send({ [name]: typedText(field) }));
    return [element("label", { class: "field wide" }, label, field), field, name];
  });
  const inputs = element("div", { class: "explorer-inputs" }, ...texts.map(([label]) => label));

  // --- thumbnails
  const numbers = (count) => [...Array(count).keys()];
  const modes = Object.entries({ show: "show it", mean: "add it to the mean", off: "switch it off" }).map(
    ([value, text]) =>
      element(
        "button",
        {
          class: "plain",
          type: "button",
          "data-mode": value,
          onclick: () => ((clicks = value), drawModes()),
        },
        text,
      ),
  );
  const thumbs = element("canvas", {
    class: "thumbs",
    tabindex: 0,
    role: "group",
    onmousemove: (event) => hover(cellAt(event)),
    onmouseleave: () => hover(null),
    onclick: (event) => (root.focus?.(), act(cellAt(event))),
    onkeydown: move,
  });
  const told = element("p", { class: "note told", "aria-live": "polite" });
  const all = element(
    "button",
    { class: "plain", type: "button", onclick: () => message({ do: "all heads" }) },
    "Try each head off",
  );
  const allOn = element(
    "button",
    { class: "plain", type: "button", onclick: () => send({ off: [] }) },
    "All heads on",
  );
  const left = element(
    "section",
    { class: "explorer-left", "aria-label": "All heads of all layers" },
    element(
      "p",
      { class: "group note", role: "group", "aria-label": "What a click on a head does" },
      "A click on a head: ",
      ...modes,
    ),
    thumbs,
    told,
    element("p", { class: "group" }, all, allOn),
  );

  // --- the map shown large
  const views = Object.entries({ lines: patches() ? "picture" : "lines", matrix: "matrix" }).map(
    ([value, text]) =>
      element(
        "button",
        { class: "plain", type: "button", "data-view": value, onclick: () => look(value) },
        text,
      ),
  );
  const mean = element(
    "button",
    { class: "plain", type: "button", onclick: () => send({ head: model.get("head") < 0 ? cursor[1] : -1 }) },
    "mean of heads",
  );
  const special = element(
    "button",
    { class: "plain", type: "button", onclick: () => send({ hide_special: !model.get("hide_special") }) },
    patches() ? "hide class token" : "hide [CLS] and [SEP]",
  );
  const mass = element("input", {
    type: "range",
    min: 0.1,
    max: 1,
    step: 0.05,
    "aria-label": "Share of each row's attention that is shown",
    oninput: () => send({ mass: +mass.value }),
  });
  const massText = element("output", {});
  const [pairField, pair] = select(
    "segments",
    ["all", "first to second", "second to first"].map((name) => [name, name]),
    (value) => send({ pair: value }),
  );
  const compare = element(
    "button",
    { class: "plain", type: "button", onclick: () => message({ do: "compare" }) },
    "Keep to compare",
  );
  const title = element("h4", { class: "explorer-title" });
  const large = element("canvas", {
    class: "large",
    tabindex: -1,
    onmousemove: (event) => point(event, false),
    onmouseleave: () => ((looking = -1), drawLarge()),
    onclick: (event) => point(event, true),
  });
  const scroll = element("div", { class: "explorer-scroll" }, large);
  const other = element("canvas", { class: "large" });
  const otherBox = element(
    "figure",
    { class: "explorer-scroll" },
    element("figcaption", { class: "note" }),
    other,
  );
  const tip = element("p", { class: "note told", "aria-live": "polite" });
  const [queryField, query] = select("looks", [], (value) => send({ query: +value }));
  const [keyField, key] = select("at", [], (value) => send({ key: +value }));
  const right = element(
    "section",
    { class: "explorer-right", "aria-label": "One map, large" },
    title,
    element("p", { class: "group" }, ...views, mean, special, pairField),
    element(
      "p",
      { class: "group" },
      element("label", { class: "field" }, "show what makes up", mass, massText),
      compare,
    ),
    element("div", { class: "explorer-maps" }, scroll, otherBox),
    tip,
    element("p", { class: "group" }, queryField, keyField),
  );

  // --- the answer, and the pinned pair step by step
  const [taskField, task] = select("Answer of", [], (value) => send({ task: value }));
  const answers = element("div", { class: "explorer-answers" });
  const answer = element(
    "section",
    { class: "explorer-answer", "aria-label": "The model's answer" },
    element("p", { class: "group" }, taskField),
    answers,
  );
  const steps = element("section", { class: "explorer-steps", "aria-label": "How this weight comes about" });
  content.append(
    element(
      "p",
      { class: "note" },
      "Each small map is a head: its rows look, its columns are looked at. Move over one to preview it, click to pin it; then point at a token on the left.",
    ),
    inputs,
    element("div", { class: "explorer" }, left, right),
    answer,
    steps,
  );

  function look(view) {
    // nothing to wait for: only the view changes
    model.set("view", view);
    model.save_changes();
  }

  // --- thumbnails: geometry, clicks, keys
  const gap = 3,
    edge = 18;
  const cell = () =>
    Math.max(14, Math.min(40, Math.floor((left.clientWidth - edge) / model.get("heads")) - gap));
  function cellAt(event) {
    const area = thumbs.getBoundingClientRect();
    const at = (place) => Math.floor((place - edge) / (cell() + gap));
    const [layer, head] = [at(event.clientY - area.top), at(event.clientX - area.left)];
    return layer >= 0 && head >= 0 && layer < model.get("layers") && head < model.get("heads")
      ? [layer, head]
      : null;
  }
  const same = (one, two) => one && two && one[0] === two[0] && one[1] === two[1];
  function hover(place) {
    if (same(place, hovered) || (!place && !hovered)) return;
    hovered = place;
    tell(place);
    drawLarge();
  }
  function tell(place) {
    if (!place) return (told.textContent = "");
    const [layer, head] = place;
    const effect = effects()?.[layer]?.[head];
    const off = isOff(place) ? ", switched off" : "";
    const loss =
      effect === undefined
        ? ""
        : `; without it the answer ${effect >= 0 ? "loses" : "gains"} ${percent(Math.abs(effect))}`;
    told.textContent = `layer ${layer + 1}, head ${head + 1}${off}${loss}`;
  }
  const isOff = (place) => model.get("off").some((one) => same(one, place));
  const effects = () =>
    model.get("effects").byteLength ? readFloat16(model.get("effects"), model.get("heads")) : null;
  function act(place) {
    if (!place) return;
    cursor = place;
    const [layer, head] = place;
    if (clicks === "off")
      send({
        off: isOff(place)
          ? model.get("off").filter((one) => !same(one, place))
          : [...model.get("off"), place],
      });
    else if (clicks === "mean") {
      const before = model.get("layer") === layer ? model.get("chosen") : [];
      send({
        layer,
        head: -1,
        chosen: before.includes(head)
          ? before.filter((one) => one !== head)
          : [...before, head].sort((a, b) => a - b),
      });
    } else {
      send({ layer, head });
    }
  }
  function move(event) {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return act(cursor);
    }
    if (!step) return;
    event.preventDefault();
    const within = (value, count) => Math.min(count - 1, Math.max(0, value));
    cursor = [
      within(cursor[0] + step[0], model.get("layers")),
      within(cursor[1] + step[1], model.get("heads")),
    ];
    tell(cursor);
    drawThumbs();
  }

  // --- drawing
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  function pen(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    return pen;
  }
  const ink = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  function rgb(name) {
    // a theme colour as numbers
    ink.fillStyle = color(name);
    ink.fillRect(0, 0, 1, 1);
    return [...ink.getImageData(0, 0, 1, 1).data];
  }
  function picture(values, rows, columns) {
    // values 0..1 as an image of the accent colour, more or less opaque
    const image = new ImageData(columns, rows);
    const [red, green, blue] = rgb("--accent");
    const cells = new Uint32Array(image.data.buffer);
    const opaque = (blue << 16) | (green << 8) | red;
    for (let at = 0; at < rows * columns; at += 1) cells[at] = ((255 * Math.sqrt(values[at])) << 24) | opaque;
    const canvas = element("canvas", { width: columns, height: rows });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }
  function thumb(layer, head) {
    const side = model.get("side");
    const bytes = model.get("thumbnails");
    const start = (layer * model.get("heads") + head) * side * side;
    const values = new Float32Array(side * side);
    for (let at = 0; at < values.length; at += 1) values[at] = bytes.getUint8(start + at) / 255;
    return values;
  }
  let drawn = { pictures: [] }; // thumbnails change with the input and the theme, not with each click
  function thumbPicture(layer, head) {
    const [bytes, accent, side] = [model.get("thumbnails"), color("--accent"), model.get("side")];
    if (drawn.bytes !== bytes || drawn.accent !== accent) drawn = { bytes, accent, pictures: [] };
    return (drawn.pictures[layer * model.get("heads") + head] ??= picture(thumb(layer, head), side, side));
  }
  function drawThumbs() {
    const size = cell();
    const [layers, heads] = [model.get("layers"), model.get("heads")];
    const draw = pen(thumbs, edge + heads * (size + gap), edge + layers * (size + gap));
    draw.font = "11px system-ui, sans-serif";
    draw.fillStyle = color("--muted");
    draw.textAlign = "center";
    numbers(heads).forEach((head) => draw.fillText(head + 1, edge + head * (size + gap) + size / 2, 12));
    numbers(layers).forEach((layer) =>
      draw.fillText(layer + 1, 7, edge + layer * (size + gap) + size / 2 + 4),
    );
    const found = effects();
    const most = found ? Math.max(...found.flat().map(Math.abs), 1e-9) : 1;
    const chosen = model.get("chosen");
    draw.imageSmoothingEnabled = false;
    for (const layer of numbers(layers))
      for (const head of numbers(heads)) {
        const [x, y] = [edge + head * (size + gap), edge + layer * (size + gap)];
        if (found) {
          draw.globalAlpha = Math.abs(found[layer][head]) / most;
          draw.fillStyle = color(found[layer][head] >= 0 ? "--random" : "--keep");
          draw.fillRect(x - 1.5, y - 1.5, size + 3, size + 3);
          draw.globalAlpha = 1;
        }
        draw.fillStyle = color("--soft");
        draw.fillRect(x, y, size, size);
        draw.drawImage(thumbPicture(layer, head), x, y, size, size);
        const shown =
          model.get("layer") === layer &&
          (model.get("head") === head ||
            (model.get("head") < 0 && (!chosen.length || chosen.includes(head))));
        if (shown || (same(cursor, [layer, head]) && document.activeElement === thumbs)) {
          draw.strokeStyle = color(shown ? "--ink" : "--accent");
          draw.lineWidth = 2;
          draw.strokeRect(x, y, size, size);
        }
        if (isOff([layer, head])) {
          draw.strokeStyle = color("--bad");
          draw.lineWidth = 2;
          draw.beginPath();
          draw.moveTo(x + 2, y + 2);
          draw.lineTo(x + size - 2, y + size - 2);
          draw.moveTo(x + size - 2, y + 2);
          draw.lineTo(x + 2, y + size - 2);
          draw.stroke();
        }
      }
    thumbs.setAttribute(
      "aria-label",
      `${layers} layers of ${heads} heads. Arrow keys move, Enter chooses. Now: layer ${cursor[0] + 1}, head ${cursor[1] + 1}.`,
    );
  }

  // Rows of the map shown large; while a thumbnail is under the mouse, that one, as coarse as it is.
  function map() {
    const count = model.get("tokens").length;
    if (hovered) {
      const [side, values] = [model.get("side"), thumb(...hovered)];
      const at = (token) => Math.min(side - 1, Math.floor((token * side) / count));
      return (from, to) => values[at(from) * side + at(to)];
    }
    const bytes = model.get("matrix");
    const scales = readFloat16(model.get("scales"), 1);
    return (from, to) => (bytes.getUint8(from * count + to) / 255) * (scales[from]?.[0] ?? 0);
  }
  function drawLarge() {
    drawMap(large, map(), model.get("tokens"), model.get("view"), true);
    const kept = model.get("compared");
    otherBox.hidden = !kept.tokens;
    otherBox.style.display = kept.tokens ? "" : "none";
    if (!kept.tokens) return;
    otherBox.querySelector("figcaption").textContent = `kept: ${kept.title}`;
    const [bytes, count] = [model.get("compared_matrix"), kept.tokens.length];
    const scales = readFloat16(model.get("compared_scales"), 1);
    drawMap(
      other,
      (from, to) => (bytes.getUint8(from * count + to) / 255) * scales[from][0],
      kept.tokens,
      "matrix",
      false,
    );
  }
  const row = 17; // pixels of a token's line
  const labels = (count, own) => (own && count <= 30 && !patches() ? 84 : 0); // room for tokens beside the matrix
  function drawMap(canvas, weight, tokens, view, own) {
    const count = tokens.length;
    const room = Math.max(200, (own ? scroll : otherBox).clientWidth - 4);
    const from = looking >= 0 ? looking : model.get("query");
    canvas.dataset.view = view;
    if (view === "matrix") {
      const margin = labels(count, own);
      const size = Math.min(room, 440 + margin) - margin;
      const draw = pen(canvas, size + margin, size + margin);
      const values = new Float32Array(count * count);
      for (let at = 0, from = 0; from < count; from += 1)
        for (let to = 0; to < count; to += 1, at += 1) values[at] = weight(from, to);
      const most = values.reduce((a, b) => Math.max(a, b), 1e-9);
      draw.fillStyle = color("--soft");
      draw.fillRect(margin, margin, size, size);
      draw.imageSmoothingEnabled = false;
      draw.drawImage(
        picture(
          values.map((value) => value / most),
          count,
          count,
        ),
        margin,
        margin,
        size,
        size,
      );
      draw.font = "12px system-ui, sans-serif";
      draw.fillStyle = color("--muted");
      draw.textAlign = "right";
      if (margin)
        tokens.forEach(([text], at) => {
          const middle = margin + ((at + 0.5) * size) / count;
          draw.fillText(text, margin - 5, middle + 4, margin - 6);
          draw.save();
          draw.translate(middle + 4, margin - 5);
          draw.rotate(-Math.PI / 2);
          draw.textAlign = "left";
          draw.fillText(text, 0, 0, margin - 6);
          draw.restore();
        });
      if (own && model.get("query") >= 0) {
        draw.strokeStyle = color("--ink");
        draw.strokeRect(margin, margin + (model.get("query") * size) / count, size, size / count);
        if (model.get("key") >= 0)
          draw.strokeRect(margin + (model.get("key") * size) / count, margin, size / count, size);
      }
      return;
    }
    if (patches()) return drawPatches(canvas, weight, tokens, Math.min(room, 440), from);
    const width = Math.min(room, 520);
    const draw = pen(canvas, width, count * row + 8);
    const [leftEdge, rightEdge] = [width * 0.3, width * 0.7];
    const y = (token) => token * row + 14;
    const [muted, second, dark, line] = ["--muted", "--random", "--ink", "--accent-ink"].map(color);
    tokens.forEach(([text, segment, kind], token) => {
      draw.fillStyle = kind === "special" ? muted : segment ? second : dark;
      for (const [side, x] of [
        ["right", leftEdge - 8],
        ["left", rightEdge + 8],
      ]) {
        draw.textAlign = side;
        const strong = token === (side === "right" ? from : model.get("key"));
        draw.font = `${strong ? "bold " : ""}13px system-ui, sans-serif`;
        draw.fillText(text, x, y(token) + 4, width * 0.28);
      }
    });
    const rows = from >= 0 ? [from] : count <= 60 ? numbers(count) : [];
    if (!rows.length)
      tip.textContent = "Many tokens: move over one on the left, or click it, to see what it looks at.";
    for (const start of rows)
      for (let end = 0; end < count; end += 1) {
        const value = weight(start, end);
        if (value < 0.01 && !(start === model.get("query") && end === model.get("key"))) continue;
        const pinned = start === model.get("query") && end === model.get("key");
        draw.strokeStyle = pinned ? second : line;
        draw.globalAlpha = pinned ? 1 : Math.min(1, value);
        draw.lineWidth = 0.5 + 3.5 * value + (pinned ? 1 : 0);
        draw.beginPath();
        draw.moveTo(leftEdge, y(start));
        draw.lineTo(rightEdge, y(end));
        draw.stroke();
      }
    draw.globalAlpha = 1;
  }
  const shown = new Image();
  shown.onload = () => drawLarge();
  function drawPatches(canvas, weight, tokens, size, from) {
    const [rows, columns] = model.get("grid");
    const height = (size * rows) / columns;
    const draw = pen(canvas, size, height);
    if (shown.complete && shown.naturalWidth) draw.drawImage(shown, 0, 0, size, height);
    const extra = tokens.length - rows * columns;
    const start = from >= 0 ? from : 0; // the class token, unless a patch is chosen
    const values = Float32Array.from({ length: rows * columns }, (_, at) => weight(start, extra + at));
    const most = values.reduce((a, b) => Math.max(a, b), 1e-9);
    const [wide, high] = [size / columns, height / rows];
    values.forEach((value, at) => {
      // what is not looked at lies in the dark
      draw.fillStyle = `rgb(0 0 0 / ${Math.round(82 * (1 - value / most))}%)`;
      draw.fillRect((at % columns) * wide, Math.floor(at / columns) * high, wide, high);
    });
    if (start >= extra) {
      draw.strokeStyle = "#fff";
      draw.lineWidth = 2;
      draw.strokeRect(
        ((start - extra) % columns) * wide,
        Math.floor((start - extra) / columns) * high,
        wide,
        high,
      );
    }
  }
  // The mouse over the large map: previews a token; a click pins it.
  function point(event, click) {
    const area = large.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    const tokens = model.get("tokens");
    const count = tokens.length;
    const clamp = (value) => Math.min(count - 1, Math.max(0, value));
    const name = (token) => `“${tokens[token][0]}”`;
    if (model.get("view") === "matrix") {
      const margin = labels(count, true);
      const at = (place, length) => clamp(Math.floor(((place - margin) / (length - margin)) * count));
      const [from, to] = [at(y, area.height), at(x, area.width)];
      tip.textContent = `${name(from)} looks at ${name(to)}: ${percent(map()(from, to))}`;
      if (click) send({ query: from, key: to });
      return;
    }
    if (patches()) {
      const [rows, columns] = model.get("grid");
      const place = Math.floor((y / area.height) * rows) * columns + Math.floor((x / area.width) * columns);
      const token = clamp(count - rows * columns + place);
      tip.textContent = `${name(model.get("query") < 0 ? 0 : model.get("query"))} looks at ${name(token)}: ${percent(map()(Math.max(0, model.get("query")), token))}`;
      if (click) send({ query: model.get("query") === token ? -1 : token });
      return;
    }
    const token = clamp(Math.floor(y / row));
    const right = x > area.width / 2;
    const pinned = right ? "key" : "query";
    if (click) send({ [pinned]: model.get(pinned) === token ? -1 : token });
    else if (!right && looking !== token) {
      looking = token;
      const best = numbers(count)
        .map((to) => [map()(token, to), to])
        .sort((a, b) => b[0] - a[0])
        .slice(0, 3);
      drawLarge();
      tip.textContent = `${name(token)} looks at ${best.map(([value, to]) => `${name(to)} ${percent(value)}`).join(", ")}`;
    }
  }

  function drawModes() {
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === clicks));
  }
  function choices(control, names, value) {
    const now = JSON.stringify(names);
    if (control.names !== now)
      control.replaceChildren(...names.map(([at, text]) => element("option", { value: at }, text)));
    control.names = now;
    control.value = value;
  }
  function drawAnswers() {
    answer.style.display = model.get("tasks").length ? "" : "none";
    all.disabled = !model.get("tasks").length;
    choices(
      task,
      model.get("tasks").map((name) => [name, name]),
      model.get("task"),
    );
    const off = model.get("off").length;
    answers.replaceChildren(
      ...model.get("answers").map(([label, now, before]) => {
        const track = element(
          "span",
          { class: "track" },
          element("div", { class: "fill", style: `width: ${100 * now}%` }),
        );
        if (off)
          track.append(
            element("span", {
              class: "before",
              style: `left: ${99 * before}%`,
              title: `with all heads: ${percent(before)}`,
            }),
          );
        return element(
          "div",
          { class: "candidate" },
          element("span", { class: "word" }, label),
          track,
          element("span", { class: "value" }, percent(now)),
        );
      }),
    );
    if (off)
      answers.append(
        element(
          "p",
          { class: "note" },
          `${off} of ${model.get("layers") * model.get("heads")} heads are off. The tick is the answer with all heads on.`,
        ),
      );
  }
  function drawSteps() {
    const {
      query: one,
      key: two,
      product,
      score,
      scaled,
      exponential,
      total,
      probability,
    } = model.get("steps");
    steps.style.display = one ? "" : "none";
    if (!one) return;
    const tokens = model.get("tokens");
    const most = Math.max(...one.concat(two, product).map(Math.abs), 1e-9);
    const strip = (label, values) =>
      element(
        "div",
        { class: "strip" },
        element("span", { class: "note" }, label),
        ...values.map((value) =>
          element("i", {
            title: value,
            style: `--size: ${Math.round((100 * Math.abs(value)) / most)}%`,
            class: value < 0 ? "negative" : "",
          }),
        ),
      );
    const [from, to] = [tokens[model.get("query")][0], tokens[model.get("key")][0]];
    steps.replaceChildren(
      element(
        "p",
        {},
        element("b", {}, `How “${from}” comes to look at “${to}” with ${percent(probability)}`),
      ),
      strip(`query of “${from}”`, one),
      strip(`key of “${to}”`, two),
      strip("product", product),
      element(
        "p",
        { class: "note" },
        `Sum of the products ${score.toFixed(2)}, divided by √${one.length}: ${scaled.toFixed(2)}. ` +
          `Softmax: e to that, ${exponential.toPrecision(3)}, over the sum for all ${tokens.length} tokens, ${total.toPrecision(3)}: ${percent(probability)}. ` +
          "Blue is positive, brown negative; the mouse shows the numbers.",
      ),
    );
  }
  function draw() {
    const tokens = model.get("tokens");
    inputs.style.display = patches() ? "none" : "";
    for (const [, field, name] of texts) if (document.activeElement !== field) field.value = model.get(name);
    for (const button of views)
      button.setAttribute("aria-pressed", String(button.dataset.view === model.get("view")));
    const [layer, head, chosen] = [model.get("layer"), model.get("head"), model.get("chosen")];
    mean.setAttribute("aria-pressed", String(head < 0));
    special.setAttribute("aria-pressed", String(model.get("hide_special")));
    compare.textContent = model.get("compared").tokens ? "Forget the kept map" : "Keep to compare";
    title.textContent = `Layer ${layer + 1}, ${head < 0 ? (chosen.length ? `mean of heads ${chosen.map((one) => one + 1).join(", ")}` : "mean of all heads") : `head ${head + 1}`}`;
    mass.value = model.get("mass");
    massText.textContent = `${Math.round(100 * model.get("mass"))} % of each row`;
    pair.value = model.get("pair");
    pairField.style.display = tokens.some(([, segment]) => segment) ? "" : "none";
    const names = [[-1, "nothing"], ...tokens.map(([text], at) => [at, `${at}: ${text}`])];
    choices(query, names, model.get("query"));
    choices(key, names, model.get("key"));
    if (patches() && model.get("picture").byteLength && !shown.src) {
      const bytes = model.get("picture");
      shown.src = URL.createObjectURL(
        new Blob([bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)], {
          type: "image/png",
        }),
      );
    }
    looking = -1;
    drawModes();
    drawThumbs();
    drawLarge();
    drawAnswers();
    drawSteps();
    root.dataset.revision = model.get("revision"); // tests wait for it
  }
  const heard = (message) => {
    if (message["layers done"])
      told.textContent = `${message["layers done"]} of ${model.get("layers")} layers tried`;
  };
  model.on("msg:custom", heard);
  const undo = listen(model, ["revision", "view"], draw);
  const watch = new ResizeObserver(() => (drawThumbs(), drawLarge()));
  watch.observe(root);
  draw();
  return () => {
    undo();
    stop();
    watch.disconnect();
    model.off("msg:custom", heard);
    if (shown.src) URL.revokeObjectURL(shown.src);
  };
}

export default { render };
