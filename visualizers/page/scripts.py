"""What the browser does by itself on a click, as functions for Gradio's `js`; %s is the tab."""

# Pressing Run brings the picture into view where it is not: under the bar that stays on top of a phone.
SHOW = """() => {
  const player = document.querySelector('#%s-player'), box = player.getBoundingClientRect();
  if (box.top < 0 || box.top > innerHeight * 0.6) player.scrollIntoView({behavior: 'smooth'}); }"""
NOW = "Number(document.querySelector('#%s-player input[type=range]')?.value ?? -1)"
# The gallery, narrowed to this tab's methods; its page is built when it is first opened.
BROWSE = """() => {
  [...document.querySelectorAll('#tabs [role=tab]')].find((tab) => tab.textContent.trim() === 'All papers').click();
  const narrow = (tries) => {
    const gallery = document.querySelector('#papers .gallery > *') && document.querySelector('#papers .gallery');
    if (gallery) gallery.dispatchEvent(new CustomEvent('only', {detail: '%s'}));
    else if (tries) setTimeout(() => narrow(tries - 1), 50);
  };
  narrow(100);
  scrollTo(0, 0); }"""
STEP = f"(seen, method, query) => [seen, method, query, {NOW}]"
COPY = f"""async (query) => {{
  const link = `${{location.origin}}${{location.pathname}}?${{query}}&step=${{{NOW}}}`;
  try {{ await navigator.clipboard.writeText(link); }} catch (refused) {{ /* shown for copying by hand */ }}
  return link; }}"""
SAVE = """(file) => {
  if (!file) return;
  const bytes = Uint8Array.from(atob(file.data), (c) => c.charCodeAt(0));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes], {type: file.mime}));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000); }"""
# A link's words are there; its run is over (visualizers/page/opening.js, where a link has just opened the page).
OPENED, FOLLOWED = "() => window.tokenscope.opened?.()", "() => window.tokenscope.followed?.()"
