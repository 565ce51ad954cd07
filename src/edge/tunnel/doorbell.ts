/**
 * The Tunnel's end of the doorbell, the socket to the Worker that holds a parked GET (`rpc/doorbell-protocol.ts`).
 *
 * @module
 */

import {
  countSent,
  handshakeAnswer,
  keepAnswer,
  releaseGet,
  room,
  sendDown,
  type VirtualConnection,
} from "../../encapsulation/index.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { BELL_OCTETS } from "./limits.ts";

/** A parked GET. */
export class Bell {
  readonly socket: WebSocket;
  /** Whether its Worker is ready for a ring. */
  armed: boolean;

  constructor(socket: WebSocket, armed: boolean) {
    this.socket = socket;
    this.armed = armed;
  }

  /** Answers when the handshake is complete: with the echo string, and what a KeepAlive GET has asked for. */
  echo(state: VirtualConnection): void {
    this.armed = false;
    this.socket.send(handshakeAnswer(state));
  }

  /**
   * Handles a word of the Worker: "arm" when it is ready for the next ring, "release" when the GET's hold time is over.
   */
  hear(word: string | ArrayBuffer, state: VirtualConnection): "armed" | "released" | undefined {
    if (typeof word === "string" && word.startsWith("arm")) {
      countSent(state, Number(word.slice("arm ".length)));
      this.armed = true;
      return "armed";
    }
    if (word !== "release" || !this.armed || releaseGet(state).type !== "send") return undefined;
    this.socket.close(BELL_CLOSE.done);
    return "released";
  }

  /**
   * Rings an armed bell with the waiting data, or with "pull" if it is too long. Returns "answered" if that was the
   * whole answer of a KeepAlive GET, "full" if the GET has no room.
   */
  ring(state: VirtualConnection, channel: ByteChannel, waiting: Uint8Array): "answered" | "full" | undefined {
    const space = room(state);
    this.armed = false;
    if (space === 0) return "full";
    const oneAnswer = state.encapsulation === "KeepAlive";
    if (!oneAnswer && waiting.length > BELL_OCTETS) {
      this.socket.send("pull");
      return undefined;
    }
    if (!oneAnswer && waiting.length > space) return "full";
    // What does not fit into a KeepAlive answer waits for the next GET.
    const taken = channel.take(Math.min(space, BELL_OCTETS));
    if (taken?.kind !== "octets") return undefined;
    sendDown(state, taken.octets.length, Date.now());
    if (oneAnswer) keepAnswer(state, taken.octets);
    this.socket.send(taken.octets);
    return oneAnswer ? "answered" : undefined;
  }
}
