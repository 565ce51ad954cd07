/**
 * Tells the other ends of a device's channels that the token of the device was revoked. The device may not, and a stolen
 * one would not. Without this they would keep their streams for the resume time, in case it comes back.
 *
 * @module
 */
import { sleep } from "../../lib/runtime/timeout.ts";
import type { Envelope } from "../../store-and-forward/envelope.ts";
import { ALL_ROUTES, encodeNotice } from "../../streams/index.ts";
import { pack } from "../rpc/message-batch.ts";
import { TOLD_AGAIN, TOLD_AT_ONCE } from "./limits.ts";
import type { StreamPeers } from "./stream-peers.ts";

/** Where a device has streamed to. */
export interface Channels {
  /** Identifies the destination, as in StreamDestination. */
  readonly key: string;
  /** Name of its mailbox. */
  readonly peer: string;
  readonly envelope: Envelope;
}

/**
 * Sends the notice to each destination. One that is away, or has no room, gets it again for half a minute: it may be
 * reconnecting, as after a restart of the edge.
 *
 * @param idOf a new message id for each call
 */
export async function tellTokenEnded(
  peers: Pick<StreamPeers, "pass">,
  destinations: readonly Channels[],
  idOf: () => string,
): Promise<void> {
  const body = encodeNotice(ALL_ROUTES, "TokenEnded");
  let left = destinations;
  for (const pause of [0, ...TOLD_AGAIN]) {
    if (left.length === 0) return;
    if (pause > 0) await sleep(pause);
    const missed: Channels[] = [];
    for (let at = 0; at < left.length; at += TOLD_AT_ONCE) {
      const telling = left.slice(at, at + TOLD_AT_ONCE).map(async (one) => {
        const { key, peer, envelope } = one;
        const bundle = pack([{ envelope, fields: { userRef: idOf(), track: false }, body }]);
        const outcome = await peers.pass({ key, peer, source: envelope.source }, bundle, 1);
        if (outcome === "lost" || outcome === "late") missed.push(one);
      });
      await Promise.all(telling);
    }
    left = missed;
  }
}
