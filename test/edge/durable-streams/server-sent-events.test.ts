/** Server-sent events, read as a browser reads them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  controlEvent,
  dataEvent,
  heartbeatEvent,
  resetEvent,
  wholeCharacters,
} from "../../../src/edge/durable-streams/server-sent-events.ts";

interface Event {
  readonly type: string;
  readonly data: string;
  readonly id: string;
}

/** What a browser makes of a stream of events [WHATWG HTML 9.2.6]. */
function eventsOf(text: string): Event[] {
  const events: Event[] = [];
  let [type, data, id] = ["", "", ""];
  for (const line of text.split(/\r\n|\r|\n/)) {
    const colon = line.indexOf(":");
    if (line === "") {
      if (data !== "") events.push({ type: type === "" ? "message" : type, data: data.slice(0, -1), id });
      [type, data] = ["", ""];
      continue;
    }
    if (colon === 0) continue;
    const [field, written] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1)];
    const value = written.startsWith(" ") ? written.slice(1) : written;
    if (field === "event") type = value;
    else if (field === "data") data += `${value}\n`;
    else if (field === "id") id = value;
  }
  return events;
}

const encode = (text: string) => new TextEncoder().encode(text);

describe("a data event", () => {
  it("is one event, whose data is the text line for line, whatever is in it", () => {
    const hostile = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc
        .array(fc.constantFrom("\r", "\n", "\r\n", "event: control", "data:", "id: 9", ":", " ", "x"))
        .map((all) => all.join("")),
    );
    fc.assert(
      fc.property(hostile, (text) => {
        const [event, ...more] = eventsOf(dataEvent(encode(text), "text", "17"));
        assert.deepEqual(more, []);
        assert.deepEqual(event, { type: "data", data: text.replaceAll(/\r\n|\r/g, "\n"), id: "17" });
      }),
    );
  });

  it("carries any bytes in base64", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), (octets) => {
        const [event = assert.fail()] = eventsOf(dataEvent(octets, "base64", "1"));
        assert.deepEqual(new Uint8Array(Buffer.from(event.data, "base64")), octets);
      }),
    );
    const long = new Uint8Array(100_000).map((_, at) => at % 251);
    const [event = assert.fail()] = eventsOf(dataEvent(long, "base64", "1"));
    assert.deepEqual(new Uint8Array(Buffer.from(event.data, "base64")), long);
  });

  it("has no line that a foreign parser could take for another field", () => {
    assert.equal(dataEvent(encode("one\n two"), "text", "1"), "event: data\nid: 1\ndata:one\ndata:  two\n\n");
  });
});

describe("other events", () => {
  it("say where the reader is", () => {
    const place = { next: "5", cursor: "9", upToDate: false, closed: false };
    const said = (text: string) => JSON.parse(eventsOf(text)[0]?.data ?? "");
    assert.deepEqual(said(controlEvent(place)), { streamNextOffset: "5", streamCursor: "9" });
    assert.deepEqual(said(controlEvent({ ...place, upToDate: true })), {
      streamNextOffset: "5",
      streamCursor: "9",
      upToDate: true,
    });
    assert.deepEqual(said(controlEvent({ ...place, upToDate: true, closed: true })), {
      streamNextOffset: "5",
      upToDate: true,
      streamClosed: true,
    });
  });

  it("have names of their own, and leave the id alone unless it is gone", () => {
    const events = eventsOf(dataEvent(encode("x"), "text", "3") + heartbeatEvent() + resetEvent("OffsetGone", "0"));
    assert.deepEqual(
      events.map(({ type, id }) => [type, id]),
      [
        ["data", "3"],
        ["heartbeat", "3"],
        ["reset", "0"],
      ],
    );
  });
});

describe("a text that is cut anywhere", () => {
  it("ends with a whole character, and loses at most three bytes", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.nat(40), (text, cut) => {
        const octets = encode(text).subarray(0, cut);
        const whole = wholeCharacters(octets);
        assert.ok(octets.length - whole <= 3);
        const kept = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(octets.subarray(0, whole));
        assert.ok(text.startsWith(kept));
      }),
    );
  });

  it("does not wait for bytes that cannot make a character", () => {
    for (const octets of [[0xff], [0x41, 0x80], [0xc0], [0xf8, 0x80], [0x80, 0x80, 0x80, 0x80]]) {
      assert.equal(wholeCharacters(Uint8Array.from(octets)), octets.length);
    }
    assert.equal(wholeCharacters(Uint8Array.of(0x41, 0xf0, 0x9f, 0x98)), 1);
    assert.equal(wholeCharacters(new Uint8Array(0)), 0);
  });
});
