/** A busy proxy sends Retry-After in seconds or as a date [RFC 9110 10.2.3]. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Lost, PollingClient, retryAfterOf } from "../../src/encapsulation/index.ts";
import { GUID, octets } from "./support.ts";

const BUSY = (status: string, more = "") => octets(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n${more}\r\n`);

test("Retry-After as a date is relative to the answer's own Date", () => {
  const last = Date.UTC(9999, 0) / 1000;
  fc.assert(
    fc.property(fc.integer({ min: 0, max: last }), fc.integer({ min: -86_400, max: 86_400 }), (date, after) => {
      fc.pre(date + after >= 0);
      const seconds = retryAfterOf(new Date((date + after) * 1000).toUTCString(), new Date(date * 1000).toUTCString());
      assert.equal(seconds, Math.max(0, after));
    }),
  );
  fc.assert(
    fc.property(fc.string(), fc.string(), (value, date) => {
      const seconds = retryAfterOf(value, date);
      assert.ok(seconds === undefined || seconds >= 0);
    }),
  );
  const date = "Fri, 31 Dec 1999 23:59:59 GMT";
  for (const value of [undefined, "", "soon", "1.5", "-1", "Fri, 99 Dec 1999 23:59:59 GMT", "31 Dec 1999"]) {
    assert.equal(retryAfterOf(value, date), undefined, value);
  }
  assert.equal(retryAfterOf(date, undefined), undefined);
  assert.equal(retryAfterOf("120"), 120);
});

function polling(): PollingClient {
  const client = new PollingClient({ serverHost: "server.domain.net", guid: GUID });
  client.start(0);
  return client;
}

test("Polling repeats an exchange after Retry-After, on 429 and 503", () => {
  for (const status of ["429 Too Many Requests", "503 Service Unavailable"]) {
    const client = polling();
    client.feed("post", BUSY(status, "Retry-After: 20\r\n"), 100);
    assert.equal(client.deadline, 20_100);
    assert.equal(client.expire(20_000).length, 0);
    assert.ok(client.expire(20_100).some(({ type }) => type === "write"));
    const dated = polling();
    const [now, then] = ["Fri, 31 Dec 1999 23:59:40 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"];
    dated.feed("post", BUSY(status, `Date: ${now}\r\nRetry-After: ${then}\r\n`), 100);
    assert.equal(dated.deadline, 19_100);
    const unsaid = polling();
    unsaid.feed("post", BUSY(status), 100);
    assert.equal(unsaid.deadline, 600);
  }
});

test("Polling that may not be repeated in time ends, and reports the delay", () => {
  const outputs = polling().feed("post", BUSY("429 Too Many Requests", "Retry-After: 3600\r\n"), 100);
  const lost = outputs.find((output): output is Lost => output.type === "lost");
  assert.deepEqual([lost?.reason, lost?.status, lost?.retryAfter], ["ExchangeFailed", 429, 3600]);
});
