// The engine: CPython with NumPy and ttc_env, from the parts that the page carries. Nothing is
// fetched; what the runtime asks for by name is answered from the parts.
//
// In: { parts: { name: base64 } } once, then { id, options }. Out: { state } while loading, then
// { id, facts } or { id, error }.
"use strict";

// A folder that does not exist: `fetch` below answers for it.
const WHERE = "https://parts.invalid/";
const TYPES = { wasm: "application/wasm", json: "application/json" };
let explore = null;

function bytes(base64) {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

async function unpack(name, base64) {
  const packed = bytes(base64);
  if (!name.endsWith(".gz")) return packed;
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start(parts) {
  const files = {};
  await Promise.all(
    Object.entries(parts).map(async ([name, base64]) => {
      files[name.replace(/\.gz$/, "")] = await unpack(name, base64);
    }),
  );
  self.fetch = async (request) => {
    const name = String(request.url || request).replace(WHERE, "");
    if (!(name in files)) throw new Error(`the page does not carry ${name}`);
    const type = TYPES[name.split(".").pop()] || "application/octet-stream";
    return new Response(files[name], { headers: { "Content-Type": type } });
  };
  for (const name of ["pyodide.asm.js", "pyodide.js"]) {
    const url = URL.createObjectURL(new Blob([files[name]], { type: "text/javascript" }));
    importScripts(url);
    URL.revokeObjectURL(url);
  }
  postMessage({ state: "starting Python…" });
  const python = await loadPyodide({ indexURL: WHERE });
  await python.loadPackage("numpy", { messageCallback() {}, checkIntegrity: false });
  python.unpackArchive(files["ttc_env.zip"], "zip", {
    extractDir: python.runPython("import site; site.getsitepackages()[0]"),
  });
  explore = python.runPython(`
import json
from ttc_env.report.facts import explore

def answer(options):
    return json.dumps(explore(json.loads(options)), allow_nan=False)

answer`);
}

self.onmessage = async ({ data }) => {
  try {
    if (data.parts) {
      await start(data.parts);
      postMessage({ state: "ready" });
    } else {
      postMessage({ id: data.id, facts: JSON.parse(explore(JSON.stringify(data.options))) });
    }
  } catch (error) {
    // Of a Python traceback the last line says what was wrong.
    const text = String(error.message || error)
      .trim()
      .split("\n")
      .pop()
      .replace(/^\w+(Error|Exception): /, "");
    postMessage(data.parts ? { state: "failed", error: text } : { id: data.id, error: text });
  }
};
