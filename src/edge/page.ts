/**
 * What a person sees at `/`.
 *
 * @module
 */

/** The page, as HTML. `url` is where this edge was reached, from its own request's URL, without a slash at the end. */
export function page(url: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Grooveway</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}pre{overflow:auto;background:#f4f4f4;padding:1rem}</style>
<h1>Grooveway</h1>
<p>This is an edge: it carries devices that may only make outgoing HTTP connections to relays that speak SSTP.
It is up. There is nothing to click; a device connects with the command or the library:</p>
<pre>grooveway recv --edge ${url} --relay RELAY --as bob/laptop
grooveway send --edge ${url} --relay RELAY bob/laptop FILE</pre>
<p>Machines may ask <a href="${url}/health">/health</a>.</p>
</html>
`;
}
