/**
 * A Polling virtual connection: one exchange at a time between a request and the relay. A second request of our own
 * client ends the wait of the one that is held, and is handled after it.
 *
 * @module
 */

import {
  closePolling,
  expirePolling,
  forgetGrown,
  keptOctets,
  openPolling,
  type Poll,
  type PollingConnection as PollingState,
  type PollReceived,
  pollingDeadline,
  pollRoom,
  receivePoll,
  respond,
  respondRoom,
} from "../../encapsulation/index.ts";
import { Condition } from "../../lib/condition.ts";
import { within } from "../../lib/runtime/timeout.ts";
import type { ByteChannel } from "../byte-channel.ts";
import type { Reason } from "../reasons.ts";
import type { Exchange } from "../rpc/tunnel-rpc.ts";
import type { ConnectionContext, DeviceConnection, SignsOfLife } from "./device-connection.ts";
import { gather } from "./gather.ts";
import type { SavedConnection } from "./hibernation.ts";
import { KeptAnswers } from "./kept-answers.ts";
import { EARLY_PATIENCE, FULL_POLL, POLL_HOLD, POLL_RECEIVE_TIMEOUT, POLL_TIMES } from "./limits.ts";

export class PollingConnection implements DeviceConnection {
  readonly encapsulation = "Polling";
  readonly singleRequests = true;
  readonly socket = undefined;
  readonly #context: ConnectionContext;
  readonly #state: PollingState;
  /** The last write to the relay. */
  #written: Promise<void> = Promise.resolve();
  /** Bytes that the relay has not taken. */
  #unwritten = 0;
  /** Counts requests, so that a request can tell that a repeat has replaced it. */
  #turn = 0;
  /** Notified when a request is answered, and when another one comes after it. */
  readonly #changed = new Condition();
  /** Counts the requests that had to wait for the one before them. At most one waits: a repeat replaces it. */
  #waiting = 0;
  /** Whether one waits. */
  #isOvertaken = false;
  readonly #kept = new KeptAnswers();
  /** Why the virtual connection has ended. */
  #ended: Reason | undefined;

  constructor(context: ConnectionContext, state: PollingState) {
    this.#context = context;
    this.#state = state;
  }

  /** Begins a virtual connection with its first poll, which is then handled by {@link exchange}. */
  static begin(context: ConnectionContext, poll: Poll, offeredBody: number | undefined): PollingConnection {
    const timers = { receive: POLL_RECEIVE_TIMEOUT };
    return new PollingConnection(context, openPolling(poll, Date.now(), timers, offeredBody));
  }

  get deadline(): number {
    return pollingDeadline(this.#state);
  }

  /** Handles one poll: writes its data to the relay, and answers with what the relay has sent. */
  async exchange(poll: Poll): Promise<Exchange> {
    const exchange = await this.#exchange(poll);
    this.#kept.count(keptOctets(this.#state));
    this.#changed.notifyAll();
    if (exchange.ok || exchange.scope === "request") return exchange;
    this.#context.end(exchange.reason);
    // If the virtual connection had ended meanwhile, the exchange failed because of that: give that reason.
    return { ...exchange, reason: this.#ended ?? exchange.reason };
  }

  async #exchange(poll: Poll): Promise<Exchange> {
    const { far } = this.#context;
    const received = await this.#receive(poll);
    if (received === undefined)
      return failed("SecondPost", "request", "The request was sent again, or the one before it has not come.");
    if (received.type === "refuse") return failed(received.reason, received.scope, received.detail);
    if (received.type === "repeat") return { ok: true, body: received.body };
    this.#turn += 1;
    const turn = this.#turn;
    // The request that this one repeats is not answered any more.
    this.#changed.notifyAll();
    if (received.type === "probe") return this.#answer([]) ?? failed("InternalError", "connection");

    const handshake = received.type === "data" && received.handshake;
    const channel = await (handshake ? far.reach(poll.relay, readSizeOf(this.#state)) : far.channel);
    if (channel === undefined) return failed(far.unreached, "connection");
    if (received.type === "data" && received.data.length > 0) this.#write(channel, received.data);
    try {
      // A repeat waits too: its answer would invite more data while the relay takes none. But the relay may itself wait for
      // its data to be taken.
      const isMuch = this.#unwritten > this.#state.bodyLimit;
      let isTaken = false;
      const taken = (isMuch ? this.#written : Promise.race([this.#written, channel.ready()])).then(() => {
        isTaken = true;
      });
      while (!isTaken && this.#turn === turn) await Promise.race([taken, this.#changed.wait()]);
    } catch {
      return failed("OriginReset", "connection");
    }
    // A full body is one of many. The device does not expect an answer yet, and holding the poll would only slow it
    // down.
    const bulk = received.type === "data" && !received.handshake && received.data.length > FULL_POLL;
    // The last answer of the handshake waits for data in any case, and so does its repeat.
    for (let mayWait = !(bulk || this.#isOvertaken); ; mayWait = true) {
      const something = channel.ready();
      if (mayWait) await within(POLL_HOLD, Promise.race([something, this.#changed.wait()]));
      if (this.#ended !== undefined) return failed(this.#ended, "connection");
      if (this.#turn !== turn)
        return failed("SecondPost", "request", "The request was sent again, and the later one is answered.");
      const most = this.#kept.room(this.#state.bodyLimit);
      const waiting = gather(channel, respondRoom(this.#state, POLL_TIMES, most));
      if (waiting?.kind === "ended") return failed(waiting.reason, "connection");
      const exchange = this.#answer(waiting === undefined ? [] : [waiting.octets]);
      if (exchange !== undefined) return exchange;
    }
  }

  /** Writes to the relay after what is being written already. */
  #write(channel: ByteChannel, octets: Uint8Array): void {
    this.#unwritten += octets.length;
    this.#written = this.#written
      .then(() => channel.write(octets))
      .finally(() => {
        this.#unwritten -= octets.length;
      });
    // The next exchange notices a failure.
    this.#written.catch(() => undefined);
  }

  /**
   * Receives a poll in its turn: after the one that is held, or the one before it that comes later. Undefined if that
   * does not come, or if a repeat has replaced this one.
   */
  async #receive(poll: Poll): Promise<Exclude<PollReceived, { type: "overtake" | "early" }> | undefined> {
    let until = 0;
    let own: number | undefined;
    for (;;) {
      const received = receivePoll(this.#state, poll, Date.now());
      if (received.type !== "overtake" && received.type !== "early") {
        if (own !== undefined) this.#isOvertaken = false;
        return received;
      }
      if (own === undefined) {
        this.#waiting += 1;
        own = this.#waiting;
        until = Date.now() + EARLY_PATIENCE;
        this.#isOvertaken = true;
        this.#changed.notifyAll();
      }
      await within(EARLY_PATIENCE, this.#changed.wait());
      if (this.#waiting !== own) return undefined;
      // A held request is answered sooner or later: its relay may be slow.
      if (received.type === "early" && Date.now() >= until) {
        this.#isOvertaken = false;
        return undefined;
      }
    }
  }

  /** Returns undefined if the answer must wait for data, because it completes the handshake [MS-GRVHENC 3.5.5.1.1.1]. */
  #answer(data: readonly Uint8Array[]): Exchange | undefined {
    const response = respond(this.#state, data, POLL_TIMES, Date.now());
    if (response.type === "body") return { ok: true, body: response.body };
    return response.type === "hold" ? undefined : failed(response.reason, response.scope, response.detail);
  }

  expire(now: number): number {
    const expired = expirePolling(this.#state, now);
    if (expired.type === "none") return this.deadline;
    this.#context.end(expired.reason);
    return Number.POSITIVE_INFINITY;
  }

  lastSign({ heardAt, wokeAt }: SignsOfLife): number {
    // An object that has just woken does not know when it last heard from its device, which may be silent for its poll
    // interval.
    return Math.max(heardAt, wokeAt) + POLL_TIMES.maximum * 1000;
  }

  save(): SavedConnection {
    forgetGrown(this.#state);
    this.#kept.count(keptOctets(this.#state));
    return { polling: this.#state };
  }

  close(reason: Reason): void {
    this.#ended = reason;
    closePolling(this.#state);
    this.#kept.count(0);
    this.#changed.notifyAll();
  }
}

/** The most that is read ahead of a relay: what one answer takes, since the rest of a piece would be one more answer. */
function readSizeOf({ relay, guid, bodyLimit }: PollingState): number {
  return pollRoom(relay, guid, Number.MAX_SAFE_INTEGER, POLL_TIMES, bodyLimit);
}

function failed(reason: Reason, scope: "request" | "connection", detail?: string): Exchange {
  return { ok: false, reason, scope, ...(detail !== undefined && { detail }) };
}
