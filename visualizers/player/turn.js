// Your turn: the visitor does the method's job by hand, on the left canvas, within the method's own budget.

class Turn {
  constructor(spec, size, changed, done) {
    Object.assign(this, { spec, size, changed, done });
    this.picked = []; // token identities in the order of choosing
    this.locked = new Set(spec.locked || []);
    this.budget = Math.min(spec.groups.reduce((a, b) => a + b, 0), size - this.locked.size);
    this.ends = spec.groups.map((sum => (n) => sum += n)(0));
    this.counter = el("b", { class: "ts-num", role: "status" });
    if (spec.options) return void this.offer();
    this.undo = el("button", { type: "button", text: "Undo", onclick: () => { this.picked.pop(); this.update(); } });
    this.clear = el("button", { type: "button", text: "Clear", onclick: () => { this.picked = []; this.update(); } });
    this.send = el("button", { type: "button", class: "ts-primary", text: "Score my choice",
      onclick: () => this.done(this.groups()) });
    this.bar = el("div", { class: "ts-turn" }, el("p", { text: spec.prompt }),
      el("div", { class: "ts-turn-row" }, this.counter, this.undo, this.clear, this.send));
    this.update();
  }

  // Candidates for one open place, instead of picking on the canvas.
  offer() {
    const spec = this.spec;
    this.locked = new Set(Array.from({ length: spec.at + 1 }, (_, token) => token));
    this.counter.textContent = `${spec.made + 1} of ${spec.groups.length}`;
    const button = (text, index) => el("button", { type: "button", class: "ts-option", text, onclick: () => {
      for (const other of this.bar.querySelectorAll("button")) other.disabled = true; // one answer per question
      this.done([[index]]);
    } });
    this.bar = el("div", { class: "ts-turn" }, el("p", { text: spec.prompt }),
      el("div", { class: "ts-turn-row", role: "group", "aria-label": "Candidates" },
        this.counter, ...spec.options.map(button)));
  }

  // press: the first token of a drag decides whether the drag adds or takes away
  press(token, adding = null) {
    if (this.locked.has(token)) return null;
    const at = this.picked.indexOf(token), add = adding === null ? at < 0 : adding;
    if (add && at < 0 && this.picked.length < this.budget) this.picked.push(token);
    if (!add && at >= 0) this.picked.splice(at, 1);
    this.update();
    return add;
  }

  group(index) { return this.ends.findIndex((end) => index < end); }

  complete() {
    const count = this.picked.length, full = count === this.budget && this.budget > 0;
    return this.ends.filter((end) => end <= count || full).length;
  }

  groups() {
    const starts = [0, ...this.ends];
    const made = this.ends.map((end, g) => this.picked.slice(starts[g], end));
    return made.slice(0, Math.max(1, this.complete())).filter((g) => g.length);
  }

  update() {
    const count = this.picked.length, many = this.ends.length > 1;
    const group = Math.min(this.group(Math.min(count, this.budget - 1)), this.ends.length - 1);
    const place = many ? `, group ${group + 1} of ${this.ends.length}` : "";
    this.counter.textContent = `${count} of ${this.budget} ${this.spec.unit} chosen${place}`;
    this.undo.disabled = this.clear.disabled = count === 0;
    this.send.disabled = this.complete() === 0;
    this.changed();
  }

  // The marks of the left canvas while choosing: nothing but the subject, and what was chosen. What is hidden and no
  // part of the game stays covered, under the number that its label ends with.
  marks(drawing, page) {
    if (this.spec.options) return this.open(drawing, page);
    const at = new Map(this.picked.map((token, index) => [token, index]));
    return Array.from({ length: drawing.size }, (_, token) => {
      const chosen = at.has(token), text = drawing.layout.labels[token] ?? "";
      if (this.locked.has(token) && drawing.hides(0, token)) {
        return { token, fill: THEME.cover.dark, share: 1, cue: "", edge: page.accent, fade: 1, text,
          number: text.split(" ").pop() };
      }
      const number = chosen && this.ends.length > 1 ? String(this.group(at.get(token)) + 1) : "";
      return { token, fill: chosen ? page.accent : null, share: chosen ? 0.75 : 0, cue: chosen ? "outline" : "",
        edge: page.accent, fade: 1, text, number };
    });
  }

  // A draft stands in its picture, as in any step; in a text the place that is open is all there is to see.
  watches(drawing) { return Boolean(this.spec.options) && drawing.layout.kind !== "text"; }

  // The text so far; the visitor's words are tinted, and the open place is a question mark.
  open(drawing, page) {
    const { at, made } = this.spec;
    return Array.from({ length: drawing.size }, (_, token) => {
      const mine = token < at && token >= at - made, here = token === at;
      return { token, fill: mine || here ? page.accent : null, share: mine ? 0.35 : here ? 0.75 : 0,
        cue: here ? "outline" : "", edge: page.accent, fade: 1,
        text: here ? " ? " : token < at ? drawing.layout.labels[token] ?? "" : "", number: "" };
    });
  }
}
