// The chat page: one conversation, kept in this tab only.

import { ask, askJson, element, events } from "./api.js";

const LONG_PASTE = 2000; // characters from which a paste becomes an attachment
const byId = (id) => document.getElementById(id);
const log = byId("log"), entry = byId("entry"), send = byId("send"), stop = byId("stop"), chips = byId("chips");

let messages = [];
let attachments = [];
let waiting = []; // tool calls that the person is to answer
let running = null; // AbortController of the answer in progress

askJson("/v1/models").then((list) => { byId("model").textContent = list.data[0].id; }).catch(showError);

byId("composer").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
entry.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
});
entry.addEventListener("input", fit);
entry.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text");
  if (text.length < LONG_PASTE) return;
  event.preventDefault();
  attachments.push(text);
  showChips();
});
stop.addEventListener("click", () => running?.abort());
byId("new").addEventListener("click", () => {
  running?.abort();
  [messages, attachments, waiting] = [[], [], []];
  log.replaceChildren(byId("empty") ?? emptyNote);
  showChips();
  expect();
});
const emptyNote = byId("empty");

function fit() {
  entry.style.height = "auto";
  entry.style.height = `${entry.scrollHeight + 2}px`;
}

function showChips() {
  chips.replaceChildren(...attachments.map((text, place) => {
    const remove = element("button", { type: "button", textContent: "×", ariaLabel: "remove attachment" });
    remove.addEventListener("click", () => { attachments.splice(place, 1); showChips(); });
    return element("span", { className: "chip", title: text.slice(0, 400) },
      `pasted text, ${text.length.toLocaleString("en")} characters`, remove);
  }));
}

function submit() {
  const text = [...attachments, entry.value].filter((part) => part.trim()).join("\n\n");
  if (running || (!text && !waiting.length)) return;
  const call = waiting.shift();
  const message = call ? { role: "tool", tool_call_id: call.id, content: text } : { role: "user", content: text };
  messages.push(message);
  showTurn(message.role, text);
  attachments = [];
  entry.value = "";
  showChips();
  fit();
  expect();
  if (!waiting.length) answer();
}

// Say in the entry what is expected next: a message, or a tool's result.
function expect() {
  const call = waiting[0];
  entry.placeholder = call ? `What does ${call.function.name} return?` : "Message";
}

function showTurn(role, text) {
  byId("empty")?.remove();
  const body = element("div", { className: "text", textContent: text });
  log.append(element("div", { className: `turn ${role}` }, body));
  toEnd(true);
}

function showError(error) {
  byId("empty")?.remove();
  log.append(element("p", { className: "error", textContent: error.message, role: "alert" }));
  toEnd(true);
}

// Follow the text, unless the reader has scrolled up.
function toEnd(always) {
  if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 120) log.scrollTop = log.scrollHeight;
}

function body() {
  const asked = {
    messages: byId("system").value.trim() ? [{ role: "system", content: byId("system").value }, ...messages] : messages,
    stream: true,
    stream_options: { include_usage: true },
    temperature: byId("temperature").valueAsNumber || 0,
    max_tokens: byId("limit").valueAsNumber || 512,
    chat_template_kwargs: { enable_thinking: byId("thinking").checked, clear_thinking: !byId("keep").checked },
  };
  const tools = byId("tools").value.trim();
  if (tools) {
    try { asked.tools = JSON.parse(tools); } catch (error) { throw new Error(`Tools are not JSON: ${error.message}`); }
  }
  return asked;
}

async function answer() {
  running = new AbortController();
  send.hidden = true;
  stop.hidden = false;
  const turn = new Turn();
  try {
    const response = await ask("/v1/chat/completions", body(), { signal: running.signal });
    for await (const chunk of events(response)) {
      turn.take(chunk);
      toEnd(false);
    }
  } catch (error) {
    if (error.name === "AbortError") turn.stopped = true;
    else showError(error);
  }
  running = null;
  send.hidden = false;
  stop.hidden = true;
  turn.end();
  const message = turn.message();
  if (message) messages.push(message);
  else messages.pop(); // nothing came: the question can be sent again
  if (!message && !entry.value && turn.failedText) entry.value = turn.failedText;
  waiting = turn.stopped ? [] : [...turn.calls];
  expect();
  entry.focus({ preventScroll: true });
}

class Turn {
  constructor() {
    this.thought = element("div", { className: "text" });
    this.summary = element("summary", { textContent: "Thinking…" });
    this.fold = element("details", { className: "thought", hidden: true }, this.summary, this.thought);
    this.text = element("div", { className: "text" });
    this.cards = element("div");
    this.stats = element("div", { className: "stats", textContent: "…" });
    this.element = element("div", { className: "turn assistant" }, this.fold, this.text, this.cards, this.stats);
    log.append(this.element);
    toEnd(true);
    this.calls = [];
    this.started = performance.now();
    this.count = 0;
  }

  take(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (!choice) return;
    const { reasoning_content: thought, content, tool_calls: calls } = choice.delta;
    if (thought) {
      this.fold.hidden = false;
      this.thought.append(thought);
    }
    if (content) this.text.append(content);
    for (const call of calls ?? []) this.takeCall(call);
    if (thought || content || calls) {
      this.first ??= performance.now();
      this.last = performance.now();
      this.count += 1;
    }
    if ((content || calls) && this.thought.textContent) this.summary.textContent = this.thoughtTitle();
    if (choice.finish_reason) this.finish = choice.finish_reason;
    this.showStats();
  }

  takeCall(call) {
    if (call.id) {
      this.calls[call.index] = { id: call.id, type: "function", function: { name: call.function.name, arguments: "" } };
      const shown = element("pre");
      this.cards.append(element("div", { className: "call" }, "calls ", element("b", { textContent: call.function.name }), shown));
      this.shown = [...(this.shown ?? []), shown];
    }
    this.calls[call.index].function.arguments += call.function.arguments ?? "";
    this.shown[call.index].textContent = this.calls[call.index].function.arguments;
  }

  thoughtTitle() {
    const words = this.thought.textContent.trim().split(/\s+/).length;
    return `Thought (${words} words)`;
  }

  showStats() {
    if (!this.first) return;
    const seconds = (this.last - this.first) / 1000;
    const tokens = this.usage?.completion_tokens ?? this.count;
    const rate = seconds > 0 ? `${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "";
    const parts = [rate, `first after ${((this.first - this.started) / 1000).toFixed(2)} s`];
    if (this.usage) {
      const cached = this.usage.prompt_tokens_details.cached_tokens;
      parts.push(`${this.usage.prompt_tokens} in${cached ? ` (${cached} cached)` : ""}, ${tokens} out`);
    }
    if (this.finish === "length") parts.push("cut off at the token limit");
    if (this.stopped) parts.push("stopped");
    this.stats.textContent = parts.filter(Boolean).join(" · ");
  }

  end() {
    if (this.thought.textContent) this.summary.textContent = this.thoughtTitle();
    this.showStats();
    for (const [place, call] of this.calls.entries()) {
      try { this.shown[place].textContent = JSON.stringify(JSON.parse(call.function.arguments), null, 2); } catch { /* cut off: as it came */ }
    }
    if (!this.first) this.element.remove();
  }

  message() {
    if (!this.first) return null;
    // A call that was cut off cannot be sent back.
    this.calls = this.calls.filter((call) => { try { JSON.parse(call.function.arguments); return true; } catch { return false; } });
    const message = { role: "assistant", content: this.text.textContent };
    if (this.thought.textContent) message.reasoning_content = this.thought.textContent;
    if (this.calls.length) message.tool_calls = this.calls;
    return message;
  }
}
