"use strict";
const settings = JSON.parse(document.getElementById("settings").textContent);
const at = (id) => document.getElementById(id);
let images = [];
let asking = null;
let mapping = null;

function headers() {
  const found = { "Content-Type": "application/json" };
  if (at("key")) found.Authorization = "Bearer " + at("key").value.trim();
  return found;
}

function fail(message) {
  at("error").textContent = message;
  at("error").hidden = false;
  at("status").textContent = "";
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(file.name + " cannot be read"));
    reader.readAsDataURL(file);
  });
}

async function add(files) {
  const wanted = [...files].filter((file) => file.type.startsWith("image/"));
  if (!wanted.length) return fail("That is no image.");
  if (images.length + wanted.length > settings.max_images) return fail("At most " + settings.max_images + " images of one product.");
  at("error").hidden = true;
  try {
    for (const file of wanted) images.push({ url: await dataUrl(file), name: file.name || "pasted image" });
  } catch (error) { fail(error.message); }
  showChosen();
}

function showChosen() {
  at("chosen").replaceChildren(...images.map((image) => {
    const item = document.createElement("li"), shown = document.createElement("img");
    shown.src = image.url;
    shown.alt = image.name;
    item.append(shown);
    return item;
  }));
  at("send").disabled = !images.length || asking !== null;
  at("clear").hidden = !images.length;
}

async function errorOf(response) {
  try { return (await response.json()).error.message; } catch { return "The server answered " + response.status + "."; }
}

// Calls back with each event of a stream, until it ends.
async function events(path, body, signal, each) {
  const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (!response.ok) throw new Error(await errorOf(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n\n");
    rest = lines.pop();
    for (const line of lines) {
      const text = line.replace(/^data: /, "");
      if (text === "[DONE]") continue;
      const event = JSON.parse(text);
      if (event.error && event.error.message) throw new Error(event.error.message);
      each(event);
    }
  }
}

async function ask(event) {
  if (event) event.preventDefault();
  if (!images.length || asking) return;
  if (at("key") && !at("key").value.trim()) { at("key").focus(); return fail("Enter the key of this server."); }
  if (mapping) mapping.abort();
  asking = new AbortController();
  at("error").hidden = true;
  at("shown").hidden = false;
  at("fields").replaceChildren();
  at("text").textContent = "";
  at("json").textContent = "";
  at("map-view").hidden = true;
  at("map-words").textContent = at("map-status").textContent = "";
  at("map-part").hidden = images.length !== 1;
  at("status").textContent = "Reading …";
  at("send").disabled = true;
  at("stop").hidden = false;
  at("result").setAttribute("aria-busy", "true");
  try {
    await events("/v1/extract", { images: images.map((image) => image.url), stream: true }, asking.signal, (found) => {
      if (found.object === "extraction.delta") at("text").textContent += found.delta;
      else show(found);
    });
    if (settings.nearest) nearest();
  } catch (error) {
    if (error.name === "AbortError") at("status").textContent = "Stopped.";
    else fail(error.message);
  } finally {
    asking = null;
    at("send").disabled = false;
    at("stop").hidden = true;
    at("result").removeAttribute("aria-busy");
  }
}

function show(found) {
  at("text").textContent = found.text;
  at("json").textContent = JSON.stringify(found, null, 2);
  const names = Object.keys(found.fields || {});
  at("fields").replaceChildren(...names.map((name) => field(name, found)));
  if (found.error) fail("The answer has no fields: " + found.error);
  else at("status").textContent = "Read " + names.length + " fields.";
  at("result").focus({ preventScroll: true });
}

function field(name, found) {
  const block = document.createElement("div"), term = document.createElement("dt"), about = document.createElement("dd");
  const value = document.createElement("span");
  term.textContent = name;
  value.className = "value";
  value.textContent = String(found.fields[name]);
  about.append(value);
  const confidence = found.confidence[name], interval = found.interval[name];
  if (confidence !== undefined) {
    const sure = document.createElement("span"), meter = document.createElement("meter"), words = document.createElement("span");
    sure.className = "sure";
    meter.max = 1;
    meter.value = confidence;
    meter.setAttribute("aria-label", "Confidence in " + name);
    words.textContent = Math.round(confidence * 100) + " %" + (interval ? ", " + interval.map((end) => +end.toPrecision(4)).join(" to ") : "");
    sure.append(meter, words);
    about.append(sure);
  }
  block.append(term, about);
  return block;
}

async function map() {
  if (mapping || images.length !== 1) return;
  mapping = new AbortController();
  at("map").disabled = true;
  at("map-stop").hidden = false;
  at("map-status").textContent = "Computing …";
  const drops = [];
  let grid = null, done = 0;
  try {
    await events("/v1/occlusion", { images: [images[0].url] }, mapping.signal, (found) => {
      if (found.object === "occlusion") {
        grid = found;
        at("map-image").src = images[0].url;
        at("map-view").hidden = false;
        at("map-cells").style.gridTemplateColumns = "repeat(" + grid.columns + ", 1fr)";
      } else {
        for (const cell of found.cells) drops[cell.row * grid.columns + cell.column] = cell.drop;
        done += found.cells.length;
        at("map-status").textContent = done + " of " + grid.rows * grid.columns + " parts";
        paint(grid, drops);
      }
    });
    at("map-status").textContent = "Done.";
    at("map-image").alt = at("map-words").textContent = inWords(grid, drops);
  } catch (error) {
    at("map-status").textContent = error.name === "AbortError" ? "Stopped." : error.message;
  } finally {
    mapping = null;
    at("map").disabled = false;
    at("map-stop").hidden = true;
  }
}

function paint(grid, drops) {
  const most = Math.max(0.01, ...drops.filter((drop) => drop !== undefined));
  at("map-cells").replaceChildren(...Array.from({ length: grid.rows * grid.columns }, (_, number) => {
    const cell = document.createElement("i");
    const part = drops[number] === undefined ? 0 : Math.max(0, drops[number]) / most;
    cell.style.background = "rgba(var(--warm), " + (0.75 * part).toFixed(3) + ")";
    return cell;
  }));
}

function inWords(grid, drops) {
  const best = drops.indexOf(Math.max(...drops));
  if (drops[best] <= 0.01) return "No part alone changes how probable the answer is.";
  return "Covering the part in row " + (Math.floor(best / grid.columns) + 1) + " of " + grid.rows + ", column " +
    (best % grid.columns + 1) + " of " + grid.columns + ", makes the answer " + Math.exp(drops[best]).toPrecision(2) + " times less probable.";
}

async function nearest() {
  at("nearest-status").textContent = "Looking …";
  at("nearest").replaceChildren();
  try {
    const response = await fetch("/v1/nearest", { method: "POST", headers: headers(), body: JSON.stringify({ images: [images[0].url] }) });
    if (!response.ok) throw new Error(await errorOf(response));
    const { matches } = await response.json();
    at("nearest").replaceChildren(...matches.map((match) => {
      const item = document.createElement("li"), shown = document.createElement("img"), words = document.createElement("p");
      shown.src = match.image;
      shown.alt = "Training image";
      words.textContent = Object.values(match.fields).join(", ");
      item.append(shown, words);
      return item;
    }));
    at("nearest-status").textContent = "By colors and outline.";
  } catch (error) { at("nearest-status").textContent = error.message; }
}

at("ask").addEventListener("submit", ask);
at("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
at("stop").addEventListener("click", () => asking && asking.abort());
at("clear").addEventListener("click", () => { images = []; showChosen(); at("files").focus(); });
at("map").addEventListener("click", map);
at("map-stop").addEventListener("click", () => mapping && mapping.abort());
at("copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText(at("json").textContent); at("status").textContent = "Copied."; }
  catch { getSelection().selectAllChildren(at("json")); at("status").textContent = "Selected; copy it with the keyboard."; }
});
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => { event.preventDefault(); at("drop").classList.remove("over"); add(event.dataTransfer.files); });
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); add(event.clipboardData.files); } });
for (const button of document.querySelectorAll(".example")) button.addEventListener("click", () => {
  images = [{ url: button.firstElementChild.src, name: button.firstElementChild.alt }];
  showChosen();
  ask();
});
