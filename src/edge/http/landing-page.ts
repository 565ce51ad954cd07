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
<p>This is an edge, and it is up. It keeps a mailbox for each device, and carries devices that may only make outgoing HTTP
connections to each other and to origin relays.</p>
${commands({ at: `--edge <span class="url">${shown}</span><span class="relay">${relay}</span>`, name, entry })}
<h2>Paths</h2>
<table>
<tr><td><code>/2.0/{relay}/{guid},ConnType=...</code><td>GET and POST: virtual connections of devices
<tr><td><code>/</code><td>POST: the same by Polling
<tr><td><code>/mailboxes/{address}/rule</code><td>GET and PUT: who may send to a mailbox, for its owner
<tr><td><code>/admin/mailboxes</code><td>for an operator, as are <code>/admin/mailboxes/{address}</code> and <code>/admin/links/{relay}</code>
<tr><td><a href="health"><code>/health</code></a><td>for machines
</table>
<script>
// A proxy may have changed the host and the path; what the browser has asked for is what a device has to ask for.
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
    return "<p>It has no keys to verify tokens by, so nobody is let in yet: its operator sets KEYS or JWKS_URL.</p>";
  }
  if (name === undefined) return "<p>It has no name yet: its operator sets RELAY_NAME.</p>";
  const [sender, recipient] = entry === "by token" ? [" --token @alice.token", " --token @bob.token"] : ["", ""];
  const issue = "npx grooveway token issue --key key.json";
  const tokens = `<p>Each device has a token. Whoever has the private key makes them:</p>
<pre>${issue} --audience ${name} --address 'alice/*' --scope 'connect send:*' &gt; alice.token
${issue} --audience ${name} --address 'bob/*' --scope 'connect receive' &gt; bob.token</pre>
`;
  return `<h2>Try it</h2>
${entry === "by token" ? tokens : ""}<p>A file for bob's laptop, which fetches it when it likes (in the repository write <code>npm run -s grooveway --</code> in place of
<code>npx grooveway</code>):</p>
<pre>echo hello | npx grooveway send ${at} --as alice/pc${sender} bob/laptop - --name hello.txt
npx grooveway recv ${at} --as bob/laptop${recipient}</pre>`;
}
