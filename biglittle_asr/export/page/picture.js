// The log-mel picture: frames enter on the right, and what was there moves to the left.

const DARKEST = -13, BRIGHTEST = 3; // logarithms of energies behind filters whose weights sum to one
const COLORS = [[13, 11, 38], [74, 18, 107], [165, 44, 96], [237, 105, 37], [252, 255, 164]];

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.palette = Array.from({ length: 256 }, (_, level) => color(level / 255));
    this.gain = 0; // logarithm of the mean sum of a filter's weights
    this.clear();
  }

  clear() {
    this.context.fillStyle = `rgb(${COLORS[0]})`;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Add frames of `size` energies each (T x F numbers). */
  add(frames, size) {
    const { canvas, context } = this;
    if (canvas.height !== size) {
      canvas.height = size;
      this.clear();
    }
    const shown = Math.min(canvas.width, frames.length / size);
    if (!shown) return;
    const first = frames.length / size - shown;
    const columns = context.createImageData(shown, size);
    for (let column = 0; column < shown; column++) {
      for (let band = 0; band < size; band++) {
        const energy = frames[(first + column) * size + band];
        const level = Math.max(0, Math.min(1, (energy - this.gain - DARKEST) / (BRIGHTEST - DARKEST)));
        const place = 4 * ((size - 1 - band) * shown + column);
        columns.data.set(this.palette[Math.round(255 * level)], place);
      }
    }
    context.drawImage(canvas, -shown, 0);
    context.putImageData(columns, canvas.width - shown, 0);
  }
}

function color(level) {
  const place = level * (COLORS.length - 1), below = Math.min(COLORS.length - 2, Math.floor(place));
  return [0, 1, 2].map((part) => {
    const [low, high] = [COLORS[below][part], COLORS[below + 1][part]];
    return Math.round(low + (high - low) * (place - below));
  }).concat(255);
}
