/**
 * SSTP and HTTP on the same mailboxes: a device on KeepAlive and a poller without our library send each other messages,
 * and another poller reads the device's mailbox while the device drains it.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device } from "../../../src/device/index.ts";
import { FULL } from "../../support/long-form.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { AUDIENCE, hs256, jwks } from "../issuer.ts";
import { bodyOf, connect, fresh, receive, startEdge, until } from "../mailbox/support.ts";

/** Messages each way. */
const COUNT = FULL ? 10_000 : 100;
/** Messages that the device has on their way at a time. */
const BESIDE = 50;
const PATIENCE = FULL ? 1_800_000 : 300_000;
/** Milliseconds between two requests to an edge that is not there. */
const PAUSE = 50;
const RESTARTS = 3;

interface Got {
  readonly id: string;
  readonly from: string;
  readonly body: string;
}

/** The n-th body: JSON, text, or bytes that are neither. */
function content(n: number): { readonly contentType: string; readonly octets: Uint8Array } {
  const text = new TextEncoder();
  if (n % 3 === 0) return { contentType: "application/json", octets: text.encode(`{"n":${n}}`) };
  if (n % 3 === 1) return { contentType: "text/plain", octets: text.encode(`message ${n}: \u00e9\u20ac`) };
  return { contentType: "application/octet-stream", octets: bodyOf(1 + (n % 500), `message ${n}`) };
}

function expected(prefix: string, from: string): Got[] {
  return Array.from({ length: COUNT }, (_, n) => ({
    id: `${prefix}-${n}@${from}`,
    from,
    body: Buffer.from(content(n).octets).toString("hex"),
  }));
}

/** What is in an envelope, as bytes. Only a message by HTTP has a content type, so JSON of a device is text. */
function bodyIn({ encoding, body }: { encoding: string; body: unknown }): string {
  const octets = Buffer.from(
    encoding === "json" ? JSON.stringify(body) : String(body),
    encoding === "base64" ? "base64" : "utf8",
  );
  return octets.toString("hex");
}

/** A client that only polls. */
class Poller {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly got: Got[] = [];

  constructor(url: string, token: string) {
    this.#url = url;
    this.#headers = { Authorization: `Bearer ${token}` };
  }

  /** Polls a mailbox from an offset on, until it has enough. */
  async poll(address: string, offset: string, count: number): Promise<void> {
    for (let at = offset; this.got.length < count; ) {
      const answer = await this.#ask(`mailboxes/${address}?offset=${at}&live=long-poll`);
      assert.ok(answer.status === 200 || answer.status === 204, `${answer.status} ${await answer.clone().text()}`);
      const next = answer.headers.get("stream-next-offset");
      assert.ok(next !== null && next >= at);
      if (answer.status === 204) {
        at = next;
        continue;
      }
      const text = await answer.text().catch(() => undefined);
      // The edge was restarted while it answered.
      if (text === undefined) continue;
      for (const envelope of JSON.parse(text) as { id: string; from: string; encoding: string; body: unknown }[]) {
        this.got.push({ id: envelope.id, from: envelope.from, body: bodyIn(envelope) });
      }
      at = next;
    }
  }

  /** Asks again while the edge is not there, or is just coming back. */
  async #ask(path: string, init: RequestInit = { headers: this.#headers }): Promise<Response> {
    for (const until = Date.now() + PATIENCE; ; ) {
      const answer = await fetch(`${this.#url}/${path}`, init).catch(() => undefined);
      if (answer !== undefined && answer.status < 500) return answer;
      if (Date.now() > until) throw new Error(`${path}: ${answer === undefined ? "no answer" : answer.status}`);
      await sleep(PAUSE);
    }
  }

  async head(address: string): Promise<string> {
    const answer = await fetch(`${this.#url}/mailboxes/${address}`, { method: "HEAD", headers: this.#headers });
    return answer.headers.get("stream-next-offset") ?? "";
  }

  async create(address: string): Promise<void> {
    const answer = await fetch(`${this.#url}/mailboxes/${address}`, { method: "PUT", headers: this.#headers });
    assert.equal(answer.status, 201);
  }

  /** Sends all messages, one after another. */
  async send(to: string, count: number): Promise<void> {
    for (let n = 0; n < count; n += 1) {
      const { contentType, octets } = content(n);
      const headers = { ...this.#headers, "Content-Type": contentType, "Idempotency-Key": `http-${n}` };
      const answer = await this.#ask(`send/${to}`, { method: "POST", headers, body: octets });
      assert.equal(answer.status, 200, await (answer.ok ? "" : answer.text()));
      await answer.arrayBuffer().catch(() => undefined);
    }
  }
}

/** Sends all messages, in order, several at a time. */
async function sendAll(device: Device, to: string): Promise<void> {
  const sending = new Set<Promise<unknown>>();
  for (let n = 0; n < COUNT; n += 1) {
    const sent: Promise<unknown> = device
      .send(to, content(n).octets, { id: `sstp-${n}` })
      .then(() => sending.delete(sent));
    sending.add(sent);
    if (sending.size >= BESIDE) await Promise.race(sending);
  }
  await Promise.all(sending);
}

describe("one log", { timeout: PATIENCE }, () => {
  it(`has the same ${COUNT} messages each way by SSTP and by HTTP, with order, content and ids`, async (t) => {
    const issuer = await hs256();
    const edge = await startEdge(t, { dev: "private", keys: jwks(issuer), relayName: AUDIENCE });
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/curl`];
    const tokenOf = (address: string) => issuer.issue({ address, scope: "connect receive send:*" });
    const device = await connect(edge, alice, "keepalive", { token: await tokenOf(alice) });
    const poller = new Poller(edge.url, await tokenOf(bob));
    const beside = new Poller(edge.url, await tokenOf(alice));
    await poller.create(bob);
    const [atBob, atAlice] = [await poller.head(bob), await beside.head(alice)];
    const [received] = await Promise.all([
      receive(device, COUNT, PATIENCE),
      sendAll(device, bob),
      poller.poll(bob, atBob, COUNT),
      poller.send(alice, COUNT),
      beside.poll(alice, atAlice, COUNT),
    ]);
    const taken = received.map(({ id, from, body }) => ({ id, from, body: Buffer.from(body).toString("hex") }));
    assert.deepEqual(taken, expected("http", bob));
    assert.deepEqual(poller.got, expected("sstp", alice));
    assert.deepEqual(beside.got, expected("http", bob));
    // What was only polled still waits for a device.
    const late = await connect(edge, bob, "keepalive", { token: await tokenOf(bob) });
    const drained = await receive(late, COUNT, PATIENCE);
    assert.deepEqual(
      drained.map(({ id }) => id),
      expected("sstp", alice).map(({ id }) => id),
    );
    await Promise.all([device.close(), late.close()]);
    const again = new Poller(edge.url, await tokenOf(bob));
    await again.poll(bob, "-1", COUNT);
    assert.deepEqual(again.got, expected("sstp", alice));
  });

  it("goes on when the edge is restarted: nothing is lost or doubled, for either", async (t) => {
    const issuer = await hs256();
    const state = temporaryFolder();
    const settings = { dev: "private", keys: jwks(issuer), relayName: AUDIENCE, state };
    let edge = await startEdge(t, settings);
    const port = Number(new URL(edge.url).port);
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/curl`];
    const tokenOf = (address: string) => issuer.issue({ address, scope: "connect receive send:*" });
    const device = await connect(edge, alice, "keepalive", { token: await tokenOf(alice) });
    const poller = new Poller(edge.url, await tokenOf(bob));
    const beside = new Poller(edge.url, await tokenOf(alice));
    await poller.create(bob);
    const [atBob, atAlice] = [await poller.head(bob), await beside.head(alice)];
    const restarts = async () => {
      for (let times = 1; times <= RESTARTS; times += 1) {
        const enough = (COUNT * times) / (RESTARTS + 1);
        await until("some have come", () => poller.got.length >= enough && beside.got.length >= enough, PATIENCE);
        await edge.close();
        edge = await startEdge(t, { ...settings, port });
      }
    };
    const [received] = await Promise.all([
      receive(device, COUNT, PATIENCE),
      sendAll(device, bob),
      poller.poll(bob, atBob, COUNT),
      poller.send(alice, COUNT),
      beside.poll(alice, atAlice, COUNT),
      restarts(),
    ]);
    assert.deepEqual(
      received.map(({ id }) => id),
      expected("http", bob).map(({ id }) => id),
    );
    assert.deepEqual(beside.got, expected("http", bob));
    assert.deepEqual(poller.got, expected("sstp", alice));
    await device.close();
  });
});
