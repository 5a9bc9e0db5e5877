// NextSentence: two texts, whether they follow each other, the tokens with the attention that [CLS] gives
// them, who looks at whom in each layer, and a game. See next_sentence.py for the traits.

import { attentionOf, bar, button, choice, exampleMenu, note, part, textField } from "./parts.js";
import { element, frame, percent, readFloat16 } from "./shared.js";

const WHO = ["[CLS] looks at", "first looks at", "second looks at"];
const WHOM = ["the first", "the second", "[CLS] and [SEP]"];
const SIDES = ["first", "second", "special"];

function render({ model, el }) {
  const view = frame(model, el, "next-sentence");
  const { content, get, send, message, show } = view;

  // --- the texts and the answer
  const first = textField(view, "first", "First sentence · segment 0", "first");
  const second = textField(view, "second", "Second sentence · segment 1", "second");
  const remark = element("p.remark", { role: "status" });
  const answer = element("div.answer", { role: "status" });

  // --- the tokens
  const reads = { role: "list", "aria-label": "What the model reads", tabindex: 0 };
  const strip = element("div.strip", reads);
  const places = { front: "in front", middle: "in the middle", end: "at the end" };
  const place = choice("[CLS] stands", places, (cls_at) => send({ cls_at }));
  const ways = { follow: "follow the place", stay: "stay with the token" };
  const numbers = choice("Position ids", ways, (positions) => send({ positions }));
  const rollout = [[get("layers"), "all (rollout)"]];
  const attention = attentionOf(view, "Attention from [CLS]: layer", rollout);

  // --- attention by layer, and the game
  const table = element("div.between");
  const game = element("section.part.game", { "aria-label": "A game of ten pairs" });
  content.append(
    element("div.columns.texts", first.node, second.node),
    element(
      "div.bar-row",
      exampleMenu(view, "Pick a pair …"),
      button("Swap", () => message({ do: "swap" })),
      button("Random second sentence", () => message({ do: "random second" })),
    ),
    remark,
    answer,
    strip,
    note(
      [element("span.swatch.first"), "segment 0", element("span.swatch.second"), "segment 1"],
      [element("span.swatch"), "[CLS] and [SEP] · below each token: segment id · position id"],
      " · above it: attention from [CLS]",
    ),
    element("div.bar-row", place.node, numbers.node, attention.node),
    element(
      "div.columns",
      part(
        "Who looks at whom, layer by layer",
        table,
        note(
          "Each bar is all the attention of a group: blue goes to words of the first sentence, ",
          "orange to the second, grey to [CLS] and [SEP].",
        ),
      ),
      game,
    ),
  );

  // --- drawing
  function drawAnswer() {
    const [now, before] = [get("is_next"), get("at_front")];
    const moved = get("cls_at") !== "front";
    const differs = Math.abs(now - before) > 0.0005;
    const inFront = `With [CLS] in front it is ${percent(before)} (the tick).`;
    const options = { before: moved && differs ? before : null, told: "with [CLS] in front:" };
    answer.replaceChildren(
      bar("The second follows the first", now, options),
      note(moved ? (differs ? inFront : "The same as with [CLS] in front.") : ""),
    );
  }

  function drawStrip() {
    const tokens = get("tokens");
    const [weights = []] = readFloat16(get("weights"), tokens.length);
    const strongest = Math.max(...weights, 1e-9);
    const token = ({ text, kind, id, segment, position }, index) => {
      const height = Math.round((34 * weights[index]) / strongest);
      const share = `[CLS] gives it ${percent(weights[index])} of its attention`;
      const title = `vocabulary id ${id}, segment ${segment}, position ${position}; ${share}`;
      return element(
        `span.token.${kind === "word" ? SIDES[segment] : kind}`,
        { role: "listitem", title },
        element("i", { "aria-hidden": true, style: `height: ${height}px` }),
        element("b", text),
        element("small", `${segment} · ${position}`),
      );
    };
    strip.replaceChildren(...tokens.map(token));
  }

  function drawBetween() {
    const stack = (layer, who, shares) => {
      const title = shares.map((share, at) => `${WHOM[at]} ${percent(share)}`).join(", ");
      const parts = shares.map((share, at) => element(`i.${SIDES[at]}`, { style: `flex-grow: ${share}` }));
      const label = `Layer ${layer + 1}, ${WHO[who]}: ${title}`;
      return element("span.stack", { role: "img", "aria-label": label, title }, ...parts);
    };
    const line = (row, layer) => [
      element("span.note", layer + 1),
      ...WHO.map((_, who) => stack(layer, who, row.slice(3 * who, 3 * who + 3))),
    ];
    table.replaceChildren(
      ...["layer", ...WHO].map((name) => element("span.note", name)),
      ...readFloat16(get("between"), 9).flatMap(line),
    );
  }

  // --- the game
  function invitation() {
    return [
      element("h4", "Game: ten pairs"),
      element(
        "p",
        "You judge first, then you see what BERT says. Half of the pairs are mixed from two different texts.",
      ),
      button("Play", () => message({ do: "play" })),
    ];
  }

  function score({ you, bert, truth, round }) {
    const of = truth == null ? round - 1 : round;
    return element("p.score", "You ", element("b", you), " · BERT ", element("b", bert), ` of ${of}`);
  }

  function ending(now) {
    const { you, bert } = now;
    const end = you > bert ? "You were better than BERT." : "BERT was better this time.";
    return [
      element("h4", "Game over"),
      score(now),
      element("p", you === bert ? "A draw." : end),
      element(
        "div.group",
        button("Play again", () => message({ do: "play" })),
        button("Close", () => message({ do: "stop" })),
      ),
    ];
  }

  function question(now) {
    return [
      element("p", "Does the second sentence follow the first?"),
      element(
        "div.group",
        button("It follows", () => message({ do: "guess", is_next: true })),
        button("It is from elsewhere", () => message({ do: "guess", is_next: false })),
        button("Stop", () => message({ do: "stop" })),
      ),
      now.round > 1 ? score(now) : null,
    ];
  }

  function solution(now) {
    const right = element("b", now.guess === now.truth ? "Right. " : "Not this time. ");
    const truth = now.truth ? "It does follow." : "It is from elsewhere.";
    const says = ` BERT says ${now.model > 0.5 ? "it follows" : "it does not"}:`;
    return [
      element("p", { role: "status" }, right, truth, says),
      bar("It follows", now.model),
      element(
        "div.group",
        button(now.round === now.rounds ? "See the result" : "Next pair", () =>
          message({ do: "next round" }),
        ),
        button("Look inside", () => message({ do: "look inside" })),
      ),
      score(now),
    ];
  }

  function drawGame() {
    const now = get("game");
    const played = game.contains(game.getRootNode().activeElement);
    const sentences = () => [
      element("h4", `Pair ${now.round} of ${now.rounds}`),
      element("p.side.first", now.first),
      element("p.side.second", now.second),
      ...(now.truth == null ? question(now) : solution(now)),
    ];
    const shown = !now.round ? invitation() : now.over ? ending(now) : sentences();
    game.replaceChildren(...shown.filter(Boolean));
    if (played) game.querySelector("button").focus(); // the button that was pressed is gone
  }

  function draw() {
    for (const text of [first, second]) text.draw();
    remark.textContent = get("note");
    place.draw(get("cls_at"));
    numbers.draw(get("positions"));
    attention.draw();
    drawAnswer();
    drawStrip();
    drawBetween();
    drawGame();
  }
  return show(draw);
}

export default { render };
