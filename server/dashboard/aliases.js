/* aliases.js: names for versions: setting and moving them, taking a move back, deleting, and the
 * ledger of who did it. Clients follow an alias at once, so each change is asked for first. */
import {call, modelPath} from "./api.js";
import {h, heads, timeText, say, ask} from "./dom.js";

const aliasPath = (name, alias, rest = "") => modelPath(name, `/aliases/${encodeURIComponent(alias)}${rest}`);

/* Those that point to a version, for the table of versions. */
export const pointing = (aliases, version) => aliases.filter(a => a.version === version).map(a =>
  h("span", {class: "alias", title: `${a.alias} points to version ${version}`}, a.alias));

/* The panel's part about aliases. `list` is what GET .../aliases answers; again() after changes. */
export function section(name, versions, list, again) {
  return [h("h3", {}, "Aliases"), h("p", {class: "quiet"}, "An alias stands in paths wherever a version's " +
    "number may, as in ", h("code", {}, `/v2/models/${name}/versions/prod/infer`), "."),
    setForm(name, versions, list.aliases, again),
    list.aliases.length > 0 && table(name, list.aliases, again),
    list.moves.length > 0 && ledger(name, list.moves)].filter(Boolean);
}

/* ---- changes --------------------------------------------------------------------------------- */

const wordsOf = why => why ? {why} : {};

async function set(name, alias, version, why, from, again) {
  const yes = await ask({title: `${from ? "Move" : "Set"} ${alias}?`, yes: from ? "Move" : "Set",
    text: from ? `${alias} of ${name} points to version ${from}; clients get version ${version} from now on.`
               : `${alias} of ${name} will point to version ${version}.`});
  if (!yes)
    return;
  const answer = await call("PUT", aliasPath(name, alias), {version, ...wordsOf(why)});
  say(answer.moved ? `${alias} points to version ${version}.` : `${alias} pointed to version ${version} already.`);
  await again();
}

async function rollback(name, a, again) {
  const yes = await ask({title: `Roll ${a.alias} back?`, yes: "Roll back",
    text: `${a.alias} of ${name} goes from version ${a.version} back to where it was before its last move.`});
  if (!yes)
    return;
  const answer = await call("POST", aliasPath(name, a.alias, "/rollback"), {});
  say(`${a.alias} points to version ${answer.version} again.`);
  await again();
}

async function remove(name, a, again) {
  const yes = await ask({title: `Delete ${a.alias}?`, yes: "Delete", danger: true,
    text: `Clients that ask for ${a.alias} of ${name} will be refused. Version ${a.version} stays.`});
  if (!yes)
    return;
  await call("DELETE", aliasPath(name, a.alias));
  say(`Deleted the alias ${a.alias}.`);
  await again();
}

/* ---- what is shown --------------------------------------------------------------------------- */

function setForm(name, versions, aliases, again) {
  const alias = h("input", {type: "text", required: true, maxlength: 128, pattern: "[A-Za-z0-9_.\\-]+",
                            list: "alias-names", size: 12, placeholder: "prod", autocomplete: "off"});
  const version = h("select", {}, [...versions].reverse().map(v => h("option", {value: v.version},
    `${v.version} (step ${v.step})`)));
  const why = h("input", {type: "text", maxlength: 200, placeholder: "why it moves"});
  const submit = async event => {
    event.preventDefault();
    const from = aliases.find(a => a.alias === alias.value)?.version;
    await set(name, alias.value, Number(version.value), why.value, from, again);
  };
  return h("form", {class: "row", id: "alias-form", onsubmit: submit},
    h("label", {}, "Alias ", alias), h("label", {}, "Version ", version), h("label", {}, "Why ", why),
    h("datalist", {id: "alias-names"}, aliases.map(a => h("option", {value: a.alias}))),
    h("button", {class: "primary", type: "submit"}, "Set alias"));
}

function table(name, aliases, again) {
  const rows = aliases.map(a => h("tr", {},
    h("th", {scope: "row", "data-label": "Alias"}, a.alias),
    h("td", {class: "number", "data-label": "Version"}, String(a.version)),
    h("td", {"data-label": "Moved"}, timeText(a.moved_ms)),
    h("td", {}, h("div", {class: "buttons"},
      h("button", {type: "button", onclick: () => rollback(name, a, again),
                   "aria-label": `Roll back ${a.alias}`}, "Roll back"),
      h("button", {type: "button", class: "danger", onclick: () => remove(name, a, again),
                   "aria-label": `Delete ${a.alias}`}, "Delete")))));
  return h("div", {class: "scroll"}, h("table", {class: "cards", id: "aliases"},
    h("caption", {class: "unseen"}, `Aliases of ${name}`),
    heads(["Alias", "#Version", "Moved", "Actions"]),
    h("tbody", {}, rows)));
}

function ledger(name, moves) {
  const version = v => v == null ? "–" : String(v);
  const rows = moves.map(m => h("tr", {},
    h("th", {scope: "row", "data-label": "Alias"}, m.alias), h("td", {"data-label": "Done"}, m.action),
    h("td", {class: "number", "data-label": "From"}, version(m.from)),
    h("td", {class: "number", "data-label": "To"}, version(m.to)),
    h("td", {"data-label": "Who"}, m.who || "–"), h("td", {"data-label": "Why"}, m.why || "–"),
    h("td", {"data-label": "When"}, timeText(m.time_ms))));
  return h("details", {id: "moves"}, h("summary", {}, `Moves (${moves.length})`),
    h("div", {class: "scroll"}, h("table", {class: "cards"},
      h("caption", {class: "unseen"}, `Moves of the aliases of ${name}, the newest first`),
      heads(["Alias", "Done", "#From", "#To", "Who", "Why", "When"]), h("tbody", {}, rows))));
}
