/** Streams and mailboxes in Chromium: a page that loses its network, and pages that others have stored. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { browse, loaded, NO_CHROMIUM } from "../../support/chromium.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { listen } from "../../support/sockets.ts";
import { Watch } from "../../support/watch.ts";
import { AUDIENCE, hs256, type Issuer, jwks } from "../issuer.ts";
import { afterAll, fresh, startEdge } from "../mailbox/support.ts";
import { bearer } from "../operator.ts";

/** How long the page has no network: connections are cut, and new ones refused. */
const OUTAGE = 30_000;

/** Then connections stand still for a while: nothing passes, and nobody is told. */
const SILENCE = 5000;

/** Pause between messages. Some are sent before, in and after each outage. */
const PACE = 250;

/**
 * Reads one stream twice, by EventSource with a ticket and by long-poll with a token, and posts what it gets.
 *
 * A browser connects an EventSource again by itself. The loop of polls goes on from the last offset.
 */
const PAGE = `<!doctype html><title>page</title><script type="module">
  const { url, ticket, token } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  // One after another: two requests may overtake each other.
  let reported = Promise.resolve();
  const report = (way, bodies) => {
    reported = reported.then(() => fetch("/got/" + way, { method: "POST", body: JSON.stringify(bodies) }));
    return reported;
  };
  const bodies = (text) => JSON.parse(text).map(({ body }) => body);

  const events = new EventSource(url + "?offset=-1&live=sse&ticket=" + ticket);
  events.addEventListener("data", ({ data }) => report("events", bodies(data)));
  events.addEventListener("reset", () => report("events", ["reset"]));

  let [offset, cursor] = ["-1", ""];
  for (;;) {
    const query = "?offset=" + offset + (offset === "-1" ? "" : "&live=long-poll&cursor=" + cursor);
    try {
      const answer = await fetch(url + query, { headers: { Authorization: "Bearer " + token } });
      const text = await answer.text();
      if (!answer.ok) await report("polls", [answer.status]);
      if (answer.status === 200) await report("polls", bodies(text));
      offset = answer.headers.get("stream-next-offset") ?? offset;
      cursor = answer.headers.get("stream-cursor") ?? "";
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
</script>`;

/** What a page must not do, in as many ways as there are. Each asks the beacon, or writes to the document. */
function hostile(beacon: string): string {
  return `<!doctype html><html><head><title>stored</title>
${refreshTo(beacon)}
<link rel="stylesheet" href="${beacon}/style"><script src="${beacon}/script"></script></head>
<body onload="fetch('${beacon}/onload')"><p>This page was stored.</p>
<script>document.body.append("it ran"); fetch("${beacon}/inline");</script>
<script type="module">document.body.append("it ran"); fetch("${beacon}/module");</script>
<img src="${beacon}/image" onerror="fetch('${beacon}/onerror')"><svg onload="fetch('${beacon}/svg')"></svg>
<iframe src="${beacon}/frame"></iframe><iframe srcdoc="<script>parent.document.body.append('it ran')</script>"></iframe>
<iframe src="javascript:parent.document.body.append('it ran')"></iframe><object data="${beacon}/object"></object>
<video src="${beacon}/video" autoplay></video><style>@import "${beacon}/import";</style></body></html>`;
}

const refreshTo = (beacon: string) => `<meta http-equiv="refresh" content="0;url=${beacon}/refresh">`;

interface Server {
  readonly url: string;
  /** The paths that were asked for. */
  readonly asked: string[];
}

async function serve(t: TestContext, page: string, onPost: (path: string, body: string) => void): Promise<Server> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const { method, url = "" } = request;
    if (url !== "/favicon.ico") asked.push(url);
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      if (method === "POST") onPost(url, Buffer.concat(pieces).toString());
      response.setHeader("Content-Type", "text/html");
      response.setHeader("Access-Control-Allow-Origin", "*");
      response.end(method === "POST" ? "" : page);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** The way from the page to the edge. */
class Line {
  readonly #to: number;
  readonly #open = new Set<Socket>();
  #isCut = false;
  #isStill = false;
  url = "";

  constructor(edge: string) {
    this.#to = Number(new URL(edge).port);
  }

  async start(t: TestContext): Promise<void> {
    const server = await listen((socket) => this.#serve(socket));
    t.after(() => server.close());
    this.url = `http://127.0.0.1:${server.port}`;
  }

  #serve(socket: Socket): void {
    if (this.#isCut) {
      socket.resetAndDestroy();
      return;
    }
    const up = connect(this.#to, "127.0.0.1");
    for (const end of [socket, up]) {
      this.#open.add(end);
      end.on("error", () => undefined);
      end.on("close", () => this.#open.delete(end));
    }
    socket.on("close", () => up.destroy());
    up.on("close", () => socket.destroy());
    socket.on("data", (octets: Buffer) => up.write(octets));
    up.on("data", (octets: Buffer) => socket.write(octets));
    if (this.#isStill) this.still(true);
  }

  /** Ends all connections, and refuses new ones until it is mended. */
  cut(isCut: boolean): void {
    this.#isCut = isCut;
    if (isCut) for (const socket of this.#open) socket.resetAndDestroy();
  }

  /** Holds back everything, and tells nobody. */
  still(isStill: boolean): void {
    this.#isStill = isStill;
    for (const socket of this.#open) {
      if (isStill) socket.pause();
      else socket.resume();
    }
  }
}

describe("in Chromium", { skip: NO_CHROMIUM }, () => {
  let issuer: Issuer;
  let edge: InspectedEdge;
  const all = afterAll();
  before(async () => {
    issuer = await hs256();
    edge = await startEdge(all, { dev: "private", keys: jwks(issuer), relayName: AUDIENCE });
  });

  it("a page that loses its network reads a mailbox on without loss, by EventSource and by long-poll", async (t) => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/page`];
    const token = await issuer.issue({ address: bob });
    const sender = bearer(await issuer.issue({ address: alice }));
    const ask = { method: "POST", headers: bearer(token), body: JSON.stringify({ mailbox: bob }) };
    const { ticket } = (await (await fetch(`${edge.url}/tickets`, ask)).json()) as { ticket: string };
    const line = new Line(edge.url);
    await line.start(t);

    const got: Record<string, unknown[]> = { events: [], polls: [] };
    const watch = new Watch();
    const { url } = await serve(t, PAGE, (path, body) => {
      got[path.slice("/got/".length)]?.push(...JSON.parse(body));
      watch.changed();
    });
    const sent: number[] = [];
    const sendFor = async (milliseconds: number) => {
      for (const until = Date.now() + milliseconds; Date.now() < until; await sleep(PACE)) {
        const headers = { ...sender, "Content-Type": "application/json" };
        const body = JSON.stringify(sent.length);
        const answer = await fetch(`${edge.url}/send/${bob}`, { method: "POST", headers, body });
        assert.equal(answer.status, 200);
        sent.push(sent.length);
      }
    };
    const haveAll = (what: string) =>
      watch.until(
        () => Object.values(got).every((one) => one.length >= sent.length),
        `all ${sent.length} ${what}: ${got.events?.length} by events, ${got.polls?.length} by polls`,
      );

    await sendFor(1000);
    const task = { url: `${line.url}/mailboxes/${bob}`, ticket, token };
    await browse(t, `${url}/#${encodeURIComponent(JSON.stringify(task))}`);
    await haveAll("before the outage");
    await sendFor(1000);
    line.cut(true);
    const before = got.events?.length ?? 0;
    await sendFor(OUTAGE);
    assert.ok((got.events?.length ?? 0) <= before + 4, "nothing comes in the outage");
    line.cut(false);
    await sendFor(1000);
    await haveAll("after the outage");
    line.still(true);
    await sendFor(SILENCE);
    line.still(false);
    await sendFor(1000);
    await haveAll("after the silence");
    assert.deepEqual(got, { events: sent, polls: sent });
  });

  it("a stored page with scripts, opened by somebody who may read it, runs nothing", async (t) => {
    const beacon = await serve(t, "", () => undefined);
    const page = hostile(beacon.url);
    const rights = await issuer.issue({ scope: "create:** read:** write:**" });
    const headers = { ...bearer(rights), "Content-Type": "text/html" };
    // The same page of another server does all that. A page that refreshes itself leaves, so that part goes alone.
    const other = await serve(t, page.replace(refreshTo(beacon.url), ""), () => undefined);
    assert.match(await loaded(t, other.url), /it ran/);
    for (const way of ["script", "onload", "inline", "module", "image", "onerror", "svg", "frame", "object", "style"]) {
      assert.ok(beacon.asked.includes(`/${way}`), `${way} of ${beacon.asked}`);
    }
    await loaded(t, (await serve(t, page, () => undefined)).url);
    assert.ok(beacon.asked.includes("/refresh"));
    beacon.asked.length = 0;

    const name = fresh("app/pages");
    assert.equal((await fetch(`${edge.url}/mailboxes/${name}/x`, { method: "PUT", headers, body: page })).status, 201);
    const mailbox = `${name}/x`;
    const asked = { method: "POST", headers, body: JSON.stringify({ mailbox }) };
    const { ticket } = (await (await fetch(`${edge.url}/tickets`, asked)).json()) as { ticket: string };
    const shown = await loaded(t, `${edge.url}/mailboxes/${mailbox}?ticket=${ticket}`);
    assert.match(shown, /This page was stored\./, "it is shown");
    // What would run has these words in its source, which is there as text.
    assert.doesNotMatch(shown.replace(/"it ran"|'it ran'/g, ""), /it ran/);
    assert.deepEqual(beacon.asked, []);
  });
});
