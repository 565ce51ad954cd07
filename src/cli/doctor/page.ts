/**
 * The page of `grooveway doctor --report`, for the administrator of a firewall: what was tried, what it needs, and the
 * addresses. It is one file without scripts, images or links; its policy forbids whatever else a text might become.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type Diagnosis, STATUSES, type Status } from "../../device/diagnosis/index.ts";
import { formatHostPort } from "../../lib/host-port.ts";
import { visible } from "../../lib/printable.ts";
import { DIRECT, needsOf, pathsOf, type Row, recommendation, runsOf, subjectOf } from "./report.ts";

/** What the words of the column status mean. */
const MEANINGS: Readonly<Record<Status, string>> = {
  works: "data passes both ways at once",
  slow: "data passes, but slowly",
  inspected: "TLS is opened on the way; the device refuses this unless it trusts the authority that does it",
  "needs authentication": "a proxy wants a user name and password",
  buffered: "the connection is made, but data is held back on the way",
  blocked: "no answer comes back, or not from the edge",
};

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h3{font-size:1rem;margin:1rem 0 0;overflow-wrap:anywhere}
table{border-collapse:collapse;margin:.25rem 0 1.5rem}
th,td{text-align:left;vertical-align:top;padding:.35rem 1.5rem .35rem 0;border-bottom:1px solid #ddd;white-space:nowrap}
td.r{white-space:normal;overflow-wrap:anywhere;min-width:20rem}
.s{font-weight:600}.good{color:#0a6b2d}.fair{color:#8a5a00}.bad{color:#a31515}`;

/** Renders the page. All texts are escaped. */
export function pageOf(diagnosis: Diagnosis): string {
  const { host, addresses, at, ways, findings } = diagnosis;
  const subject = subjectOf(diagnosis);
  const needs = needsOf(diagnosis);
  const hash = createHash("sha256").update(STYLE).digest("base64");
  const destinations = [...new Set(ways.map(({ way }) => `${formatHostPort(way)} (TCP${way.secure ? ", TLS" : ""})`))];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${hash}'; form-action 'none'; base-uri 'none'">
<meta name="viewport" content="width=device-width">
<title>Grooveway: what this network lets through</title>
<style>${STYLE}</style>
<h1>What this network lets through</h1>
<p>Grooveway connects devices by outgoing connections only. This page was made on ${text(at.toISOString())} by a device in this
network that tried every way to <b>${text(subject)}</b>. One way that works is enough.</p>
<p class="${diagnosis.recommended === undefined ? "bad" : "good"}"><b>${text(recommendation(diagnosis))}</b></p>
<h2>Destination</h2>
<table>
<tr><th>Host<td class="r">${text(host)}
<tr><th>Addresses<td class="r">${text(addresses.length === 0 ? "not known to this device" : addresses.join(", "))}
<tr><th>Outgoing connections<td class="r">${destinations.map(text).join("<br>")}
</table>
<h2>What would have to change</h2>
${needs.length === 0 ? `<p>${ways.length === 0 ? "Nothing could be tried: see the other checks." : "Nothing: every way works."}` : `<p>Each of these opens one or more of the ways below.</p>\n<ul>\n${needs.map((need) => `<li>${text(sentence(need))}`).join("\n")}\n</ul>`}
<h2>What was tried</h2>
${pathsOf(diagnosis).map(pathTable).join("\n")}
<h2>Other checks</h2>
<table>
<tr><th>Check<th>Outcome<th>Found
${findings.map(({ check, outcome, text: found }) => `<tr><td>${text(check)}<td class="s ${COLOURS[outcome]}">${text(outcome)}<td class="r">${text(found)}`).join("\n")}
</table>
<h2>The words</h2>
<table>
${STATUSES.map((status) => `<tr><td class="s">${text(status)}<td class="r">${text(MEANINGS[status])}`).join("\n")}
</table>
</html>
`;
}

const COLOURS = { ok: "good", warning: "fair", failed: "bad", unknown: "" } as const;

/** The ways over one path. */
function pathTable(rows: readonly Row[]): string {
  const [first] = rows;
  const through = first?.through === DIRECT ? "directly" : `through ${first?.through}`;
  return `<h3>${text(`${first?.to}, ${through}`)}</h3>
<table>
<tr><th>Transport<th>Status<th>Round trip<th>Rate<th>Remark
${runsOf(rows).flatMap(runRows).join("\n")}
</table>`;
}

function runRows(run: readonly Row[]): string[] {
  return run.map((row, i) => {
    const colour = row.status === "works" ? "good" : row.isUsable ? "fair" : "bad";
    const status = `<td class="s ${colour}">${text(row.status)}`;
    const remark = i > 0 ? "" : `<td class="r" rowspan="${run.length}">${text(row.remark.join(" "))}`;
    return `<tr><td>${text(row.transport)}${status}<td>${text(row.roundTrip)}<td>${text(row.rate)}${remark}`;
  });
}

function sentence(need: string): string {
  return `${need.charAt(0).toUpperCase()}${need.slice(1)}.`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Escapes a text for HTML, and what a browser would interpret or hide. */
function text(value: string): string {
  return visible(value).replace(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}
