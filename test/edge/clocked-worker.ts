/** The edge's worker, with a clock that a test sets ahead: by GET /clock/{milliseconds}. */
import worker from "../../src/edge/worker.ts";

export { Directory, Link, Mailbox, Meter, Tunnel } from "../../src/edge/worker.ts";

const real = Date.now.bind(Date);
let ahead = 0;
Date.now = () => real() + ahead;

export default {
  fetch(request, env, context) {
    const [, milliseconds] = /^\/clock\/(\d+)$/.exec(new URL(request.url).pathname) ?? [];
    if (milliseconds === undefined) return worker.fetch(request, env, context);
    ahead = Number(milliseconds);
    return new Response();
  },
} satisfies typeof worker;
