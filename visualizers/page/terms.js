// Terms of art are underlined where they stand; pointing at one, tapping it or reaching it with Tab says what it means.
// value: [{term, says, forms, pattern}]. Texts are split into text nodes, never parsed.
const entries = props.value, named = new Map();
for (const entry of entries) for (const form of entry.forms ?? []) named.set(form.toLowerCase(), entry);
const literal = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
const forms = [...named.keys()].sort((a, b) => b.length - a.length).map(literal);
const patterns = entries.filter((entry) => entry.pattern);
const any = [...forms, ...patterns.map((p) => p.pattern)].join("|");
const FIND = new RegExp(`(?<![\\p{L}\\p{N}])(?:${any})(?![\\p{L}\\p{N}])`, "giu");
// Words that our own scripts write may be split; those that Gradio writes are marked as a whole.
const OWN = ".words, .ts-panel, .ts-legend, .ts-map-title, .ts-turn, .walk";
const WHOLE = ".controls [data-testid=block-info], .controls .info-text";
const SKIP = "dfn, button, a, summary, select, option, input, textarea, svg, canvas, .terms, .ts-text, .ts-cells, " +
  ".ts-places, .ts-piece, [role=tooltip], [role=img]";
const meant = (text) => named.get(text.toLowerCase()) ??
  patterns.find((p) => new RegExp(`^${p.pattern}$`, "u").test(text));
const box = document.createElement("div");
box.className = "says";
box.id = "term-says";
box.setAttribute("role", "tooltip");
let shown = null;

function matches(text) { return [...text.matchAll(FIND)].filter((match) => meant(match[0])); }

function split(node, seen) {
  const parts = [];
  let from = 0;
  for (const match of matches(node.data)) {
    const entry = meant(match[0]);
    if (seen.has(entry.term)) continue;
    seen.add(entry.term);
    const term = document.createElement("dfn"); // not a button: that would not break over two lines
    term.className = "term";
    term.tabIndex = 0;
    term.textContent = match[0];
    term.dataset.term = entry.term;
    parts.push(node.data.slice(from, match.index), term);
    from = match.index + match[0].length;
  }
  if (!from) return;
  parts.push(node.data.slice(from));
  if (!/flex|grid/.test(getComputedStyle(node.parentElement).display)) return node.replaceWith(...parts);
  const line = document.createElement("span"); // pieces of one text would be spread over the line
  line.append(...parts);
  node.replaceWith(line);
}

// Each term once in each part of the page, where it comes first.
function own(root) {
  const seen = new Set([...root.querySelectorAll(".term")].map((term) => term.dataset.term));
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) if (!node.parentElement.closest(SKIP)) split(node, seen);
}

function whole(label) {
  const found = [...new Set(matches(label.textContent).map((match) => meant(match[0]).term))].join("\n");
  if ((label.dataset.term ?? "") === found) return;
  label.classList.toggle("term", Boolean(found));
  if (found) Object.assign(label, { tabIndex: 0 }).dataset.term = found;
  else { label.removeAttribute("tabindex"); delete label.dataset.term; }
}

function mark() {
  const here = (part) => part.getClientRects().length;
  for (const part of document.querySelectorAll(OWN)) if (here(part) && !part.parentElement.closest(OWN)) own(part);
  for (const label of document.querySelectorAll(WHOLE)) if (here(label)) whole(label);
}

function show(term) {
  if (shown === term) return;
  hide();
  shown = term;
  const about = term.dataset.term.split("\n").map((name) => entries.find((entry) => entry.term === name));
  box.replaceChildren(...about.map((entry) => {
    const line = document.createElement("p"), name = document.createElement("b");
    name.textContent = entry.term;
    line.append(name, ` ${entry.says}`);
    return line;
  }));
  (document.fullscreenElement ?? document.querySelector(".gradio-container") ?? document.body).append(box);
  term.setAttribute("aria-describedby", box.id);
  const at = term.getBoundingClientRect(), size = box.getBoundingClientRect();
  const below = at.bottom + size.height + 10 < innerHeight;
  box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  box.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - size.height - 6)}px`;
}

function hide() {
  shown?.removeAttribute("aria-describedby");
  shown = null;
  box.remove();
}

const over = (event) => event.target.closest?.(".term[data-term]");
for (const kind of ["pointerover", "focusin", "click"]) {
  document.addEventListener(kind, (event) => {
    const term = over(event);
    if (term) show(term);
    else if (shown) hide();
  });
}
document.addEventListener("focusout", (event) => { if (over(event)) hide(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
document.addEventListener("scroll", () => { if (shown && document.activeElement !== shown) hide(); }, true);

let waiting = null;
const soon = () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => window.requestIdleCallback ? requestIdleCallback(mark, { timeout: 1000 }) : mark(), 400);
};
new MutationObserver(soon).observe(document.body, { childList: true, subtree: true, characterData: true });
soon();
