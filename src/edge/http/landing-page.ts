/**
 * The page at `/`, for people: what this is, commands to paste, and the edge's paths.
 *
 * @module
 */

export interface PageOptions {
  /**
   * The URL at which the request reached this edge, without a trailing slash. Behind a proxy the browser's URL differs.
   */
  readonly url: string;
  /** The edge's own name; undefined if it has none. */
  readonly name: string | undefined;
  /** Whether the host of `url` is one of the edge's own names. */
  readonly isOwnHost: boolean;
  /** Who is admitted. */
  readonly entry: "by token" | "anybody" | "nobody";
}

/** URLs that are safe in a shell command without quotes, and in HTML. A host name can contain other characters. */
const PLAIN = /^[A-Za-z0-9\-._~:/[\]]+$/;

/** Renders the page as HTML. */
export function landingPage({ url, name, isOwnHost, entry }: PageOptions): string {
  const shown = PLAIN.test(url) ? url : "https://EDGE";
  const relay = isOwnHost || name === undefined ? "" : ` --relay ${name}`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Grooveway</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}pre{overflow:auto;background:#f4f4f4;padding:1rem}td{padding-right:1rem;vertical-align:top}</style>
<h1>Grooveway</h1>
<p>This is an edge, and it is running. It keeps a mailbox for each device and identity, and carries messages and files
between devices that can only make outgoing web requests. It also passes devices through to the origin relays that it
allows.</p>
${commands({ at: `--edge <span class="url">${shown}</span><span class="relay">${relay}</span>`, name, entry })}
<h2>Paths</h2>
<table>
<tr><td><code>/2.0/{relay}/{guid},ConnType=...</code><td>virtual connections of devices: GET and POST for LongLived and
KeepAlive, GET for WebSocket
<tr><td><code>/</code><td>POST: virtual connections by Polling
<tr><td><code>/mailboxes/{address}/rule</code><td>for the owner of a mailbox: GET and PUT who may send to it
<tr><td><code>/mailboxes/{address}/room?from={device}</code><td>for a sender: GET how much it may add
<tr><td><code>/mailboxes/{address}/messages?from={device}&amp;id={text}</code><td>for a sender: DELETE its own waiting messages
<tr><td><code>/mailboxes/{address}</code>, <code>/mailboxes/{name}</code><td>GET what waits for a peer, or a stream; POST to append;
PUT and DELETE
<tr><td><code>/send/{address}</code><td>POST a message to a mailbox
<tr><td><code>/in/{capability}</code><td>an inbox: POST what waits for its owner
<tr><td><code>/inboxes/{address}</code><td>for the owner of a mailbox: GET its inboxes, POST to make one
<tr><td><code>/admin/mailboxes</code>, <code>/admin/mailboxes/{address}</code><td>for the operator: GET the mailboxes, GET or
DELETE what waits in one; <code>/lock</code> and <code>/rule</code> below it
<tr><td><code>/admin/links/{relay}</code><td>for the operator: GET the link to an origin relay; POST <code>/renew</code> below it
<tr><td><a href="openapi.json"><code>/openapi.json</code></a><td>for tools: this API in OpenAPI 3.1
<tr><td><a href="health"><code>/health</code></a><td>for monitoring: 200, or 503 when the disk is full
<tr><td><a href="ready"><code>/ready</code></a><td>for a load balancer: 200, or 503 and why the edge cannot be used
<tr><td><a href="status"><code>/status</code></a><td>for the operator, in a browser: what the edge does
<tr><td><code>/metrics</code><td>for Prometheus, with a token that has the scope <code>metrics</code>
</table>
<script>
// A proxy may have changed the host and the path. A device needs the URL that the browser used.
const url = location.origin + location.pathname.replace(/\\/+$/, "");
if (url !== ${JSON.stringify(shown)} && ${PLAIN}.test(url)) {
  for (const at of document.querySelectorAll(".url")) at.textContent = url;
  const name = ${JSON.stringify(name ?? "")};
  const isOther = location.hostname !== ${JSON.stringify(hostOf(shown))} && location.hostname !== name;
  if (isOther && name !== "") for (const at of document.querySelectorAll(".relay")) at.textContent = " --relay " + name;
}
</script>
</html>
`;
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : "";
}

/** Commands to try, or why there are none yet. */
function commands({ at, name, entry }: Pick<PageOptions, "name" | "entry"> & { readonly at: string }): string {
  if (entry === "nobody") {
    return "<p>It has no keys to verify tokens with, so it admits no device yet: the operator sets KEYS (<code>--keys</code>) or JWKS_URL.</p>";
  }
  if (name === undefined) return "<p>It has no name yet: the operator sets RELAY_NAME (<code>--name</code>).</p>";
  const [sender, recipient] = entry === "by token" ? [" --token @alice.token", " --token @bob.token"] : ["", ""];
  const issue = "npx grooveway token issue --key key.json";
  const tokens = `<p>Each device needs a token. Whoever has the private key issues them:</p>
<pre>${issue} --audience ${name} --address 'alice/*' --scope 'connect send:*' &gt; alice.token
${issue} --audience ${name} --address 'bob/*' --scope 'connect receive' &gt; bob.token</pre>
`;
  return `<h2>Try it</h2>
${entry === "by token" ? tokens : ""}<p>Send a file to bob's laptop, which may fetch it later (in the repository, or where the package is installed):</p>
<pre>echo hello | npx grooveway send ${at} --as alice/pc${sender} bob/laptop - --name hello.txt
npx grooveway recv ${at} --as bob/laptop${recipient}</pre>`;
}
