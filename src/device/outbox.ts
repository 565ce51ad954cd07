/**
 * The outbox: what a device has to send, until its relay has acknowledged it, over one carrier after another.
 *
 *   add ─► queue of its destination ─► its turn ─► sent ─(acknowledged)─► resolved
 *     ▲            ▲                                 │
 *     │            └─ the carrier is lost, or the relay closes the session for now ─┘
 *     └ refused: rejected
 *
 * Each destination has a queue and a session of its own; those that may send take turns, so that none waits for another.
 * What goes to one destination keeps its order. No more than {@link FLIGHT} is under way to each.
 *
 * A destination whose session the relay suspends is held: nothing more goes there until the relay says so. That outlives
 * the carrier. On a new session one message is sent first, and the rest when it is acknowledged and the session is still
 * ready. A relay that refuses it for its quota is asked again after a while.
 *
 * @module
 */
import { Queue } from "../lib/queue.ts";
import { type ConnectionEvent, MAX_DATA_OCTETS, type MessageFields } from "../sstp/index.ts";
import { FLIGHT } from "../store-and-forward/share.ts";
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

/** A message to be sent. */
export interface Outgoing extends MessageFields {
  /** Its id. */
  readonly userRef: string;
  readonly destination: Destination;
  readonly body: Uint8Array;
  readonly signal: AbortSignal | undefined;
  readonly resolve: () => void;
  readonly reject: (error: DeviceError) => void;
}

/** What an outbox asks of its device. */
export interface OutboxOptions {
  /** What a transport must still carry once a message of so many octets is sent, with the message. */
  readonly needed: (length: number) => number;
  /** Replaces a carrier that is nearly used up. Resolves when that is done, or has failed. */
  readonly renew: () => Promise<void>;
  /** Whether it is being replaced: nothing new is begun on it. */
  readonly isRenewing: () => boolean;
  /** Waits, but not longer than the device lives. */
  readonly pause: (milliseconds: number) => Promise<void>;
  readonly onHeld?: HeldListener | undefined;
  readonly onReleased?: HeldListener | undefined;
}

/** The message that is being sent, and how much of it is. */
interface Current {
  readonly outgoing: Outgoing;
  readonly sessionId: number;
  at: number;
}

/** Why nothing, or little, goes to a destination. */
interface Hold {
  /** The session that is suspended; undefined when it is gone. Another one is tried with one message. */
  sessionId: number | undefined;
  /** How often in a row the relay has refused a message for its quota, and whether it is left alone for that. */
  refusals: number;
  resting: boolean;
  /** The application was told. */
  told: boolean;
}

/** A destination, and what waits for it in order. */
interface Line {
  readonly destination: Destination;
  readonly waiting: Queue<Outgoing>;
  current: Current | undefined;
  /** Begun on this carrier and not acknowledged. */
  readonly flight: { octets: number; messages: number };
  /** It takes part in the turns. */
  inTurn: boolean;
  /** It waits for its session, or for another carrier. */
  asking: boolean;
  hold: Hold | undefined;
}

/** A message that is sent, and on which session. */
interface Sent {
  readonly outgoing: Outgoing;
  readonly sessionId: number;
}

export class Outbox {
  readonly #options: OutboxOptions;
  /** By the key of the destination. */
  readonly #lines = new Map<string, Line>();
  /** Lines that may send, in turn. */
  readonly #turns = new Queue<Line>();
  /** Sent and not acknowledged, by the engine's number, oldest first. */
  readonly #sent = new Map<number, Sent>();
  /** Messages that may have reached a relay whose connection was lost: they cannot be taken back. */
  readonly #uncertain = new WeakSet<Outgoing>();
  /** Octets of all that is not acknowledged. */
  #octets = 0;
  #carrier: RelayConnection | undefined;
  /** When something has moved: octets of a message were taken, or one was acknowledged. */
  #movedAt = 0;
  /** Octets of the longest message that was acknowledged, since it was asked for. */
  #arrived = 0;
  /** Counts carriers. */
  #run = 0;
  /** Destinations that were suspended, on which carrier last, and the part of {@link FLIGHT} that is under way there since. */
  readonly #suspended = new Map<string, { readonly run: number; readonly part: number }>();
  /** How many lines wait for their sessions, and those for which that would be too many. */
  #asking = 0;
  #unasked: Line[] = [];
  /** Lines that wait until the carrier is replaced. */
  #parked: Line[] = [];
  #wake: (() => void) | undefined;
  /** Called when something was acknowledged, or nothing more will be. */
  #progress: (() => void)[] = [];
  readonly #signals = new Map<AbortSignal, { readonly messages: Set<Outgoing>; readonly abort: () => void }>();

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /**
   * Takes a message.
   *
   * @throws DeviceError OutboxFull, Aborted
   */
  add(outgoing: Outgoing): void {
    const { signal, body, destination } = outgoing;
    if (signal?.aborted) throw aborted();
    if (this.#octets + body.length > OUTBOX_OCTETS) {
      throw new DeviceError("OutboxFull", `${OUTBOX_OCTETS} octets wait to be acknowledged: await earlier sends`, {
        retryable: true,
      });
    }
    this.#octets += body.length;
    if (signal !== undefined) this.#watch(signal).add(outgoing);
    const line = this.#lineOf(destination);
    line.waiting.push(outgoing);
    if (line.hold !== undefined) this.#tellHeld(line, line.hold);
    this.#rouse(line);
  }

  /** Sends what there is on a carrier from now on. */
  attach(carrier: RelayConnection): void {
    this.#carrier = carrier;
    this.#run += 1;
    for (const [key, { run }] of this.#suspended) if (run < this.#run - 1) this.#suspended.delete(key);
    for (const line of this.#lines.values()) this.#rouse(line);
    this.#pump(carrier).catch((error: unknown) => carrier.end(error));
  }

  /** The carrier is gone. What it has not acknowledged is sent again, before what was not sent at all. */
  detach(): void {
    const back = new Map<Line, Outgoing[]>();
    for (const { outgoing } of this.#sent.values()) {
      this.#uncertain.add(outgoing);
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
    this.#carrier = undefined;
    this.#wakePump();
    this.#tellProgress();
  }

  /** What the carrier that is about to go has done; asked once for each. */
  ending(): EndedConnection {
    // What goes to a destination that is held may wait for as long as it likes.
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

  /** Nothing more will be sent: everything is rejected. */
  end(error: DeviceError): void {
    const sent = [...this.#sent.values()].map(({ outgoing }) => outgoing);
    const unsent = [...this.#lines.values()].flatMap(({ current, waiting }) => [
      ...(current === undefined ? [] : [current.outgoing]),
      ...waiting,
    ]);
    this.#sent.clear();
    this.#lines.clear();
    this.#turns.clear();
    this.#carrier = undefined;
    this.#reject([...sent, ...unsent], error);
    this.#wakePump();
    this.#tellProgress();
  }

  /** Whether something is sent and not acknowledged, or being sent. */
  get isBusy(): boolean {
    return this.#sent.size > 0 || this.isSending;
  }

  /** Whether a message is being sent. */
  get isSending(): boolean {
    // One whose session is suspended in the middle of it may stay so for ever.
    for (const { current } of this.#lines.values()) if (current && this.#carrier?.ready(current.sessionId)) return true;
    return false;
  }

  /** Resolves when something was acknowledged, or nothing more will be. */
  progress(): Promise<void> {
    return new Promise((resolve) => this.#progress.push(resolve));
  }

  /**
   * What has come from the relay.
   *
   * @param key of the destination whose session the event is about, when it is one of ours
   */
  on(event: ConnectionEvent, key: string | undefined): void {
    switch (event.type) {
      case "acknowledged":
        for (const number of event.messages) this.#acknowledged(number);
        this.#tellProgress();
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

  /** A line that has something to send takes its turn. Whoever must wait for something else gives it up by itself. */
  #rouse(line: Line): void {
    const idle = line.current === undefined && line.waiting.first === undefined;
    if (idle || line.inTurn || line.asking || this.#carrier === undefined) return;
    line.inTurn = true;
    this.#turns.push(line);
    this.#wakePump();
  }

  #wakePump(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** Sends what the lines have, as long as this carrier is the one in use. */
  async #pump(carrier: RelayConnection): Promise<void> {
    while (this.#isInUse(carrier)) {
      const line = this.#turns.shift();
      if (line === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      line.inTurn = false;
      if (await this.#serve(carrier, line)) this.#rouse(line);
    }
  }

  #isInUse(carrier: RelayConnection): boolean {
    return this.#carrier === carrier && carrier.engine.closed === undefined;
  }

  /** Sends a slice of what a line has, or as many small messages as are one. False when it must wait for something. */
  async #serve(carrier: RelayConnection, line: Line): Promise<boolean> {
    // It was roused while it was sent on, and waits by now.
    if (line.asking) return false;
    for (let made = 0; made < SLICE; ) {
      const next = line.current?.outgoing ?? line.waiting.first;
      if (next === undefined) {
        this.#tidy(line);
        return false;
      }
      if (line.current === undefined && !this.#mayBegin(carrier, line, next)) return false;
      const sessionId = line.current?.sessionId ?? carrier.readySession(line.destination);
      if (sessionId === undefined || !carrier.ready(sessionId)) {
        this.#await(carrier, line, next);
        return false;
      }
      made += this.#transmit(carrier, line, next, sessionId);
      if (carrier.engine.pendingOctets < SLICE) void carrier.flush();
      else await carrier.flush();
      if (!this.#isInUse(carrier)) return false;
    }
    return true;
  }

  /** Whether a message may be begun now; when not, whoever rouses its line again has been seen to. */
  #mayBegin(carrier: RelayConnection, line: Line, next: Outgoing): boolean {
    const { flight, hold } = line;
    const { length } = next.body;
    if (length > carrier.messageLimit) {
      line.waiting.shift();
      this.#reject([next], tooLong(length, carrier.messageLimit));
      this.#rouse(line);
      return false;
    }
    // An acknowledgement rouses it.
    const { part } = this.#suspended.get(line.destination.key) ?? WHOLE;
    if (flight.octets >= FLIGHT.octets * part || flight.messages >= FLIGHT.messages * part) return false;
    // The end of its rest does, or the one message that is tried.
    if (hold !== undefined && (hold.resting || flight.messages > 0)) return false;
    if (!this.#options.isRenewing() && !this.#isShort(carrier, length)) return true;
    this.#park(carrier, line);
    return false;
  }

  /** Whether a carrier cannot take a message to its end any more, with those that are begun on it. */
  #isShort({ transport, engine }: RelayConnection, length: number): boolean {
    const left = transport.remaining - engine.pendingOctets;
    if (left === Number.POSITIVE_INFINITY) return false;
    let begun = 0;
    for (const { current } of this.#lines.values()) {
      if (current !== undefined) begun += onWire(current.outgoing.body.length - current.at);
    }
    return left < begun + this.#options.needed(length);
  }

  /** A line waits until the carrier is replaced. */
  #park(carrier: RelayConnection, line: Line): void {
    line.asking = true;
    this.#parked.push(line);
    if (this.#parked.length > 1) return;
    const replaced = async () => {
      await this.#options.renew();
      // It could not be replaced.
      if (this.#isInUse(carrier)) await this.#options.pause(RECONNECT_FIRST);
      if (!this.#isInUse(carrier)) return;
      const parked = this.#parked;
      this.#parked = [];
      for (const one of parked) {
        one.asking = false;
        this.#rouse(one);
      }
    };
    replaced().catch((error: unknown) => carrier.end(error));
  }

  /** Waits for the session of a line. One that cannot be had costs the message that asked for it, or some time. */
  #await(carrier: RelayConnection, line: Line, next: Outgoing): void {
    const suspended = carrier.suspendedSession(line.destination);
    if (suspended !== undefined) this.#hold(line, suspended);
    line.asking = true;
    if (this.#asking >= SESSIONS_ASKED) {
      this.#unasked.push(line);
      return;
    }
    this.#asking += 1;
    this.#ask(carrier, line, next).catch((error: unknown) => carrier.end(error));
  }

  async #ask(carrier: RelayConnection, line: Line, next: Outgoing): Promise<void> {
    const outcome = await carrier.session(line.destination);
    // What was awaited may be over by now; then the next carrier is asked.
    if (!this.#isInUse(carrier)) return;
    if (!outcome.ok) await this.#refused(line, next, outcome.error);
    if (!this.#isInUse(carrier)) return;
    line.asking = false;
    this.#asking -= 1;
    this.#rouse(line);
    const unasked = this.#unasked.shift();
    if (unasked === undefined) return;
    unasked.asking = false;
    this.#rouse(unasked);
  }

  /** A session cannot be had. */
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

  /** Sends a message, or a slice of it. Returns how much that was. */
  #transmit({ engine }: RelayConnection, line: Line, outgoing: Outgoing, sessionId: number): number {
    const { body } = outgoing;
    let { current } = line;
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
        this.#sent.set(engine.endMessage(sessionId), { outgoing, sessionId });
        line.current = undefined;
      }
      return slice.length + MESSAGE_OCTETS;
    } catch (error) {
      // The next connection would fail by it as well.
      if (line.current === undefined) line.waiting.shift();
      line.current = undefined;
      this.#reject([outgoing], unexpected(error));
      throw error;
    }
  }

  /** A line with nothing to send and nothing under way is forgotten. */
  #tidy(line: Line): void {
    const { current, waiting, flight, destination } = line;
    if (current !== undefined || waiting.first !== undefined || flight.messages > 0) return;
    if (this.#lines.get(destination.key) === line) this.#lines.delete(destination.key);
    // Nobody waits for it any more.
    if (line.hold !== undefined) this.#release(line);
  }

  #take(number: number): Sent | undefined {
    const sent = this.#sent.get(number);
    if (sent === undefined) return undefined;
    this.#sent.delete(number);
    this.#landed(sent.outgoing);
    return sent;
  }

  /** A message is no longer under way. */
  #landed({ destination, body }: Outgoing): void {
    const flight = this.#lines.get(destination.key)?.flight;
    if (flight === undefined) return;
    flight.octets -= body.length;
    flight.messages -= 1;
  }

  /** The relay has a message safe. */
  #acknowledged(number: number): void {
    const sent = this.#take(number);
    if (sent === undefined) return;
    const { outgoing, sessionId } = sent;
    this.#movedAt = performance.now();
    this.#arrived = Math.max(this.#arrived, outgoing.body.length);
    this.#forget(outgoing);
    outgoing.resolve();
    const line = this.#lines.get(outgoing.destination.key);
    if (line === undefined) return;
    // It was sent to see whether its session may be sent on.
    const { hold } = line;
    if (hold !== undefined && hold.sessionId !== sessionId && this.#carrier?.ready(sessionId)) this.#release(line);
    this.#rouse(line);
    this.#tidy(line);
  }

  #sessionState(key: string | undefined, sessionId: number, state: "ready" | "suspended"): void {
    if (key === undefined) return;
    if (state === "suspended") this.#note(key, HELD_PART);
    const line = this.#lines.get(key);
    if (line === undefined) return;
    if (state === "suspended") this.#hold(line, sessionId);
    // The first answer for a new session says nothing of the quota.
    else if (line.hold?.sessionId === sessionId) this.#release(line);
    this.#rouse(line);
  }

  /** A destination was suspended on this carrier: from now on no more than a part of what may be is under way there. */
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

  /** The application is told when something waits, once. */
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

  /** Whether a refusal for the quota is what a suspension has announced. */
  #isForgiven({ hold, destination }: Line): boolean {
    return hold !== undefined || this.#suspended.has(destination.key);
  }

  /** A relay that has no room though it was asked carefully is asked again later. */
  #putOff(line: Line): void {
    const hold = line.hold ?? { sessionId: undefined, refusals: 0, resting: false, told: false };
    line.hold = hold;
    hold.sessionId = undefined;
    this.#tellHeld(line, hold);
    if (hold.resting) return;
    // There was less room than is under way at a time.
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

  /** The relay has closed a session: the messages on it that it did not take go again, or nowhere. */
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

  /** The only recipient: what is on its way on that session is not delivered, though it will be acknowledged. */
  #statusTold(key: string | undefined, sessionId: number, statusId: number): void {
    const numbers = [...this.#sent].filter(([, sent]) => sent.sessionId === sessionId).map(([number]) => number);
    const sent = numbers.flatMap((number) => this.#take(number)?.outgoing ?? []);
    const line = this.#lines.get(sent[0]?.destination.key ?? key ?? "");
    const error = statusRefusal(statusId);
    const any = sent.length > 0 || line?.current?.sessionId === sessionId;
    if (line !== undefined) this.#giveBack(line, sessionId, sent, error);
    // Whoever is about to send on it must not open it anew for ever.
    if (!any) this.#carrier?.fail(sessionId, error);
  }

  /** What was under way on a session, and is not taken, goes before what waits, or is rejected. */
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
    this.#tellProgress();
  }

  #reject(messages: readonly Outgoing[], error: DeviceError): void {
    for (const outgoing of messages) {
      this.#forget(outgoing);
      outgoing.reject(error);
    }
  }

  /** A message is done with. */
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

  /** Messages that a signal may take back: it is listened to once for all of them. */
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

  /** Takes back what has not been sent. */
  #withdraw(messages: ReadonlySet<Outgoing>): void {
    for (const line of this.#lines.values()) {
      const gone = [...line.waiting].filter((one) => messages.has(one) && !this.#uncertain.has(one));
      if (gone.length === 0) continue;
      line.waiting.remove(new Set(gone));
      this.#reject(gone, aborted());
      this.#tidy(line);
    }
  }

  #tellProgress(): void {
    const waiting = this.#progress;
    this.#progress = [];
    for (const resolve of waiting) resolve();
  }
}

const WHOLE = { part: 1 };

/**
 * The part of {@link FLIGHT} that is under way to a recipient that was suspended, which is slower than this sender: as much as
 * the relay has under way to it. And the least, when there was no room for that.
 */
const HELD_PART = 1 / 4;
const LEAST_PART = 1 / 64;

/** What a message takes beside its octets, of a turn. */
const MESSAGE_OCTETS = 64;

/** Octets that so much of a body takes on the wire. */
export function onWire(length: number): number {
  return length + Math.ceil(length / MAX_DATA_OCTETS) * 7;
}

/** A message is longer than its relay takes, or this device sends. */
export function tooLong(length: number, limit: number): DeviceError {
  return new DeviceError(
    "MessageTooLong",
    `the message has ${length} octets: send at most ${limit}, in parts if need be`,
  );
}

function aborted(): DeviceError {
  return new DeviceError("Aborted", "the message was taken back before it was sent");
}

function unexpected(cause: unknown): DeviceError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new DeviceError("InternalError", `something unexpected happened in this library: ${message}`, { cause });
}
