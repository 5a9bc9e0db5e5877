// NextSentence: two texts, whether they follow each other, the tokens with the attention that [CLS] gives
// them, and a game; who looks at whom is in the strip's layers. See next_sentence.py for the traits.

import { bar, button, columns, note, row, viewOf } from "./parts.js";
import { element, percent, readFloat16 } from "./shared.js";
import { stripOf } from "./strip.js";

const GAME = "You judge first, then you see what BERT says. Half of the pairs are mixed from two texts.";
const WHO = ["[CLS] looks at", "first looks at", "second looks at"];
const WHOM = ["the first", "the second", "[CLS] and [SEP]"];
const HELP =
  "Each bar is all the attention of a group: blue goes to words of the first sentence, orange to the " +
  "second, grey to [CLS] and [SEP].";
const SIDES = ["first", "second", "special"];

function render({ model, el }) {
  const view = viewOf(model, el, "next-sentence");
  const { get, message } = view;

  const answer = view.live("div.answer", { role: "status" }, () => {
    const [now, before] = [get("is_next"), get("at_front")];
    const moved = get("cls_at") !== "front";
    const differs = moved && Math.abs(now - before) > 0.0005;
    const inFront = `With [CLS] in front it is ${percent(before)} (the tick).`;
    const options = { before: differs ? before : null, told: "with [CLS] in front:", kind: "best" };
    const told = differs ? inFront : "The same as with [CLS] in front.";
    const first = `The same, read from “${get("tokens")[0].text}”`;
    return [
      bar("The second follows the first", now, options),
      note(moved && told),
      moved && bar(first, get("of_first")),
      moved && note("Now that word is the first of the row."),
    ];
  });

  // --- the tokens, and who looks at whom
  const reads = { role: "list", "aria-label": "What the model reads", tabindex: 0, dir: "auto" };
  const strip = view.live("div.strip.group.scroll", reads, () => {
    const tokens = get("tokens");
    const [weights = []] = readFloat16(get("weights"), tokens.length);
    const strongest = Math.max(...weights, 1e-9);
    return tokens.map(({ text, kind, id, segment, position }, index) => {
      const height = Math.round((34 * weights[index]) / strongest);
      const share = `[CLS] gives it ${percent(weights[index])} of its attention`;
      const title = `vocabulary id ${id}, segment ${segment}, position ${position}; ${share}`;
      return element(
        `span.token.${kind === "word" ? SIDES[segment] : kind}`,
        { role: "listitem", title, dir: kind === "word" ? null : "ltr" },
        element("i", { "aria-hidden": true, style: `height: ${height}px` }),
        element("b", text),
        element("small", `${segment} · ${position}`),
      );
    });
  });
  const stack = (layer, who, shares) => {
    const title = shares.map((share, at) => `${WHOM[at]} ${percent(share)}`).join(", ");
    const parts = shares.map((share, at) => element(`i.${SIDES[at]}`, { style: `flex-grow: ${share}` }));
    const label = `Layer ${layer + 1}, ${WHO[who]}: ${title}`;
    return element("span.stack", { role: "img", "aria-label": label, title }, ...parts);
  };
  const between = (view) => [
    element("h4", "Who looks at whom, layer by layer"),
    view.live("div.between", () => [
      ...["layer", ...WHO].map((name) => element("span.note", name)),
      ...readFloat16(get("between"), 9).flatMap((row, layer) => [
        element("span.note", layer + 1),
        ...WHO.map((_, who) => stack(layer, who, row.slice(3 * who, 3 * who + 3))),
      ]),
    ]),
    note(HELP),
  ];

  // --- the game
  const buttons = (asks) =>
    element("div.group", ...Object.entries(asks).map(([text, what]) => button(text, () => message(what))));

  function score({ you, bert, truth, round }) {
    const of = truth == null ? round - 1 : round;
    return element("p.score", "You ", element("b", you), " · BERT ", element("b", bert), ` of ${of}`);
  }

  const play = {
    "Play: different things": { do: "play" },
    "Play: same topic": { do: "play", same_topic: true },
  };

  const invitation = () => [row(element("h4", "Game: ten pairs"), buttons(play))];

  function ending(now) {
    const { you, bert } = now;
    const end = you > bert ? "You were better than BERT." : "BERT was better this time.";
    const draw = you === bert ? "A draw." : end;
    const all = buttons({ ...play, Close: { do: "stop" } });
    return [element("h4", "Game over"), score(now), element("p", draw), all];
  }

  const question = (now) => [
    now.round === 1 && note(GAME),
    element("p", "Does the second sentence follow the first?"),
    buttons({
      "It follows": { do: "guess", is_next: true },
      "It is from elsewhere": { do: "guess", is_next: false },
      Stop: { do: "stop" },
    }),
    now.round > 1 && score(now),
  ];

  function solution(now) {
    const right = element("b", now.guess === now.truth ? "Right. " : "Not this time. ");
    const truth = now.truth ? "It does follow." : "It is from elsewhere.";
    const says = ` BERT says ${now.model > 0.5 ? "it follows" : "it does not"}:`;
    const next = now.round === now.rounds ? "See the result" : "Next pair";
    return [
      element("p", { role: "status" }, right, truth, says),
      bar("It follows", now.model),
      buttons({ [next]: { do: "next round" }, "Look inside": { do: "look inside" } }),
      score(now),
    ];
  }

  let moment = ""; // of the game
  const game = view.live("section.part.game", { "aria-label": "A game of ten pairs" }, () => {
    const now = get("game");
    const first = () => game.querySelector("button").focus(); // the button that was pressed is gone
    const before = moment;
    moment = String([now.round, now.truth, now.over]);
    if (moment !== before && game.contains(game.getRootNode().activeElement)) queueMicrotask(first);
    if (!now.round) return invitation();
    if (now.over) return ending(now);
    return [
      element("h4", `Pair ${now.round} of ${now.rounds}`),
      element("p.side.first", now.first),
      element("p.side.second", now.second),
      ...(now.truth == null ? question(now) : solution(now)),
    ];
  });
  // --- all of it
  const places = { front: "in front", middle: "in the middle", end: "at the end" };
  const ways = { follow: "follow the place", stay: "stay with the token" };
  view.content.append(
    ...stripOf(view, { layer: between }),
    columns(
      "1fr 1fr",
      view.textField("first", "First sentence · segment 0", "first").node,
      view.textField("second", "Second sentence · segment 1", "second").node,
    ),
    row(
      view.exampleMenu("Pick a pair …"),
      button("Swap", () => message({ do: "swap" })),
      button("Random second sentence", () => message({ do: "random second" })),
    ),
    view.remark(),
    answer,
    strip,
    note(
      [element("span.swatch.first"), "segment 0", element("span.swatch.second"), "segment 1"],
      [element("span.swatch"), "[CLS] and [SEP] · below each token: segment id · position id"],
      " · above it: attention from [CLS]",
    ),
    row(
      view.choice("cls_at", "[CLS] stands", places),
      view.choice("positions", "Position ids", ways),
      view.attentionOf("Attention from [CLS]: layer", [[get("layers"), "all (rollout)"]]),
    ),
    game,
  );
  return view.show();
}

export default { render };
