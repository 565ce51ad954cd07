/** An endpoint that waits for its authenticator: nothing is reordered, and nothing waits for ever. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock, type TestContext } from "node:test";
import type { Authenticator, ConnectDecision } from "../../../src/auth/permissions.ts";
import { NOBODY, type Principal } from "../../../src/auth/principal.ts";
import { EVERYTHING } from "../../../src/auth/scopes.ts";
import { UNQUESTIONED } from "../../../src/auth/token-recheck.ts";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { DECISION_RETRY, DECISION_TIMEOUT, HELD_OCTETS, UNFINISHED_PAUSE } from "../../../src/edge/endpoint/limits.ts";
import { SstpEndpoint } from "../../../src/edge/endpoint/sstp-endpoint.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import { BULK_IDLE } from "../../../src/edge/rpc/doorbell-protocol.ts";
import {
  CloseReasonId,
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  OpenResponseId,
  relayURL,
} from "../../../src/sstp/index.ts";
import { SEND_ONLY } from "../../../src/store-and-forward/capabilities.ts";

const RELAY = relayURL("edge.example.com");
const ALICE: Principal = {
  id: "jti:alice",
  subject: "",
  rights: EVERYTHING,
  key: "thumbprint",
  expires: Number.MAX_SAFE_INTEGER,
};
const GRANTED: ConnectDecision = { type: "ok", principal: ALICE, consumes: true };

/** A decision made by the test at any time. */
type Question<T> = { resolve(decision: T): void; reject(error: Error): void };

interface Questions {
  readonly connect: Question<ConnectDecision>[];
  readonly attach: Question<boolean>[];
  readonly register: Question<boolean>[];
  readonly open: Question<readonly number[]>[];
}

/** A device and its endpoint, connected directly. */
class Line {
  readonly questions: Questions = { connect: [], attach: [], register: [], open: [] };
  readonly events: ConnectionEvent[] = [];
  /** Peers whose mailboxes were called. */
  readonly asked: string[] = [];
  endpoint: SstpEndpoint;
  readonly device: Connection;
  readonly #host: EndpointContext;

  constructor(t: TestContext, owner: Principal = ALICE, capabilities = "") {
    this.device = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: ["grooveDevice://alice/laptop"],
      now: 0,
      capabilities,
    });
    const ask = <T>(list: Question<T>[]) => new Promise<T>((resolve, reject) => list.push({ resolve, reject }));
    const authenticator: Authenticator = {
      connect: () => ask(this.questions.connect),
      attach: () => ask(this.questions.attach),
      register: () => ask(this.questions.register),
      open: () => ask(this.questions.open),
    };
    const mailbox = new Proxy({}, { get: () => () => new Promise(() => undefined) });
    const host = {
      name: "tunnel",
      mailbox: (peer: string) => {
        this.asked.push(peer);
        return mailbox;
      },
      waitUntil: () => undefined,
      remote: () => undefined,
      throttle: () => undefined,
      arrived: () => undefined,
      messageLimit: MESSAGE_LIMIT,
      authenticator,
      owner,
      standing: UNQUESTIONED,
    };
    this.#host = host as unknown as EndpointContext;
    this.endpoint = new SstpEndpoint(this.#host, { localDeviceURLs: [RELAY] });
    t.after(() => this.endpoint.close());
  }

  /** Replaces the endpoint with one restored from its snapshot. */
  hibernate(): void {
    const snapshot = this.endpoint.snapshot();
    assert.ok(snapshot !== undefined, "it is quiet");
    this.endpoint = new SstpEndpoint(this.#host, { localDeviceURLs: [RELAY] }, structuredClone(snapshot));
  }

  /** Sends the device's pending output; not awaited, since a socket does not wait either. */
  say(): void {
    for (const block of this.device.output(0)) void this.endpoint.write(block);
  }

  /** Lets everything run, and delivers the results to the device. */
  async settle(): Promise<this> {
    for (let i = 0; i < 50; i += 1) await Promise.resolve();
    for (;;) {
      const said = this.endpoint.take(65536);
      if (said?.kind !== "octets") break;
      this.events.push(...this.device.receive(said.octets, 0));
    }
    return this;
  }

  async connected(): Promise<this> {
    this.device.connect(RELAY);
    this.say();
    await this.settle();
    this.questions.connect[0]?.resolve(GRANTED);
    await this.settle();
    assert.deepEqual(this.types, ["connected"]);
    this.events.length = 0;
    return this;
  }

  get types(): string[] {
    return this.events.map(({ type }) => type);
  }
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => mock.timers.reset());

const open = { resourceURL: "m", identityURL: "grooveIdentity://bob", deviceURL: "" };

it("while one block is on its way to the device, the next is made, and no third", async (t) => {
  const line = await new Line(t).connected();
  const arrived = Promise.withResolvers<void>();
  const written: number[] = [];
  const piping = line.endpoint.pipeTo(
    new WritableStream({
      write(octets: Uint8Array) {
        written.push(octets.length);
        return arrived.promise;
      },
    }),
  );
  const turns = async () => {
    for (let i = 0; i < 50; i += 1) await Promise.resolve();
  };
  const refuse = async (name: string) => {
    line.device.attach({ accountURL: `grooveAccount://${name}` });
    line.say();
    await turns();
    line.questions.attach.shift()?.resolve(false);
    await turns();
  };
  await refuse("first");
  await refuse("second");
  assert.deepEqual([written.length, line.endpoint.peek()], [1, undefined]);
  await refuse("third");
  assert.equal(line.endpoint.peek()?.kind, "octets");
  arrived.resolve();
  await turns();
  assert.deepEqual([written.length, line.endpoint.peek()], [3, undefined]);
  mock.timers.tick(2 * BULK_IDLE);
  await piping;
});

describe("the decision on a Connect", () => {
  it("is awaited, and later commands are processed after it, in order", async (t) => {
    const line = new Line(t);
    line.device.connect(RELAY);
    line.say();
    await line.settle();
    assert.deepEqual(line.types, []);
    assert.equal(line.endpoint.snapshot(), undefined, "it cannot hibernate now");
    // What a device that does not wait would send: recorded from one that was answered.
    const eager = new Line(t);
    await eager.connected();
    const ids = ["a", "b", "c"].map((name) => eager.device.attach({ accountURL: `grooveAccount://${name}` }));
    const [block = new Uint8Array(0)] = eager.device.output(0);
    // Split at arbitrary places.
    for (let at = 0; at < block.length; at += 5) void line.endpoint.write(block.subarray(at, at + 5));
    await line.settle();
    assert.equal(line.questions.attach.length, 0);
    line.questions.connect[0]?.resolve(GRANTED);
    await line.settle();
    assert.equal(line.types[0], "connected");
    assert.equal(line.questions.attach.length, ids.length, "each is called now");
    assert.equal(line.endpoint.peek(), undefined);
  });

  it("that fails or times out refuses the device with TryLater", async (t) => {
    for (const end of [
      () => mock.timers.tick(DECISION_TIMEOUT),
      (line: Line) => line.questions.connect[0]?.reject(new Error("away")),
    ]) {
      const line = new Line(t);
      line.device.connect(RELAY);
      line.say();
      await line.settle();
      end(line);
      await line.settle();
      const [refused] = line.events;
      assert(refused?.type === "refused");
      assert.deepEqual([refused.responseId, refused.retryTime], [ConnectResponseId.TryLater, DECISION_RETRY]);
      // Too late.
      line.questions.connect[0]?.resolve(GRANTED);
      await line.settle();
      assert.deepEqual(line.asked, [], "no mailbox was touched");
      assert.deepEqual(line.types, ["refused", "closed"]);
    }
  });

  it("has no effect once the device is gone", async (t) => {
    const line = new Line(t);
    line.device.connect(RELAY);
    line.say();
    await line.settle();
    const held = line.endpoint.write(new Uint8Array([1, 2, 3]));
    line.endpoint.close();
    line.questions.connect[0]?.resolve(GRANTED);
    await line.settle();
    assert.deepEqual([line.asked, line.types], [[], []]);
    await held;
  });

  it("limits what a device may send meanwhile", async (t) => {
    const line = new Line(t);
    line.device.connect(RELAY);
    line.say();
    for (let sent = 0; sent <= HELD_OCTETS; sent += 65536) void line.endpoint.write(new Uint8Array(65536));
    await line.settle();
    assert.equal(line.events.at(-1)?.type, "closed");
    line.questions.connect[0]?.resolve(GRANTED);
    await line.settle();
    assert.deepEqual(line.asked, []);
  });

  it("touches no mailbox without the right to receive", async (t) => {
    const line = new Line(t, NOBODY);
    line.device.connect(RELAY);
    line.say();
    await line.settle();
    line.questions.connect[0]?.resolve({ ...GRANTED, consumes: false });
    await line.settle();
    assert.deepEqual([line.types, line.asked], [["connected"], []]);
    assert.equal(line.endpoint.principal, ALICE);
  });

  it("touches no mailbox of a device that says it only sends, even if it attaches an account after a pause", async (t) => {
    const line = await new Line(t, ALICE, SEND_ONLY).connected();
    line.hibernate();
    const id = line.device.attach({ accountURL: "grooveAccount://alice" });
    line.say();
    await line.settle();
    assert.equal(line.questions.attach.length, 0);
    assert.deepEqual(
      line.events.map((event) => event.type === "sessionClosed" && [event.sessionId, event.reasonId]),
      [[id, CloseReasonId.UserAuthenticationFailed]],
    );
    assert.deepEqual(line.asked, []);
    line.device.open(open);
    line.say();
    await line.settle();
    assert.equal(line.questions.open.length, 1, "it may send");
  });
});

describe("the output of an endpoint", () => {
  it("is not changed by a look at it", async (t) => {
    const line = await new Line(t).connected();
    const id = line.device.attach({ accountURL: "grooveAccount://alice" });
    line.say();
    for (let i = 0; i < 50; i += 1) await Promise.resolve();
    line.questions.attach[0]?.resolve(false);
    await line.endpoint.ready();
    const first = line.endpoint.peek();
    assert.deepEqual(line.endpoint.peek(), first);
    await line.settle();
    assert.deepEqual(
      line.events.map((event) => event.type === "sessionClosed" && event.sessionId),
      [id],
    );
    assert.equal(line.endpoint.peek(), undefined);
  });

  it("comes before the end of a connection that this edge has closed, which says that the edge did", async (t) => {
    const line = await new Line(t).connected();
    const waits = line.endpoint.ready();
    line.endpoint.abort("InternalError");
    await waits;
    assert.equal(line.endpoint.peek()?.kind, "octets", "the close of SSTP");
    await line.settle();
    assert.equal(line.types.at(-1), "closed");
    assert.deepEqual(line.endpoint.peek(), { kind: "ended", reason: "InternalError" });
    const refused = new Line(t);
    refused.device.connect(relayURL("another.example.com"));
    refused.say();
    await refused.settle();
    assert.deepEqual(refused.types, ["refused", "closed"]);
    assert.deepEqual(refused.endpoint.peek(), { kind: "ended", reason: "EdgeClosed" });
  });

  it("ends with the device's own end when the device goes", async (t) => {
    const line = await new Line(t).connected();
    line.device.close(0);
    line.say();
    await line.settle();
    assert.deepEqual(line.endpoint.peek(), { kind: "ended", reason: "DeviceGone" });
  });
});

describe("a device with a long message that has begun", () => {
  it("is not read while its principal has too much in other connections, and goes on when they have finished", async (t) => {
    const lines = [new Line(t), new Line(t), new Line(t)];
    const part = new Uint8Array(MESSAGE_LIMIT - 1);
    const begin = async (line: Line) => {
      await line.connected();
      const session = line.device.open(open);
      line.say();
      await line.settle();
      line.questions.open[0]?.resolve([]);
      await line.settle();
      line.device.beginMessage(session);
      line.device.data(session, part);
      const writes = line.device.output(0).map((block) => line.endpoint.write(block));
      return { session, written: Promise.all(writes).then(() => true) };
    };
    const begun = [];
    for (const line of lines) begun.push(await begin(line));
    const [first, second, third] = begun.map(({ written }) => written);
    const read = (written: Promise<boolean> | undefined) => Promise.race([written, tick(UNFINISHED_PAUSE)]);
    assert.equal(await read(first), true);
    assert.equal(await read(second), true);
    assert.equal(await read(third), undefined);
    lines[0]?.endpoint.close();
    assert.equal(await read(third), true);
  });
});

/** Lets time pass, and what was waiting for it run. */
async function tick(milliseconds: number): Promise<undefined> {
  mock.timers.tick(milliseconds);
  for (let i = 0; i < 50; i += 1) await Promise.resolve();
}

describe("decisions on sessions", () => {
  it("may arrive in any order", async (t) => {
    const line = await new Line(t).connected();
    const ids = [1, 2, 3].map((n) => line.device.open({ ...open, resourceURL: `m${n}` }));
    line.say();
    await line.settle();
    assert.equal(line.endpoint.snapshot(), undefined);
    for (const [index, refused] of [
      [2, []],
      [0, [0]],
      [1, []],
    ] as const) {
      line.questions.open[index]?.resolve(refused);
      await line.settle();
      const last = line.events.at(-1);
      assert(last?.type === "sessionState" || last?.type === "sessionRefused");
      assert.deepEqual([last.sessionId, last.type === "sessionState"], [ids[index], refused.length === 0]);
      if (last.type === "sessionRefused") assert.equal(last.responseId, OpenResponseId.Unknown);
    }
  });

  it("that time out close the session with a retryable reason", async (t) => {
    const line = await new Line(t).connected();
    const ids = [
      line.device.open(open),
      line.device.openFanout({
        resourceURL: "m",
        entries: [{ ...open, deviceURL: "grooveDevice://b/x", relayURL: RELAY }],
      }),
      line.device.attach({ accountURL: "grooveAccount://alice" }),
      line.device.register(new Uint8Array(0)),
    ];
    line.say();
    await line.settle();
    mock.timers.tick(DECISION_TIMEOUT);
    await line.settle();
    assert.deepEqual(
      line.events.map((event) => event.type === "sessionClosed" && [event.sessionId, event.reasonId]),
      ids.map((id) => [id, CloseReasonId.InternalError]),
    );
    for (const { resolve } of [...line.questions.attach, ...line.questions.register]) resolve(true);
    for (const { resolve } of line.questions.open) resolve([]);
    await line.settle();
    assert.equal(line.events.length, ids.length, "too late");
    assert(!line.asked.includes("grooveIdentity://alice"));
  });

  it("do not apply to a session that has replaced theirs", async (t) => {
    const line = await new Line(t).connected();
    const raw = (block: Uint8Array) => void line.endpoint.write(block);
    const id = line.device.open(open);
    line.say();
    line.device.closeSession(id, CloseReasonId.NoReason);
    line.say();
    await line.settle();
    // Another device's Open with the same id, for another recipient.
    const other = await new Line(t).connected();
    assert.equal(other.device.open({ ...open, identityURL: "grooveIdentity://carol" }), id);
    for (const block of other.device.output(0)) raw(block);
    await line.settle();
    assert.equal(line.questions.open.length, 2);
    line.questions.open[0]?.resolve([]);
    for (let i = 0; i < 50; i += 1) await Promise.resolve();
    assert.equal(line.endpoint.peek(), undefined, "the first decision opens nothing");
    line.questions.open[1]?.resolve([]);
    for (let i = 0; i < 50; i += 1) await Promise.resolve();
    assert.equal(line.endpoint.peek()?.kind, "octets");
  });

  it("refuse an account and a registration with their own reasons", async (t) => {
    const line = await new Line(t).connected();
    const ids = [line.device.attach({ accountURL: "grooveAccount://alice" }), line.device.register(new Uint8Array(0))];
    line.say();
    await line.settle();
    line.questions.attach[0]?.resolve(false);
    line.questions.register[0]?.resolve(false);
    await line.settle();
    assert.deepEqual(
      line.events.map((event) => event.type === "sessionClosed" && [event.sessionId, event.reasonId]),
      [
        [ids[0], CloseReasonId.UserAuthenticationFailed],
        [ids[1], CloseReasonId.DeviceAuthenticationFailed],
      ],
    );
  });
});
