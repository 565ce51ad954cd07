/** Live reads, with a stream whose doorbells the test rings, and a clock that it drives. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import {
  COME_BACK_TIME,
  EVENTS_TAKE_TIME,
  EVENTS_TIME,
  HEARTBEAT_INTERVAL,
  KEPT_OCTETS,
  LONG_POLL_TIME,
  READ_TIMEOUT,
} from "../../../src/edge/pumps/limits.ts";
import { longPoll, openEvents, type Readable, type Reader } from "../../../src/edge/pumps/live-reads.ts";
import type { Reason } from "../../../src/edge/reasons.ts";
import { BELL_CLOSE } from "../../../src/edge/rpc/doorbell-protocol.ts";
import {
  ORDER,
  packHeader,
  packRing,
  type ReadAnswer,
  type ReadOrder,
  STATE,
  unpackHeader,
} from "../../../src/edge/rpc/plain-stream-rpc.ts";

// As the platform's, as far as it is used here.
Object.assign(globalThis, { IdentityTransformStream: TransformStream });

/** The Worker's end of a doorbell. */
class Bell extends EventTarget {
  binaryType = "";
  closed: number | undefined;

  accept(): void {}

  close(code: number): void {
    this.closed = code;
  }

  ring(octets: Uint8Array<ArrayBuffer>): void {
    this.dispatchEvent(new MessageEvent("message", { data: octets.buffer }));
  }

  end(code: number, reason = ""): void {
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
  }
}

const encode = (text: string) => new TextEncoder().encode(text);

/** An offset: as those of streams, a greater one is the later text. */
const at = (length: number) => String(length).padStart(4, "0");

/** A stream of text. Offsets are its length. */
class Stream implements Readable {
  text = "";
  readonly bells: Bell[] = [];
  /** How often it was read. */
  reads = 0;
  /** What its answers wait for. */
  hangs: Promise<void> | undefined;

  async fetch(request: Request): Promise<Response> {
    await this.hangs;
    const { offset, live } = unpackHeader<ReadOrder>(request.headers.get(ORDER));
    this.reads += 1;
    const from = offset === "-1" ? 0 : Number(offset);
    const next = at(this.text.length);
    const isEmpty = from === this.text.length;
    const answer: ReadAnswer = {
      ok: true,
      state: { contentType: "text/plain", next, closed: false, upToDate: true, etag: "x" },
      isText: true,
      from: at(from),
      isEmpty,
      notModified: false,
      reset: false,
    };
    const headers = new Headers({ [STATE]: packHeader(answer) });
    const bell = new Bell();
    if (!(live && isEmpty)) {
      return Object.assign(new Response(isEmpty ? null : this.text.slice(from), { headers }), { webSocket: null });
    }
    this.bells.push(bell);
    return { headers, body: null, webSocket: bell } as unknown as Response;
  }

  append(text: string): void {
    const from = at(this.text.length);
    this.text += text;
    const head = { from, next: at(this.text.length), closed: false, whole: true };
    for (const bell of this.bells) if (bell.closed === undefined) bell.ring(packRing(head, encode(text)));
  }
}

interface Leaving extends Reader {
  refused: Reason | undefined;
  leave(): void;
}

function reader(): Leaving {
  const leaving = new AbortController();
  return {
    gone: leaving.signal,
    refused: undefined,
    async refusal() {
      return this.refused;
    },
    leave: () => leaving.abort(),
  };
}

/** Lets everything happen that waits for nothing. */
async function settle(): Promise<void> {
  for (let n = 0; n < 20; n += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets time pass, second by second. */
async function pass(milliseconds: number): Promise<void> {
  await settle();
  for (let left = milliseconds; left > 0; left -= 1000) {
    mock.timers.tick(Math.min(1000, left));
    await settle();
  }
}

/** What a promise has become so far. */
function state<T>(promise: Promise<T>): () => T | undefined {
  let now: T | undefined;
  void promise.then((value) => {
    now = value;
  });
  return () => now;
}

let random: { restore(): void };
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: Date.UTC(2026, 0, 1) });
  random = mock.method(Math, "random", () => 0.5).mock;
});
afterEach(() => {
  mock.timers.reset();
  random.restore();
});

describe("a long-poll", () => {
  it("is answered with what is appended, and is no longer waited for", async () => {
    const stream = new Stream();
    const polled = state(longPoll(stream, "-1", reader()));
    await pass(10_000);
    assert.equal(polled(), undefined);
    stream.append("abc");
    await settle();
    const answer = polled();
    assert.ok(answer?.type === "data" && answer.body instanceof Uint8Array);
    assert.deepEqual([answer.body, answer.state.next], [encode("abc"), at(3)]);
    assert.equal(stream.bells[0]?.closed, BELL_CLOSE.done);
  });

  it("ends without anything after 25 s", async () => {
    const stream = new Stream();
    const polled = state(longPoll(stream, "-1", reader()));
    await pass(LONG_POLL_TIME - 1000);
    assert.equal(polled(), undefined);
    await pass(1000);
    assert.equal(polled()?.type, "nothing");
    assert.equal(stream.bells[0]?.closed, BELL_CLOSE.done);
  });

  it("ends without anything when its doorbell is lost, each at a moment of its own", async () => {
    for (const share of [0.1, 0.9]) {
      random.restore();
      random = mock.method(Math, "random", () => share).mock;
      const stream = new Stream();
      const polled = state(longPoll(stream, "-1", reader()));
      await settle();
      stream.bells[0]?.end(1006);
      await pass(share * COME_BACK_TIME - 100);
      assert.equal(polled(), undefined);
      await pass(200);
      assert.equal(polled()?.type, "nothing");
    }
  });

  it("is refused when its stream is deleted, and when its reader may no longer read", async () => {
    const stream = new Stream();
    const deleted = state(longPoll(stream, "-1", reader()));
    await settle();
    stream.bells[0]?.end(BELL_CLOSE.refused, "StreamNotFound");
    const revoked = reader();
    const polled = state(longPoll(stream, "-1", revoked));
    await settle();
    revoked.refused = "TokenRevoked";
    stream.append("a secret");
    await settle();
    const reasons = [deleted(), polled()].map((one) => one?.type === "refused" && one.answer.reason);
    assert.deepEqual(reasons, ["StreamNotFound", "TokenRevoked"]);
  });

  it("is refused by name if the object does not answer, and gives back the doorbell of a late answer", async () => {
    const stream = new Stream();
    const answering = Promise.withResolvers<void>();
    stream.hangs = answering.promise;
    const polled = state(longPoll(stream, "-1", reader()));
    await pass(READ_TIMEOUT - 1000);
    assert.equal(polled(), undefined);
    await pass(1000);
    const refused = polled();
    assert.equal(refused?.type === "refused" && refused.answer.reason, "InternalError");
    answering.resolve();
    await settle();
    assert.equal(stream.bells[0]?.closed, BELL_CLOSE.done);
  });

  it("gives its doorbell back when its reader has gone", async () => {
    const stream = new Stream();
    const leaving = reader();
    const polled = state(longPoll(stream, "-1", leaving));
    await settle();
    leaving.leave();
    await settle();
    assert.equal(stream.bells[0]?.closed, BELL_CLOSE.deviceGone);
    assert.equal(polled()?.type, "nothing");
  });
});

describe("events", () => {
  /** Opens events, and collects what is sent. */
  async function opened(stream: Stream, by: Reader = reader()) {
    const events = await openEvents(stream, { offset: "-1", resumes: false, cursor: undefined }, by);
    assert.ok(events.type === "events");
    const got = { text: "", ended: false };
    void (async () => {
      const decoder = new TextDecoder();
      for await (const piece of events.body) got.text += decoder.decode(piece);
      got.ended = true;
    })().catch(() => undefined);
    await settle();
    return got;
  }

  const beats = (text: string) => text.split("event: heartbeat\n").length - 1;

  it("have a heartbeat after each 15 s of silence", async () => {
    const stream = new Stream();
    const got = await opened(stream);
    for (const [seconds, count] of [
      [14, 0],
      [1, 1],
      [14, 1],
      [1, 2],
    ] as const) {
      await pass(seconds * 1000);
      assert.equal(beats(got.text), count);
    }
    await pass(HEARTBEAT_INTERVAL / 2);
    stream.append("abc");
    await pass(HEARTBEAT_INTERVAL - 1000);
    assert.equal(beats(got.text), 2, "what is appended is no silence");
    assert.match(got.text, /event: data\nid: 0003\ndata:abc\n/);
  });

  it("end after 55 s, before proxies cut them", async () => {
    const stream = new Stream();
    const got = await opened(stream);
    await pass(EVENTS_TIME - 1000);
    assert.equal(got.ended, false);
    await pass(2000);
    assert.equal(got.ended, true);
    assert.equal(stream.bells[0]?.closed, BELL_CLOSE.done);
  });

  it("end after 55 s also while there is more to send, after something whole", async () => {
    const stream = new Stream();
    const events = await openEvents(stream, { offset: "-1", resumes: false, cursor: undefined }, reader());
    assert.ok(events.type === "events");
    let [text, ended, goOn] = ["", false, Promise.resolve()];
    void (async () => {
      for await (const piece of events.body) {
        text += new TextDecoder().decode(piece);
        await goOn;
      }
      ended = true;
    })();
    await pass(EVENTS_TIME - 5000);
    const hold = Promise.withResolvers<void>();
    goOn = hold.promise;
    for (let n = 0; n < 5; n += 1) stream.append(".");
    await pass(6000);
    hold.resolve();
    await settle();
    assert.equal(ended, true);
    const sent = text.split("event: data\n").length - 1;
    assert.ok(sent < 5, String(sent));
    // The rest is for the next connection.
    assert.match(text, new RegExp(`"streamNextOffset":"${at(sent)}"[^\n]*\n\n$`));
  });

  it("end when their doorbell is lost, and say after what time to come back", async () => {
    for (const share of [0, 1]) {
      random.restore();
      random = mock.method(Math, "random", () => share).mock;
      const stream = new Stream();
      const got = await opened(stream);
      stream.bells[0]?.end(1006);
      await settle();
      assert.equal(got.ended, true);
      assert.match(got.text, new RegExp(`retry: ${500 + share * COME_BACK_TIME}\n\n$`));
    }
  });

  it("end when their reader may no longer read, with nothing of what was appended since", async () => {
    const stream = new Stream();
    const revoked = reader();
    const got = await opened(stream, revoked);
    stream.append("before");
    await settle();
    revoked.refused = "TokenRevoked";
    stream.append("a secret");
    await settle();
    assert.equal(got.ended, true);
    assert.match(got.text, /data:before/);
    assert.doesNotMatch(got.text, /secret/);
  });

  it("end if the object no longer answers, so that their reader comes again", async () => {
    const stream = new Stream();
    stream.text = "before";
    stream.hangs = Promise.resolve();
    const opening = opened(stream);
    stream.hangs = new Promise(() => undefined);
    const got = await opening;
    assert.match(got.text, /data:before/);
    await pass(READ_TIMEOUT);
    assert.equal(got.ended, true);
  });

  it("are not kept alive for a reader who may no longer read, though nothing is appended", async () => {
    const stream = new Stream();
    const revoked = reader();
    const got = await opened(stream, revoked);
    revoked.refused = "TokenRevoked";
    await pass(HEARTBEAT_INTERVAL);
    assert.deepEqual([got.ended, beats(got.text)], [true, 0]);
  });

  it("are read anew by a reader that was too slow for all rings, without loss", async () => {
    const stream = new Stream();
    const got = await opened(stream);
    const before = stream.reads;
    for (let n = 0; n < 70; n += 1) stream.append(".".repeat(KEPT_OCTETS / 64));
    for (let n = 0; n < 20; n += 1) await settle();
    const data = [...got.text.matchAll(/^data:(\.+)$/gm)].map(([, dots]) => dots).join("");
    assert.equal(data, stream.text);
    assert.equal(stream.reads, before + 2, "what was missed, and then the tail");
  });

  it("end when nobody takes them, and hold nothing", async () => {
    const stream = new Stream();
    const events = await openEvents(stream, { offset: "-1", resumes: false, cursor: undefined }, reader());
    assert.ok(events.type === "events");
    await settle();
    stream.append("abc");
    await pass(EVENTS_TAKE_TIME - 1000);
    assert.equal(stream.bells[0]?.closed, undefined);
    await pass(EVENTS_TAKE_TIME / 2 + 1000);
    assert.equal(stream.bells[0]?.closed, BELL_CLOSE.done);
    await events.done;
  });
});
