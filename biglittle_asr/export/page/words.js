// Greedy CTC decoding of a stream: the words of biglittle_asr/decoding/ctc/greedy.py and biglittle_asr/tokens/words.py.

export class Decoder {
  /** `facts` are those of model.json. */
  constructor(facts) {
    this.tokens = facts.tokens;
    this.frameSeconds = facts.frame_seconds;
    this.pauseSeconds = facts.pause_seconds;
    this.tailSeconds = facts.tail_seconds;
    this.frames = 0;
    this.run = null; // the token that the last frame continues
    this.text = ""; // the word that is not complete yet
    this.word = [];
  }

  /** The words that the next log-probabilities (T x V numbers) complete. */
  add(logProbs) {
    const size = this.tokens.length, words = [];
    for (let row = 0; row < logProbs.length; row += size, this.frames++) {
      let best = 0;
      for (let token = 1; token < size; token++) if (logProbs[row + token] > logProbs[row + best]) best = token;
      const value = logProbs[row + best];
      if (this.run && this.run.token === best) {
        this.run.end = this.frames + 1;
        this.run.logProb = Math.max(this.run.logProb, value);
        continue;
      }
      words.push(...this.close());
      // Token 0 is the blank.
      if (best) this.run = { token: best, start: this.frames, end: this.frames + 1, logProb: value };
    }
    return [...words, ...this.reach(this.run ? this.run.start : this.frames)];
  }

  /** The last word of an utterance of `duration` seconds. */
  finish(duration) {
    return [...this.close(), ...this.complete(duration)];
  }

  /** The text of the word that is not complete yet. */
  get open() {
    return this.text + (this.run ? this.tokens[this.run.token].trim() : "");
  }

  /** Add the token that has ended. */
  close() {
    const run = this.run;
    if (!run) return [];
    this.run = null;
    const words = this.reach(run.start);
    this.tokens[run.token].split(/\s/).forEach((part, place) => {
      if (place > 0) words.push(...this.complete(run.start * this.frameSeconds));
      if (!part) return;
      this.text += part;
      this.word.push(run);
    });
    return words;
  }

  /** The word that a long enough pause completes, given that no token begins before a frame. */
  reach(frame) {
    const time = frame * this.frameSeconds, last = this.word.at(-1);
    // Half a millisecond of tolerance for rounding errors in multiples of frameSeconds.
    const paused = last && time - last.end * this.frameSeconds > this.pauseSeconds - 5e-4;
    return paused ? this.complete(time) : [];
  }

  complete(nextStart) {
    if (!this.word.length) return [];
    const start = this.word[0].start * this.frameSeconds;
    const end = Math.min(nextStart, this.word.at(-1).end * this.frameSeconds + this.tailSeconds);
    // The geometric mean over the tokens of the largest probability of each in its frames.
    const mean = this.word.reduce((sum, token) => sum + token.logProb, 0) / this.word.length;
    const confidence = Math.exp(Math.min(0, mean));
    const word = { text: this.text, start: milliseconds(start), end: milliseconds(Math.max(start, end)), confidence };
    this.text = "";
    this.word = [];
    return [word];
  }
}

const milliseconds = (seconds) => Math.round(seconds * 1000) / 1000;
