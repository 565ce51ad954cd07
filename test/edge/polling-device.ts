/** A device that speaks Polling: each exchange on its own TCP connection [MS-GRVHENC 3.5]. */
import assert from "node:assert/strict";
import { checksumOf, formatPoll, parsePollResponse } from "../../src/encapsulation/index.ts";
import { excerpt, type RawSocket } from "../support/sockets.ts";
import { assertRefused, newGuid, type TestEdge, type TestRelay } from "./support.ts";

export class PollingDevice {
  readonly guid: string;
  readonly relay: string;
  /** Sequence number of the next request. Both handshake requests have 0 [MS-GRVHENC 3.5.4.1.1]. */
  sequence = 0;
  #handshaken = 0;
  readonly #edge: TestEdge;

  constructor(edge: TestEdge, relay: TestRelay | string, guid = newGuid()) {
    this.#edge = edge;
    this.relay = typeof relay === "string" ? relay : relay.name;
    this.guid = guid;
  }

  /** The body of a request. */
  body(data: string | Uint8Array, sequence = this.sequence): Buffer {
    const { relay, guid } = this;
    return Buffer.from(formatPoll({ relay, guid, sequence, data: [Buffer.from(data)] }));
  }

  /** The body of the next request; increments the sequence number. */
  next(data: string | Uint8Array): Buffer {
    const body = this.body(data);
    this.#handshaken += 1;
    if (this.#handshaken > 1) this.sequence += 1;
    return body;
  }

  /** Sends a request on its own connection. */
  async send(body: Uint8Array, length = body.length): Promise<RawSocket> {
    const socket = await this.#edge.open();
    const head = [
      "POST / HTTP/1.0",
      "Accept: */*",
      "Content-Type: application/octet-stream",
      "User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Win32)",
      `Content-Length: ${length}`,
      "Pragma: no-cache",
      "Expires: 0",
      "Host: server.domain.net",
      "Cache-Control: no-cache",
      "Cache-Control: max-age=0",
      "\r\n",
    ].join("\r\n");
    socket.write(Buffer.concat([Buffer.from(head), body]));
    return socket;
  }

  /** Parses the answer to a request: its sequence number, its application data, and the whole body. */
  async answer(socket: RawSocket): Promise<{ sequence: number; data: string; body: Buffer }> {
    const { status, body } = await socket.response();
    assert.equal(status, "HTTP/1.0 200 OK", excerpt(body));
    socket.reset();
    const parsed = parsePollResponse(body);
    assert(parsed.type === "poll", excerpt(body));
    const { poll } = parsed;
    assert.deepEqual([poll.relay, poll.guid], [this.relay, this.guid]);
    assert.equal(poll.checksum, checksumOf([poll.data]));
    return { sequence: poll.sequence, data: Buffer.from(poll.data).toString("latin1"), body };
  }

  /** The next exchange: the sequence number and the application data of its answer. */
  async exchange(data: string | Uint8Array): Promise<[number, string]> {
    const answer = await this.answer(await this.send(this.next(data)));
    return [answer.sequence, answer.data];
  }

  /** The handshake: the relay receives "hello" and sends "world". */
  async establish(relay: TestRelay): Promise<RawSocket> {
    assert.deepEqual(await this.exchange(""), [0, ""]);
    // The last answer of the handshake waits for the relay's first octets [MS-GRVHENC 3.5.5.1.1.1].
    const last = this.exchange("hello");
    const origin = await relay.next();
    assert.equal((await origin.take(5)).toString(), "hello");
    origin.write("world");
    assert.deepEqual(await last, [0, "world"]);
    return origin;
  }

  async assertRefused(body: Uint8Array, pair: string, reason: string, length?: number): Promise<void> {
    const socket = await this.send(body, length);
    await assertRefused(socket, pair, reason);
    socket.reset();
  }
}
