import assert from "node:assert/strict";
import { test } from "node:test";
import {
  arriveGet,
  arrivePost,
  BodyReader,
  type ClientOutput,
  type EncapsulationClient,
  EncapsulationError,
  endPost,
  formatPoll,
  formatRequest,
  formatTarget,
  KeepAliveClient,
  LongLivedClient,
  openPolling,
  openVirtualConnection,
  PollingClient,
  parsePoll,
  parsePollResponse,
  parseRelay,
  parseTarget,
  REASONS,
  ResponseHeadReader,
  ResponseReader,
  receive,
  receivePoll,
  sendDown,
} from "../../src/encapsulation/index.ts";
import { formatResponse, RequestReader } from "./raw-server.ts";
import { DATE, GUID, join, octets, randomFrom, randomOctets, target, text } from "./support.ts";

const INPUTS = 100_000;
const PARSERS = 7;

/** A random input: noise, or a valid one with octets changed, removed, repeated or truncated. */
function mutate(samples: readonly Uint8Array[], random: () => number): Uint8Array {
  const below = (most: number) => Math.floor(random() * most);
  if (random() < 0.15) return randomOctets(below(200), random);
  let input: Uint8Array = (samples[below(samples.length)] ?? new Uint8Array(0)).slice();
  for (let count = below(4); count > 0; count--) {
    const at = below(input.length + 1);
    const to = Math.min(input.length, at + below(20));
    const kind = below(4);
    if (kind === 0 && at < input.length) input[at] = below(256);
    else if (kind === 1) input = join([input.subarray(0, at), input.subarray(to)]);
    else if (kind === 2) input = join([input.subarray(0, to), input.subarray(at)]);
    else input = input.slice(0, at);
  }
  return input;
}

function fuzz(seed: number, samples: readonly Uint8Array[], take: (input: Uint8Array, random: () => number) => void) {
  const random = randomFrom(seed);
  for (let count = 0; count < INPUTS / PARSERS; count++) {
    const input = mutate(samples, random);
    try {
      take(input, random);
    } catch (error) {
      throw new Error(`input ${JSON.stringify(text(input))}`, { cause: error });
    }
  }
}

const TARGETS = [
  `/2.0/server.domain.net/${GUID},ConnType=LongLived,ContentLength=2147479552, ID=abc`,
  `http://server.domain.net:80/2.0/[::1]:2492/${GUID},ConnType=KeepAlive,ID=x%41`,
  `/2.0/a/${GUID},ConnType=WebSocket`,
].map(octets);

const RESPONSES = [
  join([formatResponse({ status: 200, now: DATE, contentLength: 22 }), octets("GroovePing: 1.0,Ping\r\n")]),
  octets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n16\r\nGroovePing: 1.0,Ping\r\n\r\n0\r\n\r\n"),
  octets("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nContent-Length: 1\r\n\r\nx"),
];

const parameters = { minimum: 1, maximum: 2, repetitions: 3 };
const POLLS = [
  formatPoll({ relay: "a", guid: GUID, sequence: 0, data: [] }),
  formatPoll({ relay: "a", guid: GUID, sequence: 0, data: [octets("data")] }),
  formatPoll({ relay: "a", guid: GUID, sequence: 0, data: [octets("data")], parameters }),
  formatPoll({ relay: "a", guid: GUID, sequence: 1, data: [], parameters }),
];

test("targets: an accepted target survives formatting and parsing", () => {
  fuzz(1, TARGETS, (input) => {
    const parsed = parseTarget(text(input));
    parseRelay(text(input));
    if (parsed.type === "refuse") assert.ok(parsed.reason in REASONS && parsed.scope === "request");
    else assert.deepEqual(parseTarget(formatTarget(parsed.target)), parsed);
  });
});

test("response heads and whole responses parse the same whole and octet by octet", () => {
  fuzz(3, RESPONSES, (input) => {
    const whole = new ResponseHeadReader().feed(input);
    const heads = new ResponseHeadReader();
    let last: typeof whole = { type: "more" };
    for (let at = 0; at < input.length && last.type === "more"; at++) last = heads.feed(input.subarray(at, at + 1));
    assert.equal(last.type, whole.type);
    if (whole.type === "head" && last.type === "head") assert.deepEqual(last.head, whole.head);
    if (whole.type === "fault") assert.ok(whole.reason in REASONS);
    const reader = new ResponseReader();
    reader.expect();
    let out = 0;
    for (const event of reader.feed(input)) if (event.type === "data") out += event.data.length;
    reader.ended();
    assert.ok(out <= input.length);
  });
});

test("chunked bodies: no more comes out than went in", () => {
  const samples = [octets("5\r\nhello\r\n0\r\n\r\n"), octets("A;x=y\r\n0123456789\r\n000\r\nTrailer: x\r\n\r\nrest")];
  fuzz(4, samples, (input) => {
    const read = new BodyReader({ type: "chunked" }).read(input);
    if (read.type === "fault") return;
    const out = read.data.reduce((sum, part) => sum + part.length, read.rest.length);
    assert.ok(out <= input.length);
  });
});

test("Polling messages and the Polling server never throw", () => {
  fuzz(5, POLLS, (input) => {
    parsePollResponse(input);
    const parsed = parsePoll(input);
    if (parsed.type === "refuse") return assert.ok(parsed.reason in REASONS);
    const state = openPolling(parsed.poll, 0);
    const received = receivePoll(state, parsed.poll, 0);
    assert.ok(received.type === "probe" || received.type === "refuse");
  });
});

test("the server's ends take events in any order, and stay closed once closed", () => {
  const long = target(`/2.0/a/${GUID},ConnType=LongLived,ContentLength=60`, "LongLived");
  const keep = target(`/2.0/a/${GUID},ConnType=KeepAlive`, "KeepAlive");
  const samples = [octets("GroovePing: 1.0,Ping\r\n"), octets("GroovePing: 1.0,Ping\r\ndata")];
  fuzz(6, samples, (input, random) => {
    const at = random() < 0.5 ? long : keep;
    const state = openVirtualConnection(at, 0);
    for (let count = 0; count < 12; count++) {
      const closed = state.connectionState === "Closed";
      const kind = Math.floor(random() * 6);
      if (kind === 0) arriveGet(state, at, count);
      else if (kind === 1) arrivePost(state, at, count);
      else if (kind === 2 && random() < 0.5) endPost(state, count);
      else if (kind === 3) sendDown(state, Math.floor(random() * 50), count);
      else receive(state, input, count);
      if (closed) assert.equal(state.connectionState, "Closed");
      assert.ok(state.getContentLength <= state.connectionContentLength);
    }
  });
});

test("the clients take any octets, and do nothing once they are lost", () => {
  const options = { serverHost: "a", guid: GUID, authorize: () => ({ headers: [] }) };
  const polls = [...POLLS, ...POLLS].map((body) =>
    join([formatResponse({ status: 200, now: DATE, contentLength: body.length, connection: "close" }), body]),
  );
  const samples = [...RESPONSES, ...polls];
  fuzz(7, samples, (input, random) => {
    const kinds = [LongLivedClient, KeepAliveClient, PollingClient];
    const kind = kinds[Math.floor(random() * 3)] ?? PollingClient;
    const client: EncapsulationClient = new kind(options);
    let outputs: ClientOutput[] = client.start(0);
    for (let count = 1; count < 6; count++) {
      const session = kind !== PollingClient && random() < 0.6 ? "get" : "post";
      const wasLost = outputs.some((output) => output.type === "lost");
      const what = Math.floor(random() * 6);
      if (what === 0) outputs = client.ended(session, count);
      else if (what === 1) outputs = client.send(input, count);
      else if (what === 2) outputs = client.expire(client.deadline);
      else outputs = client.feed(session, input, count);
      if (wasLost) {
        assert.deepEqual(outputs, []);
        return;
      }
      for (const output of outputs) if (output.type === "lost") assert.ok(output.reason in REASONS);
    }
  });
});

test("formatters throw only EncapsulationError, and their output can be parsed", () => {
  fuzz(8, [...TARGETS, octets("Basic abc")], (input) => {
    const value = text(input);
    try {
      const made = formatRequest({ method: "GET", encapsulation: "KeepAlive", target: "/", host: value });
      assert.equal(new RequestReader().feed(made)?.rest.length, 0);
      formatTarget({ encapsulation: "KeepAlive", relay: value, guid: value });
    } catch (error) {
      assert.ok(error instanceof EncapsulationError);
    }
  });
});
