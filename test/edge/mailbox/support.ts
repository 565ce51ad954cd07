/** Edges, devices and raw SSTP clients for the tests of mailboxes. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalEdgeOptions } from "../../../src/cli/local-edge/local-edge.ts";
import {
  Device,
  type DeviceOptions,
  type Message,
  openTransport,
  type TransportName,
} from "../../../src/device/index.ts";
import type { DeliveryReport } from "../../../src/edge/rpc/delivery-report.ts";
import type {
  Acknowledged,
  Appended,
  MailboxStatus,
  Refusal,
  Room,
  Wanted,
  Withdrawal,
} from "../../../src/edge/rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../../../src/edge/rpc/message-batch.ts";
import {
  accountURL,
  Connection,
  type ConnectionEvent,
  type ConnectionOptions,
  relayURL,
} from "../../../src/sstp/index.ts";
import { type InspectedEdge, startInspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { PATIENCE } from "../../support/sockets.ts";
import { until } from "../../support/watch.ts";

export { until };

/** The transports to an edge that is itself the relay. */
export const TRANSPORTS = ["websocket", "longlived", "keepalive", "polling"] as const satisfies TransportName[];

interface Context {
  after(run: () => Promise<unknown>): void;
}

/** An edge on a free port, stopped when the test is over. */
export async function startEdge(context: Context, options: Partial<LocalEdgeOptions> = {}): Promise<InspectedEdge> {
  const edge = await startInspectedEdge({
    port: 0,
    relayAllow: [],
    dev: options.keys === undefined ? "1" : "private",
    ...options,
  });
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= edge.close();
    return closing;
  };
  context.after(close);
  return { ...edge, close };
}

/** For what all tests of a file or suite share: it is closed after them. Call it where `after` may be called. */
export function afterAll(): Context {
  const closing: (() => Promise<unknown>)[] = [];
  after(async () => {
    for (const close of closing) await close();
  });
  return { after: (close) => closing.push(close) };
}

const connected: Device[] = [];
// A failed test leaves its devices behind, which would look for their edge as long as the process lives.
after(() => Promise.all(connected.map((device) => device.close())));

/** A device connected to the edge itself, closed at the end of all tests unless closed before. */
export async function connect(
  edge: Pick<InspectedEdge, "url">,
  address: string,
  transport: TransportName | "auto",
  options: Partial<DeviceOptions> = {},
): Promise<Device> {
  const device = await Device.connect({ edge: edge.url, address, transport, ...options });
  connected.push(device);
  return device;
}

/** The methods of a mailbox's object that tests use. */
export interface MailboxStub {
  append(bundle: MessageBatch, from?: string): Promise<Appended>;
  pass(bundle: MessageBatch): Promise<Refusal[]>;
  attach(): Promise<{ readonly generation: number }>;
  ready(tunnel: string, generation: number): Promise<boolean>;
  acknowledge(generation: number, report: DeliveryReport): Promise<Acknowledged | undefined>;
  room(source: string): Promise<Room>;
  withdraw(wanted: Wanted): Promise<Withdrawal>;
  status(): Promise<MailboxStatus>;
  purge(): Promise<number>;
  setLocked(locked: boolean): Promise<void>;
}

/** The object of a mailbox, by its peer's URL. */
export function mailboxOf(edge: InspectedEdge, peer: string): Promise<MailboxStub> {
  return objectOf(edge.miniflare, "MAILBOX", peer);
}

export interface TunnelStub {
  status(): Promise<{ readonly live: boolean; readonly ended?: string; readonly since: number }>;
}

/** The object of a virtual connection, by its GUID. */
export function tunnelOf(edge: InspectedEdge, guid: string): Promise<TunnelStub> {
  return objectOf(edge.miniflare, "TUNNEL", guid);
}

/** The next messages of a device, each done at once. Fails when they do not arrive. */
export async function receive(device: Device, count: number, patience = PATIENCE): Promise<Message[]> {
  const taken: Message[] = [];
  const late = new AbortController();
  const limit = sleep(patience, undefined, { signal: late.signal }).then(
    () => {
      throw new Error(`${taken.length} of ${count} messages came within ${patience} ms`);
    },
    () => undefined,
  );
  const all = (async () => {
    const messages = device.messages();
    while (taken.length < count) {
      const { value, done } = await messages.next();
      if (done === true) throw new Error(`the device ended after ${taken.length} of ${count} messages`);
      value.done();
      taken.push(value);
    }
  })();
  try {
    await Promise.race([all, limit]);
  } finally {
    late.abort();
  }
  return taken;
}

/** A body of this length that differs from every other message at the same position. */
export function bodyOf(length: number, seed: string): Uint8Array {
  const block = createHash("sha256").update(seed).digest();
  const repeated = Uint8Array.from({ length: Math.min(length, 8192) }, (_, i) => (block[i % 32] ?? 0) ^ (i >>> 5));
  const body = new Uint8Array(length);
  for (let at = 0; at < length; at += repeated.length) body.set(repeated.subarray(0, length - at), at);
  return body;
}

/** A client that speaks SSTP itself: the engine of src/sstp over a transport of src/device. */
export class RawClient {
  readonly engine: Connection;
  readonly events: ConnectionEvent[] = [];
  readonly #transport: ReturnType<typeof openTransport>;
  #octets = new Map<number, Uint8Array[]>();
  /** Complete messages: session, fields and body. */
  readonly messages: { sessionId: number; number: number; fields: object; body: Buffer }[] = [];
  #fields = new Map<number, object>();
  /** Resources that it refuses. */
  refused: readonly string[] = [];

  constructor(
    edge: Pick<InspectedEdge, "url">,
    transport: TransportName,
    url: string,
    options: Partial<ConnectionOptions> = {},
    relay = "127.0.0.1",
    token?: string,
  ) {
    this.#transport = openTransport({ transport, relay, edge: edge.url, token });
    this.engine = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: [url],
      now: performance.now(),
      ...options,
    });
  }

  /**
   * Connects, and attaches the account of an identity if given.
   *
   * @param token sent with each request
   */
  static async open(
    edge: Pick<InspectedEdge, "url">,
    transport: TransportName,
    url: string,
    identity?: string,
    options: Partial<ConnectionOptions> = {},
    token?: string,
  ): Promise<RawClient> {
    const client = new RawClient(edge, transport, url, options, "127.0.0.1", token);
    client.connect("127.0.0.1");
    await client.event("connected");
    if (identity !== undefined) {
      client.engine.attach({ accountURL: accountURL({ identity }) });
      client.flush();
      await client.event("attached");
    }
    return client;
  }

  /** @param token the AuthenticationToken */
  connect(relay: string, token = ""): void {
    this.engine.connect(relayURL(relay), new TextEncoder().encode(token));
    this.flush();
    void this.#read();
  }

  flush(): void {
    const blocks = this.engine.output(performance.now());
    if (blocks.length > 0) void this.#transport.write(blocks);
  }

  /** Opens a session and waits until it is ready. */
  async session(resourceURL: string, identityURL: string, deviceURL = ""): Promise<number> {
    const sessionId = this.engine.open({ resourceURL, identityURL, deviceURL });
    this.flush();
    await this.event("sessionState", (event) => event.sessionId === sessionId);
    return sessionId;
  }

  /** Sends a message; returns the number that its acknowledgement will have. */
  send(sessionId: number, body: string | Uint8Array, fields: Parameters<Connection["beginMessage"]>[1] = {}): number {
    this.engine.beginMessage(sessionId, { acknowledgeImmediately: true, ...fields });
    this.engine.data(sessionId, typeof body === "string" ? new TextEncoder().encode(body) : body);
    const number = this.engine.endMessage(sessionId);
    this.flush();
    return number;
  }

  /** Waits for an event, including one that has already happened. */
  async event<T extends ConnectionEvent["type"]>(
    type: T,
    which: (event: Extract<ConnectionEvent, { type: T }>) => boolean = () => true,
    patience = PATIENCE,
  ): Promise<Extract<ConnectionEvent, { type: T }>> {
    let found: Extract<ConnectionEvent, { type: T }> | undefined;
    const looking = until(
      `event ${type}`,
      () => {
        found = this.events.find(
          (event): event is Extract<ConnectionEvent, { type: T }> => event.type === type && which(event as never),
        );
        return found !== undefined;
      },
      patience,
    );
    await looking.catch((error: Error) => {
      const came = this.events.map((event) => event.type).join(" ");
      throw new Error(`${error.message}; came ${came} ${JSON.stringify(this.#transport.lost ?? "")}`);
    });
    assert.ok(found);
    return found;
  }

  /** The edge's reason for ending the transport. */
  get lost(): string | undefined {
    return this.#transport.lost?.code;
  }

  close(): void {
    this.#transport.close();
  }

  async #read(): Promise<void> {
    for (;;) {
      const octets = await this.#transport.read();
      if (octets === undefined) break;
      this.#handle(this.engine.receive(octets, performance.now()));
    }
    this.#handle(this.engine.transportLost());
  }

  #handle(events: readonly ConnectionEvent[]): void {
    for (const event of events) {
      this.events.push(event);
      if (event.type === "open") {
        const refused = this.refused.includes(event.resourceURL);
        this.engine.setAvailability(event.sessionId, refused ? "fault" : "ready");
      }
      if (event.type === "message") {
        this.#fields.set(event.sessionId, event.fields);
        this.#octets.set(event.sessionId, []);
      }
      if (event.type === "data") this.#octets.get(event.sessionId)?.push(new Uint8Array(event.octets));
      if (event.type === "endMessage") {
        const body = Buffer.concat(this.#octets.get(event.sessionId) ?? []);
        const fields = this.#fields.get(event.sessionId) ?? {};
        this.messages.push({ sessionId: event.sessionId, number: event.message, fields, body });
        this.engine.complete(event.message, performance.now());
      }
    }
    this.flush();
  }
}

/** A name that no other test has used. */
export function fresh(prefix: string): string {
  return `${prefix}-${randomBytes(4).toString("hex")}`;
}
