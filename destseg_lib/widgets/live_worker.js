// The worker that runs ONNX Runtime Web on one thread, and the loading of what it needs.

// Runs in the worker, which gets this function's text: it may use nothing from outside.
function work() {
  let ort;
  let teacher;
  const models = {};
  const settings = { executionProviders: ["wasm"], extra: { session: { disable_quant_qdq: "1" } } };

  async function unpacked(parts) {
    const packed = parts.map((part) => Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0)));
    const plain = new Blob(packed).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain).arrayBuffer();
  }

  const text = async (parts) => new TextDecoder().decode(await unpacked(parts));

  const tasks = {
    async begin({ files }) {
      // Strict, so what it declares is gone with it unless it is its value.
      ort = (0, eval)(`${await text(files["ort.wasm.min.js"])};ort`);
      ort.env.wasm.numThreads = 1;
      ort.env.wasm.wasmBinary = await unpacked(files["ort-wasm-simd-threaded.wasm"]);
      // Module workers and modules in blobs fail in a page from disk; an address that holds the module works.
      const mjs = encodeURIComponent(await text(files["ort-wasm-simd-threaded.mjs"]));
      ort.env.wasm.wasmPaths = { mjs: `data:text/javascript,${mjs}` };
      teacher = await ort.InferenceSession.create(await unpacked(files["teacher.onnx"]), settings);
    },
    async model({ name, parts }) {
      models[name] = await ort.InferenceSession.create(await unpacked(parts), settings);
      await tasks.look({ name, pixels: new Uint8Array(3 * 128 * 128) }); // the first pass is slow
    },
    async look({ name, pixels }) {
      const began = performance.now();
      const image = new ort.Tensor("uint8", pixels, [1, 128, 128, 3]);
      const features = await teacher.run({ pixels: image });
      const { maps, scores } = await models[name].run({ pixels: image, ...features });
      return { maps: maps.data, scores: [...scores.data], ms: performance.now() - began };
    },
  };

  self.onmessage = async ({ data }) => {
    try {
      const answer = (await tasks[data.task](data)) || {};
      self.postMessage({ id: data.id, answer }, answer.maps ? [answer.maps.buffer] : []);
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
  return (task, content, transfer = []) => new Promise((resolve, reject) => {
    waiting.set((asked += 1), { resolve, reject });
    worker.postMessage({ task, id: asked, ...content }, transfer);
  });
}

// The parts of a packed file, each a script that leaves its text behind.
async function fetched(data, name, progress) {
  const parts = [];
  for (let number = 0; number < data.packs[name].parts; number += 1) {
    const key = `${name}.${number}`;
    if (!data.inline) {
      await new Promise((resolve, reject) => {
        const script = make("script", { src: `${data.base}${key}.js` });
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${key}.js could not be loaded`));
        document.head.append(script);
        script.addEventListener("load", () => script.remove());
      });
    }
    const held = data.inline || self.destsegParts;
    parts.push(held[key]);
    delete held[key];
    progress(parts[number].length);
  }
  return parts;
}

async function json(parts) {
  const plain = new Blob(parts.map(bytes)).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).json();
}
