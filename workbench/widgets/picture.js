// What the views on one picture share: choosing a picture, showing it, and walking over its patches.

import { button, penOf, select } from "./parts.js";
import { element, within } from "./shared.js";

// --- choosing a picture

const LARGEST = 1024; // pixels of the long side that are sent
const AS_IT_IS = 2 ** 20; // files below this many bytes are sent as they are
const MOST_BYTES = 8 * 2 ** 20; // messages above 10 MiB would be lost
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
export function pictureInput({ root, get, set, send, ask }) {
  const said = element("p.error", { role: "alert" });
  const file = element("input", { type: "file", accept: "image/*", hidden: true });
  file.addEventListener("change", () => {
    take(file.files);
    file.value = "";
  });
  const choices = [["", "own picture"], ...get("samples").map((name) => [name, name])];
  const [field, sample] = select("or a sample", choices, (name) => {
    newest += 1;
    said.textContent = "";
    send({ sample: name });
  });
  sample.firstChild.disabled = true;
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
  const node = element("div.picture-input", element("div.bar-row", own, file, field, hint), said);
  const draw = () => {
    sample.value = get("sample");
  };
  return { node, draw };
}

// --- showing it

// The PNG bytes of the trait `picture` as an image to draw with; calls `draw` when it is there.
export function pictureOf({ get }, draw) {
  const image = new Image();
  let bytes = null;
  let address = "";
  const stop = () => URL.revokeObjectURL(address);
  const refresh = () => {
    const now = get("picture");
    if (now === bytes || !now?.byteLength) return;
    bytes = now;
    stop();
    address = URL.createObjectURL(new Blob([now], { type: "image/png" }));
    image.src = address;
  };
  image.onload = draw;
  return { image, ready: () => image.complete && image.naturalWidth > 0, refresh, stop };
}

// Where a patch lies in a picture of this size: x, y, width, height.
export function patchArea(patch, [rows, columns], width, height) {
  const [w, h] = [width / columns, height / rows];
  return [(patch % columns) * w, Math.floor(patch / columns) * h, w, h];
}

// --- walking over its patches

const MOVES = {
  ArrowUp: ([row, column]) => [row - 1, column],
  ArrowDown: ([row, column]) => [row + 1, column],
  ArrowLeft: ([row, column]) => [row, column - 1],
  ArrowRight: ([row, column]) => [row, column + 1],
  Home: ([row]) => [row, 0],
  End: ([row]) => [row, Infinity],
};

// The patches on the straight way from one to another, both included.
function between(from, to, columns) {
  const ends = [from, to].map((patch) => [Math.floor(patch / columns), patch % columns]);
  const [[row, column], [lastRow, lastColumn]] = ends;
  const steps = Math.max(Math.abs(lastRow - row), Math.abs(lastColumn - column), 1);
  const at = (first, last, step) => Math.round(first + ((last - first) * step) / steps);
  return Array.from(
    { length: steps + 1 },
    (_, step) => at(row, lastRow, step) * columns + at(column, lastColumn, step),
  );
}

// A canvas of patches that mouse and arrow keys walk over.
//   grid(): [rows, columns]; paint(pen, width, height, now): draws it, `now` is the patch under mouse or
//   cursor (-1: none); at(patch): it changed; click(patch); brush(patches, first): those crossed while a
//   button or finger is held, none when it is let go.
export function patchBoard({ label, grid, paint, at = () => {}, click = () => {}, brush, most = 460 }) {
  let now = -1;
  let cursor = 0;
  let held = -1; // the patch that the brush is on
  const canvas = element("canvas.patch-board", { tabindex: 0, role: "application", "aria-label": label });
  const said = element("span.unseen", { "aria-live": "polite" });
  const node = element("div.patch-box", canvas, said);
  if (brush) canvas.style.touchAction = "none"; // a finger brushes, it does not scroll

  const patchAt = (event) => {
    const area = canvas.getBoundingClientRect();
    const [rows, columns] = grid();
    const row = Math.floor(((event.clientY - area.top) / area.height) * rows);
    const column = Math.floor(((event.clientX - area.left) / area.width) * columns);
    return row < 0 || column < 0 || row >= rows || column >= columns ? -1 : row * columns + column;
  };
  const point = (patch) => {
    if (patch === now) return;
    now = patch;
    at(patch);
    draw();
  };
  const act = (patch) => {
    if (!brush) return click(patch);
    brush([patch], true);
    brush([], false);
  };
  canvas.addEventListener("pointerdown", (event) => {
    const patch = patchAt(event);
    if (patch < 0 || event.button) return;
    cursor = patch;
    if (!brush) return;
    held = patch;
    canvas.setPointerCapture(event.pointerId);
    brush([patch], true);
  });
  canvas.addEventListener("pointermove", (event) => {
    const patch = patchAt(event);
    if (held >= 0 && patch >= 0 && patch !== held) {
      brush(between(held, patch, grid()[1]), false);
      held = patch;
    }
    point(patch);
  });
  for (const kind of ["pointerup", "pointercancel"])
    canvas.addEventListener(kind, () => {
      if (held >= 0) brush([], false);
      held = -1;
    });
  canvas.addEventListener("pointerleave", () => held < 0 && point(-1));
  canvas.addEventListener("click", (event) => !brush && patchAt(event) >= 0 && click(patchAt(event)));
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && point(cursor));
  canvas.addEventListener("blur", () => point(-1));
  canvas.addEventListener("keydown", (event) => {
    const [rows, columns] = grid();
    if (MOVES[event.key]) {
      const [row, column] = MOVES[event.key]([Math.floor(cursor / columns), cursor % columns]);
      cursor = within(row, 0, rows - 1) * columns + within(column, 0, columns - 1);
      point(cursor);
      said.textContent = `row ${Math.floor(cursor / columns) + 1}, column ${(cursor % columns) + 1}`;
    } else if (event.key === "Enter" || event.key === " ") act(cursor);
    else return;
    event.preventDefault();
  });

  function draw() {
    const [rows, columns] = grid();
    const width = Math.max(40, Math.min(most, (most * columns) / rows, node.clientWidth || most));
    const height = (width * rows) / columns;
    const pen = penOf(canvas, width, height);
    pen.imageSmoothingEnabled = false;
    cursor = Math.min(cursor, rows * columns - 1);
    paint(pen, width, height, now);
  }
  const setCursor = (patch) => {
    cursor = Math.max(0, patch);
  };
  return { node, canvas, draw, setCursor };
}
