// What is drawn with a pen or as lines: canvases, cells that mouse and keys walk over, plots.

import { element, rgbaOf, within } from "./shared.js";

// --- pens and pixels

// A pen for a canvas, in CSS pixels, sharp on any screen. Without a size the canvas keeps that of its style.
export function penOf(canvas, width = canvas.clientWidth, height = canvas.clientHeight) {
  const scale = window.devicePixelRatio || 1;
  if (width !== canvas.clientWidth) canvas.style.width = `${width}px`;
  if (height !== canvas.clientHeight) canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "11px system-ui, sans-serif";
  return pen;
}

export function straightLine(pen, start, end, color, width = 2) {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.beginPath();
  pen.moveTo(...start);
  pen.lineTo(...end);
  pen.stroke();
}

// A frame around [x, y, width, height].
export function outline(pen, area, color, width = 2) {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.strokeRect(...area);
}

// A colour of CSS as [red, green, blue].
export const rgbOf = (color) => rgbaOf(color).slice(0, 3);

// A canvas with one pixel for each cell; color(at) gives [red, green, blue, opacity], each up to 255.
export function pixels(rows, columns, color, canvas = element("canvas")) {
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  const { data } = image;
  for (let at = 0; at < 4 * rows * columns; at += 4) {
    [data[at], data[at + 1], data[at + 2], data[at + 3]] = color(at / 4); // set() is ten times slower
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Numbers as colours, one pixel each: --accent above zero, --random below, the strongest one opaque (or the
// one of rank `clip`, so that a few outliers do not pale the rest).
export function signedPixels(canvas, rows, ink, clip = 0) {
  const [above, below] = ["--accent", "--random"].map((name) => rgbOf(ink(name)));
  const values = rows.flat();
  const sizes = Float32Array.from(values, Math.abs).sort();
  const strongest = sizes.at(-1 - clip) || 1e-9;
  const opacity = (value) => Math.min(255, (255 * Math.abs(value)) / strongest);
  const color = (at) => [...(values[at] < 0 ? below : above), opacity(values[at])];
  return pixels(rows.length, rows[0].length, color, canvas);
}

// Texts beside the rows and above the columns of a map that begins at `edge`, each so many pixels high.
export function writeAxes(pen, texts, edge, size, color) {
  pen.fillStyle = color;
  for (const [at, text] of texts.entries()) {
    const middle = edge + (at + 0.5) * size + 4;
    pen.textAlign = "right";
    pen.fillText(text, edge - 5, middle, edge - 6);
    pen.save();
    pen.translate(middle, edge - 5);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "left";
    pen.fillText(text, 0, 0, edge - 6);
    pen.restore();
  }
}

// A line from one place to another by way of two, the wider and the less pale the larger its share.
export function curvedLine(pen, share, start, ...places) {
  pen.globalAlpha = 0.1 + 0.85 * share;
  pen.lineWidth = 0.5 + 4 * share;
  pen.beginPath();
  pen.moveTo(...start);
  pen.bezierCurveTo(...places.flat());
  pen.stroke();
}

// --- cells under mouse and keys

const MOVES = {
  ArrowUp: ([row, column]) => [row - 1, column],
  ArrowDown: ([row, column]) => [row + 1, column],
  ArrowLeft: ([row, column]) => [row, column - 1],
  ArrowRight: ([row, column]) => [row, column + 1],
  Home: ([row]) => [row, 0],
  End: ([row]) => [row, Infinity],
};

// The cell [row, column] under the mouse, if so many of them fill this box of the canvas; or null.
export function cellUnder({ target, offsetX, offsetY }, [rows, columns], box) {
  const [left, top, width, height] = box ?? [0, 0, target.clientWidth, target.clientHeight];
  const row = Math.floor(((offsetY - top) / height) * rows);
  const column = Math.floor(((offsetX - left) / width) * columns);
  return row < 0 || column < 0 || row >= rows || column >= columns ? null : [row, column];
}

// A canvas of cells that mouse and keys walk over. shape(): [rows, columns]; box(): what they fill of it;
// point(cell or null, byKey): another one is under mouse or cursor; click(cell, byKey); `cursor` is where the
// keys begin.
export function cellCanvas(kind, label, { shape, box = () => null, point, click, cursor = [0, 0] }) {
  let now = null;
  const canvas = element(`canvas.${kind}`, { tabindex: 0, role: "application", "aria-label": label });
  const under = (event) => cellUnder(event, shape(), box());
  const inside = (cell) => cell.map((at, axis) => within(at, 0, shape()[axis] - 1));
  const preview = (cell, byKey = false) => {
    if (String(cell) === String(now)) return;
    now = cell;
    point(cell, byKey);
  };
  canvas.addEventListener("pointermove", (event) => preview(under(event)));
  canvas.addEventListener("click", (event) => {
    cursor = under(event) ?? cursor;
    if (under(event)) click(cursor, false);
  });
  for (const kind of ["pointerleave", "blur"]) canvas.addEventListener(kind, () => preview(null));
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && preview(inside(cursor)));
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (move) {
      cursor = inside(move(inside(cursor)));
      preview(cursor, true);
    } else if (event.key === "Enter" || event.key === " ") click(inside(cursor), true);
    else return;
    event.preventDefault();
  });
  const setCursor = (cell) => {
    cursor = cell;
  };
  return { canvas, setCursor, cursor: () => inside(cursor) };
}

// --- plots

// A plot with lines at `least`, at `most` and half-way; show(value) writes them. Places along it are shares
// of its width: below: { share: text }, lines: { main or base: [[share, value]] },
// dots: [[share, value, kind, radius]].
export function plot(what) {
  const { label, width = 300, height = 160, least = 0, most, show, below = {}, lines = {}, dots = [] } = what;
  const svg = element("svg.plot", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const x = (share) => 52 + share * (width - 60);
  const y = (value) => 10 + ((most - Math.min(value, most)) / (most - least)) * (height - 38);
  for (const value of [least, (least + most) / 2, most]) {
    svg.append(element("line", { x1: x(0), x2: x(1), y1: y(value), y2: y(value) }));
    svg.append(element("text", { x: x(0) - 5, y: y(value) + 4, "text-anchor": "end" }, show(value)));
  }
  for (const [share, text] of Object.entries(below)) {
    const anchor = { 0: "start", 1: "end" }[share] ?? "middle";
    svg.append(element("text", { x: x(+share), y: height - 6, "text-anchor": anchor }, text));
  }
  for (const [kind, points] of Object.entries(lines)) {
    const places = points.map(([share, value]) => `${x(share)},${y(value)}`);
    svg.append(element(`polyline.${kind}`, { points: places.join(" ") }));
  }
  for (const [share, value, kind, r] of dots)
    svg.append(element(`circle.${kind}`, { cx: x(share), cy: y(value), r }));
  return svg;
}
