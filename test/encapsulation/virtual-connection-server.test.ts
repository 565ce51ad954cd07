import assert from "node:assert/strict";
import { test } from "node:test";
import {
  arriveGet,
  arrivePost,
  closeVirtualConnection,
  countSent,
  deadline,
  ECHO_STRING,
  endPost,
  expire,
  MAX_BODY,
  openVirtualConnection,
  postponeReceive,
  receive,
  releaseGet,
  room,
  sendDown,
  sessionLost,
  type VirtualConnection,
} from "../../src/encapsulation/index.ts";
import { exchangePost } from "./raw-server.ts";
import { GUID, join, octets, target, text } from "./support.ts";

const LONG = target(`/2.0/a/${GUID},ConnType=LongLived,ContentLength=100`, "LongLived");
const KEEP = target(`/2.0/a/${GUID},ConnType=KeepAlive`, "KeepAlive");
const DATA = octets("SSTP");

type Outcome = { readonly type: string; readonly reason?: string; readonly scope?: string };

function is(outcome: Outcome, expected: string): void {
  const found = outcome.type === "refuse" ? `${outcome.reason} ${outcome.scope}` : outcome.type;
  assert.equal(found, expected);
}

function establishedLong(): VirtualConnection {
  const state = openVirtualConnection(LONG, 0);
  arriveGet(state, LONG, 0);
  arrivePost(state, LONG, 0);
  is(receive(state, ECHO_STRING, 0), "handshake");
  assert.equal(state.connectionState, "Established");
  return state;
}

function establishedKeep(): VirtualConnection {
  const state = openVirtualConnection(KEEP, 0);
  exchangePost(state, KEEP, ECHO_STRING, 0);
  is(arriveGet(state, KEEP, 0), "handshake");
  assert.equal(state.connectionState, "Established");
  return state;
}

test("[3.2.5.1.1] LongLived: a GET that arrives first is parked until the POST has echoed", () => {
  const state = openVirtualConnection(LONG, 0);
  is(arriveGet(state, LONG, 1), "park");
  assert.deepEqual([state.getSessionState, state.connectionState], ["Connected", "Connecting"]);
  is(arrivePost(state, LONG, 2), "read");
  assert.deepEqual([state.postSessionState, state.connectionState], ["Connected", "Connected"]);
  is(receive(state, ECHO_STRING.subarray(0, 21), 3), "wait");
  is(receive(state, ECHO_STRING.subarray(21), 4), "handshake");
  assert.equal(state.connectionState, "Established");
});

test("[3.2.5.1.1] LongLived: a POST that arrives first is completed by the GET", () => {
  const state = openVirtualConnection(LONG, 0);
  is(arrivePost(state, LONG, 0), "read");
  is(receive(state, ECHO_STRING, 0), "wait");
  is(arriveGet(state, LONG, 0), "handshake");
  assert.equal(state.connectionState, "Established");
});

test("[2.2.2.2.3] LongLived: the first fragment MUST be the echo string, split at any octet", () => {
  for (let cut = 0; cut <= 22; cut++) {
    const state = openVirtualConnection(LONG, 0);
    arriveGet(state, LONG, 0);
    arrivePost(state, LONG, 0);
    const all = join([ECHO_STRING, DATA]);
    const first = receive(state, all.subarray(0, cut), 0);
    is(first, cut === 22 ? "handshake" : "wait");
    const second = receive(state, all.subarray(cut), 0);
    is(second, cut === 22 ? "data" : "handshake");
    assert.ok("data" in second && text(second.data) === "SSTP" && second.data.buffer === all.buffer);
  }
  for (const bad of [octets("GroovePing: 1.0,Pong\r\n"), DATA, octets("\r\n")]) {
    const state = openVirtualConnection(LONG, 0);
    arriveGet(state, LONG, 0);
    arrivePost(state, LONG, 0);
    is(receive(state, bad, 0), "BadEcho connection");
    assert.equal(state.connectionState, "Closed");
  }
});

test("[3.2.5.2.2] LongLived: application data before 'Established' MUST close the virtual connection", () => {
  const state = openVirtualConnection(LONG, 0);
  arrivePost(state, LONG, 0);
  is(receive(state, join([ECHO_STRING, DATA]), 0), "DataBeforeEstablished connection");
  assert.equal(state.closed, "DataBeforeEstablished");
  const later = openVirtualConnection(LONG, 0);
  arrivePost(later, LONG, 0);
  receive(later, ECHO_STRING, 0);
  is(receive(later, DATA, 0), "DataBeforeEstablished connection");
});

test("[3.2.5.2.2, 3.2.4.2] LongLived: nothing is sent down before the first data has come up", () => {
  const state = establishedLong();
  assert.equal(room(state), 0);
  is(sendDown(state, 10, 0), "hold");
  const received = receive(state, DATA, 0);
  is(received, "data");
  assert.equal(state.getSessionReady, true);
  assert.equal(room(state), 78);
  assert.deepEqual(sendDown(state, 10, 0), { type: "send", length: 10 });
  assert.deepEqual(sendDown(state, 10, 0), { type: "send", length: 10 });
  assert.equal(room(state), 58);
});

test("[3.2.4.2] LongLived: a write beyond ConnectionContentLength MUST close; the echo string counts", () => {
  const state = establishedLong();
  receive(state, DATA, 0);
  assert.deepEqual(sendDown(state, 78, 0), { type: "send", length: 78 });
  assert.equal(room(state), 0);
  is(sendDown(state, 1, 0), "ContentLengthReached connection");
  const other = establishedLong();
  receive(other, DATA, 0);
  is(sendDown(other, 79, 0), "ContentLengthReached connection");
});

test("[3.2.5.2.2] LongLived: a POST over ConnectionContentLength is a protocol violation", () => {
  const state = establishedLong();
  is(receive(state, new Uint8Array(78), 0), "data");
  is(receive(state, new Uint8Array(1), 0), "ContentLengthExceeded connection");
  const short = target(`/2.0/a/${GUID},ConnType=LongLived,ContentLength=21`, "LongLived");
  is(arriveGet(openVirtualConnection(short, 0), short, 0), "ContentLengthExceeded connection");
});

test("[3.2.5] LongLived: the server MUST NOT use the content length header", () => {
  const state = openVirtualConnection(LONG, 0);
  is(arrivePost(state, LONG, 0, 0x7ffff000), "read");
});

test("[3.1] LongLived: the end of a session ends the virtual connection", () => {
  is(sessionLost(establishedLong(), "get"), "SessionEnded connection");
  is(endPost(establishedLong(), 0), "SessionEnded connection");
  const used = establishedLong();
  receive(used, new Uint8Array(78), 0);
  is(endPost(used, 0), "ContentLengthReached connection");
  const waiting = openVirtualConnection(LONG, 0);
  arriveGet(waiting, LONG, 0);
  is(sessionLost(waiting, "get"), "SessionEnded connection");
});

test("[3.4.5.1.1] KeepAlive: GET and POST come in either order, and the handshake POST is answered at once", () => {
  const first = openVirtualConnection(KEEP, 0);
  is(arriveGet(first, KEEP, 0), "park");
  const answered = exchangePost(first, KEEP, ECHO_STRING, 0);
  assert.deepEqual(answered, { type: "answer", handshake: true, data: new Uint8Array(0) });
  const second = openVirtualConnection(KEEP, 0);
  assert.deepEqual(exchangePost(second, KEEP, ECHO_STRING, 0), {
    type: "answer",
    handshake: false,
    data: new Uint8Array(0),
  });
  assert.deepEqual([second.postSessionState, second.connectionState], ["Connected", "Connecting"]);
  is(arriveGet(second, KEEP, 0), "handshake");
});

test("[2.2.3.2.2] KeepAlive: the first body is exactly the echo string", () => {
  const bodies: [Uint8Array, string][] = [
    [DATA, "BadEcho connection"],
    [new Uint8Array(0), "BadEcho connection"],
    [ECHO_STRING.subarray(0, 21), "BadEcho connection"],
    [join([ECHO_STRING, DATA]), "BadEcho connection"],
  ];
  for (const [body, expected] of bodies) {
    const state = openVirtualConnection(KEEP, 0);
    arriveGet(state, KEEP, 0);
    is(exchangePost(state, KEEP, body, 0), expected);
  }
  const state = openVirtualConnection(KEEP, 0);
  arriveGet(state, KEEP, 0);
  arrivePost(state, KEEP, 0);
  is(receive(state, ECHO_STRING.subarray(0, 5), 0), "wait");
  is(receive(state, ECHO_STRING.subarray(5), 0), "wait");
  assert.deepEqual(endPost(state, 0), { type: "answer", handshake: true });
});

test("[3.4.5.2] KeepAlive: application data before 'Established' closes the virtual connection", () => {
  const state = openVirtualConnection(KEEP, 0);
  exchangePost(state, KEEP, ECHO_STRING, 0);
  is(exchangePost(state, KEEP, DATA, 0), "DataBeforeEstablished connection");
});

test("[3.4.5.1.2, 3.4.4.3] KeepAlive: data goes down on later GETs only, one response each", () => {
  const state = establishedKeep();
  assert.equal(room(state), 0);
  is(sendDown(state, 5, 0), "hold");
  is(arriveGet(state, KEEP, 0), "park");
  assert.deepEqual([state.getSessionReady, state.serverOKtoSend], [true, true]);
  assert.equal(room(state), MAX_BODY);
  is(sendDown(state, 0, 0), "hold");
  assert.deepEqual(sendDown(state, 40000, 0), { type: "send", length: 32768 });
  assert.equal(state.serverOKtoSend, false);
  is(sendDown(state, 7232, 0), "hold");
  is(arriveGet(state, KEEP, 0), "park");
  assert.deepEqual(sendDown(state, 7232, 0), { type: "send", length: 7232 });
});

test("KeepAlive: the hold time answers a GET with an empty 200, except the handshake's", () => {
  const waiting = openVirtualConnection(KEEP, 0);
  arriveGet(waiting, KEEP, 0);
  is(releaseGet(waiting), "hold");
  const state = establishedKeep();
  is(releaseGet(state), "hold");
  arriveGet(state, KEEP, 0);
  assert.deepEqual(releaseGet(state), { type: "send", length: 0 });
  is(releaseGet(state), "hold");
  is(arriveGet(state, KEEP, 0), "park");
  is(releaseGet(establishedLong()), "hold");
});

test("[3.4.4.3] KeepAlive: a body MUST NOT exceed 32768 octets", () => {
  const full = establishedKeep();
  const answered = exchangePost(full, KEEP, new Uint8Array(32768), 0);
  assert.ok(answered.type === "answer" && answered.data.length === 32768);
  is(exchangePost(establishedKeep(), KEEP, new Uint8Array(32769), 0), "BodyTooLong connection");
  is(arrivePost(establishedKeep(), KEEP, 0, 32769), "BodyTooLong connection");
  const chunked = establishedKeep();
  arrivePost(chunked, KEEP, 0);
  is(receive(chunked, new Uint8Array(32768), 0), "data");
  is(receive(chunked, new Uint8Array(1), 0), "BodyTooLong connection");
});

test("[3.4.5.1.1.2] nothing is sent after a refusal: ServerOKtoSend is FALSE", () => {
  const state = establishedKeep();
  arriveGet(state, KEEP, 0);
  assert.equal(state.serverOKtoSend, true);
  is(arriveGet(state, KEEP, 0), "SecondGet connection");
  assert.deepEqual([state.serverOKtoSend, state.getSessionReady, room(state)], [false, false, 0]);
});

test("one GET and one POST may be outstanding; a second is a protocol error", () => {
  for (const [state, at] of [
    [establishedKeep(), KEEP],
    [establishedLong(), LONG],
  ] as const) {
    if (at === KEEP) is(arriveGet(state, at, 0), "park");
    is(arriveGet(state, at, 0), "SecondGet connection");
  }
  is(arrivePost(establishedLong(), LONG, 0), "SecondPost connection");
  const state = establishedKeep();
  arrivePost(state, KEEP, 0);
  is(arrivePost(state, KEEP, 0), "SecondPost connection");
  const early = openVirtualConnection(KEEP, 0);
  arriveGet(early, KEEP, 0);
  is(arriveGet(early, KEEP, 0), "SecondGet connection");
});

test("[3.2.5.1.1] a known GUID with other properties: only the new request is refused", () => {
  const other = { ...LONG, contentLength: 101 };
  for (const newcomer of [KEEP, other, { ...LONG, relay: "b" }, { ...LONG, guid: `${GUID}x` }]) {
    const state = establishedLong();
    is(arriveGet(state, newcomer, 0), "DuplicateConnection request");
    is(arrivePost(state, newcomer, 0), "DuplicateConnection request");
    assert.equal(state.connectionState, "Established");
  }
});

test("a closed virtual connection refuses every request", () => {
  const state = establishedKeep();
  is(closeVirtualConnection(state), "ConnectionClosed connection");
  is(arriveGet(state, KEEP, 0), "ConnectionClosed request");
  is(arrivePost(state, KEEP, 0), "ConnectionClosed request");
  is(receive(state, DATA, 0), "ConnectionClosed request");
  is(endPost(state, 0), "ConnectionClosed request");
  is(sendDown(state, 1, 0), "ConnectionClosed request");
  is(releaseGet(state), "ConnectionClosed request");
  is(sessionLost(state, "get"), "ConnectionClosed request");
  assert.equal(deadline(state), Number.POSITIVE_INFINITY);
});

test("[3.3.4.3] KeepAlive: a session may end between two requests, but not within one", () => {
  const state = establishedKeep();
  is(sessionLost(state, "get"), "none");
  is(sessionLost(state, "post"), "none");
  arriveGet(state, KEEP, 0);
  is(sessionLost(state, "get"), "SessionEnded connection");
  const cut = establishedKeep();
  arrivePost(cut, KEEP, 0);
  is(sessionLost(cut, "post"), "SessionEnded connection");
});

test("[3.2.5.1.1, 3.4.5.1.1] the ConnectionEstablishment timer runs until 'Established'", () => {
  const state = openVirtualConnection(LONG, 5);
  arriveGet(state, LONG, 5);
  assert.equal(deadline(state), 30_005);
  is(expire(state, 30_004), "none");
  is(expire(state, 30_005), "EstablishmentTimeout connection");
  assert.equal(establishedLong().establishmentDeadline, Number.POSITIVE_INFINITY);
});

test("[3.2.5.2.2] NetworkReceiveIO MUST be restarted after each fragment", () => {
  const state = establishedLong();
  receive(state, DATA, 40_000);
  state.keepAliveDeadline = Number.POSITIVE_INFINITY;
  assert.equal(deadline(state), 100_000);
  is(expire(state, 99_999), "none");
  is(expire(state, 100_000), "ReceiveTimeout connection");
});

test("[3.2.5.2.2] the receive timer starts again while this side does not take the client's data", () => {
  const state = establishedLong();
  postponeReceive(state, 40_000);
  assert.equal(state.receiveDeadline, 100_000);
  closeVirtualConnection(state);
  postponeReceive(state, 50_000);
  assert.equal(state.receiveDeadline, Number.POSITIVE_INFINITY, "a closed connection has no timer");
});

test("[3.2.4.2] what the caller has written to the GET counts against ConnectionContentLength", () => {
  const state = establishedLong();
  receive(state, DATA, 0);
  const before = room(state);
  countSent(state, 6);
  assert.equal(room(state), before - 6);
  is(sendDown(state, before - 5, 0), "ContentLengthReached connection");
});

test("[3.2.6.3] the KeepAlive timer asks for a Noop after 45 s without sending, and starts again", () => {
  const state = establishedKeep();
  assert.equal(deadline(state), 45_000);
  is(expire(state, 45_000), "keepAlive");
  assert.equal(state.keepAliveDeadline, 90_000);
  arriveGet(state, KEEP, 50_000);
  sendDown(state, 1, 50_000);
  assert.equal(state.keepAliveDeadline, 95_000);
});

test("timers can be set and disabled; the state survives structuredClone", () => {
  const off = Number.POSITIVE_INFINITY;
  const state = openVirtualConnection(LONG, 0, { establishment: 10, receive: off, keepAlive: off });
  assert.equal(deadline(state), 10);
  const clone = structuredClone(state);
  assert.deepEqual(clone, state);
  arriveGet(clone, LONG, 0);
  arrivePost(clone, LONG, 0);
  receive(clone, ECHO_STRING, 0);
  assert.equal(deadline(clone), off);
  is(expire(clone, 1e12), "none");
});
