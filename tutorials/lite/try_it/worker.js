// The worker: Pyodide, the package, and try_it.py. The page asks with {id, ask, ...}, and is answered with {id, ...}.
// A search is answered step by step, so that a message to stop gets through between two steps.

const here = (name) => new URL(name, new URL(".", import.meta.url));
const tell = (message) => postMessage(message);
const breath = () => new Promise((done) => setTimeout(done));
let python, tried, searching;

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: the server answers ${response.status}`);
  return response;
}

async function start() {
  const say = (step, text) => tell({ loading: step, text });
  say(0, "Loading Python …");
  const site = await (await fetched(here("site.json"))).json();
  const wheel = fetched(here(site.wheel)).then((response) => response.arrayBuffer());
  wheel.catch(() => {}); // it is told below, where it is awaited
  const indexURL = here(site.pyodide).href;
  const { loadPyodide } = await import(`${indexURL}pyodide.mjs`);
  python = await loadPyodide({ indexURL });
  say(1, "Loading NumPy and SciPy …");
  await python.loadPackage(["numpy", "scipy", "pillow", "threadpoolctl", "tqdm"], { messageCallback: () => {} });
  say(2, "Loading mdps_ref …");
  python.unpackArchive(await wheel, "wheel");
  python.FS.writeFile("try_it.py", await (await fetched(here("try_it.py"))).text());
  say(3, "Importing …");
  tried = python.pyimport("try_it");
  say(4, "Reading the network's weights …");
  tried.bundled().destroy();
  tell({ loading: 5, text: "", stride: tried.USUAL.stride });
}

const plain = (proxy) => {
  const value = proxy.toJs({ dict_converter: Object.fromEntries });
  proxy.destroy();
  return value;
};

const answers = {
  draw: ({ kind, number }) => ({ picture: plain(tried.drawn(kind, number)) }),
  paint: ({ picture, strokes }) => ({ picture: plain(tried.painted(python.toPy(picture), JSON.stringify(strokes))) }),
  open({ name, bytes }) {
    const path = `/tmp/${name.replaceAll("/", "_")}`;
    python.FS.writeFile(path, bytes);
    try {
      return plain(tried.opened(path));
    } finally {
      python.FS.unlink(path);
    }
  },
};

async function search({ id, picture, row }) {
  searching = id;
  const steps = tried.told(python.toPy(picture), JSON.stringify(row));
  for (let next = steps.next(); searching === id && !next.done; next = steps.next()) {
    tell({ id, ...plain(next.value) });
    await breath();
  }
  steps.destroy();
  tell({ id, end: searching === id ? "done" : "stopped" });
}

const ready = start().catch((error) => tell({ failed: error.message }));

onmessage = async ({ data }) => {
  if (data.ask === "stop") searching = null;
  await ready;
  try {
    if (data.ask === "search") await search(data);
    else if (data.ask !== "stop") tell({ id: data.id, ...answers[data.ask](data) });
  } catch (error) {
    tell({ id: data.id, failed: error.message });
  }
};
