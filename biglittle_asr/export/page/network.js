// The network in onnxruntime-web: in WebAssembly and one thread, so that any web server will do.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { normalizeSentence } from "./features.js";
import { joined } from "./resample.js";

/** Open the network that model.json describes; the files are ArrayBuffers. */
export async function openNetwork(facts, network, wasm) {
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasm;
  const session = await ort.InferenceSession.create(network, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  return "state_size" in facts.network ? new StreamNetwork(session, facts) : new UtteranceNetwork(session, facts);
}

class Network {
  constructor(session, facts) {
    this.session = session;
    this.facts = facts.network;
    this.size = facts.features.filters.length;
    this.normalization = facts.normalization;
  }

  /** Run on the features of some frames (T x F numbers) and further inputs; returns the outputs in order. */
  async run(features, others) {
    const count = features.length / this.size;
    const planes = new Float32Array(features.length);
    for (let frame = 0, place = 0; frame < count; frame++) {
      for (let band = 0; band < this.size; band++, place++) planes[band * count + frame] = features[place];
    }
    const inputs = [
      new ort.Tensor("float32", planes, [1, this.size, count]),
      new ort.Tensor("int64", BigInt64Array.of(BigInt(count)), [1]),
      ...others,
    ];
    const names = this.session.inputNames;
    const found = await this.session.run(Object.fromEntries(inputs.map((input, place) => [names[place], input])));
    return this.session.outputNames.map((name) => found[name]);
  }

  outputFrames(frames) {
    return Math.ceil(frames / this.facts.time_stride);
  }
}

/** A network that takes a whole utterance, in windows that change no output (biglittle_asr/inference/windows.py). */
class UtteranceNetwork extends Network {
  streams = false;

  /** Yields log-probabilities (T' x V numbers) of an utterance's features (T x F numbers), window by window. */
  async *outputs(features) {
    const count = features.length / this.size;
    const { window = count, before = 0, after = 0, longest = Infinity } = this.facts;
    if (count > longest) throw new Error("This model reads a recording as a whole, and this one is too long; cut it.");
    if (this.facts.normalized && this.normalization) {
      features = normalizeSentence(features, this.size, this.normalization);
    }
    for (let start = 0, last = false; !last && start < count; start += window) {
      last = start + window + after > count;
      const from = Math.max(0, start - before), to = last ? count : start + window + after;
      const [found] = await this.run(features.subarray(from * this.size, to * this.size), []);
      const first = this.outputFrames(start - from), tokens = found.dims[2];
      const stop = last ? found.dims[1] : first + this.outputFrames(window);
      yield found.data.subarray(first * tokens, stop * tokens);
    }
  }
}

/** A causal network, which takes steps of one size and carries a state. */
class StreamNetwork extends Network {
  streams = true;

  begin() {
    const size = this.facts.state_size;
    this.waiting = new Float32Array(0);
    this.state = [
      new ort.Tensor("float32", new Float32Array(size), [1, 1, 1, size]),
      new ort.Tensor("float32", new Float32Array(1), [1, 1, 1, 1]),
      new ort.Tensor("int64", new BigInt64Array(1), [1]),
    ];
  }

  /** Yields the log-probabilities (T' x V numbers) of the steps that the next features (T x F numbers) complete. */
  async *step(features) {
    const length = this.facts.window * this.size;
    this.waiting = joined(this.waiting, features);
    while (this.waiting.length >= length) {
      const now = this.waiting.subarray(0, length);
      this.waiting = this.waiting.subarray(length);
      yield (await this.next(now)).data;
    }
  }

  /** Yields the log-probabilities of the frames that still wait for a whole step. */
  async *finish() {
    const frames = this.waiting.length / this.size;
    if (!frames) return;
    // Frames behind the end cannot change those before, since the network is causal.
    const missing = new Float32Array((this.facts.window - frames) * this.size);
    const found = await this.next(joined(this.waiting, missing));
    yield found.data.subarray(0, this.outputFrames(frames) * found.dims[2]);
  }

  async next(features) {
    const [outputs, , ...state] = await this.run(features, this.state);
    this.state = state;
    return outputs;
  }
}
