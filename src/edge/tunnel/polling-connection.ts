/**
 * A Polling virtual connection: one exchange at a time between a request and the relay.
 *
 * @module
 */

import {
  closePolling,
  expirePolling,
  openPolling,
  type Poll,
  type PollingConnection as PollingState,
  pollingDeadline,
  receivePoll,
  respond,
  respondRoom,
} from "../../encapsulation/index.ts";
import { within } from "../../lib/runtime/timeout.ts";
import type { Reason } from "../reasons.ts";
import type { Exchange } from "../rpc/tunnel-rpc.ts";
import type { ConnectionContext, DeviceConnection, SignsOfLife } from "./device-connection.ts";
import type { SavedConnection } from "./hibernation.ts";
import { BELL_OCTETS, FULL_POLL, POLL_HOLD, POLL_RECEIVE_TIMEOUT, POLL_TIMES } from "./limits.ts";

export class PollingConnection implements DeviceConnection {
  readonly singleRequests = true;
  readonly socket = undefined;
  readonly #context: ConnectionContext;
  readonly #state: PollingState;
  /** The last write to the relay. */
  #written: Promise<void> = Promise.resolve();
  /** Counts requests, so that a request can tell that a repeat has replaced it. */
  #turn = 0;
  /** Why the virtual connection has ended. */
  #ended: Reason | undefined;

  constructor(context: ConnectionContext, state: PollingState) {
    this.#context = context;
    this.#state = state;
  }

  /** Begins a virtual connection with its first poll, which is then handled by {@link exchange}. */
  static begin(context: ConnectionContext, poll: Poll): PollingConnection {
    return new PollingConnection(context, openPolling(poll, Date.now(), { receive: POLL_RECEIVE_TIMEOUT }));
  }

  get deadline(): number {
    return pollingDeadline(this.#state);
  }

  /** Handles one poll: writes its data to the relay, and answers with what the relay has sent. */
  async exchange(poll: Poll): Promise<Exchange> {
    const exchange = await this.#exchange(poll);
    if (exchange.ok || exchange.scope === "request") return exchange;
    this.#context.end(exchange.reason);
    // If the virtual connection had ended meanwhile, the exchange failed because of that: give that reason.
    return { ...exchange, reason: this.#ended ?? exchange.reason };
  }

  async #exchange(poll: Poll): Promise<Exchange> {
    const { far } = this.#context;
    const received = receivePoll(this.#state, poll, Date.now());
    if (received.type === "refuse") return failed(received.reason, received.scope, received.detail);
    if (received.type === "repeat") return { ok: true, body: received.body };
    this.#turn += 1;
    const turn = this.#turn;
    if (received.type === "probe") return this.#answer([]) ?? failed("InternalError", "connection");

    const handshake = received.type === "data" && received.handshake;
    const channel = await (handshake ? far.reach(poll.relay, BELL_OCTETS) : far.channel);
    if (channel === undefined) return failed(far.unreached, "connection");
    if (received.type === "data" && received.data.length > 0) this.#written = channel.write(received.data);
    try {
      // A repeat waits too: its answer would invite more data while the relay takes none.
      await this.#written;
    } catch {
      return failed("OriginReset", "connection");
    }
    // A full body is one of many. The device does not expect an answer yet, and holding the poll would only slow it
    // down.
    const bulk = received.type === "data" && !received.handshake && received.data.length > FULL_POLL;
    for (;;) {
      const something = channel.ready();
      if (!bulk) await within(POLL_HOLD, something);
      if (this.#turn !== turn)
        return failed("SecondPost", "request", "The request was sent again, and the later one is answered.");
      const waiting = channel.take(respondRoom(this.#state, POLL_TIMES));
      if (waiting?.kind === "ended") return failed(waiting.reason, "connection");
      const exchange = this.#answer(waiting === undefined ? [] : [waiting.octets]);
      if (exchange !== undefined) return exchange;
    }
  }

  /** Returns undefined if the answer must wait for data, because it completes the handshake [MS-GRVHENC 3.5.5.1.1.1]. */
  #answer(data: readonly Uint8Array[]): Exchange | undefined {
    const response = respond(this.#state, data, POLL_TIMES);
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
    return { polling: this.#state };
  }

  close(reason: Reason): void {
    this.#ended = reason;
    closePolling(this.#state);
  }
}

function failed(reason: Reason, scope: "request" | "connection", detail?: string): Exchange {
  return { ok: false, reason, scope, ...(detail !== undefined && { detail }) };
}
