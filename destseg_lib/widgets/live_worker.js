// The worker that runs ONNX Runtime Web on one thread and reads pictures, and what it needs.

// Runs in the worker, which gets this function's text: it may use nothing from outside.
function work() {
  let ort;
  let teacher;
  let side; // of the model's pictures
  let white; // of 16-bit pictures, as the model's camera wrote them
  const models = {};
  const settings = { executionProviders: ["wasm"], extra: { session: { disable_quant_qdq: "1" } } };

  async function unpacked(parts) {
    const packed = parts.map((part) => Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0)));
    const plain = new Blob(packed).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain).arrayBuffer();
  }

  const text = async (parts) => new TextDecoder().decode(await unpacked(parts));

  // Of each new pixel in a row, which old ones it is made of and their weights times 2^22, as Pillow
  // has them for its bilinear filter.
  function weightsOf(from) {
    const scale = from / side;
    const reach = Math.max(scale, 1);
    return Array.from({ length: side }, (_, at) => {
      const centre = (at + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - reach + 0.5));
      const end = Math.min(from, Math.trunc(centre + reach + 0.5));
      const shares = [];
      for (let x = first; x < end; x += 1) shares.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) / reach)));
      const total = shares.reduce((a, b) => a + b);
      return { first, shares: shares.map((share) => Math.trunc(0.5 + (share / total) * 2 ** 22)) };
    });
  }

  // Squash a picture to the model's square as the library does, to the last bit of a pixel or two. It
  // is taken in strips: a telephone's canvas holds fewer pixels than its camera takes.
  function squashed(image) {
    const { width, height } = image;
    const rows = Math.min(height, Math.max(1, Math.floor(4e6 / width)));
    const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
    const narrow = new Uint8Array(3 * side * height);
    const across = weightsOf(width);
    for (let top = 0; top < height; top += rows) {
      context.fillStyle = "white"; // behind a picture that lets light through
      context.fillRect(0, 0, width, rows);
      context.drawImage(image, 0, -top);
      const { data } = context.getImageData(0, 0, width, Math.min(rows, height - top));
      for (let y = 0, to = 3 * side * top; y < data.length; y += 4 * width) {
        for (const { first, shares } of across) {
          let [red, green, blue] = [2 ** 21, 2 ** 21, 2 ** 21];
          for (let n = 0, at = y + 4 * first; n < shares.length; n += 1, at += 4) {
            red += shares[n] * data[at];
            green += shares[n] * data[at + 1];
            blue += shares[n] * data[at + 2];
          }
          narrow[to] = red >> 22;
          narrow[to + 1] = green >> 22;
          narrow[to + 2] = blue >> 22;
          to += 3;
        }
      }
    }
    const pixels = new Uint8Array(3 * side * side);
    weightsOf(height).forEach(({ first, shares }, y) => {
      for (let x = 0; x < 3 * side; x += 1) {
        let sum = 2 ** 21;
        for (let n = 0; n < shares.length; n += 1) sum += shares[n] * narrow[3 * side * (first + n) + x];
        pixels[3 * side * y + x] = sum >> 22;
      }
    });
    return pixels;
  }

  // Each answers with what it found, and which of that is handed over instead of copied.
  const tasks = {
    async begin({ files, ...about }) {
      ({ side, white } = about);
      // Strict, so what it declares is gone with it unless it is its value.
      ort = (0, eval)(`${await text(files["ort.wasm.min.js"])};ort`);
      ort.env.wasm.numThreads = 1;
      ort.env.wasm.wasmBinary = await unpacked(files["ort-wasm-simd-threaded.wasm"]);
      // Module workers and modules in blobs fail in a page from disk; an address that holds the module works.
      const mjs = encodeURIComponent(await text(files["ort-wasm-simd-threaded.mjs"]));
      ort.env.wasm.wasmPaths = { mjs: `data:text/javascript,${mjs}` };
      teacher = await ort.InferenceSession.create(await unpacked(files["teacher.onnx"]), settings);
      return [{}, []];
    },
    async model({ name, parts }) {
      models[name] = await ort.InferenceSession.create(await unpacked(parts), settings);
      return tasks.look({ name, pixels: new Uint8Array(3 * side * side) }); // the first pass is slow
    },
    async look({ name, pixels }) {
      const began = performance.now();
      const image = new ort.Tensor("uint8", pixels, [1, side, side, 3]);
      const features = await teacher.run({ pixels: image });
      const { maps, scores } = await models[name].run({ pixels: image, ...features });
      const answer = { maps: maps.data, scores: [...scores.data], ms: performance.now() - began };
      return [answer, [answer.maps.buffer]];
    },
    // A picture as the library reads it: turned as its camera says, with the numbers of its file.
    // `shown` is the same for the eye, no longer than `longest`.
    async read({ file, longest }) {
      const head = new Uint8Array(await file.slice(0, 26).arrayBuffer());
      const deep = head[1] === 0x50 && head[2] === 0x4e && head[3] === 0x47 && head[24] === 16; // PNG
      if (deep && white !== 65535) {
        throw new Error(`has 16 bits per colour, and white is ${white} in those of the model's camera, which a browser cannot know; save it with 8 bits`);
      }
      let image;
      try {
        image = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
      } catch {
        throw new Error("cannot be read as a picture; choose a JPEG, PNG or WebP file");
      }
      const pixels = squashed(image);
      const shrink = Math.min(1, longest / Math.max(image.width, image.height));
      const [resizeWidth, resizeHeight] = [image.width, image.height].map((n) => Math.max(1, Math.round(shrink * n)));
      const shown = await createImageBitmap(image, { resizeWidth, resizeHeight, resizeQuality: "medium" });
      image.close();
      return [{ pixels, shown }, [pixels.buffer, shown]];
    },
  };

  self.onmessage = async ({ data }) => {
    try {
      const [answer, handed] = await tasks[data.task](data);
      self.postMessage({ id: data.id, answer }, handed);
    } catch (error) {
      self.postMessage({ id: data.id, error: String(error.message || error) });
    }
  };
}

// Ask the worker; each question gets its answer.
function assistant() {
  const address = URL.createObjectURL(new Blob([`(${work})()`], { type: "text/javascript" }));
  const worker = new Worker(address);
  const waiting = new Map();
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(new Error(data.error));
    else resolve(data.answer);
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message || "the worker stopped"));
    waiting.clear();
  };
  let asked = 0;
  const ask = (task, content, handed = []) => new Promise((resolve, reject) => {
    waiting.set((asked += 1), { resolve, reject });
    worker.postMessage({ task, id: asked, ...content }, handed);
  });
  ask.stop = () => worker.terminate();
  return ask;
}

// The parts of a packed file: in the element's data, in the page, or each in a script of its own.
async function fetched(data, name, progress) {
  const parts = [];
  for (let number = 0; number < data.packs[name].parts; number += 1) {
    const key = `${name}.${number}`;
    let part = data.inline?.[key];
    if (!part) {
      if (!self.destsegParts?.[key]) await loaded(`${data.base}${key}.js`);
      part = self.destsegParts[key];
      delete self.destsegParts[key];
    }
    parts.push(part);
    progress(part.length);
  }
  return parts;
}

function loaded(address) {
  return new Promise((resolve, reject) => {
    const script = make("script", { src: address });
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${address.split("/").pop()} could not be loaded`));
    script.addEventListener("load", () => script.remove());
    document.head.append(script);
  });
}

async function json(parts) {
  const plain = new Blob(parts.map(bytes)).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).json();
}
