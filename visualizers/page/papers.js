// The list of all papers, filtered in the browser. value: [{slug, title, paper, arxiv, year, tabs, idea, live}]
const root = element.querySelector(".papers");
const papers = Array.isArray(props.value) ? props.value : [];
const TABS = ["mask", "attend", "prune", "unmask", "sample"];
const STATES = { all: () => true, "live now": (p) => p.live, planned: (p) => !p.live };

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const words = make("input", { type: "search", placeholder: "Search titles and ideas", "aria-label": "Search papers" });
const filters = { tab: "all", state: "all" };
const count = make("p", { class: "count", role: "status" });
const list = make("ul", { class: "paper-list" });

function choices(name, options) {
  const group = make("div", { class: "choices", role: "group", "aria-label": `Filter by ${name}` });
  for (const option of options) {
    const button = make("button", { type: "button", "aria-pressed": String(filters[name] === option) },
      option[0].toUpperCase() + option.slice(1));
    button.addEventListener("click", () => {
      filters[name] = option;
      group.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
      draw();
    });
    group.append(button);
  }
  return group;
}

function entry(paper) {
  const title = paper.live
    ? make("a", { href: `?tab=${paper.tabs[0]}&method=${encodeURIComponent(paper.slug)}` }, paper.title)
    : make("b", {}, paper.title);
  const source = /^[\w./-]+$/.test(paper.arxiv || "")
    ? make("a", { href: `https://arxiv.org/abs/${paper.arxiv}`, target: "_blank", rel: "noopener noreferrer" },
      `arXiv ${paper.arxiv}`)
    : "";
  const tabs = paper.tabs.map((tab) => make("span", { class: "tag" }, tab[0].toUpperCase() + tab.slice(1)));
  return make("li", { class: paper.live ? "live" : "planned" },
    make("div", { class: "paper-head" }, title, make("span", { class: "state" }, paper.live ? "live now" : "planned")),
    make("p", {}, paper.idea), make("p", { class: "source" }, `${paper.paper} (${paper.year}) `, source),
    make("div", { class: "tags" }, ...tabs));
}

function draw() {
  const asked = words.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const found = papers.filter((p) => (filters.tab === "all" || p.tabs.includes(filters.tab)) && STATES[filters.state](p)
    && asked.every((word) => `${p.title} ${p.paper} ${p.idea} ${p.arxiv}`.toLowerCase().includes(word)));
  const live = papers.filter((p) => p.live).length;
  count.textContent = `${found.length} of ${papers.length} papers; ${live} are live now.`;
  list.replaceChildren(...found.sort((a, b) => b.live - a.live || a.title.localeCompare(b.title)).map(entry));
}

words.addEventListener("input", draw);
root.replaceChildren(words, choices("tab", ["all", ...TABS]), choices("state", Object.keys(STATES)), count, list);
draw();
