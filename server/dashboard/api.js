/* api.js: talking to the daemon: requests, and events that go on after a lost connection where they
 * stopped. A key, where the daemon wants one, is asked for once and kept for as long as the tab. */
import {ask} from "./dom.js";

const KEY = "backpropd-key";
let asking = null;

function headers(more) {
  const key = sessionStorage.getItem(KEY);
  return {...more, ...(key ? {Authorization: `Bearer ${key}`} : {})};
}

/* All requests that are refused at once wait for the one question. */
async function askForKey() {
  asking ??= ask({title: "A key is needed", text: "This daemon answers only with an API key.",
                  yes: "Use it", field: "Key"});
  const key = await asking;
  asking = null;
  if (key)
    sessionStorage.setItem(KEY, key);
  return key;
}

async function send(path, options) {
  const used = sessionStorage.getItem(KEY);
  const response = await fetch(path, {...options, headers: headers(options.headers)});
  if (response.status !== 401)
    return response;
  if (used !== sessionStorage.getItem(KEY))
    return send(path, options); /* another was given meanwhile, or this one was let go of */
  sessionStorage.removeItem(KEY); /* sent again and again it would count as guessing */
  return await askForKey() ? send(path, options) : response;
}

/* The answer's JSON, or its image as a blob; an Error with the daemon's sentence and .status. */
export async function call(method, path, body, extra = {}) {
  const options = {method, headers: {...extra}};
  if (body instanceof Blob) {
    options.body = body;
    options.headers["Content-Type"] = body.type;
  } else if (body !== undefined) {
    options.body = typeof body === "string" ? body : JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await send(path, options);
  if (response.ok && (response.headers.get("Content-Type") || "").startsWith("image/"))
    return response.blob();
  const answer = await response.json().catch(() => ({}));
  if (response.ok)
    return answer;
  const error = new Error(answer.error || `${method} ${path} answers ${response.status}`);
  error.status = response.status;
  throw error;
}

export const modelPath = (name, rest = "") => `/v2/models/${encodeURIComponent(name)}${rest}`;

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/* Splits what arrives into events, which end with an empty line, and calls take(event, id, data). */
async function readEvents(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done)
      return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = {};
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        if (colon > 0)
          fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
      }
      if (fields.data !== undefined)
        take(fields.event || "message", fields.id, JSON.parse(fields.data));
    }
  }
}

/* Follows a model's events from a cursor on until stop() is called. on.row(data), on.state("live" |
 * "waiting" | "polling" | "gone"). EventSource is not used because it cannot send a key. */
export function follow(name, since, on) {
  const abort = new AbortController();
  let cursor = since, over = false;
  const take = (event, id, data) => {
    if (event === "deleted")
      over = true;
    else if (id !== undefined) {
      cursor = id;
      on.row(data);
    }
  };
  const run = async () => {
    while (!over) {
      let pause = 2000;
      try {
        const response = await send(modelPath(name, "/events"), {
          signal: abort.signal, headers: {"Last-Event-ID": cursor}});
        if (response.status === 404)
          over = true;
        if (response.ok) {
          on.state("live");
          await readEvents(response, take);
          pause = 500;
        }
      } catch {
        if (abort.signal.aborted)
          return;
      }
      if (!over) {
        on.state("waiting");
        await sleep(pause);
      }
    }
    on.state("gone");
  };
  run();
  return {stop() { over = true; abort.abort(); }};
}
