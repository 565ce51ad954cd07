/**
 * The Tunnel's end of the doorbell, the socket to the Worker that holds a parked GET (`rpc/doorbell-protocol.ts`).
 *
 * @module
 */

import { ECHO_STRING, keepAnswer, releaseGet, room, sendDown } from "../../encapsulation/index.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import type { Bell, Live } from "./http-connection.ts";
import { BELL_OCTETS } from "./limits.ts";

/** Sends the echo string when the handshake is complete. It is the whole answer of a KeepAlive GET. */
export function echo(live: Live): void {
  const { bell } = live;
  if (bell === undefined) return;
  bell.armed = false;
  bell.socket.send(ECHO_STRING);
  if (live.state.encapsulation === "KeepAlive") live.bell = undefined;
}

/**
 * Handles a word of the Worker: "arm" when it is ready for the next ring, "release" when the GET's hold time is over.
 */
export function hear(live: Live, bell: Bell, word: string | ArrayBuffer): "armed" | "released" | undefined {
  if (typeof word === "string" && word.startsWith("arm")) {
    live.state.getContentLength += Number(word.slice("arm ".length));
    bell.armed = true;
    return "armed";
  }
  if (word !== "release" || !bell.armed || releaseGet(live.state).type !== "send") return undefined;
  live.bell = undefined;
  bell.socket.close(BELL_CLOSE.done);
  return "released";
}

/**
 * Rings an armed bell with the waiting data, or with "pull" if it is too long. Returns "full" if the GET has no room.
 */
export function ring(
  live: Live,
  bell: Bell,
  origin: ByteChannel,
  waiting: Uint8Array,
): "answered" | "full" | undefined {
  const space = room(live.state);
  bell.armed = false;
  if (space === 0) return "full";
  const oneAnswer = live.state.encapsulation === "KeepAlive";
  if (!oneAnswer && waiting.length > BELL_OCTETS) {
    bell.socket.send("pull");
    return undefined;
  }
  if (!oneAnswer && waiting.length > space) return "full";
  // What does not fit into a KeepAlive answer waits for the next GET.
  const taken = origin.take(Math.min(space, BELL_OCTETS));
  if (taken?.kind !== "octets") return undefined;
  sendDown(live.state, taken.octets.length, Date.now());
  if (oneAnswer) {
    live.bell = undefined;
    keepAnswer(live.state, taken.octets);
  }
  bell.socket.send(taken.octets);
  return oneAnswer ? "answered" : undefined;
}
