// PatchAttention: draws maps that Python computed and reports clicks. See patch_attention.py for the traits.

import { mapTest, plotAxes, plotDot, sizedPen } from "./map_test.js";
import { select } from "./parts.js";
import { patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { element, frame, listen, percent, readFloat16, sender } from "./shared.js";

const PALETTES = {
  // evenly spaced colours, from nothing to most
  magma: [
    [0, 0, 4],
    [81, 18, 124],
    [183, 55, 121],
    [252, 137, 97],
    [252, 253, 191],
  ],
  viridis: [
    [68, 1, 84],
    [59, 82, 139],
    [33, 145, 140],
    [94, 201, 98],
    [253, 231, 37],
  ],
  light: [
    [0, 0, 0],
    [255, 255, 255],
  ],
};

function render({ model, el }) {
  const { content, ask, stop, root } = frame(model, el, "patch-attention");
  const get = (name) => model.get(name);
  const { send, message } = sender(model, ask);
  const style = (name, value) => {
    // how it looks: nothing to compute
    model.set(name, value);
    model.save_changes();
    draw();
  };
  const plain = (text, onclick, data = {}) =>
    element("button", { class: "plain", type: "button", onclick, ...data }, text);
  const slider = (label, name, [min, max, step], change) => {
    const control = element("input", {
      type: "range",
      min,
      max,
      step,
      "aria-label": label,
      oninput: () => change(name, +control.value),
    });
    const value = element("output", {});
    return [element("label", { class: "field" }, label, control, value), control, value];
  };
  const sendOne = (name, value) => send({ [name]: value });
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const numbers = (count) => [...Array(count).keys()];
  let hovered = null; // [layer, head] under mouse or cursor, previewed
  let cursor = [Math.max(0, get("layer")), get("head")]; // moved by arrow keys

  // --- the picture and its maps
  const grid = () => (get("grid").length ? get("grid") : [1, 1]);
  const picture = pictureOf(model, () => (drawBoards(), test.drawHidden()));
  const test = mapTest({ model, message, root, grid, picture, color });
  const tip = element("p", { class: "note told", "aria-live": "polite" });
  const boards = [0, 1].map((which) => {
    const title = element("figcaption", {});
    const board = patchBoard({
      label: `Map ${which + 1} over the picture. Arrow keys move over the patches, Enter makes one the patch that looks.`,
      grid,
      at: (patch) => tell(which, patch),
      click: (patch) =>
        send({ query: patch + get("prefix"), ...(get("method") === "relevance" && { method: "head" }) }),
      paint: (pen, width, height, now) => paint(which, pen, width, height, now),
    });
    return { ...board, title, figure: element("figure", { class: "attention-board" }, title, board.box) };
  });
  const token = plain("Class token looks", () => send({ query: 0 }));
  const methods = Object.entries({
    head: "one head",
    mean: "mean of heads",
    max: "max of heads",
    rollout: "rollout",
    relevance: "relevance",
  }).map(([value, text]) => plain(text, () => send({ method: value }), { "data-method": value }));
  const [layerField, layer] = select(
    "layer",
    numbers(get("layers")).map((at) => [at, at + 1]),
    (value) => send({ layer: +value }),
  );
  const [headField, head] = select(
    "head",
    numbers(get("heads")).map((at) => [at, at + 1]),
    (value) => send({ head: +value, method: "head" }),
  );
  const [fusionField, fusion] = select(
    "heads by",
    ["mean", "max", "min"].map((name) => [name, name]),
    (value) => send({ fusion: value }),
  );
  const [discardField, discard, discardText] = slider(
    "leave out the smallest",
    "discard",
    [0, 0.95, 0.05],
    sendOne,
  );
  const named = get("labels").map((label, at) => [at, label]);
  const [targetField, target] = select("class", [[-1, "the best"], ...named], (value) =>
    send({ target: +value }),
  );
  const [secondField, second] = select("beside it", [[-1, "nothing"], ...named], (value) =>
    send({ second: +value }),
  );
  const [massField, mass, massText] = slider("keep what makes up", "mass", [0.1, 1, 0.05], sendOne);
  const [opacityField, opacity, opacityText] = slider("opacity", "opacity", [0, 1, 0.05], style);
  const [paletteField, palette] = select(
    "colours",
    Object.keys(PALETTES).map((name) => [name, name]),
    (value) => style("palette", value),
  );
  const smooth = plain("interpolated", () => style("smooth", !get("smooth")));
  const [measureField, measure] = select(
    "flag patches by",
    [
      ["attention", "attention received"],
      ["norm", "norm of the output"],
      ["nothing", "nothing"],
    ],
    (value) => send({ measure: value }),
  );
  const [timesField, times, timesText] = slider("times the median", "times", [1.5, 10, 0.5], sendOne);
  const flagged = element("span", { class: "note" });

  // --- all heads, and how far they look
  const heads = element("canvas", {
    class: "attention-heads",
    tabindex: 0,
    role: "application",
    onmousemove: (event) => hover(headAt(event)),
    onmouseleave: () => hover(null),
    onblur: () => hover(null),
    onclick: (event) => pin(headAt(event)),
    onkeydown: move,
  });
  const told = element("p", { class: "note told", "aria-live": "polite" });
  const far = element("canvas", { role: "img" });
  const side = element(
    "section",
    { class: "attention-side", "aria-label": "All heads of all layers" },
    element(
      "p",
      { class: "note" },
      "All layers (down) and heads (across), for the token that looks. Move over one to preview it, click to pin it.",
    ),
    heads,
    told,
    element("p", { class: "note" }, "How far each head looks on average, in pixels, by layer:"),
    far,
  );

  content.append(
    pictureInput(model, ask),
    element(
      "p",
      { class: "note" },
      "Click a patch: it becomes the one that looks, and all maps change. Nothing is run again for that.",
    ),
    element(
      "div",
      { class: "attention-view" },
      element(
        "section",
        { class: "attention-main", "aria-label": "The map over the picture" },
        element("p", { class: "group", role: "group", "aria-label": "What the large map is" }, ...methods),
        element(
          "p",
          { class: "group" },
          token,
          layerField,
          headField,
          fusionField,
          discardField,
          targetField,
          secondField,
          massField,
        ),
        element("div", { class: "attention-boards" }, ...boards.map((board) => board.figure)),
        tip,
        element("p", { class: "group" }, opacityField, paletteField, smooth),
        element("p", { class: "group" }, measureField, timesField, flagged),
      ),
      side,
    ),
    test.section,
  );

  // --- colours
  function shade(value) {
    const stops = PALETTES[get("palette")];
    const at = Math.min(0.9999, Math.max(0, value)) * (stops.length - 1);
    const from = Math.floor(at);
    return stops[from].map((part, index) => part + (stops[from + 1][index] - part) * (at - from));
  }
  function image(value, rows, columns, spotlight = false) {
    // a pixel for each patch
    const data = new ImageData(columns, rows);
    for (let at = 0; at < rows * columns; at += 1)
      data.data.set(spotlight ? [0, 0, 0, 255 * (1 - value(at))] : [...shade(value(at)), 255], 4 * at);
    const canvas = element("canvas", { width: columns, height: rows });
    canvas.getContext("2d").putImageData(data, 0, 0);
    return canvas;
  }

  // --- the large maps
  const large = (which) => (patch) => get("large").getUint8(which * grid()[0] * grid()[1] + patch) / 255;
  const small = ([layer, head]) => {
    const [rows, columns] = get("cells");
    return (at) => get("maps").getUint8((layer * get("heads") + head) * rows * columns + at) / 255;
  };
  const box = (pen, patch, stroke, width, dash = []) => {
    pen.setLineDash(dash);
    Object.assign(pen, { strokeStyle: stroke, lineWidth: width });
    pen.strokeRect(...patch);
    pen.setLineDash([]);
  };
  function paint(which, pen, width, height, now) {
    if (!get("large").byteLength) return;
    if (picture.ready()) pen.drawImage(picture.image, 0, 0, width, height);
    const preview = which === 0 && hovered;
    const map = preview
      ? image(small(hovered), ...get("cells"), get("palette") === "light")
      : image(large(which), ...grid(), get("palette") === "light");
    pen.imageSmoothingEnabled = get("smooth");
    pen.globalAlpha = get("opacity");
    pen.drawImage(map, 0, 0, width, height);
    pen.globalAlpha = 1;
    for (const patch of get("outliers"))
      box(pen, patchArea(patch, grid(), width, height), "#ff5f52", 2, [4, 3]);
    const query = get("query") - get("prefix");
    if (query >= 0 && get("method") !== "relevance") {
      box(pen, patchArea(query, grid(), width, height), "#000", 4);
      box(pen, patchArea(query, grid(), width, height), "#fff", 2);
    }
    if (now >= 0) box(pen, patchArea(now, grid(), width, height), color("--accent"), 3);
  }
  const drawBoards = () => boards.forEach((board, which) => which < get("titles").length && board.draw());
  function tell(which, patch) {
    if (patch < 0) return (tip.textContent = "");
    const ratios = readFloat16(get("ratios"), grid()[0] * grid()[1]);
    const weight = large(which)(patch) * get("tops")[which];
    const share = get("method") === "relevance" ? `relevance ${weight.toPrecision(2)}` : percent(weight);
    tip.textContent = `patch ${Math.floor(patch / grid()[1]) + 1}, ${(patch % grid()[1]) + 1}: ${share}; attention received ${ratios[0][patch].toFixed(1)} × the median, norm of its output ${ratios[1][patch].toFixed(1)} ×`;
  }

  // --- all heads
  const edge = 18,
    gap = 3;
  const cell = () => Math.max(14, Math.min(64, Math.floor((side.clientWidth - edge) / get("heads")) - gap));
  function headAt(event) {
    const area = heads.getBoundingClientRect();
    const [row, column] = [event.clientY - area.top, event.clientX - area.left].map((place) =>
      Math.floor((place - edge) / (cell() + gap)),
    );
    return row >= 0 && column >= 0 && row < get("layers") && column < get("heads") ? [row, column] : null;
  }
  function hover(place) {
    if (String(place) === String(hovered)) return;
    hovered = place;
    const pixels = place && readFloat16(get("distances"), get("heads"))[place[0]][place[1]];
    told.textContent = place
      ? `layer ${place[0] + 1}, head ${place[1] + 1}: looks ${pixels.toFixed(0)} pixels far on average`
      : "";
    boards[0].draw();
    drawHeads();
    drawFar();
  }
  function pin(place) {
    if (!place) return;
    cursor = place;
    send({ layer: place[0], head: place[1], method: "head" });
  }
  function move(event) {
    const way = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (way) {
      const within = (value, count) => Math.min(count - 1, Math.max(0, value));
      cursor = [within(cursor[0] + way[0], get("layers")), within(cursor[1] + way[1], get("heads"))];
      hover(cursor);
    } else if (event.key === "Enter" || event.key === " ") pin(cursor);
    else return;
    event.preventDefault();
  }
  const chosen = (row, column) =>
    row === (get("layer") < 0 ? get("layers") - 1 : get("layer")) &&
    (get("method") === "head" ? column === get("head") : ["mean", "max"].includes(get("method")));
  function drawHeads() {
    const size = cell();
    const draw = sizedPen(heads, edge + get("heads") * (size + gap), edge + get("layers") * (size + gap));
    Object.assign(draw, { fillStyle: color("--muted"), textAlign: "center", imageSmoothingEnabled: false });
    numbers(get("heads")).forEach((at) => draw.fillText(at + 1, edge + at * (size + gap) + size / 2, 12));
    numbers(get("layers")).forEach((at) => draw.fillText(at + 1, 7, edge + at * (size + gap) + size / 2 + 4));
    for (const row of numbers(get("layers")))
      for (const column of numbers(get("heads"))) {
        const area = [edge + column * (size + gap), edge + row * (size + gap), size, size];
        draw.drawImage(image(small([row, column]), ...get("cells")), ...area);
        if (chosen(row, column)) box(draw, area, color("--ink"), 3);
        if (String(hovered) === String([row, column])) box(draw, area, color("--accent"), 3);
      }
    heads.setAttribute(
      "aria-label",
      `${get("layers")} layers of ${get("heads")} heads. Arrow keys preview, Enter pins. Now: layer ${cursor[0] + 1}, head ${cursor[1] + 1}.`,
    );
  }
  function drawFar() {
    const rows = readFloat16(get("distances"), get("heads"));
    const most = 1.08 * Math.max(...rows.flat(), 1);
    const [draw, place] = plotAxes(
      far,
      Math.min(420, Math.max(160, side.clientWidth)),
      130,
      most,
      (value) => value.toFixed(0),
      color,
    );
    draw.textAlign = "center";
    rows.forEach((row, at) => {
      const x = (at + 0.5) / rows.length;
      draw.fillStyle = color("--muted");
      draw.fillText(at + 1, place(x, 0)[0], 127);
      row.forEach((value, head) => {
        const marked = hovered ? String(hovered) === String([at, head]) : chosen(at, head);
        draw.fillStyle = color(marked ? "--random" : "--accent");
        plotDot(draw, place(x, value), marked ? 5 : 3);
      });
    });
    far.setAttribute(
      "aria-label",
      "Mean attention distance, from the nearest to the farthest head: " +
        rows
          .map(
            (row, at) =>
              `layer ${at + 1}: ${Math.min(...row).toFixed(0)} to ${Math.max(...row).toFixed(0)} pixels`,
          )
          .join("; "),
    );
  }

  function draw() {
    picture.refresh();
    const method = get("method");
    for (const button of methods)
      button.setAttribute("aria-pressed", String(button.dataset.method === method));
    methods.at(-1).disabled = !get("classes").length;
    token.setAttribute("aria-pressed", String(get("query") === 0));
    const show = (field, when) => (field.style.display = when ? "" : "none");
    show(layerField, ["head", "mean", "max"].includes(method));
    show(headField, method === "head");
    for (const field of [fusionField, discardField]) show(field, method === "rollout");
    show(targetField, get("classes").length > 0);
    show(secondField, method === "relevance");
    show(timesField, get("measure") !== "nothing");
    for (const [control, name] of [
      [head, "head"],
      [fusion, "fusion"],
      [discard, "discard"],
      [target, "target"],
      [second, "second"],
      [mass, "mass"],
      [opacity, "opacity"],
      [palette, "palette"],
      [measure, "measure"],
      [times, "times"],
    ])
      if (control !== document.activeElement || control.type !== "range") control.value = get(name);
    layer.value = get("layer") < 0 ? get("layers") - 1 : get("layer");
    for (const [output, name] of [
      [discardText, "discard"],
      [massText, "mass"],
      [opacityText, "opacity"],
    ])
      output.textContent = `${Math.round(100 * get(name))} %`;
    timesText.textContent = get("times");
    smooth.setAttribute("aria-pressed", String(get("smooth")));
    flagged.textContent = get("measure") === "nothing" ? "" : `${get("outliers").length} flagged`;
    const [best] = get("classes");
    target.options[0].textContent = best
      ? `the best: ${get("labels")[best[0]]}, ${percent(best[1])}`
      : "the best";
    boards.forEach((board, which) => {
      show(board.figure, which < get("titles").length);
      board.title.textContent = get("titles")[which] ?? "";
    });
    drawBoards();
    drawHeads();
    drawFar();
    test.draw();
    root.dataset.revision = get("revision"); // tests wait for it
  }
  const undo = listen(model, ["revision", "tests"], draw); // a test may be asked for by a cell
  const watch = new ResizeObserver(() => (drawBoards(), drawHeads(), drawFar(), test.drawCurves()));
  watch.observe(root);
  draw();
  return () => {
    undo();
    stop();
    watch.disconnect();
    picture.stop();
    test.stop();
  };
}

export default { render };
