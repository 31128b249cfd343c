// Resampling of a stream: the samples of biglittle_asr/audio/resample.py, by a sinc in a Hann window.

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

export class Resampler {
  /** Rates are in Hz; `facts` are those of model.json. */
  constructor(oldRate, newRate, facts) {
    const common = gcd(oldRate, newRate);
    this.old = oldRate / common;
    this.new = newRate / common;
    // Output samples lie `phase / new` after an input sample, with `new` different phases.
    const edge = (Math.min(this.old, this.new) * facts.rolloff) / this.old;
    this.reach = Math.ceil(facts.zero_crossings / edge);
    this.width = 2 * this.reach + 2;
    this.filters = new Float32Array(this.new * this.width);
    for (let phase = 0; phase < this.new; phase++) {
      for (let tap = 0; tap < this.width; tap++) {
        const time = (tap - this.reach - phase / this.new) * edge;
        const crossing = Math.max(-facts.zero_crossings, Math.min(facts.zero_crossings, time));
        const window = Math.cos((crossing * Math.PI) / (2 * facts.zero_crossings)) ** 2;
        const sinc = crossing === 0 ? 1 : Math.sin(Math.PI * crossing) / (Math.PI * crossing);
        this.filters[phase * this.width + tap] = sinc * window * edge;
      }
    }
    // The buffered input, from sample `first` on. Before the beginning and after the end, the input is zero.
    this.buffer = new Float32Array(this.reach);
    this.first = -this.reach;
    this.received = 0;
    this.done = 0;
  }

  /** Number of output samples for a number of input samples, rounded up. */
  outputLength(samples) {
    return Math.ceil((samples * this.new) / this.old);
  }

  /** The output samples that the next input samples complete. */
  add(samples) {
    if (this.old === this.new) return samples;
    this.buffer = joined(this.buffer, samples);
    this.received += samples.length;
    // A filter reaches `reach` samples plus one to the right of its input sample.
    const result = this.filter(this.outputLength(Math.max(0, this.received - this.reach - 1)));
    const unused = Math.floor((this.done * this.old) / this.new) - this.reach - this.first;
    this.buffer = this.buffer.slice(unused);
    this.first += unused;
    return result;
  }

  /** The last output samples. */
  finish() {
    if (this.old === this.new) return new Float32Array(0);
    this.buffer = joined(this.buffer, new Float32Array(this.reach + 1));
    return this.filter(this.outputLength(this.received));
  }

  filter(stop) {
    const result = new Float32Array(Math.max(0, stop - this.done));
    for (let index = 0; index < result.length; index++) {
      const place = (this.done + index) * this.old;
      const from = Math.floor(place / this.new) - this.reach - this.first;
      const filter = (place % this.new) * this.width;
      let sum = 0;
      for (let tap = 0; tap < this.width; tap++) sum += this.buffer[from + tap] * this.filters[filter + tap];
      result[index] = sum;
    }
    this.done += result.length;
    return result;
  }
}

/** Arrays of numbers, one after another. */
export function joined(...parts) {
  const result = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    result.set(part, place);
    place += part.length;
  }
  return result;
}
