// The page of lutern serve: asks for a text, shows it as its events come, and what each token took.
"use strict";

const by = (id) => document.getElementById(id);
const whole = (number) => Math.round(number).toLocaleString("en");
let model = null;
let leaving = null; // ends the request that is under way

function headers() {
  const key = by("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function refusal(response) {
  if (response.status === 401) by("key-row").hidden = false;
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

function say(message) {
  by("error").textContent = message;
  by("error").hidden = !message;
}

async function ask() {
  const response = await fetch("v1/models", { headers: headers() });
  if (!response.ok) throw new Error(await refusal(response));
  model = (await response.json()).data[0];
  const { where, machine, lanes, clock_hz, streams, chat, synthetic } = model.lutern;
  by("model").textContent = `${model.id}${synthetic ? " (synthetic weights)" : ""}, ${where}`;
  by("machine").textContent = machine
    ? `${machine}: ${whole(lanes)} lanes, ${clock_hz / 1e6} MHz, ${streams} ${streams > 1 ? "texts" : "text"} a pass`
    : `The integer model, which every machine equals; it has no cycles. ${streams} texts a pass.`;
  by("chat-row").hidden = !chat;
}

function wanted(prompt) {
  const fields = { model: model.id, stream: true, figures: true, max_tokens: Number(by("tokens").value) };
  for (const name of ["temperature", "top_p", "seed"]) {
    if (by(name).value !== "") fields[name] = Number(by(name).value);
  }
  if (by("stop").value) fields.stop = by("stop").value;
  return by("chat").checked ? { ...fields, messages: [{ role: "user", content: prompt }] } : { ...fields, prompt };
}

function part(text, kind) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  by("text").append(span);
  return span;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (held + value).split("\n\n");
    held = lines.pop();
    for (const line of lines) {
      const data = line.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

function count(figures, first) {
  const { tokens, cycles } = figures;
  const seconds = (performance.now() - first) / 1000;
  by("count").textContent = whole(tokens);
  by("speed").textContent = tokens > 1 && seconds > 0 ? ((tokens - 1) / seconds).toFixed(1) : "–";
  by("cycles").textContent = cycles ? whole(cycles) : "none";
  by("clock-speed").textContent = cycles ? whole(model.lutern.clock_hz / cycles) : "none";
}

async function write() {
  if (model === null) await ask();
  const prompt = by("prompt").value;
  leaving = new AbortController();
  by("text").replaceChildren();
  part(by("chat").checked ? `${prompt}\n\n` : prompt, "given");
  const written = part("", "written");
  const path = by("chat").checked ? "v1/chat/completions" : "v1/completions";
  const body = JSON.stringify(wanted(prompt));
  const response = await fetch(path, { method: "POST", headers: headers(), body, signal: leaving.signal });
  if (!response.ok) throw new Error(await refusal(response));
  let first = null;
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const choice = event.choices[0];
    written.append(choice.delta ? choice.delta.content ?? "" : choice.text);
    if (event.lutern) {
      first ??= performance.now();
      count(event.lutern, first);
    }
  }
}

by("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("");
  by("write").disabled = true;
  by("stop-writing").disabled = false;
  try {
    await write();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  } finally {
    by("write").disabled = false;
    by("stop-writing").disabled = true;
    document.body.dataset.done = "yes";
  }
});
by("stop-writing").addEventListener("click", () => leaving?.abort());
by("key").addEventListener("change", () => ask().then(() => say(""), (error) => say(error.message)));
ask().catch((error) => say(error.message));
