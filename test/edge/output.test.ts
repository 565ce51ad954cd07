/** Output for a device that does not read stays bounded, and faults end its virtual connection with a reason. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import fc from "fast-check";
import { tokenAuthenticator } from "../../src/auth/permissions.ts";
import { ANYBODY } from "../../src/auth/principal.ts";
import { UNQUESTIONED } from "../../src/auth/token-recheck.ts";
import { WAKES } from "../../src/edge/admission/limits.ts";
import type { Throttle } from "../../src/edge/admission/throttle.ts";
import type { EndpointContext } from "../../src/edge/endpoint/endpoint-context.ts";
import {
  ATTACH_MESSAGES,
  CONSUMED_MAILBOXES,
  REFUSED_REST,
  UNTAKEN_OCTETS,
  UNTAKEN_TIMEOUT,
} from "../../src/edge/endpoint/limits.ts";
import { SstpEndpoint } from "../../src/edge/endpoint/sstp-endpoint.ts";
import { SEND_WINDOW } from "../../src/edge/mailbox/limits.ts";
import { MESSAGE_LIMIT } from "../../src/edge/policy/limits.ts";
import type { Reason } from "../../src/edge/reasons.ts";
import { pack } from "../../src/edge/rpc/message-batch.ts";
import {
  ANSWERS_AHEAD,
  HOLD_FLIGHT_OCTETS,
  HOLD_IGNORED_OCTETS,
  HOLD_OCTETS,
  WINDOW_OCTETS,
} from "../../src/edge/tunnel/limits.ts";
import { WebSocketConnection } from "../../src/edge/tunnel/websocket-connection.ts";
import {
  CloseReasonId,
  type Command,
  ConnectCloseReasonId,
  Connection,
  decode,
  encode,
  relayURL,
  SessionStatusId,
  VERSION_1_6,
} from "../../src/sstp/index.ts";

/** Messages that waking a mailbox is charged as here. */
const WAKE = 7;

const RELAY = relayURL("edge.example.com");
const DEVICE = "grooveDevice://bob/pc";

const CONNECT: Command = {
  command: "Connect",
  majorVersionNumber: 1,
  minorVersionNumber: 6,
  targetDeviceURL: RELAY,
  sourceDeviceURLs: [DEVICE],
  authenticationToken: new Uint8Array(0),
  peerProductVersion: "",
  peerProductCapabilities: "",
};

/** A host without faults, whose mailboxes give a consumer the generation 1. */
function hostOf(more: Partial<EndpointContext> = {}): EndpointContext {
  const mailbox = {
    append: async () => ({ refusals: [] }),
    pass: async () => [],
    attach: async () => ({ generation: 1 }),
    ready: async () => true,
    acknowledge: async () => ({ position: 0, gone: [] }),
    refuse: async () => undefined,
    detach: async () => undefined,
  };
  return {
    name: "tunnel",
    mailbox: () => mailbox,
    waitUntil: () => undefined,
    remote: () => undefined,
    trust: () => undefined,
    recipients: 1000,
    messageLimit: MESSAGE_LIMIT,
    throttle: () => undefined,
    arrived: () => undefined,
    authenticator: tokenAuthenticator({}, () => undefined),
    owner: ANYBODY,
    standing: UNQUESTIONED,
    ...more,
  } as unknown as EndpointContext;
}

function endpointOf(more?: Partial<EndpointContext>): SstpEndpoint {
  return new SstpEndpoint(hostOf(more), { localDeviceURLs: [RELAY] });
}

function octetsOf(...commands: Command[]): Uint8Array {
  return Buffer.concat(commands.map((command) => encode(command, VERSION_1_6)));
}

/** Commands with an answer of 8 octets each: sessions without a recipient. */
function asking(count: number, from: number): Uint8Array {
  const nobody = { command: "Open", resourceURL: "m", identityURL: "nobody", deviceURL: "" } as const;
  return octetsOf(...Array.from({ length: count }, (_, n): Command => ({ ...nobody, sessionId: from + 2 * n })));
}

/** Takes all pending output; returns its octets and how it ended. */
function drain(endpoint: SstpEndpoint): { octets: number; reason: Reason | undefined } {
  let octets = 0;
  for (;;) {
    const taken = endpoint.take(65536);
    if (taken === undefined) return { octets, reason: undefined };
    if (taken.kind === "ended") return { octets, reason: taken.reason };
    octets += taken.octets.length;
  }
}

async function turns(count = 50): Promise<void> {
  for (let n = 0; n < count; n += 1) await Promise.resolve();
}

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  promise.then(settle, settle);
  await turns();
  return settled;
}

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  mock.method(console, "error", () => undefined);
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

describe("a device that sends requests and does not read", () => {
  async function flooded() {
    const endpoint = endpointOf();
    await endpoint.write(octetsOf(CONNECT));
    for (let from = 1; ; from += 4000) {
      const writing = endpoint.write(asking(2000, from));
      assert.ok(from < UNTAKEN_OCTETS / 2, "it is read without limit");
      if (!(await isSettled(writing))) return { endpoint, writing };
    }
  }

  it("is not read until it has taken its answers", async (t) => {
    const { endpoint, writing } = await flooded();
    t.after(() => endpoint.close());
    assert.ok(drain(endpoint).octets < UNTAKEN_OCTETS + 32 * 1024);
    assert.ok(await isSettled(writing));
    assert.ok(await isSettled(endpoint.write(asking(10, 9_000_001))), "it is read as before");
  });

  it("is dropped when it takes nothing for a minute, but not while it takes a little", async () => {
    const { endpoint } = await flooded();
    mock.timers.tick(UNTAKEN_TIMEOUT - 1000);
    await turns();
    endpoint.take(100);
    await turns();
    mock.timers.tick(2000);
    await turns();
    assert.equal(endpoint.ended, false);
    mock.timers.tick(UNTAKEN_TIMEOUT);
    await turns();
    assert.equal(drain(endpoint).reason, "OutputNotTaken");
  });
});

const OPEN = {
  command: "Open",
  sessionId: 1,
  resourceURL: "m",
  identityURL: "grooveIdentity://a",
  deviceURL: "",
} as const;

it("acknowledgements that a device does not read are merged into one", async (t) => {
  const endpoint = endpointOf();
  t.after(() => endpoint.close());
  for (const command of [CONNECT, OPEN]) await endpoint.write(octetsOf(command));
  drain(endpoint);
  // Some output lies untaken before them.
  await endpoint.write(asking(1, 3));
  for (let n = 0; n < 1000; n += 1) {
    const message = { command: "Message", sessionId: 1, messageCount: 0, flags: 0x04, userRef: `${n}` } as const;
    const data = { command: "Data", sessionId: 1, data: new Uint8Array(1) } as const;
    await endpoint.write(octetsOf(message, data, { command: "EndMessage", sessionId: 1 }));
    await turns(5);
  }
  assert.equal(endpoint.ended, false);
  assert.ok(drain(endpoint).octets < 100);
});

it("an oversized message whose session is closed in the same segment ends the connection unacknowledged", async () => {
  const endpoint = endpointOf();
  for (const command of [CONNECT, OPEN]) await endpoint.write(octetsOf(command));
  drain(endpoint);
  await endpoint.write(octetsOf({ command: "Message", sessionId: 1, messageCount: 0, flags: 0x04, userRef: "long" }));
  const data = octetsOf({ command: "Data", sessionId: 1, data: new Uint8Array(2048) });
  const some = Buffer.concat(Array.from({ length: 128 }, () => data));
  for (let octets = 0; octets <= MESSAGE_LIMIT; octets += 128 * 2048) await endpoint.write(some);
  await endpoint.write(
    octetsOf({ command: "EndMessage", sessionId: 1 }, { command: "Close", sessionId: 1, reasonId: CloseReasonId.Idle }),
  );
  const said = endpoint.take(65536);
  assert.ok(said?.kind === "octets");
  const close = {
    command: "ConnectClose",
    messageCount: 0,
    reasonId: ConnectCloseReasonId.Resting,
    returnTime: REFUSED_REST,
  } as const;
  assert.deepEqual(Buffer.from(said.octets), octetsOf(close));
  assert.equal(endpoint.ended, true);
});

describe("messages with flag D", () => {
  it("are outstanding to a device that does not acknowledge them up to a window, whatever their number", async (t) => {
    for (const size of [0, 50_000]) {
      const endpoint = endpointOf();
      t.after(() => endpoint.close());
      const device = new Connection({ role: "client", outbound: true, localDeviceURLs: [DEVICE], now: 0 });
      device.connect(RELAY);
      const hear = async () => {
        let octets = 0;
        for (let taken = endpoint.take(65536); taken?.kind === "octets"; taken = endpoint.take(65536)) {
          octets += taken.octets.length;
          for (const event of device.receive(taken.octets, 0)) {
            if (event.type === "open") device.setAvailability(event.sessionId, "ready");
            if (event.type === "endMessage") ended.push(event.message);
          }
          for (const block of device.output(0)) void endpoint.write(block);
        }
        await turns();
        return octets;
      };
      const ended: number[] = [];
      for (const block of device.output(0)) void endpoint.write(block);
      await turns();
      const envelope = { source: "a", resourceURL: "m", identityURL: "grooveIdentity://bob", deviceURL: DEVICE };
      const fields = { userRef: "1@a", track: false };
      const mail = { envelope, fields, body: new Uint8Array(size) } as Parameters<typeof pack>[0][number];
      let octets = 0;
      for (let n = 0; n < 5000; n += 1) {
        endpoint.deliver(DEVICE, 1, [{ first: 0, bundle: pack([mail]) }], 0);
        octets += await hear();
      }
      assert.ok(octets < SEND_WINDOW + 2 * size + 100_000, `${octets} octets of messages of ${size}`);
      assert.ok(ended.length > 10);
      // Acknowledged messages make room.
      const before = ended.length;
      for (const message of ended) device.complete(message, 0);
      for (const block of device.output(0)) void endpoint.write(block);
      await hear();
      assert.ok(ended.length > before);
    }
  });
});

describe("the charge to a device", () => {
  async function charged() {
    const spent = { octets: 0, messages: 0 };
    const attached: string[] = [];
    const throttle = {
      wake: () => throttle.spend(0, WAKE),
      enter: async () => ({ ok: true }),
      leave: async () => undefined,
      spend: (octets: number, messages: number) => {
        spent.octets += octets;
        spent.messages += messages;
        return undefined;
      },
    } as unknown as Throttle;
    const plain = hostOf();
    const endpoint = endpointOf({
      recipients: 10,
      throttle: () => throttle,
      mailbox: (peer) => {
        attached.push(peer);
        return plain.mailbox(peer);
      },
    });
    await endpoint.write(octetsOf(CONNECT));
    await turns();
    drain(endpoint);
    attached.length = 0;
    const write = async (...commands: Command[]) => {
      Object.assign(spent, { octets: 0, messages: 0 });
      await endpoint.write(octetsOf(...commands));
      await turns();
      return { ...spent };
    };
    return { endpoint, write, attached };
  }

  it("is one message per recipient for a session, and one per copy for a message", async (t) => {
    const { endpoint, write, attached } = await charged();
    t.after(() => endpoint.close());
    const fanoutDeviceEntries = Array.from({ length: 30 }, (_, n) => ({
      identityURL: `grooveIdentity://u${n}`,
      deviceURL: "",
      relayURL: "",
    }));
    const opened = await write({ command: "FanoutOpen", sessionId: 1, resourceURL: "m", fanoutDeviceEntries });
    assert.equal(opened.messages, 30);
    const sent = await write(
      { command: "Message", sessionId: 1, messageCount: 0, flags: 4, userRef: "1" },
      { command: "Data", sessionId: 1, data: new Uint8Array(2000) },
      { command: "EndMessage", sessionId: 1 },
    );
    assert.equal(sent.messages, 10 + 10 * WAKE, "ten of thirty recipients have their mailboxes woken");
    assert.ok(sent.octets > 10 * 2000 && sent.octets < 10 * 2000 + 100);
    assert.equal(new Set(attached).size, 10);
    const said = endpoint.take(65536);
    assert.ok(said?.kind === "octets");
    const statuses: number[] = [];
    for (const command of decode(said.octets, VERSION_1_6)) {
      if (command.command === "SessionStatus")
        statuses.push(command.statusId, command.fanoutDeviceIndexes?.length ?? 0);
    }
    assert.deepEqual(statuses, [SessionStatusId.QuotaWouldBeExceeded, 20]);
  });

  it("exceeds the size of small commands, and rises steeply for accounts after the first", async (t) => {
    const { endpoint, write, attached } = await charged();
    t.after(() => endpoint.close());
    const attach = (eventId: number): Command => ({
      command: "Attach",
      eventId,
      resourceURL: "",
      accountURL: `grooveAccount://${eventId}`,
      authenticationToken: new Uint8Array(0),
    });
    assert.equal((await write(attach(1))).messages, 0);
    assert.equal((await write(attach(3), attach(5))).messages, 2 * ATTACH_MESSAGES);
    for (let eventId = 7; eventId < 99; eventId += 2) await write(attach(eventId));
    assert.ok(new Set(attached).size < CONSUMED_MAILBOXES, "the connection has one mailbox already");
    const noted = await write(
      ...Array.from({ length: 10 }, (): Command => ({ command: "Close", sessionId: 1, reasonId: 0 })),
    );
    assert.ok(noted.octets >= 8 * 10);
  });

  it("does not suffice to wake mailboxes of hundreds of devices", async () => {
    const asked: string[] = [];
    const plain = hostOf();
    const endpoint = endpointOf({
      mailbox: (peer) => {
        asked.push(peer);
        return plain.mailbox(peer);
      },
    });
    const sourceDeviceURLs = Array.from({ length: 200 }, (_, n) => `grooveDevice://a/${n}`);
    await endpoint.write(octetsOf({ ...CONNECT, sourceDeviceURLs } as Command));
    await turns();
    assert.equal(asked.length, 0);
    assert.equal(endpoint.ended, true);
  });
});

describe("a relay", () => {
  it("may wake a limited number of mailboxes per second, and sends to awake ones at full speed", async (t) => {
    const called: string[] = [];
    const plain = hostOf();
    const endpoint = endpointOf({
      mailbox: (peer) => {
        const append = async () => {
          called.push(peer);
          return { refusals: [] };
        };
        return { ...plain.mailbox(peer), append } as unknown as ReturnType<EndpointContext["mailbox"]>;
      },
    });
    t.after(() => endpoint.close());
    const source = relayURL("other.example.com");
    await endpoint.write(octetsOf({ ...CONNECT, sourceDeviceURLs: [source] } as Command));
    await turns();
    const fanoutDeviceEntries = Array.from({ length: 5 * WAKES }, (_, n) => ({
      identityURL: `grooveIdentity://u${n}`,
      deviceURL: "",
      relayURL: "",
    }));
    const say = async (userRef: string) => {
      await endpoint.write(
        octetsOf(
          { command: "Message", sessionId: 1, messageCount: 0, flags: 4, userRef },
          { command: "EndMessage", sessionId: 1 },
        ),
      );
      await turns(2000);
    };
    await endpoint.write(octetsOf({ command: "FanoutOpen", sessionId: 1, resourceURL: "m", fanoutDeviceEntries }));
    await turns();
    await say("1");
    // A second's worth at once, and one on credit.
    assert.equal(called.length, WAKES + 1);
    for (let second = 2; second <= 4; second += 1) {
      for (let passed = 0; passed < 1000; passed += 10) {
        mock.timers.tick(10);
        await turns(200);
      }
      assert.ok(Math.abs(called.length - second * WAKES) <= 2, `${called.length} after ${second} s`);
    }
    const awake = called.length;
    await say("2");
    assert.equal(called.length, 2 * awake, "no awake mailbox waits");
  });
});

/** An endpoint that always has another octet to send, and a socket that records what it is sent. */
function wiredUp(snapshot?: ConstructorParameters<typeof WebSocketConnection>[3], id = "somebody") {
  const seen = { octets: 0, words: [] as string[], ended: undefined as Reason | undefined, answers: 0 };
  let over = false;
  const endpoint = {
    principal: { id },
    ready: async () => undefined,
    take: () => (over ? { kind: "ended", reason: "OutputNotTaken" } : { kind: "octets", octets: new Uint8Array(1000) }),
    get ended() {
      return over;
    },
    over: new Promise(() => undefined),
    write: async () => undefined,
    writeNow(): Promise<void> {
      return this.write();
    },
    get answersUnread() {
      seen.answers += 1000;
      return seen.answers;
    },
    abort: () => {
      over = true;
    },
  };
  const socket = {
    send: (word: string | Uint8Array) => {
      if (typeof word === "string") seen.words.push(word);
      else seen.octets += word.length;
    },
    close: () => undefined,
  };
  const wired = new WebSocketConnection(
    socket as unknown as WebSocket,
    endpoint as unknown as SstpEndpoint,
    (reason) => {
      seen.ended = reason;
    },
    snapshot,
  );
  return { wired, seen };
}

const unanswered = (words: readonly string[], from = 0) =>
  words.slice(from).map((word) => word.replace("mark", "took"));

describe("a WebSocket", () => {
  it("has at most a window outstanding beyond what its device reports as read", async () => {
    const { wired, seen } = wiredUp();
    await wired.hear("marks");
    await turns(20_000);
    const first = seen.octets;
    assert.ok(first > WINDOW_OCTETS / 2 && first <= WINDOW_OCTETS, `${first}`);
    for (const word of ["took", "took 1", "took ", "mark", "marks", seen.words[0] ?? ""]) await wired.hear(word);
    await turns(20_000);
    assert.equal(seen.octets, first, "only the correct answer counts");
    for (const word of unanswered(seen.words)) await wired.hear(word);
    for (const word of unanswered(seen.words)) await wired.hear(word);
    await turns(20_000);
    assert.ok(seen.octets > 1.5 * first && seen.octets <= 2 * WINDOW_OCTETS, `${seen.octets} after ${first}`);
  });

  it("remembers what is outstanding across hibernation", async () => {
    const before = wiredUp();
    await before.wired.hear("marks");
    await turns(20_000);
    before.wired.close("ConnectionLost");
    const { wired, seen } = wiredUp(before.wired.snapshot());
    await turns(20_000);
    assert.equal(seen.octets, 0);
    for (const word of unanswered(before.seen.words)) await wired.hear(word);
    await turns(20_000);
    assert.ok(seen.octets > WINDOW_OCTETS / 2);
  });

  it("that sends no marks is ended when answers pile up and it acknowledges nothing", async () => {
    const { seen } = wiredUp();
    await turns(20_000);
    assert.equal(seen.ended, "OutputNotTaken");
    assert.ok(seen.octets <= ANSWERS_AHEAD + 2000);
  });

  /** A socket whose octets nobody takes. */
  function stuck(id: string) {
    const one = wiredUp(undefined, id);
    Object.assign(one.wired.endpoint, {
      ready: () => new Promise(() => undefined),
      write: () => new Promise(() => undefined),
    });
    const hear = (octets: number) => {
      if (one.seen.ended === undefined) void one.wired.hear(new ArrayBuffer(octets));
      // As its Tunnel does.
      if (one.seen.ended !== undefined) one.wired.close(one.seen.ended);
    };
    return { ...one, hear };
  }

  const MESSAGE = 65_536;

  it("that obeys hold continues, however many others do not", () => {
    const deaf = Array.from({ length: 200 }, () => stuck("somebody"));
    const honest = stuck("an honest one");
    for (let octets = 0; octets < HOLD_OCTETS + HOLD_FLIGHT_OCTETS; octets += MESSAGE) {
      for (const one of [...deaf, honest]) one.hear(MESSAGE);
    }
    const { ended, words } = honest.seen;
    for (const { wired } of [...deaf, honest]) wired.close("DeviceGone");
    assert.deepEqual([ended, words], [undefined, ["hold"]]);
    assert.ok(deaf.some(({ seen }) => seen.ended === "HoldIgnored"));
  });

  it("that ignores hold is ended before those that obey, and may have the full limit when alone", () => {
    const heeding = stuck("one");
    const deaf = Array.from({ length: 50 }, () => stuck("one"));
    for (let octets = 0; octets < HOLD_OCTETS - MESSAGE; octets += MESSAGE) heeding.hear(MESSAGE);
    for (let octets = 0; octets <= HOLD_IGNORED_OCTETS; octets += MESSAGE) for (const one of deaf) one.hear(MESSAGE);
    assert.equal(heeding.seen.ended, undefined);
    assert.ok(deaf.some(({ seen }) => seen.ended === "HoldIgnored"));
    for (const { wired } of deaf) wired.close("DeviceGone");
    // What they held is released.
    const alone = stuck("one");
    for (let octets = MESSAGE; octets < HOLD_IGNORED_OCTETS - MESSAGE; octets += MESSAGE) alone.hear(MESSAGE);
    assert.equal(alone.seen.ended, undefined);
    for (const { wired } of [alone, heeding]) wired.close("DeviceGone");
  });

  it("that was dropped for another's backlog ends with a reason at its next event", async () => {
    const write = Promise.withResolvers<void>();
    const one = stuck("many");
    Object.assign(one.wired.endpoint, { write: () => write.promise });
    const others = Array.from({ length: 100 }, () => stuck("many"));
    for (let octets = 0; octets < 4 * 1024 * 1024; octets += MESSAGE) one.hear(MESSAGE);
    for (let octets = 0; octets < HOLD_FLIGHT_OCTETS; octets += MESSAGE)
      for (const other of others) other.hear(MESSAGE);
    assert.equal(one.seen.ended, undefined, "an object cannot end another's WebSocket");
    write.resolve();
    await turns();
    assert.equal(one.seen.ended, "HoldIgnored");
    for (const { wired } of [one, ...others]) wired.close("DeviceGone");
  });

  it("whose endpoint or socket throws ends with InternalError", async () => {
    const { wired, seen } = wiredUp();
    (wired.endpoint as unknown as { write: () => never }).write = () => {
      throw new Error("a mistake");
    };
    await wired.hear(new ArrayBuffer(5));
    assert.equal(seen.ended, "InternalError");
  });
});

describe("a virtual connection whose dependencies throw", () => {
  const id = fc.integer({ min: 0, max: 3 }).map((n) => 2 * n + 1);
  const name = fc.constantFrom("grooveIdentity://a", "grooveIdentity://b");
  const command: fc.Arbitrary<Command> = fc.oneof(
    fc.record({
      command: fc.constant("Open" as const),
      sessionId: id,
      resourceURL: fc.constant("m"),
      identityURL: name,
      deviceURL: fc.constant(""),
    }),
    fc.record({
      command: fc.constant("Attach" as const),
      eventId: id,
      resourceURL: fc.constant(""),
      accountURL: fc.constantFrom("grooveAccount://a", "grooveAccount://b"),
      authenticationToken: fc.constant(new Uint8Array(0)),
    }),
    fc.record({
      command: fc.constant("Register" as const),
      eventId: id,
      authenticationToken: fc.constant(new Uint8Array(0)),
    }),
    fc.record({ command: fc.constant("Close" as const), sessionId: id, reasonId: fc.constant(0) }),
    fc.record({ command: fc.constant("Noop" as const), messageCount: fc.constant(0) }),
    id.map(
      (sessionId): Command => ({ command: "Message", sessionId, messageCount: 0, flags: 4, userRef: `${sessionId}` }),
    ),
    id.map((sessionId): Command => ({ command: "Data", sessionId, data: new Uint8Array(9) })),
    id.map((sessionId): Command => ({ command: "EndMessage", sessionId })),
  );
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.array(command, { maxLength: 6 }).map((commands) => ({ commands })) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 20_000 }).map((pass) => ({ pass })) },
    { weight: 2, arbitrary: fc.constant({ take: true }) },
  );

  // So few that enough connections survive them, whatever the seed.
  const occasional = fc.oneof(
    { weight: 20, arbitrary: fc.constant("no") },
    { weight: 1, arbitrary: fc.constant("throws") },
    { weight: 1, arbitrary: fc.constant("rejects") },
  );
  const faults = fc.array(occasional, { maxLength: 40 });

  it("still answers afterwards, or has ended", async () => {
    let answered = 0;
    let ended = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 15 }), faults, async (steps, planned) => {
        let healthy = false;
        let next = 0;
        const fault = () => (healthy || planned.length === 0 ? "no" : planned[next++ % planned.length]);
        /** Every call may throw, or reject if it is asynchronous. */
        const faulty = <T extends object>(target: T, synchronous: boolean): T =>
          new Proxy(target, {
            get(of, key) {
              const value: unknown = Reflect.get(of, key);
              if (typeof value !== "function") return value;
              return (...args: unknown[]) => {
                const what = fault();
                if (what === "throws") throw new Error(String(key));
                if (what === "rejects" && !synchronous) return Promise.reject(new Error(String(key)));
                return value.apply(of, args);
              };
            },
          });
        const plain = hostOf();
        const host = faulty(
          {
            ...plain,
            mailbox: (peer: string) => faulty(plain.mailbox(peer), false),
            authenticator: faulty(plain.authenticator, false),
          },
          true,
        );
        const endpoint = new SstpEndpoint(host as EndpointContext, { localDeviceURLs: [RELAY] });
        let said = drain(endpoint);
        const write = (...commands: Command[]) => endpoint.write(octetsOf(...commands));
        await write(CONNECT);
        for (const one of steps) {
          if ("commands" in one) await write(...one.commands);
          else if ("pass" in one) mock.timers.tick(one.pass);
          else said = drain(endpoint);
          await turns();
        }
        healthy = true;
        mock.timers.tick(60_000);
        await turns();
        drain(endpoint);
        if (!endpoint.ended) {
          await write({
            command: "Open",
            sessionId: 99,
            resourceURL: "m",
            identityURL: "grooveIdentity://a",
            deviceURL: "",
          });
          mock.timers.tick(20_000);
          await turns();
          said = drain(endpoint);
          assert.ok(said.octets > 0, "it neither answers nor ends");
          answered += 1;
        } else {
          assert.notEqual(drain(endpoint).reason, undefined);
          ended += 1;
        }
        endpoint.close();
      }),
      { numRuns: 300 },
    );
    assert.ok(answered > 20 && ended > 20, `${answered} answered, ${ended} ended`);
  });
});
