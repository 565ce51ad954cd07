/**
 * Measures how fast a way carries data: connects as a device, and sends one message to itself. The message has flag D,
 * so nothing stays at the edge. Other messages for the device are left where they wait, and its identity's are not asked
 * for.
 *
 * A short message goes first, again and again until it is back: until the edge knows that this device is connected, it
 * drops what has flag D.
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

/** The handler of the message, which distinguishes it from others. */
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

/** The message that goes first. */
const SHORT = Buffer.from([0]);

/** The message on its way. */
class Loop {
  readonly #conversation: Conversation;
  readonly #self: RateOptions["self"];
  // Random, because a proxy may compress.
  readonly #body = randomBytes(RATE_OCTETS);
  /** The session to oneself, and that of the messages that come back. */
  #sending: number | undefined;
  #receiving: number | undefined;
  #received: Uint8Array[] = [];
  #receivedOctets = 0;
  /** Whether the short message has come back, and the long one was sent. */
  #isBack = false;
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
        if (event.sessionId === this.#sending && event.state === "ready" && !this.#isBack) this.#send(SHORT);
        return undefined;
      case "acknowledged":
        if (!this.#isBack) this.#send(SHORT);
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
        if (this.#receivedOctets <= RATE_OCTETS) this.#received.push(new Uint8Array(event.octets));
        return undefined;
      case "endMessage": {
        if (event.sessionId !== this.#receiving) return undefined;
        engine.complete(event.message, performance.now());
        const body = Buffer.concat(this.#received);
        if (this.#body.equals(body)) return performance.now() - this.#start;
        if (this.#isBack || !body.equals(SHORT)) return undefined;
        this.#isBack = true;
        this.#received = [];
        this.#receivedOctets = 0;
        this.#start = performance.now();
        this.#send(this.#body);
        return undefined;
      }
      default:
        return undefined;
    }
  }

  #send(body: Uint8Array): void {
    const { engine } = this.#conversation;
    const sessionId = this.#sending;
    const session = sessionId === undefined ? undefined : engine.session(sessionId);
    if (sessionId === undefined || session?.kind !== "outbound" || session.state !== "ready") return;
    const userRef = `${randomBytes(NAME_OCTETS).toString("hex")}${idSuffix(this.#self)}`;
    engine.beginMessage(sessionId, { userRef, acknowledgeImmediately: true, doNotDeliverIfOffline: true });
    engine.data(sessionId, body);
    engine.endMessage(sessionId);
  }
}
