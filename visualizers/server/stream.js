// Gradio's client closes its stream of results when the server says that nothing is pending. What was asked at that
// very moment would never be answered: its request still found the stream open. Such an end is not passed on here; the
// stream goes on with a new request instead, and the results that the server kept arrive.
const JOIN = /\/queue\/join(\?|$)/, DATA = /\/queue\/data\?/, real = window.fetch.bind(window);
const END = 'data: {"msg":"close_stream"', encoder = new TextEncoder();
const waiting = new Set(), early = new Set();  // events not yet completed; completed before their number was known
let asking = 0;  // requests whose event has no number yet

async function ask(request) {
  asking++;
  try {
    const answer = await real(...request), { event_id } = answer.ok ? await answer.clone().json() : {};
    if (event_id && !early.delete(event_id)) waiting.add(event_id);
    return answer;
  } finally { asking--; }
}

async function* blocks(body) {
  let rest = "";
  for (const reader = body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) break;
    const whole = (rest + value).split("\n\n");
    rest = whole.pop();
    for (const block of whole) yield block;
  }
}

// Passes an answer on. True if it ended while somebody still waits. An answer without an end is broken.
async function pass(answer, out) {
  let ended = false;
  for await (const block of blocks(answer.body)) {
    if (block.startsWith(END) && (asking || waiting.size)) return true;
    if (block.startsWith('data: {"msg":"process_completed"')) {
      const { event_id } = JSON.parse(block.slice(6));
      if (!waiting.delete(event_id) && asking) early.add(event_id);
    }
    ended ||= block.startsWith(END);
    out.enqueue(encoder.encode(`${block}\n\n`));
  }
  if (!ended) throw new Error("the stream of results broke off");
  return false;
}

// The connection broke. If nobody waits, that is an end: the next question then opens a new stream.
function give(out, broken) {
  if (asking || waiting.size) return out.error(broken);
  try {
    out.enqueue(encoder.encode(`${END}}\n\n`));
    out.close();
  } catch { return; }  // it was the page itself that closed it
}

async function follow(request) {
  const again = new Request(...request), first = await real(again.clone());
  if (!first.ok || !first.body) return first;
  const start = async (out) => {
    try {
      for (let answer = first; await pass(answer, out);) answer = await real(again.clone());
      out.close();
    } catch (broken) { give(out, broken); }
  };
  const stream = new ReadableStream({ start(out) { start(out); } });
  return new Response(stream, { status: first.status, headers: first.headers });
}

window.fetch = (...request) => {
  const url = String(request[0]?.url ?? request[0]);
  return JOIN.test(url) ? ask(request) : DATA.test(url) ? follow(request) : real(...request);
};
