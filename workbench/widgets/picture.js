// What the views on one picture share: choosing a picture, showing it, and walking over its patches.

import { button, cellCanvas, cellUnder, outline, penOf } from "./parts.js";
import { element, range } from "./shared.js";

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
export function pictureInput(view) {
  const { root, get, set, send, ask } = view;
  const said = element("p.error", { role: "alert" });
  const file = element("input", { type: "file", accept: "image/*", hidden: true });
  file.onchange = () => {
    take(file.files);
    file.value = "";
  };
  const choose = (values) => {
    newest += 1;
    said.textContent = "";
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
  return element("div.picture-input", element("div.bar-row", own, file, sample, hint), said);
}

// --- showing it

// The PNG bytes of the trait `picture` as an image to draw with; calls draw() when it is there.
export function pictureOf({ get, drawn }, draw) {
  const image = new Image();
  let bytes = null;
  let address = "";
  const stop = () => URL.revokeObjectURL(address);
  drawn(() => {
    const now = get("picture");
    if (now === bytes || !now?.byteLength) return;
    bytes = now;
    stop();
    address = URL.createObjectURL(new Blob([now], { type: "image/png" }));
    image.src = address;
  });
  image.onload = draw;
  // One patch of it, drawn anywhere.
  const drawPatch = (pen, patch, area) => {
    const from = patchArea(patch, get("grid"), image.naturalWidth, image.naturalHeight);
    pen.drawImage(image, ...from, ...area);
  };
  return { image, ready: () => image.complete && image.naturalWidth > 0, drawPatch, stop };
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

// The patches on the straight way from one to another, both included.
function between(from, to, columns) {
  const ends = [from, to].map((patch) => [Math.floor(patch / columns), patch % columns]);
  const [[row, column], [lastRow, lastColumn]] = ends;
  const steps = Math.max(Math.abs(lastRow - row), Math.abs(lastColumn - column), 1);
  const at = (first, last, step) => Math.round(first + ((last - first) * step) / steps);
  return range(steps + 1).map((step) => at(row, lastRow, step) * columns + at(column, lastColumn, step));
}

// A canvas of patches that mouse and arrow keys walk over.
//   grid(): [rows, columns]; paint(pen, width, height, now): draws it, `now` is the patch under mouse or
//   cursor (-1: none); at(patch): it changed; click(patch); brush(patches, first): those crossed while a
//   button or finger is held, none when it is let go.
export function patchBoard({ label, grid, paint, at = () => {}, click, brush, most = 460 }) {
  let now = -1;
  let held = -1; // the patch that the brush is on
  const numberOf = (cell) => (cell ? cell[0] * grid()[1] + cell[1] : -1);
  const said = element("span.unseen", { "aria-live": "polite" });
  const { canvas, setCursor } = cellCanvas("patch-board", label, {
    shape: grid,
    point(cell, byKey) {
      now = numberOf(cell);
      if (byKey) said.textContent = `row ${cell[0] + 1}, column ${cell[1] + 1}`;
      if (held >= 0 && now >= 0) {
        brush(between(held, now, grid()[1]), false);
        held = now;
      }
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
    canvas.onpointerdown = (event) => {
      const patch = numberOf(cellUnder(event, grid()));
      if (patch < 0 || event.button) return;
      held = patch;
      canvas.setPointerCapture(event.pointerId);
      brush([patch], true);
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
      if (held >= 0) brush([], false);
      held = -1;
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
