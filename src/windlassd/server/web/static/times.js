// Times and durations as present.py writes them.

// The server's clock is the one the records have; a browser elsewhere may be off.
const skew = (Date.parse(document.body.dataset.now) || Date.now()) - Date.now();

export function now() {
  return (Date.now() + skew) / 1000;
}

export function duration(seconds) {
  seconds = Math.max(0, seconds);
  if (seconds >= 0.0005 && seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds + 0.5);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 86400) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86400, "d", 3600, "h");
}

function two(whole, size, unit, least, below) {
  const rest = Math.floor((whole % size) / least);
  return `${Math.floor(whole / size)} ${unit}` + (rest ? ` ${rest} ${below}` : "");
}

export function ago(moment) {
  const seconds = now() - moment;
  if (seconds < 5) return "just now";
  for (const [unit, size, end] of [["s", 1, 60], ["min", 60, 3600], ["h", 3600, 86400], ["d", 86400, 31 * 86400]]) {
    if (seconds < end) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return new Date(moment * 1000).toISOString().slice(0, 10);
}

// Write all relative times and growing durations of the page anew.
export function tick() {
  for (const node of document.querySelectorAll("[data-ago]")) {
    set(node, ago(Date.parse(node.dateTime) / 1000));
  }
  for (const node of document.querySelectorAll("[data-since]")) {
    const seconds = now() - Date.parse(node.dataset.since) / 1000;
    set(node, duration(seconds < 9.95 ? Math.floor(seconds) : seconds));
  }
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
