// PatchSplitter: a picture as patches, one patch as numbers, times the matrix, and the sequence that results.
// See patch_splitter.py for the traits.

import { cellUnder, outline, penOf, pixels, signedPixels } from "./drawing.js";
import { button, columns, note, part, row, section, viewOf } from "./parts.js";
import { framePatches, patchArea, patchBoard, pictureInput, pictureOf } from "./picture.js";
import { element, equals, fixed, range, readFloat16, within } from "./shared.js";
import { stripOf } from "./strip.js";

const CLASS_TOKEN =
  "In front stands *, the class token: one learned vector, the same for every picture and part of none.";
const picture = (kind, label) => element(`canvas.${kind}`, { role: "img", "aria-label": label });

// What the drawer adds: the pixels of one patch, its numbers in a row, and the matrix.
function patchOf(view) {
  const { get, send, ink, drawn } = view;
  const hiddenSize = () => get("matrix_shape")[3];

  const large = picture("large", "");
  const bands = picture("strip", "");
  const told = element("p.note", { "aria-live": "polite" });
  const values = () => readFloat16(get("values"), 3 * get("patch_size") ** 2)[0];
  const colors = () => new Uint8Array(get("colors").buffer, get("colors").byteOffset);
  const titleOf = () => {
    const [patch, columns] = [get("patch"), get("grid")[1]];
    return `Patch ${patch + 1}: row ${Math.floor(patch / columns) + 1}, column ${(patch % columns) + 1}`;
  };
  large.onmousemove = (event) => tellPixel(cellUnder(event, [get("patch_size"), get("patch_size")]));
  large.onmouseleave = () => tellPixel(null);

  function tellPixel(cell) {
    told.textContent = "Point at a pixel to read it.";
    if (!cell) return;
    const at = cell[0] * get("patch_size") + cell[1];
    const read = ["red", "green", "blue"].map((name, band) => {
      const place = band * get("patch_size") ** 2 + at;
      return `${name} ${colors()[place]} → ${fixed(values()[place], 2)}`;
    });
    told.textContent = `pixel ${at + 1}: ${read.join(", ")}`;
  }

  const numbers = { tabindex: 0, role: "region", "aria-label": "All numbers of the patch" };
  const flat = note("Flattened: all red values row by row, then green, then blue.");
  const one = element(
    "section.part",
    { "aria-label": "One patch" },
    view.live("h4", titleOf),
    row(large, element("div.flat", flat, bands, told)),
    view.live("p.numbers.scroll", numbers, () => {
      const written = values().map((value) => fixed(value, 2));
      return `${written.length} numbers: ${written.join("  ")}`;
    }),
  );
  drawn(() => {
    const size = get("patch_size");
    const area = size * size;
    const seen = colors();
    one.hidden = get("patch") < 0;
    large.setAttribute("aria-label", `${titleOf()}, ${size} by ${size} pixels`);
    bands.setAttribute("aria-label", `Its ${3 * area} values as colours`);
    pixels(size, size, (at) => [seen[at], seen[area + at], seen[2 * area + at], 255], large);
    const bandColor = (at) => range(3).map((band) => (Math.floor(at / area) === band ? seen[at] : 0));
    pixels(1, 3 * area, (at) => [...bandColor(at), 255], bands);
    tellPixel(null);
  });

  // --- the projection
  const map = picture("map.pick", "The matrix E, a column for each number of the vector");
  const filter = picture("filter", "The column of E, laid out like the patch");
  const vector = picture("strip.pick", "The resulting vector, a number below each column of E");
  map.onclick = vector.onclick = (event) => {
    const cell = cellUnder(event, [1, hiddenSize()]);
    if (cell) send({ output: cell[1] });
  };
  const outputFrom1 = view.with({
    get: () => get("output") + 1,
    send: ({ output }) => send({ output: output - 1 }),
  });
  const projection = part(
    "Times one matrix",
    view.live("p.note", () => {
      const [, , inputs, all] = get("matrix_shape");
      const size = `the matrix E of ${inputs} × ${all}, the same for every patch`;
      return `${inputs} numbers x in, ${all} out: ${size}. Blue is positive, orange negative.`;
    }),
    row(
      element("figure", filter, element("figcaption.note", "this column, as a patch")),
      element("figure.product-of", map, vector, element("figcaption.note", "E, and below it x E + b")),
    ),
    outputFrom1.numberField("output", "Number of the vector", [1, hiddenSize()], "Number", "of the vector"),
    view.live("p.product", () => {
      const [total, bias] = get("total");
      const sign = equals([total, bias], total + bias, 3);
      const sum = `${fixed(total, 3)} + bias ${fixed(bias, 3)} ${sign} ${fixed(total + bias, 3)}`;
      return `Sum of ${get("matrix_shape")[2]} products ${sum}`;
    }),
  );
  // Numbers as colours, over the whole canvas, and a frame around the chosen one of so many columns.
  function paintSigned(canvas, rows, all) {
    const pen = penOf(canvas);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    pen.imageSmoothingEnabled = false;
    pen.drawImage(signedPixels(element("canvas"), rows, ink), 0, 0, width, height);
    outline(pen, [(get("output") / all) * width, 0, Math.max(3, width / all), height], ink("--ink"), 1.5);
  }

  function drawNumbers() {
    projection.hidden = get("patch") < 0 || !get("vector").byteLength;
    if (projection.hidden) return;
    const [rows, columns, inputs, all] = get("matrix_shape");
    const numberAt = (row, column) => get("matrix").getInt8(row * columns + column);
    const table = range(rows).map((row) => range(columns).map((column) => numberAt(row, column)));
    paintSigned(vector, readFloat16(get("vector"), hiddenSize()), hiddenSize());
    paintSigned(map, table, all);
    if (!get("weights").byteLength) return;
    const [weights] = readFloat16(get("weights"), inputs);
    const size = get("own_patch_size");
    const most = Math.max(...weights.map(Math.abs), 1e-9);
    const grey = (weight) => 128 + (127 * weight) / most;
    const color = (at) => [...range(3).map((band) => grey(weights[band * size * size + at])), 255];
    pixels(size, size, color, filter);
  }
  drawn(drawNumbers);
  return columns("1fr 1fr", one, projection);
}

function render({ model, el }) {
  const view = viewOf(model, el, "patch-splitter");
  const { content, get, send, ink, drawn } = view;
  const count = () => get("grid")[0] * get("grid")[1];
  const inside = () => get("patch") >= 0; // it is a patch, and not the class token
  const shown = pictureOf(view);
  const input = pictureInput(view);

  // --- sizes
  const inPixels = { show: (value) => `${value} pixels`, when: "change" };
  const largest = [Math.max(32, get("own_patch_size")), Math.min(1024, 2 * get("own_side"))];
  const asItIs = { side: get("own_side"), patch_size: get("own_patch_size"), keep_shape: false };
  const shape = element("input", { type: "checkbox", onchange: () => send({ keep_shape: shape.checked }) });
  const own = button("As the checkpoint has it", () => send(asItIs));
  drawn(() => {
    shape.checked = get("keep_shape");
    own.disabled = Object.entries(asItIs).every(([trait, value]) => get(trait) === value);
    board.setCursor(get("patch"));
    sequence.setCursor(get("patch") + 1);
  });

  // --- the picture, and the sequence
  const board = patchBoard({
    label: "The picture in patches. Arrow keys move, Enter chooses a patch.",
    grid: () => get("grid"),
    click: (patch) => send({ patch }),
    paint(pen, width, height, now) {
      if (!shown.ready()) return;
      pen.drawImage(shown.image, 0, 0, width, height);
      framePatches(pen, get("grid"), width, height, 0.6, inside() ? [get("patch")] : []);
      if (now >= 0) outline(pen, patchArea(now, get("grid"), width, height), "#fff", 3);
    },
    most: 380,
  });
  const sum = view.live("p.sum", () => {
    const [[rows, columns], size] = [get("grid"), get("patch_size")];
    const tokens = `${rows} × ${columns} patches + ${get("prefix")} = ${count() + get("prefix")} tokens`;
    return [`${columns * size} × ${rows * size} pixels: `, element("b", tokens)];
  });
  const columnsOf = () =>
    within(Math.floor(sequence.node.clientWidth / (count() > 300 ? 18 : 36)), 6, count() + 1);
  const sequence = patchBoard({
    label: "All tokens, the class token * first. Arrow keys move, Enter chooses one.",
    most: 4000,
    grid: () => [Math.ceil((count() + 1) / columnsOf()), columnsOf()],
    click: (token) => token <= count() && send({ patch: token - 1 }),
    paint: paintSequence,
  });

  function drawClassToken(pen, [x, y, side]) {
    pen.fillStyle = ink("--accent");
    pen.fillRect(x, y, side, side);
    pen.fillStyle = "#fff";
    pen.font = `600 ${side}px sans-serif`;
    pen.textAlign = "center";
    pen.fillText("*", x + side / 2, y + 0.97 * side);
  }

  function paintSequence(pen, width, _, now) {
    if (!shown.ready()) return;
    const columns = columnsOf();
    const cell = width / columns;
    const gap = cell > 24 ? 4 : 2;
    for (const token of range(count() + 1)) {
      const [x, y] = [(token % columns) * cell + gap / 2, Math.floor(token / columns) * cell + gap / 2];
      const area = [x, y, cell - gap, cell - gap];
      if (token) shown.drawPatch(pen, token - 1, area);
      else drawClassToken(pen, area);
      if (token === get("patch") + 1) outline(pen, area, ink("--accent-ink"), 3);
      else if (token === now) outline(pen, area, ink("--ink"));
    }
  }

  // Words and patches beside each other.
  const words = view.live("div.both", () => {
    const texts = get("words");
    const patches = within(texts.length - 1, 1, count());
    const begin = within(get("patch") - 2, 0, count() - patches);
    const token = (child, place) =>
      element(place ? "span.token" : "span.token.first", child, element("small", place));
    const size = { width: 34, height: 34, role: "img" };
    const thumbs = range(patches).map((index) => {
      const canvas = element("canvas.thumb", { ...size, "aria-label": `patch ${begin + index + 1}` });
      const pen = canvas.getContext("2d");
      pen.imageSmoothingEnabled = false;
      if (shown.ready()) shown.drawPatch(pen, begin + index, [0, 0, 34, 34]);
      return token(canvas, begin + index + 1);
    });
    return [
      element("b", "words"),
      element("div.group", ...texts.map((text, at) => token(element("i", text), at))),
      note("each piece: a row of a table"),
      element("b", "patches"),
      element("div.group", token(element("i", "*"), 0), ...thumbs, begin + patches < count() && "…"),
      note("each patch: its pixels times a matrix"),
    ];
  });

  drawn(board.draw);
  drawn(sequence.draw);

  const pick = (token) => ({ patch: token - get("prefix") });
  const both = part("The same, with words", words);
  drawn(() => {
    both.hidden = !get("words").length;
  });
  content.append(
    ...stripOf(view, { pick, embeddings: patchOf, nothing: patchOf }),
    note("A picture is cut into patches; each becomes a token. Click a patch, or walk with the arrow keys."),
    input,
    row(
      view.slider("patch_size", "Patch size", [4, largest[0], 1], inPixels),
      view.slider("side", "Picture size", [32, largest[1], 1], inPixels),
      element("label.field", shape, "keep the picture's shape"),
      own,
    ),
    columns(
      "5fr 8fr",
      section("Picture", board.node, sum),
      part("The sequence", sequence.node, note(CLASS_TOKEN)),
    ),
    both,
  );
  return view.show();
}

export default { render };
