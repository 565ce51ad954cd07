/**
 * Streams and a mailbox over HTTP while the edge is killed and their objects are evicted: writers repeat what was not
 * answered, a fork is made and a stream closed meanwhile, and readers of events go on. Nothing is lost or doubled.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EventReader } from "../support/event-reader.ts";
import { FULL } from "../support/long-form.ts";
import { Chance, Mortal, seedOf, tokenFor } from "./support.ts";

const WRITERS = 4;
const RECORDS = FULL ? 1500 : 80;
const KILLS = FULL ? 12 : 2;
/** Milliseconds between evictions, on average. */
const EVICT_EVERY = 150;

const STREAM = "app/kills/stream";
const FORK = "app/kills/fork";
const MAILBOX = "bob/pc";
const JSON_TYPE = { "Content-Type": "application/json" };

interface Entry {
  readonly writer: number;
  readonly n: number;
}

let edge: Mortal;
before(async () => {
  edge = await Mortal.start();
});
after(() => edge.close());

const tokens = new Map<string, Promise<string>>();

/** The header with a token, always the same for an address: a producer is that of its token. */
async function bearer(address: string): Promise<Record<string, string>> {
  const token = tokens.get(address) ?? tokenFor(address);
  tokens.set(address, token);
  return { Authorization: `Bearer ${await token}` };
}

/** A request until it is answered with something else than that it may succeed later. */
async function insist(method: string, path: string, headers: Record<string, string>, body?: string): Promise<Response> {
  const until = Date.now() + 60_000;
  for (let last: unknown; Date.now() < until; await sleep(50)) {
    try {
      const signal = AbortSignal.timeout(10_000);
      const init = { method, headers, signal, ...(body !== undefined && { body }) };
      const answer = await fetch(`${edge.url}/${path}`, init);
      const { status } = answer;
      // Read here: a body may break too.
      const text = await answer.text();
      if (status < 500 && status !== 429)
        return new Response(status === 204 ? null : text, { status, headers: answer.headers });
      last = text;
    } catch (error) {
      last = error;
    }
    if (Date.now() >= until) assert.fail(`${method} ${path}: ${last}`);
  }
  return assert.fail(`${method} ${path} has no answer`);
}

/** Appends records of one writer, each until it is stored. */
async function write(path: string, writer: number, { from, to }: { readonly from: number; readonly to: number }) {
  const token = await bearer(`writer${writer}/pc`);
  for (let n = from; n < to; n += 1) {
    const producer = { "Producer-Id": `w${writer}`, "Producer-Epoch": "0", "Producer-Seq": String(n) };
    const body = JSON.stringify({ writer, n } satisfies Entry);
    const answer = await insist("POST", path, { ...token, ...JSON_TYPE, ...producer }, body);
    assert.ok(answer.ok, `${path} ${n}: ${answer.status} ${answer.headers.get("grooveway-reason")}`);
  }
}

/** All records of a stream or mailbox, in order. */
async function readAll(path: string, token: Record<string, string>): Promise<unknown[]> {
  const all: unknown[] = [];
  for (let offset = "-1"; ; ) {
    const answer = await insist("GET", `mailboxes/${path}?offset=${offset}`, token);
    assert.equal(answer.status, 200);
    all.push(...((await answer.json()) as unknown[]));
    offset = answer.headers.get("stream-next-offset") ?? "";
    if (answer.headers.get("stream-up-to-date") === "true") return all;
  }
}

/** What events have brought. */
function recordsOf(reader: EventReader): unknown[] {
  return reader.data("data").flatMap((text) => JSON.parse(text) as unknown[]);
}

/** Whether each writer's records are all there, once and in its order. */
function assertWhole(records: readonly Entry[], count: number, what: string): void {
  for (let writer = 0; writer < WRITERS; writer += 1) {
    const numbers = records.filter((entry) => entry.writer === writer).map(({ n }) => n);
    assert.deepEqual(
      numbers,
      Array.from({ length: count }, (_, n) => n),
      `${what}, writer ${writer}`,
    );
  }
  assert.equal(records.length, WRITERS * count, what);
}

it("streams, forks and mailboxes lose and double nothing while the edge is killed and objects are evicted", async (t) => {
  const seed = seedOf();
  t.diagnostic(`seed ${seed}`);
  const chance = new Chance(seed);
  const [reading, owner] = [await bearer("reader/pc"), await bearer(MAILBOX)];
  assert.equal((await insist("PUT", `mailboxes/${STREAM}`, { ...reading, ...JSON_TYPE })).status, 201);
  const readers = [
    new EventReader(`${edge.url}/mailboxes/${STREAM}?offset=-1&live=sse`, { headers: reading }),
    new EventReader(`${edge.url}/mailboxes/${MAILBOX}?offset=-1&live=sse`, { headers: owner }),
  ] as const;
  let isOver = false;
  const evicting = (async () => {
    while (!isOver) {
      await sleep(chance.below(2 * EVICT_EVERY));
      const name = chance.of([STREAM, FORK, "grooveDevice://bob/pc"]);
      await edge.evict(name.startsWith("groove") ? "Mailbox" : "PlainStream", name);
    }
  })();
  const expiring = "app/kills/expiring";
  let kills = 0;
  const killing = (async () => {
    while (!isOver && kills < KILLS) {
      const [count] = [recordsOf(readers[0]).length];
      if (count < (WRITERS * RECORDS * (kills + 1)) / (KILLS + 1)) await sleep(20);
      else {
        await edge.kill();
        kills += 1;
      }
    }
  })();
  const half = Math.floor(RECORDS / 2);
  const writers = Array.from({ length: WRITERS }, (_, writer) => writer);
  const writeAll = (path: string, part: { from: number; to: number }) =>
    Promise.all(writers.map((writer) => write(path, writer, part)));
  const toMailbox = writeAll(`mailboxes/${encodeURIComponent(MAILBOX)}`, { from: 0, to: RECORDS });
  await writeAll(`mailboxes/${STREAM}`, { from: 0, to: half });
  const forked = { ...reading, "Stream-Forked-From": `/mailboxes/${STREAM}` };
  const fork = await insist("PUT", `mailboxes/${FORK}`, forked);
  assert.ok([200, 201].includes(fork.status), fork.headers.get("grooveway-reason") ?? "");
  // It ends while the edge is away, or soon after.
  const lifetime = { ...reading, ...JSON_TYPE, "Stream-TTL": "1" };
  const first = await insist("PUT", `mailboxes/${expiring}`, lifetime, "[1]");
  // What a fork inherits has other producers: its own begin anew.
  await Promise.all([
    writeAll(`mailboxes/${STREAM}`, { from: half, to: RECORDS }),
    writeAll(`mailboxes/${FORK}`, { from: 0, to: half }),
    toMailbox,
  ]);
  await killing;
  assert.equal(kills, KILLS);
  // Closed by an append that is repeated until it is answered.
  const closing = { "Stream-Closed": "true", "Producer-Id": "last", "Producer-Epoch": "0", "Producer-Seq": "0" };
  const close = () =>
    insist("POST", `mailboxes/${STREAM}`, { ...reading, ...JSON_TYPE, ...closing }, '{"writer":-1,"n":0}');
  const closed = close();
  await Promise.all([edge.kill(), closed]);
  assert.ok((await closed).ok);
  assert.ok((await close()).ok, "a repeat of what closed it is known");
  const late = await insist("POST", `mailboxes/${STREAM}`, { ...reading, ...JSON_TYPE }, "[2]");
  assert.equal(late.headers.get("grooveway-reason"), "StreamClosed");

  const stored = (await readAll(STREAM, reading)) as Entry[];
  assert.deepEqual(stored.at(-1), { writer: -1, n: 0 });
  assertWhole(stored.slice(0, -1), RECORDS, "the stream");
  const ofFork = (await readAll(FORK, reading)) as Entry[];
  const inherited = ofFork.slice(0, ofFork.length - WRITERS * half);
  assert.deepEqual(inherited, stored.slice(0, inherited.length), "the fork begins as its source");
  assert.equal(inherited.length, WRITERS * half);
  assertWhole(ofFork.slice(inherited.length), half, "the fork");
  const mails = (await readAll(MAILBOX, owner)) as { readonly body: Entry }[];
  assertWhole(
    mails.map(({ body }) => body),
    RECORDS,
    "the mailbox",
  );

  for (const [index, expected] of [stored, mails].entries()) {
    const reader = readers[index] as EventReader;
    const until = Date.now() + 30_000;
    while (recordsOf(reader).length < expected.length && reader.refused === undefined && Date.now() < until)
      await sleep(50);
    assert.equal(reader.refused, undefined);
    assert.deepEqual(recordsOf(reader), expected, "events bring everything once, in order");
    assert.ok(reader.connections.length > KILLS, "it was cut off by each kill");
    reader.close();
  }
  isOver = true;
  await evicting;
  const gone = await insist("HEAD", `mailboxes/${expiring}`, reading);
  assert.equal(gone.headers.get("grooveway-reason"), "StreamNotFound");
  assert.equal((await insist("PUT", `mailboxes/${expiring}`, lifetime, "[3]")).status, 201);
  const offset = first.headers.get("stream-next-offset") ?? "";
  const old = await insist("GET", `mailboxes/${expiring}?offset=${offset}`, reading);
  assert.equal(old.headers.get("grooveway-reason"), "OffsetGone", "an offset of the ended stream names nothing else");
  t.diagnostic(`${kills + 1} kills, ${edge.evictions} evictions`);
});
