// Terminal output to pieces of text with a look. Only colours and weights are obeyed; every other sequence is dropped.

// Control sequences, operating system commands (ended by BEL or ESC \), charset choices, other two-letter escapes.
const ESCAPE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|[\]P^_][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+][0-9A-Za-z]|[^[\]P^_()*+])/g;
const UNFINISHED = /\x1b(?:\[[0-9;:?<=>]*[ -/]*|[\]P^_][^\x07\x1b]*\x1b?|[()*+])?$/;
const CONTROLS = /[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;
const LONGEST = 4096;
const LEVELS = [0, 95, 135, 175, 215, 255];

// The text without an escape sequence that is cut at its end, and that beginning.
export function whole(text) {
  const cut = text.slice(-LONGEST).match(UNFINISHED);
  return cut ? [text.slice(0, text.length - cut[0].length), cut[0]] : [text, ""];
}

// Pieces `{text, look}` of one line; `look` is the state before it, the state after it is returned too.
export function pieces(line, look) {
  const found = [];
  let at = 0;
  for (const match of line.matchAll(ESCAPE)) {
    put(found, line.slice(at, match.index), look);
    at = match.index + match[0].length;
    if (match[2] === "m") look = changed(look, match[1]);
  }
  put(found, line.slice(at), look);
  return [found, look];
}

function put(found, text, look) {
  text = text.replace(CONTROLS, "").replaceAll("\x1b", "");
  if (text) found.push({ text, look });
}

// A span for a piece; plain text for one without a look.
export function node({ text, look }) {
  if (!look) return document.createTextNode(text);
  const span = document.createElement("span");
  span.textContent = text;
  const names = ["bold", "dim", "italic", "underline", "strike"].filter((name) => look[name]);
  const [front, back] = look.inverse ? [look.back ?? "page", look.front ?? "text"] : [look.front, look.back];
  paint(span, names, front, "f", "color");
  paint(span, names, back, "b", "backgroundColor");
  span.className = names.join(" ");
  return span;
}

function paint(span, names, colour, prefix, property) {
  if (colour === undefined) return;
  if (Array.isArray(colour)) span.style[property] = `rgb(${colour.join(",")})`;
  else names.push(`${prefix}-${colour}`);
}

function changed(look, codes) {
  const next = { ...look };
  const list = codes.split(/[;:]/).map(Number);
  for (let i = 0; i < list.length; i++) {
    const code = list[i];
    if (code === 0) for (const key of Object.keys(next)) delete next[key];
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 7) next.inverse = true;
    else if (code === 9) next.strike = true;
    else if (code === 22) next.bold = next.dim = undefined;
    else if (code === 23) next.italic = undefined;
    else if (code === 24) next.underline = undefined;
    else if (code === 27) next.inverse = undefined;
    else if (code === 29) next.strike = undefined;
    else if (code >= 30 && code <= 37) next.front = code - 30;
    else if (code >= 90 && code <= 97) next.front = code - 82;
    else if (code >= 40 && code <= 47) next.back = code - 40;
    else if (code >= 100 && code <= 107) next.back = code - 92;
    else if (code === 39) next.front = undefined;
    else if (code === 49) next.back = undefined;
    else if (code === 38 || code === 48) {
      const many = list[i + 1] === 2 ? 4 : 2;
      next[code === 38 ? "front" : "back"] = colour(list.slice(i + 1, i + 1 + many));
      i += many;
    }
  }
  return Object.values(next).some((value) => value !== undefined) ? next : null;
}

function colour([kind, ...values]) {
  if (kind === 2) return values.map((value) => Math.min(255, value | 0));
  const place = values[0] | 0;
  if (place < 16) return place;
  if (place >= 232) return Array(3).fill(8 + 10 * (Math.min(place, 255) - 232));
  const cube = place - 16;
  return [LEVELS[Math.floor(cube / 36)], LEVELS[Math.floor(cube / 6) % 6], LEVELS[cube % 6]];
}
