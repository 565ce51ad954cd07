/** /metrics: who may read it, and that its numbers are what devices have done. */
import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { before, describe, it } from "node:test";
import type { Device } from "../../../src/device/index.ts";
import { admit, piecesOf, sendAll, streamer } from "../../device/streams/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { NO_PROMETHEUS, promtool, type Sample, startPrometheus } from "../../support/prometheus.ts";
import { ed25519, type Issuer, jwks } from "../issuer.ts";
import { afterAll, connect, receive, startEdge, until } from "../mailbox/support.ts";
import { newGuid } from "../support.ts";

const TOKEN = "an admin's secret";

const all = afterAll();
let issuer: Issuer;
let edge: InspectedEdge;
before(async () => {
  issuer = await ed25519();
  edge = await startEdge(all, { adminToken: TOKEN, keys: jwks(issuer) });
});

async function scrape(of: InspectedEdge, token: string | undefined = TOKEN, accept = "*/*"): Promise<Response> {
  return fetch(`${of.url}/metrics`, {
    headers: { Accept: accept, ...(token !== undefined && { Authorization: `Bearer ${token}` }) },
  });
}

/** The value of one series, or the sum of those of a family. */
async function metric(series: string): Promise<number> {
  const answer = await scrape(edge);
  assert.equal(answer.status, 200);
  const lines = (await answer.text()).split("\n").filter((line) => !line.startsWith("#"));
  const found = lines.filter((line) => line.startsWith(`${series} `) || line.startsWith(`${series}{`));
  assert.ok(found.length > 0, series);
  return found.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

async function deviceOf(address: string, transport: "websocket" | "keepalive" = "websocket"): Promise<Device> {
  const token = await issuer.issue({ address, scope: "connect receive send:*" });
  return connect(edge, address, transport, { token });
}

describe("/metrics", () => {
  it("is for the scope metrics, the scope admin and the admin token, and nobody else", async () => {
    const scopes: [string, number][] = [
      ["metrics", 200],
      ["admin", 200],
      ["connect receive send:*", 403],
    ];
    for (const [scope, status] of scopes) {
      assert.equal((await scrape(edge, await issuer.issue({ scope }))).status, status, scope);
    }
    const refused = await scrape(edge, await issuer.issue({ scope: "connect" }));
    assert.match(JSON.stringify(await refused.json()), /lacks the scope metrics/);
    assert.equal((await fetch(`${edge.url}/metrics`)).status, 401);
    assert.equal((await scrape(edge, "another secret")).status, 401);
    assert.equal((await scrape(edge)).status, 200);
    // The scraper is no operator.
    const scraper = { Authorization: `Bearer ${await issuer.issue({ scope: "metrics" })}` };
    assert.equal((await fetch(`${edge.url}/admin/mailboxes`, { headers: scraper })).status, 403);
  });

  it("counts what devices do: connections, messages in and out, and what waits", async () => {
    const opened = await metric('grooveway_connections_opened_total{encapsulation="WebSocket"}');
    const received = await metric('grooveway_messages_received_total{class="stored"}');
    const delivered = await metric('grooveway_messages_delivered_total{class="stored"}');
    const timed = await metric("grooveway_delivery_seconds_count");
    const alice = await deviceOf("alice/laptop");
    const bob = await deviceOf("bob/phone", "keepalive");
    await Promise.all(Array.from({ length: 7 }, (_, at) => alice.send("bob/phone", `message ${at}`)));
    await receive(bob, 7);
    for (const at of [0, 1, 2]) await alice.send("carol/desk", `waits ${at}`);
    await until("three messages wait", async () => (await metric("grooveway_waiting_messages")) === 3);
    assert.equal(await metric('grooveway_connections_opened_total{encapsulation="WebSocket"}'), opened + 1);
    assert.equal(await metric('grooveway_connections{encapsulation="WebSocket"}'), 1);
    assert.equal(await metric('grooveway_connections{encapsulation="KeepAlive"}'), 1);
    assert.equal(await metric("grooveway_half_open_connections"), 0);
    assert.equal(await metric('grooveway_messages_received_total{class="stored"}'), received + 10);
    assert.equal(await metric('grooveway_messages_delivered_total{class="stored"}'), delivered + 7);
    assert.equal(await metric("grooveway_delivery_seconds_count"), timed + 7);
    assert.equal(await metric("grooveway_waiting_mailboxes"), 1);
    const shown = await fetch(`${edge.url}/admin/mailboxes/carol%2Fdesk`, {
      headers: { Authorization: `Bearer ${TOKEN}` },
    });
    const { octets, oldest } = (await shown.json()) as { octets: number; oldest: number };
    assert.equal(await metric("grooveway_waiting_bytes"), octets);
    const age = (Date.now() - oldest) / 1000;
    assert.ok(Math.abs((await metric("grooveway_oldest_waiting_seconds")) - age) < 5);

    await alice.close();
    await bob.close();
    await until("no connection is open", async () => (await metric("grooveway_connections")) === 0);
    assert.ok((await metric("grooveway_connections_closed_total")) >= 2);
    const purge = { method: "DELETE", headers: { Authorization: `Bearer ${TOKEN}` } };
    await fetch(`${edge.url}/admin/mailboxes/carol%2Fdesk`, purge);
    await until("nothing waits", async () => (await metric("grooveway_waiting_messages")) === 0);
    assert.equal(await metric('grooveway_messages_dropped_total{reason="Purged"}'), 3);
    assert.equal(await metric("grooveway_oldest_waiting_seconds"), 0);
  });

  it("counts what streams carry between devices, whichever way it takes", async () => {
    const before = await metric("grooveway_stream_bytes_total");
    const token = async (address: string) => ({
      token: await issuer.issue({ address, scope: "connect receive send:* stream:*" }),
    });
    const server = await streamer(edge, "alice/server", "websocket", await token("alice/server"));
    const client = await streamer(edge, "bob/client", "websocket", await token("bob/client"));
    admit(server, client);
    let came = 0;
    server.device.serve("sink", async (stream) => {
      for await (const piece of stream.readable) came += piece.length;
      await stream.writable.close();
    });
    const stream = await client.device.dial("alice/server", "sink");
    const octets = 4 * 1024 * 1024;
    await sendAll(stream, piecesOf(octets, "counted"));
    for await (const _ of stream.readable);
    assert.equal(came, octets);
    await Promise.all([server.device.close(), client.device.close()]);
    const counted = (await metric("grooveway_stream_bytes_total")) - before;
    // Packets have headers and seals, and acknowledgements go back.
    assert.ok(counted >= octets && counted < 1.1 * octets, String(counted));
  });

  it("counts refusals by their names, once each", async () => {
    const before = await metric('grooveway_requests_refused_total{reason="RelayNotAllowed"}');
    const all = await metric("grooveway_requests_refused_total");
    const headers = { Authorization: `Bearer ${await issuer.issue()}` };
    const target = `/2.0/relay.example.org/${newGuid()},ConnType=KeepAlive`;
    assert.equal((await fetch(`${edge.url}${target}`, { headers })).status, 403);
    assert.equal(await metric('grooveway_requests_refused_total{reason="RelayNotAllowed"}'), before + 1);
    const unknown = `/2.0/127.0.0.1/${newGuid()},ConnType=KeepAlive,ID=gw-9`;
    assert.equal((await fetch(`${edge.url}${unknown}`, { headers })).status, 404);
    assert.equal(await metric("grooveway_requests_refused_total"), all + 2);
  });

  it("counts appends to plain streams, those that a producer repeats once", async () => {
    const [appends, bytes] = ["grooveway_plain_stream_appends_total", "grooveway_plain_stream_appended_bytes_total"];
    const before = [await metric(appends), await metric(bytes)];
    const token = await issuer.issue({ address: "alice", scope: "connect receive send:* create:** write:**" });
    const stream = `${edge.url}/mailboxes/alice/logs/today`;
    const write = async (method: "PUT" | "POST", body: string, producer?: number) => {
      const answer = await fetch(stream, {
        method,
        body,
        headers: {
          Authorization: `Bearer ${token}`,
          "Content-Type": "text/plain",
          ...(producer !== undefined && {
            "Producer-Id": "p",
            "Producer-Epoch": "0",
            "Producer-Seq": String(producer),
          }),
        },
      });
      assert.ok(answer.ok, await answer.text());
    };
    await write("PUT", "");
    await write("POST", "hello");
    await write("POST", "abc", 0);
    await write("POST", "abc", 0);
    assert.deepEqual([await metric(appends), await metric(bytes)], [(before[0] ?? 0) + 2, (before[1] ?? 0) + 8]);
  });

  it("has no more series after requests with 10,000 addresses, hosts, paths and user agents", {
    timeout: 180_000,
  }, async () => {
    const count = async () => (await (await scrape(edge)).text()).split("\n").length;
    const before = await count();
    const refused = await metric("grooveway_requests_refused_total");
    const agent = new Agent({ keepAlive: true, maxSockets: 32 });
    const { hostname, port } = new URL(edge.url);
    const ask = (at: number) =>
      new Promise<void>((resolve, reject) => {
        const relay = `/2.0/relay${at}.example.org/${newGuid()},ConnType=KeepAlive`;
        const path = at % 2 === 0 ? `/nothing/${at}?q=${at}` : relay;
        const headers = {
          Host: `host${at}.example.com`,
          "User-Agent": `agent ${at}`,
          // The edge trusts a proxy of its own machine.
          "X-Forwarded-For": `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`,
        };
        request({ agent, hostname, port, path, headers }, (answer) => {
          answer.resume().on("end", resolve).on("error", reject);
        })
          .on("error", reject)
          .end();
      });
    for (let at = 0; at < 10_000; at += 100)
      await Promise.all(Array.from({ length: 100 }, (_, more) => ask(at + more)));
    agent.destroy();
    assert.equal(await metric("grooveway_requests_refused_total"), refused + 10_000);
    assert.equal(await count(), before);
  });

  it("is clean for promtool", { skip: NO_PROMETHEUS }, async () => {
    const { code, said } = promtool(["check", "metrics"], await (await scrape(edge)).text());
    assert.deepEqual({ code, said }, { code: 0, said: "" });
  });

  it("is scraped by a real Prometheus, which asks for OpenMetrics", {
    skip: NO_PROMETHEUS,
    timeout: 90_000,
  }, async (t) => {
    const prometheus = await startPrometheus(edge.url, await issuer.issue({ scope: "metrics" }));
    t.after(() => prometheus.close());
    const alice = await deviceOf("alice/laptop");
    await alice.send("dora/desk", "waits");
    let found: readonly Sample[] = [];
    await until("Prometheus has scraped it", async () => {
      found = await prometheus.query("grooveway_waiting_messages == 1");
      return found.length === 1;
    });
    assert.equal(await prometheus.lastError(), "");
    assert.equal((await prometheus.query("up == 1")).length, 1);
    const text = await (await scrape(edge)).text();
    const series = text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
    assert.equal((await prometheus.query('{__name__=~"grooveway_.*"}')).length, series);
    const open = await scrape(edge, TOKEN, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert.match(open.headers.get("Content-Type") ?? "", /^application\/openmetrics-text; version=1\.0\.0/);
    await alice.close();
  });
});
