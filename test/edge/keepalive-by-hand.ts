/** A device that makes each request of its KeepAlive virtual connection by hand, with headers chosen by the test. */
import assert from "node:assert/strict";
import { ECHO_TEXT } from "../../src/encapsulation/index.ts";
import { Connection, type ConnectionEvent, relayURL } from "../../src/sstp/index.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { AUDIENCE } from "./issuer.ts";
import { refusal, target } from "./operator.ts";
import { newGuid } from "./support.ts";

type Headers = Record<string, string>;

export class ByHand {
  readonly guid = newGuid();
  readonly engine: Connection;
  readonly #url: string;

  constructor(edge: InspectedEdge, deviceURL: string) {
    this.#url = edge.url + target("KeepAlive", AUDIENCE, this.guid);
    this.engine = new Connection({ role: "client", outbound: true, localDeviceURLs: [deviceURL], now: 0 });
  }

  /** Sends octets in a POST; returns "ok" or the reason of the refusal. */
  async post(body: string | Uint8Array<ArrayBuffer>, headers: Headers): Promise<string> {
    return refusal(await fetch(this.#url, { method: "POST", body, headers }));
  }

  /** Sends the engine's pending output. */
  say(headers: Headers): Promise<string> {
    return this.post(Buffer.concat(this.engine.output(0)), headers);
  }

  /** A Noop, which changes nothing. */
  noop(headers: Headers): Promise<string> {
    this.engine.noop();
    return this.say(headers);
  }

  /** The result of a GET: SSTP events, or the reason of the refusal. */
  async hear(headers: Headers): Promise<ConnectionEvent[] | string> {
    const answer = await fetch(this.#url, { headers });
    if (answer.status !== 200) return refusal(answer);
    return this.engine.receive(new Uint8Array(await answer.arrayBuffer()), 0);
  }

  /** Both handshakes. */
  async connect(headers: Headers, token = ""): Promise<this> {
    assert.equal(await this.post(ECHO_TEXT, headers), "ok");
    assert.equal(await (await fetch(this.#url, { headers })).text(), ECHO_TEXT);
    this.engine.connect(relayURL(AUDIENCE), Buffer.from(token));
    assert.equal(await this.say(headers), "ok");
    const heard = await this.hear(headers);
    assert.deepEqual(typeof heard === "string" ? heard : heard.map(({ type }) => type), ["connected"]);
    return this;
  }
}
