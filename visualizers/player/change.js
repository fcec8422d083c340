// Changing a run in its middle: the pressed token is overwritten or kept, the chosen head is switched off. Python runs
// it again from there, and the untouched run stands beside it.

class Change {
  constructor(spec, send) {
    Object.assign(this, { spec, send, token: null });
    this.what = el("div", { class: "ts-turn-row" });
    this.told = el("p", { class: "ts-soft", role: "status" });
    const undo = el("button", { type: "button", text: "Undo all changes", onclick: () => this.ask({ kind: "undo" }) });
    this.bar = el("div", { class: "ts-change", role: "group", "aria-label": "Change the run" },
      ...spec.made.map((text) => el("p", { text })), this.told, this.what, spec.made.length ? undo : null);
  }

  ask(message) {
    for (const button of this.bar.querySelectorAll("button")) button.disabled = true; // one change at a time
    this.send(message);
  }

  can(kind) { return this.spec.kinds.includes(kind); }

  // What can be done with the token that was pressed, at this step.
  press(drawing, step, token) {
    Object.assign(this, { token, step });
    this.refresh(drawing, step, null);
  }

  refresh(drawing, step, view) {
    if (this.spec.why) return void (this.told.textContent = this.spec.why);
    if (this.can("off")) return this.heads(drawing, view);
    if (view && (this.token === null || step === this.shown)) return this.hint();
    this.shown = step;
    if (this.token === null) return this.hint();
    if (this.can("keep")) this.keep(drawing, step); else this.put(drawing, step);
  }

  hint() {
    if (this.token !== null) return;
    const act = this.can("keep") ? "keep it by force" : "put another in its place";
    this.told.textContent = `What if? Press a token to ${act}; the untouched run then stands beside.`;
  }

  heads(drawing, view) {
    const a = drawing.attention;
    if (!a || !view) return;
    const one = view.head >= 0, layer = a.layers[view.layer], key = `${layer} ${view.head}`;
    if (this.key === key) return;
    this.key = key;
    this.told.textContent = one ? "" : "What if? Choose one head; switch it off, and the untouched run stands beside.";
    this.what.replaceChildren(...(one ? [el("button", { type: "button",
      text: `Switch off head ${view.head + 1} of layer ${layer + 1}`,
      onclick: () => this.ask({ kind: "off", layer, head: view.head, step: view.layer }) })] : []));
  }

  keep(drawing, step) {
    const name = tokenName(drawing, step, this.token);
    this.told.textContent = "";
    this.what.replaceChildren(el("button", { type: "button", text: `Keep ${name} by force`,
      onclick: () => this.ask({ kind: "keep", at: this.token, step: drawing.frame(step).clean ? step - 1 : step }) }));
  }

  put(drawing, step) {
    const name = tokenName(drawing, step, this.token), { token } = this;
    if (drawing.hides(step, token)) {
      this.told.textContent = `${name} is not filled in yet at this step; choose a later step or another token.`;
      return void this.what.replaceChildren();
    }
    if (this.spec.given && STATES[drawing.state(0)[token]] === "context") { // read, not written
      this.told.textContent = `${name} is given and was not drawn; press one that was, or type a text of your own.`;
      return void this.what.replaceChildren();
    }
    const clean = drawing.frame(step).clean, from = clean ? drawing.born(step, token) : step;
    const since = drawing.tab === "sample" ? "; what follows is drawn anew"
      : clean ? ", from the step that wrote it on" : ", from this step on";
    this.told.textContent = `Put another in the place of ${name}${since}:`;
    const seen = new Map(), now = drawing.text(step, token);
    for (const list of drawing.candidates(step, token))
      for (const item of list.items) if (item.id !== undefined && item.text !== now && !seen.has(item.id))
        seen.set(item.id, item);
    const options = [...seen.values()].slice(0, 6).map((item) => el("button", { type: "button", class: "ts-option",
      text: item.p === null ? shortText(item.text) : `${shortText(item.text)}  ${percent(item.p)}`,
      onclick: () => this.ask({ kind: "put", step: from, at: token, id: item.id }) }));
    this.what.replaceChildren(...options, ...(drawing.layout.kind === "text" ? this.typed(from) : []));
    if (!this.what.children.length) this.told.textContent = `Nothing else was considered for ${name} at this step.`;
  }

  typed(step) {
    const box = el("input", { type: "text", maxlength: "40", placeholder: "or type a word", "aria-label": "A word" });
    const send = () => { if (box.value) this.ask({ kind: "put", step, at: this.token, word: box.value }); };
    box.addEventListener("keydown", (event) => {
      event.stopPropagation(); // arrows move in the word, not the player
      if (event.key === "Enter") send();
    });
    return [box, el("button", { type: "button", text: "Put it there", onclick: send })];
  }

  // Rings what differs from the untouched run at this step, and says how much.
  mark(views, step) {
    const [mine, other] = [views[0], views[this.spec.against]];
    if (!other) return;
    const a = mine.drawing, b = other.drawing, at = a.at(step), then = b.at(step);
    if (a.frame(at).clean && this.can("keep")) return views[0].targets.forEach((t) => t.classList.remove("ts-changed"));
    const differs = (token) => token < b.size && (this.can("keep")
      ? a.state(at)[token] !== b.state(then)[token]
      : !a.hides(at, token) && !b.hides(then, token) && a.text(at, token) !== b.text(then, token));
    let count = 0;
    mine.targets.forEach((target, token) => {
      const changed = differs(token);
      target.classList.toggle("ts-changed", changed);
      count += changed;
    });
    const one = count === 1, some = one ? "token" : "tokens";
    const what = this.can("keep") ? `${some} ${one ? "has" : "have"} another state than`
      : `${some} ${one ? "differs" : "differ"} from`;
    if (this.can("off") && !count) return;
    mine.label.append(el("span", { class: "ts-differ", text: `${count} ${what} the untouched run` }));
  }
}
