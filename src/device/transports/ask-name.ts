/**
 * Asks an edge whether it knows itself by the host in its URL: by that name devices connect to it. The request is for a
 * WebSocket, but without the upgrade that would open one.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { formatTarget, guidFrom } from "../../encapsulation/index.ts";
import { parseRelayName } from "../../sstp/index.ts";
import { askEdge, type Question } from "./ask-edge.ts";

export type HostName =
  | { readonly type: "known" }
  /** The host of the URL cannot name an edge. */
  | { readonly type: "malformed"; readonly problems: string }
  | {
      readonly type: "unknown";
      /** The edge's own name, if it tells it. */
      readonly edgeName: string | undefined;
    };

/** @throws DeviceError as `askEdge` does */
export async function askName(question: Pick<Question, "edge" | "token" | "ca" | "dialler">): Promise<HostName> {
  const { hostname } = question.edge;
  const named = parseRelayName(hostname);
  if (!named.ok) return { type: "malformed", problems: named.problems };
  const path = formatTarget({ encapsulation: "WebSocket", relay: hostname, guid: guidFrom(randomBytes(24)) });
  const answer = await askEdge({ ...question, path, expects: () => false });
  // Any other refusal says nothing about the name; without the upgrade, the request is always refused.
  const isUnknown = !answer.ok && (answer.code === "RelayNotAllowed" || answer.code === "RelayPrivate");
  return isUnknown ? { type: "unknown", edgeName: answer.edgeName } : { type: "known" };
}
