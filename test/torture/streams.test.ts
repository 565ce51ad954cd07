/**
 * Streams between devices under torture: many at a time over all transports, with half-closes and resets at random, and
 * readers that do not read.
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { type DeviceStream, StreamError } from "../../src/device/index.ts";
import { UNSENT, WINDOW } from "../../src/streams/limits.ts";
import { admit, type Streamer, streamer } from "../device/streams/support.ts";
import { afterAll, startEdge, until } from "../edge/mailbox/support.ts";
import { edgeMemory } from "../edge/support.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { FULL } from "../support/long-form.ts";
import { Chance, ENCAPSULATIONS, seedOf } from "./support.ts";
import { Tape } from "./tape.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** What one end of a stream does. */
interface Part {
  /** How much it writes, if it does not reset before. */
  readonly octets: number;
  /** The longest piece that it writes. */
  readonly piece: number;
  /** Whether it writes only after the other end has half-closed. */
  readonly isLast: boolean;
  /** After how much it resets instead of half-closing, and how. */
  readonly reset: { readonly after: number; readonly by: "abort" | "cancel" | "reset" } | undefined;
  readonly chance: Chance;
}

/** How a stream ended for one end. */
interface Outcome {
  readonly ended: string;
  readonly read: number;
  readonly isRight: boolean;
}

function part(chance: Chance, most: number): Part {
  // Few are long.
  const octets = Math.floor(most * chance.next() ** 4);
  return {
    octets,
    piece: 1 + chance.below(chance.next() < 0.2 ? 100 : 200_000),
    isLast: false,
    reset: undefined,
    chance: new Chance(chance.below(2 ** 31)),
  };
}

/** The parts of both ends of a stream. */
function partsOf(chance: Chance, most: number): readonly [Part, Part] {
  const parts = [part(chance, most), part(chance, most)] as [Part, Part];
  const which = chance.below(2);
  const one = parts[which] as Part;
  // Pieces of some octets each would take long for many.
  for (const [n, each] of parts.entries()) parts[n] = { ...each, piece: Math.max(each.piece, each.octets >> 8) };
  const isReset = chance.next() < 0.3;
  parts[which] = {
    ...one,
    piece: Math.max(one.piece, one.octets >> 8),
    isLast: chance.next() < 0.5,
    reset: isReset ? { after: chance.below(one.octets + 1), by: chance.of(["abort", "cancel", "reset"]) } : undefined,
  };
  return parts;
}

function reasonOf(error: unknown): string {
  return error instanceof StreamError ? error.reason : String(error);
}

/** Plays a part on a stream. */
async function play(stream: DeviceStream, mine: Part, out: Tape, into: Tape): Promise<Outcome> {
  let [read, isRight] = [0, true];
  const reader = stream.readable.getReader();
  const reading = (async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      isRight &&= into.has(read, value);
      read += value.length;
      if (mine.chance.next() < 0.1) await turn();
    }
  })().catch(() => undefined);
  const writing = (async () => {
    if (mine.isLast) await reading;
    const writer = stream.writable.getWriter();
    const octets = mine.reset?.after ?? mine.octets;
    for (let at = 0; at < octets; ) {
      const length = Math.min(1 + mine.chance.below(mine.piece), octets - at);
      await writer.write(out.cut(at, length));
      at += length;
      if (mine.chance.next() < 0.1) await turn();
    }
    if (mine.reset === undefined) await writer.close();
    else if (mine.reset.by === "abort") await writer.abort();
    else if (mine.reset.by === "cancel") await reader.cancel();
    // What was read to its end cannot be canceled.
    if (mine.reset !== undefined) stream.reset();
  })().catch(() => undefined);
  await Promise.all([reading, writing]);
  const ended = await stream.closed.then(() => "finished", reasonOf);
  return { ended, read, isRight };
}

// One for all: the memory of its runtime is looked at.
const context = afterAll();
let edge: InspectedEdge;
before(async () => {
  edge = await startEdge(context);
});

describe("many streams at a time, over all transports", () => {
  it("carry what sockets would, and tell each end of half-closes and resets", { timeout: 3_000_000 }, async (t) => {
    const seed = seedOf();
    t.diagnostic(`GROOVEWAY_SEED=${seed}`);
    const chance = new Chance(seed);
    const devices = await Promise.all(ENCAPSULATIONS.map((name) => streamer(edge, `many/${name}`, name)));
    const others = await Promise.all(ENCAPSULATIONS.map((name) => streamer(edge, `more/${name}`, name)));
    // Each transport with each, and with itself.
    const pairs = devices.flatMap((one) => others.map((other) => [one, other] as const));
    const [each, most] = FULL ? [Math.ceil(1000 / pairs.length), 8 * MIB] : [12, 256 * KIB];
    let moved = 0;
    let resets = 0;
    async function check(client: Streamer, server: Streamer, n: number): Promise<void> {
      const [here, there] = partsOf(chance, most);
      const [up, down] = [new Tape(2 * n), new Tape(2 * n + 1)];
      const served = Promise.withResolvers<Outcome>();
      server.device.serve(`s${n}`, async (stream) => served.resolve(await play(stream, there, down, up)));
      const mine = await client.device.dial(server.address, `s${n}`).then(
        (stream) => play(stream, here, up, down),
        // It was reset before it was accepted.
        (error: unknown): Outcome => ({ ended: reasonOf(error), read: 0, isRight: true }),
      );
      assert.ok(["finished", "ConnectionReset"].includes(mine.ended), `stream ${n}: ${mine.ended}`);
      const theirs = await served.promise;
      const what = `stream ${n}, ${JSON.stringify([here, there])}: ${JSON.stringify([mine, theirs])}`;
      assert.ok(mine.isRight && theirs.isRight, what);
      const isReset = here.reset !== undefined || there.reset !== undefined;
      const ended = isReset ? "ConnectionReset" : "finished";
      assert.deepEqual([mine.ended, theirs.ended], [ended, ended], what);
      if (isReset) resets += 1;
      else assert.deepEqual([mine.read, theirs.read], [there.octets, here.octets], what);
      moved += mine.read + theirs.read;
    }
    // Either dials: the channels of a pair begin from both sides at once.
    const dialing = pairs.flatMap(([one, other], p) => {
      admit(one, other);
      admit(other, one);
      return Array.from({ length: each }, (_, n) => {
        const [client, server] = chance.next() < 0.5 ? [one, other] : [other, one];
        return () => check(client, server, p * each + n);
      });
    });
    await Promise.all(dialing.map((dial) => dial()));
    t.diagnostic(`${pairs.length * each} streams, ${resets} of them reset, ${(moved / MIB).toFixed(1)} MiB`);
    await Promise.all([...devices, ...others].map(({ device }) => device.close()));
  });
});

/** What is read of each stream that nobody reads any more. */
const READ_FIRST = 256 * KIB;

/** How much a stream has taken from a writer that never ends. */
interface Endless {
  written: number;
}

function endless(stream: DeviceStream): Endless {
  const progress: Endless = { written: 0 };
  const tape = new Tape(0);
  void (async () => {
    const writer = stream.writable.getWriter();
    for (;;) {
      await writer.write(tape.cut(progress.written, 16 * KIB));
      progress.written += 16 * KIB;
    }
  })().catch(() => undefined);
  return progress;
}

async function echoed(client: Streamer, server: Streamer, octets: number, n: number): Promise<void> {
  const stream = await client.device.dial(server.address, "echo");
  const tape = new Tape(n);
  let read = 0;
  const reading = (async () => {
    for await (const piece of stream.readable) {
      assert.ok(tape.has(read, piece), `wrong bytes at ${read}`);
      read += piece.length;
    }
  })();
  const writer = stream.writable.getWriter();
  for (let at = 0; at < octets; at += 64 * KIB) await writer.write(tape.cut(at, Math.min(64 * KIB, octets - at)));
  await writer.close();
  await reading;
  assert.equal(read, octets);
  await stream.closed;
}

/** Milliseconds without progress after which writers are held to be stopped: polls that wait are shorter. */
const STILL = 2000;

/** Waits until writers are stopped. Returns what they have written. */
async function stopped(all: readonly Endless[]): Promise<number> {
  const sum = () => all.reduce((total, { written }) => total + written, 0);
  let [last, since] = [0, performance.now()];
  const isStill = () => {
    if (sum() !== last) [last, since] = [sum(), performance.now()];
    return performance.now() - since > STILL;
  };
  await until("writers stop", isStill, 120_000);
  return sum();
}

describe("streams that nobody reads", () => {
  for (const [one, other] of [
    ["websocket", "longlived"],
    ["polling", "keepalive"],
  ] as const) {
    it(`leave the others alone, and cost the edge no memory, over ${one} and ${other}`, async (t) => {
      const [alice, bob] = await Promise.all([
        streamer(edge, `alice/${one}`, one),
        streamer(edge, `bob/${other}`, other),
      ]);
      admit(bob, alice);
      bob.device.serve("unread", async ({ readable }) => {
        // What it reads first lets its window grow.
        const reader = readable.getReader();
        for (let read = 0; read < READ_FIRST; ) read += (await reader.read()).value?.length ?? READ_FIRST;
      });
      bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
      // What the runtime loads once is not counted.
      await echoed(alice, bob, 4 * MIB, 0);
      const octets = FULL ? 4 * MIB : 128 * KIB;
      const first = endless(await alice.device.dial(bob.address, "unread"));
      await Promise.all(Array.from({ length: 99 }, (_, n) => echoed(alice, bob, octets, n + 1)));
      assert.ok(first.written < READ_FIRST + WINDOW + UNSENT + MIB, `${first.written} bytes were written to one`);
      const before = edgeMemory();
      const rest = await Promise.all(
        Array.from({ length: 99 }, async () => endless(await alice.device.dial(bob.address, "unread"))),
      );
      const written = await stopped([first, ...rest]);
      await echoed(alice, bob, octets, 200);
      const grown = edgeMemory() - before;
      t.diagnostic(`${(written / MIB).toFixed(1)} MiB written, the edge has grown by ${(grown / MIB).toFixed(1)} MiB`);
      assert.ok(grown < 64 * MIB, `the edge has grown by ${grown} bytes`);
      await Promise.all([alice.device.close(), bob.device.close()]);
    });
  }
});

/** Rounds in which both of a pair of times are taken. An odd number: there is one in the middle. */
const ROUNDS = 7;

/** What streams have to keep of their rate beside others that nobody reads. */
const KEPT = 0.9;

/**
 * Compares two times that are taken in turn, in the same minutes on the same machine. Returns the median of the shares of
 * its rate that the one keeps as the other.
 */
async function kept(
  one: () => Promise<number>,
  other: () => Promise<number>,
): Promise<{ share: number; text: string }> {
  const [shares, times] = [[] as number[], [] as number[]];
  for (let n = 0; n < ROUNDS; n += 1) {
    const time = await one();
    times.push(time);
    shares.push(time / (await other()));
  }
  const [share, time] = [median(shares), median(times)];
  const all = shares.map((each) => Math.round(each * 100)).join(", ");
  return { share, text: `${Math.round(share * 100)} % of the rate by which it takes ${Math.round(time)} ms (${all})` };
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const before = performance.now();
  await run();
  return performance.now() - before;
}

describe("beside streams that nobody reads", {
  skip: FULL ? false : "SKIPPED: set GROOVEWAY_TORTURE=full, on a machine that does nothing else",
}, () => {
  for (const [one, other] of [
    ["websocket", "longlived"],
    ["polling", "keepalive"],
  ] as const) {
    const moved = one === "polling" ? 4 * MIB : 32 * MIB;

    async function pair(name: string) {
      const [alice, bob] = await Promise.all([
        streamer(edge, `alice-${name}/${one}`, one),
        streamer(edge, `bob-${name}/${other}`, other),
      ]);
      admit(bob, alice);
      bob.device.serve("unread", (stream) => stream.accept());
      bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
      await echoed(alice, bob, moved, 0);
      /** Runs with as many streams that take nothing more. */
      async function beside<T>(count: number, run: () => Promise<T>): Promise<T> {
        const streams = await Promise.all(
          Array.from({ length: count }, () => alice.device.dial(bob.address, "unread")),
        );
        await stopped(streams.map(endless));
        const result = await run();
        for (const stream of streams) stream.reset();
        return result;
      }
      return { alice, bob, beside, close: () => Promise.all([alice.device.close(), bob.device.close()]) };
    }

    it(`99 streams keep nine tenths of their rate over ${one} and ${other}`, { timeout: 3_000_000 }, async (t) => {
      const { alice, bob, beside, close } = await pair("one");
      const octets = moved / 32;
      const all = () => timed(() => Promise.all(Array.from({ length: 99 }, (_, n) => echoed(alice, bob, octets, n))));
      const { share, text } = await kept(all, () => beside(1, all));
      t.diagnostic(text);
      assert.ok(share >= KEPT, text);
      await close();
    });

    it(`the 101st stream keeps nine tenths of its rate over ${one} and ${other}`, { timeout: 3_000_000 }, async (t) => {
      const { alice, bob, beside, close } = await pair("hundred");
      const single = () => timed(() => echoed(alice, bob, moved, 1));
      const { share, text } = await kept(single, () => beside(100, single));
      t.diagnostic(text);
      assert.ok(share >= KEPT, text);
      await close();
    });
  }
});
