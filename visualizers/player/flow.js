// A method's data flow as a few boxes and arrows: [from, to] or [from, to, "again"] for an arrow that leads back.
// A box that begins with * is what the paper adds. One painter for all methods; the boxes stand on their cards.

const BOX = { width: 124, height: 42, across: 30, down: 14 };

function flowChart(flow, room, page) {
  const names = [...new Set(flow.flatMap(([from, to]) => [from, to]))], level = new Map(names.map((name) => [name, 0]));
  for (let round = 0; round < names.length; round++) {
    for (const [from, to, back] of flow) if (!back) level.set(to, Math.max(level.get(to), level.get(from) + 1));
  }
  const levels = Math.max(...level.values()) + 1, upright = levels * (BOX.width + BOX.across) > room;
  const rows = Array.from({ length: levels }, (_, i) => names.filter((name) => level.get(name) === i));
  const most = Math.max(...rows.map((row) => row.length));
  const place = new Map(rows.flatMap((row, i) => row.map((name, j) => {
    const side = j + (most - row.length) / 2;
    return [name, upright ? [side * (BOX.width + BOX.down), i * (BOX.height + BOX.across)]
      : [i * (BOX.width + BOX.across), side * (BOX.height + BOX.down)]];
  })));
  const loop = flow.some((arrow) => arrow[2]) ? 22 : 0; // room for the arrow that leads back
  const [far, deep] = upright ? [most * (BOX.width + BOX.down), levels * (BOX.height + BOX.across) - BOX.across]
    : [levels * (BOX.width + BOX.across) - BOX.across, most * (BOX.height + BOX.down) - BOX.down];
  const width = far + 4 + (upright ? loop : 0), height = deep + 4 + (upright ? 0 : loop);
  const chart = svg("svg", { class: "ts-flow", viewBox: `-2 -2 ${width} ${height}`, width, height, role: "img",
    "aria-label": flow.map(([from, to]) => `${plainName(from)} to ${plainName(to)}`).join(", then ") });
  for (const arrow of flow) chart.append(...flowArrow(arrow, place, upright, [far, deep], page));
  for (const name of names) chart.append(...flowBox(name, place.get(name), page));
  return chart;
}

function plainName(name) { return name.replace(/^\*/, ""); }

function flowBox(name, [x, y], page) {
  const added = name.startsWith("*"), words = plainName(name).split(" "), lines = [""];
  for (const word of words) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (longer.length > 19 && lines.at(-1)) lines.push(word); else lines[lines.length - 1] = longer;
  }
  const box = svg("rect", { x, y, width: BOX.width, height: BOX.height, rx: 8, fill: page.panel,
    stroke: added ? page.accent : page.line, "stroke-width": added ? 2 : 1.2 });
  return [box, ...lines.slice(0, 3).map((line, i, all) => svg("text", { x: x + BOX.width / 2, class: "ts-number",
    y: y + BOX.height / 2 + 3.5 + (i - (all.length - 1) / 2) * 12.5, "text-anchor": "middle" }, line))];
}

function flowArrow([from, to, back], place, upright, [far, deep], page) {
  const [x1, y1] = place.get(from), [x2, y2] = place.get(to), w = BOX.width, h = BOX.height;
  const shape = { fill: "none", stroke: page.soft, "stroke-width": 1.3, "stroke-dasharray": back ? "4 3" : null };
  const end = upright ? [x2 + w / 2, y2] : [x2, y2 + h / 2];
  const start = upright ? [x1 + w / 2, y1 + h] : [x1 + w, y1 + h / 2];
  if (back) {
    const under = upright ? `M${x1 + w} ${y1 + h / 2} H${far + 12} V${y2 + h / 2} H${x2 + w + 5}`
      : `M${x1 + w / 2} ${y1 + h} V${deep + 14} H${x2 + w / 2} V${y2 + h + 5}`;
    return [svg("path", { d: under, ...shape }), arrowHead(upright ? [x2 + w, y2 + h / 2] : [x2 + w / 2, y2 + h],
      upright ? "left" : "up", page)];
  }
  const middle = upright ? `C${start[0]} ${end[1] - 14} ${end[0]} ${start[1] + 14}`
    : `C${end[0] - 14} ${start[1]} ${start[0] + 14} ${end[1]}`;
  return [svg("path", { d: `M${start.join(" ")} ${middle} ${end.join(" ")}`, ...shape }),
    arrowHead(end, upright ? "down" : "right", page)];
}

function arrowHead([x, y], way, page) {
  const points = { right: [[-7, -4], [-7, 4]], down: [[-4, -7], [4, -7]], left: [[7, -4], [7, 4]],
    up: [[-4, 7], [4, 7]] }[way];
  return svg("path", { d: `M${x} ${y} ${points.map(([u, v]) => `L${x + u} ${y + v}`).join(" ")} Z`, fill: page.soft });
}
