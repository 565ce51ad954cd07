/**
 * Nothing is acknowledged that is not stored: an endpoint between a device and mailboxes that accept, refuse and fail
 * when the test says so, and a device that closes its sessions and its connection at any time.
 */
import assert from "node:assert/strict";
import { after, before, describe, it, mock, type TestContext } from "node:test";
import fc from "fast-check";
import type { Authenticator } from "../../../src/auth/permissions.ts";
import { ANYBODY } from "../../../src/auth/principal.ts";
import { UNQUESTIONED } from "../../../src/auth/token-recheck.ts";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { SstpEndpoint } from "../../../src/edge/endpoint/sstp-endpoint.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import type { Refusal } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { type MessageBatch, unpack } from "../../../src/edge/rpc/message-batch.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  decode,
  encode,
  relayURL,
  type SessionStatus,
  VERSION_1_6,
} from "../../../src/sstp/index.ts";
import { runs } from "../../support/long-form.ts";

const EDGE = relayURL("edge.example.com");
const FAR = relayURL("far.example.com");

/** The recipients of sessions: peers of the edge, and one at another relay. */
const PEERS = [0, 1, 2].map((n) => ({
  identityURL: `grooveIdentity://p${n}`,
  deviceURL: `grooveDevice://p${n}/pc`,
  relayURL: n === 2 ? FAR : EDGE,
}));

/** The mailbox for a peer's messages. */
const MAILBOXES = PEERS.map(({ deviceURL, relayURL }) => (relayURL === FAR ? FAR : deviceURL));

const OUTCOMES = ["quota", "locked", "DNSLookupFailed", "ConnectionClosed"] as const;

/** What was sent in a message. */
interface Sent {
  readonly session: number;
  readonly number: number;
  readonly text: string;
  readonly to: readonly number[];
  readonly fanout: boolean;
  /** With flag D. These wait for no others, and no others wait for them. */
  readonly volatile: boolean;
}

class World {
  readonly device = new Connection({
    role: "client",
    outbound: true,
    localDeviceURLs: ["grooveDevice://alice/pc"],
    now: 0,
  });
  readonly endpoint: SstpEndpoint;
  readonly events: ConnectionEvent[] = [];
  readonly sent: Sent[] = [];
  /** Texts of the messages in a mailbox, in order. */
  readonly stored = MAILBOXES.map((): string[] => []);
  /** Mailboxes that failed with messages with flag D: these may be lost. */
  readonly losing = new Set<number>();
  /** Whether messages must be paid for, and the pending payments. */
  paying = false;
  readonly payments: (() => void)[] = [];
  /** How mailboxes answer everything that arrives at the end. */
  refusing: Refusal["outcome"] | undefined;
  /** Calls that have not returned, oldest first, by mailbox. */
  readonly calls = MAILBOXES.map((): ((outcome?: Refusal["outcome"] | "vanished") => void)[] => []);
  /** Octets of the device on their way. */
  #wire: Uint8Array[] = [];
  readonly sessions: { readonly id: number; readonly to: readonly number[]; readonly fanout: boolean }[] = [];

  constructor() {
    const authenticator: Authenticator = {
      connect: () => ({ type: "ok", principal: ANYBODY, consumes: false }),
      attach: () => true,
      register: () => true,
      open: () => [],
    };
    const pay = () => (this.paying ? new Promise<void>((resolve) => this.payments.push(resolve)) : undefined);
    const host = {
      name: "tunnel",
      mailbox: (peer: string) => {
        const at = MAILBOXES.indexOf(peer);
        return {
          append: async (bundle: MessageBatch) => ({ refusals: await this.#take(at, bundle) }),
          pass: (bundle: MessageBatch) => this.#take(at, bundle, true),
        };
      },
      waitUntil: () => undefined,
      remote: (url: string) => url,
      trust: () => undefined,
      throttle: () => ({
        enter: async () => ({ ok: true }),
        leave: async () => undefined,
        spend: pay,
        wake: pay,
      }),
      arrived: () => undefined,
      authenticator,
      owner: ANYBODY,
      recipients: 1000,
      messageLimit: MESSAGE_LIMIT,
      standing: UNQUESTIONED,
    };
    this.endpoint = new SstpEndpoint(host as unknown as EndpointContext, { localDeviceURLs: [EDGE] });
    this.device.connect(EDGE);
  }

  #take(at: number, given: MessageBatch, volatile = false): Promise<Refusal[]> {
    // A call copies its arguments.
    const bundle = structuredClone(given);
    return new Promise((resolve, reject) => {
      this.calls[at]?.push((outcome) => {
        const mails = unpack(bundle);
        if (outcome === "vanished") {
          if (volatile) this.losing.add(at);
          reject(new Error("the object was reset"));
        } else if (outcome !== undefined) resolve(mails.map((_, index) => ({ at: index, outcome })));
        else {
          for (const { body } of mails) this.stored[at]?.push(Buffer.from(body).toString());
          resolve([]);
        }
      });
    });
  }

  open(to: readonly number[], fanout: boolean): void {
    const [first = 0] = to;
    const entries = to.flatMap((n) => PEERS[n] ?? []);
    const entry = PEERS[first] ?? assert.fail();
    const id = fanout
      ? this.device.openFanout({ resourceURL: "message", entries })
      : this.device.open({ ...entry, resourceURL: "message" });
    this.sessions.push({ id, to, fanout });
  }

  send(at: number, volatile: boolean, long: boolean): void {
    const session = this.sessions[at % this.sessions.length];
    const known = session && this.device.session(session.id);
    if (session === undefined || known?.kind !== "outbound" || known.state !== "ready") return;
    const text = `${this.sent.length}`;
    this.device.beginMessage(session.id, {
      userRef: `x-${text}`,
      doNotDeliverIfOffline: volatile,
      acknowledgeImmediately: true,
      // The id with its sender's address is too long to fit.
      ...(long && { fragmentation: new Uint8Array(2055 - 41 - `x-${text}`.length) }),
    });
    this.device.data(session.id, Buffer.from(text));
    const number = this.device.endMessage(session.id);
    this.sent.push({ session: session.id, number, text, to: session.to, fanout: session.fanout, volatile });
  }

  close(at: number): void {
    const session = this.sessions[at % this.sessions.length];
    if (session !== undefined && this.device.session(session.id) !== undefined) {
      this.device.closeSession(session.id, CloseReasonId.Idle);
    }
  }

  /** Delivers the device's octets in one piece. */
  flush(): void {
    this.#wire.push(...this.device.output(0));
    const octets = Buffer.concat(this.#wire);
    this.#wire = [];
    if (octets.length > 0) void this.endpoint.write(octets);
  }

  async settle(): Promise<void> {
    for (let i = 0; i < 30; i += 1) await Promise.resolve();
    for (;;) {
      const said = this.endpoint.take(65536);
      if (said?.kind !== "octets") break;
      for (const command of decode(said.octets, VERSION_1_6)) {
        const events = this.device.receive(encode(command, VERSION_1_6), 0);
        // A device that has closed its session hears no more about it, but it was told.
        const { session } =
          this.sent.find((sent) => command.command === "SessionStatus" && sent.session === command.sessionId) ?? {};
        if (
          command.command === "SessionStatus" &&
          session !== undefined &&
          !events.some(({ type }) => type === "sessionStatus")
        ) {
          this.events.push({ ...command, type: "sessionStatus", indexes: this.#indexes(command), remaining: 0 });
        }
        this.events.push(...events);
      }
    }
  }

  #indexes({ sessionId, deviceURL, fanoutDeviceIndexes }: SessionStatus): number[] {
    if (fanoutDeviceIndexes !== undefined) return [...fanoutDeviceIndexes];
    const { to } = this.sessions.find(({ id }) => id === sessionId) ?? assert.fail();
    return to.flatMap((peer, index) => (Object.values(PEERS[peer] ?? {}).includes(deviceURL) ? [index] : []));
  }

  /** What the device believes to be stored is stored, and nothing was reordered. */
  check(): void {
    const told = new Map<number, Set<number>>();
    for (const event of this.events) {
      if (event.type === "sessionStatus") {
        const lost = told.get(event.sessionId) ?? new Set();
        for (const index of event.indexes) lost.add(index);
        told.set(event.sessionId, lost);
      }
      if (event.type !== "acknowledged") continue;
      for (const number of event.messages) {
        const { session, text, to, volatile } = this.sent.find((sent) => sent.number === number) ?? assert.fail();
        for (const [index, peer] of to.entries()) {
          const lost = volatile && this.losing.has(peer);
          const safe = lost || this.stored[peer]?.includes(text) === true || told.get(session)?.has(index) === true;
          assert.ok(safe, `message ${text} is acknowledged but not stored for peer ${peer}`);
        }
      }
    }
    for (const [peer, texts] of this.stored.entries()) {
      for (const { id } of this.sessions) {
        for (const volatile of [false, true]) {
          const all = this.sent
            .filter((sent) => sent.session === id && sent.to.includes(peer) && sent.volatile === volatile)
            .map(({ text }) => text);
          const come = texts.filter((text) => all.includes(text));
          if (volatile && this.losing.has(peer)) continue;
          assert.deepEqual(come, all.slice(0, come.length), `messages of session ${id} for peer ${peer}`);
        }
      }
    }
  }
}

const seldom = fc.nat(5).map((n) => n === 0);
const outcome = fc.option(fc.constantFrom(...OUTCOMES), { nil: undefined, freq: 1 });
const at = fc.nat(3);
const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      at,
      volatile: seldom,
      long: seldom,
      closed: seldom,
      flushed: fc.boolean(),
    }),
  },
  { weight: 10, arbitrary: fc.record({ do: fc.constant("answer" as const), at: fc.nat(2), outcome }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("pay" as const), at }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("open" as const), at }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("vanish" as const), at }) },
);
const end = fc.constantFrom("nothing", "ConnectClose", "transport");

async function play(
  world: World,
  steps: readonly (typeof step extends fc.Arbitrary<infer S> ? S : never)[],
): Promise<void> {
  for (const one of steps) {
    if (world.device.closed !== undefined) return;
    if (one.do === "send") {
      world.send(one.at, one.volatile, one.long);
      if (one.closed) world.close(one.at);
      if (one.flushed) world.flush();
    } else if (one.do === "answer") world.calls[one.at]?.shift()?.(one.outcome);
    else if (one.do === "pay") world.payments.shift()?.();
    else if (one.do === "vanish") world.calls[one.at]?.shift()?.("vanished");
    else world.open([[0], [1], [0, 1, 2], [0, 1]][one.at] ?? [0], one.at > 1);
    await world.settle();
    world.check();
  }
}

async function begun(t?: TestContext): Promise<World> {
  const world = new World();
  t?.after(() => world.endpoint.close());
  world.flush();
  await world.settle();
  for (const [to, fanout] of [
    [[0], false],
    [[1], false],
    [[0, 1, 2], true],
    [[2, 1], true],
  ] as const)
    world.open(to, fanout);
  world.flush();
  await world.settle();
  return world;
}

/** All mailboxes answer every pending call, and the device receives the results. */
async function drained(world: World): Promise<void> {
  world.flush();
  for (let round = 0; round < 50; round += 1) {
    await world.settle();
    for (const pay of world.payments.splice(0)) pay();
    for (const calls of world.calls) for (const answer of calls.splice(0)) answer(world.refusing);
  }
  await world.settle();
}

describe("acknowledgements of an endpoint", () => {
  // A failing mailbox is logged.
  before(() => mock.method(console, "error", () => undefined));
  after(() => mock.restoreAll());

  it("count as progress of the connection when a message was stored, not when it was refused", async (t) => {
    const world = await begun(t);
    const answered = async (outcome?: Refusal["outcome"]) => {
      world.send(outcome === undefined ? 0 : 1, false, false);
      world.flush();
      await world.settle();
      for (const calls of world.calls) calls.shift()?.(outcome);
      await world.settle();
      return world.endpoint.progressed;
    };
    assert.equal(await answered("locked"), false);
    assert.equal(await answered(), true);
  });

  it("cover only stored messages and fanouts whose refusals were reported, in any order of events", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40, size: "max" }),
        end,
        fc.boolean(),
        outcome,
        async (steps, how, paying, refusing) => {
          const world = await begun();
          world.paying = paying;
          world.refusing = refusing;
          try {
            await play(world, steps);
            if (world.device.closed === undefined && how === "ConnectClose")
              world.device.close(ConnectCloseReasonId.Resting);
            if (how === "transport") world.endpoint.close();
            await drained(world);
            world.check();
            if (how !== "nothing" || world.device.closed !== undefined) return;
            // No sender is left waiting: each message was acknowledged, or its session was closed.
            assert.deepEqual(world.device.unacknowledged, []);
          } finally {
            await drained(world);
            world.endpoint.close();
          }
        },
      ),
      { numRuns: runs(500) },
    );
  });

  for (const outcome of OUTCOMES) {
    for (const fanout of [false, true]) {
      const what = fanout ? "a fanout" : "a session";
      it(`exclude a message refused by ${outcome} after ${what} was closed behind it: the connection ends`, async (t) => {
        const world = await begun(t);
        world.send(1, false, false);
        await drained(world);
        world.refusing = outcome;
        for (const at of [fanout ? 2 : 0, 1]) world.send(at, false, false);
        world.close(fanout ? 2 : 0);
        await drained(world);
        world.check();
        const acknowledged = world.events.flatMap((event) => (event.type === "acknowledged" ? event.messages : []));
        assert.deepEqual(acknowledged, [1], "earlier messages are");
        const { closed } = world.device;
        assert.deepEqual(
          [closed?.by, closed?.reasonId, closed?.unacknowledged],
          ["peer", ConnectCloseReasonId.Resting, [2, 3]],
        );
        assert.ok((closed?.returnTime ?? 0) > 0, "it is asked to wait before reconnecting");
      });
    }
  }

  for (const at of [0, 2]) {
    it(`keep order: nothing behind a refused message is stored, on session ${at}`, async (t) => {
      const world = await begun(t);
      for (const outcome of ["quota", undefined] as const) {
        for (let n = 0; n < 2; n += 1) {
          world.send(at, false, false);
          world.flush();
          await world.settle();
        }
        world.calls[0]?.shift()?.(outcome);
        await world.settle();
      }
      await drained(world);
      world.check();
      assert.deepEqual(world.stored[0], []);
    });
  }

  it("exclude an oversized message whose session was closed and reopened in the same segment", async (t) => {
    const world = await begun(t);
    world.send(0, false, true);
    world.close(0);
    const { id } = world.sessions[0] ?? assert.fail();
    const addressing = { resourceURL: "message", identityURL: "grooveIdentity://p0", deviceURL: "" };
    const again = encode({ command: "Open", sessionId: id, ...addressing }, VERSION_1_6);
    void world.endpoint.write(Buffer.concat([...world.device.output(0), again]));
    await drained(world);
    world.check();
    assert.equal(world.device.closed?.reasonId, ConnectCloseReasonId.Resting);
  });
});
