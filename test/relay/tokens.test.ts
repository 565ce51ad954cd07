/** A relay that requires tokens of devices: who is accepted, and for how long. */
import assert from "node:assert/strict";
import { after, before, describe, it, type TestContext } from "node:test";
import { CONNECTED_AGE } from "../../src/auth/limits.ts";
import {
  Device,
  type DeviceOptions,
  type DeviceStream,
  MemoryKeyring,
  openTransport,
  publicKeyOf,
} from "../../src/device/index.ts";
import { type Relay, type RelayOptions, startRelay } from "../../src/relay/index.ts";
import {
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  relayURL,
  SessionStatusId,
} from "../../src/sstp/index.ts";
import { failure } from "../device/support.ts";
import { type Claims, ed25519, jwks } from "../edge/issuer.ts";
import { receive, until } from "../edge/mailbox/support.ts";
import { type Operator, startOperator } from "../edge/operator.ts";

const NAME = "relay.example.com";
const issuer = await ed25519("first");
const other = await ed25519("second");

const issue = (address: string, claims: Claims = {}, by = issuer) => by.issue({ address, aud: NAME, ...claims });

async function start(t: TestContext, options: RelayOptions = {}): Promise<Relay> {
  const relay = await startRelay({ port: 0, names: [NAME, "127.0.0.1"], keys: jwks(issuer), ...options });
  t.after(() => relay.close());
  return relay;
}

async function device(
  t: TestContext,
  relay: Relay,
  options: Partial<DeviceOptions> & { address: string },
): Promise<Device> {
  const connected = await Device.connect({ relay: `127.0.0.1:${relay.port}`, ...options });
  t.after(() => connected.close());
  return connected;
}

/** An SSTP client with any claimed identity. */
class Raw {
  readonly events: ConnectionEvent[] = [];
  readonly engine: Connection;
  readonly #transport;

  constructor(t: TestContext, relay: Relay, urls: readonly string[], token: string | Uint8Array = "") {
    this.#transport = openTransport({ transport: "tcp", relay: `127.0.0.1:${relay.port}` });
    t.after(() => this.#transport.close());
    this.engine = new Connection({ role: "client", outbound: true, localDeviceURLs: [...urls], now: 0 });
    this.engine.connect(relayURL(NAME), typeof token === "string" ? Buffer.from(token) : token);
    this.flush();
    void this.#read();
  }

  flush(): void {
    void this.#transport.write(this.engine.output(0));
  }

  async event<T extends ConnectionEvent["type"]>(type: T): Promise<Extract<ConnectionEvent, { type: T }>> {
    const found = () => this.events.find((event) => event.type === type);
    await until(`${type}; came ${this.events.map((event) => event.type).join(" ")}`, () => found() !== undefined);
    return found() as Extract<ConnectionEvent, { type: T }>;
  }

  async #read(): Promise<void> {
    for (;;) {
      const octets = await this.#transport.read();
      if (octets === undefined) break;
      this.events.push(...this.engine.receive(octets, 0));
      this.flush();
    }
    this.events.push(...this.engine.transportLost());
  }
}

describe("a relay with keys", () => {
  it("admits devices with a token in Connect, and only to what it grants", async (t) => {
    const relay = await start(t);
    const alice = await device(t, relay, {
      address: "alice/pc",
      token: await issue("alice/pc", { scope: "connect receive send:bob" }),
    });
    const bob = await device(t, relay, {
      address: "bob/pc",
      token: await issue("bob/*", { scope: "connect receive" }),
    });
    await alice.send("bob", "hello");
    const [message] = await receive(bob, 1);
    assert.deepEqual([message?.from, message?.text()], ["alice/pc", "hello"]);
    await assert.rejects(alice.send("carol", "x"), failure("RecipientRefused"));
    await assert.rejects(alice.send("bob/pc", "x"), failure("RecipientRefused"));
    await assert.rejects(bob.send("alice", "x"), failure("RecipientRefused"));
    const sender = { address: "quiet/pc", token: await issue("quiet/pc", { scope: "connect send:*" }) };
    await assert.rejects(device(t, relay, sender), failure("TokenRefused"), "without receive");
    await (await device(t, relay, { ...sender, receive: false })).send("bob", "from who only sends");
    assert.equal((await receive(bob, 1))[0]?.text(), "from who only sends");
  });

  it("delivers nothing to a device that may only send", async (t) => {
    const relay = await start(t);
    const sender = await device(t, relay, { address: "s/x", token: await issue("s/x") });
    await sender.send("quiet/x", "waits");
    const quiet = new Raw(t, relay, ["grooveDevice://quiet/x"], await issue("quiet/x", { scope: "connect send:*" }));
    await quiet.event("connected");
    await sender.send("quiet/x", "waits too");
    assert.equal(relay.waiting("grooveDevice://quiet/x").messages, 2);
    assert.deepEqual(
      quiet.events.map(({ type }) => type),
      ["connected"],
    );
  });

  it("reports fanout recipients that the token does not allow", async (t) => {
    const relay = await start(t);
    const token = await issue("fan/s", { scope: "connect send:one/*" });
    const raw = new Raw(t, relay, ["grooveDevice://fan/s"], token);
    await raw.event("connected");
    const entries = ["one", "two"].map((name) => ({
      identityURL: `grooveIdentity://${name}`,
      deviceURL: `grooveDevice://${name}/x`,
      relayURL: relayURL(NAME),
    }));
    raw.engine.openFanout({ resourceURL: "m", entries });
    raw.flush();
    const { statusId, indexes } = await raw.event("sessionStatus");
    assert.deepEqual([statusId, indexes], [SessionStatusId.LockedOut, [1]]);
  });

  it("gives the reason for a refusal", async (t) => {
    const relay = await start(t, { revoked: ["out"] });
    const now = Math.floor(Date.now() / 1000);
    const own = ["grooveDevice://raw/x"];
    for (const [urls, token, reason] of [
      [own, "", "TokenNeeded"],
      [own, "no token", "TokenInvalid"],
      [own, new Uint8Array([0xff, 0, 1]), "TokenInvalid"],
      [own, await issue("raw/x", {}, other), "TokenInvalid"],
      [own, await issue("raw/x", { exp: now - 60 }), "TokenExpired"],
      [own, await issue("raw/x", { aud: "edge.example.com" }), "WrongAudience"],
      [own, await issue("raw/x", { jti: "out" }), "TokenRevoked"],
      [own, await issue("raw/x", { scope: "receive" }), "ScopeMissing"],
      [own, await issue("raw/y"), "ScopeMissing"],
      [[...own, "grooveDevice://raw/y"], await issue("raw/x"), "ScopeMissing"],
      [["grooveIdentity://raw"], await issue("*"), "ScopeMissing"],
    ] as const) {
      const { responseId, token: said } = await new Raw(t, relay, urls, token).event("refused");
      assert.deepEqual([responseId, Buffer.from(said).toString()], [ConnectResponseId.AuthenticationFailed, reason]);
    }
    await assert.rejects(device(t, relay, { address: "raw/x" }), { code: "TokenRefused", message: /\[TokenNeeded\]$/ });
    const expired = await issue("raw/x", { exp: now - 60 });
    await assert.rejects(device(t, relay, { address: "raw/x", token: expired }), {
      code: "TokenRefused",
      message: /\[TokenExpired\]$/,
    });
  });

  it("does not trust a relay for its source address", async (t) => {
    const relay = await start(t);
    const claims = ["grooveDNS://edge.example.com"];
    const { token } = await new Raw(t, relay, claims, await issue("*")).event("refused");
    assert.equal(Buffer.from(token).toString(), "RelayNotProven");
  });

  it("does not start with unusable keys", async () => {
    await assert.rejects(startRelay({ port: 0, keys: '{"keys":[]}' }), { name: "KeySetError" });
  });
});

describe("a relay that fetches keys and revoked tokens", () => {
  let operator: Operator;
  before(async () => {
    operator = await startOperator(issuer, other);
  });
  after(() => operator.close());

  for (const [what, end, reason] of [
    ["that was revoked", (id: string) => operator.revoke(id), "TokenRevoked"],
    ["whose key was taken out", () => operator.serve(other), "TokenInvalid"],
  ] as const) {
    it(`delivers nothing more to a device connected with a token ${what}, and disconnects it`, async (t) => {
      let ahead = 0;
      const now = Date.now.bind(Date);
      t.mock.method(Date, "now", () => now() + ahead);
      const { keysURL, revokedURL } = operator.settings;
      assert(keysURL !== undefined && revokedURL !== undefined);
      const relay = await start(t, { keys: "", keysURL, revokedURL });
      const lost: string[] = [];
      const options = { onReconnect: (error: Error) => lost.push(error.message) };
      const out = await device(t, relay, { ...options, address: "out/x", token: await issue("out/x", { jti: what }) });
      const stays = await device(t, relay, { address: "stays/x", token: await issue("stays/x", {}, other) });
      await stays.send("out/x", "in time");
      assert.equal((await receive(out, 1))[0]?.text(), "in time");
      await until("it is acknowledged", () => relay.waiting("grooveDevice://out/x").messages === 0);
      operator.slow(50);
      end(what);
      ahead = CONNECTED_AGE + 1000;
      const ended = out.messages().next();
      await stays.send("out/x", "too late");
      await assert.rejects(ended, { code: "TokenRefused", message: new RegExp(`\\[${reason}\\]$`) });
      assert.equal(relay.waiting("grooveDevice://out/x").messages, 1);
      assert.equal(lost.length, 1);
    });

    it(`resets the streams of a device with a token ${what} at both ends`, async (t) => {
      let ahead = 0;
      const now = Date.now.bind(Date);
      t.mock.method(Date, "now", () => now() + ahead);
      const { keysURL, revokedURL } = operator.settings;
      assert(keysURL !== undefined && revokedURL !== undefined);
      operator.serve(issuer, other);
      const relay = await start(t, { keys: "", keysURL, revokedURL });
      const scope = "connect receive send:* stream:*";
      const jti = `stream ${what}`;
      const streaming = { receive: "streams" } as const;
      const [own, others] = [new MemoryKeyring(), new MemoryKeyring()];
      others.accept("out/x", publicKeyOf(own.secretKey));
      const token = await issue("out/x", { scope, jti });
      const out = await device(t, relay, { ...streaming, address: "out/x", keyring: own, token });
      const theirs = await issue("stays/x", { scope }, other);
      const stays = await device(t, relay, { ...streaming, address: "stays/x", keyring: others, token: theirs });
      const served = Promise.withResolvers<DeviceStream>();
      stays.serve("wait", (stream) => {
        stream.accept();
        served.resolve(stream);
      });
      const here = await out.dial("stays/x", "wait");
      const there = await served.promise;
      end(jti);
      ahead = CONNECTED_AGE + 1000;
      const writer = there.writable.getWriter();
      writer.write(Buffer.from("too late")).catch(() => undefined);
      await assert.rejects(there.closed, { code: "StreamReset", reason: "TokenEnded" });
      await assert.rejects(here.closed, { message: new RegExp(`\\[${reason}\\]$`) });
    });
  }
});
