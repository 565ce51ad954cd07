/** Links: the edge and an origin relay exchange messages of their peers over one connection, despite faults. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readdir, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import { Device, DeviceError } from "../../../src/device/index.ts";
import { type Relay, type RelayOptions, startRelay } from "../../../src/relay/index.ts";
import { CloseReasonId, SessionStatusId } from "../../../src/sstp/index.ts";
import { authority } from "../../support/certificates.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { FULL } from "../../support/long-form.ts";
import { PATIENCE } from "../../support/sockets.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import {
  afterAll,
  bodyOf,
  fresh,
  mailboxOf,
  RawClient,
  receive,
  startEdge,
  TRANSPORTS,
  until,
} from "../mailbox/support.ts";
import { atEdge, atRelay, type Context, edgeFor, type LinkStub, linked, linkOf, originRelay } from "./link-support.ts";

const PROGRAM = fileURLToPath(new URL("link-tls.ts", import.meta.url));

const LENGTHS: readonly number[] = [0, 1, 100, 2048, 2049, 32_768, 65_537, 1_048_576, 3_000_000];

/** Mailboxes that the edge needs about 20 s to create. */
const MANY = 400;

/** The longest allowed message. */
const LONGEST = 16 * 1024 * 1024;

const ADMIN_TOKEN = "secret";

/** Origin relays that the shared edge may link to. It must know their ports before it starts. */
const RELAYS = 16;

describe("a link", () => {
  /** For tests that need no settings of their own: each has a relay and names of its own. */
  let edge: InspectedEdge;
  /** The relay that the shared edge stays connected to. */
  let kept: Relay;
  const unused: number[] = [];
  const all = afterAll();
  before(async () => {
    const ports = new Set<number>();
    while (ports.size < RELAYS) ports.add(await freePort("127.0.0.1", 0));
    unused.push(...ports);
    kept = await sharedRelay(all);
    edge = await edgeFor(all, [...ports], { adminToken: ADMIN_TOKEN, links: [`127.0.0.1:${kept.port}`] });
  });

  /** A relay that only this test uses. */
  function sharedRelay(t: Context, options: Pick<RelayOptions, "store"> = {}): Promise<Relay> {
    const port = unused.pop();
    assert.ok(port !== undefined, "there are not enough relays");
    return originRelay(t, { ...options, port });
  }

  for (const transport of TRANSPORTS) {
    it(`carries every size in both directions between a device over ${transport} and one at the relay`, async (t) => {
      const relay = await sharedRelay(t);
      const name = fresh("alice");
      const alice = await atEdge(t, edge, `${name}/pc`, transport);
      const bob = await atRelay(t, relay.port, "bob/pc");
      const to = `bob/pc@127.0.0.1:${relay.port}`;
      const lengths = FULL ? [...LENGTHS, LONGEST] : LENGTHS;
      for (const [sender, receiver, address] of [
        [alice, bob, to],
        // The relay knows the edge by its link, which the first message has opened.
        [bob, alice, `${name}/pc@localhost`],
      ] as const) {
        const sending = Promise.all(lengths.map((length) => sender.send(address, bodyOf(length, `${length}`))));
        const messages = await receive(receiver, lengths.length);
        await sending;
        for (const [index, length] of lengths.entries()) {
          assert.ok(Buffer.from(messages[index]?.body ?? []).equals(bodyOf(length, `${length}`)), `${length} octets`);
          const from = sender === alice ? `${name}/pc@localhost` : to;
          assert.deepEqual([messages[index]?.from, messages[index]?.vouched], [from, true]);
        }
      }
      const outbox = await mailboxOf(edge, `grooveDNS://127.0.0.1:${relay.port}`);
      await until("the relay's mailbox is empty", async () => (await outbox.status()).messages === 0);
    });
  }

  it("carries messages between devices of two edges that share a relay", async (t) => {
    const relay = await sharedRelay(t);
    const there = await edgeFor(t, [relay.port]);
    const aliceName = fresh("alice");
    const name = `127.0.0.1:${relay.port}`;
    const alice = await atEdge(t, edge, `${aliceName}/pc`, "keepalive");
    // It reaches the relay through the other edge, which passes it on.
    const bob = await atEdge(t, there, "bob/pc", "longlived", { relay: name });
    const bodies = Array.from({ length: 200 }, (_, i) => bodyOf(10 + ((i * 37) % 3000), `${i}`));
    const sending = Promise.all(bodies.map((body) => alice.send(`bob/pc@${name}`, body)));
    const messages = await receive(bob, bodies.length);
    await sending;
    assert.ok(messages.every(({ body }, i) => Buffer.from(body).equals(bodies[i] ?? Buffer.alloc(0))));
    await bob.send(`${aliceName}/pc@localhost`, "and back");
    assert.equal((await receive(alice, 1))[0]?.text(), "and back");
  });

  it("delivers one sender's message while another's wait for hundreds of new mailboxes", {
    timeout: 300_000,
  }, async (t) => {
    const relay = await sharedRelay(t);
    const name = fresh("carol");
    const carol = await atEdge(t, edge, `${name}/pc`);
    await carol.send(`nobody/pc@127.0.0.1:${relay.port}`, "so that there is a link");
    await linked(edge, relay.port);
    const [alice, bob] = [await atRelay(t, relay.port, "alice/pc"), await atRelay(t, relay.port, "bob/pc")];
    await Promise.all(Array.from({ length: MANY }, (_, n) => alice.send(`new${n}/pc@localhost`, "to many")));
    await bob.send(`${name}/pc@localhost`, "to one");
    assert.equal((await receive(carol, 1))[0]?.text(), "to one");
    const { messages } = relay.waiting("grooveDNS://localhost");
    assert.ok(messages > MANY / 2, `${messages} of ${MANY} wait`);
  });

  it("keeps what is sent while the relay is down, and delivers it once and in order afterwards", {
    timeout: 360_000,
  }, async (t) => {
    const store = join(temporaryFolder(), "relay.db");
    const first = await sharedRelay(t, { store });
    const { port } = first;
    const alice = await atEdge(t, edge, `${fresh("alice")}/pc`);
    const to = `bob/pc@127.0.0.1:${port}`;
    await alice.send(to, "0");
    const outbox = await mailboxOf(edge, `grooveDNS://127.0.0.1:${port}`);
    await until("the relay has it", async () => (await outbox.status()).messages === 0);
    await first.close();
    const count = 1000;
    await Promise.all(Array.from({ length: count }, (_, i) => alice.send(to, `${i + 1}`)));
    assert.equal((await outbox.status()).messages, count);
    await originRelay(t, { store, port });
    const bob = await atRelay(t, port, "bob/pc");
    const messages = await receive(bob, count + 1, 60_000);
    assert.deepEqual(
      messages.map((message) => message.text()),
      Array.from({ length: count + 1 }, (_, i) => `${i}`),
    );
    await until("all is acknowledged", async () => (await outbox.status()).messages === 0);
  });

  it("reports why the relay is unreachable to the sender of a message with flag D", async (t) => {
    const relay = await sharedRelay(t);
    const { port } = relay;
    const alice = await atEdge(t, edge, `${fresh("alice")}/pc`, "longlived");
    const bob = await atRelay(t, port, "bob/pc");
    await alice.send(`bob/pc@127.0.0.1:${port}`, "hot", { onlyIfOnline: true });
    assert.equal((await receive(bob, 1))[0]?.text(), "hot");
    await bob.close();
    await relay.close();
    const unreachable = (error: unknown) => error instanceof DeviceError && error.code === "RelayUnreachable";
    await until("the link is down", async () => !(await (await linkOf(edge, port)).status()).connected);
    await assert.rejects(alice.send(`bob/pc@127.0.0.1:${port}`, "cold", { onlyIfOnline: true }), unreachable);
    await assert.rejects(alice.send("bob/pc@127.0.0.1:9", "a relay that is not allowed"), unreachable);
    assert.equal((await (await mailboxOf(edge, `grooveDNS://127.0.0.1:${port}`)).status()).messages, 0);
  });

  it("to a silent relay delays messages behind one with flag D by at most 5 s", async (t) => {
    // They accept connections and stay silent, so each way takes its full timeout.
    const ports = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const sockets: Socket[] = [];
        const server = createServer((socket) => sockets.push(socket.on("error", () => undefined).resume()));
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
        t.after(() => {
          server.close();
          for (const socket of sockets) socket.destroy();
        });
        return (server.address() as AddressInfo).port;
      }),
    );
    const relayAllow = ["127.0.0.1", ...ports.map((port) => `127.0.0.1:${port}`)];
    const edge = await edgeFor(t, ports, { relayAllow, linkWays: ports.map((port) => `sstp:${port}`).join(" ") });
    const lost: string[] = [];
    const alice = await atEdge(t, edge, "alice/pc", "websocket", { onReconnect: ({ message }) => lost.push(message) });
    const since = performance.now();
    const hot = Array.from({ length: 3 }, (_, n) => alice.send("bob/pc@127.0.0.1", `${n}`, { onlyIfOnline: true }));
    const refused = hot.map((sent) => assert.rejects(sent, { code: "RelayUnreachable" }));
    await alice.send("carol/pc", "meanwhile");
    const took = performance.now() - since;
    await Promise.all(refused);
    assert.ok(took < 5000, `${took} ms`);
    assert.deepEqual(lost, []);
  });

  it("splits a fanout into local and remote peers, and reports unreachable ones by index", async (t) => {
    const relay = await sharedRelay(t);
    const name = `grooveDNS://127.0.0.1:${relay.port}`;
    const [aliceName, carolName] = [fresh("alice"), fresh("carol")];
    const carol = await atEdge(t, edge, `${carolName}/pc`);
    const [bob, dave] = [await atRelay(t, relay.port, "bob/pc"), await atRelay(t, relay.port, "dave/pc")];
    const sender = new RawClient(edge, "websocket", `grooveDevice://${aliceName}/pc`, {}, "localhost");
    t.after(() => sender.close());
    sender.connect("localhost");
    await sender.event("connected");
    const entry = (identity: string, device: string, relayURL: string) => ({
      identityURL: `grooveIdentity://${identity}`,
      deviceURL: device && `grooveDevice://${identity}/${device}`,
      relayURL,
    });
    const session = sender.engine.openFanout({
      resourceURL: "message",
      entries: [
        entry("bob", "pc", name),
        entry("erin", "pc", "grooveDNS://elsewhere.example.com"),
        entry(carolName, "pc", ""),
        entry("dave", "", name),
        entry(carolName, "pc", "grooveDNS://localhost"),
      ],
    });
    sender.flush();
    const status = await sender.event("sessionStatus");
    assert.deepEqual([status.statusId, status.indexes], [SessionStatusId.HostNotReachable, [1]]);
    await sender.event("sessionState");
    const number = sender.send(session, "to all", { userRef: `all@${aliceName}/pc` });
    await sender.event("acknowledged", ({ messages }) => messages.includes(number));
    for (const device of [bob, dave, carol]) assert.equal((await receive(device, 1))[0]?.text(), "to all");
    sender.engine.closeSession(session, CloseReasonId.NoReason);
    sender.flush();
  });

  it("delivers messages of others while one sender's fanouts have all the addressing that the relay keeps", async (t) => {
    const relay = await sharedRelay(t);
    const name = `grooveDNS://127.0.0.1:${relay.port}`;
    const mallory = new RawClient(edge, "websocket", "grooveDevice://mallory/pc", {}, "localhost");
    t.after(() => mallory.close());
    mallory.connect("localhost");
    await mallory.event("connected");
    const entries = Array.from({ length: 150 }, (_, n) => {
      const identity = `${n}`.padEnd(120, "x");
      const device = `grooveDevice://${identity}/${"y".repeat(100)}`;
      return { identityURL: `grooveIdentity://${identity}`, deviceURL: device, relayURL: name };
    });
    for (let n = 0; n < 100; n += 1) {
      const session = mallory.engine.openFanout({ resourceURL: `message${n}`, entries });
      mallory.flush();
      await mallory.event("sessionState", ({ sessionId }) => sessionId === session);
      const number = mallory.send(session, "x", { userRef: `${n}@mallory/pc` });
      await mallory.event("acknowledged", ({ messages }) => messages.includes(number));
      mallory.engine.closeSession(session, CloseReasonId.NoReason);
    }
    const outbox = await mailboxOf(edge, name);
    await until("the relay has all", async () => (await outbox.status()).messages === 0, 60_000);
    const bob = await atRelay(t, relay.port, "bob/pc");
    const carol = await atEdge(t, edge, `${fresh("carol")}/pc`);
    await carol.send(`bob/pc@127.0.0.1:${relay.port}`, "to bob");
    assert.equal((await receive(bob, 1))[0]?.text(), "to bob");
    assert.equal((await outbox.status()).dropped.RefusedByPeer, 0);
  });

  it("is one connection for 200 devices and 2,000 sessions", { timeout: 360_000 }, async (t) => {
    const origin = await sharedRelay(t);
    const devices = await Promise.all(Array.from({ length: 200 }, (_, i) => atEdge(t, edge, `sender/${i}`)));
    await Promise.all(
      devices.flatMap((device, i) =>
        Array.from({ length: 10 }, (_, k) => device.send(`reader/${i * 10 + k}@127.0.0.1:${origin.port}`, `${i}`)),
      ),
    );
    const outbox = await mailboxOf(edge, `grooveDNS://127.0.0.1:${origin.port}`);
    await until("the relay has all", async () => (await outbox.status()).messages === 0, 60_000);
    assert.equal(origin.status().connections, 1);
    for (const n of [0, 999, 1999]) {
      const reader = await atRelay(t, origin.port, `reader/${n}`);
      assert.equal((await receive(reader, 1))[0]?.text(), `${Math.floor(n / 10)}`);
      await until("it is acknowledged", () => origin.waiting(`grooveDevice://reader/${n}`).messages === 0);
    }
  });

  it("is opened by the next way when one is blocked, including HTTP, and remembers the way that works", {
    timeout: 300_000,
  }, async (t) => {
    // The other edge is the relay: its port speaks only HTTP.
    const there = await startEdge(t, { relayName: "127.0.0.1", relayAllow: ["localhost:7"], linkWays: "sstp:7" });
    const port = Number(new URL(there.url).port);
    const shut = await originRelay(t);
    await shut.close();
    const edge = await edgeFor(t, [shut.port, port], {
      relayAllow: ["127.0.0.1", `127.0.0.1:${shut.port}`, `127.0.0.1:${port}`],
      linkWays: `sstp:${shut.port} http:${port}`,
    });
    const alice = await atEdge(t, edge, "alice/pc");
    const bob = await atEdge(t, there, "bob/pc", "keepalive");
    const bodies = Array.from({ length: 100 }, (_, i) => bodyOf(1 + ((i * 977) % 40_000), `${i}`));
    const sending = Promise.all(bodies.map((body) => alice.send("bob/pc@127.0.0.1", body)));
    const messages = await receive(bob, bodies.length);
    await sending;
    assert.ok(messages.every(({ body }, i) => Buffer.from(body).equals(bodies[i] ?? Buffer.alloc(0))));
    const namespace = await edge.miniflare.getDurableObjectNamespace("LINK");
    const link = namespace.getByName("grooveDNS://127.0.0.1") as unknown as LinkStub;
    assert.equal((await link.status()).way, `127.0.0.1:${port}`);
  });

  it("to a port in LINK_WAYS needs only the allow-list entry that names that port", async (t) => {
    // 127.0.0.1 means this edge itself.
    const relay = await startRelay({ host: "127.0.0.2", port: 0 });
    t.after(() => relay.close());
    const relayAllow = [`127.0.0.2:${relay.port}`];
    const edge = await edgeFor(t, [], { relayAllow, linkWays: `sstp:9 sstp:${relay.port}`, links: ["127.0.0.2"] });
    const alice = await atEdge(t, edge, "alice/pc");
    const bob = await Device.connect({ relay: `127.0.0.2:${relay.port}`, address: "bob/pc", transport: "tcp" });
    t.after(() => bob.close());
    await alice.send("bob/pc@127.0.0.2", "by the port that is allowed");
    assert.equal((await receive(bob, 1))[0]?.text(), "by the port that is allowed");
  });

  it("to a relay without an allowed port is refused at once, and the operator learns which entry to add", async (t) => {
    const lines: string[] = [];
    const edge = await edgeFor(t, [9], {
      adminToken: ADMIN_TOKEN,
      relayAllow: ["127.0.0.1", "10.0.0.7", "!10.0.0.8"],
      linkWays: "sstp:8443",
      dev: "open",
      log: (_, line) => lines.push(line),
    });
    const look = async (relay: string) => {
      const headers = { Authorization: `Bearer ${ADMIN_TOKEN}` };
      const answer = await fetch(`${edge.url}/admin/links/${relay}`, { headers });
      const { code, detail } = (await answer.json()) as { code: string; detail: string };
      return `${code} ${detail}`;
    };
    assert.match(
      await look("198.51.100.7"),
      /^RelayNotAllowed .* 198\.51\.100\.7 on port 8443\. .*: add 198\.51\.100\.7:8443 to ORIGIN_RELAYS \(--relay-allow\)/,
    );
    assert.match(await look("10.0.0.8"), /^RelayNotAllowed .*: remove !10\.0\.0\.8 from ORIGIN_RELAYS/);
    assert.match(
      await look("127.0.0.1"),
      /^RelayNotAllowed .*: add 127\.0\.0\.1:8443 to .*, and .* DEV=private \(--dev-private\)/,
    );
    assert.match(await look("127.0.0.1:443"), /^RelayPrivate .*\(loopback\): .* DEV=private \(--dev-private\)/);
    const alice = await atEdge(t, edge, "alice/pc");
    await assert.rejects(alice.send("bob@198.51.100.7", "refused"), {
      code: "RelayUnreachable",
      message: /\/admin\/links\/RELAY \[HostNotReachable\]$/,
    });
    await until("it is in the log", () =>
      lines.some((line) => line.includes('"reason":"RelayNotAllowed"') && line.includes("add 198.51.100.7:8443 to")),
    );
  });

  it("stays open when the operator keeps it, so that messages waiting at the relay arrive", async (t) => {
    const name = fresh("alice");
    const alice = await atEdge(t, edge, `${name}/pc`);
    await linked(edge, kept.port);
    const bob = await atRelay(t, kept.port, "bob/pc");
    await bob.send(`${name}/pc@localhost`, "first word");
    assert.equal((await receive(alice, 1))[0]?.text(), "first word");
  });

  it("uses TLS when the operator says so, and only with a valid certificate of the relay", async () => {
    const folder = temporaryFolder();
    const { ca, key, cert } = authority();
    for (const [name, text] of Object.entries({ ca, key, cert })) await writeFile(join(folder, `${name}.pem`), text);
    const run = (env: NodeJS.ProcessEnv, patience: number) =>
      promisify(execFile)(process.execPath, ["--disable-warning=ExperimentalWarning", PROGRAM, folder, `${patience}`], {
        env: { ...process.env, ...env },
      });
    const [trusted, strange] = await Promise.all([
      run({ NODE_EXTRA_CA_CERTS: join(folder, "ca.pem") }, PATIENCE),
      run({ NODE_EXTRA_CA_CERTS: "" }, 3000),
    ]);
    assert.equal(trusted.stdout.trim(), "by TLS");
    assert.equal(strange.stdout.trim(), "nothing");
  });

  it("is not created by an operator's query, nor for a relay that is not allowed", async (t) => {
    const state = temporaryFolder();
    const edge = await edgeFor(t, [9], { adminToken: ADMIN_TOKEN, state });
    const look = async (relay: string) => {
      const headers = { Authorization: `Bearer ${ADMIN_TOKEN}` };
      const answer = await fetch(`${edge.url}/admin/links/${encodeURIComponent(relay)}`, { headers });
      return [answer.status, ((await answer.json()) as { connected?: boolean }).connected];
    };
    assert.deepEqual(await look("127.0.0.1:9"), [200, false]);
    assert.deepEqual(await look("127.0.0.1:10"), [403, undefined]);
    const files = await readdir(state, { recursive: true });
    assert.deepEqual(
      files.filter((file) => /Link.*[0-9a-f]{64}/.test(file)),
      [],
    );
  });

  it("is renewed under traffic in both directions without losing or resending a message", {
    timeout: 360_000,
  }, async (t) => {
    const relay = await sharedRelay(t);
    const aliceName = fresh("alice");
    const alice = await atEdge(t, edge, `${aliceName}/pc`);
    const bob = await atRelay(t, relay.port, "bob/pc");
    const name = `127.0.0.1:${relay.port}`;
    await alice.send(`bob/pc@${name}`, "first");
    await receive(bob, 1);
    const count = 4000;
    const texts = Array.from({ length: count }, (_, i) => `${i}`);
    const sending = (async () => {
      for (let at = 0; at < count; at += 100) {
        const some = texts.slice(at, at + 100);
        await Promise.all(some.map((text) => alice.send(`bob/pc@${name}`, text)));
        await Promise.all(some.map((text) => bob.send(`${aliceName}/pc@localhost`, text)));
      }
    })();
    const renewing = (async () => {
      for (let n = 0; n < 10; n += 1) {
        const answer = await fetch(`${edge.url}/admin/links/${encodeURIComponent(name)}/renew`, {
          method: "POST",
          headers: { Authorization: `Bearer ${ADMIN_TOKEN}` },
        });
        const { connected } = (await answer.json()) as { connected: boolean };
        assert.ok(connected);
      }
    })();
    const [there, here] = await Promise.all([receive(bob, count, 60_000), receive(alice, count, 60_000)]);
    await Promise.all([sending, renewing]);
    assert.deepEqual([there.map((message) => message.text()), here.map((message) => message.text())], [texts, texts]);
    assert.equal(relay.status().dropped.DuplicateMessage, 0);
  });
});
