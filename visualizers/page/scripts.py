"""What the browser does by itself on a click, as functions for Gradio's `js`; %s is the tab."""

# Pressing Run brings the picture into view where it is not: under the bar that stays on top of a phone.
SHOW = """() => {
  const player = document.querySelector('#%s-player'), box = player.getBoundingClientRect();
  if (box.top < 0 || box.top > innerHeight * 0.6) player.scrollIntoView({behavior: 'smooth'}); }"""
NOW = "Number(document.querySelector('#%s-player input[type=range]')?.value ?? -1)"
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
