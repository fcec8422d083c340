// A link to a method on which its tab does not open: until that method's controls and picture are there, the page says
// so and shows nobody else's. A refused link, a failed run, or too long a wait show the page as it stands.
const asked = new URLSearchParams(location.search), tab = asked.get("tab"), id = asked.get("method");
const all = window.tokenscope.titles, titles = Object.hasOwn(all, tab) ? all[tab] : {}, page = document.documentElement;
const own = `#${tab}-player .ts[data-method="${id}"]`, LONGEST = 60_000;  // ms until the method's own words are there

function rules(title) {
  const body = `html[data-opening=all] .tab-body, html[data-opening=method] .tab-body:has(#${tab}-player)`;
  const right = `html[data-opening=run] .tab-body:has(#${tab}-player) > .right`;
  const each = (of, what) => of.split(", ").map((one) => one + what).join(", ");
  return `${each(body, "")}, ${right} { position: relative; }
    ${each(body, " > *")}, ${right} > :not(:has(${own})) { visibility: hidden !important; }
    ${each(body, "::before")}, ${right}:not(:has(${own}))::before { content: ${JSON.stringify(`Opening ${title} …`)};
      position: absolute; top: 14px; left: 0; color: var(--page-soft); font-size: 15px; }
    @media (min-width: 901px) { ${each(body, "::before")} { left: 328px; } }`;
}

function open(title) {
  const style = document.createElement("style"), tools = window.tokenscope;
  let until = Infinity;  // until the page is built
  const there = (selector) => document.querySelector(selector), seen = (selector) => there(selector)?.offsetParent;
  const end = () => {
    clearInterval(watch);
    delete page.dataset.opening;
    style.remove();
    tools.opened = tools.followed = undefined;
  };
  const look = () => {
    if (until === Infinity && there(".tab-body")) until = performance.now() + LONGEST;
    if (page.dataset.opening === "all" && seen(`#${tab}-player`)) page.dataset.opening = "method";
    if (performance.now() > until) end();
  };
  // The words are there: the controls are drawn at the same time by another answer; a picture that must be made comes
  // with the run, and what stands under it at the run's end.
  const opened = (waited = 0) => {
    if (page.dataset.opening === "run" || !page.dataset.opening) return;
    if (!there(`.of-${tab}-${id}`) && waited < 5000) setTimeout(opened, 50, waited + 50);
    else if (there(own)) end();
    else {
      page.dataset.opening = "run";
      clearInterval(watch);
    }
  };
  style.textContent = rules(title);
  document.head.append(style);
  page.dataset.opening = "all";
  const watch = setInterval(look, 30);
  tools.opened = () => setTimeout(opened, 50);
  tools.followed = end;
}

if (Object.hasOwn(titles, id) && Object.keys(titles)[0] !== id) open(titles[id]);
