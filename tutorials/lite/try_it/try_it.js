// The page: pictures, knobs, and what the worker answers. Everything that is computed is computed by the package, in the worker.

import { makeBoard } from "./board.js";
import * as drawing from "./drawing.js";

const PICTURES = [
  ["good", "good"], ["good", "another good"], ["scratch", "scratch"], ["rust", "rust"], ["missing_tooth", "missing tooth"],
  ["bent_tooth", "bent tooth"], ["heat_tint", "heat tint"],
];
const KNOBS = {
  start: { label: "How much noise", shown: (v) => `T = ${v}`, hint: "T counts steps of noise, out of 1,000. More noise hides a defect better, and hides more of your washer, too." },
  strength: { label: "Pull towards your picture", shown: (v) => `w × ${v}`,
    hint: "w, the weight of that pull. 0: the network imagines any good washer. Far right: it copies your picture, defect included." },
  samples: { label: "How often it imagines", shown: (v) => `n = ${v}`, hint: "The network imagines n washers; their maps are averaged. Twice the samples take twice the time." },
  mask_share: { label: "How much is suspected", shown: (v) => `${Math.round(100 * v)} %`,
    hint: "How easily a pixel is suspected: at 5 %, one in twenty pixels of good washers is suspected and redrawn." },
};
const USUAL = { start: 300, strength: 1, samples: 1, mask_share: 0.05 };
const PASSES = { guided: "First pass", mdps: "Second pass" };
const SECONDS = [0.6, 1.6]; // of a guided step, on a fast machine and on a slow one, until a search has told how fast this one is

const element = (id) => document.getElementById(id);
const shown = ["x_t", "x_0", "mask", "own", "sample", "map"].map(element); // what a search draws
const names = new Map(shown.map((canvas) => [canvas, canvas.getAttribute("aria-label")]));
const page = { rows: [], base: null, pixels: null, strokes: [], knobs: {}, frames: [], mask: null, found: null, searching: null, seconds: SECONDS };

// A control that is switched off loses the focus, and the keyboard its place; `next` takes it over.
function enable(name, yes, next) {
  const held = document.activeElement === element(name);
  element(name).disabled = !yes;
  if (held && !yes) element(next).focus();
}

// The worker. It starts from a blob, and so has the page's security policy.

const address = new URL("worker.js", import.meta.url).href;
const starter = URL.createObjectURL(new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" }));
const worker = new Worker(starter, { type: "module" });
const waiting = new Map();
let asked = 0;

function ask(message, onStep) {
  const id = ++asked;
  worker.postMessage({ id, ...message });
  return new Promise((done, failed) => waiting.set(id, { done, failed, onStep }));
}

worker.onerror = (event) => failed(event.message || "the worker could not start");
worker.onmessage = ({ data }) => {
  if ("loading" in data) return loading(data);
  const wait = waiting.get(data.id);
  if (!wait) return failed(data.failed);
  if (wait.onStep && !("end" in data || "failed" in data)) return wait.onStep(data);
  waiting.delete(data.id);
  if ("failed" in data) wait.failed(new Error(data.failed));
  else wait.done(data);
};

function loading({ loading: step, text, stride }) {
  element("loading-bar").value = step;
  element("loading-text").textContent = text;
  if (step === 5) begin(stride);
}

function failed(reason) {
  element("loading").hidden = false;
  element("loading-text").textContent = `This did not work: ${lastLine(reason)}. Load the page again; a current Firefox, Chrome or Safari is needed.`;
  element("loading-text").className = "notice";
}

const lastLine = (text) => text.trim().split("\n").at(-1);

async function begin(stride) {
  page.stride = stride;
  for (const name of ["scratch", "file"]) element(name).disabled = false;
  board.enable();
  thumbs[0].input.checked = true;
  for (const thumb of thumbs) {
    thumb.picture = (await ask({ ask: "draw", kind: thumb.kind, number: thumb.number })).picture;
    drawing.image(thumb.canvas, thumb.picture);
    thumb.input.disabled = false;
    if (thumb.input.checked) {
      take(thumb.picture);
      element("loading").hidden = true;
      document.body.dataset.ready = "";
    }
  }
}

// 1. The picture.

const thumbs = PICTURES.map(([kind, label], number) => {
  const holder = document.createElement("label"), input = document.createElement("input"), canvas = document.createElement("canvas");
  Object.assign(input, { type: "radio", name: "washer", disabled: true });
  Object.assign(canvas, { width: 128, height: 128 });
  holder.append(input, canvas, label);
  element("thumbs").append(holder);
  const thumb = { kind, number, input, canvas, picture: null };
  input.addEventListener("change", () => take(thumb.picture));
  return thumb;
});

const board = makeBoard(element("board"), element("pen"), addStroke, (words) => (element("pen-says").textContent = words));

function take(picture) {
  page.base = picture;
  page.strokes = [];
  element("file-says").textContent = "";
  return repaint();
}

function addStroke(stroke) {
  page.strokes.push(stroke);
  return repaint().then(() => (element("pen-says").textContent = "Scratched"));
}

async function repaint() {
  const { base, strokes } = page, wanted = strokes.length;
  stop();
  const pixels = wanted ? (await ask({ ask: "paint", picture: base, strokes })).picture : base;
  if (page.base !== base || page.strokes.length !== wanted) return;
  page.pixels = pixels;
  drawing.image(element("picture"), pixels);
  for (const name of ["undo", "clean"]) enable(name, wanted, "scratch");
  outdated("The picture is new. Look for a defect.");
}

element("scratch").addEventListener("click", () => {
  const around = 2 * Math.PI * Math.random(), across = around + (Math.random() < 0.5 ? -1 : 1);
  const x = 0.5 + 0.233 * Math.cos(around), y = 0.5 + 0.233 * Math.sin(around);
  addStroke([-1, 1].map((side) => [x + 0.15 * side * Math.cos(across), y + 0.15 * side * Math.sin(across)]));
});
element("undo").addEventListener("click", () => (page.strokes.pop(), repaint()));
element("clean").addEventListener("click", () => ((page.strokes = []), repaint()));

async function open(file) {
  if (!file) return;
  const answer = await ask({ ask: "open", name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) });
  if (!answer.error) {
    for (const { input } of thumbs) input.checked = false;
    await take(answer.picture);
  }
  element("file-says").textContent = answer.error ?? "";
}

element("file").addEventListener("change", (event) => open(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    element("board").classList.toggle("dropping", name === "dragover");
    if (name === "drop" && "ready" in document.body.dataset) open(event.dataTransfer.files[0]);
  });
}

// 2. The knobs.

function makeKnob(name, choices) {
  const holder = document.createElement("div"), { label, shown, hint } = KNOBS[name];
  holder.className = "knob";
  holder.innerHTML = `<label for="k-${name}"><span></span><output for="k-${name}"></output></label>
    <input id="k-${name}" type="range" min="0" step="1" aria-describedby="h-${name}"><p class="small" id="h-${name}"></p>`;
  holder.querySelector("span").textContent = label;
  holder.querySelector("p").textContent = hint;
  element("knobs").append(holder);
  const input = element(`k-${name}`);
  input.max = choices.length - 1;
  const set = (value) => {
    input.value = choices.indexOf(value);
    page.knobs[name] = value;
    holder.querySelector("output").textContent = shown(value);
    input.setAttribute("aria-valuetext", shown(value));
  };
  input.addEventListener("input", () => (set(choices[input.value]), turned()));
  return set;
}

const row = () => page.rows.find((one) => Object.keys(KNOBS).every((name) => one[name] === page.knobs[name]));
const steps = () => page.knobs.start / page.stride + 1;
const work = () => 2 * steps() * page.knobs.samples * (page.knobs.strength ? 1 : 0.45); // in guided steps of one image

function turned() {
  stop();
  outdated("The knobs have been turned. Look again.");
}

try {
  page.rows = await (await fetch(new URL("thresholds.json", import.meta.url))).json();
} catch {
  failed("thresholds.json cannot be read");
}
const knobs = Object.keys(KNOBS).map((name) => [name, makeKnob(name, [...new Set(page.rows.map((one) => one[name]))])]);
const setUsual = () => knobs.forEach(([name, set]) => set(USUAL[name]));
setUsual();
element("usual").addEventListener("click", () => (setUsual(), turned()));

// 3. The chains.

element("run").addEventListener("click", search);
element("cancel").addEventListener("click", stop);

async function search() {
  const began = performance.now(), effort = work(), here = row(), pixels = page.pixels;
  Object.assign(page, { frames: [], mask: null, found: null, searching: {} });
  const { searching } = page;
  busy(true);
  outdated("Searching …");
  for (const canvas of shown) {
    drawing.clear(canvas);
    describe(canvas);
    canvas.classList.remove("stale");
  }
  element("run-says").textContent = `${PASSES.guided} …`;
  try {
    const { end } = await ask({ ask: "search", picture: pixels, row: here }, (step) => page.searching === searching && stepped(step));
    if (page.searching !== searching) return;
    if (end === "done") told((performance.now() - began) / 1000, effort);
  } catch (error) {
    element("run-bar").value = 0;
    element("run-says").textContent = `This did not work: ${lastLine(error.message)}`;
  }
  page.searching = null;
  busy(false);
}

// Below the button: the verdict in a word, how long the search took, and a link to the map, which is far below.
function told(seconds, effort) {
  const first = document.createElement("b"), link = document.createElement("a");
  page.seconds = [seconds / effort];
  first.textContent = document.querySelector("#verdict b").textContent;
  link.textContent = "See where, and why";
  link.href = "#h-map";
  element("run-says").replaceChildren(first, ` The search took ${seconds.toFixed(0)} s. `, link);
}

function stop() {
  if (!page.searching) return;
  worker.postMessage({ ask: "stop" });
  page.searching = null;
  busy(false);
  outdated("Stopped. Look again.");
}

function busy(yes) {
  const [on, off] = yes ? ["cancel", "run"] : ["run", "cancel"];
  enable(on, true);
  enable(off, false, on);
  if (yes) element("run-bar").value = 0;
}

function describe(canvas, words = "") {
  canvas.setAttribute("aria-label", `${names.get(canvas)}${words}`);
}

function stepped(step) {
  if (!("verdict" in step)) {
    page.frames.push({ ...step, mask: page.mask });
    element("run-bar").value = page.frames.length / (2 * steps());
    Object.assign(element("step"), { disabled: false, max: page.frames.length - 1, value: page.frames.length - 1 });
    return showStep();
  }
  if (step.chain === "mdps") return judge(step);
  page.mask = step.mask;
  drawing.mask(element("mask"), step.mask);
  describe(element("mask"), `; ${Math.round((100 * step.mask.filter(Boolean).length) / step.mask.length)} % of the pixels are suspected`);
  element("run-says").textContent = `${PASSES.mdps} …`;
}

function showStep() {
  const frame = page.frames[element("step").value], all = steps(), number = page.frames.indexOf(frame) % all + 1;
  drawing.image(element("x_t"), frame.x_t, false);
  drawing.image(element("x_0"), frame.x_0);
  if (frame.mask) drawing.outline(element("x_0"), frame.mask);
  const held = frame.mask ? "Inside the orange line the network redraws; outside it is your picture." : "The network works on every pixel.";
  const words = `${PASSES[frame.chain]}, step ${number} of ${all}, t = ${frame.t}.`;
  element("step-says").textContent = `${words} ${held}`;
  element("step").setAttribute("aria-valuetext", words);
}

element("step").addEventListener("input", showStep);

// 4 and 5. The map and the verdict.

function judge({ anomaly, sample, mask, verdict }) {
  const here = row(), values = new Float32Array(anomaly.buffer, anomaly.byteOffset, anomaly.length / 4);
  page.found = { ...verdict, goods: here.good_scores, threshold: here.decision_threshold };
  drawing.image(element("own"), page.pixels);
  drawing.image(element("sample"), sample);
  drawing.map(element("map"), page.pixels, values, here.decision_threshold, verdict.flagged ? verdict : null);
  Object.assign(element("map").dataset, { x: verdict.x, y: verdict.y });
  const where = placeOf(verdict);
  describe(element("map"), `; it is brightest ${where}`);
  const score = verdict.score.toPrecision(2), threshold = here.decision_threshold.toPrecision(2);
  const sentence = verdict.flagged
    ? `The score is ${score}, ${times(verdict.score / here.decision_threshold)} the threshold of ${threshold}. The map is brightest ${where}.`
    : `The score is ${score}, and the threshold is ${threshold}. ${mask.includes(1) ? "The network imagines nearly the same washer." : "No pixel was suspected."}`;
  const doubt = verdict.unsure ? " The samples differ so much that it might have come out the other way." : "";
  say(verdict.flagged ? "flagged" : "passed", verdict.flagged ? "Flagged." : "Not flagged.", ` ${sentence}${doubt}`);
  drawScale();
}

const times = (ratio) => (ratio < 1.95 ? `${Math.round(100 * (ratio - 1))} % above` : `${ratio.toFixed(ratio < 10 ? 1 : 0)} times`);

function placeOf({ x, y }) {
  const third = (share, low, high) => (share < 0.4 ? low : share > 0.6 ? high : "");
  const across = third(x, "left", "right"), down = third(y, "top", "bottom");
  return across || down ? `at the ${[down, across].filter(Boolean).join(" ")}` : "in the middle";
}

function say(kind, strong, words) {
  const line = document.createElement("p"), first = document.createElement("b");
  first.textContent = strong;
  line.className = kind;
  line.append(first, words);
  element("verdict").replaceChildren(line);
}

function outdated(words) {
  page.found = null;
  say("pending", "", words);
  for (const canvas of shown) canvas.classList.add("stale");
  element("run").disabled = !page.pixels || Boolean(page.searching);
  enable("usual", Object.keys(USUAL).some((name) => USUAL[name] !== page.knobs[name]), "run");
  if (!page.searching) {
    const seconds = page.seconds.map((each) => Math.max(1, Math.round(work() * each)));
    element("run-says").textContent = `A search takes about ${seconds.join(" to ")} s.`;
    element("run-bar").value = 0;
  }
  drawScale();
}

function drawScale() {
  const here = row(), scores = page.found ?? { goods: here.good_scores, threshold: here.decision_threshold };
  drawing.scale(element("scale"), scores);
  const words = [`threshold ${scores.threshold.toPrecision(2)}`, `good washers ${scores.goods[0].toPrecision(2)} to ${scores.goods.at(-1).toPrecision(2)}`];
  if (page.found) words.push(`this picture ${scores.score.toPrecision(2)}`);
  element("scale").setAttribute("aria-label", `Scores: ${words.join(", ")}`);
}

addEventListener("resize", drawScale);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawScale);
drawScale();
