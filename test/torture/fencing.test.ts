/**
 * Devices with the same address compete for one mailbox. Messages accepted as done before a takeover are never
 * redelivered; unfinished ones go to the winner; none is lost, and the loser is told who replaced it.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Device, DeviceError } from "../../src/device/index.ts";
import type { Mailbox } from "../../src/edge/mailbox/mailbox.ts";
import type { MailboxStatus } from "../../src/edge/rpc/mailbox-rpc.ts";
import { ConnectCloseReasonId, deviceURL } from "../../src/sstp/index.ts";
import { afterAll, mailboxOf, RawClient, startEdge, until } from "../edge/mailbox/support.ts";
import { partsOf } from "../support/address.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { FULL } from "../support/long-form.ts";
import { statusOf } from "./lossy.ts";
import {
  ADMIN_TOKEN,
  Chance,
  ENCAPSULATIONS,
  insist,
  KEYS,
  seedOf,
  stamped,
  stampOf,
  tokenFor,
  withToken,
} from "./support.ts";

type Encapsulation = (typeof ENCAPSULATIONS)[number];

/** Takeovers: in the short form enough for each encapsulation to win and lose several times. */
const KNOWN = FULL ? 1000 : 60;
const WILD = FULL ? 1000 : 60;
/** The number of mailboxes contested concurrently. */
const DUELS = 10;
/** One in this many known takeovers simulates a late acknowledgement: asking in this way is slow. */
const LATE = 5;
/** The most undelivered messages of a stream: otherwise it outruns the competitors, and everything slows down. */
const BEHIND = 40;
const LENGTHS = [10, 10, 10, 2_000, 30_000] as const;

const seed = seedOf();
let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all, { adminToken: ADMIN_TOKEN, keys: KEYS });
});

/** A competitor: what it was given, and how it acknowledges. */
interface Contender {
  readonly encapsulation: Encapsulation;
  /** Counters of messages given to the application, in order. */
  readonly given: readonly number[];
  /** Messages the application has finished. */
  readonly done: ReadonlySet<number>;
  /** Marks a message as finished by the application. */
  finish(counter: number): void;
  /** Settles when the connection is over, with the error a user sees; undefined if it was closed from here. */
  readonly told: Promise<string | undefined>;
  /** Reports of its device about replaced connections. */
  readonly reconnects: readonly string[];
  close(): Promise<void>;
}

/** Connects a device. @param heard called for each message */
async function device(
  address: string,
  encapsulation: Encapsulation,
  heard: (counter: number) => void = () => undefined,
): Promise<Contender> {
  const given: number[] = [];
  const done = new Set<number>();
  const finishers = new Map<number, () => void>();
  const reconnects: string[] = [];
  const options = withToken({
    edge: edge.url,
    address,
    transport: encapsulation,
    onReconnect: (error) => reconnects.push(error.message),
  });
  const connected = await Device.connect(options);
  const read = async () => {
    for await (const message of connected.messages()) {
      const { counter } = stampOf(message.body);
      given.push(counter);
      finishers.set(counter, message.done);
      heard(counter);
    }
  };
  return {
    encapsulation,
    given,
    done,
    reconnects,
    finish(counter) {
      done.add(counter);
      finishers.get(counter)?.();
    },
    told: read().then(
      () => undefined,
      (error: unknown) => (error instanceof DeviceError ? `${error.code}: ${error.message}` : String(error)),
    ),
    close: () => connected.close(),
  };
}

/** Connects a client that speaks SSTP itself: it has no memory of ids that could hide duplicates. */
async function raw(address: string, encapsulation: Encapsulation): Promise<Contender> {
  const done = new Set<number>();
  const client = new RawClient(edge, encapsulation, urlOf(address), {}, "127.0.0.1", await tokenFor(address));
  const complete = client.engine.complete.bind(client.engine);
  // Before the first message arrives, which would be acknowledged at once.
  client.engine.complete = () => false;
  client.connect("127.0.0.1");
  await client.event("connected");
  const over = new AbortController();
  const told = async () => {
    while (!over.signal.aborted) {
      const closed = client.events.find((event) => event.type === "closed");
      if (closed?.reasonId === ConnectCloseReasonId.CrossedConnections) return "AddressInUse: another device";
      if (closed !== undefined) return `${closed.detail} [${closed.reasonId}]`;
      await sleep(10);
    }
    return undefined;
  };
  return {
    encapsulation,
    get given() {
      return client.messages.map(({ body }) => stampOf(body).counter);
    },
    done,
    reconnects: [],
    finish(counter) {
      done.add(counter);
      const message = client.messages.find(({ body }) => stampOf(body).counter === counter);
      if (message === undefined) return;
      complete(message.number, performance.now());
      client.flush();
    },
    told: told(),
    close: async () => {
      over.abort();
      client.close();
    },
  };
}

function urlOf(address: string): string {
  const { identity, device: name = "" } = partsOf(address);
  return deviceURL({ identity, device: name });
}

/** The consumer of a mailbox. */
type Consumer = Pick<MailboxStatus, "generation" | "consumer">;

/** Waits until a mailbox has another consumer of a later generation. */
async function changed(address: string, before: Consumer): Promise<Consumer> {
  let now = before;
  await until("the mailbox has another consumer", async () => {
    now = await statusOf(edge, address);
    return now.consumer !== undefined && now.consumer !== before.consumer;
  });
  assert.ok(now.generation > before.generation, `generation ${now.generation} follows ${before.generation}`);
  return now;
}

/** Mostly transports that connect quickly. */
function someEncapsulation(chance: Chance): Encapsulation {
  return chance.next() < 0.7 ? "websocket" : chance.of(ENCAPSULATIONS);
}

function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}

/** The error a user sees when another device has taken this one's place. */
const TAKEN = /^AddressInUse: another device/;

test(`${KNOWN} takeovers of a known mailbox: the winner gets exactly the unfinished messages`, {
  timeout: 600_000,
}, async () => {
  const began = performance.now();
  const figures = { takeovers: 0, given: 0, both: 0, clean: 0, late: 0 };
  const chances = range(1, DUELS).map((duel) => new Chance(seed + duel));
  const fight = async (chance: Chance, duel: number): Promise<void> => {
    const address = `known${duel}/pc`;
    const sender = await insist({ edge: edge.url, address: `sender${duel}/pc`, transport: "websocket" });
    const connect = () => (chance.next() < 0.5 ? device : raw)(address, someEncapsulation(chance));
    const losers: Promise<void>[] = [];
    let sent = 0;
    /** The mailbox has accepted everything up to this message. */
    let accepted = 0;
    let consumer = await connect();
    let first = 1;
    let before = await changed(address, { generation: 0, consumer: undefined });
    try {
      for (let takeover = 1; takeover <= KNOWN / DUELS; takeover += 1) {
        const more = chance.below(5);
        await Promise.all(
          range(1, more).map(() => {
            sent += 1;
            return sender.send(address, stamped(0, 0, sent, chance.of(LENGTHS)));
          }),
        );
        const all = range(first, sent);
        await until("the consumer has all", () => consumer.given.length >= all.length);
        assert.deepEqual(consumer.given, all);
        // Half of the time all are done; otherwise some, possibly beyond an unfinished one, which are not accepted.
        const upTo = chance.next() < 0.5 ? sent : accepted + chance.below(sent - accepted + 1);
        for (const counter of range(accepted + 1, upTo)) consumer.finish(counter);
        if (chance.next() < 0.3) for (const counter of range(upTo + 2, sent)) consumer.finish(counter);
        await until("the mailbox has accepted it", async () => (await statusOf(edge, address)).messages <= sent - upTo);
        assert.equal((await statusOf(edge, address)).messages, sent - upTo, "and nothing that was not acknowledged");
        accepted = upTo;
        const loser = consumer;
        const last = sent;
        consumer = await connect();
        const { generation } = before;
        before = await changed(address, before);
        // The older one's acknowledgement may be arbitrarily late.
        if (takeover % LATE === 0) {
          const mailbox = (await mailboxOf(edge, urlOf(address))) as unknown as Pick<Mailbox, "acknowledge">;
          assert.equal(
            await mailbox.acknowledge(generation, { done: [[1, sent]] }),
            undefined,
            "the loser is not heard",
          );
          assert.equal((await statusOf(edge, address)).messages, sent - accepted, "nothing is lost by it");
          figures.late += 1;
        }
        losers.push(
          loser.told.then(async (told) => {
            assert.match(told ?? "nothing", TAKEN, `${loser.encapsulation} was told: ${told}`);
            assert.ok((loser.given.at(-1) ?? 0) <= last, "it was given nothing sent after the takeover");
            assert.deepEqual(loser.reconnects, []);
            await loser.close();
          }),
        );
        first = accepted + 1;
        figures.takeovers += 1;
        figures.both += last - accepted;
        figures.clean += last === accepted ? 1 : 0;
      }
      await until("the last has the rest", () => consumer.given.length >= sent - accepted);
      for (const counter of range(accepted + 1, sent)) consumer.finish(counter);
      await until("the mailbox is empty", async () => (await statusOf(edge, address)).messages === 0);
      assert.deepEqual(consumer.given, range(first, sent));
      figures.given += sent;
      await Promise.all(losers);
    } finally {
      await Promise.all([consumer.close(), sender.close()]);
    }
  };
  const outcomes = await Promise.allSettled(chances.map((chance, index) => fight(chance, index + 1)));
  const seconds = (performance.now() - began) / 1000;
  console.log(
    `fencing, known: seed ${seed}: ${figures.takeovers} takeovers of ${DUELS} mailboxes, ${figures.given} messages, ${figures.clean} takeovers with all done, at the others ${figures.both} messages that were not done came to the winner too, ${figures.late} late acknowledgements of losers were not heard; ${seconds.toFixed(1)} s`,
  );
  assert.deepEqual(failuresOf(outcomes), []);
  assert.equal(figures.takeovers, KNOWN);
});

/** The two mailboxes of a device that receive messages: its own and its identity's. */
const STREAMS = [0, 1] as const;

/** What is known about one competitor and one mailbox. */
interface Share {
  readonly given: number[];
  readonly done: Set<number>;
  /** The mailbox had accepted this much before the competitor connected. */
  readonly floor: number;
  /** When its successor became the consumer: what had been sent, and what its application had finished. */
  over: { readonly sent: number; readonly done: ReadonlySet<number> } | undefined;
}

interface Fighter {
  readonly encapsulation: Encapsulation;
  readonly shares: readonly Share[];
  /** Connected at the same time: which of the two is first is random. */
  readonly paired: boolean;
  readonly told: Promise<string | undefined>;
  readonly reconnects: readonly string[];
  close(): Promise<void>;
}

/** Connects a device that finishes messages now or later. It may lose before it has connected. */
async function fighter(
  address: string,
  encapsulation: Encapsulation,
  floors: readonly number[],
  streams: readonly Stream[],
  paired: boolean,
  chance: Chance,
): Promise<Fighter> {
  const shares = floors.map((floor): Share => ({ given: [], done: new Set(), floor, over: undefined }));
  const reconnects: string[] = [];
  const onReconnect = (error: DeviceError) => void reconnects.push(error.message);
  const fought = { encapsulation, shares, paired, reconnects };
  const options = withToken({ edge: edge.url, address, transport: encapsulation, onReconnect });
  const connected = await Device.connect(options).catch(
    (error: unknown) => String((error as DeviceError).code) + String(error).replace("DeviceError", ""),
  );
  if (typeof connected === "string") {
    return { ...fought, told: Promise.resolve(connected), close: () => Promise.resolve() };
  }
  const read = async () => {
    for await (const message of connected.messages()) {
      const { sender, counter } = stampOf(message.body);
      const share = shares[sender] ?? assert.fail(`sender ${sender}`);
      share.given.push(counter);
      streams[sender]?.hear(counter);
      const finish = () => {
        share.done.add(counter);
        message.done();
      };
      const when = chance.next();
      if (when < 0.6) finish();
      else setTimeout(finish, chance.below(when < 0.9 ? 20 : 200));
    }
  };
  const told = read().then(
    () => undefined,
    (error: unknown) => (error instanceof DeviceError ? `${error.code}: ${error.message}` : String(error)),
  );
  return { ...fought, told, close: () => connected.close() };
}

/** Sends to a mailbox until told to stop. */
class Stream {
  sent = 0;
  acknowledged = 0;
  failure: unknown;
  #heard = 0;
  #over = false;
  readonly #sending: Promise<void>;

  constructor(sender: Device, to: string, stream: number, chance: Chance) {
    this.#sending = this.#send(sender, to, stream, chance);
  }

  /** Resolves when everything sent is acknowledged. */
  stop(): Promise<void> {
    this.#over = true;
    return this.#sending;
  }

  /** A device was given a message. */
  hear(counter: number): void {
    this.#heard = Math.max(this.#heard, counter);
  }

  async #send(sender: Device, to: string, stream: number, chance: Chance): Promise<void> {
    const sending: Promise<void>[] = [];
    while (!this.#over) {
      for (let burst = 1 + chance.below(5); burst > 0 && this.sent - this.#heard < BEHIND; burst -= 1) {
        this.sent += 1;
        sending.push(
          sender.send(to, stamped(stream, 0, this.sent, chance.of(LENGTHS))).then(
            () => {
              this.acknowledged += 1;
            },
            (error: unknown) => {
              this.failure ??= error;
              this.#over = true;
            },
          ),
        );
      }
      await sleep(20 + chance.below(150));
    }
    await Promise.all(sending);
  }
}

test(`${WILD} takeovers at arbitrary moments: no message is lost, and none that was accepted is redelivered`, {
  timeout: 600_000,
}, async () => {
  const began = performance.now();
  const figures = { takeovers: 0, pairs: 0, sent: 0, twice: 0, early: 0 };
  const fight = async (chance: Chance, duel: number): Promise<void> => {
    const identity = `wild${duel}`;
    const address = `${identity}/pc`;
    const peers = [address, identity] as const;
    const sender = await insist({ edge: edge.url, address: `wilder${duel}/pc`, transport: "websocket" });
    const streams = STREAMS.map((stream) => new Stream(sender, peers[stream], stream, chance));
    const fighters: Fighter[] = [];
    let before: Consumer = { generation: 0, consumer: undefined };
    try {
      for (let takeovers = 0; takeovers < WILD / DUELS; ) {
        await sleep(chance.below(60));
        const floors = await Promise.all(
          streams.map(async (stream, index) => {
            const { acknowledged } = stream;
            return acknowledged - (await statusOf(edge, peers[index] ?? "")).messages;
          }),
        );
        const paired = chance.next() < 0.15;
        const came = await Promise.all(
          Array.from({ length: paired ? 2 : 1 }, () =>
            fighter(address, someEncapsulation(chance), floors, streams, paired, chance),
          ),
        );
        before = await changed(address, before);
        if (paired) {
          figures.pairs += 1;
          // The device that is told has lost, and was the first of the two.
          const loser = await Promise.race(came.map((one) => one.told.then(() => one)));
          came.sort((one, other) => Number(other === loser) - Number(one === loser));
          before = await statusOf(edge, address);
        }
        const holds = async () => (await statusOf(edge, identity)).consumer === before.consumer;
        await until(`one device consumes both mailboxes of ${address}`, holds);
        for (const loser of [...fighters, ...came.slice(0, -1)]) {
          for (const [index, share] of loser.shares.entries()) {
            share.over ??= { sent: streams[index]?.sent ?? 0, done: new Set(share.done) };
          }
        }
        fighters.push(...came);
        takeovers += came.length;
        figures.takeovers += came.length;
      }
      await Promise.all(streams.map((stream) => stream.stop()));
      assert.deepEqual(
        streams.flatMap(({ failure }) => failure ?? []),
        [],
        "the sender could send",
      );
      assert.deepEqual(
        fighters.flatMap(({ reconnects }) => reconnects),
        [],
        "nobody came back by itself",
      );
      for (const peer of peers) {
        await until(`${peer} is empty`, async () => (await statusOf(edge, peer)).messages === 0);
      }
      for (const [index, { sent }] of streams.entries()) {
        const shares = fighters.map(({ shares: all, paired }) => ({ ...(all[index] ?? assert.fail()), paired }));
        const given = new Set(shares.flatMap((share) => share.given));
        assert.deepEqual(
          range(1, sent).filter((counter) => !given.has(counter)),
          [],
          `nothing disappeared of ${peers[index]}`,
        );
        assertFenced(shares, sent);
        figures.sent += sent;
        figures.twice += shares.reduce((sum, share) => sum + share.given.length, 0) - given.size;
      }
      for (const loser of fighters.slice(0, -1)) {
        const told = await Promise.race([loser.told, sleep(40_000, "nothing for 40 s", { ref: false })]);
        assert.match(told ?? "nothing", TAKEN, `${loser.encapsulation} was told: ${told}`);
        figures.early += loser.shares.every(({ given }) => given.length === 0) ? 1 : 0;
      }
    } finally {
      await Promise.all([
        ...fighters.map((one) => one.close()),
        ...streams.map((stream) => stream.stop()),
        sender.close(),
      ]);
    }
  };
  const chances = range(1, DUELS).map((duel) => new Chance(seed + DUELS + duel));
  const outcomes = await Promise.allSettled(chances.map((chance, index) => fight(chance, index + 1)));
  const seconds = (performance.now() - began) / 1000;
  console.log(
    `fencing, wild: seed ${seed}: ${figures.takeovers} takeovers of ${2 * DUELS} mailboxes (${figures.pairs} times by two at once), ${figures.sent} messages, ${figures.twice} came twice: their acknowledgement was under way; ${figures.early} losers were given nothing; ${seconds.toFixed(1)} s`,
  );
  assert.deepEqual(failuresOf(outcomes), []);
  assert.ok(figures.takeovers >= WILD);
});

/** @param shares what each competitor received from one mailbox, in order of consumption */
function assertFenced(shares: readonly (Share & { readonly paired: boolean })[], sent: number): void {
  /** What earlier ones finished while they were consumers. */
  const done = new Set<number>();
  for (const [at, { given, floor, over, paired }] of shares.entries()) {
    const [first] = given;
    if (first !== undefined) {
      assert.ok(first > floor, `competitor ${at} was given ${first}, but up to ${floor} was accepted before`);
      const lost = range(1, first - 1).filter((counter) => !done.has(counter));
      assert.deepEqual(lost, [], `competitor ${at} was given ${first} first, but earlier ones were unfinished`);
      // Of two concurrent ones, each may have been the consumer for a moment.
      if (!paired) assert.deepEqual(given, range(first, first + given.length - 1), "in order and complete");
      assert.ok(isRising(given), `in order: ${given}`);
      const last = given.at(-1) ?? 0;
      assert.ok(last <= (over?.sent ?? sent), `competitor ${at} was given ${last}, sent after it had lost the mailbox`);
    }
    for (const counter of over?.done ?? []) done.add(counter);
  }
}

function isRising(counters: readonly number[]): boolean {
  return counters.every((counter, index) => index === 0 || counter > (counters[index - 1] ?? 0));
}

function failuresOf(outcomes: readonly PromiseSettledResult<unknown>[]): string[] {
  return outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [String(outcome.reason)] : []));
}
