/* versions.js: the versions of a model: saving, restoring, deleting. What cannot be taken back is
 * asked for first. Below them the aliases that point to them. */
import {call, modelPath} from "./api.js";
import * as aliases from "./aliases.js";
import {h, bytes, heads, timeText, say, ask} from "./dom.js";

export async function open(name, panel, changed) {
  const [{versions: list}, named] = await Promise.all([call("GET", modelPath(name, "/versions")),
                                                       call("GET", modelPath(name, "/aliases"))]);
  const again = () => { changed(); return open(name, panel, changed); };
  panel.replaceChildren(saveForm(name, again), list.length ? table(name, list, named.aliases, again)
    : h("p", {class: "empty"}, "No version has been saved yet. A version holds parameters, optimiser " +
        "state and counters: with the settings of then, training goes on from it exactly as it did."),
    ...(list.length ? aliases.section(name, list, named, again) : []));
}

function saveForm(name, again) {
  const note = h("input", {type: "text", maxlength: 200, placeholder: "what is special about it"});
  const save = async event => {
    event.preventDefault();
    const v = await call("POST", modelPath(name, "/versions"), note.value ? {note: note.value} : {});
    say(`Saved version ${v.version} of ${name} at step ${v.step}.`);
    await again();
  };
  return h("form", {class: "row", onsubmit: save}, h("label", {}, "Note ", note),
    h("button", {class: "primary", type: "submit"}, "Save a version"));
}

async function restore(name, v, again) {
  const {settings_differ: differ} = await call("GET", modelPath(name, `/versions/${v.version}`));
  const yes = await ask({title: `Restore version ${v.version}?`, yes: "Restore",
    text: `${name} goes back to step ${v.step}. What it has learnt since is lost, unless you save ` +
          "a version first." +
          (differ.length ? ` These settings stay as they are now: ${differ.join(", ")}.` : "")});
  if (!yes)
    return;
  const answer = await call("POST", modelPath(name, `/versions/${v.version}/restore`));
  say(`Restored version ${v.version}: ${name} is at step ${answer.step}.`);
  await again();
}

async function remove(name, v, again) {
  const yes = await ask({title: `Delete version ${v.version}?`, yes: "Delete", danger: true,
    text: `Version ${v.version} of ${name} (step ${v.step}) will be gone for good.`});
  if (!yes)
    return;
  await call("DELETE", modelPath(name, `/versions/${v.version}`));
  say(`Deleted version ${v.version}.`);
  await again();
}

function table(name, list, named, again) {
  const rows = [...list].reverse().map(v => h("tr", {},
    h("th", {scope: "row", "data-label": "Version"}, h("span", {}, `${v.version} `, aliases.pointing(named, v.version))),
    h("td", {class: "number", "data-label": "Step"}, String(v.step)),
    h("td", {"data-label": "Note"}, v.note || "–"),
    h("td", {"data-label": "Saved"}, timeText(v.created_ms)),
    h("td", {class: "number", "data-label": "Size"}, bytes(v.bytes)),
    h("td", {"data-label": "SHA-256"}, h("code", {title: v.sha256}, v.sha256.slice(0, 10))),
    h("td", {}, h("div", {class: "buttons"},
      h("button", {type: "button", onclick: () => restore(name, v, again),
                   "aria-label": `Restore version ${v.version}`}, "Restore"),
      h("button", {type: "button", class: "danger", onclick: () => remove(name, v, again),
                   "aria-label": `Delete version ${v.version}`}, "Delete")))));
  return h("div", {class: "scroll"}, h("table", {class: "cards"},
    h("caption", {class: "unseen"}, `Versions of ${name}`),
    heads(["Version", "#Step", "Note", "Saved", "#Size", "SHA-256", "Actions"]), h("tbody", {}, rows)));
}
