// All papers as a gallery, searched in the browser, grouped by question and family.
// value: {rows: [{slug, title, paper, arxiv, year, tabs, idea, family, live, picture, verdict, baseline}],
//         tabs: {tab: [name, question]}, go}
const root = element.querySelector(".papers");
const { rows, tabs } = props.value;
const STATES = { all: () => true, "live now": (p) => p.live, planned: (p) => !p.live };
const VERDICTS = { holds: "claim holds here", "met in one training": "claim met in one training",
  mixed: "claim holds in part", "does not hold": "claim does not hold here",
  "not testable here": "claim: cannot tell" };

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const words = make("input", { type: "search", placeholder: "Search titles and ideas", "aria-label": "Search papers" });
const filters = { tab: "all", state: "all" };
const count = make("p", { class: "count", role: "status" });
const list = make("div", { class: "groups" });
const place = (p, tab) => `?tab=${tab}&method=${encodeURIComponent(p.slug)}`;
let visit = 0;

function choices(name, options, title = (option) => option[0].toUpperCase() + option.slice(1)) {
  const box = make("div", { class: "choices", role: "group", "aria-label": `Filter by ${name}` });
  for (const option of options) {
    const button = make("button", { type: "button", "data-option": option }, title(option));
    button.addEventListener("click", () => { filters[name] = option; draw(); });
    box.append(button);
  }
  return box;
}

// A plain click opens the method on this page; any other one follows the link, as everywhere.
function opens(paper, tab, text, attributes = {}) {
  const link = make("a", { href: place(paper, tab), ...attributes }, text);
  link.addEventListener("click", (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    props.value = { ...props.value, go: { tab, method: paper.slug, visit: ++visit } };
    trigger("go", {});
  });
  return link;
}

function source(paper) {
  const from = [paper.paper, paper.year ? `(${paper.year})` : ""].filter(Boolean).join(" ");
  const link = /^[\w./-]+$/.test(paper.arxiv || "")
    ? make("a", { href: `https://arxiv.org/abs/${paper.arxiv}`, target: "_blank", rel: "noopener noreferrer" },
      `arXiv ${paper.arxiv}`)
    : "";
  return from || link ? make("p", { class: "source" }, from && link ? `${from} ` : from, link) : "";
}

function entry(paper) {
  const first = paper.tabs[0], picture = make("span", { class: "thumb", "data-tab": first });
  if (paper.picture) {
    picture.append(make("img", { src: `thumb/${encodeURIComponent(paper.slug)}`, alt: "", loading: "lazy",
      decoding: "async", width: 84, height: 84 }));
  }
  const title = paper.live ? opens(paper, first, paper.title, { class: "opens" }) : make("b", {}, paper.title);
  const tags = paper.tabs.map((tab) => paper.live ? opens(paper, tab, tabs[tab][0], { class: "tag" })
    : make("span", { class: "tag" }, tabs[tab][0]));
  const state = paper.live ? VERDICTS[paper.verdict] || "live now" : "planned";
  return make("li", { class: `${paper.live ? "live" : "planned"}${paper.baseline ? " baseline" : ""}` }, picture,
    make("div", { class: "about" }, make("div", { class: "paper-head" }, title), make("p", {}, paper.idea),
      source(paper), make("div", { class: "tags" }, ...tags,
        make("span", { class: `state ${(paper.verdict || "").replaceAll(" ", "-")}` }, state))));
}

// Papers stand under their own question, and those of another tab too while that tab is chosen.
function group(tab, found) {
  const [name, question] = tabs[tab], families = new Map();
  for (const paper of found) families.set(paper.family, [...(families.get(paper.family) || []), paper]);
  const rank = ([, papers]) => papers.every((p) => p.baseline) ? 2 : papers.some((p) => p.live) ? 0 : 1;
  const order = [...families].sort((a, b) => rank(a) - rank(b));
  return make("section", { "aria-label": name }, make("h2", {}, name, make("span", {}, question)),
    ...order.flatMap(([family, papers]) => [make("h3", {}, family), make("ul", { class: "paper-list" },
      ...papers.sort((a, b) => b.live - a.live || a.title.localeCompare(b.title)).map(entry))]));
}

function draw() {
  const asked = words.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const text = (p) => `${p.title} ${p.paper} ${p.idea} ${p.arxiv} ${p.family} ${p.slug}`.toLowerCase();
  const found = rows.filter((p) => (filters.tab === "all" || p.tabs.includes(filters.tab)) && STATES[filters.state](p)
    && asked.every((word) => text(p).includes(word)));
  const papers = (some) => some.filter((p) => !p.baseline).length, others = found.length - papers(found);
  count.textContent = `${papers(found)} of ${papers(rows)} papers; ${papers(rows.filter((p) => p.live))} are live now` +
    (others ? `, and ${others} plain models and rules to compare them with.` : ".");
  const shown = filters.tab === "all" ? Object.keys(tabs) : [filters.tab];
  list.replaceChildren(...shown.map((tab) => [tab, found.filter((p) => filters.tab !== "all" || p.tabs[0] === tab)])
    .filter(([, some]) => some.length).map(([tab, some]) => group(tab, some)));
  root.querySelectorAll(".choices button").forEach((button) => {
    button.setAttribute("aria-pressed", String(Object.values(filters).includes(button.dataset.option) &&
      filters[button.parentNode.dataset.filter] === button.dataset.option));
  });
}

const byTab = choices("tab", ["all", ...Object.keys(tabs)], (tab) => tabs[tab]?.[0] ?? "All");
const byState = choices("state", Object.keys(STATES));
[byTab.dataset.filter, byState.dataset.filter] = ["tab", "state"];
words.addEventListener("input", draw);
root.addEventListener("only", (event) => { filters.tab = event.detail; draw(); }); // asked for by a tab
root.replaceChildren(make("div", { class: "finding" }, words, byTab, byState), count, list);
draw();
