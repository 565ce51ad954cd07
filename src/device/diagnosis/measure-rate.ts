/**
 * Measures how fast a way carries data: connects as a device, and sends one message to itself. The message has flag D,
 * so nothing stays at the edge. Other messages for the device are left where they wait, and its identity's are not asked
 * for.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { within } from "../../lib/runtime/timeout.ts";
import { type ConnectionEvent, deviceURL, identityURL } from "../../sstp/index.ts";
import { idSuffix } from "../message.ts";
import { openTransport } from "../transports/open-transport.ts";
import type { Proxies } from "../transports/proxy/proxy-settings.ts";
import type { Transport, Way } from "../transports/transport.ts";
import { Conversation } from "./conversation.ts";
import { NAME_OCTETS, RATE_OCTETS } from "./limits.ts";

export interface RateOptions {
  readonly edge: string;
  /** The edge's name. */
  readonly relay: string;
  readonly token: string | undefined;
  /** A device that is not connected. */
  readonly self: { readonly identity: string; readonly device: string };
  readonly ca: string | undefined;
  readonly proxies: Proxies;
  /** Milliseconds. */
  readonly timeout: number;
  readonly signal: AbortSignal;
}

/** The handler of the message, by which it is told from others. */
const RESOURCE = "doctor";

/**
 * Measures a way.
 *
 * @returns bytes per second there and back, of what was back at the timeout; undefined if it failed
 * @throws the reason of an aborted signal, and nothing else
 */
export async function measureRate(way: Way, options: RateOptions): Promise<number | undefined> {
  const { edge, relay, token, self, ca, proxies, timeout, signal } = options;
  signal.throwIfAborted();
  let transport: Transport | undefined;
  const stop = () => transport?.close();
  signal.addEventListener("abort", stop, { once: true });
  try {
    transport = openTransport({ transport: way.transport, way, relay, edge, token, ca, proxies });
    const conversation = new Conversation(transport, { relay, self });
    const loop = new Loop(conversation, self);
    const measured = await within(timeout, sendToItself(conversation, loop));
    return measured === undefined ? loop.rate : measured.value;
  } catch {
    return undefined;
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
    signal.throwIfAborted();
  }
}

async function sendToItself(conversation: Conversation, loop: Loop): Promise<number | undefined> {
  await conversation.begin();
  for await (const event of conversation.events()) {
    const took = loop.handle(event);
    if (took === undefined) continue;
    await conversation.leave();
    return (RATE_OCTETS * 1000) / Math.max(took, 1);
  }
  return undefined;
}

/** The message on its way. */
class Loop {
  readonly #conversation: Conversation;
  readonly #self: RateOptions["self"];
  // Random, because a proxy may compress.
  readonly #body = randomBytes(RATE_OCTETS);
  #sending: number | undefined;
  #receiving: number | undefined;
  #received: Uint8Array[] = [];
  #receivedOctets = 0;
  #start = 0;

  constructor(conversation: Conversation, self: RateOptions["self"]) {
    this.#conversation = conversation;
    this.#self = self;
  }

  /** Bytes per second so far; undefined before it is sent. */
  get rate(): number | undefined {
    if (this.#start === 0) return undefined;
    return (Math.min(this.#receivedOctets, RATE_OCTETS) * 1000) / (performance.now() - this.#start);
  }

  /** Returns after how many milliseconds the message has come back, once it has. */
  handle(event: ConnectionEvent): number | undefined {
    const { engine } = this.#conversation;
    switch (event.type) {
      case "connected": {
        const to = { identityURL: identityURL(this.#self), deviceURL: deviceURL(this.#self) };
        this.#sending = engine.open({ resourceURL: RESOURCE, ...to });
        return undefined;
      }
      case "sessionState":
        if (event.sessionId === this.#sending && event.state === "ready" && this.#start === 0)
          this.#send(event.sessionId);
        return undefined;
      case "open": {
        const isOurs = event.resourceURL === RESOURCE;
        if (isOurs) this.#receiving = event.sessionId;
        engine.setAvailability(event.sessionId, isOurs ? "ready" : "notReady");
        return undefined;
      }
      case "message":
        if (event.sessionId === this.#receiving) {
          this.#received = [];
          this.#receivedOctets = 0;
        }
        return undefined;
      case "data":
        if (event.sessionId !== this.#receiving) return undefined;
        this.#receivedOctets += event.octets.length;
        // What is longer is another message, of an edge that lies.
        if (this.#receivedOctets <= RATE_OCTETS) this.#received.push(event.octets.slice());
        return undefined;
      case "endMessage": {
        if (event.sessionId !== this.#receiving || !this.#body.equals(Buffer.concat(this.#received))) return undefined;
        engine.complete(event.message, performance.now());
        return performance.now() - this.#start;
      }
      default:
        return undefined;
    }
  }

  #send(sessionId: number): void {
    const { engine } = this.#conversation;
    this.#start = performance.now();
    const userRef = `${randomBytes(NAME_OCTETS).toString("hex")}${idSuffix(this.#self)}`;
    engine.beginMessage(sessionId, { userRef, acknowledgeImmediately: true, doNotDeliverIfOffline: true });
    engine.data(sessionId, this.#body);
    engine.endMessage(sessionId);
  }
}
