// Painters: a picture grid or free places on <canvas>, text as page elements, curves as SVG. All text is set with
// textContent; no string of a drawing is ever parsed as markup.

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(tag, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

function rgba(colour, share) {
  const n = parseInt(colour.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${share})`;
}

// ---------------------------------------------------------------------------------------------------- the canvases

// A canvas of cells: pieces of the step's picture, state tints and cues; above it, one focusable element per cell.
class CellView {
  constructor(drawing, act) {
    this.drawing = drawing;
    this.canvas = el("canvas", { class: "ts-canvas", "aria-hidden": "true" });
    this.layer = el("div", { class: "ts-cells", role: "grid" });
    this.links = svg("svg", { class: "ts-links", "aria-hidden": "true" });
    this.box = el("div", { class: "ts-box" }, this.canvas, this.links, this.layer);
    this.grid = drawing.layout.kind === "grid";
    this.columns = this.grid ? drawing.layout.columns : 1;
    this.rows = this.grid ? drawing.layout.rows : drawing.size;
    this.targets = this.grid ? this.gridTargets() : this.placeTargets();
    wireTargets(this, act);
  }

  gridTargets() {
    const cells = [];
    const { labels, seamless } = this.drawing.layout;
    this.layer.classList.toggle("ts-named", labels.length > 0 || seamless); // words, or the squares of a board
    this.layer.style.gridTemplateColumns = `repeat(${this.columns}, 1fr)`;
    this.layer.style.gridTemplateRows = `repeat(${this.rows}, 1fr)`;
    this.box.style.aspectRatio = `${this.columns} / ${this.rows}`;
    for (let row = 0; row < this.rows; row++) {
      const line = el("div", { role: "row", class: "ts-row" });
      for (let column = 0; column < this.columns && cells.length < this.drawing.size; column++) {
        const cell = el("div", { role: "gridcell", class: "ts-cell", tabindex: "-1" });
        cell.dataset.token = cells.length;
        cells.push(cell);
        line.append(cell);
      }
      this.layer.append(line);
    }
    return cells;
  }

  placeTargets() {
    this.layer.classList.add("ts-places");
    this.layer.classList.toggle("ts-named", this.drawing.layout.cell > 0 && this.drawing.layout.labels.some(Boolean));
    this.layer.setAttribute("role", "listbox");
    this.box.style.aspectRatio = "1 / 1";
    return this.drawing.layout.xy.map(([x, y], token) => {
      const place = el("div", { role: "option", class: "ts-place", tabindex: "-1" });
      place.dataset.token = token;
      const side = this.drawing.layout.cell;
      place.style.left = `${(x - side / 2) * 100}%`;
      place.style.top = `${(y - side / 2) * 100}%`;
      if (side) { place.classList.add("ts-square"); place.style.width = place.style.height = `${side * 95}%`; }
      this.layer.append(place);
      return place;
    });
  }

  rectangle(token) {
    if (this.grid) {
      const w = this.width / this.columns, h = this.height / this.rows;
      return [(token % this.columns) * w, Math.floor(token / this.columns) * h, w, h];
    }
    const { xy, cell } = this.drawing.layout, [x, y] = xy[token];
    const even = Math.max(10, Math.min(40, this.width / Math.sqrt(this.drawing.size) * 0.5));
    const s = cell * this.width * 0.95 || even;
    return [x * this.width - s / 2, y * this.height - s / 2, s, s];
  }

  get shape() { return this.grid ? this.rows / this.columns : 1; } // height by width

  fit() {
    this.width = this.width || Math.round(this.box.clientWidth); // read once per size: reading it lays the page out
    const width = this.width, ratio = window.devicePixelRatio || 1;
    if (!width) return false;
    this.height = width * this.shape;
    const pixels = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    const [wide, high] = pixels;
    const fits = this.canvas.width === wide && this.canvas.height === high;
    if (!fits) Object.assign(this.canvas, { width: wide, height: high });
    this.ratio = ratio;
    return true;
  }

  blank() {
    if (!this.fit()) return null;
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    return context;
  }

  paint(marks, step, page, redraw, choosing) {
    const context = this.blank();
    if (!context) return;
    const image = this.picture(choosing ? this.drawing.layout.picture : this.drawing.picture(step), redraw);
    const seamless = this.whole || this.drawing.layout.seamless; // a whole picture, and one that has its own lines
    const gap = seamless ? -0.6 : Math.min(2, Math.max(0.6, this.width / this.columns * 0.08));
    const boxes = marks.map((mark) => {
      const [x, y, w, h] = this.rectangle(mark.token);
      return this.grid ? [x + gap / 2, y + gap / 2, w - gap, h - gap] : [x, y, w, h];
    });
    const shown = (i) => !marks[i].fill || marks[i].share < 1; // nothing shows through what is hidden
    if (image) this.lay(context, image, boxes.filter((_, i) => shown(i)), this.drawing.layout.seamless);
    // where nothing was painted lies the photo as sharp as it came; what a model painted keeps its own pixels
    const photo = this.picture(this.drawing.layout.photo, redraw), own = choosing ? () => true : this.drawing.own(step);
    if (photo && own) this.lay(context, photo, boxes.filter((_, i) => shown(i) && own(marks[i].token)), true);
    this.lined = image && !seamless;
    marks.forEach((mark, i) => this.cell(context, mark, boxes[i], Boolean(image), page));
    if (!this.grid) this.captions(context, marks, boxes, page);
  }

  lay(context, image, boxes, smooth) {
    context.save();
    context.clip(this.outline(boxes));
    Object.assign(context, { imageSmoothingEnabled: smooth, imageSmoothingQuality: "high" });
    context.drawImage(image, 0, 0, this.width, this.height);
    context.restore();
  }

  outline(boxes) {
    const path = new Path2D();
    const square = this.grid || this.drawing.layout.cell;
    const seamless = this.whole || this.drawing.layout.seamless;
    const round = (w) => seamless && square ? 0 : square ? Math.min(2.5, w * 0.12) : w / 2;
    for (const [x, y, w, h] of boxes) path.roundRect(x, y, w, h, round(w));
    return path;
  }

  cell(context, mark, [x, y, w, h], pictured, page) {
    const shape = this.outline([[x, y, w, h]]);
    const cover = (colour, share) => { context.fillStyle = rgba(colour, share); context.fill(shape); };
    if (pictured && mark.fade < 1) cover(page.panel, 1 - mark.fade);
    if (mark.fill) cover(mark.fill, mark.share);
    else if (!pictured) cover(page.chip, 1);
    if (this.lined && page === THEME.page.dark) { // a dark picture's cells would be holes in a dark page
      Object.assign(context, { strokeStyle: rgba(page.soft, 0.45), lineWidth: 1 });
      context.stroke(this.outline([[x + 0.5, y + 0.5, w - 1, h - 1]]));
    }
    if (mark.cue) cuePath(context, mark.cue, x, y, Math.min(w, h), mark, page);
    const labelled = this.grid && mark.text && this.drawing.layout.labels.length && w > 15;
    const open = pictured && this.drawing.layout.seamless && !(mark.fill && mark.share === 1);
    if (labelled && open) this.name(context, mark.text, x, y, w, h);
    else if (labelled) this.inscribe(context, mark.text, x, y, w, h, page, mark);
  }

  // A square's name beside the stone that may stand on it; the ground of a board is light on every page.
  name(context, text, x, y, w, h) {
    if (w < 30) return;
    Object.assign(context, { font: `${Math.max(9, Math.round(h * 0.14))}px system-ui, sans-serif`, textAlign: "left",
      textBaseline: "alphabetic", fillStyle: "rgba(29, 29, 33, 0.8)" });
    context.fillText(text, x + h * 0.05, y + h * 0.94, w - 4);
  }

  // Not `label`: the player hangs an element of that name on a view. What is too wide for its cell stands on a line a
  // word, smaller, inside the edge.
  inscribe(context, text, x, y, w, h, page, mark) {
    const font = (size) => { context.font = `${size}px system-ui, sans-serif`; };
    const wide = (part) => context.measureText(part).width, room = w - 8;
    let size = Math.round(Math.min(h * 0.5, 14));
    font(size);
    const lines = wide(text) > room ? text.trim().split(/ +/) : [text];
    size = Math.min(size, size * room / Math.max(...lines.map(wide)), h / lines.length - 2);
    font(Math.max(7, Math.floor(size)));
    Object.assign(context, { textAlign: "center", textBaseline: "middle",
      fillStyle: inkOn(mark.fill, mark.share, page.panel) });
    const top = y + h / 2 - (lines.length - 1) / 2 * size;
    lines.forEach((line, i) => context.fillText(line, x + w / 2, top + i * size, w - 2));
  }

  captions(context, marks, boxes, page) {
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    Object.assign(context, { fillStyle: page.ink, strokeStyle: page.panel, lineWidth: 4, lineJoin: "round" });
    if (marks.length > 40) return;
    marks.forEach((mark, i) => {
      const at = [mark.text, boxes[i][0] + boxes[i][2] / 2, boxes[i][1] - 4];
      context.strokeText(...at); // a caption may lie over the picture of the cell above
      context.fillText(...at);
    });
  }

  picture(index, redraw) {
    if (index === null || index === undefined) return null;
    if (!this.drawing.images[index]) {
      const url = this.drawing.pictures[index], image = new Image();
      if (url.startsWith("data:image/")) image.src = url;
      image.onload = redraw;
      this.drawing.images[index] = image;
    }
    const image = this.drawing.images[index];
    return image.complete && image.naturalWidth ? image : null;
  }

  focusable(token) { return this.targets[token]; }
  step(key, token) {
    const size = this.drawing.size;
    return this.grid ? gridMove(key, token, this.columns, size) : lineMove(key, token, size);
  }
}

// Flowing text: one element per token, real spaces and line breaks, changed only where a mark changed.
class TextView {
  constructor(drawing, act) {
    this.drawing = drawing;
    this.layer = el("div", { class: "ts-text", role: "listbox", dir: "auto" });
    this.links = svg("svg", { class: "ts-links", "aria-hidden": "true" });
    this.box = el("div", { class: `ts-box ts-textbox${drawing.attention ? " ts-arced" : ""}` }, this.layer, this.links);
    this.targets = Array.from({ length: drawing.size }, (_, token) => {
      const made = el("span", { class: "ts-token", role: "option", tabindex: "-1" });
      made.dataset.token = token;
      return made;
    });
    this.seen = Array.from({ length: drawing.size }, () => "");
    this.words = [];
    const apart = this.targets.filter((_, token) => drawing.layout.roles[token] === "beside");
    if (apart.length) {
      const text = this.targets.filter((target) => !apart.includes(target));
      this.layer.classList.add("ts-apart");
      this.layer.append(el("div", {}, ...text), el("div", { class: "ts-beside" }, ...apart));
    } else this.layer.append(...this.targets);
    wireTargets(this, act);
  }

  paint(marks, step, page) {
    const gone = this.drawing.layout.unseen === "gone";
    const given = marks.filter((mark) => mark.cue === "given").length, end = given - 1; // a bar where a prompt ends
    const prompt = given && given < marks.length && marks.slice(0, given).every((mark) => mark.cue === "given");
    for (const mark of marks) {
      mark.ends = prompt && mark.token === end;
      const hidden = this.drawing.hides(step, mark.token);
      mark.tick = mark.cue === "check" && (marks[mark.token + 1] || {}).cue !== "check"; // one per run of them
      const key = `${mark.fill}|${mark.share}|${mark.cue}|${mark.tick}|${mark.ends}|${hidden}|${page.panel}`;
      if (this.seen[mark.token] !== key) this.token(this.targets[mark.token], mark, hidden, gone, page);
      this.seen[mark.token] = key;
      this.word(mark, hidden);
    }
  }

  token(made, mark, hidden, gone, page) {
    const cue = mark.cue ? ` ts-cue-${mark.cue}${mark.tick ? " ts-tick" : mark.ends ? " ts-given-end" : ""}` : "";
    const unseen = hidden ? ` ts-hidden${gone ? " ts-gone" : ""}` : "";
    const name = `ts-token${cue}${unseen}`;
    if (made.className !== name) made.className = name;
    const colour = mark.cue && mark.cue !== "hatch" ? `--edge:${mark.edge};` : "";
    const style = colour + (mark.fill ? `background-color:${rgba(mark.fill, mark.share)};` : "") +
      (mark.fill && !hidden ? `color:${inkOn(mark.fill, mark.share, page.panel)}` : "");
    if (style) made.style.cssText = style;
    else if (made.hasAttribute("style")) made.removeAttribute("style");
  }

  word(mark, hidden) {
    const text = hidden ? null : mark.text, made = this.targets[mark.token];
    if (this.words[mark.token] !== text) {
      const special = !hidden && isSpecial(text, this.drawing.layout.roles[mark.token]);
      // a token that goes on with the character before reads nothing itself
      const beside = this.drawing.layout.roles[mark.token] === "beside"; // it begins a line of its own anyway
      const own = beside ? (text || "").replace(/^\n+/, "") : text || "";
      const shown = text === "" ? "\u22ef" : readable(own, special).replace(/\n/g, "\u21b5\n");
      made.textContent = hidden ? "\u2007\u2007\u2007" : shown;
      made.toggleAttribute("data-special", special);
      made.toggleAttribute("data-spaced", /^ \S+$/.test(shown)); // its space may go where a line ends, marks with it
      if (text === "") made.setAttribute("aria-label", "goes on with the character before");
      else if (!hidden && !text.trim()) made.setAttribute("aria-label", text.includes("\n") ? "line break" : "space");
      else if (hidden) made.setAttribute("aria-label", "hidden");
      else made.removeAttribute("aria-label");
    }
    this.words[mark.token] = text;
  }

  rectangle(token) {
    const outer = this.box.getBoundingClientRect(), own = this.targets[token].getClientRects();
    const r = own[own.length - 1] || outer;
    return [r.left - outer.left, r.top - outer.top + this.box.scrollTop, r.width, r.height];
  }

  fit() { return true; }
  focusable(token) { return this.targets[token]; }
  step(key, token) { return lineMove(key, token, this.drawing.size); }
}

// A visitor's own text is special where its tokenizer says so; what a model wrote, by the look of it.
function isSpecial(text, role) {
  if (role === "" || role === "prompt") return false;
  const named = ["cls", "sep", "pad", "bos", "eos", "special", "added", "unknown"].includes(role);
  return named || /^<[|/]?[\w|]+>$/.test(text) || text === "[MASK]";
}

// Control characters would vanish, break lines or turn the reading direction; they show as pictures or code points.
function readable(text, special) {
  const point = (c) => `\u2039U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}\u203a`;
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  const shown = text.replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, point);
  return special ? shown.replace(/[<>|[\]]/g, "") : shown;
}

function gridMove(key, token, columns, size) {
  const ends = { Home: -token, End: size - 1 - token };
  const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, ...ends }[key];
  return move === undefined || token + move < 0 || token + move >= size ? token : token + move;
}

function lineMove(key, token, size) {
  const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -token, End: size - 1 - token }[key];
  return move === undefined ? token : Math.max(0, Math.min(size - 1, token + move));
}

// Pointer, focus and keys on tokens: act.point(token|null), act.press(token, dragging)
function wireTargets(view, act) {
  const tokenOf = (event) => {
    const t = event.target.closest("[data-token]");
    return t ? Number(t.dataset.token) : null;
  };
  view.active = 0;
  if (view.targets[0]) view.targets[0].setAttribute("tabindex", "0");
  view.box.addEventListener("pointerover", (event) => act.point(tokenOf(event)));
  view.box.addEventListener("pointerleave", () => act.point(null));
  view.box.addEventListener("pointerdown", (event) => {
    const t = tokenOf(event);
    if (t !== null) act.press(t, event);
  });
  view.layer.addEventListener("focusin", (event) => {
    const t = tokenOf(event);
    if (t === null) return;
    activate(view, t);
    act.name(t);
    act.point(t);
  });
  view.layer.addEventListener("focusout", (event) => {
    if (!view.layer.contains(event.relatedTarget)) act.point(null);
  });
  view.layer.addEventListener("keydown", (event) => {
    const token = tokenOf(event);
    if (token === null) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act.press(token, null); return; }
    if (!/^(Arrow|Home$|End$)/.test(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    view.focusable(view.step(event.key, token)).focus();
  });
}

function activate(view, token) {
  if (view.targets[view.active]) view.targets[view.active].setAttribute("tabindex", "-1");
  view.active = token;
  view.targets[token].setAttribute("tabindex", "0");
}
