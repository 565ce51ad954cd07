/**
 * Terminal: where a virtual connection that names this edge ends. The SSTP engine in the relay role, between the octets
 * of one device and the mailboxes of all.
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
  isURL,
  parseURL,
  wholeCommands,
} from "../sstp/index.ts";
import { BULK_IDLE, READ_SIZE, UNSTORED_MESSAGES, UNSTORED_OCTETS } from "./defaults.ts";
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

export class Terminal implements Origin {
  readonly #engine: Connection;
  readonly #intake: Intake;
  readonly #outlet: Outlet;
  #source: string;
  /** Octets made and not taken. */
  #blocks: Uint8Array[] = [];
  #ended = false;
  #waiters: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #host: Host;
  #throttle: Throttle | undefined;
  /** A Connect waits for the meter. */
  #entering = false;
  /** Messages that have come whole. */
  #messages = 0;
  /** Calls whose octets are taken, and whose device is not read meanwhile. */
  #writing = 0;

  constructor(host: Host, localDeviceURLs: readonly string[], snapshot?: TerminalSnapshot) {
    const options = {
      role: "relay",
      outbound: false,
      localDeviceURLs,
      now: Date.now(),
      multidropSupported: true,
    } as const;
    this.#engine = snapshot === undefined ? new Connection(options) : Connection.restore(snapshot.engine, options);
    this.#source = snapshot?.source ?? "";
    this.#host = host;
    if (this.#source !== "") this.#throttle = host.throttle(this.#source);
    this.#intake = new Intake(host, this.#engine, () => this.#changed(), snapshot?.intake);
    this.#outlet = new Outlet(
      host,
      this.#engine,
      () => this.#changed(),
      (peer) => this.#lost(peer),
      snapshot?.outlet,
    );
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
      case "attach": {
        if (this.#engine.session(event.eventId) === undefined) break;
        const account = accountOf(event.accountURL);
        if (account === undefined) {
          this.#engine.closeSession(event.eventId, CloseReasonId.UserAuthenticationFailed);
          break;
        }
        this.#engine.acceptAttach(event.eventId);
        this.#outlet.consume(identityURL(account));
        break;
      }
      case "register":
        if (this.#engine.session(event.eventId) !== undefined) this.#engine.acceptRegister(event.eventId);
        break;
      case "open": {
        if (this.#engine.session(event.sessionId) === undefined) break;
        const named = isURL(event.identityURL) && (event.deviceURL === "" || isURL(event.deviceURL));
        this.#engine.setAvailability(event.sessionId, named ? "ready" : "fault");
        if (named) this.#intake.open(event.sessionId, this.#source, event.resourceURL, [event], false);
        break;
      }
      case "fanoutOpen":
        if (this.#engine.session(event.sessionId) === undefined) break;
        this.#engine.setAvailability(event.sessionId, "ready");
        this.#intake.open(event.sessionId, this.#source, event.resourceURL, event.entries, true);
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
    this.#source = sources[0] ?? "";
    for (const url of sources) this.#outlet.consume(url);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#throttle !== undefined) this.#host.waitUntil(this.#throttle.leave());
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
    // Only the acknowledgement timer of SSTP: it is over in five seconds, and then the object may rest.
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
