/**
 * How an object answers a read of its log; see plain-stream-rpc.ts.
 *
 * @module
 */
import { READERS } from "../durable-streams/limits.ts";
import { packHeader, type ReadAnswer, STATE } from "./plain-stream-rpc.ts";

/** Answers with what was read, or with a refusal. */
export function answer(state: ReadAnswer, body?: Uint8Array<ArrayBuffer>): Response {
  return new Response(body ?? null, { headers: { [STATE]: packHeader(state) } });
}

/** Answers a reader at the tail with a doorbell. */
export function parked(
  sockets: Pick<DurableObjectState, "acceptWebSocket" | "getWebSockets">,
  state: ReadAnswer,
): Response {
  if (sockets.getWebSockets().length >= READERS) return answer({ ok: false, reason: "TooManyReaders" });
  const { 0: worker, 1: ours } = new WebSocketPair();
  sockets.acceptWebSocket(ours);
  return new Response(null, { status: 101, webSocket: worker, headers: { [STATE]: packHeader(state) } });
}
