// What is said of one step: its cost in words, the distributions of its newest token, its sibling steps.

function costWords(cost) {
  if (!cost) return "";
  const words = { rows: "token rows", macs: "multiply-adds", ms: "ms" };
  const named = (name) => cost[name] === 1 ? words[name].replace(/s$/, "") : words[name];
  return ["rows", "macs", "ms"].filter((name) => cost[name]).map((name) => `${tidy(cost[name])} ${named(name)}`)
    .join(" · ");
}

// Distributions of the step's newest token, if there are few new tokens, and a row of sibling steps (trials, branches).
function momentBlock(drawing, step, go) {
  const frame = drawing.frames[step], fresh = [], state = drawing.state(step), code = STATES.indexOf("new");
  for (let i = 0; i < state.length && fresh.length < 2; i++) if (state[i] === code) fresh.push(i);
  const place = fresh.length ? fresh[0] : firstPosition(drawing, step);
  const asked = { sample: frame.clean ? -1 : place, attend: firstPosition(drawing, step) }[drawing.tab] ?? -1;
  const lists = asked < 0 ? [] : drawing.candidates(step, asked);
  const sibling = (f) => ["trial", "branch", "sample"].includes(f.level) && f.parent !== undefined &&
    (f.parent ?? -1) === (frame.parent ?? step);
  const around = drawing.frames.map((f, i) => [f, i]).filter(([f]) => sibling(f));
  if (!lists.length && !around.length) return null;
  const box = el("div", { class: "ts-panel ts-now" });
  if (lists.length) {
    box.append(el("h3", { text: drawing.tab === "attend" ? "What the model predicts here" : "What could come here" }),
      el("div", { class: "ts-lists" }, ...candidateLists(lists, 8, step)));
  }
  const trial = ([f, i]) => el("button", { type: "button", "aria-pressed": String(i === step), onclick: () => go(i),
    text: [f.label, f.note].filter(Boolean).join(": ") });
  if (around.length) {
    box.append(el("h3", { text: "Trials of this step" }),
      el("div", { class: "ts-trials" }, ...around.map(trial)));
  }
  return box;
}

function firstPosition(drawing, step) {
  const lists = Object.values(drawing.frames[step].candidates || {});
  return lists.length ? drawing.array(lists[0].at, Uint16Array)[0] : -1;
}
