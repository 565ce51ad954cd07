/**
 * What the command asks of the edge about inboxes.
 *
 * @module
 */
import { askEdge, type Question } from "../../device/transports/ask-edge.ts";
import { edgeDialler } from "../../device/transports/edge-dialler.ts";
import { formatAddress, parseURL } from "../../sstp/index.ts";
import { CommandError } from "../command-error.ts";
import { usage } from "../parse-arguments.ts";
import type { CompletedOptions } from "../profiles/profile-options.ts";
import { type ProxyValues, proxiesOf } from "../proxy-options.ts";
import { readAuthorities } from "../tls.ts";

export type InboxQuestion = Pick<Question, "method" | "path" | "body" | "octets" | "expects">;

/** Asks the edge; the path begins after `/inboxes/`. @throws CommandError Refused, DeviceError */
export type AskInboxes = (question: InboxQuestion) => Promise<unknown>;

export interface InboxClient {
  readonly edge: URL;
  readonly ask: AskInboxes;
}

/**
 * @param completed the options, with what a profile adds
 * @param path where the API begins
 * @throws CommandError Usage, CannotRead, TlsUnusable
 */
export function inboxClient(
  command: string,
  completed: Pick<CompletedOptions, "edge" | "token" | "ca">,
  values: ProxyValues,
  path = "/inboxes/",
): InboxClient {
  const { edge: text = "http://127.0.0.1:8787", token } = completed;
  const edge = URL.parse(text);
  if (edge === null || !/^https?:$/.test(edge.protocol)) {
    throw usage(command, `--edge ${text} is not a URL such as https://edge.example.com`);
  }
  const ca = completed.ca === undefined ? undefined : readAuthorities(completed.ca);
  const dialler = edgeDialler(edge.href, proxiesOf(command, values), ca);
  const ask: AskInboxes = async (question) => {
    const answer = await askEdge({ edge, ca, dialler, token: token?.(), ...question, path: `${path}${question.path}` });
    if (answer.ok) return answer.value;
    throw new CommandError("Refused", `${`${answer.detail} ${answer.cure}`.trim()} [${answer.code}]`);
  };
  return { edge, ask };
}

/** The address of a peer, given by its URL, as it is written in paths. */
export function peerPath(peer: string): string {
  const named = parseURL(peer);
  if (!named.ok || named.value.kind === "relay") return encodeURIComponent(peer);
  return encodeURIComponent(formatAddress(named.value));
}
