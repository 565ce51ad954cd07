/** Who is accepted as a relay, what it may address, and TLS. The other end is an engine driven by the test. */
import assert from "node:assert/strict";
import { connect as dial, type Socket } from "node:net";
import { describe, it } from "node:test";
import { connect as dialSecurely } from "node:tls";
import { DiallerProof, newLinkSecret, readLinkSecrets } from "../../src/auth/relay-proof.ts";
import { isNear } from "../../src/lib/near-address.ts";
import { KNOWN_RELAYS, RECIPIENTS } from "../../src/relay/limits.ts";
import { RelayTrust } from "../../src/relay/relay-trust.ts";
import {
  CloseReasonId,
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  type FanoutDeviceEntry,
  OpenResponseId,
  relayURL,
  SessionStatusId,
} from "../../src/sstp/index.ts";
import { authority } from "../support/certificates.ts";
import { Watch } from "../support/watch.ts";
import { destination, Peer, relayFor } from "./support.ts";

const EDGE = "grooveDNS://edge.example.com";
const SECRET = newLinkSecret();
const FILE = `edge.example.com=${SECRET}`;

function secretOf(text: string): Uint8Array {
  return Buffer.from(text, "base64url");
}

/** An edge, or a client that claims to be one. */
class EdgePeer {
  readonly engine: Connection;
  readonly events: ConnectionEvent[] = [];
  readonly bodies: string[] = [];
  readonly socket: Socket;
  readonly #watch = new Watch();

  constructor(port: number, sources: readonly string[] = [EDGE], socket: Socket = dial(port, "127.0.0.1")) {
    this.engine = new Connection({ role: "relay", outbound: true, localDeviceURLs: sources, now: 0 });
    this.socket = socket;
    socket.on("data", (octets: Buffer) => {
      for (const event of this.engine.receive(octets, 0)) {
        this.events.push(event);
        if (event.type === "open") this.engine.setAvailability(event.sessionId, "ready");
        if (event.type === "data") this.bodies.push(Buffer.from(event.octets).toString());
        if (event.type === "endMessage") this.engine.complete(event.message);
      }
      this.flush();
      this.#watch.changed();
    });
    const gone = () => {
      this.events.push(...this.engine.transportLost());
      this.#watch.changed();
    };
    socket.on("close", gone);
    socket.on("error", gone);
  }

  flush(): void {
    for (const block of this.engine.output()) this.socket.write(block);
  }

  connect(target: string, token?: Uint8Array): void {
    this.engine.connect(target, token);
    this.flush();
  }

  event<T extends ConnectionEvent["type"]>(type: T): Promise<Extract<ConnectionEvent, { type: T }>> {
    return this.#watch.until(
      () => this.events.find((event) => event.type === type) as Extract<ConnectionEvent, { type: T }> | undefined,
      `the event ${type}, there were ${this.events.map((event) => event.type)}`,
    );
  }

  async received(count: number): Promise<string[]> {
    await this.#watch.until(() => this.bodies.length >= count, `${count} messages`);
    return this.bodies;
  }

  /** The reason carried by a refusal. */
  async refusal(): Promise<string> {
    const { responseId, token } = await this.event("refused");
    assert.equal(responseId, ConnectResponseId.AuthenticationFailed);
    return Buffer.from(token).toString();
  }

  /** Connects with a proof, and waits until it has been verified. */
  async prove(target: string, secret: string = SECRET): Promise<void> {
    const proof = await DiallerProof.begin([secretOf(secret)], { dialler: EDGE, acceptor: target });
    this.connect(target, proof.hello);
    const answer = await proof.answer((await this.event("connected")).token);
    this.engine.connectAuthenticate(answer ?? assert.fail("the relay has proved itself"));
    this.flush();
  }
}

/** A relay with secrets, and a message waiting there for the edge. */
async function relayWithMessage(t: Parameters<typeof relayFor>[0], linkSecrets: string) {
  const relay = await relayFor(t, { names: ["relay.example.com", "127.0.0.1"], linkSecrets });
  const device = await Peer.connect(relay, { address: "bob/pc" });
  t.after(() => device.drop());
  const session = device.engine.openFanout({
    resourceURL: "message",
    entries: [{ ...destination("alice/pc"), relayURL: EDGE }],
  });
  device.flush();
  await device.ready(session);
  await device.untilAcknowledged(device.send(session, "for the edge alone"));
  return { relay, target: relayURL(`relay.example.com:${relay.port}`) };
}

describe("a connecting relay", () => {
  it("gets its waiting messages once it has proved that it has the secret", async (t) => {
    const { relay, target } = await relayWithMessage(t, FILE);
    const edge = new EdgePeer(relay.port);
    t.after(() => edge.socket.destroy());
    await edge.prove(target);
    assert.deepEqual(await edge.received(1), ["for the edge alone"]);
    await until(() => relay.waiting(EDGE).messages === 0);
  });

  it("may send more in the same segment as its proof", async (t) => {
    const { relay, target } = await relayWithMessage(t, FILE);
    const edge = new EdgePeer(relay.port);
    t.after(() => edge.socket.destroy());
    const proof = await DiallerProof.begin([secretOf(SECRET)], { dialler: EDGE, acceptor: target });
    edge.connect(target, proof.hello);
    const answer = await proof.answer((await edge.event("connected")).token);
    edge.engine.connectAuthenticate(answer ?? assert.fail());
    edge.engine.open({ resourceURL: "message", ...destination("bob/pc") });
    edge.flush();
    await edge.event("sessionState");
  });

  for (const [who, act] of Object.entries({
    "offers no proof": async (edge: EdgePeer, target: string) => {
      edge.connect(target);
      assert.equal(await edge.refusal(), "RelayNotProven");
    },
    "has another secret": async (edge: EdgePeer, target: string) => {
      const proof = await DiallerProof.begin([secretOf(newLinkSecret())], { dialler: EDGE, acceptor: target });
      edge.connect(target, proof.hello);
      assert.equal(await edge.refusal(), "RelayNotProven");
    },
    "opens a session before its proof": async (edge: EdgePeer, target: string) => {
      const proof = await DiallerProof.begin([secretOf(SECRET)], { dialler: EDGE, acceptor: target });
      edge.connect(target, proof.hello);
      await edge.event("connected");
      edge.engine.open({ resourceURL: "message", ...destination("bob/pc") });
      edge.flush();
      await edge.event("closed");
      assert.equal(
        edge.events.some(({ type }) => type === "sessionState"),
        false,
      );
    },
    "reflects the relay's own proof": async (edge: EdgePeer, target: string) => {
      const proof = await DiallerProof.begin([secretOf(SECRET)], { dialler: EDGE, acceptor: target });
      edge.connect(target, proof.hello);
      const [, , , , heard] = Buffer.from((await edge.event("connected")).token)
        .toString()
        .split(" ");
      edge.engine.connectAuthenticate(Buffer.from(`grooveway-link-1 proof ${heard}`));
      edge.flush();
      await edge.event("closed");
    },
  })) {
    it(`gets nothing when it ${who}`, async (t) => {
      const { relay, target } = await relayWithMessage(t, FILE);
      const edge = new EdgePeer(relay.port);
      t.after(() => edge.socket.destroy());
      await act(edge, target);
      assert.deepEqual(edge.bodies, []);
      assert.equal(relay.waiting(EDGE).messages, 1);
    });
  }

  it("gets nothing when it claims a relay's name together with another, or this relay's own", async (t) => {
    const { relay, target } = await relayWithMessage(t, FILE);
    for (const sources of [
      ["grooveDevice://mallory/pc", EDGE],
      [EDGE, "grooveDevice://mallory/pc"],
      ["grooveDevice://mallory/pc", "GROOVEDNS://Edge.Example.com"],
      [target],
    ]) {
      const mallory = new EdgePeer(relay.port, sources);
      t.after(() => mallory.socket.destroy());
      mallory.connect(target);
      assert.equal(await mallory.refusal(), "RelayNotProven");
      assert.deepEqual(mallory.bodies, []);
    }
  });

  it("without an entry is accepted only when there is no list and it is on a private network, or when the list says so", async (t) => {
    for (const [linkSecrets, admitted] of [
      [undefined, true],
      [`other.example.com=${SECRET}`, false],
      ["edge.example.com=none", true],
    ] as const) {
      const relay = await relayFor(t, { names: ["127.0.0.1"], ...(linkSecrets !== undefined && { linkSecrets }) });
      const edge = new EdgePeer(relay.port);
      t.after(() => edge.socket.destroy());
      edge.connect(relayURL(`127.0.0.1:${relay.port}`));
      if (admitted) await edge.event("connected");
      else assert.equal(await edge.refusal(), "RelayNotProven");
    }
  });

  it("that is on the list has messages for its peers accepted before it connects, others only afterwards", () => {
    const listed = readLinkSecrets(FILE);
    assert.ok(listed.ok);
    assert.equal(new RelayTrust(listed.value).knows(EDGE), true);
    const trust = new RelayTrust(undefined);
    assert.equal(trust.knows(EDGE), false);
    trust.admit(EDGE, false);
    assert.equal(trust.knows(EDGE), true);
    for (let n = 0; n < KNOWN_RELAYS; n += 1) trust.admit(`grooveDNS://edge${n}.example.com`, false);
    assert.equal(trust.knows(EDGE), false, "no more are known than fit");
  });

  it("may claim a name of this machine, such as localhost, only when it connects from this machine", () => {
    const trust = new RelayTrust(undefined, ["grooveDNS://localhost", "grooveDNS://[::1]"]);
    trust.admit("grooveDNS://localhost", false);
    assert.equal(trust.isOfAnother("grooveDNS://localhost"), false, "a relay on another machine cannot take the name");
    trust.admit("grooveDNS://localhost", true);
    assert.equal(trust.isOfAnother("grooveDNS://localhost"), true);
    assert.equal(trust.isOfAnother("grooveDNS://[::1]"), false);
    trust.admit(EDGE, true);
    assert.equal(trust.isOfAnother(EDGE), false, "it was never this relay's name");
  });

  it("is local if its address is loopback, private or link-local", () => {
    const near = [
      "127.0.0.1",
      "::1",
      "::ffff:127.0.0.1",
      "10.1.2.3",
      "172.31.0.1",
      "192.168.1.1",
      "fd00::1",
      "fe80::1%eth0",
    ];
    const far = ["8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "2001:4860::8888", "", "localhost"];
    assert.deepEqual([...near, ...far].filter(isNear), near);
  });
});

describe("addressing", () => {
  const entry = (identityURL: string, deviceURL = "", at = ""): FanoutDeviceEntry => ({
    identityURL,
    deviceURL,
    relayURL: at,
  });

  /** The refused entries of a session, by status. */
  async function refused(peer: Peer | EdgePeer, entries: readonly FanoutDeviceEntry[]) {
    const events = peer.events.length;
    const session = peer.engine.openFanout({ resourceURL: "message", entries });
    peer.flush();
    await until(() =>
      peer.events
        .slice(events)
        .some((event) => "sessionId" in event && event.sessionId === session && event.type === "sessionState"),
    );
    // The statuses arrive with the answer.
    await new Promise((resolve) => setTimeout(resolve, 50));
    return Object.fromEntries(
      peer.events
        .slice(events)
        .flatMap((event) => (event.type === "sessionStatus" ? [[event.statusId, event.indexes]] : [])),
    );
  }

  const relays = entry("grooveIdentity://bob", "grooveDNS://edge.example.com");
  const good = entry("grooveIdentity://bob", "grooveDevice://bob/pc");

  it("by a relay is limited to local peers in canonical form", async (t) => {
    const relay = await relayFor(t, { names: ["127.0.0.1"], linkSecrets: `${FILE} third.example.com=none` });
    const edge = new EdgePeer(relay.port);
    t.after(() => edge.socket.destroy());
    await edge.prove(relayURL(`127.0.0.1:${relay.port}`));
    assert.deepEqual(
      await refused(edge, [
        good,
        entry("grooveIdentity://bob"),
        relays,
        entry("grooveDNS://edge.example.com"),
        entry("grooveAccount://bob"),
        entry("grooveIdentity://bob", "grooveDevice://alice/pc"),
        entry("grooveDevice://bob/pc"),
        entry("grooveidentity://bob"),
        entry("grooveIdentity://b%6Fb"),
        entry("apphandler", "device2"),
        entry("grooveIdentity://bob", "grooveDevice://bob/pc", "grooveDNS://third.example.com"),
      ]),
      {
        [SessionStatusId.LockedOut]: [2, 3, 4, 5, 6, 7, 8, 9],
        [SessionStatusId.HostNotReachable]: [10],
      },
    );
    for (const [identityURL, deviceURL] of [
      ["grooveDNS://third.example.com", ""],
      ["grooveIdentity://bob", "grooveDNS://third.example.com"],
      ["grooveIdentity://bob", "grooveDevice://alice/pc"],
    ] as const) {
      const session = edge.engine.open({ resourceURL: "message", identityURL, deviceURL });
      edge.flush();
      await until(() => edge.events.some((event) => event.type === "sessionRefused" && event.sessionId === session));
    }
    const many = Array.from({ length: RECIPIENTS + 2 }, (_, n) => entry(`grooveIdentity://bob${n}`));
    assert.deepEqual(await refused(edge, many), {
      [SessionStatusId.QuotaWouldBeExceeded]: [RECIPIENTS, RECIPIENTS + 1],
    });
    edge.engine.attach({ accountURL: "grooveAccount://bob" });
    edge.flush();
    await until(() => edge.events.some((event) => event.type === "sessionClosed" && event.kind === "attach"));
    assert.equal(relay.waiting("grooveDNS://third.example.com").messages, 0);
  });

  it("by a device excludes relays and accounts, and leaves other products' names unchanged", async (t) => {
    const relay = await relayFor(t, { names: ["127.0.0.1"] });
    const device = await Peer.connect(relay, { address: "alice/pc" });
    t.after(() => device.drop());
    assert.deepEqual(
      await refused(device, [
        good,
        relays,
        entry("GROOVEDNS://edge.example.com"),
        entry("grooveAccount://bob"),
        entry("grooveDynamics://x;CanTelURL=y"),
        entry("grooveIdentity://bob", "", "grooveDNS://unknown.example.com"),
      ]),
      { [SessionStatusId.LockedOut]: [1, 2, 3], [SessionStatusId.HostNotReachable]: [5] },
    );
    const session = device.engine.open({
      resourceURL: "message",
      identityURL: "grooveDNS://edge.example.com",
      deviceURL: "",
    });
    device.flush();
    const answer = await device.event("sessionRefused");
    assert.deepEqual([answer.sessionId, answer.responseId], [session, OpenResponseId.Unknown]);
    assert.equal(relay.waiting("grooveDNS://edge.example.com").messages, 0);
  });
});

describe("the relay's TLS port", () => {
  const { ca, key, cert } = authority();

  it("works like the TCP port for clients that trust its certificate", async (t) => {
    const relay = await relayFor(t, { names: ["localhost"], tls: { key, cert, port: 0 }, linkSecrets: FILE });
    const port = relay.tlsPort ?? assert.fail("it listens");
    assert.notEqual(port, relay.port);
    const target = relayURL(`localhost:${port}`);
    const socket = dialSecurely({ port, host: "127.0.0.1", servername: "localhost", ca });
    const edge = new EdgePeer(port, [EDGE], socket);
    t.after(() => socket.destroy());
    await edge.prove(target);
    edge.engine.open({ resourceURL: "message", ...destination("bob/pc") });
    edge.flush();
    await edge.event("sessionState");
    edge.engine.close(CloseReasonId.NoReason);
  });

  it("is the only one when the operator says so, and stops with the relay", async (t) => {
    const relay = await relayFor(t, { names: ["localhost"], tls: { key, cert, port: 0 }, tlsOnly: true });
    assert.equal(relay.port, relay.tlsPort);
    const plain = dial(relay.port, "127.0.0.1");
    const ended = new Promise<void>((resolve) => plain.on("close", () => resolve()));
    plain.on("error", () => undefined);
    plain.write("no TLS");
    await ended;
    const silent = dial(relay.port, "127.0.0.1");
    silent.on("error", () => undefined);
    await new Promise((resolve) => silent.once("connect", resolve));
    await relay.close();
    silent.destroy();
  });
});

async function until(condition: () => boolean): Promise<void> {
  for (let n = 0; !condition(); n += 1) {
    assert.ok(n < 1000, "it does not happen");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
