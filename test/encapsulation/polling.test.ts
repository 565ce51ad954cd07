import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type ClientOutput,
  checksumOf,
  EncapsulationError,
  expirePolling,
  formatPoll,
  MAX_BODY,
  openPolling,
  type Poll,
  PollingClient,
  type PollingConnection,
  parsePoll,
  parsePollResponse,
  pollingDeadline,
  pollRoom,
  receivePoll,
  respond,
  respondRoom,
} from "../../src/encapsulation/index.ts";
import { formatRefusal, formatResponse } from "./raw-server.ts";
import { DATE, GUID, join, octets, randomFrom, randomOctets, text } from "./support.ts";

const RELAY = "server.domain.net";
const PARAMETERS = { minimum: 2, maximum: 8, repetitions: 2 };
const OPTIONS = { serverHost: RELAY, guid: GUID, userAgent: "Grooveway" };

/** Three poll parameters as encoded. */
function three(minimum: number, maximum: number, repetitions: number | string): string {
  return `${minimum}\0${maximum}\0${repetitions}\0`;
}

/** The algorithm as the specification states it, octet by octet. */
function naiveChecksum(data: Uint8Array): string {
  let sum = 0n;
  data.forEach((octet, index) => {
    const signed = octet > 127 ? octet - 256 : octet;
    sum += (BigInt(signed) + 1n) * (BigInt(index) + 1n);
  });
  return BigInt.asUintN(64, sum).toString();
}

function message(sequence: number, data = "", parameters = ""): Uint8Array {
  const checksum = checksumOf([octets(data)]);
  return octets(`1.2\0grooveDNS://${RELAY}\0${GUID}\0${sequence}\0${checksum}\0${parameters}${data}`);
}

function poll(body: Uint8Array): Poll {
  const parsed = parsePoll(body);
  if (parsed.type !== "poll") throw new Error(parsed.reason);
  return parsed.poll;
}

function is(outcome: { type: string; reason?: string; scope?: string }, expected: string): void {
  assert.equal(outcome.type === "refuse" ? `${outcome.reason} ${outcome.scope}` : outcome.type, expected);
}

function bodyOf(state: PollingConnection, data: string): Uint8Array {
  const made = respond(state, data === "" ? [] : [octets(data)], PARAMETERS, 0);
  assert.equal(made.type, "body");
  return made.type === "body" ? made.body : new Uint8Array(0);
}

function establishedServer(): PollingConnection {
  const probe = poll(message(0));
  const state = openPolling(probe, 0);
  is(receivePoll(state, probe, 0), "probe");
  bodyOf(state, "");
  is(receivePoll(state, poll(message(0, "up")), 0), "data");
  bodyOf(state, "down");
  return state;
}

test("[2.2.4.1.3.1] golden octets of the first handshake request", () => {
  const made = formatPoll({ relay: RELAY, guid: GUID, sequence: 0, data: [] });
  assert.equal(text(made), `1.2\0grooveDNS://server.domain.net\0${GUID}\0${"0"}\0${"0"}\0`);
  const parsed = poll(made);
  assert.deepEqual([parsed.relay, parsed.guid, parsed.sequence, parsed.checksum], [RELAY, GUID, 0, "0"]);
  assert.equal(parsed.data.length, 0);
});

test("[2.2.4.1.3.1.3] the checksum matches its test vectors", () => {
  const rows: [number[], string][] = [
    [[], "0"],
    [[0], "1"],
    [[0, 0, 0], "6"],
    [[65, 66], "200"],
    [[255], "0"],
    [[127], "128"],
    [[128], "18446744073709551489"],
    [[1, 254, 3], "12"],
  ];
  for (const [data, expected] of rows) assert.equal(checksumOf([Uint8Array.from(data)]), expected, String(data));
  // 32768 octets of -128 exceed 32 bits: -127 * 32768 * 32769 / 2
  assert.equal(checksumOf([new Uint8Array(32768).fill(128)]), (2n ** 64n - 127n * 16384n * 32769n).toString());
});

test("[2.2.4.1.3.1.3] the checksum equals that of the naive 64-bit sum, however the data is split", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }), (pieces) => {
      assert.equal(checksumOf(pieces), naiveChecksum(join(pieces)));
    }),
    { numRuns: 300 },
  );
  const random = randomFrom(7);
  for (const length of [4095, 4096, 4097, 32767, 32768, 65536, 65537, 150_000]) {
    const data = randomOctets(length, random);
    assert.equal(checksumOf([data]), naiveChecksum(data));
    assert.equal(checksumOf([data.fill(128)]), naiveChecksum(data));
    assert.equal(checksumOf([data.fill(127)]), naiveChecksum(data));
  }
});

test("[2.2.4.1.3, 2.2.4.1.2] messages with data and poll parameters parse to views", () => {
  const data = randomOctets(1000, randomFrom(1));
  const made = formatPoll({ relay: RELAY, guid: GUID, sequence: 41, data: [data], parameters: PARAMETERS });
  const parsed = parsePollResponse(made);
  assert.ok(parsed.type === "poll");
  if (parsed.type !== "poll") return;
  assert.deepEqual(parsed.parameters, PARAMETERS);
  assert.deepEqual(parsed.poll.data, data);
  assert.equal(parsed.poll.data.buffer, made.buffer);
  assert.equal(parsed.poll.sequence, 41);
  assert.ok(
    text(made).startsWith(
      `1.2\0grooveDNS://server.domain.net\0${GUID}\0${41}\0${checksumOf([data])}\0${2}\0${8}\0${2}\0`,
    ),
  );
});

test("[3.5.4.3.1] a body MUST NOT exceed 32768 octets, and what pollRoom allows fits", () => {
  for (const fill of [0, 127, 128]) {
    const most = pollRoom(RELAY, GUID, 9, PARAMETERS);
    const data = new Uint8Array(most).fill(fill);
    const made = formatPoll({ relay: RELAY, guid: GUID, sequence: 9, data: [data], parameters: PARAMETERS });
    assert.ok(made.length <= MAX_BODY && made.length >= MAX_BODY - 20);
  }
  const tooLong = { relay: RELAY, guid: GUID, sequence: 0, data: [new Uint8Array(MAX_BODY)] };
  assert.throws(() => formatPoll(tooLong), EncapsulationError);
  is(parsePoll(new Uint8Array(MAX_BODY + 1)), "BodyTooLong request");
  assert.throws(() => formatPoll({ ...tooLong, relay: "a b", data: [] }), EncapsulationError);
  assert.throws(() => formatPoll({ ...tooLong, guid: "x", data: [] }), EncapsulationError);
  const fraction = { minimum: 0.5, maximum: 1, repetitions: 1 };
  assert.throws(() => formatPoll({ ...tooLong, data: [], parameters: fraction }), EncapsulationError);
});

test("[3.6.5] malformed messages are rejected", () => {
  const good = ["1.2", `grooveDNS://${RELAY}`, GUID, "0", "0"];
  const changed = (index: number, value: string) => `${good.with(index, value).join("\0")}\0`;
  is(parsePoll(octets(changed(1, "groovedns://SERVER"))), "poll");
  for (const [body, expected] of [
    ["", "MalformedPoll"],
    [good.join("\0"), "MalformedPoll"],
    [changed(0, "1.1"), "WrongVersion"],
    [changed(0, "x"), "MalformedPoll"],
    [changed(1, RELAY), "MalformedPoll"],
    [changed(1, "grooveDNS://"), "MalformedPoll"],
    [changed(1, `grooveDNS://${"a".repeat(400)}`), "MalformedPoll"],
    [changed(2, "short"), "MalformedPoll"],
    [changed(3, "-1"), "MalformedPoll"],
    [changed(3, "00"), "MalformedPoll"],
    [changed(3, ""), "MalformedPoll"],
    [changed(3, "9007199254740992"), "MalformedPoll"],
    [changed(4, "-1"), "MalformedPoll"],
    [changed(4, "1".repeat(21)), "MalformedPoll"],
  ] as const) {
    is(parsePoll(octets(body)), `${expected} request`);
  }
  is(parsePollResponse(message(0)), "MalformedPoll request");
  is(parsePollResponse(message(0, "", three(1, 2, "three"))), "MalformedPoll request");
  const huge = parsePollResponse(message(0, "", three(99999999, 99999999, 99999999)));
  assert.deepEqual("parameters" in huge && huge.parameters, {
    minimum: 86_400,
    maximum: 86_400,
    repetitions: 1_000_000,
  });
});

test("[3.6.5.1] first request: sequence 0, checksum 0, no data; answered with sequence 0 and no data", () => {
  const probe = poll(message(0));
  const state = openPolling(probe, 0);
  is(receivePoll(state, probe, 0), "probe");
  assert.equal(state.postSessionState, "Probed");
  assert.equal(respondRoom(state, PARAMETERS), 0);
  assert.throws(() => respond(state, [octets("x")], PARAMETERS, 0), EncapsulationError);
  assert.equal(text(bodyOf(state, "")), text(message(0, "", three(2, 8, 2))));

  for (const [body, expected] of [
    [message(1), "UnknownConnection connection"],
    [message(0, "data"), "UnknownConnection connection"],
    [octets(`1.2\0grooveDNS://${RELAY}\0${GUID}\0${0}\0${5}\0`), "BadChecksum connection"],
  ] as const) {
    is(receivePoll(openPolling(poll(body), 0), poll(body), 0), expected);
  }
});

test("[3.6.5.2] last handshake request: sequence 0, data, checksum; its answer MUST carry data", () => {
  const probed = () => {
    const probe = poll(message(0));
    const state = openPolling(probe, 0);
    receivePoll(state, probe, 0);
    bodyOf(state, "");
    return state;
  };
  const state = probed();
  const received = receivePoll(state, poll(message(0, "Connect")), 0);
  assert.ok(received.type === "data" && received.handshake && text(received.data) === "Connect");
  assert.deepEqual([state.postSessionState, state.connectionState], ["Established", "Established"]);
  is(respond(state, [], PARAMETERS, 0), "hold");
  assert.equal(pollingDeadline(state), 30_000);
  assert.equal(text(bodyOf(state, "Response")), text(message(0, "Response", three(2, 8, 2))));
  assert.equal(pollingDeadline(state), 60_000);

  is(receivePoll(probed(), poll(message(1, "x")), 0), "BadSequence connection");
  is(receivePoll(probed(), poll(octets(`${text(message(0, "x"))}y`)), 0), "BadChecksum connection");
  const empty = poll(octets(`1.2\0grooveDNS://${RELAY}\0${GUID}\0${0}\0${5}\0`));
  is(receivePoll(probed(), empty, 0), "BadSequence connection");
});

test("[3.6.5.3] later requests and answers count from 1; an empty request is a poll", () => {
  const state = establishedServer();
  const first = receivePoll(state, poll(message(1)), 0);
  assert.ok(first.type === "data" && first.data.length === 0 && !first.handshake);
  assert.equal(text(bodyOf(state, "")), text(message(1, "", three(2, 8, 2))));
  is(receivePoll(state, poll(message(2, "more")), 0), "data");
  assert.equal(text(bodyOf(state, "back")), text(message(2, "back", three(2, 8, 2))));
  is(receivePoll(structuredClone(state), poll(message(4)), 0), "BadSequence connection");
  is(receivePoll(structuredClone(state), poll(message(1)), 0), "BadSequence connection");
  is(receivePoll(structuredClone(state), poll(octets(`${text(message(3))}x`)), 0), "BadChecksum connection");
  const closed = structuredClone(state);
  receivePoll(closed, poll(message(9)), 0);
  assert.equal(closed.closed, "BadSequence");
  is(receivePoll(closed, poll(message(3)), 0), "ConnectionClosed request");
  is(respond(closed, [], PARAMETERS, 0), "ConnectionClosed request");
});

test("a repeated request gets the same octets, and its data is passed up once", () => {
  const probe = poll(message(0));
  const state = openPolling(probe, 0);
  receivePoll(state, probe, 0);
  const first = bodyOf(state, "");
  assert.deepEqual(receivePoll(state, poll(message(0)), 0), { type: "repeat", body: first });
  receivePoll(state, poll(message(0, "up")), 0);
  // Its answer is still pending: the new request replaces the older one.
  is(receivePoll(state, poll(message(0, "up")), 0), "supersede");
  const second = bodyOf(state, "down");
  assert.deepEqual(receivePoll(state, poll(message(0, "up")), 0), { type: "repeat", body: second });
  receivePoll(state, poll(message(1, "x")), 0);
  const third = bodyOf(state, "y");
  assert.deepEqual(receivePoll(state, poll(message(1, "x")), 0), { type: "repeat", body: third });
  // The same number with other octets is not a repetition.
  is(receivePoll(structuredClone(state), poll(message(1, "z")), 0), "BadSequence connection");
  receivePoll(state, poll(message(2)), 0);
  is(receivePoll(state, poll(message(3)), 0), "SecondPost connection");
});

test("a GUID with another relay: only the new request is refused", () => {
  const state = establishedServer();
  const other = { ...poll(message(1)), relay: "other" };
  is(receivePoll(state, other, 0), "DuplicateConnection request");
  assert.equal(state.connectionState, "Established");
});

test("the server runs its timers", () => {
  const probe = poll(message(0));
  const state = openPolling(probe, 0);
  assert.equal(pollingDeadline(state), 30_000);
  is(expirePolling(state, 29_999), "none");
  is(expirePolling(state, 30_000), "EstablishmentTimeout connection");
  const established = establishedServer();
  receivePoll(established, poll(message(1)), 50_000);
  is(expirePolling(established, 60_000), "none");
  is(expirePolling(established, 110_000), "ReceiveTimeout connection");
  assert.equal(pollingDeadline(established), Number.POSITIVE_INFINITY);
});

// The client

function lines(outputs: readonly ClientOutput[]): string[] {
  return outputs.map((output) => {
    if (output.type === "write") return `write ${text(output.octets)}`;
    if (output.type === "data") return `data ${text(output.data)}`;
    return output.type === "lost" ? `lost ${output.reason}` : output.type;
  });
}

function request(body: Uint8Array, target = "/"): string {
  return [
    `write POST ${target} HTTP/1.0`,
    "Accept: */*",
    "Content-Type: application/octet-stream",
    "User-Agent: Grooveway",
    "Host: server.domain.net",
    `Content-Length: ${body.length}`,
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "Expires: 0",
    "Cache-Control: max-age=0",
    "",
    text(body),
  ].join("\r\n");
}

function response(sequence: number, data = "", parameters = three(2, 8, 2)): Uint8Array {
  const body = message(sequence, data, parameters);
  return join([formatResponse({ status: 200, now: DATE, contentLength: body.length, connection: "close" }), body]);
}

function establishedClient(): PollingClient {
  const client = new PollingClient(OPTIONS);
  client.start(0);
  client.send(octets("Connect"), 0);
  client.feed("post", response(0), 0);
  assert.ok(lines(client.feed("post", response(0, "Response"), 0)).includes("established"));
  client.feed("post", response(1), 0);
  return client;
}

test("[3.5.4.1.1, 3.5.5.1.1.1, 3.5.4.3.1] golden octets of the client: two exchanges of sequence 0, then 1, 2", () => {
  const client = new PollingClient(OPTIONS);
  assert.deepEqual(lines(client.start(0)), ["open", request(message(0))]);
  assert.equal(client.postSessionState, "Probing");
  assert.deepEqual(lines(client.feed("post", response(0), 0)), ["close", "probed"]);
  assert.equal(client.postSessionState, "Probed");
  assert.deepEqual(lines(client.send(octets("Connect"), 0)), ["open", request(message(0, "Connect"))]);
  assert.equal(client.postSessionState, "Connecting");
  // Data: the next poll is sent at once
  assert.deepEqual(lines(client.feed("post", response(0, "Response"), 0)), [
    "close",
    "established",
    "data Response",
    "open",
    request(message(1)),
  ]);
  assert.deepEqual(client.send(octets("queued"), 0), []);
  assert.equal(client.pending, 6);
  assert.deepEqual(lines(client.feed("post", response(1), 0)), ["close", "open", request(message(2, "queued"))]);
  assert.deepEqual(lines(client.close()), ["close"]);
  assert.deepEqual(client.send(octets("x"), 0), []);
});

test("[3.5.4.1.2] the target is absolute through a proxy", () => {
  const client = new PollingClient({ ...OPTIONS, proxy: true });
  assert.deepEqual(lines(client.start(0))[1], request(message(0), "http://server.domain.net/"));
});

test("[3.5.2.3] the Poll timer repeats at one interval, then doubles up to the maximum", () => {
  const client = establishedClient();
  let now = 0;
  const pauses: number[] = [];
  for (let sequence = 2; sequence < 10; sequence++) {
    pauses.push((client.deadline - now) / 1000);
    now = client.deadline;
    assert.deepEqual(client.expire(now - 1), []);
    assert.deepEqual(lines(client.expire(now)), ["open", request(message(sequence))]);
    assert.equal(client.deadline, now + 60_000);
    assert.deepEqual(lines(client.feed("post", response(sequence), now)), ["close"]);
  }
  assert.deepEqual(pauses, [2, 2, 4, 4, 8, 8, 8, 8]);
  // Sending restarts it.
  client.send(octets("x"), now);
  client.feed("post", response(10), now);
  assert.equal(client.deadline, now + 2000);
  // New parameters apply from the next response on; no interval is shorter than 100 ms.
  client.expire(client.deadline);
  client.feed("post", response(11, "", three(30, 60, 1)), 0);
  assert.equal(client.deadline, 30_000);
  client.expire(30_000);
  client.feed("post", response(12, "d", three(0, 0, 0)), 30_000);
  client.feed("post", response(13, "", three(0, 0, 0)), 30_000);
  assert.equal(client.deadline, 30_100);
});

test("[3.5.5.1.1.1, 3.5.5.1.1.2] responses that do not match close the virtual connection", () => {
  for (const [input, expected] of [
    [response(1), "BadSequence"],
    [response(3), "BadSequence"],
    [octets(text(response(2, "data")).replace("data", "dada")), "BadChecksum"],
    [octets(text(response(2)).replace("grooveDNS://server", "grooveDNS://serwer")), "WrongRelay"],
    [octets(text(response(2)).replace("kicxp8", "kicxp9")), "UnknownConnection"],
    [octets(text(response(2)).replace("1.2\0", "1.3\0")), "WrongVersion"],
    [octets("HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\n<html>"), "MalformedPoll"],
    [octets("not http\r\n\r\n"), "MalformedHead"],
    [octets(`HTTP/1.0 200 OK\r\nContent-Length: 99999\r\n\r\n${"x".repeat(40000)}`), "BodyTooLong"],
    [formatRefusal("BadSequence", DATE), "UnexpectedStatus"],
    [octets("HTTP/1.0 407 x\r\n\r\n"), "AuthenticationRequired"],
  ] as const) {
    const client = establishedClient();
    client.send(octets("x"), 0);
    assert.equal(lines(client.feed("post", input, 0)).at(-1), `lost ${expected}`, expected);
  }
  const probing = new PollingClient(OPTIONS);
  probing.start(0);
  assert.equal(lines(probing.feed("post", response(0, "data"), 0)).at(-1), "lost MalformedPoll");
});

test("a failed exchange is repeated with the same octets, four times in all", () => {
  const client = establishedClient();
  const same = lines(client.send(octets("x"), 0));
  // No answer, a truncated one, or a proxy that cannot reach the server: the same request after ever longer pauses
  assert.deepEqual(lines(client.expire(60_000)), ["close"]);
  assert.equal(client.deadline, 60_500);
  assert.deepEqual(lines(client.expire(60_500)), same);
  client.feed("post", response(2).subarray(0, 150), 60_500);
  assert.deepEqual(lines(client.ended("post", 60_500)), []);
  assert.equal(client.deadline, 61_500);
  assert.deepEqual(client.send(octets("later"), 61_000), []);
  assert.deepEqual(lines(client.expire(61_500)), same);
  assert.deepEqual(lines(client.feed("post", octets("HTTP/1.1 502 Bad Gateway\r\n\r\n"), 61_500)), ["close"]);
  assert.deepEqual(lines(client.expire(63_500)), same);
  assert.deepEqual(lines(client.ended("post", 63_500)), ["lost ExchangeFailed"]);

  const luckier = establishedClient();
  luckier.send(octets("x"), 0);
  luckier.ended("post", 0);
  luckier.expire(500);
  luckier.send(octets("y"), 500);
  assert.deepEqual(lines(luckier.feed("post", response(2), 500)), ["close", "open", request(message(3, "y"))]);
});

test("[3.5.4.1] the client runs the ConnectionEstablishment timer", () => {
  const client = new PollingClient(OPTIONS);
  client.start(0);
  assert.deepEqual(lines(client.expire(30_000)), ["close", "lost EstablishmentTimeout"]);
  assert.throws(() => client.start(0), EncapsulationError);
  assert.throws(() => new PollingClient({ ...OPTIONS, guid: "x" }), EncapsulationError);
});

test("a response may end with its connection or arrive in many pieces", () => {
  const client = establishedClient();
  client.send(octets("x"), 0);
  const body = message(2, "data", three(2, 8, 2));
  for (const octet of join([octets("HTTP/1.0 200 OK\r\n\r\n"), body])) client.feed("post", Uint8Array.of(octet), 0);
  assert.deepEqual(lines(client.ended("post", 0)), ["data data", "open", request(message(3))]);
});
