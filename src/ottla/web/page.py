"""The page itself: one document, no other files, nothing from elsewhere.

Its policy names its script and its style by their hashes: no other can run in it, whatever is in
the rows.
"""

import re
from base64 import b64encode
from hashlib import sha256

PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Ottla</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: 1rem; }
  dl div { border: 1px solid color-mix(in srgb, currentColor 25%, transparent);
           border-radius: .5rem; padding: .5rem .75rem; }
  dt { opacity: .75; font-size: .875rem; }
  dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: left; padding: .25rem .5rem;
           border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
  .number { text-align: right; }
  #reasons { color: light-dark(#9a3412, #fdba74); }
</style>
<h1 id="title">Ottla</h1>
<p id="states" role="status"></p>
<p id="reasons"></p>
<dl id="numbers"></dl>
<h2>In the destination</h2>
<p id="empty">Nothing yet.</p>
<table id="rows"></table>
<h2>What happened</h2>
<ol id="notes"></ol>
<script>
const NAMES = {rows_in: "rows in", duplicates: "deduplicated", late: "late", dead: "dead letters",
  rows_out: "rows out", lag: "lag", commits: "commits", restarts: "restarts",
  rows_per_s: "rows/s"};
const $ = id => document.getElementById(id);
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function showStatus(status) {
  document.title = $("title").textContent = status.title;
  $("states").textContent =
    Object.entries(status.states).map(([part, state]) => part + " " + state).join(" \\u00b7 ");
  $("reasons").textContent =
    Object.entries(status.reasons).map(([part, why]) => part + ": " + why).join("\\n");
  $("numbers").replaceChildren(...Object.entries(NAMES).map(([key, name]) => {
    const box = element("div");
    box.append(element("dt", name), element("dd", status[key].toLocaleString()));
    return box;
  }));
  $("notes").replaceChildren(...status.notes.map(note => element("li", note)));
}
function showRows(found) {
  $("empty").hidden = found.rows.length > 0;
  if (found.reason) $("empty").textContent = found.reason;
  const head = element("tr");
  head.append(...found.columns.map(name => element("th", name)));
  $("rows").replaceChildren(head, ...found.rows.map(row => {
    const line = element("tr");
    line.append(...row.map(value => element("td", value ?? "",
      typeof value === "number" ? "number" : "")));
    return line;
  }));
}
async function refresh() {
  try {
    showStatus(await (await fetch("status.json")).json());
    showRows(await (await fetch("rows.json")).json());
  } catch (error) {
    $("states").textContent = "The pipeline does not run any more.";
  }
  setTimeout(refresh, 1000);
}
refresh();
</script>
</html>
"""


def _hash(element: bytes) -> str:
    """The source of a policy that lets the one such element of the page in."""
    [content] = re.findall(b"<%b>(.*?)</%b>" % (element, element), PAGE, re.DOTALL)
    return f"'sha256-{b64encode(sha256(content).digest()).decode()}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        "connect-src 'self'",
        f"script-src {_hash(b'script')}",
        f"style-src {_hash(b'style')}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
