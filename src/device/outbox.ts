/**
 * The outbox: keeps each message until the relay has acknowledged it, across any number of carriers.
 *
 *   add ─► queue of its destination ─► its turn ─► sent ─(acknowledged)─► resolved
 *     ▲            ▲                                 │
 *     │            └─ the carrier is lost, or the relay closes the session for now ─┘
 *     └ refused: rejected
 *
 * Each destination has its own queue and session. Destinations take turns, so none blocks another. Messages to one
 * destination keep their order, with at most {@link FLIGHT} in flight.
 *
 * When the relay suspends a session, its destination is held: nothing more is sent there until the relay allows it. A
 * hold outlives the carrier. A new session to a held destination starts with one message; the rest follow when that one
 * is acknowledged and the session is still ready. If the relay refuses it over quota, the outbox tries again after a
 * pause.
 *
 * @module
 */
import { Condition } from "../lib/condition.ts";
import { Queue } from "../lib/queue.ts";
import { type ConnectionEvent, MAX_DATA_OCTETS, type MessageFields } from "../sstp/index.ts";
import { FLIGHT } from "../store-and-forward/sender-share.ts";
import { DeviceError } from "./device-error.ts";
import {
  HELD_FIRST,
  HELD_LAST,
  HELD_REMEMBERED,
  OUTBOX_OCTETS,
  RECONNECT_FIRST,
  SESSIONS_ASKED,
  SLICE,
} from "./limits.ts";
import type { HeldListener } from "./options.ts";
import {
  type Destination,
  isPassing,
  type RelayConnection,
  sessionRefusal,
  statusRefusal,
} from "./relay-connection.ts";
import type { EndedConnection } from "./transports/path-mtu.ts";

/** A message to send. */
export interface Outgoing extends MessageFields {
  /** The message's id. */
  readonly userRef: string;
  readonly destination: Destination;
  readonly body: Uint8Array;
  readonly signal: AbortSignal | undefined;
  readonly resolve: () => void;
  readonly reject: (error: DeviceError) => void;
}

/** What an outbox needs from its device. */
export interface OutboxOptions {
  /** Bytes that the transport must have left before a message of this length may begin. */
  readonly needed: (length: number) => number;
  /** Replaces a carrier that is nearly used up. Resolves when the replacement has succeeded or failed. */
  readonly renew: () => Promise<void>;
  /** Whether the carrier is being replaced. Then no new message begins on it. */
  readonly isRenewing: () => boolean;
  /** Waits, at most until the device closes. */
  readonly pause: (milliseconds: number) => Promise<void>;
  /** Whether the edge of this name will never be connected to again. Default: never. */
  readonly isGone?: ((place: string) => boolean) | undefined;
  readonly onHeld?: HeldListener | undefined;
  readonly onReleased?: HeldListener | undefined;
  /** What else is sent on the same carriers, and told the same. */
  readonly beside?: Beside | undefined;
}

/** Receives the events of carriers, as an outbox does. */
export interface Beside {
  attach(carrier: RelayConnection): void;
  detach(): void;
  on(event: ConnectionEvent, key: string | undefined): void;
}

/** A message that is partly sent, and how far. */
interface Current {
  readonly outgoing: Outgoing;
  readonly sessionId: number;
  at: number;
}

/** Why a destination is sent nothing, or one message at a time. */
interface Hold {
  /** The suspended session; undefined when it is gone. Then one message probes the next session. */
  sessionId: number | undefined;
  /** Consecutive quota refusals. `resting` is set during the pause after one. */
  refusals: number;
  resting: boolean;
  /** Whether `onHeld` was called. */
  told: boolean;
}

/** A destination and its queue, in order. */
interface Line {
  readonly destination: Destination;
  readonly waiting: Queue<Outgoing>;
  current: Current | undefined;
  /** Begun on this carrier and not yet acknowledged. */
  readonly flight: { octets: number; messages: number };
  /** It is in `#turns`. */
  inTurn: boolean;
  /** It waits for its session or for another carrier. */
  asking: boolean;
  hold: Hold | undefined;
}

/** A carrier in use. It may be used again after another one, and what was begun before must not go on then. */
interface Attachment {
  readonly carrier: RelayConnection;
  /** The edge at its other end, where there are several. */
  readonly place: string;
}

/** A message that was sent, and its session. */
type Sent = Pick<Current, "outgoing" | "sessionId">;

export class Outbox {
  readonly #options: OutboxOptions;
  /** By destination key. */
  readonly #lines = new Map<string, Line>();
  /** Lines that may send, in round-robin order. */
  readonly #turns = new Queue<Line>();
  /** Sent and not acknowledged, by the engine's number, oldest first. */
  readonly #sent = new Map<number, Sent>();
  /** Messages that may have reached a relay before the connection was lost, and which. They cannot be withdrawn. */
  readonly #uncertain = new WeakMap<Outgoing, string>();
  /** Total bytes not yet acknowledged. */
  #octets = 0;
  #attachment: Attachment | undefined;
  /** Slices sent and acknowledgements received so far. */
  #moves = 0;
  /** When the last slice was sent or the last acknowledgement came. */
  #movedAt = 0;
  /** Length of the longest message acknowledged since `ending` was last called. */
  #arrived = 0;
  /** Number of carriers so far. */
  #run = 0;
  /**
   * Recently suspended destinations: the carrier of the last suspension, and the share of {@link FLIGHT} allowed since.
   */
  readonly #suspended = new Map<string, { readonly run: number; readonly part: number }>();
  /** How many lines wait for their sessions. Those beyond SESSIONS_ASKED queue in `#unasked`. */
  #asking = 0;
  #unasked: Line[] = [];
  /** Lines that wait for a new carrier. */
  #parked: Line[] = [];
  /** Notified when a line gets its turn, or the carrier is no longer in use. */
  readonly #sendable = new Condition();
  /** Called on an acknowledgement, or when none will come. */
  readonly #progress = new Condition();
  readonly #signals = new Map<AbortSignal, { readonly messages: Set<Outgoing>; readonly abort: () => void }>();

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /**
   * Queues a message.
   *
   * @throws DeviceError OutboxFull, Aborted
   */
  add(outgoing: Outgoing): void {
    const { signal, body, destination } = outgoing;
    if (signal?.aborted) throw aborted();
    if (this.#octets + body.length > OUTBOX_OCTETS) {
      throw new DeviceError(
        "OutboxFull",
        `${OUTBOX_OCTETS} bytes are waiting for acknowledgement: await earlier sends`,
      );
    }
    this.#octets += body.length;
    if (signal !== undefined) this.#watch(signal).add(outgoing);
    const line = this.#lineOf(destination);
    line.waiting.push(outgoing);
    if (line.hold !== undefined) this.#tellHeld(line, line.hold);
    this.#rouse(line);
  }

  /**
   * Starts sending on a carrier.
   *
   * @param place the edge at its other end, where there are several
   */
  attach(carrier: RelayConnection, place = ""): void {
    const attachment = { carrier, place };
    this.#attachment = attachment;
    this.#run += 1;
    for (const [key, { run }] of this.#suspended) if (run < this.#run - 1) this.#suspended.delete(key);
    this.rouse();
    this.#pump(attachment).catch((error: unknown) => carrier.end(error));
    this.#options.beside?.attach(carrier);
  }

  /** Looks again whether lines that wait may send. */
  rouse(): void {
    for (const line of this.#lines.values()) this.#rouse(line);
  }

  /** The carrier is gone, or another is used. Its unacknowledged messages go to the front of their queues. */
  detach(): void {
    const { place = "" } = this.#attachment ?? {};
    const back = new Map<Line, Outgoing[]>();
    for (const { outgoing } of this.#sent.values()) {
      this.#uncertain.set(outgoing, place);
      const line = this.#lineOf(outgoing.destination);
      const sent = back.get(line);
      if (sent === undefined) back.set(line, [outgoing]);
      else sent.push(outgoing);
    }
    this.#sent.clear();
    for (const line of this.#lines.values()) {
      const { current, hold } = line;
      line.waiting.putBack([...(back.get(line) ?? []), ...(current === undefined ? [] : [current.outgoing])]);
      line.current = undefined;
      line.flight.octets = 0;
      line.flight.messages = 0;
      line.inTurn = false;
      line.asking = false;
      if (hold !== undefined) hold.sessionId = undefined;
    }
    this.#turns.clear();
    this.#unasked = [];
    this.#parked = [];
    this.#asking = 0;
    this.#attachment = undefined;
    this.#sendable.notifyAll();
    this.#progress.notifyAll();
    this.#options.beside?.detach();
  }

  /** What the ending carrier has achieved. Call once per carrier: it resets the counters. */
  ending(): EndedConnection {
    // A held destination may wait indefinitely; it does not count as stuck.
    const isStuck = ({ destination }: Outgoing) => this.#lines.get(destination.key)?.hold === undefined;
    const begun = [...this.#sent.values(), ...[...this.#lines.values()].flatMap(({ current }) => current ?? [])];
    const stuck = begun.reduce(
      (most, { outgoing }) => (isStuck(outgoing) ? Math.max(most, outgoing.body.length) : most),
      0,
    );
    const arrived = this.#arrived;
    this.#arrived = 0;
    return { stuck, arrived, still: performance.now() - this.#movedAt };
  }

  /** Rejects everything; nothing more is sent. */
  end(error: DeviceError): void {
    const sent = [...this.#sent.values()].map(({ outgoing }) => outgoing);
    const unsent = [...this.#lines.values()].flatMap(({ current, waiting }) => [
      ...(current === undefined ? [] : [current.outgoing]),
      ...waiting,
    ]);
    this.#sent.clear();
    this.#lines.clear();
    this.#turns.clear();
    this.#attachment = undefined;
    this.#reject([...sent, ...unsent], error);
    this.#sendable.notifyAll();
    this.#progress.notifyAll();
  }

  /** Whether any message is in flight or partly sent. */
  get isBusy(): boolean {
    return this.#sent.size > 0 || this.isSending;
  }

  /** Whether a message is partly sent and can continue. */
  get isSending(): boolean {
    // A message whose session was suspended halfway may stay so forever.
    const carrier = this.#attachment?.carrier;
    for (const { current } of this.#lines.values()) if (current && carrier?.ready(current.sessionId)) return true;
    return false;
  }

  /** Whether any message is in flight or partly sent, be its session suspended. */
  get hasBegun(): boolean {
    return this.#sent.size > 0 || [...this.#lines.values()].some(({ current }) => current !== undefined);
  }

  /** Whether a message waits for the relay in use: it is neither held, nor for a destination that waits for another. */
  get isWaiting(): boolean {
    for (const { current, waiting, flight, hold } of this.#lines.values()) {
      if (hold !== undefined) continue;
      if (current !== undefined || flight.messages > 0) return true;
      const { first } = waiting;
      if (first !== undefined && !this.#isAwaitedElsewhere(first)) return true;
    }
    return false;
  }

  /** Counts the slices sent and the acknowledgements received. */
  get moves(): number {
    return this.#moves;
  }

  /** Bytes of the messages that are in flight or partly sent. */
  get begunOctets(): number {
    let octets = 0;
    for (const { flight } of this.#lines.values()) octets += flight.octets;
    return octets;
  }

  /** Resolves at the next acknowledgement, or when none will come. */
  progress(): Promise<void> {
    return this.#progress.wait();
  }

  /**
   * Handles an event from the relay.
   *
   * @param key the destination whose session the event concerns, if the session is ours
   */
  on(event: ConnectionEvent, key: string | undefined): void {
    this.#options.beside?.on(event, key);
    switch (event.type) {
      case "acknowledged":
        for (const number of event.messages) this.#acknowledged(number);
        if (event.messages.length > 0) this.#movedAt = performance.now();
        this.#progress.notifyAll();
        break;
      case "sessionState":
        this.#sessionState(key, event.sessionId, event.state);
        break;
      case "sessionRefused":
        this.#sessionLost(key, event.sessionId, event.unacknowledged, undefined);
        break;
      case "sessionClosed":
        if (event.kind === "outbound") this.#sessionLost(key, event.sessionId, event.unacknowledged, event.reasonId);
        break;
      case "sessionStatus":
        this.#statusTold(key, event.sessionId, event.statusId);
        break;
    }
  }

  #lineOf(destination: Destination): Line {
    const { key } = destination;
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = {
        destination,
        waiting: new Queue(),
        current: undefined,
        flight: { octets: 0, messages: 0 },
        inTurn: false,
        asking: false,
        hold: undefined,
      };
      this.#lines.set(key, line);
    }
    return line;
  }

  /** Gives a line with something to send its turn. A line that must wait gives up its turn in `#serve`. */
  #rouse(line: Line): void {
    const idle = line.current === undefined && line.waiting.first === undefined;
    if (idle || line.inTurn || line.asking || this.#attachment === undefined) return;
    line.inTurn = true;
    this.#turns.push(line);
    this.#sendable.notifyAll();
  }

  /** Sends from the lines in turn, as long as this carrier is in use. */
  async #pump(attachment: Attachment): Promise<void> {
    while (this.#isInUse(attachment)) {
      const line = this.#turns.shift();
      if (line === undefined) {
        await this.#sendable.wait();
        continue;
      }
      line.inTurn = false;
      if (await this.#serve(attachment, line)) this.#rouse(line);
    }
  }

  #isInUse(attachment: Attachment): boolean {
    return this.#attachment === attachment && attachment.carrier.engine.closed === undefined;
  }

  /** Sends one slice from a line, or small messages that add up to one. False when the line must wait. */
  async #serve(attachment: Attachment, line: Line): Promise<boolean> {
    const { carrier } = attachment;
    // It was roused while sending and waits by now.
    if (line.asking) return false;
    for (let made = 0; made < SLICE; ) {
      const next = line.current?.outgoing ?? line.waiting.first;
      if (next === undefined) {
        this.#tidy(line);
        return false;
      }
      if (line.current === undefined && !this.#mayBegin(attachment, line, next)) return false;
      const sessionId = line.current?.sessionId ?? carrier.readySession(line.destination);
      if (sessionId === undefined || !carrier.ready(sessionId)) {
        this.#await(attachment, line, next);
        return false;
      }
      made += this.#transmit(carrier, line, next, sessionId);
      if (carrier.engine.pendingOctets < SLICE) void carrier.flush();
      else await carrier.flush();
      if (!this.#isInUse(attachment)) return false;
    }
    return true;
  }

  /** Whether the next message may begin now. When false, something is set to rouse the line again. */
  #mayBegin(attachment: Attachment, line: Line, next: Outgoing): boolean {
    const { carrier } = attachment;
    const { flight, hold } = line;
    const { length } = next.body;
    if (length > carrier.messageLimit) {
      line.waiting.shift();
      this.#reject([next], tooLong(length, carrier.messageLimit));
      this.#rouse(line);
      return false;
    }
    // The next carrier rouses the line.
    if (this.#isAwaitedElsewhere(next)) return false;
    // The next acknowledgement rouses the line.
    const { part } = this.#suspended.get(line.destination.key) ?? WHOLE;
    if (flight.octets >= FLIGHT.octets * part || flight.messages >= FLIGHT.messages * part) return false;
    // The end of the rest rouses the line, or the outcome of the probing message.
    if (hold !== undefined && (hold.resting || flight.messages > 0)) return false;
    if (!this.#options.isRenewing() && !this.#isShort(carrier, length)) return true;
    this.#park(attachment, line);
    return false;
  }

  /**
   * Whether a message may have reached another edge, for a recipient at another relay. There its id would name the edge
   * that it came from, so the recipient would not know the second copy.
   */
  #isAwaitedElsewhere(outgoing: Outgoing): boolean {
    if (outgoing.destination.relayURL === "") return false;
    const place = this.#uncertain.get(outgoing);
    return place !== undefined && place !== this.#attachment?.place && this.#options.isGone?.(place) !== true;
  }

  /** Whether the carrier has too little left for a message of this length and those already begun. */
  #isShort({ transport, engine }: RelayConnection, length: number): boolean {
    const left = transport.remaining - engine.pendingOctets;
    if (left === Number.POSITIVE_INFINITY) return false;
    let begun = 0;
    for (const { current } of this.#lines.values()) {
      if (current !== undefined) begun += onWire(current.outgoing.body.length - current.at);
    }
    return left < begun + this.#options.needed(length);
  }

  /** Parks a line until the carrier is replaced. */
  #park(attachment: Attachment, line: Line): void {
    line.asking = true;
    this.#parked.push(line);
    if (this.#parked.length > 1) return;
    const replaced = async () => {
      await this.#options.renew();
      // The replacement failed.
      if (this.#isInUse(attachment)) await this.#options.pause(RECONNECT_FIRST);
      if (!this.#isInUse(attachment)) return;
      const parked = this.#parked;
      this.#parked = [];
      for (const one of parked) {
        one.asking = false;
        this.#rouse(one);
      }
    };
    replaced().catch((error: unknown) => attachment.carrier.end(error));
  }

  /** Waits for a line's session. If there is none to be had, the first message is rejected or the line pauses. */
  #await(attachment: Attachment, line: Line, next: Outgoing): void {
    const { carrier } = attachment;
    const suspended = carrier.suspendedSession(line.destination);
    if (suspended !== undefined) this.#hold(line, suspended);
    line.asking = true;
    if (this.#asking >= SESSIONS_ASKED) {
      this.#unasked.push(line);
      return;
    }
    this.#asking += 1;
    this.#ask(attachment, line, next).catch((error: unknown) => carrier.end(error));
  }

  async #ask(attachment: Attachment, line: Line, next: Outgoing): Promise<void> {
    const outcome = await attachment.carrier.session(line.destination);
    // The carrier may be gone by now; the next one asks again.
    if (!this.#isInUse(attachment)) return;
    if (!outcome.ok) await this.#refused(line, next, outcome.error);
    if (!this.#isInUse(attachment)) return;
    line.asking = false;
    this.#asking -= 1;
    this.#rouse(line);
    const unasked = this.#unasked.shift();
    if (unasked === undefined) return;
    unasked.asking = false;
    this.#rouse(unasked);
  }

  /** Handles a session that could not be opened. */
  async #refused(line: Line, next: Outgoing, error: DeviceError): Promise<void> {
    const { retryable, code } = error;
    if (code === "QuotaWouldBeExceeded" && this.#isForgiven(line)) {
      this.#putOff(line);
    } else if (retryable && code !== "QuotaWouldBeExceeded" && code !== "RelayUnreachable") {
      await this.#options.pause(RECONNECT_FIRST);
    } else if (line.current === undefined && line.waiting.first === next) {
      line.waiting.shift();
      this.#reject([next], error);
    }
  }

  /** Sends a message or a slice of it. Returns its cost. */
  #transmit({ engine }: RelayConnection, line: Line, outgoing: Outgoing, sessionId: number): number {
    const { body } = outgoing;
    let { current } = line;
    this.#moves += 1;
    this.#movedAt = performance.now();
    try {
      if (current === undefined) {
        engine.beginMessage(sessionId, outgoing);
        line.waiting.shift();
        current = { outgoing, sessionId, at: 0 };
        line.current = current;
        line.flight.octets += body.length;
        line.flight.messages += 1;
      }
      const slice = body.subarray(current.at, current.at + SLICE);
      engine.data(sessionId, slice);
      current.at += slice.length;
      if (current.at >= body.length) {
        this.#sent.set(engine.endMessage(sessionId), current);
        line.current = undefined;
      }
      return slice.length + MESSAGE_OCTETS;
    } catch (error) {
      // The message would break the next connection too.
      if (line.current === undefined) line.waiting.shift();
      line.current = undefined;
      this.#reject([outgoing], unexpected(error));
      throw error;
    }
  }

  /** Drops a line with nothing to send and nothing in flight. */
  #tidy(line: Line): void {
    const { current, waiting, flight, destination } = line;
    if (current !== undefined || waiting.first !== undefined || flight.messages > 0) return;
    if (this.#lines.get(destination.key) === line) this.#lines.delete(destination.key);
    // No message waits for the release any more.
    if (line.hold !== undefined) this.#release(line);
  }

  #take(number: number): Sent | undefined {
    const sent = this.#sent.get(number);
    if (sent === undefined) return undefined;
    this.#sent.delete(number);
    this.#landed(sent.outgoing);
    return sent;
  }

  /** Takes a message out of the in-flight counts. */
  #landed({ destination, body }: Outgoing): void {
    const flight = this.#lines.get(destination.key)?.flight;
    if (flight === undefined) return;
    flight.octets -= body.length;
    flight.messages -= 1;
  }

  /** The relay has stored a message. */
  #acknowledged(number: number): void {
    const sent = this.#take(number);
    if (sent === undefined) return;
    const { outgoing, sessionId } = sent;
    this.#moves += 1;
    this.#arrived = Math.max(this.#arrived, outgoing.body.length);
    this.#forget(outgoing);
    outgoing.resolve();
    const line = this.#lines.get(outgoing.destination.key);
    if (line === undefined) return;
    // This message probed whether its session may be used.
    const { hold } = line;
    if (hold !== undefined && hold.sessionId !== sessionId && this.#attachment?.carrier.ready(sessionId))
      this.#release(line);
    this.#rouse(line);
    this.#tidy(line);
  }

  #sessionState(key: string | undefined, sessionId: number, state: "ready" | "suspended"): void {
    if (key === undefined) return;
    if (state === "suspended") this.#note(key, HELD_PART);
    const line = this.#lines.get(key);
    if (line === undefined) return;
    if (state === "suspended") this.#hold(line, sessionId);
    // The first answer on a new session says nothing about the quota.
    else if (line.hold?.sessionId === sessionId) this.#release(line);
    this.#rouse(line);
  }

  /** Records that a destination was suspended: from now on only a share of FLIGHT goes there at a time. */
  #note(key: string, part: number): void {
    const before = this.#suspended.get(key)?.part ?? 1;
    this.#suspended.delete(key);
    this.#suspended.set(key, { run: this.#run, part: Math.min(before, part) });
    const [oldest] = this.#suspended.keys();
    if (this.#suspended.size > HELD_REMEMBERED && oldest !== undefined) this.#suspended.delete(oldest);
  }

  #hold(line: Line, sessionId: number): void {
    line.hold ??= { sessionId, refusals: 0, resting: false, told: false };
    line.hold.sessionId = sessionId;
    this.#tellHeld(line, line.hold);
  }

  /** Calls `onHeld` once, and only if a message waits. */
  #tellHeld({ destination, current, waiting }: Line, hold: Hold): void {
    if (hold.told || (current === undefined && waiting.first === undefined)) return;
    hold.told = true;
    this.#options.onHeld?.(destination.to, destination.resourceURL);
  }

  #release(line: Line): void {
    const { hold, destination } = line;
    line.hold = undefined;
    if (hold?.told) this.#options.onReleased?.(destination.to, destination.resourceURL);
  }

  /** Whether a quota refusal follows a known suspension. Then the message is retried, not rejected. */
  #isForgiven({ hold, destination }: Line): boolean {
    return hold !== undefined || this.#suspended.has(destination.key);
  }

  /** The relay has no room even for a probe: try again after a pause. */
  #putOff(line: Line): void {
    const hold = line.hold ?? { sessionId: undefined, refusals: 0, resting: false, told: false };
    line.hold = hold;
    hold.sessionId = undefined;
    this.#tellHeld(line, hold);
    if (hold.resting) return;
    // The relay had less room than the allowed share.
    const { key } = line.destination;
    this.#note(key, Math.max((this.#suspended.get(key)?.part ?? 1) / 2, LEAST_PART));
    hold.resting = true;
    const rest = Math.min(HELD_FIRST * 2 ** hold.refusals, HELD_LAST);
    hold.refusals += 1;
    void this.#options.pause(rest).then(() => {
      hold.resting = false;
      this.#rouse(line);
    });
  }

  /** The relay has closed a session. Its unacknowledged messages are sent again, or rejected. */
  #sessionLost(
    key: string | undefined,
    sessionId: number,
    numbers: readonly number[],
    reasonId: number | undefined,
  ): void {
    const sent = numbers.flatMap((number) => this.#take(number)?.outgoing ?? []);
    const line = this.#lines.get(sent[0]?.destination.key ?? key ?? "");
    if (line === undefined) return;
    this.#giveBack(line, sessionId, sent, isPassing(reasonId) ? "again" : sessionRefusal(reasonId));
  }

  /**
   * Reports that the session's only recipient is unreachable: the relay drops its messages but still acknowledges them.
   */
  #statusTold(key: string | undefined, sessionId: number, statusId: number): void {
    const numbers = [...this.#sent].filter(([, sent]) => sent.sessionId === sessionId).map(([number]) => number);
    const sent = numbers.flatMap((number) => this.#take(number)?.outgoing ?? []);
    const line = this.#lines.get(sent[0]?.destination.key ?? key ?? "");
    const error = statusRefusal(statusId);
    const any = sent.length > 0 || line?.current?.sessionId === sessionId;
    if (line !== undefined) this.#giveBack(line, sessionId, sent, error);
    // Without this the next sender would open the session again, without end.
    if (!any) this.#attachment?.carrier.fail(sessionId, error);
  }

  /** Requeues a session's messages in front of the waiting ones, or rejects them. */
  #giveBack(line: Line, sessionId: number, sent: readonly Outgoing[], why: DeviceError | "again"): void {
    const { current } = line;
    const all = [...sent];
    if (current?.sessionId === sessionId) {
      line.current = undefined;
      this.#landed(current.outgoing);
      all.push(current.outgoing);
    }
    const forgiven = why !== "again" && why.code === "QuotaWouldBeExceeded" && this.#isForgiven(line);
    if (why === "again" || forgiven) line.waiting.putBack(all);
    else this.#reject(all, why);
    if (forgiven && all.length > 0) this.#putOff(line);
    this.#rouse(line);
    this.#tidy(line);
    this.#progress.notifyAll();
  }

  #reject(messages: readonly Outgoing[], error: DeviceError): void {
    for (const outgoing of messages) {
      this.#forget(outgoing);
      outgoing.reject(error);
    }
  }

  /** Ends the accounting for a message. */
  #forget(outgoing: Outgoing): void {
    this.#octets -= outgoing.body.length;
    const { signal } = outgoing;
    const watched = signal && this.#signals.get(signal);
    if (signal === undefined || watched === undefined) return;
    watched.messages.delete(outgoing);
    if (watched.messages.size > 0) return;
    signal.removeEventListener("abort", watched.abort);
    this.#signals.delete(signal);
  }

  /** The messages that a signal may withdraw. They share one listener. */
  #watch(signal: AbortSignal): Set<Outgoing> {
    let watched = this.#signals.get(signal);
    if (watched === undefined) {
      const messages = new Set<Outgoing>();
      const abort = () => this.#withdraw(messages);
      signal.addEventListener("abort", abort, { once: true });
      watched = { messages, abort };
      this.#signals.set(signal, watched);
    }
    return watched.messages;
  }

  /** Rejects those messages that have not been sent. */
  #withdraw(messages: ReadonlySet<Outgoing>): void {
    for (const line of this.#lines.values()) {
      const gone = [...line.waiting].filter((one) => messages.has(one) && !this.#uncertain.has(one));
      if (gone.length === 0) continue;
      line.waiting.remove(new Set(gone));
      this.#reject(gone, aborted());
      this.#tidy(line);
    }
  }
}

const WHOLE = { part: 1 };

/**
 * Share of {@link FLIGHT} allowed to a recipient that was suspended, since it reads more slowly than this device sends:
 * as much as the relay keeps in flight to it. LEAST_PART is the minimum, reached when even that found no room.
 */
const HELD_PART = 1 / 4;
const LEAST_PART = 1 / 64;

/** Overhead of a message, counted against its turn. */
const MESSAGE_OCTETS = 64;

/** Bytes that a body of this length takes on the wire. */
export function onWire(length: number): number {
  return length + Math.ceil(length / MAX_DATA_OCTETS) * 7;
}

/** The message exceeds the limit of the relay or of this device. */
export function tooLong(length: number, limit: number): DeviceError {
  return new DeviceError(
    "MessageTooLong",
    `the message has ${length} bytes: send at most ${limit}, in parts if necessary`,
  );
}

function aborted(): DeviceError {
  return new DeviceError("Aborted", "the message was taken back before it was sent");
}

function unexpected(cause: unknown): DeviceError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new DeviceError("InternalError", `unexpected error in this library: ${message}`, { cause });
}
