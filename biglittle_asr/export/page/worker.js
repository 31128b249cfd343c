// Recognizes speech beside the page, which stays responsive. Messages of a recording:
//   to the worker:  begin {task, rate, live}, samples {task, samples}..., end {task}
//   from it:        frames, words and time as they come, then done or failed; each with its task

import { LogMel } from "./features.js";
import { openNetwork } from "./network.js";
import { Resampler, joined } from "./resample.js";
import { Decoder } from "./words.js";

const PREVIEW_MILLISECONDS = 500; // between two previews of a live recording, at least
const PREVIEW_SHARE = 3; // time between them, in times that the last one took

class Recording {
  constructor({ task, rate, live }) {
    Object.assign(this, { task, rate, live });
    this.resampler = new Resampler(rate, facts.features.sample_rate, facts.resampling);
    this.logMel = new LogMel(facts.features);
    this.decoder = new Decoder(facts);
    this.samples = 0;
    this.computing = 0; // ms
    this.sent = 0; // words
  }

  get duration() {
    return this.samples / this.rate;
  }

  async add(samples) {
    this.samples += samples.length;
    await this.take(this.logMel.add(this.resampler.add(samples)));
  }

  async end() {
    const rest = this.logMel.add(this.resampler.finish());
    await this.take(joined(rest, this.logMel.finish()));
    await this.finish();
  }

  async take(frames) {
    this.post("frames", { frames, size: this.logMel.size });
    await this.recognize(frames);
  }

  /** Tell the page about words from number `from` on, and about the text of the word that is not complete yet. */
  postWords(words, from = this.sent, open = this.decoder.open) {
    this.post("words", { words, from, open });
    this.sent = from + words.length;
  }

  post(type, content = {}) {
    postMessage({ type, task: this.task, ...content });
  }
}

/** With a causal network: words come while they are spoken. */
class Stream extends Recording {
  constructor(options) {
    super(options);
    network.begin();
  }

  async recognize(frames) {
    for await (const logProbs of network.step(frames)) this.postWords(this.decoder.add(logProbs));
  }

  async finish() {
    for await (const logProbs of network.finish()) this.postWords(this.decoder.add(logProbs));
    this.postWords(this.decoder.finish(this.duration));
  }
}

/** With a network that needs the whole: a live recording is read again and again until it ends. */
class Utterance extends Recording {
  constructor(options) {
    super(options);
    this.frames = [];
    this.due = performance.now() + PREVIEW_MILLISECONDS;
  }

  async recognize(frames) {
    this.frames.push(frames);
    if (!this.live || performance.now() < this.due) return;
    const start = performance.now();
    await this.read();
    const now = performance.now();
    this.due = now + Math.max(PREVIEW_MILLISECONDS, PREVIEW_SHARE * (now - start));
  }

  async finish() {
    await this.read();
  }

  async read() {
    this.frames = [joined(...this.frames)];
    this.decoder = new Decoder(facts);
    const words = [];
    for await (const logProbs of network.outputs(this.frames[0])) {
      words.push(...this.decoder.add(logProbs));
      if (!this.live) this.postWords(words, 0);
      await others();
      if (current !== this.task) return;
    }
    this.postWords([...words, ...this.decoder.finish(this.duration)], 0);
  }
}

// Messages are handled one after another, since a step of the network must not begin within another.

let facts, network, recording;
let current = null; // the task that the page wants; others are dropped
let queue = Promise.resolve();

/** Let messages arrive that came in the meantime. */
const others = () => new Promise((resolve) => setTimeout(resolve));

const HANDLERS = {
  begin: (message) => {
    recording = network.streams ? new Stream(message) : new Utterance(message);
  },
  samples: ({ samples }) => recording.add(samples),
  end: () => recording.end(),
};

async function handle(message) {
  await others();
  if (message.task !== current) return;
  const start = performance.now();
  try {
    await HANDLERS[message.type](message);
    if (current !== message.task) return;
    recording.computing += performance.now() - start;
    recording.post("time", { audio: recording.duration, computing: recording.computing / 1000 });
    if (message.type === "end") recording.post("done");
  } catch (error) {
    current = null;
    postMessage({ type: "failed", task: message.task, reason: error.message });
  }
}

onmessage = ({ data }) => {
  if (data.type === "begin" || data.type === "cancel") current = data.task;
  if (data.type in HANDLERS) queue = queue.then(() => handle(data));
};

// Loading

async function read(name, progress = () => {}) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: the web server answers ${response.status}.`);
  const parts = [];
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    progress(part.value.length);
  }
  return new Blob(parts).arrayBuffer();
}

async function open() {
  facts = JSON.parse(new TextDecoder().decode(await read("model.json")));
  const sizes = { [facts.network.file]: facts.network.bytes, ...facts.runtime };
  const total = Object.values(sizes).reduce((sum, size) => sum + size);
  let loaded = 0;
  const files = Object.keys(sizes).map((name) => read(name, (bytes) => {
    loaded += bytes;
    postMessage({ type: "loading", loaded, total });
  }));
  network = await openNetwork(facts, ...(await Promise.all(files)));
  const { name, live_seconds, features: { filters } } = facts;
  const { precision } = facts.network;
  const gain = filters.flatMap(([, weights]) => weights).reduce((sum, weight) => sum + weight) / filters.length;
  postMessage({ type: "ready", name, precision, live_seconds, gain, streams: network.streams });
}

open().catch(({ message }) => {
  const reason = `${message.replace(/\.?$/, ".")} If files of this page are damaged, export it again.`;
  postMessage({ type: "failed", task: null, reason });
});
