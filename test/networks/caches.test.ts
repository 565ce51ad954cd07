/**
 * Streams and mailboxes behind caches and reverse proxies, with the settings that nginx and varnish have by themselves:
 * what is private reaches nobody else, nothing is stale, and events go on when a proxy cuts them.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { EXPOSED } from "../../src/edge/durable-streams/headers.ts";
import { ed25519, type Issuer } from "../edge/issuer.ts";
import { bearer, type Operator, startAsking, startOperator } from "../edge/operator.ts";
import { EventReader } from "../support/event-reader.ts";
import { listen, PATIENCE } from "../support/sockets.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { eventually } from "../support/watch.ts";
import { drivenWorker } from "../support/worker.ts";
import { NEEDS, whyNot } from "./needs.ts";

const SECRET = "what nobody else may read";
const PAGE_ORIGIN = "https://page.example.com";
const JSON_TYPE = { "Content-Type": "application/json" };

let issuer: Issuer;
let operator: Operator;
let edge: LocalEdge;
let writer: string;

/** How far the edge's clock was set ahead, in ms. */
let ahead = 0;

let count = 0;
/** A name that no other test uses. */
function fresh(under: string): string {
  count += 1;
  return `${under}/caches/${count}`;
}

/** A token that outlives what tests set the clock ahead. */
function token(scope: string, more: object = {}): Promise<string> {
  return issuer.issue({ scope, exp: Math.floor(Date.now() / 1000) + 30 * 24 * 3600, ...more });
}

interface Asked extends RequestInit {
  readonly by?: string | undefined;
}

function ask(at: string, path: string, { by, headers, ...init }: Asked = {}): Promise<Response> {
  return fetch(`${at}/${path}`, { ...init, headers: { ...(by !== undefined && bearer(by)), ...headers } });
}

async function create(name: string, body?: unknown, to = edge.url): Promise<string> {
  const text = body === undefined ? {} : { body: JSON.stringify(body) };
  const made = await ask(to, `mailboxes/${name}`, { method: "PUT", by: writer, headers: JSON_TYPE, ...text });
  assert.equal(made.status, 201, await made.text());
  return made.headers.get("stream-next-offset") ?? "";
}

async function append(name: string, body: unknown, to = edge.url): Promise<void> {
  const options = { method: "POST", by: writer, headers: JSON_TYPE, body: JSON.stringify(body) };
  assert.equal((await ask(to, `mailboxes/${name}`, options)).status, 204);
}

/** A free port. Nothing else of this machine takes it so soon. */
async function freePort(): Promise<number> {
  const server = await listen(() => undefined);
  await server.close();
  return server.port;
}

/** Starts a program that listens on a port. Returns its URL, and how it is ended. */
async function startFront(command: readonly string[], port: number): Promise<{ url: string; stop(): Promise<void> }> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (data) => {
    errors += data;
  });
  const open = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => resolve(socket.destroy() !== undefined));
      socket.on("error", () => resolve(false));
    });
  for (const limit = Date.now() + PATIENCE; !(await open()); await sleep(50)) {
    if (child.exitCode !== null || Date.now() > limit) throw new Error(`${program} does not listen: ${errors}`);
  }
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      const gone = once(child, "exit");
      if (child.kill("SIGTERM")) await gone;
    },
  };
}

/** nginx before the edge, with some settings of its location. */
async function startNginx(settings: string, to = edge.url): ReturnType<typeof startFront> {
  const [port, folder] = [await freePort(), temporaryFolder()];
  const path = join(folder, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  writeFileSync(
    path,
    `daemon off; user root; pid ${folder}/nginx.pid; error_log stderr; events {}
     http {
       access_log off;
       ${temporary.map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(" ")}
       proxy_cache_path ${folder}/cache keys_zone=streams:10m;
       server { listen 127.0.0.1:${port}; location / { proxy_pass ${to}; ${settings} } }
     }`,
  );
  return startFront([NEEDS.nginx.program, "-c", path, "-e", "stderr"], port);
}

async function startVarnish(): ReturnType<typeof startFront> {
  const port = await freePort();
  const backend = new URL(edge.url).host;
  const folder = temporaryFolder();
  // Its workers are a user of their own.
  chmodSync(folder, 0o755);
  const options = ["-F", "-n", folder, "-a", `127.0.0.1:${port}`, "-b", backend, "-s", "malloc,64m"];
  return startFront([NEEDS.varnish.program, ...options], port);
}

/** Caches as Debian has them. nginx says by a header what it did; varnish names the request of which it has an answer. */
const CACHES = [
  {
    name: "nginx",
    start: () => startNginx("proxy_cache streams; add_header Cache-Was $upstream_cache_status;"),
    isHit: (answer: Response) => answer.headers.get("cache-was") === "HIT",
  },
  {
    name: "varnish",
    start: startVarnish,
    isHit: (answer: Response) => /^\d+ \d+$/.test(answer.headers.get("x-varnish") ?? ""),
  },
] as const;

const skip = whyNot([NEEDS.nginx, NEEDS.varnish], false);

describe("behind a cache", { skip, concurrency: 4 }, () => {
  before(async () => {
    issuer = await ed25519();
    operator = await startOperator(issuer);
    edge = await startAsking({ ...operator.settings, code: await drivenWorker() });
    writer = await token("create:** read:** write:**");
  });
  after(async () => {
    await edge.close();
    operator.close();
  });

  for (const { name: kind, start, isHit } of CACHES) {
    describe(kind, { concurrency: 4 }, () => {
      let front: Awaited<ReturnType<typeof startFront>>;
      before(async () => {
        front = await start();
      });
      after(() => front.stop());
      const at = (path: string, options?: Asked) => ask(front.url, path, options);

      it("what is public is kept, and pages may read it with all headers of the protocol", async () => {
        const name = fresh("public");
        await create(name, { for: "all" });
        const path = `mailboxes/${name}?offset=-1`;
        assert.equal(isHit(await at(path)), false);
        const kept = await at(path, { headers: { Origin: PAGE_ORIGIN } });
        assert.equal(isHit(kept), true, "the cache is one");
        assert.deepEqual(await kept.json(), [{ for: "all" }]);
        assert.equal(kept.headers.get("access-control-allow-origin"), "*");
        const exposed = (kept.headers.get("access-control-expose-headers") ?? "").split(", ");
        for (const header of EXPOSED) assert.ok(exposed.includes(header), header);
        const preflight = await at(path, {
          method: "OPTIONS",
          headers: { Origin: PAGE_ORIGIN, "Access-Control-Request-Method": "GET" },
        });
        assert.deepEqual([preflight.status, preflight.headers.get("access-control-allow-origin")], [204, "*"]);
      });

      it("what is private is read by those who may, and never by others", async () => {
        const [name, bob] = [fresh("app"), `bob${kind}/pc`];
        await create(name, SECRET);
        const toBob = await token("send:*", { address: "alice/pc" });
        assert.equal((await ask(edge.url, `send/${bob}`, { method: "POST", by: toBob, body: SECRET })).status, 200);
        const jti = `soon revoked ${kind}`;
        const mine = await token("receive read:app/**", { address: bob, jti });
        const others = {
          nobody: undefined,
          another: await token("receive read:other/**", { address: "carol/pc" }),
          malformed: "h.e30.s",
          expired: await issuer.issue({ scope: "receive read:**", address: bob, exp: 1 }),
        };
        const ticketed = async (mailbox: string) => {
          const options = { method: "POST", by: mine, body: JSON.stringify({ mailbox }) };
          const { ticket } = (await (await ask(edge.url, "tickets", options)).json()) as { ticket: string };
          return `mailboxes/${mailbox}?offset=-1&ticket=${ticket}`;
        };
        const paths = [name, bob].flatMap((one) => [
          `mailboxes/${one}`,
          `mailboxes/${one}?offset=-1`,
          `mailboxes/${one}?offset=-1&live=long-poll`,
          `mailboxes/${one}?offset=-1&live=sse`,
        ]);
        const tickets = await Promise.all([name, bob].map(ticketed));
        const secretIn = async (answer: Response) => {
          const reader = answer.body?.getReader();
          let text = "";
          while (!text.includes(SECRET)) {
            const piece = await reader?.read();
            if (piece === undefined || piece.done) break;
            text += new TextDecoder().decode(piece.value);
          }
          await reader?.cancel();
          return text.includes(SECRET);
        };
        /** Reads each as its owner does, as often as it takes to find it in a cache. */
        const readAll = async () => {
          for (const path of [...paths, ...tickets]) {
            for (let n = 0; n < 2; n += 1) {
              const answer = await at(path, path.includes("ticket=") ? {} : { by: mine });
              assert.deepEqual([answer.status, isHit(answer)], [200, false], path);
              assert.match(answer.headers.get("cache-control") ?? "", /no-store/);
              assert.ok(await secretIn(answer), path);
            }
          }
        };
        await readAll();
        for (const [who, by] of Object.entries(others)) {
          for (const path of paths) {
            const answer = await at(path, { by });
            assert.equal(answer.status, who === "another" ? 403 : 401, `${who} ${path}`);
            assert.equal(await secretIn(answer), false);
          }
        }
        await readAll();
        operator.revoke(jti);
        ahead += 112_000;
        const { status } = await fetch(`${edge.url}/clock/${ahead}`);
        assert.equal(status, 200);
        for (const path of [...paths, ...tickets]) {
          const answer = await at(path, path.includes("ticket=") ? {} : { by: mine });
          assert.equal(answer.status, 401, path);
          assert.equal(answer.headers.get("grooveway-reason"), "TokenRevoked");
          assert.equal(await secretIn(answer), false);
        }
      });

      it("long-polls of many readers are never stale: each gets everything once, and cursors grow", async () => {
        const name = fresh("public");
        const start = await create(name);
        const [readers, messages] = [4, 60];
        const follow = async () => {
          const got: unknown[] = [];
          let [offset, cursor] = [start, ""];
          while (got.length < messages) {
            const answer = await at(`mailboxes/${name}?offset=${offset}&live=long-poll&cursor=${cursor}`);
            assert.ok(answer.ok, await answer.clone().text());
            const next = answer.headers.get("stream-cursor") ?? "";
            assert.ok(cursor === "" || Number(next) > Number(cursor), `${next} after ${cursor}`);
            cursor = next;
            const reached = answer.headers.get("stream-next-offset") ?? "";
            assert.ok(reached >= offset);
            offset = reached;
            if (answer.status === 200) got.push(...((await answer.json()) as unknown[]));
          }
          return got;
        };
        const following = Promise.all(Array.from({ length: readers }, follow));
        for (let n = 0; n < messages; n += 1) {
          await append(name, n);
          await sleep(n % 10 === 0 ? 300 : 5);
        }
        for (const got of await following)
          assert.deepEqual(
            got,
            Array.from({ length: messages }, (_, n) => n),
          );
      });

      it("a long-poll that ends without anything is not kept: the next one asks the edge", async () => {
        const name = fresh("public");
        const path = `mailboxes/${name}?offset=${await create(name)}&live=long-poll&cursor=1`;
        const empty = await at(path);
        assert.equal(empty.status, 204);
        const polled = at(path);
        await sleep(500);
        await append(name, "new");
        assert.deepEqual(await (await polled).json(), ["new"]);
      });

      it("refusals are not kept", async () => {
        const [name, other] = [fresh("public"), fresh("app")];
        const status = async (path: string, options?: Asked) => (await at(`mailboxes/${path}`, options)).status;
        for (const query of ["", "?offset=-1", "?offset=now&live=long-poll", "?offset=-1&live=sse"]) {
          assert.equal(await status(name + query), 404, query);
        }
        assert.equal(await status(`${other}?offset=-1`), 401);
        assert.equal(await status(`${other}?offset=-1`, { by: writer }), 404);
        const gone = await create(name, 1);
        await create(other, 1);
        for (const path of [`${name}`, `${name}?offset=-1`]) assert.equal(await status(path), 200, path);
        assert.equal(await status(`${other}?offset=-1`, { by: writer }), 200);
        await ask(edge.url, `mailboxes/${name}`, { method: "DELETE", by: writer });
        await create(name, 2);
        assert.equal(await status(`${name}?offset=${gone}`), 410);
        assert.equal(await status(`${name}?offset=x`), 400);
        const again = await ask(edge.url, `mailboxes/${name}`, { method: "HEAD", by: writer });
        const tail = again.headers.get("stream-next-offset");
        assert.equal(await status(`${name}?offset=${tail}`), 200);
      });

      it("events are passed on at once, and an id that is gone is reset by name", async (t) => {
        const name = fresh("app");
        const gone = await create(name, "before");
        await ask(edge.url, `mailboxes/${name}`, { method: "DELETE", by: writer });
        await create(name, "first");
        const url = `${front.url}/mailboxes/${name}?offset=now&live=sse`;
        const reader = new EventReader(url, { headers: bearer(writer), lastEventId: gone });
        t.after(() => reader.close());
        await reader.watch.until(() => reader.data("data").length === 1 || reader.refused, "what is there", 5000);
        assert.equal(JSON.parse(reader.data("reset")[0] ?? "{}").code, "OffsetGone");
        await append(name, "second");
        await reader.watch.until(() => reader.data("data").length === 2, "an event at once", 5000);
        assert.deepEqual(reader.data("data"), ['["first"]', '["second"]']);
        assert.equal(reader.connections.length, 1);
      });
    });
  }

  describe("events", { concurrency: 4 }, () => {
    /** As it goes for readers: some messages, a silence longer than proxies wait, and then messages again. */
    const SILENCE = 36_000;
    const WHOLE = 66_000;

    /** An edge whose clock is the usual one. */
    let own: LocalEdge;
    before(async () => {
      own = await startAsking(operator.settings);
    });
    after(() => own.close());

    async function readThrough(t: TestContext, front: string): Promise<EventReader> {
      const name = fresh("app");
      await create(name, undefined, own.url);
      const reader = new EventReader(`${front}/mailboxes/${name}?offset=-1&live=sse`, { headers: bearer(writer) });
      t.after(() => reader.close());
      const begin = performance.now();
      let sent = 0;
      while (performance.now() - begin < WHOLE) {
        await append(name, sent, own.url);
        sent += 1;
        await sleep(sent === 5 ? SILENCE : 500);
      }
      await eventually(() => reader.data("data").flatMap((text) => JSON.parse(text)).length >= sent, "the rest");
      const got = reader.data("data").flatMap((text) => JSON.parse(text));
      assert.deepEqual(
        got,
        Array.from({ length: sent }, (_, n) => n),
      );
      assert.deepEqual([reader.refused, reader.data("reset")], [undefined, []]);
      return reader;
    }

    /** The connections were ended by the edge, after nearly a minute, and not by the proxy. */
    function assertRecycled({ connections }: EventReader): void {
      const [first, ...others] = connections;
      assert.ok(first?.isWhole, "the first came to its end");
      assert.ok(first.to - first.from > 50_000 && first.to - first.from < 60_000, String(first.to - first.from));
      assert.equal(others.length, 1);
      assert.ok(first.names.filter((name) => name === "heartbeat").length >= 2, String(first.names));
    }

    it("are kept alive by heartbeats through a proxy that cuts what is silent for 20 s", async (t) => {
      const front = await startNginx("proxy_read_timeout 20s;", own.url);
      t.after(() => front.stop());
      assertRecycled(await readThrough(t, front.url));
    });

    it("end before a proxy cuts them after 60 s, and go on", async (t) => {
      const front = await startNginx("", own.url);
      t.after(() => front.stop());
      assertRecycled(await readThrough(t, front.url));
    });

    it("go on without loss through a proxy that cuts every connection after 20 s", async (t) => {
      const server = await listen((socket) => {
        const up = connect(Number(new URL(own.url).port), "127.0.0.1");
        const ending = setTimeout(() => socket.resetAndDestroy(), 20_000);
        socket.on("close", () => {
          clearTimeout(ending);
          up.destroy();
        });
        for (const end of [socket, up]) end.on("error", () => undefined);
        up.on("close", () => socket.destroy());
        socket.pipe(up).pipe(socket);
      });
      t.after(() => server.close());
      const { connections } = await readThrough(t, `http://127.0.0.1:${server.port}`);
      assert.ok(connections.length >= 3, String(connections.length));
      assert.ok(connections.slice(0, -1).every(({ isWhole, from, to }) => !isWhole && to - from < 21_000));
    });
  });
});
