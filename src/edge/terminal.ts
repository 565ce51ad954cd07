/**
 * Terminal: where SSTP ends at this edge. The engine in the relay role, between the octets of one peer, a device or an
 * origin relay, and the mailboxes of all.
 *
 *   octets ─► engine ─► Intake ─► Mailbox.append ─► acknowledgement ─► octets
 *   Mailbox.deliver ─► Outlet ─► engine ─► octets ─► acknowledged ─► Mailbox.acknowledge
 *
 * It has the face of an origin relay's socket, so the Tunnel does not care which of both it carries octets to.
 *
 * @module
 */
import {
  AddressError,
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  type ConnectionSnapshot,
  ConnectResponseId,
  identityURL,
  isMultidrop,
  isRelay,
  isURL,
  parseURL,
  wholeCommands,
} from "../sstp/index.ts";
import {
  BULK_IDLE,
  LINK_KEEP_ALIVE,
  LINK_RECEIVE_TIMEOUT,
  READ_SIZE,
  UNSTORED_MESSAGES,
  UNSTORED_OCTETS,
} from "./defaults.ts";
import { Intake, type IntakeSnapshot } from "./intake.ts";
import type { Delivery, Mailbox, Taken } from "./mailbox.ts";
import type { Inflow, Origin } from "./origin.ts";
import { Outlet, type OutletSnapshot } from "./outlet.ts";
import { byteReader, within } from "./streams.ts";
import type { Throttle } from "./throttle.ts";

/** What a terminal needs of the object that it lives in. */
export interface Host {
  /** The object's name, by which mailboxes call it back. */
  readonly name: string;
  mailbox(peer: string): DurableObjectStub<Mailbox>;
  /** What a device's share is metered by; undefined when it has no limits. */
  throttle(source: string): Throttle | undefined;
  /** The one URL of an origin relay that messages may be sent to, or undefined when that is not allowed. */
  remote(relayURL: string): string | undefined;
  /** A peer has connected: links that the operator wants kept are looked after. */
  arrived(): void;
  /** Keeps the object alive until the promise settles. */
  waitUntil(promise: Promise<unknown>): void;
}

/** A terminal at rest, as plain data. */
export interface TerminalSnapshot {
  readonly engine: ConnectionSnapshot;
  readonly source: string;
  readonly intake: IntakeSnapshot;
  readonly outlet: OutletSnapshot;
}

/** Which side of the connection the edge is. */
export interface Side {
  /** The URLs by which the peer may mean this edge, and by which it introduces itself. */
  readonly localDeviceURLs: readonly string[];
  /** The origin relay that the edge has connected to; absent when the peer has connected to the edge. */
  readonly relay?: string;
}

export class Terminal implements Origin {
  readonly #host: Host;
  readonly #side: Side;
  readonly #engine: Connection;
  readonly #intake: Intake;
  readonly #outlet: Outlet;
  #source: string;
  /** Octets made and not taken. */
  #blocks: Uint8Array[] = [];
  readonly #opened = Promise.withResolvers<boolean>();
  #ended = false;
  #waiters: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #throttle: Throttle | undefined;
  /** A Connect waits for the meter. */
  #entering = false;
  /** Messages that have come whole. */
  #messages = 0;
  /** Calls whose octets are taken, and whose device is not read meanwhile. */
  #writing = 0;

  constructor(host: Host, { localDeviceURLs, relay }: Side, snapshot?: TerminalSnapshot) {
    const options = {
      role: "relay",
      outbound: relay !== undefined,
      localDeviceURLs,
      now: Date.now(),
      multidropSupported: true,
      // A message goes by one other relay at the most: what comes from a relay is for peers of ours.
      singleHopSupported: relay === undefined,
      ...(relay !== undefined && { keepAlive: LINK_KEEP_ALIVE, receiveTimeout: LINK_RECEIVE_TIMEOUT }),
    } as const;
    this.#host = host;
    this.#side = { localDeviceURLs, ...(relay !== undefined && { relay }) };
    this.#engine = snapshot === undefined ? new Connection(options) : Connection.restore(snapshot.engine, options);
    this.#source = snapshot?.source ?? relay ?? "";
    if (this.#source !== "") this.#throttle = host.throttle(this.#source);
    this.#intake = new Intake(host, this.#engine, () => this.#changed(), snapshot?.intake);
    this.#outlet = new Outlet(
      host,
      this.#engine,
      relay,
      () => this.#changed(),
      (peer) => this.#lost(peer),
      snapshot?.outlet,
    );
    if (relay !== undefined) this.#engine.connect(relay);
  }

  async write(octets: Uint8Array): Promise<void> {
    const before = this.#messages;
    this.#handle(this.#engine.receive(octets, Date.now()));
    this.#writing += 1;
    try {
      // What has come is taken; whoever has used up what he may is not read for a while.
      await this.#throttle?.spend(octets.length, this.#messages - before);
      // The mailboxes are behind: the device is not read until they have caught up.
      while (!this.#ended && (this.#intake.octets > UNSTORED_OCTETS || this.#engine.unprocessed > UNSTORED_MESSAGES)) {
        await this.#intake.progress();
      }
    } finally {
      this.#writing -= 1;
    }
  }

  ready(): Promise<void> {
    if (this.peek() !== undefined) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  peek(): Inflow | undefined {
    this.#outlet.fill();
    this.#blocks.push(...this.#engine.output(Date.now()));
    const [octets] = this.#blocks;
    if (octets !== undefined) return { kind: "octets", octets };
    return this.#ended ? { kind: "ended", reason: "OriginClosed" } : undefined;
  }

  /** Whole commands only: between two takes the stream stands at a boundary, where a Noop may be put in. */
  take(max: number): Inflow | undefined {
    const waiting = this.peek();
    if (waiting?.kind !== "octets") return waiting;
    const length = wholeCommands(waiting.octets, max);
    if (length === waiting.octets.length) this.#blocks.shift();
    else this.#blocks[0] = waiting.octets.subarray(length);
    return { kind: "octets", octets: waiting.octets.subarray(0, length) };
  }

  async pipeFrom(stream: ReadableStream<Uint8Array>): Promise<void> {
    const read = byteReader(stream, READ_SIZE);
    for (let octets = await read(); typeof octets !== "string"; octets = await read()) await this.write(octets);
  }

  /** Only until it pauses: then the object may sleep, and the bell rings again. */
  async pipeTo(stream: WritableStream<Uint8Array>): Promise<void> {
    const writer = stream.getWriter();
    while ((await within(BULK_IDLE, this.ready())) !== undefined) {
      if (this.peek()?.kind !== "octets") break;
      const taken = this.take(READ_SIZE);
      if (taken?.kind === "octets") await writer.write(taken.octets);
    }
    await writer.close();
  }

  /** Whether the device has said Connect and was let in. */
  get connected(): boolean {
    return this.#engine.state === "established";
  }

  /** The virtual connection is over. */
  close(): void {
    clearTimeout(this.#timer);
    this.#engine.transportLost();
    this.#end();
  }

  /** A mailbox sends messages. */
  deliver(peer: string, generation: number, messages: readonly Delivery[]): Taken {
    return this.#outlet.deliver(peer, generation, messages);
  }

  /** Another connection consumes a mailbox of ours from now on. True when this one stays, and would have it back. */
  fenced(peer: string, generation: number): boolean {
    return this.#outlet.cede(peer, generation) && this.#engine.closed === undefined;
  }

  /** A mailbox that was ours has lost its consumer. True when this connection takes it back. */
  recall(peer: string): boolean {
    return this.#outlet.recall(peer);
  }

  /** A device has one connection: the older one is dead, or about to be replaced. An identity may have several. */
  #lost(peer: string): void {
    if (peer === this.#source) this.#engine.close(ConnectCloseReasonId.CrossedConnections);
    this.#changed();
  }

  /** Whether the stream from the device stands between two commands, and nothing waits here to be sent or stored. */
  get quiet(): boolean {
    if (this.#entering || this.#writing > 0 || this.#timer !== undefined) return false;
    return this.#intake.quiet && this.#outlet.quiet && this.peek() === undefined;
  }

  /** The state to go on from, when it is quiet; undefined otherwise. */
  snapshot(): TerminalSnapshot | undefined {
    if (!this.quiet || this.#ended) return undefined;
    return {
      engine: this.#engine.snapshot(),
      source: this.#source,
      intake: this.#intake.snapshot(),
      outlet: this.#outlet.snapshot(),
    };
  }

  #handle(events: readonly ConnectionEvent[]): void {
    for (const event of events) this.#on(event);
    this.#intake.flush();
    this.#changed();
  }

  /** By the time that an event is looked at, octets behind it may have ended its session, or the connection. */
  #on(event: ConnectionEvent): void {
    switch (event.type) {
      case "connect":
        if (this.#engine.state !== "connecting") break;
        this.#connect(event.sourceDeviceURLs);
        break;
      case "connected":
        if (this.#side.relay !== undefined) this.#opened.resolve(this.#outlet.consume(this.#side.relay));
        break;
      case "attach": {
        if (this.#engine.session(event.eventId) === undefined) break;
        const account = accountOf(event.accountURL);
        if (account === undefined) {
          this.#engine.closeSession(event.eventId, CloseReasonId.UserAuthenticationFailed);
          break;
        }
        this.#engine.acceptAttach(event.eventId);
        void this.#outlet.consume(identityURL(account));
        break;
      }
      case "register":
        if (this.#engine.session(event.eventId) !== undefined) this.#engine.acceptRegister(event.eventId);
        break;
      case "open": {
        if (this.#engine.session(event.sessionId) === undefined) break;
        const named = isURL(event.identityURL) && (event.deviceURL === "" || isURL(event.deviceURL));
        this.#engine.setAvailability(event.sessionId, named ? "ready" : "fault");
        const target = { ...event, relayURL: "" };
        if (named) this.#intake.open(event.sessionId, this.#source, event.resourceURL, [target], false);
        break;
      }
      case "fanoutOpen":
        if (this.#engine.session(event.sessionId) === undefined) break;
        this.#fanout(event);
        break;
      case "message":
        this.#intake.begin(event.sessionId, event.fields);
        break;
      case "data":
        this.#intake.data(event.sessionId, event.octets);
        break;
      case "endMessage":
        this.#messages += 1;
        this.#intake.end(event.sessionId, event.message);
        break;
      case "sessionClosed":
        if (event.kind === "inbound") this.#intake.close(event.sessionId);
        else this.#outlet.sessionLost(event.sessionId, event.unacknowledged, event.reasonId);
        break;
      case "sessionState":
        this.#outlet.sessionState(event.sessionId, event.state);
        break;
      case "sessionStatus":
        this.#outlet.recipientsRefused(event.sessionId, event.indexes.length);
        break;
      case "sessionRefused":
        this.#outlet.sessionLost(event.sessionId, event.unacknowledged);
        break;
      case "acknowledged":
        this.#outlet.acknowledged(event.messages);
        break;
      case "closed":
        this.#end();
        break;
    }
  }

  #connect(sources: readonly string[]): void {
    const throttle = this.#host.throttle(sources[0] ?? "");
    if (throttle === undefined) this.#accept(sources);
    else {
      this.#throttle = throttle;
      this.#entering = true;
      this.#host.waitUntil(this.#enter(throttle, sources));
    }
  }

  /** Whoever has as many virtual connections as he may, or makes them too fast, is told when to try again. */
  async #enter(throttle: Throttle, sources: readonly string[]): Promise<void> {
    const entrance = await throttle.enter();
    this.#entering = false;
    if (this.#ended) {
      // It left before it had entered.
      await throttle.leave();
      return;
    }
    if (this.#engine.state === "connecting") {
      if (entrance.ok) this.#accept(sources);
      else this.#engine.refuseConnect(ConnectResponseId.TryLater, entrance.retryAfter);
    }
    this.#changed();
  }

  #accept(sources: readonly string[]): void {
    this.#engine.acceptConnect();
    this.#host.arrived();
    this.#source = sources[0] ?? "";
    for (const url of sources) void this.#outlet.consume(url);
  }

  /** Peers of ours are served here; those of another relay by its mailbox, if it is one that the edge may connect to. */
  #fanout(event: Extract<ConnectionEvent, { type: "fanoutOpen" }>): void {
    this.#engine.setAvailability(event.sessionId, "ready");
    const unreachable: number[] = [];
    const targets = event.entries.map((entry, index) => {
      if (isMultidrop(entry, this.#side.localDeviceURLs)) return { ...entry, relayURL: "" };
      // From a relay it would be the second hop.
      const relayURL = isRelay(this.#source) ? undefined : this.#host.remote(entry.relayURL);
      if (relayURL === undefined) unreachable.push(index);
      return { ...entry, relayURL: relayURL ?? entry.relayURL };
    });
    this.#intake.open(event.sessionId, this.#source, event.resourceURL, targets, true);
    this.#intake.fail(event.sessionId, unreachable, "HostNotReachable");
  }

  /** Resolves when messages go to the origin relay, or with false when they will not. */
  get opened(): Promise<boolean> {
    return this.#opened.promise;
  }

  /** Nothing more is sent to the peer than what has been begun. */
  pause(): void {
    this.#outlet.pause();
  }

  /** Whether nothing is on its way, to the peer or to a mailbox. */
  get idle(): boolean {
    return this.#outlet.idle && this.#intake.quiet;
  }

  /** Ends the connection in good order: what has been processed is acknowledged. */
  rest(): void {
    this.#engine.close(ConnectCloseReasonId.Resting);
    this.#changed();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#throttle !== undefined) this.#host.waitUntil(this.#throttle.leave());
    this.#opened.resolve(false);
    this.#intake.abandon();
    this.#outlet.abandon();
    this.#wake();
  }

  /** There may be octets, or a deadline. */
  #changed(): void {
    if (this.#engine.closed !== undefined) this.#end();
    if (this.peek() !== undefined) this.#wake();
    const { deadline } = this.#engine;
    if (deadline === Number.POSITIVE_INFINITY || this.#ended || this.#timer !== undefined) return;
    // With a device it is the acknowledgement timer of SSTP alone: five seconds, and then the object may rest. With a
    // relay also the Noop, while the socket keeps the object in memory in any case.
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#handle(this.#engine.advance(Date.now()));
      },
      Math.max(0, deadline - Date.now()),
    );
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }
}

/** The account of an Attach, or undefined when the URL is none of an account. */
function accountOf(url: string): { readonly identity: string } | undefined {
  try {
    const named = parseURL(url);
    return named.kind === "account" ? named : undefined;
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}
