// The inspector page: one text, one plan, one clicked token.

import { askJson, element } from "./api.js";

const byId = (id) => document.getElementById(id);
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
const dark = matchMedia("(prefers-color-scheme: dark)");

const state = { prompt: "", plan: null, topk: null, position: null, focus: null, run: null, token: null };
let order = 0; // of requests: an answer that was overtaken is dropped

askJson("/v1/models").then((list) => { byId("model").textContent = list.data[0].id; }).catch(show);
loadSample();

async function loadSample() {
  try {
    state.prompt = (await askJson("/inspect/sample")).prompt;
    byId("prompt").value = state.prompt;
    state.position = "answer";
    await run();
  } catch (error) { show(error); }
}

async function run() {
  const mine = ++order;
  busy(true);
  try {
    const found = await askJson("/inspect", question());
    if (mine !== order) return;
    state.run = found;
    state.plan = found.plan;
    state.topk = found.topk;
    const last = found.tokens.length - 1;
    // The sample ends with the word that was asked for: the token before it is where the model must find it.
    if (state.position === "answer") state.position = Math.max(0, last - 2);
    if (state.position === null || state.position > last) state.position = last;
    show(null);
    draw();
    await pick(state.position, mine);
  } catch (error) { if (mine === order) show(error); }
  if (mine === order) busy(false);
}

async function pick(position, mine = ++order) {
  state.position = position;
  try {
    const found = await askJson("/inspect/token", { ...question(), position });
    if (mine !== order) return;
    state.token = found;
    drawToken();
  } catch (error) { if (mine === order) show(error); }
}

function question() {
  return { prompt: state.prompt, plan: state.plan, topk: state.topk };
}

function busy(on) {
  byId("busy").textContent = on ? "running…" : "";
}

function show(error) {
  byId("error").textContent = error?.message ?? "";
}

// Colours: one hue for each F layer, far from its neighbours'.
function hue(source) {
  return (source * 137.5 + 195) % 360;
}

function colour(source, alpha = 1) {
  return `hsl(${hue(source)} 62% ${dark.matches ? 66 : 42}% / ${alpha})`;
}

function draw() {
  const { run } = state;
  byId("strip").replaceChildren(...[...run.plan].map((letter, layer) => {
    const source = run.sources[layer];
    const bar = element("i");
    bar.style.width = percent(run.mass[layer]);
    bar.style.background = colour(source);
    const box = element("button", { type: "button", className: "layer", title: title(layer) },
      element("b", { textContent: letter }), element("span", { className: "number", textContent: layer }),
      element("span", { className: "kept" }, bar));
    box.style.borderColor = colour(source, letter === "F" ? 1 : 0.45);
    box.style.background = letter === "F" ? colour(source, 0.22) : "transparent";
    box.disabled = layer === 0;
    box.ariaLabel = `layer ${layer}, ${letter}`;
    box.addEventListener("click", () => flip(layer));
    return box;
  }));
  const own = run.own_plan.split("F").length - 1, kept = run.plan.split("F").length - 1;
  byId("kept").textContent = `${kept} of ${run.plan.length}`;
  byId("loss").textContent = run.loss.toFixed(3);
  const change = run.loss - run.own_loss;
  byId("loss-note").textContent = run.plan === run.own_plan ? "loss, nats a token"
    : `loss, ${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(3)} against ${own === kept ? "the model's own" : run.own_loss.toFixed(3)}`;
  byId("agreement").textContent = percent(run.agreement, 1);
  byId("mass").textContent = percent(run.mass.reduce((sum, mass) => sum + mass, 0) / run.mass.length, 1);
  byId("topk").max = Math.max(1, Math.min(run.tokens.length - 1, 1024));
  byId("topk").value = run.topk;
  byId("topk-value").textContent = `${run.topk} of ${run.tokens.length}`;
  byId("tokens").replaceChildren(...run.tokens.map((text, position) => {
    const span = element("span", { textContent: text });
    span.dataset.position = position;
    return span;
  }));
  drawOverlap();
}

function title(layer) {
  const { run } = state;
  const kept = `keeps ${percent(run.mass[layer], 1)} of its attention`;
  return run.plan[layer] === "F" ? `layer ${layer} picks; ${kept}` : `layer ${layer} reuses layer ${run.sources[layer]}'s pick; ${kept}`;
}

function flip(layer) {
  const letters = [...state.plan];
  letters[layer] = letters[layer] === "F" ? "S" : "F";
  state.plan = letters.join("");
  run();
}

function drawToken() {
  const { token, run } = state;
  const piece = run.tokens[token.position];
  byId("query").textContent = `${JSON.stringify(piece)} (token ${token.position})`;
  byId("lanes").replaceChildren(...token.layers.flatMap((layer) => lane(layer, token.position)));
  paintTokens();
  const clicked = byId("tokens").children[token.position], box = byId("tokens");
  const top = clicked.offsetTop - box.clientHeight / 2;
  if (clicked.offsetTop < box.scrollTop || clicked.offsetTop > box.scrollTop + box.clientHeight - 24) box.scrollTop = top;
}

function lane(layer, position) {
  const own = layer.source === layer.layer;
  const name = element("button", { type: "button", className: "name", textContent: `${own ? "F" : "S"} ${layer.layer}${own ? "" : ` ← ${layer.source}`}` });
  name.style.color = colour(layer.source);
  name.ariaPressed = state.focus === layer.layer;
  name.addEventListener("click", () => {
    state.focus = state.focus === layer.layer ? null : layer.layer;
    drawToken();
  });
  const canvas = element("canvas", { width: 800, height: 20, title: `layer ${layer.layer}: ${layer.selected.length} positions` });
  const pen = canvas.getContext("2d");
  const width = canvas.width / (position + 1);
  pen.fillStyle = colour(layer.source, own ? 0.9 : 0.4);
  for (const at of layer.selected) pen.fillRect(at * width, 0, Math.max(width, 1.2), canvas.height);
  const shared = !own && layer.own_shared !== null ? `, would pick ${percent(layer.own_shared)} of it` : "";
  const said = element("span", { className: "said" }, `${percent(layer.mass)}`, element("span", { className: "long", textContent: ` kept${shared}` }));
  return [name, canvas, said];
}

function paintTokens() {
  const { token, run, focus } = state;
  const spans = byId("tokens").children;
  const how = byId("colour").value;
  const layers = focus === null ? token.layers : [token.layers[focus]];
  const weight = new Float64Array(spans.length);
  if (how === "picks") for (const layer of layers) for (const at of layer.selected) weight[at] += 1 / layers.length;
  if (how === "attention") {
    for (const layer of layers) for (const { position, attention } of layer.strongest) weight[position] += attention / layers.length;
    const most = Math.max(...weight);
    for (let at = 0; at < weight.length; at++) weight[at] = Math.sqrt(weight[at] / most);
  }
  const worse = how === "loss" ? run.losses.map((loss, at) => loss - run.own_losses[at]) : null;
  const strong = new Set(layers.flatMap((layer) => layer.strongest.slice(0, 2).map((one) => one.position)));
  for (let at = 0; at < spans.length; at++) {
    const span = spans[at];
    span.className = at === token.position ? "query" : how !== "loss" && at > token.position ? "later" : how !== "loss" && strong.has(at) ? "strong" : "";
    if (worse) {
      // The loss of a token is that of the place before it.
      const change = at ? worse[at - 1] : 0;
      span.style.background = Math.abs(change) < 0.05 ? "" : `hsl(${change > 0 ? 12 : 150} 70% 50% / ${Math.min(0.75, Math.abs(change) / 2)})`;
    } else {
      span.style.background = weight[at] ? (focus === null ? `hsl(195 75% 45% / ${0.62 * weight[at]})` : colour(token.layers[focus].source, 0.5 * weight[at])) : "";
    }
  }
  byId("hint").textContent = {
    picks: "Click a token: what it may look at is coloured, the more the more layers picked it. Underlined: where attention is strongest.",
    attention: "Click a token: coloured by how much attention it gives, picked or not. Underlined: where it is strongest.",
    loss: "Red tokens are harder to guess than under the model's own plan, green ones easier.",
  }[how];
}

function drawOverlap() {
  const { layers, matrix } = state.run.overlap;
  const canvas = byId("overlap"), cell = 24;
  canvas.width = canvas.height = layers.length * cell;
  const pen = canvas.getContext("2d");
  matrix.forEach((row, a) => row.forEach((share, b) => {
    pen.fillStyle = heat(share);
    pen.fillRect(b * cell, a * cell, cell, cell);
  }));
  byId("scale").style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(heat).join(", ")})`;
  const near = matrix.slice(1).map((row, a) => row[a]);
  const mean = near.length ? near.reduce((sum, share) => sum + share, 0) / near.length : 0;
  const said = `0 to 100 %. Neighbours share ${percent(mean)}; two random picks would share ${percent(state.run.chance)}.`;
  byId("overlap-said").textContent = said;
  canvas.onpointermove = (event) => {
    const place = (at, size) => Math.min(layers.length - 1, Math.max(0, Math.floor(at / size * layers.length)));
    const b = place(event.offsetX, canvas.clientWidth), a = place(event.offsetY, canvas.clientHeight);
    byId("overlap-said").textContent = `Layers ${layers[a]} and ${layers[b]} share ${percent(matrix[a][b])}.`;
  };
  canvas.onpointerleave = () => { byId("overlap-said").textContent = said; };
}

function heat(share) {
  return `hsl(${260 - 205 * share} ${45 + 40 * share}% ${18 + 47 * share}%)`;
}

byId("tokens").addEventListener("click", (event) => {
  const at = event.target.dataset?.position;
  if (at !== undefined) pick(Number(at));
});
byId("tokens").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || !state.run) return;
  event.preventDefault();
  pick(Math.min(state.run.tokens.length - 1, Math.max(0, state.position + step)));
});
byId("colour").addEventListener("change", paintTokens);
byId("topk").addEventListener("input", (event) => {
  byId("topk-value").textContent = `${event.target.value} of ${state.run?.tokens.length ?? "?"}`;
});
byId("topk").addEventListener("change", (event) => { state.topk = Number(event.target.value); run(); });
for (const button of document.querySelectorAll("[data-plan]")) {
  button.addEventListener("click", () => {
    state.plan = button.dataset.plan === "own" ? null : button.dataset.plan;
    run();
  });
}
byId("edit").addEventListener("click", () => { byId("editor").hidden = !byId("editor").hidden; });
byId("sample").addEventListener("click", loadSample);
byId("editor").addEventListener("submit", (event) => {
  event.preventDefault();
  state.prompt = byId("prompt").value;
  state.position = null;
  run();
});
dark.addEventListener("change", () => { if (state.run) { draw(); if (state.token) drawToken(); } });
