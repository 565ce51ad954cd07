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

/** What a page of another origin may do on a route. */
export interface PageRights {
  readonly methods: readonly string[];
  /** Headers that it may send. */
  readonly sent: readonly string[];
  /** Headers of answers that it may read, besides those of every answer. */
  readonly exposed: readonly string[];
  /** Whether answers to requests that name no origin say so too: a cache gives such an answer to a page. */
  readonly isCached?: boolean;
}

/** On the routes of virtual connections. */
const OF_DEVICES: PageRights = { methods: ["GET", "POST"], sent: ["Authorization", "Content-Type"], exposed: [] };

/** Headers of answers that a page may read. */
const EXPOSED = [REASON_HEADER, DETAIL_HEADER, CURE_HEADER, RELAY_HEADER, "Date", "Retry-After", "Server"];

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
  rights = OF_DEVICES,
): Response | Promise<Response> {
  const origin = request.headers.get("Origin");
  if (origin === null) return rights.isCached === true && hasKeys(env) ? readable(serve(), rights) : serve();
  if (!hasKeys(env) && !OWN_MACHINE.test(origin)) return problem("OriginRefused");
  return request.method === "OPTIONS" ? preflight(rights) : readable(serve(), rights);
}

/** An answer that a page of another origin may read. */
async function readable(answer: Response | Promise<Response>, { exposed }: PageRights): Promise<Response> {
  const { status, body, headers, webSocket } = await answer;
  // A WebSocket needs no permission of ours.
  if (webSocket !== null) return answer;
  const all = new Headers(headers);
  all.set("Access-Control-Allow-Origin", "*");
  all.set("Access-Control-Expose-Headers", [...EXPOSED, ...exposed].join(", "));
  return new Response(body, { status, headers: all });
}

/** The answer to what a browser asks before a request. */
export function preflight({ methods, sent }: PageRights): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "Access-Control-Allow-Origin": "*",
      "Access-Control-Allow-Methods": methods.join(", "),
      "Access-Control-Allow-Headers": sent.join(", "),
      "Access-Control-Max-Age": String(PREFLIGHT_AGE),
    },
  });
}
