// A graph: nodes that hold their words, and lines between them that stay. Sizes come by the panel's width, as on paper
// (visualizers/drawing/graph.py); a node that is not there yet is neither drawn nor reached, nor are its lines.

const NODE = { edge: 0.75, letter: 0.31, gap: 0.014 }; // as in graph.py

// Standing links whose both nodes are there: [[from, to]].
function linksAt(drawing, step) {
  const { graph } = drawing.layout, to = drawing.array(graph.to, Uint16Array), found = [];
  drawing.array(graph.from, Uint16Array).forEach((from, i) => {
    if (!drawing.absent(step, from) && !drawing.absent(step, to[i])) found.push([from, to[i]]);
  });
  return found;
}

// The step's own edges, which are marks; on a clean step they are what was made: [[from, to, thickness 0..1]].
function edgesAt(drawing, step, bare) {
  if (bare && !drawing.frame(step).clean) return [];
  return drawing.links(step).filter(({ query, key }) => query !== key && !drawing.absent(step, query) &&
    !drawing.absent(step, key)).map(({ query, key, share }) => [query, key, share]);
}

// Standing links on which no edge of the step lies; a thin edge would leave the line of the link to be seen.
function linksBeneath(drawing, step, bare) {
  const over = new Set(edgesAt(drawing, step, bare).flatMap(([from, to]) => drawing.layout.graph.directed
    ? [`${from} ${to}`] : [`${from} ${to}`, `${to} ${from}`]));
  return linksAt(drawing, step).filter(([from, to]) => !over.has(`${from} ${to}`));
}

// Share of the way from a node's middle to its border.
function toBorder({ graph, cell }, node, [across, down]) {
  const half = [graph.wide[node] / 2 + NODE.gap / 4, cell / 2 + NODE.gap / 4];
  return Math.min(half[0] / Math.max(Math.abs(across), 1e-9), half[1] / Math.max(Math.abs(down), 1e-9));
}

// Points of the line from one node's border to the other's: straight, or bent around nodes that are in the way; nothing
// where the two touch. gone: which nodes are not there.
function pathBetween(layout, from, to, gone) {
  const one = layout.xy[from], two = layout.xy[to], bent = crossed(layout, from, to, gone);
  const top = bent ? aside(one, two, layout.cell) : [(one[0] + two[0]) / 2, (one[1] + two[1]) / 2];
  const cut = (node, at) => {
    const way = [top[0] - at[0], top[1] - at[1]], share = toBorder(layout, node, way);
    return share >= 1 ? null : [at[0] + share * way[0], at[1] + share * way[1]];
  };
  const a = cut(from, one), b = cut(to, two), last = bent ? 12 : 1;
  if (!a || !b) return [];
  return Array.from({ length: last + 1 }, (_, i) => i / last)
    .map((u) => [0, 1].map((k) => (1 - u) ** 2 * a[k] + 2 * u * (1 - u) * top[k] + u * u * b[k]));
}

// Whether another node that is there lies on the straight line between two.
function crossed({ xy, graph, cell }, from, to, gone) {
  if (xy.length > 80) return false;
  const [x1, y1] = xy[from], [x2, y2] = xy[to], probes = Array.from({ length: 33 }, (_, i) => i / 32);
  return xy.some(([x, y], node) => node !== from && node !== to && !gone[node] && probes.some((u) =>
    Math.abs(x1 + u * (x2 - x1) - x) < graph.wide[node] / 2 && Math.abs(y1 + u * (y2 - y1) - y) < cell / 2));
}

// The point towards which a bent line bows: above the straight one, below it at the panel's upper edge.
function aside([x1, y1], [x2, y2], tall) {
  const dx = x2 - x1, dy = y2 - y1, far = Math.hypot(dx, dy);
  const out = Math.min(0.5 * far, 2.6 * tall) / Math.max(far, 1e-9);
  let side = dx > 0 || (dx === 0 && dy > 0) ? 1 : -1;
  if ((y1 + y2) / 2 - side * dx * out / 2 < tall / 4) side = -side;
  return [(x1 + x2) / 2 + side * dy * out, (y1 + y2) / 2 - side * dx * out];
}

// Letters of usual width; those of CJK and its kin, and pictures, count twice.
function columnsOf(text) {
  const wide = (c) => (c >= 0x2e80 && c < 0xfb00) || c >= 0xfe30;
  return [...text].reduce((sum, char) => sum + (wide(char.codePointAt(0)) ? 2 : 1), 0);
}

function rounded([x, y, w, h], round) {
  const path = new Path2D();
  path.roundRect(x, y, w, h, round);
  return path;
}

// The label as a node shows it, shortened where it is too long; nothing where less than three letters fit of it.
function fitted(text, wide, tall) {
  const room = Math.floor((wide / tall - NODE.edge) / NODE.letter + 0.01), words = text.trim().replace(/\s+/g, " ");
  if (columnsOf(words) <= Math.max(room, 2)) return words;
  if (room < 3) return "";
  let kept = "";
  for (const c of words) {
    if (columnsOf(kept + c) > room - 1) break;
    kept += c;
  }
  return `${kept.trimEnd()}…`;
}

class GraphView extends CellView {
  placeTargets() {
    const { layout } = this.drawing, { graph } = layout, nodes = super.placeTargets();
    this.layer.classList.add("ts-nodes");
    this.box.style.aspectRatio = `1 / ${graph.high}`;
    nodes.forEach((node, token) => {
      const [x, y] = layout.xy[token];
      node.classList.add("ts-square");
      Object.assign(node.style, { left: `${(x - graph.wide[token] / 2) * 100}%`, width: `${graph.wide[token] * 100}%`,
        top: `${(y - layout.cell / 2) / graph.high * 100}%`, height: `${layout.cell / graph.high * 100}%` });
    });
    return nodes;
  }

  get shape() { return this.drawing.layout.graph.high; }

  rectangle(token) {
    const { xy, cell, graph } = this.drawing.layout, [x, y] = xy[token], wide = graph.wide[token];
    return [(x - wide / 2) * this.width, (y - cell / 2) * this.width, wide * this.width, cell * this.width];
  }

  paint(marks, step, page, redraw, choosing) {
    const context = this.blank(), { drawing } = this, { graph } = drawing.layout;
    if (!context) return;
    const gone = drawing.layout.xy.map((_, token) => !choosing && drawing.absent(step, token));
    gone.forEach((away, token) => { this.targets[token].hidden = away; });
    if (gone[this.active] && gone.includes(false)) activate(this, gone.indexOf(false));
    Object.assign(this, { shown: step, gone });
    const many = graph.wide.length > 80, wide = Math.max(0.8, this.width / (many ? 600 : 330));
    const all = drawing.frames.length - 1;
    for (const [from, to] of choosing ? linksAt(drawing, all) : linksBeneath(drawing, step, this.whole)) {
      this.line(context, from, to, page.soft, wide, many ? 0.45 : 0.75);
    }
    for (const [from, to, share] of choosing ? [] : edgesAt(drawing, step, this.whole)) {
      this.line(context, from, to, page.accent, wide * (1.1 + 1.9 * share), 0.35 + 0.65 * share);
    }
    for (const mark of marks) if (!gone[mark.token]) this.node(context, mark, page);
  }

  // A line, and where links have a direction the head of an arrow at its end.
  line(context, from, to, colour, wide, share) {
    const { points, head } = this.trace(from, to, wide);
    if (!points.length) return;
    Object.assign(context, { strokeStyle: rgba(colour, share), fillStyle: rgba(colour, share), lineWidth: wide });
    context.beginPath();
    for (const point of points) context.lineTo(...point);
    context.stroke();
    context.beginPath();
    for (const point of head) context.lineTo(...point);
    context.fill();
  }

  // Points of a line in pixels and corners of its arrow's head, before which the line ends.
  trace(from, to, wide) {
    const points = pathBetween(this.drawing.layout, from, to, this.gone).map((p) => p.map((part) => part * this.width));
    if (!points.length || !this.drawing.layout.graph.directed) return { points, head: [] };
    const end = points.at(-1), before = points.at(-2), way = Math.hypot(end[0] - before[0], end[1] - before[1]) || 1;
    const away = (point) => Math.hypot(end[0] - point[0], end[1] - point[1]);
    const size = Math.min(3.2 + 2.6 * wide, away(points[0])), half = size * 0.46;
    const u = (end[0] - before[0]) / way, v = (end[1] - before[1]) / way, neck = [end[0] - size * u, end[1] - size * v];
    const head = [end, [neck[0] - half * v, neck[1] + half * u], [neck[0] + half * v, neck[1] - half * u]];
    return { points: [...points.slice(0, -1).filter((point) => away(point) > size), neck], head };
  }

  node(context, mark, page) {
    const box = this.rectangle(mark.token), [x, y, w, h] = box, round = h * 0.26, shape = rounded(box, round);
    context.fillStyle = page.panel; // no line shines through
    context.fill(shape);
    context.fillStyle = mark.fill ? rgba(mark.fill, mark.share) : page.chip;
    context.fill(shape);
    Object.assign(context, { strokeStyle: rgba(page.soft, 0.55), lineWidth: 1 });
    context.stroke(shape);
    if (h >= 12 && mark.text) this.words(context, mark, box, page);
    context.save();
    context.clip(shape);
    if (mark.cue) cuePath(context, mark.cue, x, y, w, mark, page, h, round);
    context.restore();
  }

  words(context, mark, [x, y, w, h], page) {
    const { graph, cell } = this.drawing.layout, text = readable(mark.text, false);
    const ink = inkOn(mark.fill, mark.share, mark.fill ? page.panel : page.chip);
    Object.assign(context, { font: `${(h * 0.54).toFixed(1)}px system-ui, sans-serif`, textAlign: "center",
      textBaseline: "middle", fillStyle: rgba(ink, mark.fade < 1 ? 0.5 : 1) });
    context.fillText(fitted(text, graph.wide[mark.token], cell), x + w / 2, y + h * 0.53, w - h * 0.3);
  }

  // Over everything: the lines of the pointed node, and what else hangs on it.
  overlay(links, page) {
    const token = this.ringed ? Number(this.ringed.dataset.token) : -1;
    const own = token < 0 || this.gone[token] ? []
      : linksAt(this.drawing, this.shown).filter((pair) => pair.includes(token));
    const drawn = [...own.map(([from, to]) => [from, to, page.ink, 0.35]),
      ...links.map(({ query, key, share }) => [query, key, page.accent, share])];
    this.links.replaceChildren(...drawn.flatMap(([from, to, colour, share]) => {
      const wide = 1 + 3 * share, { points, head } = this.trace(from, to, wide);
      const d = (corners) => `M${corners.map((point) => point.join(" ")).join(" L")}`;
      return [points.length ? svg("path", { d: d(points), fill: "none", stroke: colour, "stroke-width": wide }) : null,
        head.length ? svg("path", { d: `${d(head)} Z`, fill: colour }) : null].filter(Boolean);
    }));
  }

  // Arrow keys walk through the nodes that are there.
  step(key, token) {
    const here = this.targets.flatMap((target, at) => target.hidden ? [] : [at]);
    return here[lineMove(key, here.indexOf(token), here.length)];
  }
}

// `linked to A, B`, or with a direction `to A; from B`: [[title, [node]]].
function neighbours(drawing, step, token) {
  const { graph } = drawing.layout;
  if (!graph) return [];
  const own = linksAt(drawing, step).filter((pair) => pair.includes(token));
  const ends = (side) => [...new Set(own.filter((pair) => pair[1 - side] === token).map((pair) => pair[side]))];
  const ways = graph.directed ? [["Linked to", ends(1)], ["Linked from", ends(0)]]
    : [["Linked to", [...new Set([...ends(1), ...ends(0)])]]];
  return ways.filter(([, nodes]) => nodes.length);
}

function neighbourWords(drawing, step, nodes) {
  const name = (node) => drawing.hides(step, node) || !drawing.text(step, node).trim() ? `node ${node + 1}`
    : plainly(drawing.text(step, node), 24);
  const rest = nodes.length > 8 ? ` and ${nodes.length - 8} more` : "";
  return nodes.slice(0, 8).map(name).join(", ") + rest;
}

// A node's words in a sentence or a card, whole up to a length.
function plainly(text, most) {
  const words = readable(text, false).trim().replace(/\s+/g, " ");
  return words.length > most ? `${words.slice(0, most - 1)}…` : words;
}

function viewOf(drawing, act) {
  const View = { text: TextView, graph: GraphView }[drawing.layout.kind] || CellView;
  return new View(drawing, act);
}
