// Audio files and the microphone, as samples of one channel at their own rate.

const USUAL_RATE = 48000; // Hz

/** Decode a file: {samples, rate}. */
export async function readFile(file) {
  const content = await file.arrayBuffer();
  const rate = rateOf(new Uint8Array(content)) ?? USUAL_RATE;
  let audio;
  try {
    // The browser resamples to the rate of the context, so it is given the file's own: one resampler is enough.
    audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content);
  } catch {
    throw new Error("this browser cannot decode it; convert it to WAV or FLAC.");
  }
  const samples = audio.getChannelData(0).slice();
  for (let channel = 1; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, place) => { samples[place] += sample; });
  }
  if (audio.numberOfChannels > 1) samples.forEach((sum, place) => { samples[place] = sum / audio.numberOfChannels; });
  if (!samples.some((sample) => sample !== 0)) throw new Error("holds nothing but zeros; check the recording.");
  return { samples, rate: audio.sampleRate };
}

/** The sample rate in the header of a WAV, FLAC, Ogg or MP3 file; undefined for others. */
function rateOf(bytes) {
  const view = new DataView(bytes.buffer);
  const text = (place, length) => String.fromCharCode(...bytes.subarray(place, place + length));
  if (text(0, 4) === "RIFF" && text(8, 4) === "WAVE") {
    for (let place = 12; place + 16 <= bytes.length; place += 8 + view.getUint32(place + 4, true)) {
      if (text(place, 4) === "fmt ") return supported(view.getUint32(place + 12, true));
    }
  }
  if (text(0, 4) === "fLaC" && bytes.length > 22) return supported(view.getUint32(18) >>> 12);
  if (text(0, 4) === "OggS" && text(29, 6) === "vorbis") return supported(view.getUint32(40, true));
  const start = text(0, 3) === "ID3" ? 10 + [6, 7, 8, 9].reduce((size, place) => size * 128 + bytes[place], 0) : 0;
  if (start + 4 <= bytes.length && bytes[start] === 0xff && bytes[start + 1] >>> 5 === 7) {
    const halvings = { 3: 0, 2: 1, 0: 2 }[(bytes[start + 1] >>> 3) & 3];
    return supported([44100, 48000, 32000][(bytes[start + 2] >>> 2) & 3] / 2 ** halvings);
  }
  return undefined;
}

/** A rate if browsers have contexts of it, else undefined. */
const supported = (rate) => (rate >= 8000 && rate <= 96000 ? rate : undefined);

/** Open the microphone, whose samples come in blocks: {rate, stop}. */
export async function openMicrophone(receive) {
  const unprocessed = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...unprocessed } });
  const context = new AudioContext();
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
  try {
    await context.audioWorklet.addModule("microphone.js");
    const node = new AudioWorkletNode(context, "microphone");
    // Some browsers run only what leads to an output; what comes out of this one is silence.
    context.createMediaStreamSource(stream).connect(node).connect(context.destination);
    await context.resume();
    // Blocks wait until there is a receiver.
    node.port.onmessage = ({ data }) => receive(data);
  } catch (error) {
    stop();
    throw error;
  }
  return { rate: context.sampleRate, stop };
}
