// What the widgets on one picture share: choosing a picture, showing it, and walking over its patches.

import { select } from "./parts.js";
import { element, listen } from "./shared.js";

const LARGEST = 1024; // pixels of the long side that are sent
const AS_IT_IS = 2 ** 20; // files below this many bytes are sent as they are
const MOST_BYTES = 8 * 2 ** 20; // messages above 10 MiB would be lost

// A file -> bytes small enough to be sent; a photo is turned upright and shrunk here.
async function shrunk(file) {
  if (file.size <= AS_IT_IS) return file.arrayBuffer();
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    if (file.size <= MOST_BYTES) return file.arrayBuffer(); // Python may know the format
    throw new Error(
      "The browser cannot open this file, and it is too large to be sent as it is (8 MB at most). Try PNG, JPEG or WebP.",
    );
  }
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // behind what is transparent
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  if (!blob) throw new Error("The browser cannot shrink this picture; try a smaller one.");
  return blob.arrayBuffer();
}

// Upload button, place to drop or paste, and samples. Put it into a widget: all of that takes drops and pastes.
export function pictureInput(model, ask) {
  const said = element("p", { class: "error", role: "alert" });
  const file = element("input", {
    type: "file",
    accept: "image/*",
    hidden: true,
    onchange: () => (take(file.files), (file.value = "")),
  });
  const button = element(
    "button",
    { class: "plain", type: "button", onclick: () => file.click() },
    "Your picture …",
  );
  const choices = [["", "own picture"], ...model.get("samples").map((name) => [name, name])];
  const [field, control] = select("or a sample", choices, (name) => name && send({ sample: name }));
  control.firstChild.disabled = true;
  const zone = element(
    "div",
    { class: "picture-input" },
    element(
      "div",
      { class: "bar-row" },
      button,
      file,
      field,
      element("span", { class: "note" }, "or drop or paste a picture anywhere here"),
    ),
    said,
  );

  function send(values) {
    said.textContent = "";
    if (!model.saved) for (const [name, value] of Object.entries(values)) model.set(name, value);
    if (!model.saved) model.save_changes();
    ask();
  }
  async function take(files) {
    const chosen = files?.[0];
    if (!chosen)
      return (said.textContent = "There was no file: save the picture first, then drop or choose it.");
    if (model.saved) return ask();
    if (!chosen.size) return (said.textContent = `${chosen.name}: the file is empty.`);
    try {
      const bytes = await shrunk(chosen);
      send({ upload_name: chosen.name, upload: new DataView(bytes) });
    } catch (error) {
      said.textContent = `${chosen.name}: ${error.message}`;
    }
  }
  const stop = (event) => (event.preventDefault(), event.stopPropagation());
  queueMicrotask(() => {
    const root = zone.closest(".workbench") ?? zone;
    let inside = 0; // enter and leave come for each element that is crossed
    const mark = (step) =>
      root.classList.toggle("dropping", (inside = step ? Math.max(0, inside + step) : 0) > 0);
    root.addEventListener("dragenter", (event) => (stop(event), mark(1)));
    root.addEventListener("dragleave", () => mark(-1));
    root.addEventListener("dragover", stop);
    root.addEventListener("drop", (event) => (stop(event), mark(0), take(event.dataTransfer.files)));
    root.addEventListener("paste", (event) => {
      if (event.target.closest?.("input, textarea")) return;
      stop(event);
      take(event.clipboardData.files);
    });
  });
  const show = () => (control.value = model.get("sample"));
  zone.stop = listen(model, ["sample", "revision"], show);
  show();
  return zone;
}

// PNG bytes of a trait -> a picture to draw with; calls `draw` when it is there.
export function pictureOf(model, draw, trait = "picture") {
  const image = new Image();
  let bytes = null,
    address = "";
  image.onload = draw;
  return {
    image,
    ready: () => image.complete && image.naturalWidth > 0,
    refresh() {
      const now = model.get(trait);
      if (now === bytes || !now?.byteLength) return;
      bytes = now;
      URL.revokeObjectURL(address);
      address = URL.createObjectURL(
        new Blob([new Uint8Array(now.buffer, now.byteOffset, now.byteLength)], { type: "image/png" }),
      );
      image.src = address;
    },
    stop: () => URL.revokeObjectURL(address),
  };
}

// A canvas of patches that mouse and arrow keys walk over.
//   grid(): [rows, columns]; paint(pen, width, height, now): draws it, `now` is the patch under mouse or cursor;
//   at(patch): -1 when there is none; click(patch); brush(patch, first): while a button or finger is held.
export function patchBoard({
  label,
  grid,
  paint,
  at = () => {},
  click = () => {},
  brush = null,
  most = 460,
}) {
  let now = -1,
    cursor = 0,
    held = false;
  const canvas = element("canvas", {
    class: "patch-board",
    tabindex: 0,
    role: "application",
    "aria-label": label,
  });
  if (brush) canvas.style.touchAction = "none"; // a finger brushes, it does not scroll
  const said = element("span", { class: "unseen", "aria-live": "polite" });
  const box = element("div", { class: "patch-box" }, canvas, said);
  const size = () => {
    const [rows, columns] = grid();
    const width = Math.max(40, Math.min(most, (most * columns) / rows, box.clientWidth || most));
    return [width, (width * rows) / columns];
  };
  const place = (event) => {
    const area = canvas.getBoundingClientRect(),
      [rows, columns] = grid();
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
  canvas.addEventListener("pointerdown", (event) => {
    const patch = place(event);
    if (patch < 0 || event.button) return;
    cursor = patch;
    if (!brush) return;
    held = true;
    canvas.setPointerCapture(event.pointerId);
    brush(patch, true);
  });
  canvas.addEventListener("pointermove", (event) => {
    const patch = place(event);
    if (held && patch >= 0 && patch !== now) brush(patch, false);
    point(patch);
  });
  canvas.addEventListener("pointerup", () => {
    if (held) brush(-1, false); // done
    held = false;
  });
  canvas.addEventListener("pointerleave", () => held || point(-1));
  canvas.addEventListener("click", (event) => brush || (place(event) >= 0 && click(place(event))));
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && point(cursor));
  canvas.addEventListener("blur", () => point(-1));
  canvas.addEventListener("keydown", (event) => {
    const [rows, columns] = grid();
    const [row, column] = [Math.floor(cursor / columns), cursor % columns];
    const to = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [row, 0],
      End: [row, columns - 1],
    }[event.key];
    if (to) {
      cursor = Math.min(rows - 1, Math.max(0, to[0])) * columns + Math.min(columns - 1, Math.max(0, to[1]));
      point(cursor);
      said.textContent = `row ${Math.floor(cursor / columns) + 1}, column ${(cursor % columns) + 1}`;
    } else if (event.key === "Enter" || event.key === " ") {
      if (brush) brush(cursor, true), brush(-1, false);
      else click(cursor);
    } else return;
    event.preventDefault();
  });
  function draw() {
    const [width, height] = size(),
      scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.imageSmoothingEnabled = false;
    const [rows, columns] = grid();
    cursor = Math.min(cursor, rows * columns - 1);
    paint(pen, width, height, now);
  }
  return { box, canvas, draw, setCursor: (patch) => (cursor = Math.max(0, patch)) };
}

// Where a patch lies on a board: x, y, width, height.
export function patchArea(patch, [rows, columns], width, height) {
  const [w, h] = [width / columns, height / rows];
  return [(patch % columns) * w, Math.floor(patch / columns) * h, w, h];
}
