/**
 * Saves and restores a Tunnel across eviction, if its virtual connection ends at this edge. An idle, settled Tunnel
 * saves its state in the attachment of the socket that will wake it, or in storage if the state is too large or there
 * is no socket. The next event deletes that state, so an object that wakes finds either all of its current state or
 * none.
 *
 * @module
 */
import type { PollingConnection, VirtualConnection } from "../../encapsulation/index.ts";
import type { SstpEndpointSnapshot } from "../endpoint/sstp-endpoint.ts";
import { logReason } from "../log.ts";
import type { Alarm } from "./alarm.ts";
import { REST_AFTER, REST_TRIES } from "./limits.ts";
import type { Owned } from "./owner.ts";
import type { Kept } from "./tunnel-storage.ts";

/**
 * Format of the saved state. Increment it with every change of {@link SavedState} or of a snapshot in it. An edge that
 * finds another format cannot restore the virtual connection, and ends it with `ConnectionLost`.
 */
export const SAVED_FORMAT = 3;

/** Saved state of an idle Tunnel. */
export interface SavedState extends Owned, SavedConnection {
  readonly format: typeof SAVED_FORMAT;
  readonly endpoint: SstpEndpointSnapshot;
}

/** The part of the connection with the device: one of these. */
export interface SavedConnection {
  readonly live?: SavedHttp;
  /** A Polling virtual connection. */
  readonly polling?: PollingConnection;
  /** A WebSocket virtual connection: its flow control towards the device. */
  readonly wired?: WebSocketSnapshot;
}

/** A LongLived or KeepAlive virtual connection. */
export interface SavedHttp {
  readonly state: VirtualConnection;
  /** Whether its bell, if it has one, is armed. */
  readonly armed: boolean;
}

/** Flow control towards a WebSocket device. */
export interface WebSocketSnapshot {
  /** The device answers marks. */
  readonly marks: boolean;
  /** Unanswered marks, oldest first, each with the bytes since the one before. */
  readonly unanswered: readonly (readonly [string, number])[];
  /** Bytes since the last mark. */
  readonly unmarked: number;
}

/** Saved state, and the socket that carries it, if there is one. */
export interface Saved {
  readonly rest: SavedState;
  readonly socket: WebSocket | undefined;
}

/** Returns what to save; "unsettled" while work is in progress; undefined if there is nothing to save. */
export type Settle = () => Saved | "unsettled" | undefined;

type Attachment = { readonly rest: SavedState } | { readonly stored: true } | null;

/** The state saved in an attachment or in storage, if it has this version's format. */
function readRest(left: unknown): SavedState | undefined {
  const rest = left as SavedState | undefined;
  return rest?.format === SAVED_FORMAT ? rest : undefined;
}

/** Whether the state was saved with a socket of the device, or of its parked GET, and is useless without it. */
function needsSocket({ live, polling }: SavedState): boolean {
  return polling === undefined && (live === undefined || live.state.getOutstanding);
}

export class Hibernation {
  readonly #kept: Kept;
  readonly #alarm: Alarm;
  readonly #settle: Settle;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the Tunnel counts as idle. */
  #quietAt = 0;
  #tries = 0;
  #socket: WebSocket | undefined;

  constructor(kept: Kept, alarm: Alarm, settle: Settle) {
    this.#kept = kept;
    this.#alarm = alarm;
    this.#settle = settle;
  }

  /** The state saved before eviction; undefined if there is none that can be restored. It is valid until `stir`. */
  recall(sockets: readonly WebSocket[]): Saved | undefined {
    // A bell that has rung may still be closing beside the one that carries the state.
    for (const socket of sockets) {
      const attachment = attachmentOf(socket);
      if (attachment === null) continue;
      this.#socket = socket;
      const rest = readRest("rest" in attachment ? attachment.rest : this.#kept.rest);
      return rest && { rest, socket };
    }
    const rest = readRest(this.#kept.rest);
    return rest === undefined || needsSocket(rest) ? undefined : { rest, socket: undefined };
  }

  /** Call at every event: deletes the saved state, which is out of date, and saves again when the Tunnel is idle. */
  stir(): void {
    this.#takeBack();
    this.#tries = 0;
    this.#quietAt = Date.now() + REST_AFTER;
    this.#later();
  }

  /** The virtual connection has ended. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#takeBack();
  }

  #takeBack(): void {
    this.#socket?.serializeAttachment(null);
    this.#socket = undefined;
    this.#kept.dropRest();
  }

  /** A timer that fires too early is set again: cheaper than a new timer for every event. */
  #later(): void {
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        if (Date.now() < this.#quietAt) this.#later();
        else this.#leave();
      },
      Math.max(0, this.#quietAt - Date.now()),
    );
  }

  #leave(): void {
    const settled = this.#settle();
    if (settled === undefined) return;
    if (settled === "unsettled") {
      this.#tries += 1;
      this.#quietAt = Date.now() + REST_AFTER;
      if (this.#tries < REST_TRIES) this.#later();
      return;
    }
    const { rest, socket } = settled;
    try {
      socket?.serializeAttachment({ rest } satisfies Attachment);
      this.#socket = socket;
      if (socket !== undefined) return;
    } catch {
      // Too large for an attachment.
      socket?.serializeAttachment({ stored: true } satisfies Attachment);
      this.#socket = socket;
    }
    try {
      this.#kept.keepRest(rest);
      this.#alarm.ensure();
    } catch (error) {
      // Too large for storage as well, or the disk is full: eviction will end the connection with ConnectionLost.
      logReason("warn", "ConnectionLost", { message: String(error) });
    }
  }
}

/** A socket's attachment; null if there is none, or if it cannot be read any more. */
function attachmentOf(socket: WebSocket): Attachment {
  try {
    const attachment: unknown = socket.deserializeAttachment();
    return typeof attachment === "object" ? (attachment as Attachment) : null;
  } catch {
    return null;
  }
}
