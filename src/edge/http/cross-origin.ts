/**
 * Web pages of other origins [WHATWG Fetch 3.3]. Only pages send the header `Origin`, so devices see nothing of this.
 *
 * An edge that asks for tokens serves pages of any origin. A page must show the token itself, in a header or in
 * Connect; the browser adds none to requests of a strange page, as it would a cookie. So any origin may be named by
 * `*`, which excludes cookies.
 *
 * An edge that admits anybody trusts whoever reaches it. Through the browser of a person near it, every page on the
 * internet does; so there only pages of that person's own machine are served.
 *
 * @module
 */
import { hasKeys } from "../../auth/key-set.ts";
import { CURE_HEADER, DETAIL_HEADER, REASON_HEADER, RELAY_HEADER } from "../../encapsulation/index.ts";
import type { Env } from "../env.ts";
import { problem } from "../problem.ts";
import { PREFLIGHT_AGE } from "./limits.ts";

/** Headers of answers that a page may read. */
const EXPOSED = [REASON_HEADER, DETAIL_HEADER, CURE_HEADER, RELAY_HEADER, "Date", "Retry-After", "Server"].join(", ");

/** Origins on the browser's own machine. */
const OWN_MACHINE = /^https?:\/\/(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/;

/**
 * Admits or refuses pages of other origins, and answers what their browsers ask before a request. A request of a device
 * is served as if this did not exist: a layer around it would delay the news that its connection has broken.
 */
export function acrossOrigins(
  request: Request,
  env: Env,
  serve: () => Response | Promise<Response>,
): Response | Promise<Response> {
  const origin = request.headers.get("Origin");
  if (origin === null) return serve();
  if (!hasKeys(env) && !OWN_MACHINE.test(origin)) return problem("OriginRefused");
  return request.method === "OPTIONS" ? preflight() : readable(serve());
}

/** An answer that a page of another origin may read. */
async function readable(answer: Response | Promise<Response>): Promise<Response> {
  const { status, body, headers, webSocket } = await answer;
  // A WebSocket needs no permission of ours.
  if (webSocket !== null) return answer;
  const all = new Headers(headers);
  all.set("Access-Control-Allow-Origin", "*");
  all.set("Access-Control-Expose-Headers", EXPOSED);
  return new Response(body, { status, headers: all });
}

function preflight(): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "Access-Control-Allow-Origin": "*",
      "Access-Control-Allow-Methods": "GET, POST",
      "Access-Control-Allow-Headers": "Authorization, Content-Type",
      "Access-Control-Max-Age": String(PREFLIGHT_AGE),
    },
  });
}
