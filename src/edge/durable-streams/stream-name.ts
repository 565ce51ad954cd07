/**
 * Names in paths `/mailboxes/{name}`: one or two segments are the address of a peer, more are a plain stream.
 *
 * @module
 */
import { NAME_CHARACTERS, NAME_SEGMENTS } from "./limits.ts";

/** What a name means. Segments are decoded; `name` is its one spelling. */
export type Named =
  | { readonly type: "stream"; readonly name: string; readonly segments: readonly string[] }
  | { readonly type: "peer"; readonly address: string }
  | { readonly type: "malformed"; readonly detail: string };

/** Fewest segments of a plain stream. */
const LEAST_SEGMENTS = 3;

/**
 * Third segments that belong to the mailbox of a device, `/mailboxes/alice%2Flaptop/rule`, whose address was written
 * with a plain slash. Such a name is no stream's, so that the mistake is found.
 */
const OF_PEERS = new Set(["rule", "lock", "room", "messages"]);

/** Streams under this first segment are read by anybody, without a token. */
const PUBLIC = "public";

/**
 * Reads a name.
 *
 * @param path what follows `/mailboxes/`, percent-encoded
 *
 * @example
 * readName("app/logs/2026"); // { type: "stream", name: "app/logs/2026", segments: ["app", "logs", "2026"] }
 * readName("alice/laptop"); // { type: "peer", address: "alice/laptop" }
 */
export function readName(path: string): Named {
  if (path.length > NAME_CHARACTERS) return malformed(`The name is longer than ${NAME_CHARACTERS} characters.`);
  const segments: string[] = [];
  for (const part of path.split("/")) {
    const segment = decoded(part);
    if (segment === undefined) return malformed("The name has a % that begins no character of UTF-8.");
    if (segment === "" || segment === "." || segment === "..")
      return malformed("A segment of the name is empty or dots.");
    segments.push(segment);
  }
  const isOfPeer = segments.length === LEAST_SEGMENTS && OF_PEERS.has(segments[2] ?? "");
  if (segments.length < LEAST_SEGMENTS || isOfPeer) return { type: "peer", address: segments.join("/") };
  if (segments.length > NAME_SEGMENTS) return malformed(`The name has more than ${NAME_SEGMENTS} segments.`);
  const name = segments.map(encodeURIComponent).join("/");
  if (name.length > NAME_CHARACTERS) return malformed(`The name is longer than ${NAME_CHARACTERS} characters.`);
  return { type: "stream", name, segments };
}

/** Whether a stream was created for anybody to read. */
export function isPublic(segments: readonly string[]): boolean {
  return segments[0] === PUBLIC;
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

function malformed(detail: string): Named {
  return { type: "malformed", detail };
}
