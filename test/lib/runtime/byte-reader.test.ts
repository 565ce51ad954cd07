/** Reading streams: no data is lost, however the reader waits. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { byteReader, FIRST_READ, readBody, SMALL_READS } from "../../../src/lib/runtime/byte-reader.ts";
import { DeadlinePool } from "../../../src/lib/runtime/deadline-pool.ts";
import { within } from "../../../src/lib/runtime/timeout.ts";

/** A byte stream fed by the test. */
function feed(): { stream: ReadableStream<Uint8Array>; put(text: string): void; end(): void } {
  let controller: ReadableByteStreamController | undefined;
  const stream = new ReadableStream({
    type: "bytes",
    start(started) {
      controller = started as ReadableByteStreamController;
    },
  }) as ReadableStream<Uint8Array>;
  return {
    stream,
    put: (text) => controller?.enqueue(new TextEncoder().encode(text)),
    end() {
      controller?.close();
      // This is the only way for a reader with its own buffer to get it back.
      controller?.byobRequest?.respond(0);
    },
  };
}

const text = (octets: Uint8Array | string) => (typeof octets === "string" ? octets : new TextDecoder().decode(octets));

test("data that arrives after a read timed out goes to the next read", async () => {
  const { stream, put, end } = feed();
  const read = byteReader(stream, 16);
  assert.equal(await read(5), "late");
  put("kept");
  // The read that timed out completes now, while nobody waits.
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(text(await read()), "kept");
  assert.equal(await read(5), "late");
  assert.equal(await read(5), "late");
  put("again");
  assert.equal(text(await read(1000)), "again");
  end();
  assert.equal(await read(), "end");
});

test("many reads can share what waits for them", async () => {
  const { stream, put, end } = feed();
  const read = byteReader(stream, 16);
  const waiter = new DeadlinePool(20);
  put("first");
  assert.equal(text(await read(waiter)), "first");
  assert.equal(await read(waiter), "late");
  put("second");
  assert.equal(text(await read(waiter)), "second");
  end();
  assert.equal(await read(waiter), "end");
});

test("the buffer grows with large reads, is reused, and shrinks after repeated small reads", async () => {
  const coming: number[] = [];
  const asked: number[] = [];
  const stream = new ReadableStream({
    type: "bytes",
    pull(controller) {
      const request = controller.byobRequest;
      const view = request?.view;
      if (request == null || view == null) throw new Error("a reader brings its buffer");
      asked.push(view.byteLength);
      const length = Math.min(coming[0] ?? 0, view.byteLength);
      coming[0] = (coming[0] ?? 0) - length;
      if (coming[0] === 0) coming.shift();
      request.respond(length);
    },
  }) as ReadableStream<Uint8Array>;
  const read = byteReader(stream, 256 * 1024);
  const take = async (...pieces: number[]) => {
    asked.length = 0;
    coming.push(...pieces);
    while (coming.length > 0) await read();
    return [...asked];
  };
  const BATCH = 16_500;
  assert.deepEqual(await take(BATCH), [FIRST_READ, 4 * FIRST_READ]);
  assert.deepEqual(await take(16 * 1024, 116), [4 * FIRST_READ, 16 * FIRST_READ]);
  // Not alternating between 16384 and the remaining 116 for ever.
  assert.deepEqual(
    await take(BATCH, BATCH, BATCH),
    [16, 16, 16].map((times) => times * FIRST_READ),
  );
  const few = await take(...Array.from({ length: 2 * SMALL_READS + 1 }, () => 7));
  assert.deepEqual(few, [
    ...Array.from({ length: SMALL_READS }, () => 16 * FIRST_READ),
    ...Array.from({ length: few.length - SMALL_READS }, (_, at) => (at === 0 ? 4 : 1) * FIRST_READ),
  ]);
});

test("a released reader leaves the rest of the stream", async () => {
  const { stream, put } = feed();
  const read = byteReader(stream, 16);
  put("first");
  assert.equal(text(await read()), "first");
  read.release();
  put("second");
  const { value } = await stream.getReader().read();
  assert.equal(text(value ?? ""), "second");
});

test("a body is read up to its limit, and no further", async () => {
  for (const [length, limit, whole] of [
    [0, 4, true],
    [4, 4, true],
    [5, 4, false],
    [40, 4, false],
  ] as const) {
    const { stream, put, end } = feed();
    if (length > 0) put("x".repeat(length));
    if (whole) setTimeout(end, 1);
    const body = await readBody(stream, limit);
    assert.equal(body === undefined ? undefined : text(body), whole ? "x".repeat(length) : undefined);
  }
  assert.deepEqual(await readBody(null, 4), new Uint8Array(0));
});

test("a body of known length completes with its last octet", async () => {
  for (const length of [1, 5, 1023, 5000]) {
    const { stream, put } = feed();
    const reading = readBody(stream, 6000, length);
    const whole = Array.from({ length }, (_, i) => String(i % 10)).join("");
    for (let at = 0; at < length; at += 7) {
      put(whole.slice(at, at + 7));
      if (at % 700 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(text((await reading) ?? ""), whole);
  }
  assert.deepEqual(await readBody(feed().stream, 4, 0), new Uint8Array(0));
});

test("a body that ends early or exceeds the limit fails without a wait", async () => {
  const short = feed();
  short.put("abc");
  setTimeout(short.end, 1);
  assert.equal(text((await readBody(short.stream, 10, 5)) ?? ""), "abc");
  const long = feed();
  long.put("x".repeat(40));
  assert.equal(await readBody(long.stream, 4, 40), undefined);
});

test("a body asks before its buffer grows, and leaves the rest of the stream when it may not", async () => {
  for (const length of [undefined, 60_000]) {
    const { stream, put } = feed();
    put("x".repeat(3 * FIRST_READ));
    const asked: number[] = [];
    const mayGrow = (octets: number) => {
      asked.push(octets);
      return octets <= 2 * FIRST_READ;
    };
    assert.equal(await readBody(stream, 100_000, length, mayGrow), undefined);
    assert.deepEqual(asked, [FIRST_READ, 2 * FIRST_READ, 4 * FIRST_READ]);
    const { value } = await stream.getReader().read();
    assert.equal(value?.length, FIRST_READ);
  }
  assert.equal(await readBody(feed().stream, 100, undefined, () => false), undefined);
});

test("within times out, and passes errors on", async () => {
  assert.deepEqual(await within(1000, Promise.resolve(7)), { value: 7 });
  assert.equal(await within(1, new Promise(() => undefined)), undefined);
  await assert.rejects(within(1000, Promise.reject(new Error("gone"))), /gone/);
});
