// Log-mel features of a stream, and their normalization: those of biglittle_asr/features.

import { joined } from "./resample.js";

export class LogMel {
  /** `facts` are the features of model.json. */
  constructor(facts) {
    this.facts = facts;
    this.size = facts.filters.length;
    this.spectrum = new Spectrum(facts.n_fft);
    this.frame = new Float64Array(facts.n_fft);
    // The samples from number `first` on, and how many there have been in all.
    this.buffer = new Float32Array(0);
    this.first = 0;
    this.received = 0;
    this.frames = 0;
  }

  /** The frames (T x F numbers) whose windows the next samples complete. */
  add(samples) {
    this.buffer = joined(this.buffer, samples);
    this.received += samples.length;
    const { hop, center, before, left, window, n_fft } = this.facts;
    const needed = Math.max(center - before + window.length, left);
    const result = this.until(Math.max(this.frames, Math.floor((this.received - needed) / hop) + 1));
    // What a frame at the end mirrors is no longer than a window.
    const unused = Math.max(0, Math.min(this.frames * hop, this.received) - 2 * n_fft - this.first);
    this.buffer = this.buffer.slice(unused);
    this.first += unused;
    return result;
  }

  /** The frames that still wait for samples: those whose centers are within or just after them. */
  finish() {
    const { hop, center } = this.facts;
    return this.until(Math.max(1, Math.floor((this.received - center) / hop) + 1));
  }

  until(stop) {
    const result = new Float32Array(Math.max(0, stop - this.frames) * this.size);
    for (let place = 0; place < result.length; place += this.size) {
      this.compute(this.frames, result.subarray(place, place + this.size));
      this.frames += 1;
    }
    return result;
  }

  compute(number, result) {
    const { hop, center, before, window, preemphasis, filters, floor } = this.facts;
    const start = center - before + number * hop;
    let previous = this.at(start - 1);
    for (let place = 0; place < window.length; place++) {
      const sample = this.at(start + place);
      this.frame[place] = (sample - preemphasis * previous) * window[place];
      previous = sample;
    }
    const energies = this.spectrum.power(this.frame);
    filters.forEach(([bin, weights], band) => {
      let energy = 0;
      for (let place = 0; place < weights.length; place++) energy += weights[place] * energies[bin + place];
      result[band] = Math.log(Math.max(energy, floor));
    });
  }

  /** A sample; before the beginning and after the end, the utterance is mirrored or zero. */
  at(place) {
    if (place < 0 || place >= this.received) {
      if (!this.facts.reflect || !this.received) return 0;
      const period = 2 * this.received;
      const inside = ((place % period) + period) % period;
      place = Math.min(inside, period - 1 - inside);
    }
    return this.buffer[place - this.first];
  }
}

/** Energies of a Fourier transform of any size; the more often it can be halved, the faster. */
class Spectrum {
  constructor(size) {
    this.size = size;
    this.cos = Float64Array.from({ length: size }, (_, place) => Math.cos((2 * Math.PI * place) / size));
    this.sin = Float64Array.from({ length: size }, (_, place) => -Math.sin((2 * Math.PI * place) / size));
    this.real = new Float64Array(size);
    this.imaginary = new Float64Array(size);
    this.result = new Float64Array(Math.floor(size / 2) + 1);
  }

  power(input) {
    this.transform(input, 0, 1, this.size, 0);
    for (let bin = 0; bin < this.result.length; bin++) {
      this.result[bin] = this.real[bin] ** 2 + this.imaginary[bin] ** 2;
    }
    return this.result;
  }

  /** Transform every `stride`th input from `offset` on, and write it from `out` on. */
  transform(input, offset, stride, size, out) {
    const { real, imaginary, cos, sin } = this;
    if (size % 2) {
      for (let bin = 0; bin < size; bin++) {
        let re = 0, im = 0;
        for (let place = 0; place < size; place++) {
          const angle = ((bin * place) % size) * stride;
          re += input[offset + place * stride] * cos[angle];
          im += input[offset + place * stride] * sin[angle];
        }
        real[out + bin] = re;
        imaginary[out + bin] = im;
      }
      return;
    }
    const half = size / 2;
    this.transform(input, offset, 2 * stride, half, out);
    this.transform(input, offset + stride, 2 * stride, half, out + half);
    for (let bin = out, angle = 0; bin < out + half; bin++, angle += stride) {
      const re = real[bin + half] * cos[angle] - imaginary[bin + half] * sin[angle];
      const im = real[bin + half] * sin[angle] + imaginary[bin + half] * cos[angle];
      real[bin + half] = real[bin] - re;
      imaginary[bin + half] = imaginary[bin] - im;
      real[bin] += re;
      imaginary[bin] += im;
    }
  }
}

/** Normalize each of `size` features by its mean and standard deviation over all frames (T x F numbers). */
export function normalizeSentence(features, size, { std, min_std, epsilon }) {
  const count = Math.max(1, features.length / size);
  const result = new Float32Array(features.length);
  for (let band = 0; band < size; band++) {
    let sum = 0, squares = 0;
    for (let place = band; place < features.length; place += size) sum += features[place];
    const mean = sum / count;
    for (let place = band; place < features.length; place += size) squares += (features[place] - mean) ** 2;
    const divisor = std ? Math.max(Math.sqrt(squares / count), min_std) + epsilon : 1;
    for (let place = band; place < features.length; place += size) result[place] = (features[place] - mean) / divisor;
  }
  return result;
}
