// The page: controls, the picture, and the words. Texts are inserted as text, never as HTML.

import { openMicrophone, readFile } from "./audio.js";
import { Picture } from "./picture.js";

const BLOCK_SECONDS = 2; // of a file, for the picture to move
const LEVELS = [[0.9, "sure"], [0.6, "likely"], [0, "unsure"]]; // confidence, from which on

const byId = (id) => document.getElementById(id);
const controls = { microphone: byId("microphone"), files: byId("files"), cancel: byId("cancel") };
const results = byId("results");
const picture = new Picture(byId("picture"));

let model; // what the worker says of the model when it is loaded
let task = 0; // number of the recording
let result = null; // where its words go
let live = null; // the microphone
let ended = () => {}; // called when the worker is done with the recording
const waiting = []; // files

say("Loading");

// The worker's script is a blob, since such a worker has this page's Content-Security-Policy; one with an address of
// its own would have none.
const script = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
const worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { type: "module" });
worker.onerror = () => fail("The recognizer cannot be started in this browser.");
worker.onmessage = ({ data }) => {
  if (data.task === undefined || data.task === null || data.task === task) HANDLERS[data.type](data);
};

const HANDLERS = {
  loading: ({ loaded, total }) => {
    byId("loading").value = loaded / total;
    say(`Loading: ${megabytes(loaded)} of ${megabytes(total)} MB`);
  },
  ready: (facts) => {
    model = facts;
    picture.gain = Math.log(facts.gain);
    byId("loading").hidden = true;
    byId("model").textContent = `${model.name}, in ${model.precision}. Audio is sent nowhere.`;
    enable();
    const can = navigator.mediaDevices?.getUserMedia;
    say(can ? "Ready" : "Ready for files. The microphone needs an address with https, or localhost.");
  },
  frames: ({ frames, size }) => picture.add(frames, size),
  words: ({ words, from, open }) => result.show(words, from, open),
  time: ({ audio, computing }) => {
    result.time(audio, computing);
    if (live && !model.streams && audio > model.live_seconds) stopMicrophone();
  },
  done: () => ended(),
  failed: ({ task: failed, reason }) => {
    if (failed === null) fail(reason);
    else ended(reason);
  },
};

function say(text) {
  byId("status").textContent = text;
}

function fail(reason) {
  byId("loading").hidden = true;
  say(`Loading failed. ${reason}`);
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** Enable what can be done now: nothing is going on, or files are read, or the microphone is open. */
function enable(going = "") {
  const cancelled = document.activeElement === controls.cancel;
  controls.microphone.disabled = going === "files" || !navigator.mediaDevices?.getUserMedia;
  controls.microphone.textContent = going === "microphone" ? "Stop microphone" : "Start microphone";
  controls.files.disabled = going === "microphone";
  controls.cancel.hidden = going !== "files";
  // The keyboard goes on beside a button that is gone.
  if (cancelled && controls.cancel.hidden) controls.files.focus();
  results.setAttribute("aria-busy", String(going !== ""));
}

// Recordings

/** The words of a recording, on the page. */
class Result {
  constructor(name) {
    this.text = make("p", "words", make("span", "open", "…"));
    this.text.dir = "auto";
    this.facts = make("p", "muted", "");
    this.element = make("article", "", make("h2", "", name), this.text, this.facts);
    results.prepend(this.element);
  }

  /** Replace the words from number `from` on. */
  show(words, from, open) {
    while (this.text.children.length > from) this.text.lastChild.remove();
    this.text.append(...words.map(wordElement));
    if (open) this.text.append(make("span", "open", open));
  }

  time(audio, computing) {
    const share = audio ? computing / audio : 0;
    this.facts.textContent = `${audio.toFixed(1)} s of audio, computed in ${computing.toFixed(2)} s: `
      + `${share.toFixed(3)} s per second of audio`;
  }

  end(problem) {
    this.text.querySelector(".open")?.remove();
    if (problem) this.text.replaceChildren(make("span", "problem", problem));
    else if (!this.text.children.length) this.text.append(make("span", "muted", "No words"));
  }
}

function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function wordElement({ text, start, end, confidence }) {
  const [, level] = LEVELS.find(([least]) => confidence >= least);
  const element = make("span", `word ${level}`, make("span", "text", text), " ", make("small", "", percent(confidence)), " ");
  element.title = `${start.toFixed(2)} to ${end.toFixed(2)} s`;
  return element;
}

const percent = (confidence) => `${Math.round(100 * confidence)} %`;

/** Begin a recording; the promise is kept when its words are known, or it was given up. */
function begin(name, rate) {
  task += 1;
  result = new Result(name);
  picture.clear();
  worker.postMessage({ type: "begin", task, rate, live: live !== null });
  return new Promise((resolve) => {
    ended = (problem) => {
      ended = () => {};
      result.end(problem);
      resolve();
    };
  });
}

function send(samples) {
  worker.postMessage({ type: "samples", task, samples }, [samples.buffer]);
}

function end() {
  worker.postMessage({ type: "end", task });
}

// Files

let working = false;
let cancelled = false;

async function addFiles(files) {
  waiting.push(...files);
  if (!waiting.length || working || speaking || !model) return;
  working = true;
  cancelled = false;
  enable("files");
  for (let file = waiting.shift(); file; file = waiting.shift()) {
    say(waiting.length ? `Reading ${file.name}; ${waiting.length} to go` : `Reading ${file.name}`);
    await transcribe(file);
  }
  working = false;
  enable();
  say("Ready");
}

async function transcribe(file) {
  let audio;
  try {
    audio = await readFile(file);
  } catch (error) {
    new Result(file.name).end(`${file.name}: ${error.message}`);
    return;
  }
  if (cancelled) {
    new Result(file.name).end("Cancelled");
    return;
  }
  const done = begin(file.name, audio.rate);
  const block = BLOCK_SECONDS * audio.rate;
  for (let start = 0; start < audio.samples.length; start += block) send(audio.samples.slice(start, start + block));
  end();
  await done;
}

controls.files.addEventListener("change", () => {
  addFiles(controls.files.files);
  controls.files.value = ""; // so that the same file can be chosen again
});
controls.cancel.addEventListener("click", () => {
  waiting.length = 0;
  cancelled = true;
  worker.postMessage({ type: "cancel", task: null });
  ended("Cancelled");
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  addFiles(event.dataTransfer.files);
});

// The microphone. Its button is never disabled meanwhile, since the keyboard would lose it.

let speaking = false;
let spoken = 0; // recordings

async function startMicrophone() {
  speaking = true;
  say("Opening the microphone");
  try {
    live = await openMicrophone((samples) => live && send(samples));
    spoken += 1;
    const done = begin(`Microphone ${spoken}`, live.rate);
    enable("microphone");
    say(model.streams ? "Listening" : `Listening, for up to ${model.live_seconds} s`);
    await done;
    say("Ready");
  } catch (error) {
    say(`The microphone cannot be used: ${error.message}`);
  }
  live?.stop();
  live = null;
  speaking = false;
  enable();
  addFiles([]); // those that were dropped meanwhile
}

function stopMicrophone() {
  live.stop();
  live = null;
  end();
  say("Reading the last words");
}

controls.microphone.addEventListener("click", () => {
  if (live) stopMicrophone();
  else if (!speaking) startMicrophone();
});
