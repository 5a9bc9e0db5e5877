// What the views on pictures share: choosing one, showing it, walking over its patches, and maps over it.

import { cellCanvas, outline, penOf, pixels } from "./drawing.js";
import { button, row, told } from "./parts.js";
import { element, percent, range, readFloat16 } from "./shared.js";

// --- choosing a picture

const LARGEST = 1024; // pixels of the long side that are sent
const AS_IT_IS = 2 ** 20; // files below this many bytes are sent as they are
const MOST_BYTES = 8 * 2 ** 20; // messages above 10 MiB would be lost
const HEIC = /^ftyp(he[iv][cmsx]|m[is]f1)/; // what Python has a sentence for
const UNKNOWN =
  "The browser cannot open this file, and it is too large to be sent as it is (8 MB at most). " +
  "Try PNG, JPEG or WebP.";

// A file -> bytes small enough to be sent; a photo is turned upright and shrunk here.
async function shrunk(file) {
  if (file.size <= AS_IT_IS) return file.arrayBuffer();
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    if (file.size <= MOST_BYTES) return file.arrayBuffer(); // Python may know the format
    if (HEIC.test(await file.slice(4, 12).text())) return file.slice(0, 12).arrayBuffer();
    throw new Error(UNKNOWN);
  }
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = element("canvas", { width, height });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // behind what is transparent
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  if (!blob) throw new Error("The browser cannot shrink this picture; try a smaller one.");
  return blob.arrayBuffer();
}

// Calls take(files) with what is dropped or pasted anywhere in the widget, which is marked meanwhile.
function listenToDrops(root, take) {
  let inside = 0; // enter and leave come for each element that is crossed
  const mark = (count) => {
    inside = Math.max(0, count);
    root.classList.toggle("dropping", inside > 0);
  };
  const keep = (event) => {
    event.preventDefault();
    event.stopPropagation();
  };
  root.addEventListener("dragenter", (event) => {
    keep(event);
    mark(inside + 1);
  });
  root.addEventListener("dragleave", () => mark(inside - 1));
  root.addEventListener("dragover", keep);
  root.addEventListener("drop", (event) => {
    keep(event);
    mark(0);
    take(event.dataTransfer.files);
  });
  root.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea")) return;
    keep(event);
    take(event.clipboardData.files);
  });
}

// Upload button, samples, and the whole widget as a place to drop or paste.
export function pictureInput(view) {
  const { root, get, set, send, ask, saved } = view;
  const said = element("p.error", { role: "alert" });
  const file = element("input", { type: "file", accept: "image/*", hidden: true });
  file.onchange = () => {
    take(file.files);
    file.value = "";
  };
  const choose = (values) => {
    newest += 1;
    said.textContent = "";
    if (!saved()) set({ upload_name: "", upload: new DataView(new ArrayBuffer(0)) }); // one that still waits
    send(values);
  };
  const choices = [["", "own picture", true], ...get("samples")];
  const sample = view.with({ send: choose }).select("sample", "or a sample", choices);
  let newest = 0; // a picture that was chosen later is not replaced by one that took longer

  async function take([chosen]) {
    newest += 1;
    const mine = newest;
    said.textContent = "";
    try {
      if (!chosen) throw new Error("There was no file: save the picture first, then drop or choose it.");
      if (!chosen.size) throw new Error(`${chosen.name}: the file is empty.`);
      const bytes = await shrunk(chosen).catch((error) => {
        throw new Error(`${chosen.name}: ${error.message}`);
      });
      if (mine !== newest) return;
      set({ upload_name: chosen.name, upload: new DataView(bytes) });
      ask();
    } catch (error) {
      if (mine === newest) said.textContent = error.message;
    }
  }
  listenToDrops(root, take);
  const hint = element("span.note", "or drop or paste a picture anywhere here");
  const own = button("Your picture …", () => file.click());
  return element("div.picture-input", row(own, file, sample, hint), said);
}

// --- showing it

// The PNG bytes of the trait `picture` as an image to draw with; all is drawn anew when it is there.
export function pictureOf({ get, drawn, redraw }) {
  const image = new Image();
  let bytes = null;
  drawn(() => {
    const now = get("picture");
    if (now === bytes || !now?.byteLength) return;
    bytes = now;
    image.src = URL.createObjectURL(new Blob([now], { type: "image/png" }));
  });
  image.onload = () => {
    URL.revokeObjectURL(image.src);
    redraw();
  };
  // One patch of it, drawn anywhere.
  const drawPatch = (pen, patch, area) => {
    const from = patchArea(patch, get("grid"), image.naturalWidth, image.naturalHeight);
    pen.drawImage(image, ...from, ...area);
  };
  return { image, ready: () => image.complete && image.naturalWidth > 0, drawPatch };
}

// Where a patch lies in a picture of this size: x, y, width, height.
export function patchArea(patch, [rows, columns], width, height) {
  const [w, h] = [width / columns, height / rows];
  return [(patch % columns) * w, Math.floor(patch / columns) * h, w, h];
}

// Lines between all patches, and a frame around some of them.
export function framePatches(pen, grid, width, height, opacity, framed) {
  const area = (patch) => patchArea(patch, grid, width, height);
  const thin = width / grid[1] > 8 ? 1 : 0.5;
  for (const patch of range(grid[0] * grid[1]))
    outline(pen, area(patch), `rgb(255 255 255 / ${opacity})`, thin);
  for (const patch of framed) {
    outline(pen, area(patch), "#fff", 5);
    outline(pen, area(patch), "#1f6feb", 3);
  }
}

// --- walking over its patches

// The patches that a straight line crosses; its ends are [row, column] with fractions.
function crossed(from, to, [rows, columns]) {
  const way = (step) => from.map((start, axis) => start + (to[axis] - start) * step);
  const meets = [0, 1]; // where on its way it meets the lines between patches
  for (const axis of [0, 1]) {
    const [least, most] = [from[axis], to[axis]].sort((a, b) => a - b);
    for (let line = Math.ceil(least); line <= most; line++)
      if (most > least) meets.push((line - from[axis]) / (to[axis] - from[axis]));
  }
  meets.sort((a, b) => a - b);
  const cells = meets.map((meet, at) => way((meet + (meets[at + 1] ?? meet)) / 2).map(Math.floor));
  const inside = ([row, column]) => row >= 0 && column >= 0 && row < rows && column < columns;
  return [...new Set(cells.filter(inside).map(([row, column]) => row * columns + column))];
}

// A canvas of patches that mouse and arrow keys walk over.
//   grid(): [rows, columns]; paint(pen, width, height, now): draws it, `now` is the patch under mouse or
//   cursor (-1: none); at(patch): it changed; click(patch); brush(patches, first): those crossed while a
//   button or finger is held, none when it is let go; also(patch): what is said of it besides its place.
export function patchBoard({ label, grid, paint, at = () => {}, also = () => "", click, brush, most = 460 }) {
  let now = -1;
  let held = null; // where the brush is: [row, column] with fractions
  const numberOf = (cell) => (cell ? cell[0] * grid()[1] + cell[1] : -1);
  const said = element("span.unseen", { "aria-live": "polite" });
  const { canvas, setCursor } = cellCanvas("patch-board", label, {
    shape: grid,
    point(cell, byKey) {
      now = numberOf(cell);
      if (byKey) said.textContent = `row ${cell[0] + 1}, column ${cell[1] + 1}${also(now)}`;
      at(now);
      draw();
    },
    click(cell, byKey) {
      if (!brush) click(numberOf(cell));
      else if (byKey) {
        brush([numberOf(cell)], true);
        brush([], false);
      }
    },
  });
  const node = element("div.overlaid", canvas, said);

  if (brush) {
    canvas.style.touchAction = "none"; // a finger brushes, it does not scroll
    const placeOf = ({ offsetX, offsetY }) => [
      (offsetY / canvas.clientHeight) * grid()[0],
      (offsetX / canvas.clientWidth) * grid()[1],
    ];
    canvas.onpointerdown = (event) => {
      if (event.button) return;
      held = placeOf(event);
      canvas.setPointerCapture(event.pointerId);
      brush(crossed(held, held, grid()), true);
    };
    canvas.onpointermove = (event) => {
      if (!held) return;
      const patches = crossed(held, placeOf(event), grid()); // a fast pointer skips some
      held = placeOf(event);
      if (patches.length) brush(patches, false);
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
      if (held) brush([], false);
      held = null;
    };
  }

  function draw() {
    const [rows, columns] = grid();
    const width = Math.max(40, Math.min(most, (most * columns) / rows, node.clientWidth || most));
    const height = (width * rows) / columns;
    const pen = penOf(canvas, width, height);
    pen.imageSmoothingEnabled = false;
    paint(pen, width, height, now);
  }
  return { node, draw, setCursor: (patch) => setCursor([Math.floor(patch / grid()[1]), patch % grid()[1]]) };
}

// --- maps over it

export const inPercent = (share) => `${Math.round(100 * share)} %`;

// Of each map only the strongest weights stay, which together make up so much.
export const massSlider = (view) =>
  view.slider("mass", "keep what makes up", [0.1, 1, 0.05], { show: inPercent });

// From yellow to red: seen on light and on dark pictures, the paler the less weight there is.
const heat = (share, opacity = 1) => [255, 255 * (1 - share), 0, 255 * opacity * share];
const cssColor = ([red, green, blue, opacity]) => `rgb(${red} ${green} ${blue} / ${opacity / 255})`;

export const LEFT_OUT = "left out here";

const keptText = (share) => {
  if (share === null) return "";
  return `It keeps ${percent(share)} for itself${share > 0.5 ? ": what is seen here is the rest." : "."}`;
};

// Maps over the picture, beside each other, of the traits of MapWidget in picture.py. choose(token) makes a
// patch the one that looks; more(patch) is said of one beside its weight; marks() gives [patch, colour] of
// those with a dashed frame.
//   node, draw(); preview([layer, head] or null): another head in place of the first map;
//   small([layer, head], canvas): a head's map as a canvas of few pixels; under: its paper, both for
//   headGrid; picture: what pictureOf gives.
export function mapBoards(view, { choose, more = () => "", marks = () => [] }) {
  const { get, ink, looks } = view;
  let previewed = null;
  const picture = pictureOf(view);
  const grid = () => (get("grid").length ? get("grid") : [1, 1]);
  const opacity = looks.slider("opacity", "opacity", [0, 1, 0.05], { show: inPercent });
  const tip = told();

  // What is shown: its size in cells; share(cell) of the largest weight, which is `top`; how weights are
  // written; the title; and what the token that looks keeps for itself.
  function shown(which) {
    if (which === 0 && previewed) return ofHead(previewed);
    const size = grid();
    const share = (patch) => (get("large").getUint8(which * size[0] * size[1] + patch) / 255) ** 2;
    const [top, keeps, title] = ["tops", "keeps", "titles"].map((trait) => get(trait)[which]);
    const write = get("method") === "relevance" ? (weight) => weight.toPrecision(2) : percent;
    return { size, share, top, write, keeps, title };
  }

  function ofHead([layer, head]) {
    const size = get("cells");
    const at = layer * get("heads") + head;
    const share = (cell) => (get("maps").getUint8(at * size[0] * size[1] + cell) / 255) ** 2;
    const [top, keeps] = readFloat16(get("shares"), 2)[at];
    const title = `layer ${layer + 1}, head ${head + 1}, ${get("looker")} looks`;
    return { size, share, top, write: percent, keeps, title };
  }

  const small = (place, canvas) => {
    const { size, share } = ofHead(place);
    return pixels(...size, (cell) => heat(share(cell)), canvas);
  };

  const under = (pen, _, area) => {
    pen.fillStyle = ink("--soft");
    pen.fillRect(...area);
  };

  const boards = range(2).map((which) => {
    const board = patchBoard({
      label:
        `Map ${which + 1} over the picture. Arrow keys move over the patches, ` +
        "Enter makes one the patch that looks.",
      grid,
      at: (patch) => tell(which, patch),
      click: (patch) => choose(patch + get("prefix")),
      paint: (pen, width, height, now) => paint(which, pen, width, height, now),
    });
    const [title, most, keeps] = ["figcaption", "span", "p.note"].map((name) => element(name));
    const bar = element("span.scale-bar");
    const scale = element("div.scale.note", "0", bar, most);
    const figure = element("figure.board", board.node, scale, title, keeps); // no title moves a picture
    return { draw: board.draw, figure, title, most, keeps, bar };
  });

  function paint(which, pen, width, height, now) {
    if (!get("large").byteLength) return;
    const area = (patch) => patchArea(patch, grid(), width, height);
    const { size, share } = shown(which);
    if (picture.ready()) pen.drawImage(picture.image, 0, 0, width, height);
    pen.imageSmoothingEnabled = get("smooth");
    const map = pixels(...size, (cell) => heat(share(cell), get("opacity")));
    pen.drawImage(map, 0, 0, width, height);
    for (const [patch, color] of marks()) {
      outline(pen, area(patch), "#fff");
      pen.setLineDash([4, 3]);
      outline(pen, area(patch), color);
      pen.setLineDash([]);
    }
    const query = get("query") - get("prefix");
    if (query >= 0 && get("method") !== "relevance") {
      outline(pen, area(query), "#000", 4);
      outline(pen, area(query), "#fff", 2);
    }
    if (now >= 0) outline(pen, area(now), ink("--accent"), 3);
  }

  let pointed = [0, -1]; // the map and the patch under mouse or cursor

  function tell(which, patch) {
    const [rows, columns] = grid();
    const isThere = patch >= 0 && patch < rows * columns && which < get("titles").length;
    pointed = isThere ? [which, patch] : [0, -1];
    tip.textContent = "";
    if (!isThere) return;
    const { share, top, write } = shown(which);
    const place = `patch ${Math.floor(patch / columns) + 1}, ${(patch % columns) + 1}`;
    const weight = share(patch) || get("mass") === 1 ? write(share(patch) * top) : LEFT_OUT;
    tip.textContent = `${place}: ${weight}${more(patch)}`;
  }

  function draw() {
    for (const [which, board] of boards.entries()) {
      board.figure.hidden = which >= get("titles").length;
      if (board.figure.hidden) continue;
      const { size, share, top, write, keeps, title } = shown(which);
      const largest = top * Math.max(...range(size[0] * size[1]).map(share));
      const colors = range(5).map((at) => cssColor(heat(at / 4, get("opacity"))));
      board.bar.style.background = `linear-gradient(to right, ${colors})`;
      const reaches = largest > 0.99 * top; // or another map does, on the same scale
      board.most.textContent = `${reaches ? "largest: " : ""}${write(top)}`;
      board.title.textContent = title;
      board.keeps.textContent = `${reaches ? "" : `Its largest is ${write(largest)}. `}${keptText(keeps)}`;
      board.draw();
    }
    if (!previewed) tell(...pointed);
  }

  const preview = (place) => {
    previewed = place;
    draw();
  };
  const look = row(opacity, looks.toggle("smooth", "interpolated"));
  const node = element("div", element("div.maps.bar-row", ...boards.map(({ figure }) => figure)), tip, look);
  return { node, draw, preview, small, under, picture };
}
