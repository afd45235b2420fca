// What both pages need of the server: requests with the key, if there is one, and errors in its words.

const KEY = "godwit-key";

export class ServerError extends Error {}

export async function ask(path, body, options = {}) {
  for (;;) {
    const headers = {};
    const key = sessionStorage.getItem(KEY);
    if (key) headers.Authorization = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const method = body === undefined ? "GET" : "POST";
    let response;
    try {
      response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("the server does not answer; is it still running?");
    }
    if (response.ok) return response;
    // Another request may have been given a key meanwhile.
    if (response.status === 401 && (sessionStorage.getItem(KEY) !== key || await askForKey())) continue;
    let message = `${response.status} ${response.statusText}`;
    try { message = (await response.json()).error.message; } catch { /* not from our server: the status must do */ }
    throw new ServerError(message);
  }
}

export async function askJson(path, body, options) {
  return (await ask(path, body, options)).json();
}

// Server-sent events: each `data:` line as an object, until [DONE].
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ") || part === "data: [DONE]") continue;
      const chunk = JSON.parse(part.slice(6));
      if (chunk.error) throw new ServerError(chunk.error.message);
      yield chunk;
    }
  }
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

let asking = null; // one dialog, however many requests wait for it

function askForKey() {
  asking ??= new Promise((resolve) => {
    const field = element("input", { type: "password", autocomplete: "off", placeholder: "API key", style: "width:100%" });
    const form = element("form", { method: "dialog" }, element("p", { textContent: "This server asks for its API key." }),
      field, element("p", {}, element("button", { className: "main", textContent: "Use it" })));
    const dialog = element("dialog", {}, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (field.value) sessionStorage.setItem(KEY, field.value);
      resolve(Boolean(field.value));
    });
    document.body.append(dialog);
    dialog.showModal();
  }).finally(() => { asking = null; });
  return asking;
}
