// PatchSplitter: a picture as patches, one patch as numbers, times the matrix, and the sequence that results.
// See patch_splitter.py for the traits.

import { button, inkOf, note, outline, part, penOf, pixels, signedPixels, slider } from "./parts.js";
import { patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { element, fixed, frame, range, readFloat16, within } from "./shared.js";

const CLASS_TOKEN =
  "The class token is no part of the picture: it is one learned vector, the same for every picture.";
const figure = (canvas, caption) => element("figure", canvas, element("figcaption.note", caption));
const picture = (kind, label) => element(`canvas.${kind}`, { role: "img", "aria-label": label });

function render({ model, el }) {
  const view = frame(model, el, "patch-splitter");
  const { root, content, get, send } = view;
  const ink = inkOf(root);
  const count = () => get("grid")[0] * get("grid")[1];
  const hiddenSize = () => get("matrix_shape")[2];
  const shown = pictureOf(view, () => drawPictures());
  const input = pictureInput(view);

  // --- sizes
  const inPixels = (value) => `${value} pixels`;
  const sizes = {
    patch_size: slider("Patch size", [4, Math.max(32, get("own_patch_size")), 1], () => {}, inPixels),
    side: slider("Picture size", [32, Math.min(1024, 2 * get("own_side")), 1], () => {}, inPixels),
  };
  for (const [name, { control }] of Object.entries(sizes))
    control.addEventListener("change", () => send({ [name]: +control.value })); // when it is let go
  const shape = element("input", { type: "checkbox", onchange: () => send({ keep_shape: shape.checked }) });
  const own = button("As the checkpoint has it", () =>
    send({ side: get("own_side"), patch_size: get("own_patch_size"), keep_shape: false }),
  );

  // --- the picture, and one patch of it
  const board = patchBoard({
    label: "The picture in patches. Arrow keys move, Enter chooses a patch.",
    grid: () => get("grid"),
    click: (patch) => send({ patch }),
    paint: paintBoard,
    most: 380,
  });
  const sum = element("p.sum");
  const large = picture("large", "");
  large.addEventListener("mousemove", (event) => tellPixel(pixelAt(event)));
  large.addEventListener("mouseleave", () => tellPixel(-1));
  const bands = picture("strip", "");
  const told = element("p.note", { "aria-live": "polite" });
  const allNumbers = { tabindex: 0, role: "region", "aria-label": "All numbers of the patch" };
  const numbers = element("p.numbers", allNumbers);
  const flat = note("Flattened: all red values row by row, then green, then blue.");
  const one = part(
    "One patch",
    element("div.bar-row", large, element("div.flat", flat, bands, told)),
    numbers,
  );

  // --- the projection
  const shapes = note();
  const map = picture("map", "The projection matrix");
  const filter = picture("filter", "The row of the matrix, laid out like the patch");
  const product = element("p.product");
  const vector = picture("strip", "The resulting vector");
  vector.classList.add("pick");
  vector.addEventListener("click", (event) =>
    send({ output: Math.floor((event.offsetX / vector.clientWidth) * hiddenSize()) }),
  );
  const output = element("input", { type: "number", min: 1 });
  output.addEventListener("change", () => send({ output: +output.value - 1 }));
  const projection = part(
    "Times one matrix",
    shapes,
    element("div.bar-row", figure(map, "the matrix"), figure(filter, "this row, as a patch")),
    element("label.field", "Number", output, "of the vector"),
    product,
    vector,
  );
  const none = element("p.empty");

  // --- the sequence, and words beside it
  const columnsOf = () => within(Math.floor(content.clientWidth / (count() > 300 ? 18 : 36)), 6, count() + 1);
  const sequence = patchBoard({
    label: "All tokens, the class token first. Arrow keys move, Enter chooses one.",
    most: 4000,
    grid: () => [Math.ceil((count() + 1) / columnsOf()), columnsOf()],
    click: (token) => token <= count() && send({ patch: token - 1 }),
    paint: paintSequence,
  });
  const strips = ["patch × matrix", "+ position", "= token"].map((name) => {
    const canvas = picture("strip", name);
    const label = element("span", name);
    return { canvas, label, row: element("div.strip-row", label, canvas) };
  });
  const words = element("div.both");

  content.append(
    note("A picture is cut into patches; each becomes a token. Click a patch, or walk with the arrow keys."),
    input.node,
    element(
      "div.bar-row",
      sizes.patch_size.node,
      sizes.side.node,
      element("label.field", shape, "keep the picture's shape"),
      own,
    ),
    element(
      "div.columns",
      element("section", { "aria-label": "Picture" }, board.node, sum),
      element("div", one, projection, none),
    ),
    part("The sequence", sequence.node, ...strips.map(({ row }) => row)),
    part("The same, with words", words),
  );

  // --- drawing the picture
  function paintBoard(pen, width, height, now) {
    if (!shown.ready()) return;
    const grid = get("grid");
    const chosen = get("patch");
    pen.drawImage(shown.image, 0, 0, width, height);
    const thin = width / grid[1] > 8 ? 1 : 0.5;
    for (const patch of range(count()))
      outline(pen, patchArea(patch, grid, width, height), "rgba(255, 255, 255, 0.6)", thin);
    if (now >= 0) outline(pen, patchArea(now, grid, width, height), "#fff", 3);
    if (chosen < 0) return;
    outline(pen, patchArea(chosen, grid, width, height), "#fff", 5);
    outline(pen, patchArea(chosen, grid, width, height), "#1f6feb", 3);
  }

  // One patch of the picture, drawn anywhere.
  function drawPatch(pen, patch, area) {
    const { naturalWidth, naturalHeight } = shown.image;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(shown.image, ...patchArea(patch, get("grid"), naturalWidth, naturalHeight), ...area);
  }

  function drawClassToken(pen, [x, y, side]) {
    pen.fillStyle = ink("--accent");
    pen.fillRect(x, y, side, side);
    pen.fillStyle = "#fff";
    pen.font = "600 11px sans-serif";
    pen.textAlign = "center";
    if (side > 20) pen.fillText("class", x + side / 2, y + side / 2 + 4);
  }

  function paintSequence(pen, width, _, now) {
    if (!shown.ready()) return;
    const columns = columnsOf();
    const cell = width / columns;
    const gap = cell > 24 ? 4 : 2;
    for (const token of range(count() + 1)) {
      const [x, y] = [(token % columns) * cell + gap / 2, Math.floor(token / columns) * cell + gap / 2];
      const area = [x, y, cell - gap, cell - gap];
      if (token) drawPatch(pen, token - 1, area);
      else drawClassToken(pen, area);
      if (token === get("patch") + 1) outline(pen, area, ink("--accent-ink"), 3);
      else if (token === now) outline(pen, area, ink("--ink"));
    }
  }

  function drawWords() {
    const texts = get("words");
    const patches = within(texts.length - 1, 1, count());
    const begin = within(get("patch") - 2, 0, count() - patches);
    const token = (child, place) =>
      element(place ? "span.token" : "span.token.first", child, element("small", place));
    const thumbs = range(patches).map((index) => {
      const options = { width: 34, height: 34, role: "img", "aria-label": `patch ${begin + index + 1}` };
      const canvas = element("canvas.thumb", options);
      if (shown.ready()) drawPatch(canvas.getContext("2d"), begin + index, [0, 0, 34, 34]);
      return token(canvas, begin + index + 1);
    });
    const rest = begin + patches < count() ? "…" : null;
    words.replaceChildren(
      element("b", "words"),
      element("div.tokens", ...texts.map((text, at) => token(element("i", text), at))),
      note("each piece: a row of a table"),
      element("b", "patches"),
      element("div.tokens", token(element("i", "class"), 0), ...thumbs, rest),
      note("each patch: its pixels times a matrix"),
    );
  }

  function drawPictures() {
    board.draw();
    sequence.draw();
    drawWords();
  }

  // --- drawing one patch: its pixels, and its numbers in a row
  const colorsOf = () => {
    const { buffer, byteOffset, byteLength } = get("colors");
    return new Uint8Array(buffer, byteOffset, byteLength);
  };

  function pixelAt(event) {
    const size = get("patch_size");
    const [row, column] = [event.offsetY, event.offsetX].map((place) =>
      Math.floor((place * size) / large.clientWidth),
    );
    return row >= 0 && column >= 0 && row < size && column < size ? row * size + column : -1;
  }

  function tellPixel(at) {
    told.textContent = "Point at a pixel to read it.";
    if (at < 0) return;
    const area = get("patch_size") ** 2;
    const colors = colorsOf();
    const [values] = readFloat16(get("values"), 3 * area);
    const read = ["red", "green", "blue"].map((name, band) => {
      const place = band * area + at;
      return `${name} ${colors[place]} → ${values[place].toFixed(2)}`;
    });
    told.textContent = `pixel ${at + 1}: ${read.join(", ")}`;
  }

  function drawPatchNumbers() {
    const size = get("patch_size");
    const area = size * size;
    const colors = colorsOf();
    const [row, column] = [Math.floor(get("patch") / get("grid")[1]), get("patch") % get("grid")[1]];
    const title = `Patch ${get("patch") + 1}: row ${row + 1}, column ${column + 1}`;
    one.hidden = get("patch") < 0;
    one.firstChild.textContent = title;
    large.setAttribute("aria-label", `${title}, ${size} by ${size} pixels`);
    bands.setAttribute("aria-label", `Its ${3 * area} values as colours`);
    pixels(size, size, (at) => [colors[at], colors[area + at], colors[2 * area + at], 255], large);
    const bandColor = (at) => range(3).map((band) => (Math.floor(at / area) === band ? colors[at] : 0));
    pixels(1, 3 * area, (at) => [...bandColor(at), 255], bands);
    const [values] = readFloat16(get("values"), 3 * area);
    const written = values.map((value) => value.toFixed(2)).join("  ");
    numbers.textContent = `${values.length} numbers: ${written}`;
    tellPixel(-1);
  }

  // --- drawing the projection
  function strip(canvas, values, mark = -1) {
    const pen = penOf(canvas);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const cell = width / values.length;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(signedPixels(element("canvas"), [values], root), 0, 0, width, height);
    if (mark >= 0) outline(pen, [mark * cell, 0.75, Math.max(cell, 3), height - 1.5], ink("--ink"), 1.5);
  }

  function drawMatrix() {
    const [rows, columns, all, inputs] = get("matrix_shape");
    const numberAt = (row, column) => get("matrix").getInt8(row * columns + column);
    const table = range(rows).map((row) => range(columns).map((column) => numberAt(row, column)));
    const pen = penOf(map);
    const [width, height] = [map.clientWidth, map.clientHeight];
    pen.imageSmoothingEnabled = false;
    pen.drawImage(signedPixels(element("canvas"), table, root), 0, 0, width, height);
    const top = Math.min(height - 3, (get("output") * height) / all);
    outline(pen, [0.75, top, width - 1.5, 3], ink("--ink"), 1.5);
    const size = `a matrix of ${all} × ${inputs}, the same for every patch`;
    shapes.textContent = `${inputs} numbers in, ${all} out: ${size}. Blue is positive, brown negative.`;
  }

  function drawRow() {
    const inputs = get("matrix_shape")[3];
    if (!get("weights").byteLength) return;
    const [weights] = readFloat16(get("weights"), inputs);
    const size = get("own_patch_size");
    const most = Math.max(...weights.map(Math.abs), 1e-9);
    const grey = (weight) => 128 + (127 * weight) / most;
    const color = (at) => [...range(3).map((band) => grey(weights[band * size * size + at])), 255];
    pixels(size, size, color, filter);
    const [total, bias] = get("total");
    const signed = `${bias < 0 ? "−" : "+"} bias ${Math.abs(bias).toFixed(3)}`;
    const sum = `${fixed(total, 3)} ${signed} = ${fixed(total + bias, 3)}`;
    product.textContent = `Sum of ${inputs} products ${sum}`;
  }

  function drawVectors() {
    const fits = get("vectors").byteLength > 0;
    const inside = get("patch") >= 0;
    const size = get("own_patch_size");
    projection.hidden = !fits || !inside;
    none.hidden = fits && inside;
    none.textContent = inside
      ? `The matrix of this checkpoint takes patches of ${size} × ${size} pixels. Another patch size needs ` +
        "another matrix, and another training."
      : CLASS_TOKEN;
    for (const { row } of strips) row.hidden = !fits;
    if (!fits) return;
    const rows = readFloat16(get("vectors"), hiddenSize());
    strips[0].label.textContent = inside ? "patch × matrix" : "class token";
    for (const [at, { canvas }] of strips.entries()) strip(canvas, rows[at]);
    output.max = hiddenSize();
    output.value = get("output") + 1;
    if (!inside) return;
    strip(vector, rows[0], get("output"));
    drawMatrix();
    drawRow();
  }

  // --- all of it
  function draw() {
    const [rows, columns] = get("grid");
    const size = get("patch_size");
    for (const [name, part] of Object.entries(sizes)) part.draw(get(name));
    shape.checked = get("keep_shape");
    own.disabled = size === get("own_patch_size") && get("side") === get("own_side") && !get("keep_shape");
    const tokens = `${rows} × ${columns} patches + ${get("prefix")} = ${count() + get("prefix")} tokens`;
    sum.replaceChildren(`${columns * size} × ${rows * size} pixels: `, element("b", tokens));
    board.setCursor(get("patch"));
    sequence.setCursor(get("patch") + 1);
    input.draw();
    drawPatchNumbers();
    drawVectors();
    shown.refresh();
    drawPictures();
  }

  return view.show(draw, { resized: draw, end: shown.stop });
}

export default { render };
