// Is a map true? Curves while its top patches are hidden and uncovered; and what plots on a canvas share.

import { patchArea } from "./picture.js";
import { element, percent } from "./shared.js";

// A canvas of this size on the page, sharp on any screen -> a pen for it.
export function sizedPen(canvas, width, height) {
  const scale = devicePixelRatio || 1;
  Object.assign(canvas, { width: width * scale, height: height * scale });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "11px system-ui, sans-serif";
  return pen;
}

// Lines at zero, half and all of `most` -> a pen, and where a share of the width and a value lie.
export function plotAxes(canvas, width, height, most, label, color) {
  const draw = sizedPen(canvas, width, height);
  const place = (x, y) => [38 + x * (width - 46), height - 20 - (y / most) * (height - 38)];
  Object.assign(draw, {
    strokeStyle: color("--line"),
    fillStyle: color("--muted"),
    lineWidth: 1,
    textAlign: "right",
  });
  for (const value of [0, most / 2, most]) {
    draw.beginPath();
    draw.moveTo(...place(0, value));
    draw.lineTo(...place(1, value));
    draw.stroke();
    draw.fillText(label(value), 34, place(0, value)[1] + 4);
  }
  return [draw, place];
}

export function plotDot(draw, [x, y], radius) {
  draw.beginPath();
  draw.arc(x, y, radius, 0, 7);
  draw.fill();
}

// Trait `tests` of PatchAttention; `picture` is what pictureOf gives.
export function mapTest({ model, message, root, grid, picture, color }) {
  const run = element(
    "button",
    { class: "plain", type: "button", onclick: () => message({ do: "test" }) },
    "Hide its top patches, step by step",
  );
  const progress = element("progress", { max: 1, value: 0, "aria-label": "Progress of the test" });
  const verdict = element("p", { class: "map-verdict", "aria-live": "polite" });
  const curves = ["deletion", "insertion"].map((kind) => [
    kind,
    element("canvas", { role: "img" }),
    element("figcaption", { class: "note" }),
  ]);
  const hidden = element("canvas", { role: "img" });
  const step = element("input", {
    type: "range",
    min: 0,
    max: 12,
    step: 1,
    value: 3,
    oninput: () => (drawHidden(), drawCurves()),
  });
  const stepText = element("output", {});
  const table = element("tbody");
  const columns = ["map", "class", "deletion area", "insertion area", "random area (lowest to highest)"];
  const results = element(
    "div",
    {},
    element(
      "div",
      { class: "map-curves" },
      element("figure", {}, hidden, element("label", { class: "field" }, "hidden", step, stepText)),
      ...curves.map(([, canvas, caption]) => element("figure", {}, caption, canvas)),
    ),
    verdict,
    element(
      "table",
      { class: "map-table" },
      element(
        "thead",
        {},
        element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name))),
      ),
      table,
    ),
  );
  const section = element(
    "section",
    { class: "map-test", "aria-label": "Is this map true?" },
    element("p", { class: "group" }, element("b", {}, "Is this map true?"), run, progress),
    results,
  );
  const last = () => model.get("tests").at(-1);

  function drawCurves() {
    if (!last()) return;
    const { shares, deletion, insertion, random, areas } = last();
    const most = Math.max(...deletion, ...insertion, ...random, 0.01);
    const room = root.clientWidth - 34; // one row with the picture, or one of their own
    const width = Math.min(340, Math.max(180, room > 760 ? (room - 230) / 2 : (room - 16) / 2));
    curves.forEach(([kind, canvas, caption], which) => {
      const [draw, place] = plotAxes(
        canvas,
        width,
        190,
        most,
        (value) => (value ? percent(value) : "0"),
        color,
      );
      const [map, base] = which ? [insertion, [...random].reverse()] : [deletion, random];
      for (const [values, name, dash] of [
        [base, "--random", [5, 4]],
        [map, "--accent", []],
      ]) {
        Object.assign(draw, { strokeStyle: color(name), lineWidth: 2 });
        draw.setLineDash(dash);
        draw.beginPath();
        shares.forEach((share, at) => draw.lineTo(...place(share, values[at])));
        draw.stroke();
      }
      draw.setLineDash([]);
      Object.assign(draw, { fillStyle: color("--accent"), textAlign: "left" });
      if (!which) plotDot(draw, place(shares[+step.value], map[+step.value]), 5);
      draw.fillStyle = color("--muted");
      draw.fillText(`share of patches ${which ? "shown" : "hidden"} →`, 38, 186);
      caption.textContent = `${kind}: area ${areas[which].toFixed(2)}, random (dashed) ${areas[4].toFixed(2)}`;
      canvas.setAttribute(
        "aria-label",
        `${kind} curve: area ${areas[which]} in the map's order, ${areas[4]} in random orders`,
      );
    });
  }
  function drawHidden() {
    if (!last() || !picture.ready()) return;
    const { order, shares, deletion, label } = last();
    const [width, height] = [200, (200 * grid()[0]) / grid()[1]];
    const draw = sizedPen(hidden, width, height);
    draw.drawImage(picture.image, 0, 0, width, height);
    draw.fillStyle = color("--soft");
    const share = shares[+step.value];
    for (const patch of order.slice(0, Math.round(share * order.length)))
      draw.fillRect(...patchArea(patch, grid(), width, height));
    stepText.textContent = `${Math.round(100 * share)} %`;
    hidden.setAttribute(
      "aria-label",
      `The picture without its top ${percent(share)} of patches: “${label}” ${percent(deletion[+step.value])}`,
    );
  }
  function draw() {
    run.disabled = !model.get("classes").length;
    progress.style.display = "none";
    results.style.display = last() ? "" : "none";
    if (!last()) return;
    const { title, label, hides, shows, shares, deletion } = last();
    step.max = shares.length - 1;
    const words =
      hides && shows
        ? "Both tests speak for this map: it beats every random order."
        : hides || shows
          ? `Only ${hides ? "deletion" : "insertion"} speaks for this map; in the other test some random order does as well.`
          : "No better than chance: in both tests some random order does as well.";
    verdict.textContent = `${title}; class “${label}”, ${percent(deletion[0])} with nothing hidden. ${words}`;
    table.replaceChildren(
      ...model
        .get("tests")
        .map(({ title, label, areas: [deleted, inserted, lowest, highest, mean] }) =>
          element(
            "tr",
            {},
            ...[
              title,
              label,
              deleted.toFixed(3),
              inserted.toFixed(3),
              `${mean.toFixed(3)} (${lowest.toFixed(3)} to ${highest.toFixed(3)})`,
            ].map((text) => element("td", {}, text)),
          ),
        ),
    );
    drawHidden();
    drawCurves();
  }
  const heard = (message) => {
    if (message.tested === undefined) return;
    progress.style.display = message.tested < 1 ? "" : "none";
    progress.value = message.tested;
  };
  model.on("msg:custom", heard);
  return { section, draw, drawHidden, drawCurves, stop: () => model.off("msg:custom", heard) };
}
