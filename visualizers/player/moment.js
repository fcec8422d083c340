// What is said of one step: its cost in words, the distributions of its newest token, its sibling steps.

function costWords(cost) {
  if (!cost) return "";
  const words = { rows: "token rows", macs: "multiply-adds" };
  const named = (name) => cost[name] === 1 ? words[name].replace(/s$/, "") : words[name];
  return Object.keys(words).filter((name) => cost[name])
    .map((name) => `${tidy(cost[name])} ${named(name)}`).join(" · ");
}

// A percentage is not torn apart at the end of a line.
function unbroken(text) {
  const kept = (part) => el("span", { class: "ts-kept", text: part });
  return text.split(/([<>]?\s?[\d.,]*\d %)/).map((part, i) => (i % 2 ? kept(part) : part));
}

const WON = { best: "✓ best here", equal: "equal here", unlike: "another measure, no winner" };

// The one fact above a picture: what it is, which way is better, and who won where several stand side by side.
function headlineOf(drawing) {
  const { title, text, better, won } = drawing.headline || {};
  if (!title) return null;
  const way = better ? `, ${better} is better` : "", place = WON[won], kept = text.length < 24 ? " ts-kept" : "";
  const number = el("b", { class: `ts-num${kept}`, text: text.replace(" ", "\u00a0") }); // its unit begins on its line
  return el("div", { class: "ts-main" },
    el("div", {}, el("span", { text: `${title} ` }), number, el("span", { text: way })),
    place ? el("div", { class: `ts-won ts-${won}`, text: place }) : null);
}

// What the model has answered so far, outside the long text that it read.
function answerOf(drawing, step) {
  const words = drawing.layout.roles.map((role, token) =>
    role === "answer" && !drawing.hides(step, token) ? drawing.text(step, token) : "").join("").trim();
  return words ? readable(words, false) : "…";
}

// Distributions of the step's newest token, if there are few new tokens, and a row of sibling steps (trials, branches).
function momentBlock(drawing, step, go) {
  const frame = drawing.frames[step], fresh = [], state = drawing.state(step), code = STATES.indexOf("new");
  for (let i = 0; i < state.length && fresh.length < 2; i++) if (state[i] === code) fresh.push(i);
  const place = fresh.length ? fresh[0] : firstPosition(drawing, step);
  const last = state.findLastIndex((one) => !THEME.looks[one].hides); // at the end: what else the last token could be
  const asked = { sample: frame.clean ? last : place, attend: firstPosition(drawing, step) }[drawing.tab] ?? -1;
  const lists = asked < 0 ? [] : drawing.candidates(step, asked);
  const sibling = (f) => ["trial", "branch", "sample"].includes(f.level) && f.parent !== undefined &&
    (f.parent ?? -1) === (frame.parent ?? step);
  const around = drawing.frames.map((f, i) => [f, i]).filter(([f]) => sibling(f));
  if (!lists.length && !around.length) return null;
  const box = el("div", { class: "ts-panel ts-now" });
  const head = frame.clean ? "What could have come last" : drawing.tab === "attend" ? "What the model predicts here"
    : "What could come here";
  if (lists.length) {
    box.append(el("h3", { text: head }),
      el("div", { class: "ts-lists" }, ...candidateLists(lists, lists.length > 3 ? 4 : 8, step)));
  }
  const trial = ([f, i]) => el("button", { type: "button", "aria-pressed": String(i === step), onclick: () => go(i),
    text: [f.label, f.note].filter(Boolean).join(": ") });
  if (around.length) {
    box.append(el("h3", { text: "Drawn from here" }),
      el("div", { class: "ts-trials" }, ...around.map(trial)));
  }
  return box;
}

function firstPosition(drawing, step) {
  const lists = Object.values(drawing.frames[step].candidates || {});
  return lists.length ? drawing.array(lists[0].at, Uint16Array)[0] : -1;
}
