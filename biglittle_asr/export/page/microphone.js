// Collects the microphone's samples and sends them on in blocks.

const BLOCK = 2048; // samples: 43 ms at 48 kHz

registerProcessor("microphone", class extends AudioWorkletProcessor {
  block = new Float32Array(BLOCK);
  filled = 0;

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.block[this.filled++] = sample;
      if (this.filled < BLOCK) continue;
      this.port.postMessage(this.block, [this.block.buffer]);
      this.block = new Float32Array(BLOCK);
      this.filled = 0;
    }
    return true;
  }
});
